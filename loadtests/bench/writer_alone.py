"""The writer alone: from a stream that is full already into the ledger, all guards on.

Compared with nothing: it is the ceiling that the second batch sets. No sockets, no script calls while it is measured.
"""

import time

from gateway.clock import SystemClock
from gateway.domain.batch import AppliedOrders, OrderColumns, Place
from gateway.hot.stream import OrderStream
from gateway.ledger.batches import LedgerBatches
from gateway.writer.writer import OrderWriter

from .bench import Bench
from .gateway_parts import gateway_parts
from .outage import percentile

PART = "writer_alone"
ORDERS, QUICK_ORDERS = 204_800, 40_960
GROUP, BATCH = 256, 1_000


class TimedLedger(LedgerBatches):
    """The writer's own ledger, noting what each batch took."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sizes: list[int] = []
        self.took_ms: list[float] = []

    async def apply_orders(self, at: Place, orders: OrderColumns) -> AppliedOrders:
        started = time.perf_counter()
        applied = await super().apply_orders(at, orders)
        self.took_ms.append((time.perf_counter() - started) * 1000)
        self.sizes.append(len(orders.seqs))
        return applied


class Nobody:
    """Confirmations are made and encoded as always, and sent to nobody."""

    async def publish(self, message: bytes) -> None: ...


async def writer_alone(bench: Bench) -> None:
    """One writer from an untouched stream to a drained one."""
    orders = QUICK_ORDERS if bench.quick else ORDERS
    for _ in range(bench.rounds):
        async with gateway_parts(bench.servers) as parts:
            while parts.placed < orders:
                await parts.place(GROUP)
            ledger = TimedLedger(parts.database_url)
            writer = OrderWriter(
                shard=0,
                holder="bench",
                stream=OrderStream(client=parts.valkey, shard=0),
                ledger=ledger,
                publisher=Nobody(),
                mint=parts.mint,
                clock=SystemClock(),
                batch_max=BATCH,
            )
            # Told to stop, it returns once the stream holds nothing that the ledger lacks.
            writer.stop()
            started = time.perf_counter()
            await writer.run()
            elapsed_s = time.perf_counter() - started
            await writer.close()
        sizes, took_ms, placed = ledger.sizes, ledger.took_ms, parts.placed
        if sum(sizes) != placed:
            bench.report.mismatch(f"{PART}: {sum(sizes)} orders applied of {placed} in the stream")
        bench.report.add(
            part=PART,
            way="peakgate",
            name="applied",
            unit="orders/s",
            value=sum(sizes) / elapsed_s,
            conditions={"orders": placed, "batch_max": BATCH},
            detail={
                "batches": len(sizes),
                "batch_p50_ms": percentile(took_ms, 50),
                "batch_p99_ms": percentile(took_ms, 99),
            },
        )
    bench.report.show(
        PART, "the writer alone on a full stream", detail_columns=["batches", "batch_p50_ms", "batch_p99_ms"]
    )
