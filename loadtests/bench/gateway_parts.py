"""The gateway's own parts on the shared servers, without its processes: for the parts that measure one batch alone."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from gateway.clock import SystemClock
from gateway.domain.drafts import Effect, ItemDraft, SaleDraft
from gateway.domain.ids import IdMint
from gateway.domain.order import OrderAnswer, OrderOutcome, OrderRequest
from gateway.domain.sale import Sale
from gateway.hot.connect import Client, connect
from gateway.hot.orders import HotOrders
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from gateway.ledger import migrate
from gateway.ledger.pool import Ledger
from gateway.ledger.sales import LedgerSales
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops

from .servers import Servers, ensure_database

STOCK, LIMIT = 10_000_000, 100


@dataclass(slots=True)
class Parts:
    """A shop with one open sale, in a fresh ledger and an emptied orders Valkey."""

    database_url: str
    valkey: Client
    sale: Sale
    shard: HotShard
    orders: HotOrders
    mint: IdMint
    placed: int = 0

    async def place(self, count: int) -> int:
        """One script call for `count` orders of as many viewers; how many it reserved."""
        now_s = time.monotonic()
        group = [
            OrderRequest(
                sale_no=self.sale.sale_no,
                item_no=1,
                viewer=f"viewer-{self.placed + at}",
                key=f"k-{self.placed + at}",
                fingerprint="1.1.-1",
                quantity=1,
                expect_amount_minor=-1,
                extra="",
                arrived_s=now_s,
                answer=_nobody,
            )
            for at in range(count)
        ]
        self.placed += count
        answers = await self.orders.decide(self.sale.sale_no, group)
        return sum(isinstance(each, OrderAnswer) and each.outcome is OrderOutcome.RESERVED for each in answers)


def _nobody(_: OrderAnswer | Exception) -> None:
    """The bench reads the answers of a call itself."""


@asynccontextmanager
async def gateway_parts(servers: Servers) -> AsyncIterator[Parts]:
    url = await _fresh_database(servers)
    await migrate.migrate(url)
    ledger = await Ledger.connect(url, size=2)
    valkey = connect(servers.valkey_url, max_connections=8)
    try:
        await valkey.flushall()
        shards = LedgerShards(ledger)
        await shards.ensure(1)
        async with Shops.connect(url) as shops:
            await shops.create("bench")
        mint = IdMint(await shards.id_key())
        now_ms = time.time_ns() // 1_000_000
        draft = SaleDraft(
            title="Bench",
            currency="CNY",
            opens_at_ms=now_ms - 60_000,
            closes_at_ms=now_ms + 86_400_000,
            items=[ItemDraft(sku="tin", title="Tin", price_minor=100, stock=STOCK, limit_per_viewer=LIMIT)],
        )
        sale = (await LedgerSales(ledger, mint=mint).create("bench", draft, Effect("host", "sale", "k", "f"))).sale
        scripts = Scripts(valkey)
        shard = HotShard(shard=0, client=valkey, scripts=scripts)
        await shard.open(epoch=1)
        await shard.load_sale(sale)
        orders = HotOrders(shard=shard, scripts=scripts, mint=mint, clock=SystemClock(), backlog_max=10**9)
        yield Parts(database_url=url, valkey=valkey, sale=sale, shard=shard, orders=orders, mint=mint)
    finally:
        await valkey.aclose()
        await ledger.close()


async def _fresh_database(servers: Servers) -> str:
    name = "bench_parts"
    connection = await asyncpg.connect(servers.database_url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()
    return await ensure_database(servers.database_url, name)
