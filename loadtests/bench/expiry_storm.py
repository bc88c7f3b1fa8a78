"""The expiry storm: 100,000 holds end within one second, while others go on ordering.

A gateway of its own, as a user runs it. The holds are real orders (script, stream, writer); only their deadlines are
moved into one second, since confirming them takes longer than that. Beside it viewers of another sale order at a steady
rate; their latency during the storm stands beside that of the same seconds without one.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg

from gateway.client.host import Host
from gateway.client.local import free_port, local_gateway
from gateway.client.viewer import Viewer
from gateway.clock import SystemClock
from gateway.domain.ids import IdMint
from gateway.domain.order import OrderAnswer, OrderRequest
from gateway.hot.connect import Client, connect
from gateway.hot.keys import ShardKeys
from gateway.hot.orders import HotOrders
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard

from .bench import Bench
from .drive import DriveError
from .outage import percentile

PART = "expiry_storm"
HOLDS, QUICK_HOLDS = 100_000, 10_000
GROUP = 256
SHOPPERS, ORDERS_A_SECOND = 40, 200
WITHIN_S = 120.0
_LOOK_EVERY_S = 0.02


@dataclass(slots=True)
class Storm:
    """Seconds after the first deadline."""

    first_back_s: float = 0.0
    all_back_s: float = 0.0
    units: list[tuple[float, int]] = field(default_factory=list)


async def expiry_storm(bench: Bench) -> None:
    holds = QUICK_HOLDS if bench.quick else HOLDS
    for _ in range(bench.rounds):
        data = bench.scratch / f"storm-{time.monotonic_ns()}"
        async with local_gateway(data, port=free_port(), options=("--dev",)) as gateway:
            token = (await gateway.tokens(shop="storm", sub="host", role="host"))[0]
            viewers = await gateway.tokens(shop="storm", sub="v", role="viewer", count=SHOPPERS)
            servers = json.loads((data / "servers.json").read_text())
            async with Host(gateway.url, token, timeout_s=60) as host:
                room = await host.create_room("storm", key="room")
                await host.start_room(room.room)
                held = await _sale(host, room.room, "held", holds)
                other = await _sale(host, room.room, "other", 1_000_000)
            async with (
                _holds(servers, held, holds) as (ledger, valkey, sale_no),
                _shopping(room.live_url, viewers, other) as took_ms,
            ):
                await asyncio.sleep(3 if bench.quick else 8)
                before = took_ms.copy()
                took_ms.clear()
                storm = await _storm(ledger, valkey, sale_no, holds)
                await asyncio.sleep(0.5)
                during = took_ms.copy()
            holds_true, report = await gateway.audit()
            if not holds_true:
                bench.report.mismatch(f"{PART}: the audit does not hold: {report['checks']}")
        bench.report.add(
            part=PART,
            way="peakgate",
            name="all_sellable_again",
            unit="s",
            value=storm.all_back_s,
            conditions={"holds": holds, "orders_per_s_beside": ORDERS_A_SECOND},
            detail={
                "first_back_s": round(storm.first_back_s, 2),
                "beside_p50_ms": percentile(during, 50),
                "beside_p99_ms": percentile(during, 99),
                "beside_max_ms": max(during),
                "without_p50_ms": percentile(before, 50),
                "without_p99_ms": percentile(before, 99),
            },
        )
    bench.report.show(
        PART,
        f"{holds:,} holds end within one second",
        detail_columns=["first_back_s", "beside_p50_ms", "beside_p99_ms", "beside_max_ms", "without_p99_ms"],
    )


async def _sale(host: Host, room: str, sku: str, stock: int) -> str:
    now = datetime.now(UTC)
    sale = await host.create_sale(
        title=sku,
        currency="EUR",
        room=room,
        opens_at=(now - timedelta(minutes=1)).isoformat(),
        closes_at=(now + timedelta(days=1)).isoformat(),
        pay_within_s=3600,
        items=[{"sku": sku, "title": sku, "price_minor": 100, "stock": stock, "limit_per_viewer": 1000}],
        key=f"sale-{sku}",
    )
    return sale.sale


@contextlib.asynccontextmanager
async def _holds(
    servers: dict[str, str], sale: str, holds: int
) -> AsyncIterator[tuple[asyncpg.Connection, Client, int]]:
    """All units of the sale confirmed and unpaid, through the script and the gateway's own writer."""
    ledger = await asyncpg.connect(servers["database_url"])
    valkey = connect(servers["valkey_url"], max_connections=4, reply_timeout_s=10)
    try:
        id_key = await ledger.fetchval("SELECT id_key FROM installation")
        row = await ledger.fetchrow(
            "SELECT s.sale_no, h.shard, d.epoch FROM sales s JOIN shops h USING (shop_no) JOIN shards d USING (shard)"
            " WHERE s.sale = $1",
            sale,
        )
        shard = HotShard(shard=row["shard"], client=valkey, scripts=Scripts(valkey))
        shard.enter_epoch(row["epoch"], 0)
        orders = HotOrders(
            shard=shard, scripts=Scripts(valkey), mint=IdMint(id_key), clock=SystemClock(), backlog_max=20_000
        )
        placed = 0
        while placed < holds:
            group = [_request(row["sale_no"], placed + at) for at in range(min(GROUP, holds - placed))]
            answers = await orders.decide(row["sale_no"], group)
            if all(isinstance(each, OrderAnswer) and each.order for each in answers):
                placed += len(group)
            else:
                await asyncio.sleep(0.05)  # the writer is behind by the bound
        async with asyncio.timeout(WITHIN_S):
            held = 0
            while held < holds:
                await asyncio.sleep(0.1)
                held = await ledger.fetchval("SELECT held FROM sale_items WHERE sale_no = $1", row["sale_no"])
        yield ledger, valkey, row["sale_no"]
    finally:
        await valkey.aclose()
        await ledger.close()


def _request(sale_no: int, at: int) -> OrderRequest:
    return OrderRequest(
        sale_no=sale_no,
        item_no=1,
        viewer=f"holder-{at}",
        key=f"k-{at}",
        fingerprint="1.1.-1",
        quantity=1,
        expect_amount_minor=-1,
        extra="",
        arrived_s=time.monotonic(),
        answer=lambda _: None,
    )


@contextlib.asynccontextmanager
async def _shopping(live_url: str, tokens: list[str], sale: str) -> AsyncIterator[list[float]]:
    """Viewers who order at a steady rate, whatever the answers take; the times to `reserved` in ms."""
    took_ms: list[float] = []

    async def one(viewer: Viewer) -> None:
        began = time.perf_counter()
        await viewer.order(sale=sale, sku="other", insist=True)
        took_ms.append((time.perf_counter() - began) * 1000)

    async with contextlib.AsyncExitStack() as stack:
        viewers = [await stack.enter_async_context(Viewer(live_url, token)) for token in tokens]
        async with asyncio.TaskGroup() as orders:

            async def steady() -> None:
                began, count = time.perf_counter(), 0
                while True:
                    orders.create_task(one(viewers[count % len(viewers)]))
                    count += 1
                    await asyncio.sleep(max(0.0, began + count / ORDERS_A_SECOND - time.perf_counter()))

            ordering = orders.create_task(steady())
            try:
                yield took_ms
            finally:
                ordering.cancel()


async def _storm(ledger: asyncpg.Connection, valkey: Client, sale_no: int, holds: int) -> Storm:
    """Moves all deadlines into one second, and watches the units come back to be sold."""
    shard = await ledger.fetchval("SELECT shard FROM sales JOIN shops USING (shop_no) WHERE sale_no = $1", sale_no)
    starts_at = datetime.now(UTC) + timedelta(seconds=4)
    async with ledger.transaction():
        # Under the shard's row, as everything that moves deadlines. Orders of one batch stay together.
        await ledger.execute("SELECT FROM shards WHERE shard = $1 FOR UPDATE", shard)
        await ledger.execute(
            """
            WITH spread AS (
                SELECT d.pay_by AS was, d.sale_no, d.first_id, d.last_id,
                       $2::timestamptz + interval '1 second' * percent_rank() OVER (ORDER BY d.pay_by, d.first_id) AS at
                  FROM deadlines d WHERE d.sale_no = $1
            ), moved AS (
                UPDATE deadlines d SET pay_by = s.at + interval '1 millisecond' FROM spread s
                 WHERE d.sale_no = s.sale_no AND d.first_id = s.first_id AND d.pay_by = s.was
            )
            UPDATE orders o SET pay_by = greatest(s.at, o.confirmed_at + interval '1 millisecond') FROM spread s
             WHERE o.sale_no = s.sale_no AND o.order_id BETWEEN s.first_id AND s.last_id
            """,
            sale_no,
            starts_at,
        )
    late_s = (datetime.now(UTC) - starts_at).total_seconds()
    if late_s > 0:
        raise DriveError(f"moving the deadlines took {late_s:.1f} s too long")
    await asyncio.sleep(-late_s)
    storm, began = Storm(), time.perf_counter()
    key = ShardKeys(shard).sale(sale_no)
    while not storm.all_back_s:
        left = int((await valkey.hget(key, "1:left")) or 0)
        now_s = time.perf_counter() - began
        storm.units.append((now_s, left))
        if left and not storm.first_back_s:
            storm.first_back_s = now_s
        if left == holds:
            storm.all_back_s = now_s
        if now_s > WITHIN_S:
            raise DriveError(f"{left} of {holds} units came back within {WITHIN_S} s")
        await asyncio.sleep(_LOOK_EVERY_S)
    return storm
