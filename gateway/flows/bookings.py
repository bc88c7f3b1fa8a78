"""Bookings: a viewer wants to be told when a show starts. Telling them is the keeper's and the shop's."""

from typing import Protocol

from msgspec import Struct

from gateway.clock import Clock
from gateway.domain.caller import Caller, Role
from gateway.domain.room import Room, RoomState
from gateway.errors import Conflict, Forbidden, LedgerUnavailable, NotFound, OutcomeUnknown, RateLimited
from gateway.flows.access import require_room
from gateway.flows.recent import Recent

# As old as the other figures that viewers read of a room.
_COUNT_FRESH_S = 1.0


class Booked(Protocol):
    @property
    def at_ms(self) -> int: ...
    @property
    def already(self) -> bool: ...


class Ledger(Protocol):
    """`gateway.ledger.bookings.LedgerBookings`."""

    async def book(self, room_no: int, viewer: str) -> Booked | None: ...
    async def cancel(self, room_no: int, viewer: str) -> None: ...
    async def find(self, room_no: int, viewer: str) -> int | None: ...
    async def count(self, room_no: int) -> int: ...


class Rooms(Protocol):
    async def get(self, room_id: str) -> Room: ...


class Limiter(Protocol):
    def wait_s(self, who: str, now_s: float) -> float: ...


class BookingReading(Struct, frozen=True):
    """Of a room; each part None where it is not known or says nothing."""

    bookings: int | None = None
    booked: bool | None = None
    """Whether the viewer who reads it has booked; only while booking means anything."""


class Bookings:
    """One a viewer and room, while the room is scheduled; the ledger judges that."""

    def __init__(self, *, ledger: Ledger, rooms: Rooms, limiter: Limiter, clock: Clock) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._limiter = limiter
        self._clock = clock
        self._counts: Recent[int, int] = Recent(keep_s=_COUNT_FRESH_S, clock=clock)

    async def book(self, caller: Caller, room_id: str) -> tuple[Room, Booked]:
        room = await self._bookable(caller, room_id)
        try:
            booked = await self._ledger.book(room.room_no, caller.sub)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error
        if booked is None:
            raise Conflict("The show has started or ended; only one that is scheduled is booked.")
        return room, booked

    async def cancel(self, caller: Caller, room_id: str) -> None:
        room = await self._bookable(caller, room_id)
        try:
            await self._ledger.cancel(room.room_no, caller.sub)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error

    async def reading(self, caller: Caller, room: Room) -> BookingReading:
        """What a room's page says of its bookings. Nobody is refused the page for it."""
        try:
            if caller.is_staff:
                return BookingReading(await self._ledger.count(room.room_no))
            count = await self._counts.get(room.room_no, lambda: self._ledger.count(room.room_no))
            # Asked for each viewer by themselves, so not while crowds come in.
            if room.state is not RoomState.SCHEDULED:
                return BookingReading(count)
            return BookingReading(count, await self._ledger.find(room.room_no, caller.sub) is not None)
        except LedgerUnavailable:
            return BookingReading()

    async def _bookable(self, caller: Caller, room_id: str) -> Room:
        if caller.role is not Role.VIEWER:
            raise Forbidden("Only viewers book.")
        wait_s = self._limiter.wait_s(f"{caller.shop}|{caller.sub}", self._clock.monotonic())
        if wait_s > 0:
            raise RateLimited(retry_after_ms=int(wait_s * 1000) + 1)
        room = await self._rooms.get(room_id)
        if room.shop != caller.shop:
            raise NotFound("There is no such room in this shop.")
        require_room(caller, room.room)
        return room
