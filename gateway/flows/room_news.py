"""What a host changed in a running sale, told to the room at once."""

from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.sale import Sale
from gateway.errors import GatewayError
from gateway.wire import bus

log = structlog.get_logger(__name__)


class Ticks(Protocol):
    async def next(self, room: str) -> int: ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class RoomNews:
    """Best effort: the act is done, and who misses its news sees it at the next look."""

    def __init__(self, *, ticks: Ticks, publisher: Publisher, clock: Clock) -> None:
        self._ticks = ticks
        self._publisher = publisher
        self._clock = clock

    async def prices(self, sale: Sale, prices: Sequence[tuple[str, int]]) -> None:
        """(sku, price in minor units) of each item that has another price now."""
        await self._tell(
            sale,
            [{"k": "price", "sale": sale.sale, "sku": sku, "price_minor": price_minor} for sku, price_minor in prices],
        )

    async def _tell(self, sale: Sale, events: list[dict[str, Any]]) -> None:
        if sale.room is None or not events:
            return
        try:
            seq = await self._ticks.next(sale.room)
            await self._publisher.publish(bus.encode(bus.Tick(sale.room, seq, self._clock.now_ms(), events)))
        except GatewayError as error:
            log.warning("room_news_not_told", sale_no=sale.sale_no, error=str(error))
