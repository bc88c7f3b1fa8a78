"""Addresses of rooms."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.bodies import page_of, read_body, required_key
from gateway.api.callers import Callers
from gateway.api.messages import ChangedRoom, NewRoom
from gateway.api.middleware import Audience
from gateway.api.replies import PageReply, RoomReply, json_reply, room_reading_reply, room_reply
from gateway.api.routes import Route
from gateway.domain.caller import Role
from gateway.flows.bookings import Bookings
from gateway.flows.rooms import Rooms


class RoomRoutes:
    def __init__(self, *, callers: Callers, rooms: Rooms, bookings: Bookings, live_url: str, max_bytes: int) -> None:
        self._callers = callers
        self._rooms = rooms
        self._bookings = bookings
        self._live_url = live_url
        self._max_bytes = max_bytes

    def routes(self) -> Iterable[Route]:
        room = {200: RoomReply}
        yield Route(
            "POST",
            "/v1/rooms",
            self.create,
            Audience.HOSTS,
            about="Makes a room; a shop makes as many a day (UTC) as its limits say, further ones are `rate_limited`.",
            takes=NewRoom,
            gives={201: RoomReply},
            keyed=True,
        )
        yield Route(
            "GET",
            "/v1/rooms",
            self.of_shop,
            Audience.ANY,
            about="The shop's rooms, newest first.",
            gives={200: PageReply[RoomReply]},
            query=("limit", "after"),
        )
        yield Route(
            "GET",
            "/v1/rooms/{room}",
            self.read,
            Audience.ANY,
            about="A room, with its viewers, bookings and sales.",
            gives=room,
        )
        yield Route(
            "PATCH",
            "/v1/rooms/{room}",
            self.change,
            Audience.HOSTS,
            about="Changes what is named; null clears.",
            takes=ChangedRoom,
            gives=room,
        )
        yield Route(
            "POST",
            "/v1/rooms/{room}/start",
            self.start,
            Audience.HOSTS,
            about="The show begins: the room is live.",
            gives=room,
            refuses=("conflict",),
        )
        yield Route(
            "POST",
            "/v1/rooms/{room}/end",
            self.end,
            Audience.HOSTS,
            about="The show ends: that is final, and the room's sockets end.",
            gives=room,
        )

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
        reply = room_reading_reply(reading, live_url=self._live_url)
        booking = await self._bookings.reading(caller, reading.room)
        reply.bookings, reply.booked = booking.bookings, booking.booked
        return json_reply(reply)

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
