"""What the audit reads of the ledger: every answer of one snapshot is of the same moment. Nothing is written."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from gateway.ledger.pool import ledger_errors, open_connection
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("audit.sql")
# A query over a million orders takes a second or two; an audit that hangs must still end.
_TIMEOUT_S = 120
# Rows of a stream held at once.
_SLICE = 10_000
# Sorting and hashing a million orders in memory instead of on disk; for this one connection.
_SESSION = (
    f"SET LOCAL statement_timeout = '{_TIMEOUT_S}s'; SET LOCAL idle_in_transaction_session_timeout = '60s';"
    " SET LOCAL work_mem = '64MB'"
)


class AuditedShard(NamedTuple):
    shard: int
    epoch: int
    last_seq: int
    outbox_no: int


class AuditedSale(NamedTuple):
    sale_no: int
    sale: str
    shard: int
    closed: bool
    closes_at_ms: int
    loaded_epoch: int | None


class AuditedItem(NamedTuple):
    sale_no: int
    item_no: int
    sku: str
    stock: int
    limit_per_viewer: int
    held: int
    sold: int


class OrderSum(NamedTuple):
    """The orders of one item in one status."""

    sale_no: int
    item_no: int
    status: str
    orders: int
    units: int
    amount_minor: int


class PendingRelease(NamedTuple):
    """A row of the outbox; the fields are spelled as in Valkey's hashes."""

    shard: int
    no: int
    sale_no: int
    item_no: int
    answer_field: str
    units_field: str
    epoch: int
    seq: int
    quantity: int


class Numbers(NamedTuple):
    """The sequence numbers of a shard's epoch: how many there are, how many times they stand there in all."""

    shard: int
    numbers: int
    times: int
    lowest: int
    highest: int


class ParkedEntry(NamedTuple):
    shard: int
    epoch: int
    first_seq: int
    last_seq: int
    reason: str


class Listed(NamedTuple):
    """The first rows of what is wrong, and how many there are in all."""

    texts: Sequence[str]
    total: int


class AuditedAnswer(NamedTuple):
    """An order by its key: what Valkey answers, spelled as it does; `live` when its units are taken."""

    field: str
    answer: str
    live: bool


# Field, line break and value as Valkey should have them, and whether it must; a plain row, because there are many.
Line = tuple[bytes, bool]


class LedgerSnapshot:
    """One moment of the ledger. `shards` is asked first, so that it is the moment before Valkey is read."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def shards(self) -> list[AuditedShard]:
        return [AuditedShard(*row) for row in await self._fetch("shards")]

    async def sales(self, sale: str | None) -> list[AuditedSale]:
        """The one asked for (none when there is no such), or all."""
        return [AuditedSale(*row) for row in await self._fetch("sales", sale)]

    async def pending(self, shards: Collection[int]) -> list[PendingRelease]:
        return [PendingRelease(*row) for row in await self._fetch("pending", list(shards))]

    async def items(self, sales: Collection[int]) -> list[AuditedItem]:
        return [AuditedItem(*row) for row in await self._fetch("items", list(sales))]

    async def sums(self, sales: Collection[int]) -> list[OrderSum]:
        return [OrderSum(*row) for row in await self._fetch("sums", list(sales))]

    async def numbers(self, shards: Collection[int]) -> list[Numbers]:
        return [Numbers(*row) for row in await self._fetch("numbers", list(shards))]

    async def numbers_off(self, shards: Collection[int], *, most: int) -> Listed:
        return _listed(await self._fetch("numbers_off", list(shards), most))

    async def parked(self, shards: Collection[int], *, most: int) -> tuple[list[ParkedEntry], int]:
        """The newest, and how many there are in all."""
        rows = await self._fetch("parked", list(shards), most)
        return [ParkedEntry(*tuple(row)[:5]) for row in rows], rows[0]["total"] if rows else 0

    async def holdings_off(self, sales: Collection[int], *, most: int) -> Listed:
        return _listed(await self._fetch("holdings_off", list(sales), most))

    async def limits_off(self, sales: Collection[int], *, most: int) -> Listed:
        return _listed(await self._fetch("limits_off", list(sales), most))

    async def keys_off(self, sales: Collection[int], *, most: int) -> Listed:
        return _listed(await self._fetch("keys_off", list(sales), most))

    async def amounts_off(self, sales: Collection[int], *, most: int) -> Listed:
        return _listed(await self._fetch("amounts_off", list(sales), most))

    async def prices_off(self, sales: Collection[int], *, most: int) -> Listed:
        return _listed(await self._fetch("prices_off", list(sales), most))

    def answers(self, sale_no: int) -> AsyncIterator[Sequence[Line]]:
        """What Valkey should answer: every order of a sale that was not refused, in slices."""
        return self._stream("answers", sale_no)

    async def answers_named(self, sale_no: int, fields: Sequence[str]) -> list[AuditedAnswer]:
        """Those of the named fields (viewer|key) that an order holds."""
        viewers, keys = _halves(fields)
        return [AuditedAnswer(*row) for row in await self._fetch("answers_named", sale_no, viewers, keys)]

    def units(self, sale_no: int) -> AsyncIterator[Sequence[Line]]:
        """What Valkey should count: every viewer and item with live units, in slices."""
        return self._stream("units", sale_no)

    async def units_named(self, sale_no: int, fields: Sequence[str]) -> Mapping[str, int]:
        """Those of the named fields (viewer|item no) that have live units."""
        viewers, items = _halves(fields)
        # A field that names no item is not one of ours: nothing is held under it.
        numbers = [int(item) if item.isdecimal() and len(item) < 5 else 0 for item in items]
        rows = await self._fetch("units_named", sale_no, viewers, numbers)
        return {row["field"]: row["units"] for row in rows}

    async def _fetch(self, query: str, *values: object) -> list[Any]:
        with ledger_errors():
            rows: list[Any] = await self._connection.fetch(_QUERIES[query], *values, timeout=_TIMEOUT_S)
            return rows

    async def _stream(self, query: str, *values: object) -> AsyncIterator[list[Any]]:
        with ledger_errors():
            cursor = await self._connection.cursor(_QUERIES[query], *values)
        while True:
            with ledger_errors():
                rows = await cursor.fetch(_SLICE, timeout=_TIMEOUT_S)
            if not rows:
                return
            yield rows


class LedgerAudit:
    """Snapshots one after the other over one connection of its own: an audit must not keep orders from the pool."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator["LedgerAudit"]:
        connection = await open_connection(url)
        try:
            yield cls(connection)
        finally:
            connection.terminate()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[LedgerSnapshot]:
        """REPEATABLE READ READ ONLY: its moment is that of the first query."""
        transaction = self._connection.transaction(isolation="repeatable_read", readonly=True)
        with ledger_errors():
            await transaction.start()
        try:
            with ledger_errors():
                await self._connection.execute(_SESSION)
            yield LedgerSnapshot(self._connection)
        finally:
            with ledger_errors():
                await transaction.rollback()


def _listed(rows: Sequence[Any]) -> Listed:
    return Listed([row["text"] for row in rows], rows[0]["total"] if rows else 0)


def _halves(fields: Sequence[str]) -> tuple[list[str], list[str]]:
    """A viewer may contain the separator; a key or an item number never does. What PostgreSQL could not hold as text is
    asked for as something near it, and what is found then is not the field asked for."""
    storable = (field.encode("utf-8", "replace").decode().replace("\0", "?") for field in fields)
    parts = [field.rpartition("|") for field in storable]
    return [part[0] for part in parts], [part[2] for part in parts]
