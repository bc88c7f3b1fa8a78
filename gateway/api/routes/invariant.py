"""The address of the light on a sale: whether its invariants hold, and where its units are."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.callers import Callers
from gateway.api.invariant_replies import InvariantReply, invariant_reply
from gateway.api.middleware import Audience
from gateway.api.replies import json_reply
from gateway.api.routes import Route
from gateway.domain.caller import Role
from gateway.flows.invariant import HostInvariant


class InvariantRoutes:
    def __init__(self, *, callers: Callers, invariant: HostInvariant) -> None:
        self._callers = callers
        self._invariant = invariant

    def routes(self) -> Iterable[Route]:
        yield Route(
            "GET",
            "/v1/sales/{sale}/invariant",
            self.look,
            Audience.HOSTS,
            about="What the last audit said of the sale, and where each unit is now; cheap enough to be polled.",
            gives={200: InvariantReply},
        )

    async def look(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        return json_reply(invariant_reply(await self._invariant.look(caller, request.match_info["sale"])))
