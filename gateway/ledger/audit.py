"""What the audit reads of the ledger: every answer of one snapshot is of the same moment. Nothing is written."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from gateway.ledger.audit_rows import (
    AuditedAnswer,
    AuditedClaim,
    AuditedCoupon,
    AuditedItem,
    AuditedSale,
    AuditedShard,
    AuditedUnits,
    AuditedViewer,
    Listed,
    MoneySum,
    Numbers,
    OrderSum,
    OutboxSum,
    ParkedEntry,
    PendingClaims,
    PendingSum,
)
from gateway.ledger.coupons import read_coupon
from gateway.ledger.pool import ledger_errors, open_connection
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("audit.sql")
_LISTS = load_queries("audit_lists.sql")
_CLAIMS = load_queries("audit_claims.sql")
# A query over a million orders takes a second or two; an audit that hangs must still end.
_TIMEOUT_S = 120
# Rows of a stream held at once.
_SLICE = 5_000
# Short of the server's patience with a transaction that asks for nothing.
_LONGEST_REST_S = 5.0
# Sorting and hashing a million orders in memory instead of on disk, and on one core; for this one connection.
_SESSION = (
    f"SET LOCAL statement_timeout = '{_TIMEOUT_S}s'; SET LOCAL idle_in_transaction_session_timeout = '60s';"
    " SET LOCAL work_mem = '64MB'; SET LOCAL max_parallel_workers_per_gather = 0"
)
# Queries that go through whole sales. The planner may not know yet how many orders there are: it must not be led by
# that to compare each with each. Ranges of ids are read through the primary key.
_BY_SALE = "SET LOCAL enable_nestloop = off"
_BY_RANGE = f"{_BY_SALE}; SET LOCAL enable_seqscan = off"
_AS_BEFORE = "SET LOCAL enable_nestloop = on; SET LOCAL enable_seqscan = on"

# (shard, epoch) -> number.
Floors = Mapping[tuple[int, int], int]


class LedgerSnapshot:
    """One moment of the ledger. `shards` is asked first, so that it is the moment before Valkey is read. `rest` is
    awaited after each answer."""

    def __init__(self, connection: Any, rest: Callable[[float], Awaitable[None]]) -> None:
        self._connection = connection
        self._rest = rest

    async def shards(self) -> list[AuditedShard]:
        return [AuditedShard(*row) for row in await self._fetch("shards")]

    async def plan(self, sale: str | None, *, running: bool) -> list[tuple[int, int]]:
        """(shard, sale number) of the one asked for (none when there is no such), of all, or of those that Valkey has
        and was not asked to forget."""
        return [(row[0], row[1]) for row in await self._fetch("plan", sale, running)]

    async def sales(self, sales: Collection[int]) -> list[AuditedSale]:
        return [AuditedSale(*row) for row in await self._fetch("sales", list(sales))]

    async def pending(self, after: Collection[tuple[int, int]]) -> list[PendingSum]:
        """What stands in the outboxes of shards behind numbers."""
        shards, numbers = [each[0] for each in after], [each[1] for each in after]
        return [PendingSum(*row) for row in await self._fetch("pending", shards, numbers)]

    async def outbox(self, shards: Collection[int]) -> list[OutboxSum]:
        return [OutboxSum(*row) for row in await self._fetch("outbox", list(shards))]

    async def items(self, sales: Collection[int]) -> list[AuditedItem]:
        return [AuditedItem(*row) for row in await self._fetch("items", list(sales))]

    async def sums(self, sales: Collection[int]) -> list[OrderSum]:
        return [OrderSum(*row) for row in await self._fetch("sums", list(sales))]

    async def money(self, sales: Collection[int], *, of_no_sale: bool) -> list[MoneySum]:
        return [MoneySum(*row) for row in await self._fetch("money", list(sales), of_no_sale)]

    async def numbers(self, shards: Collection[int], floors: Floors | None) -> list[Numbers]:
        """Of all epochs; with floors, (shard, epoch) -> number, only of those epochs and behind those numbers."""
        rows = await self._fetch_whole(_QUERIES["numbers"], list(shards), *_columns(floors))
        return [Numbers(*row) for row in rows]

    async def numbers_off(self, shards: Collection[int], floors: Floors | None, *, most: int) -> Listed:
        return _listed(await self._fetch_whole(_QUERIES["numbers_off"], list(shards), *_columns(floors), most))

    async def parked(self, shards: Collection[int], *, most: int) -> tuple[list[ParkedEntry], int]:
        """The newest, and how many there are in all."""
        rows = await self._fetch("parked", list(shards), most)
        return [ParkedEntry(*tuple(row)[:5]) for row in rows], rows[0]["total"] if rows else 0

    async def off(self, what: str, sales: Collection[int], *, most: int) -> dict[str, Listed]:
        """What a query of `audit_lists.sql` finds wrong, by the name of the rule; nothing is left out."""
        found: defaultdict[str, list[Any]] = defaultdict(list)
        how = _BY_RANGE if what == "deadlines" else _BY_SALE
        for row in await self._fetch_whole(_LISTS[what], list(sales), most, how=how):
            found[row.get("rule", what)].append(row)
        return {rule: _listed(rows) for rule, rows in found.items()}

    def answers(self, sale_no: int) -> AsyncIterator[list[bytes]]:
        """What Valkey should answer: every order of a sale that was not refused, in slices of field, line break and
        value."""
        return self._stream(_QUERIES["answers"], sale_no)

    async def answers_named(self, sale_no: int, fields: Sequence[str]) -> list[AuditedAnswer]:
        """Those of the named fields (viewer|key) that an order holds."""
        return [AuditedAnswer(*row) for row in await self._fetch("answers_named", sale_no, *_halves(fields))]

    async def refusing_named(
        self, sale_no: int, shard: int, released: int, fields: Sequence[str]
    ) -> list[tuple[str, tuple[int, int]]]:
        """Refused orders that hold one of the named fields until Valkey, which was told up to `released`, hears of it:
        the field, and the order's epoch and sequence number."""
        rows = await self._fetch("refusing_named", sale_no, shard, released, *_halves(fields))
        return [(row["field"], (row["epoch"], row["seq"])) for row in rows]

    def units(self, sale_no: int, shard: int, released: int) -> AsyncIterator[list[bytes]]:
        """What Valkey, which was told up to `released`, should count: every viewer and item with units, in slices."""
        return self._stream(_QUERIES["units"], sale_no, shard, released)

    async def units_named(self, sale_no: int, shard: int, released: int, fields: Sequence[str]) -> list[AuditedUnits]:
        """Of the named fields (viewer|item no); what names no item is left out."""
        viewers, items = _halves(fields)
        # A field that names no item is not one of ours: nothing is held under it.
        numbers = [int(item) if item.isdecimal() and len(item) < 5 else 0 for item in items]
        rows = await self._fetch("units_named", sale_no, shard, released, viewers, numbers)
        return [AuditedUnits(*row) for row in rows]

    # Coupons and their claims.

    async def plan_coupons(self, sale: str | None, *, running: bool) -> list[tuple[int, int]]:
        """(shard, coupon number): of the sale's shop, all, or those that Valkey has and was not asked to forget."""
        return [(row[0], row[1]) for row in await self._rows(_CLAIMS["plan"], sale, running)]

    async def coupons(self, coupons: Collection[int]) -> list[AuditedCoupon]:
        return [
            AuditedCoupon(read_coupon(row), *(row[name] for name in AuditedCoupon._fields[1:]))
            for row in await self._fetch_whole(_CLAIMS["coupons"], list(coupons))
        ]

    async def pending_claims(self, after: Collection[tuple[int, int]]) -> list[PendingClaims]:
        """Refused claims in the outboxes of shards behind numbers."""
        shards, numbers = [each[0] for each in after], [each[1] for each in after]
        return [PendingClaims(*row) for row in await self._rows(_CLAIMS["pending"], shards, numbers)]

    async def pending_of(self, coupon_no: int, shard: int, released: int) -> list[tuple[str, str, str, str]]:
        """What Valkey, told up to `released`, is to be told of a coupon's claims: (kind, viewer, key, claim)."""
        rows = await self._rows(_CLAIMS["pending_named"], coupon_no, shard, released)
        return [(row[0], row[1], row[2], row[3]) for row in rows]

    async def off_claims(
        self, what: str, coupons: Collection[int], sales: Collection[int], *, most: int
    ) -> dict[str, Listed]:
        """As `off`, of a query of `audit_claims.sql`."""
        found: defaultdict[str, list[Any]] = defaultdict(list)
        values = (list(coupons), most, list(sales)) if "$3" in _CLAIMS[what] else (list(coupons), most)
        for row in await self._fetch_whole(_CLAIMS[what], *values):
            found[row.get("rule", what)].append(row)
        return {rule: _listed(rows) for rule, rows in found.items()}

    def claim_answers(self, coupon_no: int) -> AsyncIterator[list[bytes]]:
        """What Valkey should answer by key; so too the claims by viewer, and the claims with who redeems them."""
        return self._stream(_CLAIMS["answers"], coupon_no)

    def claim_viewers(self, coupon_no: int) -> AsyncIterator[list[bytes]]:
        return self._stream(_CLAIMS["viewers"], coupon_no)

    def claims(self, coupon_no: int) -> AsyncIterator[list[bytes]]:
        return self._stream(_CLAIMS["claims"], coupon_no)

    async def claim_answers_named(
        self, coupon_no: int, shard: int, released: int, fields: Sequence[str]
    ) -> list[AuditedAnswer]:
        """Those of the named fields (viewer|key) that a claim holds, also a refused one of which Valkey, told up to
        `released`, has not heard."""
        rows = await self._rows(_CLAIMS["answers_named"], coupon_no, shard, released, *_halves(fields))
        return [AuditedAnswer(*row) for row in rows]

    async def claim_viewers_named(
        self, coupon_no: int, shard: int, released: int, viewers: Sequence[str]
    ) -> list[AuditedViewer]:
        named = [_storable(viewer) for viewer in viewers]
        rows = await self._rows(_CLAIMS["viewers_named"], coupon_no, shard, released, named)
        return [AuditedViewer(*row) for row in rows]

    async def claims_named(
        self, coupon_no: int, shard: int, released: int, fields: Sequence[str]
    ) -> list[AuditedClaim]:
        """Of the named claims (epoch|sequence number); what names none is left out."""
        parts = [field.split("|") for field in fields]
        places = [
            part for part in parts if len(part) == 2 and all(each.isdecimal() and len(each) < 10 for each in part)
        ]
        rows = await self._rows(
            _CLAIMS["claims_named"],
            coupon_no,
            shard,
            released,
            [int(epoch) for epoch, _ in places],
            [int(seq) for _, seq in places],
        )
        return [AuditedClaim(*row) for row in rows]

    async def claims_of_orders(self, orders: Collection[tuple[int, str]]) -> list[tuple[int, str, str]]:
        """Of orders (sale number, id) that name a claim: (coupon number, the claim, the order), as Valkey spells
        them."""
        sales, ids = [each[0] for each in orders], [_storable(each[1]) for each in orders]
        return [(row[0], row[1], row[2]) for row in await self._rows(_CLAIMS["claims_of_orders"], sales, ids)]

    async def _fetch(self, query: str, *values: object) -> list[Any]:
        return await self._rows(_QUERIES[query], *values)

    async def _fetch_whole(self, statement: str, *values: object, how: str = _BY_SALE) -> list[Any]:
        with ledger_errors():
            await self._connection.execute(how)
        rows = await self._rows(statement, *values)
        with ledger_errors():
            await self._connection.execute(_AS_BEFORE)
        return rows

    async def _rows(self, statement: str, *values: object) -> list[Any]:
        began_s = monotonic()
        with ledger_errors():
            rows: list[Any] = await self._connection.fetch(statement, *values, timeout=_TIMEOUT_S)
        await self._rest(monotonic() - began_s)
        return rows

    async def _stream(self, statement: str, *values: object) -> AsyncIterator[list[bytes]]:
        with ledger_errors():
            cursor = await self._connection.cursor(statement, *values)
        while True:
            began_s = monotonic()
            with ledger_errors():
                rows = await cursor.fetch(_SLICE, timeout=_TIMEOUT_S)
            if not rows:
                return
            yield [row[0] for row in rows]
            await self._rest(monotonic() - began_s)


class LedgerAudit:
    """Snapshots one after the other over one connection of its own: an audit must not keep orders from the pool. It is
    opened when it is needed, and dropped when something went wrong over it.

    `rest_share` is for how long it rests after each answer, as a share of the time the answer took: 1 leaves half of
    the time to others."""

    def __init__(self, url: str, *, rest_share: float = 0.0) -> None:
        self._url = url
        self._rest_share = rest_share
        self._connection: Any = None

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator["LedgerAudit"]:
        audit = cls(url)
        audit._connection = await open_connection(url)
        try:
            yield audit
        finally:
            audit.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[LedgerSnapshot]:
        """REPEATABLE READ READ ONLY: its moment is that of the first query."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await open_connection(self._url)
        try:
            transaction = self._connection.transaction(isolation="repeatable_read", readonly=True)
            with ledger_errors():
                await transaction.start()
                await self._connection.execute(_SESSION)
            yield LedgerSnapshot(self._connection, self._rest)
            with ledger_errors():
                await transaction.rollback()
        except BaseException:
            # Cancelled or failed in the middle of an answer: what the connection is in is anyone's guess.
            self.close()
            raise

    async def _rest(self, took_s: float) -> None:
        if self._rest_share:
            await asyncio.sleep(min(took_s * self._rest_share, _LONGEST_REST_S))


def _columns(floors: Floors | None) -> tuple[list[int] | None, list[int] | None, list[int] | None]:
    if floors is None:
        return None, None, None
    return [at[0] for at in floors], [at[1] for at in floors], list(floors.values())


def _listed(rows: Sequence[Any]) -> Listed:
    if not rows:
        return Listed([], 0, [])
    return Listed([row["text"] for row in rows], rows[0]["total"], rows[0]["sales"] or [])


def _halves(fields: Sequence[str]) -> tuple[list[str], list[str]]:
    """A viewer may contain the separator; a key or an item number never does. What PostgreSQL could not hold as text is
    asked for as something near it, and what is found then is not the field asked for."""
    parts = [_storable(field).rpartition("|") for field in fields]
    return [part[0] for part in parts], [part[2] for part in parts]


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode().replace("\0", "?")
