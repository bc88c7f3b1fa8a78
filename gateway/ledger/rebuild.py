"""What a rebuild does in the ledger: one rebuilder a shard, the step to the next epoch, the recount on one snapshot."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import structlog

from gateway.domain.coupon import Coupon
from gateway.errors import LedgerUnavailable, RebuildLost
from gateway.ledger.coupons import read_coupon
from gateway.ledger.pool import Ledger, ledger_errors, open_connection
from gateway.ledger.queries import load_queries
from gateway.ledger.shards import LedgerShards

log = structlog.get_logger(__name__)

_QUERIES = load_queries("rebuild.sql")

# An arbitrary number that only rebuilds of shards lock, beside the shard's own.
_LOCK_CLASS = 0x70656B
# A rebuilder that was stopped gives the shard up after this long: the server ends a session that says nothing.
_SILENT_MOST_MS = 3000
_BEAT_EVERY_S = 0.7
_MOVED = "PG003"
# Rows of a stream held at once; a recount of a million orders takes seconds, and one that hangs must still end.
_SLICE = 5_000
_TIMEOUT_S = 300
_SESSION = (
    f"SET LOCAL statement_timeout = '{_TIMEOUT_S}s'; SET LOCAL idle_in_transaction_session_timeout = '30s';"
    " SET LOCAL work_mem = '64MB'"
)


class RecountedSale(NamedTuple):
    sale_no: int
    hold: str
    opens_at_ms: int
    closes_at_ms: int


class RecountedItem(NamedTuple):
    sale_no: int
    item_no: int
    price_minor: int
    limit_per_viewer: int
    stock: int
    left: int
    held: int
    floor_minor: int
    """0: it has none."""
    plan: str
    """As the scripts spell it; empty: it has none."""


class RecountedCoupon(NamedTuple):
    coupon: Coupon
    left: int
    budget_left: int


class EpochBegun(NamedTuple):
    """How the epoch behind `epoch` of a shard came to sell; None where it does not yet."""

    shard: int
    ended_epoch: int
    why: str
    how: str
    last_seq: int
    orders: int | None
    epoch: int
    seconds: float


# Number of the sale or coupon, field, value: a plain row, because there are many.
Field = tuple[int, str, str]


class Recount:
    """The ledger of one shard in one moment. What it releases later has numbers past `outbox_no`."""

    def __init__(self, connection: Any, shard: int, outbox_no: int) -> None:
        self._connection = connection
        self._shard = shard
        self.outbox_no = outbox_no

    async def sales(self) -> list[RecountedSale]:
        with ledger_errors():
            rows = await self._connection.fetch(_QUERIES["sales"], self._shard, timeout=_TIMEOUT_S)
        return [RecountedSale(*row) for row in rows]

    async def items(self, sale_nos: Sequence[int]) -> list[RecountedItem]:
        with ledger_errors():
            rows = await self._connection.fetch(_QUERIES["items"], sale_nos, timeout=_TIMEOUT_S)
        return [RecountedItem(*row) for row in rows]

    async def acts(self, shard: int) -> list[tuple[str, str]]:
        """Keys of hosts' acts that may still be repeated, and what they hold."""
        with ledger_errors():
            rows = await self._connection.fetch(_QUERIES["acts"], shard, timeout=_TIMEOUT_S)
        return [(row[0], row[1]) for row in rows]

    async def coupons(self) -> list[RecountedCoupon]:
        with ledger_errors():
            rows = await self._connection.fetch(_QUERIES["coupons"], self._shard, timeout=_TIMEOUT_S)
        return [RecountedCoupon(read_coupon(row), row["copies_left"], row["budget_left"]) for row in rows]

    def claim_answers(self, coupon_nos: Sequence[int]) -> AsyncIterator[Sequence[Field]]:
        return self._stream("claim_answers", coupon_nos)

    def claim_viewers(self, coupon_nos: Sequence[int]) -> AsyncIterator[Sequence[Field]]:
        return self._stream("claim_viewers", coupon_nos)

    def claims(self, coupon_nos: Sequence[int]) -> AsyncIterator[Sequence[Field]]:
        return self._stream("claims", coupon_nos)

    def answers(self, sale_nos: Sequence[int]) -> AsyncIterator[Sequence[Field]]:
        return self._stream("answers", sale_nos)

    def units(self, sale_nos: Sequence[int]) -> AsyncIterator[Sequence[Field]]:
        return self._stream("units", sale_nos)

    async def _stream(self, query: str, *values: object) -> AsyncIterator[Sequence[Field]]:
        with ledger_errors():
            cursor = await self._connection.cursor(_QUERIES[query], *values)
        while True:
            with ledger_errors():
                rows: Sequence[Field] = await cursor.fetch(_SLICE, timeout=_TIMEOUT_S)
            if not rows:
                return
            yield rows


class LedgerRebuilds(LedgerShards):
    """Every step compares before it changes, so a rebuilder that comes late changes nothing and hears `RebuildLost`."""

    def __init__(self, ledger: Ledger, url: str) -> None:
        super().__init__(ledger)
        self._url = url

    @asynccontextmanager
    async def alone(self, shard: int) -> AsyncIterator[bool]:
        """Whether this is the one rebuilder of the shard, until the end of the block.

        That only saves work: a rebuilder that was stopped for longer than a few seconds has lost it without knowing.
        What keeps two of them apart is the token.
        """
        connection = await open_connection(self._url)
        beating = None
        try:
            with ledger_errors():
                await connection.execute(f"SET idle_session_timeout = {_SILENT_MOST_MS}")
                mine = await connection.fetchval("SELECT pg_try_advisory_lock($1, $2)", _LOCK_CLASS, shard)
            if mine:
                beating = asyncio.create_task(_beat(connection))
            yield bool(mine)
        finally:
            if beating is not None:
                beating.cancel()
                await asyncio.wait([beating])
            connection.terminate()

    async def loaded_sales(self, shard: int) -> list[int]:
        return [row["sale_no"] for row in await self._ledger.fetch(_QUERIES["loaded_sales"], shard)]

    async def loaded_coupons(self, shard: int) -> list[int]:
        return [row["coupon_no"] for row in await self._ledger.fetch(_QUERIES["loaded_coupons"], shard)]

    async def fence(self, shard: int, *, epoch: int, token: int) -> int:
        """The token of a rebuild that begins. From here on none that began before reads the ledger or ends an epoch."""
        fresh: int | None = await self._ledger.fetchval(_QUERIES["fence"], shard, epoch, token)
        if fresh is None:
            raise RebuildLost(f"shard {shard} has been taken over")
        return fresh

    async def next_epoch(
        self, shard: int, *, epoch: int, last_seq: int, token: int, next_epoch: int, run_id: str, why: str, how: str
    ) -> int:
        """The token to go on with. Raises RebuildLost when the cursor does not stand at (epoch, last_seq) any more, or
        another rebuild has begun."""
        try:
            fresh: int = await self._ledger.fetchval(
                "SELECT next_epoch($1::int2, $2, $3, $4, $5, $6, $7, $8)",
                shard,
                epoch,
                last_seq,
                token,
                next_epoch,
                run_id,
                why,
                how,
            )
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, asyncpg.PostgresError) and error.__cause__.sqlstate == _MOVED:
                raise RebuildLost(str(error)) from error
            raise
        return fresh

    async def take_over(self, shard: int, *, epoch: int, token: int, how: str) -> int:
        """A fresh token for an epoch that somebody else began, or that has to be recounted after all."""
        fresh: int | None = await self._ledger.fetchval(_QUERIES["begin_load"], shard, epoch, token, how)
        if fresh is None:
            raise RebuildLost(f"shard {shard} has been taken over")
        return fresh

    @asynccontextmanager
    async def recount(self, shard: int, *, epoch: int, token: int) -> AsyncIterator[Recount]:
        connection = await open_connection(self._url)
        try:
            with ledger_errors():
                transaction = connection.transaction(isolation="repeatable_read", readonly=True)
                await transaction.start()
                await connection.execute(_SESSION)
                outbox_no = await connection.fetchval(_QUERIES["recounted"], shard, epoch, token)
            if outbox_no is None:
                raise RebuildLost(f"shard {shard} has been taken over")
            yield Recount(connection, shard, outbox_no)
        finally:
            connection.terminate()

    async def finish(self, shard: int, *, epoch: int, token: int | None, orders: int | None) -> None:
        """The epoch sells. Without a token: it was found selling."""
        await self._ledger.execute(_QUERIES["finish"], shard, epoch, token, orders)

    async def still_in(self, ended: Sequence[tuple[int, int]]) -> bool:
        """Whether each of these (shard, epoch) still is the shard's epoch."""
        rows = await self._ledger.fetch("SELECT shard, epoch FROM shards")
        return set(ended) <= {(row["shard"], row["epoch"]) for row in rows}

    async def begun(self, ended: Sequence[tuple[int, int]]) -> list[EpochBegun]:
        """Of these (shard, epoch), those behind which another epoch sells."""
        rows = await self._ledger.fetch(_QUERIES["ended"], [at[0] for at in ended], [at[1] for at in ended])
        return [
            EpochBegun(
                row["shard"],
                row["epoch"],
                row["why"],
                row["how"],
                row["last_seq"],
                row["orders"],
                row["now_epoch"],
                row["seconds"] or 0.0,
            )
            for row in rows
            if row["epoch"] is not None
        ]


async def _beat(connection: Any) -> None:
    """Keeps the lock's session from falling silent for as long as this process runs."""
    try:
        while True:
            await asyncio.sleep(_BEAT_EVERY_S)
            await connection.execute("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        log.warning("rebuild_lock_lost", error=str(error))
