"""The address of the look before a sale opens."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.callers import Callers
from gateway.api.middleware import Audience
from gateway.api.preflight_replies import PreflightReply, preflight_reply
from gateway.api.replies import json_reply
from gateway.api.routes import Route
from gateway.domain.caller import Role
from gateway.errors import Invalid
from gateway.flows.preflight import MOST_EXPECTED, HostPreflight


class PreflightRoutes:
    def __init__(self, *, callers: Callers, preflight: HostPreflight) -> None:
        self._callers = callers
        self._preflight = preflight

    def routes(self) -> Iterable[Route]:
        yield Route(
            "GET",
            "/v1/sales/{sale}/preflight",
            self.look,
            Audience.HOSTS,
            about="Whether the sale and all it stands on are as they should be, line by line with what to do.",
            gives={200: PreflightReply},
            query=("expected_viewers", "expected_orders"),
        )

    async def look(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        report = await self._preflight.look(
            caller,
            request.match_info["sale"],
            viewers=_expected(request, "expected_viewers"),
            orders=_expected(request, "expected_orders"),
        )
        return json_reply(preflight_reply(report))


def _expected(request: web.Request, name: str) -> int | None:
    given = request.query.get(name)
    if given is None:
        return None
    if not (given.isascii() and given.isdigit() and 1 <= int(given[:12]) <= MOST_EXPECTED):
        raise Invalid(f"It is 1 to {MOST_EXPECTED}.", param=name)
    return int(given)
