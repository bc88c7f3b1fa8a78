"""How a host's act reaches the room: kept first, then told, and told again until both agree."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import structlog

from gateway.domain.ids import CommentPlace, IdMint
from gateway.domain.live import RoomChange, RoomStanding
from gateway.domain.room import Room
from gateway.errors import HotUnavailable, LedgerUnavailable, NotFound, OutcomeUnknown

log = structlog.get_logger(__name__)

T = TypeVar("T")

# Two hosts who set the same thing at once are told in either order; who finds the ledger changed tells again.
_TELL_TIMES = 5
_KEPT = "The act is kept, and the room may not have been told; repeat to be sure."


class Standings(Protocol):
    async def standing(self, room_no: int) -> RoomStanding: ...


class Rooms(Protocol):
    async def beside(self, room: Room) -> Sequence[Room]: ...


class RoomNews(Protocol):
    async def change(self, room: Room, change: RoomChange) -> None:
        """Raises HotUnavailable when it may not have happened."""
        ...


class RoomTelling:
    """Raises OutcomeUnknown where an act may be kept and not told: repeating it is harmless."""

    def __init__(self, *, ledger: Standings, rooms: Rooms, news: RoomNews) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._news = news

    async def tell(self, room: Room, change: RoomChange) -> None:
        try:
            await self._news.change(room, change)
        except HotUnavailable as error:
            log.warning("room_not_told", room_no=room.room_no, error=str(error))
            raise OutcomeUnknown(_KEPT) from error

    async def tell_standing(self, room: Room, shown: Callable[[RoomStanding], RoomChange]) -> RoomStanding:
        """Tells what the ledger has now, until it still has that afterwards."""
        try:
            standing = await self._ledger.standing(room.room_no)
            for _ in range(_TELL_TIMES):
                change = shown(standing)
                await self.tell(room, change)
                standing = await self._ledger.standing(room.room_no)
                if shown(standing) == change:
                    return standing
        except LedgerUnavailable as error:
            raise OutcomeUnknown(_KEPT) from error
        raise OutcomeUnknown(_KEPT)

    async def tell_shop(self, room: Room, is_changed: bool) -> None:
        """Also the rooms that are not live yet: viewers wait in them."""
        if not is_changed:
            return
        try:
            rooms = await self._rooms.beside(room)
        except LedgerUnavailable as error:
            raise OutcomeUnknown(_KEPT) from error
        for other in rooms:
            await self.tell(other, RoomChange(rules_changed=True))


async def kept(act: Awaitable[T]) -> T:
    """What the ledger made of an act."""
    try:
        return await act
    except LedgerUnavailable as error:
        raise OutcomeUnknown from error


def comment_place(mint: IdMint, room: Room, comment_id: str, *, param: str | None = None) -> CommentPlace:
    """Raises NotFound for what is no comment of this room."""
    place = mint.read_comment(comment_id)
    if place is None or place.room_no != room.room_no:
        raise NotFound("There is no such comment in this room.", param=param)
    return place


def shown_pin(standing: RoomStanding) -> RoomChange:
    return RoomChange(events=[{"k": "pin", "pin": standing.pin}], pin=standing.pin)
