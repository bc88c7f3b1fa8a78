"""What is left changes: the room is told, as the sale displays it.

Whoever moved units notes their sale; a few times a second what is left of the noted ones is read, with the server's
time of the reading as its version, so that of many processes' readings the newest is told.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import structlog

from gateway.domain.sale import ItemCounts, Sale, left_for_viewers
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

# A room reads its stock five times a second at most, however many units move.
EVERY_S = 0.2


class Counters(Protocol):
    async def counts_at(self, sale: Sale) -> tuple[int, dict[int, ItemCounts] | None]:
        """The server's time of the reading in microseconds, and the counts by item number."""
        ...


class Rooms(Protocol):
    """`gateway.rooms.calls.RoomCalls`."""

    def stock(self, room_no: int, field: str, version: int, event: dict[str, Any]) -> None: ...


class Find(Protocol):
    async def __call__(self, sale_no: int, /) -> Sale | None: ...


class ReadRoom(Protocol):
    def __call__(self, room: str, /) -> int | None: ...


class StockNews:
    """Best effort: a viewer who misses it sees the stock at the next look."""

    def __init__(self, *, find: Find, counters: Mapping[int, Counters], rooms: Rooms, read_room: ReadRoom) -> None:
        self._find = find
        self._counters = counters
        self._rooms = rooms
        self._read_room = read_room
        self._moved: dict[int, set[int] | None] = {}
        """By sale, the items that moved; None: any of them."""

    def note(self, sales: Iterable[int]) -> None:
        """Units of these sales moved."""
        self._moved.update(dict.fromkeys(sales))

    def sold(self, sale_no: int, item_no: int) -> None:
        items = self._moved.setdefault(sale_no, set())
        if items is not None:
            items.add(item_no)

    def _put_back(self, sale_no: int, items: set[int] | None) -> None:
        if items is None:
            self.note([sale_no])
        else:
            for item_no in items:
                self.sold(sale_no, item_no)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._moved:
                await self.tell()

    async def tell(self) -> None:
        """A sale that cannot be read is read the next time."""
        moved, self._moved = self._moved, {}
        unread: list[tuple[int, GatewayError]] = []
        for sale_no, items in moved.items():
            try:
                await self._tell(sale_no, items)
            except GatewayError as error:
                self._put_back(sale_no, items)
                unread.append((sale_no, error))
        if unread:
            log.warning("stock_not_told", sales=len(unread), sale_no=unread[0][0], error=str(unread[0][1]))

    async def _tell(self, sale_no: int, items: set[int] | None) -> None:
        sale = await self._find(sale_no)
        room_no = None if sale is None or sale.room is None else self._read_room(sale.room)
        if sale is None or room_no is None:
            return
        version, counts = await self._counters[sale.shard].counts_at(sale)
        if counts is None:
            return
        for item in sale.items:
            left = left_for_viewers(sale, counts.get(item.item_no))
            if left and (items is None or item.item_no in items):
                # Valkey knows what the room was told last, by whichever process.
                event = {"k": "stock", "sale": sale.sale, "sku": item.sku, **left}
                self._rooms.stock(room_no, f"{sale.sale}|{item.sku}", version, event)
