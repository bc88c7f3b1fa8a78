"""The sign-in of development. A gateway that is none of development does not have the address."""

from collections.abc import Iterable
from typing import Annotated, Final, Literal

from aiohttp import hdrs, web
from msgspec import Meta, Struct

from gateway.admission.own_pages import OwnPages
from gateway.api.bodies import read_body
from gateway.api.middleware import Audience
from gateway.api.replies import instant, json_reply
from gateway.api.routes import Route
from gateway.domain.caller import Role
from gateway.errors import Forbidden
from gateway.flows.dev_sign_in import MAX_NAME_CHARS, DevSignIn
from gateway.wire.told import Moment

_FORM_BYTES: Final = 1024


class DevToken(Struct, kw_only=True):
    """Who somebody says to be."""

    role: Literal["viewer", "host", "clerk"]
    name: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
    room: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    """Of a viewer: the room they come to."""
    shop: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}(?![\s\S])")] | None = None
    """Of the others: the shop they work in; without it that of the demo."""


class DevTokenReply(Struct):
    token: str
    shop: str
    sub: str
    expires_at: Moment


class DevRoutes:
    def __init__(self, *, sign_in: DevSignIn, own: OwnPages) -> None:
        self._sign_in = sign_in
        self._own = own

    def routes(self) -> Iterable[Route]:
        yield Route(
            "POST",
            "/dev/tokens",
            self.sign,
            Audience.ANY,
            about="A token for whoever says a name: in development only.",
            takes=DevToken,
            gives={201: DevTokenReply},
            refuses=("not_found", "forbidden", "conflict"),
            roles=(),
        )

    async def sign(self, request: web.Request) -> web.Response:
        # A name of somebody else's that points here makes their page look like ours; and no shop's list helps a page.
        host, origin = request.headers.get(hdrs.HOST), request.headers.get(hdrs.ORIGIN)
        if not self._own.is_ours(host) or (origin is not None and not self._own.include(origin, host=host)):
            raise Forbidden("Only the gateway's own pages sign people in by name.")
        asked = await read_body(request, DevToken, max_bytes=_FORM_BYTES)
        signed = await self._sign_in.sign_in(Role(asked.role), asked.name, room=asked.room, shop=asked.shop)
        return json_reply(
            DevTokenReply(
                token=signed.token, shop=signed.shop, sub=signed.sub, expires_at=instant(signed.expires_at_ms)
            ),
            status=201,
        )
