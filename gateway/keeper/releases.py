"""Brings the ledger's outbox to Valkey: units that are free again, units that are sold."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from gateway.errors import GatewayError
from gateway.metrics import OUTBOX_ROWS

log = structlog.get_logger(__name__)

EVERY_S = 0.1
# Rows a call: about two milliseconds of Valkey's time, between which orders have their turn.
ROWS_AT_ONCE = 500
# Rows applied before they are forgotten; a storm would otherwise pay a third transaction for every call.
FORGET_EVERY = 5_000
_UNITS_COME_BACK = frozenset({"refuse", "release", "return"})


class Outbox(Protocol):
    async def pending(self, shard: int, *, limit: int, after: int) -> Sequence[Any]: ...
    async def forget(self, shard: int, up_to: int) -> None: ...


class HotReleases(Protocol):
    async def apply(self, rows: Sequence[Any]) -> int: ...


class Restock(Protocol):
    def note(self, sales: Iterable[int]) -> None: ...


class Releases:
    """Each row has its effect in Valkey exactly once, whoever repeats what: the rows are numbered, and the script
    changes nothing for a number it has applied. Rows are forgotten behind it."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        hot: Mapping[int, HotReleases],
        restock: Restock,
        copies_back: Callable[[int], None] = lambda coupon_no: None,
    ) -> None:
        """`restock` hears of sales whose units came back, `copies_back` of the coupon whose copies did."""
        self._outbox = outbox
        self._hot = hot
        self._restock = restock
        self._copies_back = copies_back

    async def run(self) -> None:
        while True:
            for shard in self._hot:
                try:
                    await self.drain(shard)
                except GatewayError as error:
                    log.warning("outbox_waits", shard=shard, error=str(error))
            await asyncio.sleep(EVERY_S)

    async def drain(self, shard: int) -> None:
        """Applies what the outbox of a shard holds. Raises ShardClosed while Valkey does not sell it."""
        # From the first number each time: what was applied once may be pending again in a ledger that was restored.
        forgotten = done = 0
        more = True
        while more:
            # Behind the last one applied: what is deleted in front of it would be looked through again and again.
            rows = await self._outbox.pending(shard, limit=ROWS_AT_ONCE, after=done)
            OUTBOX_ROWS.labels(shard).set(len(rows))
            more = len(rows) == ROWS_AT_ONCE
            if rows:
                done = await self._hot[shard].apply(rows)
                self._restock.note({row.sale_no for row in rows if row.kind in _UNITS_COME_BACK})
                for coupon_no in {row.coupon_no for row in rows if row.kind == "unclaim"}:
                    self._copies_back(coupon_no)
            if done > forgotten and (not more or done - forgotten >= FORGET_EVERY):
                await self._outbox.forget(shard, done)
                forgotten = done
