"""Addresses of links."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.bodies import read_body, required_key
from gateway.api.callers import Callers
from gateway.api.middleware import Audience
from gateway.api.people_messages import NewLink
from gateway.api.people_replies import LinkReply
from gateway.api.replies import json_reply
from gateway.api.routes import Route
from gateway.domain.caller import Role
from gateway.flows.links import Links


class LinkRoutes:
    def __init__(self, *, callers: Callers, links: Links, max_bytes: int) -> None:
        self._callers = callers
        self._links = links
        self._max_bytes = max_bytes

    def routes(self) -> Iterable[Route]:
        yield Route(
            "POST",
            "/v1/rooms/{room}/links",
            self.make,
            Audience.HOSTS,
            about="A signed attribution for links: who brings viewers to the room. The same content is the same link.",
            takes=NewLink,
            gives={201: LinkReply},
            keyed=True,
            roles=(Role.HOST, Role.SERVICE),
        )

    async def make(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST, Role.SERVICE)
        key = required_key(request)
        body = await read_body(request, NewLink, max_bytes=self._max_bytes)
        made = await self._links.make(
            caller,
            request.match_info["room"],
            source=body.source,
            referrer=body.referrer,
            guide=body.guide,
            key=key,
        )
        return json_reply(LinkReply(ref=made.ref), status=201, replayed=made.replayed)
