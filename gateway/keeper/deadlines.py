"""Ends orders that were not paid in time. Judged in the ledger, by its clock, against what was paid meanwhile."""

import asyncio
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Protocol

import structlog

from gateway import points
from gateway.errors import GatewayError
from gateway.metrics import EXPIRED_ORDERS
from gateway.wire import bus

log = structlog.get_logger(__name__)

EVERY_S = 0.25
# Orders a transaction: it holds the shard's row for some 30 ms, for which confirmations wait.
ORDERS_AT_ONCE = 1000


class Expired(Protocol):
    @property
    def shop(self) -> str: ...
    @property
    def viewer(self) -> str: ...
    @property
    def order_id(self) -> str: ...
    @property
    def claim(self) -> str | None: ...
    @property
    def claim_state(self) -> str | None: ...


class Ledger(Protocol):
    async def is_due(self, shard: int, *, not_after: datetime) -> bool:
        """Whether anything is to be ended; never when the ledger's clock is past `not_after`."""
        ...

    async def expire(self, shard: int, *, most: int, not_after: datetime) -> Sequence[Expired] | None:
        """Those ended, about `most`; None when nothing is due, or the ledger's clock is past `not_after`."""
        ...


class Clocks(Protocol):
    @property
    def trusted(self) -> bool: ...

    @property
    def not_after(self) -> datetime:
        """The latest that the ledger's clock may show, if it was not set since it was looked at."""
        ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class Deadlines:
    """An order expires within a second of its deadline, never before it. While the clocks are not trusted none does."""

    def __init__(self, *, shards: Collection[int], ledger: Ledger, clocks: Clocks, publisher: Publisher) -> None:
        self._shards = shards
        self._ledger = ledger
        self._clocks = clocks
        self._publisher = publisher

    async def run(self) -> None:
        while True:
            if self._clocks.trusted:
                for shard in self._shards:
                    try:
                        await self.sweep(shard)
                    except GatewayError as error:
                        log.warning("deadlines_wait", shard=shard, error=str(error))
            await asyncio.sleep(EVERY_S)

    async def sweep(self, shard: int) -> int:
        """Ends all that is due; how many orders that were."""
        ended = 0
        while self._clocks.trusted:
            if not await self._ledger.is_due(shard, not_after=self._clocks.not_after):
                break
            points.reach("expire.commit.before")
            orders = await self._ledger.expire(shard, most=ORDERS_AT_ONCE, not_after=self._clocks.not_after)
            if orders is None:
                break
            points.reach("expire.commit.after")
            ended += len(orders)
            EXPIRED_ORDERS.inc(len(orders))
            if orders:
                await self._publisher.publish(bus.encode_later(_states(orders)))
        return ended


def _states(orders: Sequence[Expired]) -> Iterator[tuple[str, bus.LaterState | bus.LaterClaim]]:
    for each in orders:
        yield each.shop, bus.LaterState(each.viewer, each.order_id, "expired")
        if each.claim is not None:
            yield each.shop, bus.LaterClaim(each.viewer, each.claim, each.claim_state or "")
