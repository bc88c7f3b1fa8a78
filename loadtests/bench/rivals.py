"""What every rival is, and the connection to PostgreSQL that two of them share.

A rival takes orders from sockets it does not know and answers each exactly once: `confirmed` only after its row is
committed. `rival_server.py` hosts one.
"""

import asyncio
import itertools
import time
from typing import Any, Protocol

import asyncpg
import msgspec

MAX_WAITING = 20_000
"""Orders a rival holds at once. Beyond it the answer is `overloaded`: an unbounded queue answers nobody in time."""

CONNECTION_ENDED = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InterfaceError,
    # What the driver raises when a connection goes away while a statement is being handed to it.
    asyncpg.InternalClientError,
)
"""Every way in which a session with PostgreSQL ends under the feet of its user."""

SALE = "sale_bench"
SKU = "sku_tin"
PRICE_MINOR = 1900
LIMIT_PER_VIEWER = 1_000_000
PAY_WITHIN_S = 300


class Order(msgspec.Struct, tag_field="t", tag="order", gc=False):
    """The one frame that a rival's viewer sends; the fields are those of Peakgate's own order frame."""

    id: str
    sale: str
    sku: str
    quantity: int
    expect_amount_minor: int | None = None


class Reply(msgspec.Struct, tag_field="t", tag="reply", gc=False, omit_defaults=True):
    """The one frame that a rival answers with."""

    id: str
    outcome: str
    order: str = ""
    pay_by_ms: int = 0
    left: int = -1


class Viewer(Protocol):
    """The socket an order came from, as a rival sees it."""

    name: str

    def answer(self, reply: Reply) -> None: ...


class Rival(Protocol):
    """One way to take orders."""

    async def start(self) -> None: ...

    def take(self, order: Order, viewer: Viewer) -> None:
        """Accept or refuse at once; the answer comes through `viewer.answer`, now or later. Never waits."""

    async def stop(self) -> None: ...


class OrderIds:
    """Order numbers that no two processes and no two runs share: the second of the start, the process, a counter."""

    def __init__(self, worker: int) -> None:
        self._numbers = itertools.count((int(time.time()) << 30) + (worker << 26))

    def next(self) -> int:
        return next(self._numbers)


class OneTaskAnOrder:
    """The part shared by rivals that serve each order in a task of its own, bounded by `MAX_WAITING` tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, order: Order, viewer: Viewer) -> None:
        if len(self._tasks) >= MAX_WAITING:
            viewer.answer(Reply(id=order.id, outcome="overloaded"))
            return
        task = asyncio.get_running_loop().create_task(self._serve(order, viewer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, order: Order, viewer: Viewer) -> None:
        try:
            reply = await self.place(order, viewer.name)
        except (TimeoutError, asyncpg.PostgresError, *CONNECTION_ENDED):
            # The connection ended somewhere between BEGIN and the answer to COMMIT: nobody knows which side won.
            reply = Reply(id=order.id, outcome="outcome_unknown")
        viewer.answer(reply)

    async def place(self, order: Order, viewer: str) -> Reply:
        raise NotImplementedError

    async def finish(self) -> None:
        """Wait for the orders in hand."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)


async def _keep_session(_connection: Any) -> None:
    """asyncpg resets a session each time it goes back to the pool: a round trip an order that these rivals do not
    need, since none of them changes session state."""


async def connect_pool(url: str, *, size: int) -> asyncpg.Pool:
    """A pool whose connections are all open before the first order."""
    return await asyncpg.create_pool(url, min_size=size, max_size=size, reset=_keep_session)


BARE_SCHEMA = """
DROP TABLE IF EXISTS orders, holdings, stock, sales;
CREATE TABLE stock (
  sale text NOT NULL,
  sku text NOT NULL,
  units_left int NOT NULL CHECK (units_left >= 0),
  PRIMARY KEY (sale, sku)
) WITH (fillfactor = 50);
CREATE TABLE orders (
  id bigint PRIMARY KEY,
  sale text NOT NULL,
  sku text NOT NULL,
  viewer text NOT NULL,
  key text NOT NULL,
  quantity int NOT NULL CHECK (quantity > 0),
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (sale, viewer, key)
);
"""
"""Stock that cannot go below zero and one order a (sale, viewer, key): what rivals (a), (b) and the bare (c) keep."""

GUARDED_SCHEMA = """
DROP TABLE IF EXISTS orders, holdings, stock, sales;
CREATE TABLE sales (
  sale text PRIMARY KEY,
  state text NOT NULL CHECK (state IN ('scheduled', 'open', 'paused', 'closed')),
  opens_at timestamptz NOT NULL,
  closes_at timestamptz NOT NULL CHECK (closes_at > opens_at),
  pay_within_s int NOT NULL
);
CREATE TABLE stock (
  sale text NOT NULL REFERENCES sales,
  sku text NOT NULL,
  units_left int NOT NULL CHECK (units_left >= 0),
  price_minor bigint NOT NULL CHECK (price_minor >= 0),
  limit_per_viewer int NOT NULL CHECK (limit_per_viewer > 0),
  PRIMARY KEY (sale, sku)
) WITH (fillfactor = 50);
CREATE TABLE holdings (
  sale text NOT NULL,
  sku text NOT NULL,
  viewer text NOT NULL,
  units int NOT NULL CHECK (units >= 0),
  PRIMARY KEY (sale, viewer, sku)
) WITH (fillfactor = 70);
CREATE TABLE orders (
  id bigint PRIMARY KEY,
  sale text NOT NULL,
  sku text NOT NULL,
  viewer text NOT NULL,
  key text NOT NULL,
  quantity int NOT NULL CHECK (quantity > 0),
  price_minor bigint NOT NULL CHECK (price_minor >= 0),
  amount_minor bigint NOT NULL CHECK (amount_minor = price_minor * quantity),
  status text NOT NULL CHECK (status IN ('confirmed', 'paid', 'expired', 'cancelled', 'refused', 'refunded')),
  pay_by timestamptz NOT NULL,
  created_at timestamptz NOT NULL,
  UNIQUE (sale, viewer, key)
);
"""
"""The same judgements that Peakgate's ledger makes: window, price, limit a viewer and SKU, stock, key, `pay_by`."""


async def prepare_tables(url: str, *, guarded: bool, stock: int) -> None:
    """Empty tables and one open sale with `stock` units of one SKU."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(GUARDED_SCHEMA if guarded else BARE_SCHEMA)
        if guarded:
            await connection.execute(
                "INSERT INTO sales VALUES ($1, 'open', now() - interval '1 minute', now() + interval '1 day', $2)",
                SALE,
                PAY_WITHIN_S,
            )
            await connection.execute(
                "INSERT INTO stock VALUES ($1, $2, $3, $4, $5)", SALE, SKU, stock, PRICE_MINOR, LIMIT_PER_VIEWER
            )
        else:
            await connection.execute("INSERT INTO stock VALUES ($1, $2, $3)", SALE, SKU, stock)
    finally:
        await connection.close()


class Books(msgspec.Struct, kw_only=True):
    """What the tables hold after a run."""

    orders: int
    units: int
    left: int


async def read_books(url: str) -> Books:
    connection = await asyncpg.connect(url)
    try:
        orders = await connection.fetchrow("SELECT count(*) AS orders, coalesce(sum(quantity), 0) AS units FROM orders")
        left = await connection.fetchval("SELECT sum(units_left) FROM stock")
    finally:
        await connection.close()
    return Books(orders=orders["orders"], units=orders["units"], left=int(left))


async def read_keys(url: str) -> set[str]:
    """The idempotency keys of all committed orders."""
    connection = await asyncpg.connect(url)
    try:
        return {row["key"] for row in await connection.fetch("SELECT key FROM orders")}
    finally:
        await connection.close()
