"""The trend of a show for its hosts: the last ten minutes against the ten before."""

from typing import Protocol

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.room import Room
from gateway.domain.trend import Trend
from gateway.errors import NotFound
from gateway.flows.paced import Paced


class Ledger(Protocol):
    """`gateway.ledger.trend.LedgerTrend`."""

    async def read(self, room_no: int) -> Trend | None: ...


class Rooms(Protocol):
    async def own(self, caller: Caller, room_id: str) -> Room:
        """A room the caller is a host of."""
        ...


class HostTrends:
    """Computed only while somebody asks, and shared by all who do."""

    def __init__(self, *, ledger: Ledger, rooms: Rooms, clock: Clock) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._trends: Paced[int, Trend] = Paced(read=self._read, clock=clock)

    async def trend(self, caller: Caller, room_id: str) -> tuple[Room, Trend]:
        room = await self._rooms.own(caller, room_id)
        return room, await self._trends.get(room.room_no)

    async def _read(self, room_no: int) -> Trend:
        trend = await self._ledger.read(room_no)
        if trend is None:
            raise NotFound("There is no such room.")
        return trend
