"""A long sale played fast: a million orders by the real script and writer, settled, retired, and Valkey's memory.

A tenth is paid, the rest expires by the real sweep (only the deadlines are moved into the past). Everything that is
measured went the way of any order; what 48 hours do to a sale is in the number of its orders, not in the time.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import asyncpg
import redis.exceptions

from gateway.clock import SystemClock
from gateway.domain.acts import Act
from gateway.domain.order import OrderAnswer, OrderOutcome, OrderRequest
from gateway.domain.settle import SettleAct
from gateway.errors import HotUnavailable
from gateway.flows.retired_keys import RetiredKeys
from gateway.hot.control import HotControl
from gateway.hot.releases import HotReleases
from gateway.hot.retire import HotRetirement
from gateway.hot.scripts import Scripts
from gateway.hot.stream import OrderStream
from gateway.keeper.retire import Retirement
from gateway.ledger.batches import LedgerBatches
from gateway.ledger.orders import LedgerOrders
from gateway.ledger.outbox import LedgerOutbox
from gateway.ledger.pool import Ledger
from gateway.ledger.retire import LedgerRetirement
from gateway.ledger.settlement import LedgerSettlement
from gateway.ledger.shards import LedgerShards
from gateway.writer.writer import OrderWriter

from .bench import Bench
from .gateway_parts import Parts, gateway_parts

PART = "retirement"
ORDERS, QUICK_ORDERS = 1_000_000, 50_000
GROUP, PAID_SHARE, PAYMENTS_AT_ONCE, EXPIRED_AT_ONCE, ROWS_AT_ONCE = 256, 0.1, 500, 5_000, 500
SAMPLE = 500
# Valkey frees in the background what it has unlinked.
FREED_WITHIN_S = 30.0
# What may stay beside the stream's tail, which is of one length whatever the sale's: the allocator's own.
FLAT_WITHIN = 0.05

T = TypeVar("T")


class Nobody:
    trusted = True
    not_after = datetime.max.replace(tzinfo=UTC)

    async def publish(self, message: bytes) -> None: ...


async def retirement(bench: Bench) -> None:
    orders = QUICK_ORDERS if bench.quick else ORDERS
    async with gateway_parts(bench.servers) as parts:
        ledger = await Ledger.connect(parts.database_url, size=4)
        try:
            await _play(bench, parts, ledger, orders)
        finally:
            await ledger.close()
    columns = ["seconds", "longest_ping_ms", "bytes_of_the_tail"]
    bench.report.show(PART, f"a sale of {orders:,} orders until it left Valkey", detail_columns=columns)


async def _play(bench: Bench, parts: Parts, ledger: Ledger, orders: int) -> None:
    sale_no = parts.sale.sale_no
    before = await _used(parts)
    _add(bench, orders, "before", before)
    async with _writing(parts) as written:
        filled_s = await _took(_fill(parts, orders, written))
        scripts = Scripts(parts.valkey)
        control = HotControl(shard=parts.shard, scripts=scripts, clock=SystemClock())
        await _insist(partial(control.act, sale_no, Act.CLOSE, actor="host", shop="bench"))
        await written.wait()
    full = await _used(parts)
    _add(bench, orders, "full", full, seconds=filled_s)

    settlement = LedgerSettlement(ledger)
    settled_s = await _took(_settle(parts, ledger, settlement, int(orders * PAID_SHARE)))
    _add(bench, orders, "settled", await _used(parts), seconds=settled_s)

    hot = HotRetirement(shard=parts.shard, client=parts.valkey, scripts=scripts)
    keeper = Retirement(
        ledger=LedgerRetirement(ledger),
        cursors=LedgerShards(ledger),
        hot={0: hot},
        clocks=Nobody(),
        publisher=Nobody(),
        clock=SystemClock(),
        retire_after_s=0,
        drop_after_s=0,
    )
    stall = _Stalls(parts)
    async with stall.watched():
        began = time.perf_counter()
        while await parts.valkey.exists(parts.shard.keys.sale(sale_no)):
            await _insist(partial(keeper.step, 0))
        retired_s = time.perf_counter() - began
        await _freed(parts)
    after = await _used(parts)
    stream = int(await parts.valkey.memory_usage(parts.shard.keys.stream, samples=0) or 0)
    _add(bench, orders, "retired", after, seconds=retired_s, longest_ping_ms=stall.longest_ms, bytes_of_the_tail=stream)
    if after - before - stream > FLAT_WITHIN * (full - before):
        bench.report.mismatch(f"{PART}: {after - before:,} of {full - before:,} bytes stayed in Valkey")
    for difference in await _by_key(parts, ledger):
        bench.report.mismatch(f"{PART}: {difference}")


async def _fill(parts: Parts, orders: int, written: "_Written") -> None:
    while parts.placed < orders:
        try:
            assert await parts.place(min(GROUP, orders - parts.placed)), "the sale does not sell"
        except HotUnavailable:
            pass  # decided or not: the ledger is asked how many there are
    await written.wait()


async def _settle(parts: Parts, ledger: Ledger, settlement: LedgerSettlement, paid: int) -> None:
    """Pays some, lets the deadline of all others pass, and tells Valkey of both."""
    ids = [row["order_id"] for row in await ledger.fetch("SELECT order_id FROM orders ORDER BY seq LIMIT $1", paid)]
    for start in range(0, paid, PAYMENTS_AT_ONCE):
        acts = [_payment(order, parts.sale.sale_no) for order in ids[start : start + PAYMENTS_AT_ONCE]]
        await settlement.settle(0, acts)
    # Without the gateway's own limits: this is not its statement.
    connection = await asyncpg.connect(parts.database_url)
    try:
        past = "confirmed_at = confirmed_at - interval '1 day', pay_by = pay_by - interval '1 day'"
        await connection.execute(f"UPDATE orders SET {past} WHERE status = 'confirmed'")
        await connection.execute("UPDATE deadlines SET pay_by = pay_by - interval '1 day'")
    finally:
        await connection.close()
    while await settlement.expire(0, most=EXPIRED_AT_ONCE, not_after=Nobody.not_after) is not None:
        pass
    outbox, hot = LedgerOutbox(ledger), HotReleases(shard=parts.shard, scripts=Scripts(parts.valkey))
    while rows := await outbox.pending(0, limit=ROWS_AT_ONCE):
        await outbox.forget(0, await _insist(partial(hot.apply, rows)))


def _payment(order: str, sale_no: int) -> SettleAct:
    return SettleAct(
        do="pay",
        shop_no=1,
        order=order,
        sale=sale_no,
        provider="bench",
        txn=order,
        amount=100,
        paid_at_ms=time.time_ns() // 1_000_000,
    )


async def _by_key(parts: Parts, ledger: Ledger) -> list[str]:
    """What a viewer who repeats an order is told now, beside what the ledger has; for a sample."""
    rows = await ledger.fetch(
        "SELECT viewer, key, order_id FROM orders ORDER BY hashtext(order_id), order_id LIMIT $1", SAMPLE
    )
    keys = RetiredKeys(ledger=LedgerOrders(ledger))
    asking = asyncio.create_task(keys.run())
    await asyncio.sleep(0)
    answers: dict[str, Any] = {}
    all_there = asyncio.Event()

    def ask(viewer: str, key: str) -> None:
        def answered(answer: OrderAnswer | Exception) -> None:
            answers[viewer] = answer
            if len(answers) == len(rows):
                all_there.set()

        request = OrderRequest(
            sale_no=parts.sale.sale_no,
            item_no=1,
            viewer=viewer,
            key=key,
            fingerprint="1.1.-1",
            quantity=1,
            expect_amount_minor=-1,
            extra="",
            arrived_s=time.monotonic(),
            answer=answered,
        )
        keys.submit(request)

    for row in rows:
        ask(row["viewer"], row["key"])
    async with asyncio.timeout(30):
        await all_there.wait()
    asking.cancel()
    await asyncio.wait([asking])
    return [
        f"{row['viewer']} was told {answers[row['viewer']]} of {row['order_id']}"
        for row in rows
        if not _is(answers[row["viewer"]], row["order_id"])
    ]


def _is(answer: Any, order: str) -> bool:
    return (
        isinstance(answer, OrderAnswer)
        and (answer.outcome, answer.replayed) == (OrderOutcome.RESERVED, True)
        and answer.order == order
    )


class _Written:
    """A writer at work beside the filling, and when it has nothing left."""

    def __init__(self, writer: OrderWriter, stream: OrderStream, shards: LedgerShards) -> None:
        self._writer, self._stream, self._shards = writer, stream, shards

    async def wait(self) -> None:
        _, seq = await self._stream.head()
        while (await self._shards.cursor(0))[1] < seq:  # noqa: ASYNC110 - the ledger is asked
            await asyncio.sleep(0.05)
        await self._writer.caught_up.wait()


@asynccontextmanager
async def _writing(parts: Parts) -> AsyncIterator[_Written]:
    ledger = await Ledger.connect(parts.database_url, size=1)
    stream = OrderStream(client=parts.valkey, shard=0)
    writer = OrderWriter(
        shard=0,
        holder="bench",
        stream=stream,
        ledger=LedgerBatches(parts.database_url),
        publisher=Nobody(),
        mint=parts.mint,
        clock=SystemClock(),
        batch_max=1000,
    )
    running = asyncio.create_task(writer.run())
    try:
        yield _Written(writer, stream, LedgerShards(ledger))
    finally:
        writer.stop()
        await asyncio.wait([running], timeout=30)
        running.cancel()
        await writer.close()
        await ledger.close()


class _Stalls:
    """The longest that Valkey kept another client waiting."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.longest_ms = 0.0

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        watching = asyncio.create_task(self._watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait([watching])

    async def _watch(self) -> None:
        while True:
            sent = time.perf_counter()
            with contextlib.suppress(redis.exceptions.TimeoutError):
                await self._parts.valkey.ping()
            self.longest_ms = max(self.longest_ms, (time.perf_counter() - sent) * 1000)
            await asyncio.sleep(0.001)


async def _freed(parts: Parts) -> None:
    deadline = time.perf_counter() + FREED_WITHIN_S
    while (await parts.valkey.info("memory")).get("lazyfree_pending_objects", 0):
        if time.perf_counter() > deadline:
            return
        await asyncio.sleep(0.05)


async def _used(parts: Parts) -> int:
    return int((await parts.valkey.info("memory"))["used_memory"])


async def _insist(call: Callable[[], Awaitable[T]]) -> T:
    """On a disk whose syncs take seconds; a repeat changes nothing that was done."""
    for _ in range(30):
        try:
            return await call()
        except HotUnavailable:
            await asyncio.sleep(0.2)
    return await call()


async def _took(work: Awaitable[None]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


def _add(bench: Bench, orders: int, name: str, used: int, **detail: float) -> None:
    bench.report.add(
        part=PART,
        way="peakgate",
        name=name,
        unit="bytes of Valkey",
        value=used,
        conditions={"orders": orders},
        detail={each: round(value, 2) for each, value in detail.items()},
    )
