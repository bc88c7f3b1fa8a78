"""Rival (b): one script call and one INSERT an order.

What it does: a task an order; one Lua script call through redis-py decides key replay, purchase limit and stock in
Valkey; then one INSERT that commits itself writes the order; then the viewer is told. When the INSERT fails because the
connection ended it is repeated (harmless: the order's number is the primary key), a few times only.

What it leaves out: window, price, `pay_by`, and any way back for units that the script took and no row shows: after a
longer outage of PostgreSQL they stay taken. The pools are as large as is useful, and nothing resets a session between
orders.
"""

import asyncio

import asyncpg
import redis.asyncio
import redis.exceptions

from .rivals import CONNECTION_ENDED, OneTaskAnOrder, Order, OrderIds, Reply, connect_pool

POOL_SIZE = 24
VALKEY_CONNECTIONS = 32
INSERT_TRIES = 4
PAUSE_BETWEEN_TRIES_S = 0.25

_SCRIPT = """
-- KEYS[1] stock   hash  sku -> units left
-- KEYS[2] limits  hash  viewer:sku -> units
-- KEYS[3] answers hash  viewer:key -> order number
-- ARGV: viewer, sku, quantity, key, order number, limit
local answer = redis.call('HGET', KEYS[3], ARGV[1] .. ':' .. ARGV[4])
if answer then return {'replayed', answer} end
local quantity = tonumber(ARGV[3])
local held = tonumber(redis.call('HGET', KEYS[2], ARGV[1] .. ':' .. ARGV[2]) or '0')
if held + quantity > tonumber(ARGV[6]) then return {'limit_reached', ''} end
local left = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if left < quantity then return {'sold_out', tostring(left)} end
redis.call('HINCRBY', KEYS[1], ARGV[2], -quantity)
redis.call('HINCRBY', KEYS[2], ARGV[1] .. ':' .. ARGV[2], quantity)
redis.call('HSET', KEYS[3], ARGV[1] .. ':' .. ARGV[4], ARGV[5])
return {'reserved', ARGV[5]}
"""

_INSERT = """
INSERT INTO orders (id, sale, sku, viewer, key, quantity) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING
"""


def keys_of(sale: str) -> list[str]:
    return [f"{{bench:{sale}}}:{part}" for part in ("stock", "limits", "answers")]


class ScriptAndInsert(OneTaskAnOrder):
    """Confirms an order with a script call of its own and a commit of its own."""

    def __init__(self, *, database_url: str, valkey_url: str, worker: int, limit_per_viewer: int) -> None:
        super().__init__()
        self._database_url = database_url
        self._valkey_url = valkey_url
        self._ids = OrderIds(worker)
        self._limit = limit_per_viewer
        self._pool: asyncpg.Pool
        self._valkey: redis.asyncio.Redis

    async def start(self) -> None:
        self._pool = await connect_pool(self._database_url, size=POOL_SIZE)
        # The pool that waits: the default one raises as soon as all connections are in use.
        connections = redis.asyncio.BlockingConnectionPool.from_url(
            self._valkey_url, max_connections=VALKEY_CONNECTIONS, timeout=None, decode_responses=True
        )
        self._valkey = redis.asyncio.Redis(connection_pool=connections)
        self._script = self._valkey.register_script(_SCRIPT)

    async def stop(self) -> None:
        await self.finish()
        await self._valkey.aclose()
        await self._pool.close()

    async def place(self, order: Order, viewer: str) -> Reply:
        number = self._ids.next()
        arguments: list[str | int] = [viewer, order.sku, order.quantity, order.id, number, self._limit]
        try:
            outcome, answer = await self._script(keys=keys_of(order.sale), args=arguments)
        except redis.exceptions.RedisError:
            return Reply(id=order.id, outcome="outcome_unknown")
        if outcome == "replayed":
            return Reply(id=order.id, outcome="confirmed", order=f"ord_{answer}")
        if outcome != "reserved":
            return Reply(id=order.id, outcome=outcome)
        await self._insert(number, order, viewer)
        return Reply(id=order.id, outcome="confirmed", order=f"ord_{number}")

    async def _insert(self, number: int, order: Order, viewer: str) -> None:
        for left in reversed(range(INSERT_TRIES)):
            try:
                await self._pool.execute(_INSERT, number, order.sale, order.sku, viewer, order.id, order.quantity)
                return
            except CONNECTION_ENDED:
                if not left:
                    raise
                await asyncio.sleep(PAUSE_BETWEEN_TRIES_S)


async def prepare_valkey(url: str, *, sale: str, sku: str, stock: int) -> None:
    """One sale with `stock` units and no answers."""
    client = redis.asyncio.Redis.from_url(url)
    try:
        stock_key, limits_key, answers_key = keys_of(sale)
        await client.unlink(stock_key, limits_key, answers_key)
        await client.hset(stock_key, mapping={sku: stock})
    finally:
        await client.aclose()


async def forget_valkey(url: str, *, sale: str) -> None:
    client = redis.asyncio.Redis.from_url(url)
    try:
        await client.unlink(*keys_of(sale))
    finally:
        await client.aclose()
