"""Addresses of bookings."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.callers import Callers
from gateway.api.middleware import Audience
from gateway.api.people_replies import BookingReply
from gateway.api.replies import instant, json_reply
from gateway.api.routes import Route
from gateway.domain.caller import Role
from gateway.flows.bookings import Bookings


class BookingRoutes:
    def __init__(self, *, callers: Callers, bookings: Bookings) -> None:
        self._callers = callers
        self._bookings = bookings

    def routes(self) -> Iterable[Route]:
        yield Route(
            "POST",
            "/v1/rooms/{room}/bookings",
            self.book,
            Audience.VIEWERS,
            about="Books a scheduled show: the shop hears `booking.due` when it starts. Again: 200 and the same.",
            gives={201: BookingReply, 200: BookingReply},
            refuses=("conflict",),
        )
        yield Route(
            "DELETE",
            "/v1/rooms/{room}/bookings/mine",
            self.cancel,
            Audience.VIEWERS,
            about="Takes the booking back, if there is one; once the show has started it stays.",
            gives={204: None},
        )

    async def book(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.VIEWER)
        room, booked = await self._bookings.book(caller, request.match_info["room"])
        reply = BookingReply(room=room.room, booked_at=instant(booked.at_ms))
        return json_reply(reply, status=200 if booked.already else 201)

    async def cancel(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.VIEWER)
        await self._bookings.cancel(caller, request.match_info["room"])
        return web.Response(status=204)
