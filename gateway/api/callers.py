"""Who a request comes from: its bearer token, verified once and kept on the request."""

from typing import Final

from aiohttp import web

from gateway.admission.auth import Authenticator
from gateway.domain.caller import Caller, Role
from gateway.errors import Forbidden, Unauthorized

CALLER: Final = web.RequestKey("caller", Caller)


class Callers:
    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def of(self, request: web.Request, *roles: Role) -> Caller:
        """The caller. Raises Unauthorized without a good token, Forbidden for a role not among `roles` (none: any)."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthorized
        caller = await self._authenticator.verify(token.strip())
        request[CALLER] = caller
        if roles and caller.role not in roles:
            raise Forbidden(f"This is for the role {' or '.join(roles)}.")
        return caller


def shop_of(request: web.Request) -> str | None:
    """The shop of a request whose caller is known by now."""
    caller = request.get(CALLER)
    return None if caller is None else caller.shop
