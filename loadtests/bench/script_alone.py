"""The group script alone: 256 requests an EVALSHA, all checks on, append-only file with fsync always.

Compared with nothing: it is the ceiling that the first batch sets to everything above it. No sockets, no ledger.
"""

import time

from .bench import Bench
from .gateway_parts import gateway_parts
from .outage import percentile

PART = "script_alone"
GROUP = 256
WARM_UP_CALLS = 20


async def script_alone(bench: Bench) -> None:
    """Calls one after another, as the one caller a sale has in a live process."""
    for _ in range(bench.rounds):
        async with gateway_parts(bench.servers) as parts:
            for _ in range(WARM_UP_CALLS):
                await parts.place(GROUP)
            took_ms: list[float] = []
            reserved = 0
            started = time.perf_counter()
            while (now := time.perf_counter()) - started < bench.measure_s:
                reserved += await parts.place(GROUP)
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
