"""How long a shard is shut when Valkey came back empty: from the loss to the first order that is reserved again.

The live orders are put into the ledger in bulk, as a writer would have put them there; what is measured is the keeper's
own rebuild, from its first look on. In a running gateway up to a quarter of a second passes before that look.
"""

import asyncio
import time

from gateway.clock import SystemClock
from gateway.hot.rebuild import HotRebuilds
from gateway.keeper.rebuild import Rebuilder
from gateway.ledger.pool import Ledger, open_connection
from gateway.ledger.rebuild import LedgerRebuilds
from gateway.ledger.shards import LedgerShards

from .bench import Bench
from .gateway_parts import Parts, gateway_parts

PART = "rebuild"
SIZES, QUICK_SIZES = (10_000, 1_000_000), (10_000,)
PING_EVERY_S = 0.005

_ORDERS = """
INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor, status, epoch, seq,
                    created_at_ms, confirmed_at, pay_by, fingerprint)
SELECT $1, 'ord_' || lpad(n::text, 24, '0'), 'viewer-' || n, 'k-' || n, 1, 1, 100, 100, 'confirmed', 1, n,
       1700000000000 + n, now(), now() + interval '1 day', '1.1.-1'
  FROM generate_series(1, $2::int) AS n
"""
_HOLDINGS = """
INSERT INTO holdings SELECT 'viewer-' || n, $1, 1, 1, 100 FROM generate_series(1, $2::int) AS n
"""


async def rebuild(bench: Bench) -> None:
    for orders in QUICK_SIZES if bench.quick else SIZES:
        for _ in range(bench.rounds):
            async with gateway_parts(bench.servers) as parts:
                await _lose_and_mend(bench, parts, orders)
    bench.report.show(PART, "an empty Valkey until it sells again", detail_columns=["longest_ping_ms", "valkey_bytes"])


async def _lose_and_mend(bench: Bench, parts: Parts, orders: int) -> None:
    await _fill_ledger(parts, orders)
    ledger = await Ledger.connect(parts.database_url, size=4)
    try:
        shards = LedgerShards(ledger)
        rebuilder = Rebuilder(
            ledger=LedgerRebuilds(ledger, parts.database_url),
            valkey=HotRebuilds(url=bench.servers.valkey_url, client=parts.valkey),
            clock=SystemClock(),
        )
        await parts.valkey.flushall()
        longest_ms = 0.0

        async def ping() -> None:
            nonlocal longest_ms
            while True:
                started = time.perf_counter()
                await parts.valkey.ping()
                longest_ms = max(longest_ms, (time.perf_counter() - started) * 1000)
                await asyncio.sleep(PING_EVERY_S)

        pinging = asyncio.create_task(ping())
        started = time.perf_counter()
        assert await rebuilder.mend(0)
        parts.shard.enter_epoch(*await shards.cursor(0))
        parts.placed = orders + 1
        assert await parts.place(1) == 1, "it does not sell"
        took_s = time.perf_counter() - started
        pinging.cancel()
        answers = await parts.valkey.hlen(parts.shard.keys.answers(parts.sale.sale_no))
        left = int(await parts.valkey.hget(parts.shard.keys.sale(parts.sale.sale_no), "1:left") or 0)
        stock = parts.sale.items[0].stock
        if (answers, stock - left) != (orders + 1, orders + 1):
            bench.report.mismatch(f"{PART}: {answers} answers and {stock - left} units out after {orders} orders")
        info = await parts.valkey.info("memory")
        bench.report.add(
            part=PART,
            way="peakgate",
            name="seconds to sell again",
            unit="s",
            value=took_s,
            conditions={"live_orders": orders},
            detail={"longest_ping_ms": longest_ms, "valkey_bytes": info["used_memory_dataset"]},
        )
    finally:
        await ledger.close()


async def _fill_ledger(parts: Parts, orders: int) -> None:
    connection = await open_connection(parts.database_url)
    try:
        sale_no = parts.sale.sale_no
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(_ORDERS, sale_no, orders, timeout=300)
        await connection.execute(_HOLDINGS, sale_no, orders, timeout=300)
        await connection.execute("UPDATE sale_items SET held = $2 WHERE sale_no = $1", sale_no, orders)
        await connection.execute("UPDATE sales SET loaded_epoch = 1 WHERE sale_no = $1", sale_no)
        await connection.execute("UPDATE shards SET opened = true, last_seq = $1 WHERE shard = 0", orders)
        await connection.execute("ANALYZE")
    finally:
        connection.terminate()
