"""What an order and an idle socket of Peakgate cost in bytes.

An order: what Valkey's data set and append-only file and PostgreSQL's tables (with indexes) and log grow by while
orders are placed, divided by the orders confirmed. A socket: what the live process grows by while viewers connect, say
hello and then only listen, with the kernel's buffers apart. The room is live, so ticks go on.
"""

import asyncio
import dataclasses
from dataclasses import dataclass

import asyncpg
import redis.asyncio

from .bench import Bench
from .drive import drive, generator
from .figures import Detail
from .generator import Fate, Load, Outcome
from .peakgate_path import gateway
from .servers import Servers, empty, kernel_tcp_bytes
from .ways import STOCK

PART = "sizes"
IDLE_SOCKETS, QUICK_IDLE_SOCKETS = 5_000, 1_000
SETTLE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Bytes in the servers at one instant."""

    valkey_dataset: int
    valkey_file: int
    tables: dict[str, int]
    log: int


async def stored(servers: Servers) -> Stored:
    client = redis.asyncio.Redis.from_url(servers.valkey_url, decode_responses=True)
    try:
        dataset = int((await client.info("memory"))["used_memory_dataset"])
        file = int((await client.info("persistence"))["aof_current_size"])
    finally:
        await client.aclose()
    connection = await asyncpg.connect(servers.database_url)
    try:
        rows = await connection.fetch(
            "SELECT c.relname AS name, pg_total_relation_size(c.oid) AS bytes "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
        )
        log = int(await connection.fetchval("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint"))
    finally:
        await connection.close()
    return Stored(valkey_dataset=dataset, valkey_file=file, tables={row["name"]: row["bytes"] for row in rows}, log=log)


async def sizes(bench: Bench) -> None:
    await _order(bench)
    await _idle_socket(bench)
    bench.report.show(PART, "bytes", detail_columns=["tables", "orders"])


async def _order(bench: Bench) -> None:
    servers = bench.servers
    await empty(servers)
    async with gateway(servers, bench.scratch, workers=1, tokens=bench.sockets, stock=STOCK) as target:
        # The first orders pay for viewers, pages and buffers that the later ones share.
        unchecked = dataclasses.replace(target, check=_no_check)
        await drive(unchecked, servers, bench.scratch, sockets=bench.sockets, in_flight=1, warm_up_s=0.0, measure_s=1.0)
        await asyncio.sleep(SETTLE_S)
        before = await stored(servers)
        run = await drive(
            unchecked,
            servers,
            bench.scratch,
            sockets=bench.sockets,
            in_flight=8,
            warm_up_s=0.0,
            measure_s=bench.measure_s,
        )
        await asyncio.sleep(SETTLE_S)
        after = await stored(servers)
    orders = run.outcome.confirmed_total
    tables = {
        name: round((size - before.tables.get(name, 0)) / orders, 1)
        for name, size in after.tables.items()
        if size > before.tables.get(name, 0)
    }
    values = {
        "valkey_dataset": after.valkey_dataset - before.valkey_dataset,
        "valkey_append_only_file": after.valkey_file - before.valkey_file,
        "postgresql_tables_and_indexes": sum(after.tables.values()) - sum(before.tables.values()),
        "postgresql_log": after.log - before.log,
    }
    for name, value in values.items():
        detail: Detail = {"orders": orders}
        if name == "postgresql_tables_and_indexes":
            detail["tables"] = tables
        bench.report.add(
            part=PART,
            way="peakgate",
            name=name,
            unit="bytes an order",
            value=value / orders,
            conditions={"what": "order"},
            detail=detail,
        )


async def _idle_socket(bench: Bench) -> None:
    servers = bench.servers
    count = QUICK_IDLE_SOCKETS if bench.quick else IDLE_SOCKETS
    await empty(servers)
    async with gateway(servers, bench.scratch, workers=1, tokens=count, stock=STOCK) as target:
        live = target.processes()["live"]
        resident = sum(process.memory_info().rss for process in live)
        kernel = kernel_tcp_bytes()
        load = Load(
            urls=target.urls,
            dialect=target.dialect,
            sale=target.sale,
            sku=target.sku,
            run="idle",
            sockets=count,
            tokens=str(target.tokens),
            idle=True,
        )
        async with generator(load) as process:
            await asyncio.sleep(SETTLE_S)
            grown = sum(process.memory_info().rss for process in live) - resident
            kernel_grown = kernel_tcp_bytes() - kernel
            await process.go()
    for name, value in (("live_process_resident", grown), ("kernel_tcp_buffers", kernel_grown)):
        bench.report.add(
            part=PART,
            way="peakgate",
            name=name,
            unit="bytes a socket",
            value=value / count,
            conditions={"what": f"idle socket ({count:,})"},
        )


async def _no_check(_outcome: Outcome, _fates: list[Fate]) -> list[str]:
    return []
