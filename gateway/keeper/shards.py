"""Keeps Valkey in line with the ledger: opens shards, loads sales it lacks, returns what the ledger released."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import structlog

from gateway.domain.sale import Sale
from gateway.errors import GatewayError
from gateway.metrics import BACKLOG, SHARD_OPEN

log = structlog.get_logger(__name__)

EVERY_S = 0.25
_RELEASES_AT_ONCE = 500


class ShardRow(Protocol):
    @property
    def shard(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def outbox_no(self) -> int: ...
    @property
    def opened(self) -> bool: ...


class Shards(Protocol):
    async def all(self) -> Sequence[ShardRow]: ...
    async def mark_opened(self, shard: int) -> None: ...


class Sales(Protocol):
    async def unloaded(self, shard: int, epoch: int) -> list[Sale]: ...
    async def mark_loaded(self, sale_no: int, epoch: int) -> None: ...


class Releases(Protocol):
    async def pending(self, shard: int, *, limit: int) -> Sequence[Any]: ...
    async def forget(self, shard: int, up_to: int) -> None: ...


class HotShard(Protocol):
    @property
    def shard(self) -> int: ...
    @property
    def seq_seen(self) -> int: ...
    async def open(self, *, epoch: int, last_seq: int, outbox_no: int, opened: bool) -> str: ...
    async def load_sale(self, sale: Sale) -> None: ...


class HotReleases(Protocol):
    async def apply(self, rows: Sequence[Any]) -> int: ...


class ShardKeeper:
    """Runs beside everything else; each step may be repeated by whoever comes next.

    A shard that Valkey lost (empty, behind the ledger, of another epoch) stays shut: nothing is sold from counters that
    the ledger does not stand behind.
    """

    def __init__(
        self,
        *,
        shards: Shards,
        sales: Sales,
        releases: Releases,
        hot: Mapping[int, HotShard],
        hot_releases: Mapping[int, HotReleases],
    ) -> None:
        self._shards = shards
        self._sales = sales
        self._releases = releases
        self._hot = hot
        self._hot_releases = hot_releases
        self._said: dict[int, str] = {}

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except GatewayError as error:
                log.warning("keeper_waits", error=str(error))
            await asyncio.sleep(EVERY_S)

    async def step(self) -> None:
        """One look at every shard; one that fails keeps none waiting. Raises the first error, at the end."""
        first: GatewayError | None = None
        for row in await self._shards.all():
            try:
                await self._look(row)
            except GatewayError as error:
                first = first or error
        if first is not None:
            raise first

    async def _look(self, row: ShardRow) -> None:
        hot = self._hot[row.shard]
        word = await hot.open(epoch=row.epoch, last_seq=row.last_seq, outbox_no=row.outbox_no, opened=row.opened)
        SHARD_OPEN.labels(row.shard).set(0 if word == "lost" else 1)
        if self._said.get(row.shard) != word:
            self._said[row.shard] = word
            (log.critical if word == "lost" else log.info)(f"shard_{word}", shard=row.shard, epoch=row.epoch)
        if word == "lost":
            return
        if not row.opened:
            await self._shards.mark_opened(row.shard)
        for sale in await self._sales.unloaded(row.shard, row.epoch):
            await hot.load_sale(sale)
            await self._sales.mark_loaded(sale.sale_no, row.epoch)
        BACKLOG.labels(row.shard).set(max(0, hot.seq_seen - row.last_seq))
        rows = await self._releases.pending(row.shard, limit=_RELEASES_AT_ONCE)
        if rows:
            await self._releases.forget(row.shard, await self._hot_releases[row.shard].apply(rows))
