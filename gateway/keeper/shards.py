"""Keeps Valkey in line with the ledger: shards that must not sell are rebuilt, sales and coupons that Valkey lacks are
loaded."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from gateway.domain.coupon import Coupon
from gateway.domain.sale import Sale
from gateway.errors import GatewayError, ShardClosed
from gateway.keeper.rebuild_ports import Stand, Standing
from gateway.metrics import BACKLOG, SHARD_EPOCH, SHARD_OPEN

log = structlog.get_logger(__name__)

EVERY_S = 0.25


class Rebuilder(Protocol):
    async def look(self, shard: int) -> tuple[Standing, Stand, str]: ...
    async def mend(self, shard: int) -> bool: ...


class Shards(Protocol):
    async def adopt(self, shard: int, epoch: int, run_id: str) -> None: ...


class Sales(Protocol):
    async def unloaded(self, shard: int, epoch: int) -> list[Sale]: ...
    async def mark_loaded(self, sale_no: int, epoch: int) -> None: ...


class Coupons(Protocol):
    async def unloaded(self, shard: int, epoch: int) -> list[Coupon]: ...
    async def mark_loaded(self, coupon_no: int, epoch: int) -> None: ...


class HotCoupons(Protocol):
    async def load(self, coupon: Coupon) -> None: ...


class HotShard(Protocol):
    def enter_epoch(self, epoch: int, seq: int) -> None: ...
    async def load_sale(self, sale: Sale) -> None: ...


class ShardKeeper:
    """Runs beside everything else; each step may be repeated by whoever comes next. Each shard has its own turn, so the
    rebuild of one keeps no other waiting."""

    def __init__(
        self,
        *,
        rebuilder: Rebuilder,
        shards: Shards,
        sales: Sales,
        coupons: Coupons,
        hot: Mapping[int, HotShard],
        hot_coupons: Mapping[int, HotCoupons],
    ) -> None:
        self._rebuilder = rebuilder
        self._shards = shards
        self._sales = sales
        self._coupons = coupons
        self._hot = hot
        self._hot_coupons = hot_coupons
        self._well: dict[int, asyncio.Event] = {shard: asyncio.Event() for shard in hot}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for shard in self._hot:
                tasks.create_task(self._keep(shard))

    async def settled(self) -> None:
        """Returns when every shard sells, or has at some time since the start."""
        for well in self._well.values():
            await well.wait()

    async def step(self) -> None:
        """One look at every shard; one that fails keeps none waiting. Raises the first error, at the end."""
        first: GatewayError | None = None
        for shard in self._hot:
            try:
                await self.look(shard)
            except GatewayError as error:
                first = first or error
        if first is not None:
            raise first

    async def _keep(self, shard: int) -> None:
        while True:
            try:
                await self.look(shard)
            except GatewayError as error:
                SHARD_OPEN.labels(shard).set(0)
                log.warning("keeper_waits", shard=shard, error=str(error))
            await asyncio.sleep(EVERY_S)

    async def look(self, shard: int) -> None:
        """Returns with a shard that sells and has its sales and coupons. Raises ShardClosed while another keeper
        rebuilds it."""
        row, stand, why = await self._rebuilder.look(shard)
        if why:
            SHARD_OPEN.labels(shard).set(0)
            if not await self._rebuilder.mend(shard):
                raise ShardClosed(f"shard {shard} is being rebuilt by another keeper")
            row, stand, why = await self._rebuilder.look(shard)
            if why:
                raise ShardClosed(f"shard {shard}: {why}")
        SHARD_OPEN.labels(shard).set(1)
        SHARD_EPOCH.labels(shard).set(row.epoch)
        BACKLOG.labels(shard).set(max(0, stand.seq - row.last_seq))
        if row.run_id is None or not row.opened:
            await self._shards.adopt(shard, row.epoch, stand.run_id)
        hot = self._hot[shard]
        hot.enter_epoch(row.epoch, stand.seq)
        self._well[shard].set()
        for sale in await self._sales.unloaded(shard, row.epoch):
            await hot.load_sale(sale)
            await self._sales.mark_loaded(sale.sale_no, row.epoch)
        for coupon in await self._coupons.unloaded(shard, row.epoch):
            await self._hot_coupons[shard].load(coupon)
            await self._coupons.mark_loaded(coupon.coupon_no, row.epoch)
