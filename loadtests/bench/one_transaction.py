"""Rival (a): one transaction an order on a hot stock row.

What it does: a task an order, a pool of 24 connections, and in one transaction the INSERT of the order (unique on sale,
viewer and key, so that a repeat gets the first answer), then the guarded UPDATE of the stock row, then COMMIT. The
UPDATE comes last so that the row everybody wants stays locked only over the commit. Two forms:

* `transaction`: the four statements of the textbook;
* `statement`: UPDATE and INSERT as one statement that commits itself: one round trip.

What it leaves out: purchase limit, window, price, `pay_by`. The pool does not reset sessions between orders.
"""

import asyncpg

from .rivals import OneTaskAnOrder, Order, OrderIds, Reply, connect_pool

POOL_SIZE = 24
"""Between 16 and 32 the figure does not move: one row is the queue, and a longer one in the server only costs locks."""

_INSERT = """
INSERT INTO orders (id, sale, sku, viewer, key, quantity) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (sale, viewer, key) DO NOTHING RETURNING id
"""
_TAKE = "UPDATE stock SET units_left = units_left - $3 WHERE sale = $1 AND sku = $2 AND units_left >= $3 RETURNING 1"
_FIND = "SELECT id FROM orders WHERE sale = $1 AND viewer = $2 AND key = $3"
_BOTH = """
WITH taken AS (
  UPDATE stock SET units_left = units_left - $6
  WHERE sale = $2 AND sku = $3 AND units_left >= $6 RETURNING 1
)
INSERT INTO orders (id, sale, sku, viewer, key, quantity)
SELECT $1, $2, $3, $4, $5, $6 FROM taken RETURNING id
"""


class _SoldOut(Exception):
    """Rolls the transaction back."""


class OneTransaction(OneTaskAnOrder):
    """Confirms an order with its own commit."""

    def __init__(self, *, database_url: str, worker: int, one_statement: bool) -> None:
        super().__init__()
        self._url = database_url
        self._ids = OrderIds(worker)
        self._one_statement = one_statement
        self._pool: asyncpg.Pool

    async def start(self) -> None:
        self._pool = await connect_pool(self._url, size=POOL_SIZE)

    async def stop(self) -> None:
        await self.finish()
        await self._pool.close()

    async def place(self, order: Order, viewer: str) -> Reply:
        row = (self._ids.next(), order.sale, order.sku, viewer, order.id, order.quantity)
        async with self._pool.acquire() as connection:
            if self._one_statement:
                return await self._in_one_statement(connection, order, row)
            return await self._in_a_transaction(connection, order, row)

    async def _in_a_transaction(
        self, connection: asyncpg.pool.PoolConnectionProxy, order: Order, row: tuple[int, str, str, str, str, int]
    ) -> Reply:
        number, sale, sku, viewer, key, quantity = row
        try:
            async with connection.transaction():
                if await connection.fetchval(_INSERT, *row) is None:
                    first = await connection.fetchval(_FIND, sale, viewer, key)
                    return Reply(id=key, outcome="confirmed", order=f"ord_{first}")
                if await connection.fetchval(_TAKE, sale, sku, quantity) is None:
                    raise _SoldOut
        except _SoldOut:
            return Reply(id=key, outcome="sold_out")
        return Reply(id=key, outcome="confirmed", order=f"ord_{number}")

    async def _in_one_statement(
        self, connection: asyncpg.pool.PoolConnectionProxy, order: Order, row: tuple[int, str, str, str, str, int]
    ) -> Reply:
        _, sale, _, viewer, key, _ = row
        try:
            number = await connection.fetchval(_BOTH, *row)
        except asyncpg.UniqueViolationError:
            number = None
        if number is None:
            # Sold out, or this key was answered before: the repeat outranks the empty shelf.
            number = await connection.fetchval(_FIND, sale, viewer, key)
        if number is None:
            return Reply(id=key, outcome="sold_out")
        return Reply(id=key, outcome="confirmed", order=f"ord_{number}")
