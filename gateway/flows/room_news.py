"""What a room is told by those who hold no sockets: hosts' acts, and what a sale became.

What it is told waits in Valkey for the room's next tick, which this process sees to. A room that Valkey does not have
is watched by nobody, and is made from the ledger for the first who comes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from gateway.domain.live import RoomChange
from gateway.domain.room import Room
from gateway.domain.sale import Sale, SaleState
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)


class Hot(Protocol):
    async def change(self, room_no: int, change: RoomChange) -> bool: ...


class Calls(Protocol):
    """`gateway.rooms.calls.RoomCalls`."""

    def cut(self, room_no: int, *, at_once: bool = False) -> None: ...


class ReadRoom(Protocol):
    def __call__(self, room: str, /) -> int | None: ...


class RoomNews:
    def __init__(self, *, hot: Hot, calls: Calls, read_room: ReadRoom) -> None:
        self._hot = hot
        self._calls = calls
        self._read_room = read_room

    async def change(self, room: Room, change: RoomChange) -> None:
        """Raises HotUnavailable when it may not have happened; asking again does no harm."""
        await self._change(room.room_no, change)

    async def tell(self, room: str, events: Sequence[Mapping[str, Any]], *, at_once: bool = False) -> None:
        """Best effort: what happened has happened, and who misses its news sees it at the next look."""
        room_no = self._read_room(room)
        if room_no is None or not events:
            return
        try:
            await self._change(room_no, RoomChange(events=[dict(event) for event in events], at_once=at_once))
        except GatewayError as error:
            log.warning("room_not_told", room_no=room_no, error=str(error))

    async def prices(self, sale: Sale, prices: Sequence[tuple[str, int]]) -> None:
        """(sku, price in minor units) of each item that has another price now."""
        if sale.room is not None:
            told = [{"k": "price", "sale": sale.sale, "sku": sku, "price_minor": price} for sku, price in prices]
            await self.tell(sale.room, told, at_once=True)

    async def state(self, sale: Sale, state: SaleState) -> None:
        if sale.room is not None:
            await self.tell(sale.room, [sale_event(sale, state)], at_once=True)

    async def _change(self, room_no: int, change: RoomChange) -> None:
        if await self._hot.change(room_no, change) and (change.events or change.at_once):
            self._calls.cut(room_no, at_once=change.at_once)


def sale_event(sale: Sale, state: SaleState) -> dict[str, Any]:
    return {
        "k": "sale",
        "sale": sale.sale,
        "state": str(state),
        "opens_at_ms": sale.opens_at_ms,
        "closes_at_ms": sale.closes_at_ms,
    }
