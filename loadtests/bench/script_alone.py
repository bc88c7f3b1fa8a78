"""The group script alone: 256 requests an EVALSHA, all checks on, append-only file with fsync always.

Compared with nothing: it is the ceiling that the first batch sets to everything above it. No sockets, no ledger.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from .bench import Bench, NotAvailable
from .outage import percentile
from .servers import Servers

PART = "script_alone"
GROUP = 256
WARM_UP_CALLS = 20


class GroupCall(Protocol):
    """One script call that decides `orders` fresh orders; returns how many it reserved."""

    async def __call__(self, orders: int) -> int: ...


@asynccontextmanager
async def group_script(servers: Servers) -> AsyncIterator[GroupCall]:
    """The gateway's own group script on the orders Valkey, with an open sale that has stock, price and limit set."""
    raise NotAvailable("the group script has no binding here")
    yield


async def script_alone(bench: Bench) -> None:
    """Calls one after another, as the one caller a sale has in a live process."""
    for _ in range(bench.rounds):
        async with group_script(bench.servers) as call:
            for _ in range(WARM_UP_CALLS):
                await call(GROUP)
            took_ms: list[float] = []
            reserved = 0
            started = time.perf_counter()
            while (now := time.perf_counter()) - started < bench.measure_s:
                reserved += await call(GROUP)
                took_ms.append((time.perf_counter() - now) * 1000)
            elapsed_s = time.perf_counter() - started
        if reserved != GROUP * len(took_ms):
            bench.report.mismatch(f"{PART}: {reserved} reserved of {GROUP * len(took_ms)} fresh orders")
        bench.report.add(
            part=PART,
            way="peakgate",
            name="reserved",
            unit="orders/s",
            value=reserved / elapsed_s,
            conditions={"group": GROUP, "calls_in_flight": 1},
            detail={
                "call_p50_ms": percentile(took_ms, 50),
                "call_p99_ms": percentile(took_ms, 99),
                "call_max_ms": max(took_ms),
            },
        )
    bench.report.show(
        PART, "the group script alone, fsync always", detail_columns=["call_p50_ms", "call_p99_ms", "call_max_ms"]
    )
