"""The rooms this process knows, so that a handshake asks no database."""

from collections import OrderedDict
from typing import Protocol

from gateway.clock import Clock
from gateway.domain.ids import IdMint
from gateway.domain.room import Room
from gateway.errors import LedgerUnavailable, NotFound

_KNOWN_MAX = 50_000
_FRESH_S = 5.0


class Rooms(Protocol):
    async def find(self, room_no: int) -> Room | None: ...


class RoomBook:
    """A bounded cache of rooms by number; what a host changed reaches it by the bus or within seconds."""

    def __init__(self, *, rooms: Rooms, mint: IdMint, clock: Clock) -> None:
        self._rooms = rooms
        self._mint = mint
        self._clock = clock
        self._known: OrderedDict[int, tuple[float, Room]] = OrderedDict()

    def may_exist(self, room_id: str) -> bool:
        """Whether the id is one this installation made; asks nobody."""
        return self._mint.read_room(room_id) is not None

    async def get(self, room_id: str) -> Room:
        """Raises NotFound for an id that is no room."""
        number = self._mint.read_room(room_id)
        room = None if number is None else await self._by_no(number)
        if room is None or room.room != room_id:
            raise NotFound("There is no such room.")
        return room

    async def _by_no(self, room_no: int) -> Room | None:
        now_s = self._clock.monotonic()
        known = self._known.get(room_no)
        if known is not None and now_s - known[0] < _FRESH_S:
            return known[1]
        try:
            room = await self._rooms.find(room_no)
        except LedgerUnavailable:
            if known is None:
                raise
            return known[1]
        if room is not None:
            self._known[room_no] = (now_s, room)
            self._known.move_to_end(room_no)
            if len(self._known) > _KNOWN_MAX:
                self._known.popitem(last=False)
        return room

    def forget(self, room_id: str) -> None:
        number = self._mint.read_room(room_id)
        if number is not None:
            self._known.pop(number, None)
