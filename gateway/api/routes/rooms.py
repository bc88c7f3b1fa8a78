"""Addresses of rooms."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.bodies import page_of, read_body, required_key
from gateway.api.callers import Callers
from gateway.api.messages import ChangedRoom, NewRoom
from gateway.api.middleware import Audience
from gateway.api.replies import PageReply, json_reply, room_reading_reply, room_reply
from gateway.api.routes import Route
from gateway.domain.caller import Role
from gateway.flows.rooms import Rooms


class RoomRoutes:
    def __init__(self, *, callers: Callers, rooms: Rooms, live_url: str, max_bytes: int) -> None:
        self._callers = callers
        self._rooms = rooms
        self._live_url = live_url
        self._max_bytes = max_bytes

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/v1/rooms", self.create, Audience.HOSTS)
        yield Route("GET", "/v1/rooms", self.of_shop, Audience.ANY)
        yield Route("GET", "/v1/rooms/{room}", self.read, Audience.ANY)
        yield Route("PATCH", "/v1/rooms/{room}", self.change, Audience.HOSTS)
        yield Route("POST", "/v1/rooms/{room}/start", self.start, Audience.HOSTS)
        yield Route("POST", "/v1/rooms/{room}/end", self.end, Audience.HOSTS)

    async def create(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        key = required_key(request)
        body = await read_body(request, NewRoom, max_bytes=self._max_bytes)
        room, replayed = await self._rooms.create(caller, body.draft(), key)
        return json_reply(room_reply(room, live_url=self._live_url), status=201, replayed=replayed)

    async def of_shop(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request)
        page = page_of(request)
        rooms, next_cursor = await self._rooms.of_shop(caller, limit=page.limit, after=page.after)
        return json_reply(
            PageReply(items=[room_reply(room, live_url=self._live_url) for room in rooms], next=next_cursor)
        )

    async def read(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request)
        reading = await self._rooms.read(caller, request.match_info["room"])
        return json_reply(room_reading_reply(reading, live_url=self._live_url))

    async def change(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        body = await read_body(request, ChangedRoom, max_bytes=self._max_bytes)
        room = await self._rooms.change(caller, request.match_info["room"], body.changes())
        return json_reply(room_reply(room, live_url=self._live_url))

    async def start(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        room = await self._rooms.start(caller, request.match_info["room"])
        return json_reply(room_reply(room, live_url=self._live_url))

    async def end(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        room = await self._rooms.end(caller, request.match_info["room"])
        return json_reply(room_reply(room, live_url=self._live_url))
