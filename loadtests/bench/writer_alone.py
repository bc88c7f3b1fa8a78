"""The writer alone: from a stream that is full already into the ledger, all guards on.

Compared with nothing: it is the ceiling that the second batch sets. No sockets, no script calls while it is measured.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from .bench import Bench, NotAvailable
from .outage import percentile
from .servers import Servers

PART = "writer_alone"
ORDERS, QUICK_ORDERS = 200_000, 40_000


class WriterStep(Protocol):
    """Read what is next in the stream and commit it as one batch; returns how many orders, 0 when it is empty."""

    async def __call__(self) -> int: ...


@asynccontextmanager
async def writer_on_full_stream(servers: Servers, *, orders: int) -> AsyncIterator[WriterStep]:
    """The gateway's own writer, with its lease and cursor, on a stream with `orders` reserved orders in it."""
    raise NotAvailable("the writer has no binding here")
    yield


async def writer_alone(bench: Bench) -> None:
    """Batches one after another until the stream is drained."""
    orders = QUICK_ORDERS if bench.quick else ORDERS
    for _ in range(bench.rounds):
        async with writer_on_full_stream(bench.servers, orders=orders) as step:
            took_ms: list[float] = []
            sizes: list[int] = []
            started = now = time.perf_counter()
            while size := await step():
                sizes.append(size)
                took_ms.append((time.perf_counter() - now) * 1000)
                now = time.perf_counter()
            elapsed_s = now - started
        if sum(sizes) != orders:
            bench.report.mismatch(f"{PART}: {sum(sizes)} orders applied of {orders} in the stream")
        bench.report.add(
            part=PART,
            way="peakgate",
            name="applied",
            unit="orders/s",
            value=sum(sizes) / elapsed_s,
            conditions={"orders": orders, "largest_batch": max(sizes, default=0)},
            detail={
                "batches": len(sizes),
                "batch_p50_ms": percentile(took_ms, 50),
                "batch_p99_ms": percentile(took_ms, 99),
            },
        )
    bench.report.show(
        PART, "the writer alone on a full stream", detail_columns=["batches", "batch_p50_ms", "batch_p99_ms"]
    )
