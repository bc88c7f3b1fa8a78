"""What was done to a room and its sales, by whom: for its hosts."""

from collections.abc import Sequence
from typing import Protocol

from gateway.domain.acts import ActDone, ActPlace
from gateway.domain.caller import Caller
from gateway.domain.room import Room
from gateway.errors import Invalid


class Ledger(Protocol):
    """`gateway.ledger.room_acts.LedgerActs`."""

    async def of_room(self, room_no: int, *, limit: int, after: ActPlace | None = None) -> Sequence[ActDone]: ...


class Rooms(Protocol):
    async def own(self, caller: Caller, room_id: str) -> Room: ...


class Acts:
    def __init__(self, *, ledger: Ledger, rooms: Rooms) -> None:
        self._ledger = ledger
        self._rooms = rooms

    async def of_room(
        self, caller: Caller, room_id: str, *, limit: int, after: str | None
    ) -> tuple[Sequence[ActDone], str | None]:
        """Newest first, and the cursor of the next page."""
        room = await self._rooms.own(caller, room_id)
        place = None if after is None else _read_cursor(after)
        acts = await self._ledger.of_room(room.room_no, limit=limit + 1, after=place)
        return acts[:limit], _cursor(acts[limit - 1].place) if len(acts) > limit else None


def _cursor(place: ActPlace) -> str:
    return "_".join(map(str, place))


def _read_cursor(cursor: str) -> ActPlace:
    parts = cursor.split("_")
    most = (2**53, 1, 2**31 - 1, 2**53)
    if len(parts) == len(most) and all(part.isascii() and part.isdigit() and len(part) <= 16 for part in parts):
        numbers = [int(part) for part in parts]
        if all(number <= bound for number, bound in zip(numbers, most, strict=True)):
            return ActPlace(*numbers)
    raise Invalid("That is no cursor of this list.", param="after")
