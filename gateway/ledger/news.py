"""What changed and is to be told on: news of orders by shard behind a cursor, and of rooms and sales one by one."""

from collections.abc import Sequence

from gateway import points
from gateway.domain.webhook import Event, EventType, NewsBatch, NewsRow, ObjectNews
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("news.sql")


class LedgerNews:
    """News are handed on exactly once: what is queued and the move of the cursor are one transaction."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # Of orders.

    async def behind(self) -> list[int]:
        """Shards that have news."""
        return [row["shard"] for row in await self._ledger.fetch(_QUERIES["behind"])]

    async def next(self, shard: int, *, orders_most: int) -> NewsBatch | None:
        rows = await self._ledger.fetch(_QUERIES["next"], shard, orders_most)
        if not rows:
            return None
        read = tuple(
            NewsRow(row["no"], row["shop_no"], row["sale_no"], row["status"], row["at_ms"], row["wanted"])
            for row in rows
        )
        return NewsBatch(rows[0]["after"], read[-1].no, read)

    async def decide_first_orders(self, shard: int, batch: NewsBatch) -> int:
        """Of how many viewers it was the first; done again it changes nothing."""
        decided: int = await self._ledger.fetchval(_QUERIES["decide"], shard, batch.after, batch.up_to)
        return decided

    async def orders(self, shard: int, nos: Sequence[int]) -> list[tuple[int, int, str]]:
        """(number of the row, sale number, order id) of the orders of some rows."""
        rows = await self._ledger.fetch(_QUERIES["orders"], shard, nos)
        return [(row["no"], row["sale_no"], row["order_id"]) for row in rows]

    async def hand_on(self, shard: int, batch: NewsBatch, events: Sequence[Event]) -> bool:
        """False, and nothing is queued, when another one was here meanwhile."""
        points.reach("news.commit.before")
        async with self._ledger.transaction() as connection:
            if batch.after == 0:
                await connection.execute(_QUERIES["first_move"], shard)
            if not await connection.fetchval(_QUERIES["move"], shard, batch.after, batch.up_to):
                return False
            if events:
                await connection.execute(_QUERIES["queue"], *_columns(events))
        points.reach("news.commit.after")
        return True

    async def forget(self, shard: int, *, older_than_s: float, most: int) -> int:
        """Drops news that were handed on."""
        return len(await self._ledger.fetch(_QUERIES["forget"], shard, older_than_s, most))

    # Of rooms and sales.

    async def tell_sales(self, now_ms: int) -> int:
        """Notes which sales opened or closed until that time of Valkey's clock, each once."""
        noted: int = await self._ledger.fetchval(_QUERIES["tell_sales"], now_ms)
        return noted

    async def objects(self, *, most: int) -> list[ObjectNews]:
        return [
            ObjectNews(row["no"], row["shop_no"], EventType(row["type"]), row["object_no"], row["at_ms"], row["wanted"])
            for row in await self._ledger.fetch(_QUERIES["objects"], most)
        ]

    async def hand_on_object(self, news: ObjectNews, event: Event | None) -> bool:
        """False when another one did."""
        async with self._ledger.transaction() as connection:
            if not await connection.fetchval(_QUERIES["take_object"], news.no):
                return False
            if event is not None:
                await connection.execute(_QUERIES["queue"], *_columns([event]))
        return True


def _columns(events: Sequence[Event]) -> tuple[list[int], list[str], list[str], list[str], list[str]]:
    return (
        [event.shop_no for event in events],
        [event.type for event in events],
        [event.object for event in events],
        [event.nonce for event in events],
        [event.body for event in events],
    )
