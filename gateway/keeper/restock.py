"""Units came back: the room is told what is left, as the sale displays it."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.sale import ItemCounts, Sale, left_for_viewers
from gateway.errors import GatewayError
from gateway.wire import bus

log = structlog.get_logger(__name__)

# A room hears of its stock ten times a second at most, however many units come back.
EVERY_S = 0.1


class Sales(Protocol):
    async def find(self, sale_no: int) -> Sale | None: ...


class Counters(Protocol):
    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None: ...


class Ticks(Protocol):
    async def next(self, room: str) -> int: ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class Restock:
    """Best effort: a viewer who misses it sees the stock at the next look."""

    def __init__(
        self, *, sales: Sales, counters: Mapping[int, Counters], ticks: Ticks, publisher: Publisher, clock: Clock
    ) -> None:
        self._sales = sales
        self._counters = counters
        self._ticks = ticks
        self._publisher = publisher
        self._clock = clock
        self._returned: dict[int, None] = {}

    def note(self, sales: Iterable[int]) -> None:
        """Units of these sales can be sold again."""
        self._returned.update(dict.fromkeys(sales))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.tell()
            except GatewayError as error:
                log.warning("restock_not_told", error=str(error))

    async def tell(self) -> None:
        returned, self._returned = self._returned, {}
        for sale_no in returned:
            sale = await self._sales.find(sale_no)
            if sale is None or sale.room is None:
                continue
            counts = await self._counters[sale.shard].counts(sale) or {}
            shown = ((item, left_for_viewers(sale, counts.get(item.item_no))) for item in sale.items)
            events = [{"k": "stock", "sale": sale.sale, "sku": item.sku, **left} for item, left in shown if left]
            if events:
                seq = await self._ticks.next(sale.room)
                tick = bus.Tick(sale.room, seq, self._clock.now_ms(), events)
                await self._publisher.publish(bus.encode(tick))
