"""Rival (c), the strongest simple one: one asyncio queue that batches `unnest` straight into PostgreSQL, no Valkey.

Orders wait in one queue; a loop takes what has gathered, up to 1,000, and writes it in one commit; then the viewers are
told. No task and no future an order. While one batch commits the next one gathers, so the batch grows with the load.

* bare: one statement inserts the rows and takes the stock; a CHECK keeps stock from going below zero and (sale, viewer,
  key) is unique. When the statement fails on the CHECK the batch is decided order by order under a lock on the stock.
* guarded: the same judgements as Peakgate's: a repeated key gets the first answer, purchase limit a viewer and SKU,
  window, price, stock, an exact outcome for each refusal, status and `pay_by`. Each batch locks the stock, reads what
  it must know, decides in Python on a table of its own, and writes.

When the connection ends the batch is kept and repeated on a new one (the key makes that harmless) for half a minute.

What it leaves out: two processes share one stock row, so their batches take turns; while PostgreSQL is away nobody gets
any answer, and everything in the queue is lost with the process; nothing else of Peakgate (coupons, recovery of an
answer by key over a reconnect, confirmations on another socket) exists.
"""

import asyncio
import collections
import contextlib
import time
from datetime import datetime, timedelta
from typing import NamedTuple

import asyncpg

from .rivals import CONNECTION_ENDED, MAX_WAITING, Order, OrderIds, Reply, Viewer

MAX_BATCH = 1_000
"""Larger batches bring no more orders a second and make the first of a batch wait for the last."""
KEEP_TRYING_S = 30.0
PAUSE_BETWEEN_TRIES_S = 0.2
SESSION = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}
"""Plans are made while the tables are empty and kept: only the index may be used, or a plan of the first second reads
whole tables in the tenth."""

_BARE = """
WITH ins AS (
  INSERT INTO orders (id, sale, sku, viewer, key, quantity)
  SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[])
  ON CONFLICT (sale, viewer, key) DO NOTHING
  RETURNING sale, sku, quantity
), sums AS (
  SELECT sale, sku, sum(quantity)::int AS units, count(*)::int AS orders FROM ins GROUP BY sale, sku
), taken AS (
  UPDATE stock SET units_left = stock.units_left - sums.units FROM sums
  WHERE stock.sale = sums.sale AND stock.sku = sums.sku RETURNING sums.orders
)
SELECT coalesce(sum(orders), 0)::int FROM taken
"""
_LOCK_STOCK = """
SELECT sale, sku, units_left FROM stock
WHERE (sale, sku) IN (SELECT * FROM unnest($1::text[], $2::text[])) ORDER BY sale, sku FOR UPDATE
"""
_FIND = """
SELECT o.sale, o.viewer, o.key, o.id FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (sale, viewer, key)
JOIN orders o USING (sale, viewer, key)
"""

_LOCK_SALES = """
SELECT sales.sale, state, opens_at, closes_at, pay_within_s, sku, units_left, price_minor, limit_per_viewer,
       clock_timestamp() AS now
FROM stock JOIN sales USING (sale)
WHERE (stock.sale, sku) IN (SELECT * FROM unnest($1::text[], $2::text[]))
ORDER BY stock.sale, sku FOR UPDATE OF stock FOR SHARE OF sales
"""
_READ = """
SELECT o.id, o.pay_by, coalesce(h.units, 0) AS held
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS asked (sale, viewer, key, sku, place)
LEFT JOIN orders o ON o.sale = asked.sale AND o.viewer = asked.viewer AND o.key = asked.key
LEFT JOIN holdings h ON h.sale = asked.sale AND h.viewer = asked.viewer AND h.sku = asked.sku
ORDER BY place
"""
_WRITE = """
WITH ins AS (
  INSERT INTO orders (id, sale, sku, viewer, key, quantity, price_minor, amount_minor, status, pay_by, created_at)
  SELECT id, sale, sku, viewer, key, quantity, price_minor, price_minor * quantity, 'confirmed', pay_by, $9
  FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[], $8::timestamptz[])
    AS row (id, sale, sku, viewer, key, quantity, price_minor, pay_by)
  RETURNING sale, sku, viewer, quantity
), held AS (
  INSERT INTO holdings AS h (sale, sku, viewer, units)
  SELECT sale, sku, viewer, sum(quantity) FROM ins GROUP BY sale, sku, viewer
  ON CONFLICT (sale, viewer, sku) DO UPDATE SET units = h.units + excluded.units
)
UPDATE stock SET units_left = stock.units_left - sums.units
FROM (SELECT sale, sku, sum(quantity)::int AS units FROM ins GROUP BY sale, sku) sums
WHERE stock.sale = sums.sale AND stock.sku = sums.sku
"""


class Waiting(NamedTuple):
    """An order in the queue, with the socket it came from."""

    order: Order
    viewer: Viewer


class Offer:
    """One SKU of a sale as the ledger showed it under the lock, counted down while a batch is decided."""

    __slots__ = ("closes_at", "left", "limit", "now", "opens_at", "pay_by", "price_minor", "state")

    def __init__(self, row: asyncpg.Record) -> None:
        self.state: str = row["state"]
        self.opens_at: datetime = row["opens_at"]
        self.closes_at: datetime = row["closes_at"]
        self.now: datetime = row["now"]
        self.pay_by: datetime = self.now + timedelta(seconds=row["pay_within_s"])
        self.price_minor: int = row["price_minor"]
        self.limit: int = row["limit_per_viewer"]
        self.left: int = row["units_left"]

    def refusal(self, order: Order, *, held: int) -> Reply | None:
        """Why this order cannot be had, in the order of Peakgate's questions; None when it can."""
        if self.state == "paused":
            return Reply(id=order.id, outcome="paused")
        if self.state == "closed" or self.now >= self.closes_at:
            return Reply(id=order.id, outcome="ended")
        if self.state == "scheduled" or self.now < self.opens_at:
            return Reply(id=order.id, outcome="not_started")
        amount_minor = self.price_minor * order.quantity
        if order.expect_amount_minor is not None and order.expect_amount_minor != amount_minor:
            return Reply(id=order.id, outcome="price_changed")
        if held + order.quantity > self.limit:
            return Reply(id=order.id, outcome="limit_reached")
        if order.quantity > self.left:
            return Reply(id=order.id, outcome="sold_out", left=self.left)
        return None


class QueueUnnest:
    """Confirms orders batch by batch, one batch at a time."""

    def __init__(self, *, database_url: str, worker: int, guarded: bool) -> None:
        self._url = database_url
        self._ids = OrderIds(worker)
        self._flush = self._flush_guarded if guarded else self._flush_bare
        self._waiting: collections.deque[Waiting] = collections.deque()
        self._arrived = asyncio.Event()
        self._connection: asyncpg.Connection
        self._loop_task: asyncio.Task[None]

    async def start(self) -> None:
        self._connection = await self._connect()
        self._loop_task = asyncio.create_task(self._run())

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(self._url, server_settings=SESSION)

    async def stop(self) -> None:
        self._loop_task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._loop_task
        self._connection.terminate()

    def take(self, order: Order, viewer: Viewer) -> None:
        if len(self._waiting) >= MAX_WAITING:
            viewer.answer(Reply(id=order.id, outcome="overloaded"))
            return
        self._waiting.append(Waiting(order, viewer))
        self._arrived.set()

    async def _run(self) -> None:
        waiting = self._waiting
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while waiting:
                batch = [waiting.popleft() for _ in range(min(len(waiting), MAX_BATCH))]
                for (_, viewer), reply in zip(batch, await self._persist(batch), strict=True):
                    viewer.answer(reply)

    async def _persist(self, batch: list[Waiting]) -> list[Reply]:
        deadline = time.monotonic() + KEEP_TRYING_S
        # The numbers are given once: a batch whose COMMIT was not answered is the same batch when it is repeated.
        ids = [self._ids.next() for _ in batch]
        while True:
            try:
                if self._connection.is_closed():
                    self._connection = await self._connect()
                return await self._flush(batch, ids)
            except CONNECTION_ENDED:
                if time.monotonic() > deadline:
                    return [Reply(id=order.id, outcome="outcome_unknown") for order, _ in batch]
                await asyncio.sleep(PAUSE_BETWEEN_TRIES_S)

    async def _flush_bare(self, batch: list[Waiting], ids: list[int]) -> list[Reply]:
        rows = _columns(batch, ids)
        try:
            written = await self._connection.fetchval(_BARE, *rows)
        except asyncpg.CheckViolationError:
            return await self._decide_bare(batch, ids)
        if written == len(batch):
            return [
                Reply(id=order.id, outcome="confirmed", order=f"ord_{number}")
                for (order, _), number in zip(batch, ids, strict=True)
            ]
        known = await self._find(batch)
        return [
            Reply(id=order.id, outcome="confirmed", order=f"ord_{known[order.sale, viewer.name, order.id]}")
            for order, viewer in batch
        ]

    async def _decide_bare(self, batch: list[Waiting], ids: list[int]) -> list[Reply]:
        """The last units: which orders of the batch still fit, in their order."""
        async with self._connection.transaction():
            offers = {(order.sale, order.sku) for order, _ in batch}
            locked = await self._connection.fetch(_LOCK_STOCK, *zip(*offers, strict=True))
            left = {(row["sale"], row["sku"]): row["units_left"] for row in locked}
            known = await self._find(batch)
            chosen: list[int] = []
            replies: list[Reply] = []
            for place, (order, viewer) in enumerate(batch):
                key = (order.sale, viewer.name, order.id)
                offer = (order.sale, order.sku)
                if key not in known:
                    if left.get(offer, 0) < order.quantity:
                        replies.append(Reply(id=order.id, outcome="sold_out", left=left.get(offer, 0)))
                        continue
                    left[offer] -= order.quantity
                    known[key] = ids[place]
                    chosen.append(place)
                replies.append(Reply(id=order.id, outcome="confirmed", order=f"ord_{known[key]}"))
            if chosen:
                some = _columns([batch[place] for place in chosen], [ids[place] for place in chosen])
                await self._connection.execute(_BARE, *some)
        return replies

    async def _find(self, batch: list[Waiting]) -> dict[tuple[str, str, str], int]:
        sales = [order.sale for order, _ in batch]
        viewers = [viewer.name for _, viewer in batch]
        keys = [order.id for order, _ in batch]
        found = await self._connection.fetch(_FIND, sales, viewers, keys)
        return {(row["sale"], row["viewer"], row["key"]): row["id"] for row in found}

    async def _flush_guarded(self, batch: list[Waiting], ids: list[int]) -> list[Reply]:
        connection = self._connection
        sales = [order.sale for order, _ in batch]
        skus = [order.sku for order, _ in batch]
        viewers = [viewer.name for _, viewer in batch]
        keys = [order.id for order, _ in batch]
        offered = sorted(set(zip(sales, skus, strict=True)))
        async with connection.transaction():
            locked = await connection.fetch(_LOCK_SALES, *zip(*offered, strict=True))
            offers = {(row["sale"], row["sku"]): Offer(row) for row in locked}
            facts = await connection.fetch(_READ, sales, viewers, keys, skus)
            replies, chosen, prices, pay_bys = _decide(batch, ids, offers, facts)
            if chosen:
                columns = _columns([batch[place] for place in chosen], [ids[place] for place in chosen])
                now = next(iter(offers.values())).now
                await connection.execute(_WRITE, *columns, prices, pay_bys, now)
        return replies


def _columns(
    batch: list[Waiting], ids: list[int]
) -> tuple[list[int], list[str], list[str], list[str], list[str], list[int]]:
    return (
        ids,
        [order.sale for order, _ in batch],
        [order.sku for order, _ in batch],
        [viewer.name for _, viewer in batch],
        [order.id for order, _ in batch],
        [order.quantity for order, _ in batch],
    )


def _decide(
    batch: list[Waiting], ids: list[int], offers: dict[tuple[str, str], Offer], facts: list[asyncpg.Record]
) -> tuple[list[Reply], list[int], list[int], list[datetime]]:
    """Answer each order; orders of one batch see each other. Returns also which places of the batch are written."""
    replies: list[Reply] = []
    chosen: list[int] = []
    prices: list[int] = []
    pay_bys: list[datetime] = []
    held: dict[tuple[str, str, str], int] = {}
    given: dict[tuple[str, str, str], Reply] = {}
    for place, ((order, viewer), (first, first_pay_by, units)) in enumerate(zip(batch, facts, strict=True)):
        name = viewer.name
        key = (order.sale, name, order.id)
        if first is not None:
            replies.append(_confirmed(order, first, first_pay_by))
            continue
        if key in given:
            replies.append(given[key])
            continue
        offer = offers.get((order.sale, order.sku))
        if offer is None:
            replies.append(Reply(id=order.id, outcome="not_found"))
            continue
        holder = (order.sale, name, order.sku)
        units = held.get(holder, units)
        refusal = offer.refusal(order, held=units)
        if refusal is not None:
            replies.append(refusal)
            continue
        offer.left -= order.quantity
        held[holder] = units + order.quantity
        reply = given[key] = _confirmed(order, ids[place], offer.pay_by)
        replies.append(reply)
        chosen.append(place)
        prices.append(offer.price_minor)
        pay_bys.append(offer.pay_by)
    return replies, chosen, prices, pay_bys


def _confirmed(order: Order, number: int, pay_by: datetime) -> Reply:
    return Reply(id=order.id, outcome="confirmed", order=f"ord_{number}", pay_by_ms=int(pay_by.timestamp() * 1000))
