"""The rooms this process knows, so that a handshake asks no database."""

from typing import Protocol

from gateway.clock import Clock
from gateway.domain.ids import IdMint
from gateway.domain.room import Room
from gateway.errors import NotFound
from gateway.flows.last_known import LastKnown

_KNOWN_MAX = 50_000
_FRESH_S = 5.0


class Rooms(Protocol):
    async def find(self, room_no: int) -> Room | None: ...


class RoomBook:
    """A bounded cache of rooms by number; what a host changed reaches it by the bus or within seconds."""

    def __init__(self, *, rooms: Rooms, mint: IdMint, clock: Clock) -> None:
        self._mint = mint
        self._known: LastKnown[int, Room] = LastKnown(read=rooms.find, fresh_s=_FRESH_S, most=_KNOWN_MAX, clock=clock)

    def may_exist(self, room_id: str) -> bool:
        """Whether the id is one this installation made; asks nobody."""
        return self._mint.read_room(room_id) is not None

    async def get(self, room_id: str) -> Room:
        """Raises NotFound for an id that is no room."""
        number = self._mint.read_room(room_id)
        room = None if number is None else await self._known.get(number)
        if room is None or room.room != room_id:
            raise NotFound("There is no such room.")
        return room

    def forget(self, room_id: str) -> None:
        number = self._mint.read_room(room_id)
        if number is not None:
            self._known.forget(number)
