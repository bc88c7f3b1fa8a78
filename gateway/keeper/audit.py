"""The audit: whether every invariant holds, from Valkey and PostgreSQL alone, also while a sale runs.

The ledger is read first, in one snapshot with its cursors; then one script a shard reads Valkey's counters together
with the stream entries behind the cursor. What the ledger has plus what these entries say must be what Valkey has,
exactly. Keys and viewers are too many for one moment: they are read in slices, and where a slice differs, the same
names are looked at again in a moment of both stores, so that only what stays different is broken.

Here: reading in this order, folding, judging. Not here: how the stores are read, and what is done about a violation.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import msgspec

from gateway.errors import NotFound
from gateway.metrics import AUDIT_VIOLATIONS
from gateway.wire.entries import OrdersEntry, decode

# Sequence numbers behind the cursor that one cut reads: a writer that keeps up is far below, and more would hold Valkey
# for longer than the script of an order group does.
MOST_BEHIND = 10_000
# Sales whose counters one cut reads; each has at most a thousand fields.
SALES_A_CUT = 16
# How often a cut is taken before it is said that there is none just now, and how often differing names are looked at.
CUTS, LOOKS = 5, 3
PAUSE_S = 0.2
# Names a look asks for at once; the script reads them in one command each.
NAMES_A_LOOK = 500
# Differing names of one sale that are kept for looking again; orders of the seconds that the scan takes are among them.
MOST_SUSPECTS = 100_000
LISTED = 20
# Broken names of one sale after which no further ones are looked at: it is a loss of many, whatever their number.
ENOUGH_BROKEN = 1000

LIVE = ("confirmed", "paid")

_T = TypeVar("_T")


class Rule(StrEnum):
    """What is checked; the number is that of the invariant."""

    WITHIN_STOCK = "1 live orders stay within the stock"
    COUNTERS = "1 held and sold are the sums of the orders"
    CONSERVATION = "1 stock is left, live, waiting and releasing units"
    STOCK = "1 the stock in Valkey is the ledger's"
    HELD = "1 the held units in Valkey are the ledger's"
    NEGATIVE = "1 no counter is negative"
    HOLDINGS = "2 holdings are the sums of the live orders"
    LIMITS = "2 no viewer holds more than the limit"
    UNITS = "2 units by viewer in Valkey are the holdings"
    ANSWERED = "3 every answered key is an order"
    ANSWERS = "3 every live order is answered by its key"
    KEYS = "4 a key holds one order"
    AMOUNTS = "6 amounts are price times quantity less discount"
    PRICES = "6 orders are at the price of their item"
    NUMBERS = "8 every sequence number stands in the ledger once"
    STREAM = "8 the stream behind the cursor has no gap"
    DRAINED = "8 the ledger is at the end of the stream"
    EPOCH = "9 Valkey and the ledger are in one epoch"
    AHEAD = "9 Valkey is not behind the ledger"
    TRIM = "9 the stream is not trimmed past the cursor"


# What can only be judged on a cut of both stores.
_ON_THE_CUT = (Rule.CONSERVATION, Rule.STOCK, Rule.HELD, Rule.STREAM, Rule.TRIM)
_BY_NAME = (Rule.UNITS, Rule.ANSWERED, Rule.ANSWERS)
_OF_SHARDS = (Rule.NUMBERS, Rule.STREAM, Rule.DRAINED, Rule.EPOCH, Rule.AHEAD, Rule.TRIM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`violations` are the first of them. A check that could not be made does not hold and may have none; `detail` says
    why."""

    name: str
    holds: bool
    detail: str
    violations: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Exact numbers of the audited sales on the cut: stock = left + held + sold + waiting + releasing."""

    sales: int
    orders: dict[str, int]
    """By status."""
    units: dict[str, int]
    """By status."""
    stock: int
    left: int
    held: int
    """Units of orders confirmed and not paid."""
    sold: int
    """Units of orders paid."""
    waiting: int
    """Units of orders that stand in the stream behind the cursor."""
    releasing: int
    """Units that the ledger ended and Valkey has yet to be told."""
    backlog: int
    """Sequence numbers behind the cursor, over the audited shards."""
    parked: int
    parked_entries: list[str]
    """The newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    holds: bool
    checks: list[Check]
    figures: Figures

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


# What the audit needs of its neighbours, as they look from here.


class ShardRow(Protocol):
    @property
    def shard(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def outbox_no(self) -> int: ...


class SaleRow(Protocol):
    @property
    def sale_no(self) -> int: ...
    @property
    def sale(self) -> str: ...
    @property
    def shard(self) -> int: ...
    @property
    def closed(self) -> bool: ...
    @property
    def closes_at_ms(self) -> int: ...
    @property
    def loaded_epoch(self) -> int | None: ...


class ItemRow(Protocol):
    @property
    def sale_no(self) -> int: ...
    @property
    def item_no(self) -> int: ...
    @property
    def sku(self) -> str: ...
    @property
    def stock(self) -> int: ...
    @property
    def held(self) -> int: ...
    @property
    def sold(self) -> int: ...


class SumRow(Protocol):
    @property
    def sale_no(self) -> int: ...
    @property
    def item_no(self) -> int: ...
    @property
    def status(self) -> str: ...
    @property
    def orders(self) -> int: ...
    @property
    def units(self) -> int: ...


class Pending(Protocol):
    @property
    def shard(self) -> int: ...
    @property
    def no(self) -> int: ...
    @property
    def sale_no(self) -> int: ...
    @property
    def item_no(self) -> int: ...
    @property
    def answer_field(self) -> str: ...
    @property
    def units_field(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def quantity(self) -> int: ...


class NumbersRow(Protocol):
    @property
    def shard(self) -> int: ...
    @property
    def numbers(self) -> int: ...
    @property
    def times(self) -> int: ...
    @property
    def lowest(self) -> int: ...
    @property
    def highest(self) -> int: ...


class ParkedRow(Protocol):
    @property
    def shard(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def first_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def reason(self) -> str: ...


class Listed(Protocol):
    @property
    def texts(self) -> Sequence[str]: ...
    @property
    def total(self) -> int: ...


class AnswerRow(Protocol):
    @property
    def field(self) -> str: ...
    @property
    def answer(self) -> str: ...
    @property
    def live(self) -> bool: ...


# Field, line break and value as Valkey should have them, and whether it must.
Line = tuple[bytes, bool]


class Snapshot(Protocol):
    """One moment of the ledger, that of `shards`, which is asked first."""

    async def shards(self) -> Sequence[ShardRow]: ...
    async def sales(self, sale: str | None) -> Sequence[SaleRow]: ...
    async def pending(self, shards: Collection[int]) -> Sequence[Pending]: ...
    async def items(self, sales: Collection[int]) -> Sequence[ItemRow]: ...
    async def sums(self, sales: Collection[int]) -> Sequence[SumRow]: ...
    async def numbers(self, shards: Collection[int]) -> Sequence[NumbersRow]: ...
    async def numbers_off(self, shards: Collection[int], *, most: int) -> Listed: ...
    async def parked(self, shards: Collection[int], *, most: int) -> tuple[Sequence[ParkedRow], int]: ...
    async def holdings_off(self, sales: Collection[int], *, most: int) -> Listed: ...
    async def limits_off(self, sales: Collection[int], *, most: int) -> Listed: ...
    async def keys_off(self, sales: Collection[int], *, most: int) -> Listed: ...
    async def amounts_off(self, sales: Collection[int], *, most: int) -> Listed: ...
    async def prices_off(self, sales: Collection[int], *, most: int) -> Listed: ...
    def answers(self, sale_no: int) -> AsyncIterator[Sequence[Line]]: ...
    def units(self, sale_no: int) -> AsyncIterator[Sequence[Line]]: ...
    async def answers_named(self, sale_no: int, fields: Sequence[str]) -> Sequence[AnswerRow]: ...
    async def units_named(self, sale_no: int, fields: Sequence[str]) -> Mapping[str, int]: ...


class Ledger(Protocol):
    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]: ...


class RawEntry(Protocol):
    @property
    def epoch(self) -> int: ...
    @property
    def last(self) -> int: ...
    @property
    def body(self) -> bytes: ...


class ItemCut(Protocol):
    @property
    def stock(self) -> int: ...
    @property
    def left(self) -> int: ...
    @property
    def held(self) -> int: ...


class Cut(Protocol):
    """One moment of a shard in Valkey; `entries` is None when they were not read."""

    @property
    def now_ms(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def applied(self) -> int: ...
    @property
    def released(self) -> int: ...
    @property
    def open(self) -> bool: ...
    @property
    def entries(self) -> Sequence[RawEntry] | None: ...
    @property
    def sales(self) -> Mapping[int, Mapping[int, ItemCut]]: ...
    @property
    def answers(self) -> Mapping[str, str]: ...
    @property
    def units(self) -> Mapping[str, int]: ...


class Hot(Protocol):
    async def cut(
        self,
        shard: int,
        *,
        epoch: int,
        after: int,
        most: int,
        sales: Sequence[int] = (),
        named_sale: int = 0,
        answers: Sequence[str] = (),
        units: Sequence[str] = (),
    ) -> Cut: ...
    def scan_answers(self, shard: int, sale_no: int) -> AsyncIterator[Mapping[bytes, bytes]]: ...
    def scan_units(self, shard: int, sale_no: int) -> AsyncIterator[Mapping[bytes, bytes]]: ...


# Folding and judging; pure.


@dataclass(slots=True)
class Behind:
    """What the entries behind the cursor add to what the ledger has, by sale."""

    units: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Ordered, by (sale number, item number)."""
    stock: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Added by acts, by (sale number, item number)."""
    answers: defaultdict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """By sale number, as in Valkey's hash."""
    viewers: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Units by sale number, as in Valkey's hash."""
    gaps: list[str] = field(default_factory=list)
    trimmed: str = ""


def fold(entries: Iterable[RawEntry], *, epoch: int, after: int, seq: int) -> Behind:
    """The entries from the cursor to the end. One that begins before the cursor counts from there on: a batch that was
    cut in two leaves the cursor inside a group."""
    behind = Behind()
    at = after
    for raw in entries:
        try:
            entry = decode(raw.body)
        except msgspec.MsgspecError as error:
            behind.gaps.append(f"entry {raw.epoch}-{raw.last} cannot be read: {error}")
            at = raw.last
            continue
        if raw.epoch != epoch or entry.last != raw.last:
            behind.gaps.append(f"entry {raw.epoch}-{raw.last} holds sequence numbers {entry.first} to {entry.last}")
        if entry.first > at + 1:
            missing = f"sequence numbers {at + 1} to {entry.first - 1} are missing"
            if at == after:
                behind.trimmed = missing
            else:
                behind.gaps.append(missing)
        elif entry.first < at + 1 and at != after:
            behind.gaps.append(f"sequence numbers {entry.first} to {at} stand there twice")
        at = entry.last
        if isinstance(entry, OrdersEntry):
            _fold_orders(behind, entry, epoch, after)
        elif entry.act == "stock":
            behind.stock[entry.sale_no, entry.item_no] += entry.value
    if at == after < seq:
        behind.trimmed = f"sequence numbers {after + 1} to {seq} are missing"
    elif at != seq:
        behind.gaps.append(f"the entries end at {at}, the shard stands at {seq}")
    return behind


def _fold_orders(behind: Behind, entry: OrdersEntry, epoch: int, after: int) -> None:
    sale_no, answers, viewers = entry.sale_no, behind.answers[entry.sale_no], behind.viewers[entry.sale_no]
    for seq, order in enumerate(entry.orders, entry.first):
        if seq > after:
            behind.units[sale_no, order.item_no] += order.quantity
            viewers[f"{order.viewer}|{order.item_no}"] += order.quantity
            answers[f"{order.viewer}|{order.key}"] = (
                f"{order.fingerprint}|{epoch}|{seq}|{entry.at_ms}|{order.price_minor}"
            )


@dataclass(slots=True)
class Finding:
    """What one rule came to."""

    violations: list[str] = field(default_factory=list)
    total: int = 0
    not_now: str = ""
    looked_at: str = ""

    def add(self, *texts: str, total: int | None = None) -> None:
        # What Valkey holds need not be text; a report is.
        some = texts[: LISTED - len(self.violations)]
        self.violations += [text.encode("utf-8", "backslashreplace").decode() for text in some]
        self.total += len(texts) if total is None else total

    def check(self, rule: Rule) -> Check:
        if self.total:
            detail = f"{'at least ' if self.not_now else ''}{self.total} broken, such as: {self.violations[0]}"
        elif self.not_now:
            detail = f"not auditable now: {self.not_now}"
        else:
            detail = self.looked_at
        return Check(name=rule.value, holds=not (self.total or self.not_now), detail=detail, violations=self.violations)


class Findings(defaultdict[Rule, Finding]):
    def __init__(self) -> None:
        super().__init__(Finding)

    def not_now(self, rules: Iterable[Rule], why: str) -> None:
        for rule in rules:
            self[rule].not_now = why


@dataclass(slots=True)
class ShardMoment:
    """A shard on the cut, with the sales read in it. `why_not` says what keeps it from being compared."""

    row: ShardRow
    cut: Cut
    behind: Behind
    pending: list[Pending]
    why_not: str
    untouched: bool = False
    """Nobody has opened it yet, so there is nothing to compare."""


@dataclass(slots=True)
class SaleMoment:
    row: SaleRow
    shard: ShardMoment

    @property
    def items(self) -> Mapping[int, ItemCut] | None:
        """None when Valkey does not have the sale."""
        return self.shard.cut.sales.get(self.row.sale_no)

    @property
    def should_be_there(self) -> bool:
        """Valkey was given it in this epoch, and it may still sell: only what ended is retired."""
        row = self.row
        return row.loaded_epoch == self.shard.row.epoch and not row.closed and self.shard.cut.now_ms < row.closes_at_ms


def shard_moment(row: ShardRow, cut: Cut, pending: Iterable[Pending]) -> ShardMoment:
    """Folds one shard. It can be compared when Valkey is at or past the ledger, every entry behind the cursor is there,
    and no release newer than the ledger's snapshot is in Valkey's counters already."""
    why_not = ""
    if cut.epoch != row.epoch:
        why_not = f"shard {row.shard} is in epoch {cut.epoch} in Valkey and {row.epoch} in the ledger"
    elif cut.seq < row.last_seq:
        why_not = f"shard {row.shard} is at {cut.seq} in Valkey and {row.last_seq} in the ledger"
    elif cut.released > row.outbox_no:
        why_not = f"shard {row.shard} was released up to {cut.released}, the ledger wrote {row.outbox_no}"
    elif cut.entries is None:
        why_not = f"shard {row.shard}: backlog too large for one cut ({cut.seq - row.last_seq} sequence numbers)"
    behind = Behind()
    if not why_not:
        behind = fold(cut.entries or (), epoch=row.epoch, after=row.last_seq, seq=cut.seq)
        if behind.trimmed or behind.gaps:
            why_not = f"shard {row.shard}: the stream behind the cursor is broken"
    return ShardMoment(row, cut, behind, [p for p in pending if p.shard == row.shard and p.no > cut.released], why_not)


def judge_shard(moment: ShardMoment, findings: Findings, *, final: bool) -> None:
    row, cut, behind = moment.row, moment.cut, moment.behind
    name = f"shard {row.shard}"
    if cut.epoch != row.epoch:
        state = "open" if cut.open else "shut"
        findings[Rule.EPOCH].add(f"{name}: epoch {cut.epoch} in Valkey ({state}), {row.epoch} in the ledger")
    elif cut.seq < row.last_seq:
        findings[Rule.AHEAD].add(f"{name}: Valkey stands at {cut.seq}, the ledger at {row.last_seq}")
    elif cut.applied > cut.seq:
        findings[Rule.AHEAD].add(f"{name}: Valkey stands at {cut.seq} and was told of {cut.applied}")
    elif cut.released > row.outbox_no:
        findings[Rule.AHEAD].add(f"{name}: Valkey released up to {cut.released}, the ledger wrote {row.outbox_no}")
    findings[Rule.STREAM].add(*(f"{name}: {gap}" for gap in behind.gaps))
    if behind.trimmed:
        findings[Rule.TRIM].add(f"{name}: {behind.trimmed}")
    if final and (cut.seq > row.last_seq or moment.pending):
        findings[Rule.DRAINED].add(
            f"{name}: {cut.seq - row.last_seq} sequence numbers and {len(moment.pending)} releases wait"
        )


def judge_item(sale: SaleMoment, item: ItemRow, units: Mapping[str, int], findings: Findings) -> None:
    """`units` are those of the item's orders by status, in the ledger."""
    name = f"sale {sale.row.sale} item {item.item_no} ({item.sku})"
    place = (item.sale_no, item.item_no)
    live = sum(units.get(status, 0) for status in LIVE)
    confirmed, paid = units.get("confirmed", 0), units.get("paid", 0)
    if live > item.stock:
        findings[Rule.WITHIN_STOCK].add(f"{name}: {live} units in live orders, stock {item.stock}")
    if (item.held, item.sold) != (confirmed, paid):
        findings[Rule.COUNTERS].add(
            f"{name}: held {item.held} and sold {item.sold}, orders have {confirmed} confirmed and {paid} paid"
        )
    if min(item.stock, item.held, item.sold) < 0:
        findings[Rule.NEGATIVE].add(f"{name}: in the ledger stock {item.stock}, held {item.held}, sold {item.sold}")
    hot_items = sale.items
    if hot_items is None:
        return
    hot = hot_items.get(item.item_no)
    if hot is None:
        findings[Rule.STOCK].add(f"{name}: Valkey does not have it")
        return
    if min(hot.stock, hot.left, hot.held) < 0:
        findings[Rule.NEGATIVE].add(f"{name}: in Valkey stock {hot.stock}, left {hot.left}, held {hot.held}")
    if sale.shard.why_not:
        return
    stock = item.stock + sale.shard.behind.stock[place]
    waiting = sale.shard.behind.units[place]
    releasing = sum(p.quantity for p in sale.shard.pending if (p.sale_no, p.item_no) == place)
    if hot.stock != stock:
        findings[Rule.STOCK].add(f"{name}: stock {hot.stock} in Valkey, {stock} in the ledger and behind its cursor")
    if stock != hot.left + live + waiting + releasing:
        findings[Rule.CONSERVATION].add(
            f"{name}: stock {stock} is not {hot.left} left + {live} live + {waiting} waiting + {releasing} releasing"
        )
    if hot.held != confirmed + waiting + releasing:
        findings[Rule.HELD].add(
            f"{name}: held {hot.held} in Valkey, {confirmed} confirmed + {waiting} waiting + {releasing} releasing"
        )


def judge_answer(
    found: str | None, orders: Sequence[AnswerRow], behind: str | None, releasing: Collection[tuple[int, int]]
) -> tuple[Rule, str] | None:
    """What Valkey answers by one key against what the key holds in the ledger and behind its cursor; `releasing` are
    the places of orders that still hold the key until Valkey is told."""
    if behind is not None:
        if found == behind:
            return None
        return Rule.ANSWERS, f"{found or 'nothing'} is answered, the stream has {behind}"
    if any(order.answer == found for order in orders):
        return None
    if found is None:
        missing = [order.answer for order in orders if order.live]
        return (Rule.ANSWERS, f"nothing is answered, the ledger has {missing[0]}") if missing else None
    if place_of(found) in releasing:
        return None
    if orders:
        return Rule.ANSWERS, f"{found} is answered, the ledger has {orders[0].answer}"
    return Rule.ANSWERED, f"{found} is answered, there is no such order"


def place_of(answer: str) -> tuple[int, int] | None:
    """(epoch, sequence number) of an answer, None when it cannot be read."""
    parts = answer.split("|")
    if len(parts) != 5 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return None
    return int(parts[1]), int(parts[2])


@dataclass(slots=True)
class Suspects:
    """Names of one sale that differed in a slice."""

    row: SaleRow
    answers: list[str]
    units: list[str]


class Auditor:
    """Judges the sales of a ledger and the shards they are in. Reads only; a run keeps one ledger snapshot open.

    Memory: some 150 bytes an order of the largest sale. Raises NotFound for a sale that is not there, and what
    the stores raise when they are away."""

    def __init__(self, *, ledger: Ledger, hot: Hot, most_behind: int = MOST_BEHIND, pause_s: float = PAUSE_S) -> None:
        self._ledger = ledger
        self._hot = hot
        self._most_behind = most_behind
        self._pause_s = pause_s

    async def run(self, *, sale: str | None = None, final: bool = False) -> AuditReport:
        """One sale with its shard, or all. `final`: nothing is to wait in the stream or the outbox any more."""
        for again in range(CUTS - 1, -1, -1):
            findings = Findings()
            async with self._ledger.snapshot() as snapshot:
                shards, sales = await self._take_cut(snapshot, sale)
                waits = any(each.why_not for each in shards) or (
                    final and any(each.pending or each.cut.seq > each.row.last_seq for each in shards)
                )
                if not waits or again == 0:
                    figures = await self._judge(snapshot, shards, sales, findings, final=final)
                    suspects = [
                        await self._scan(snapshot, each, findings)
                        for each in sales
                        if each.items is not None and not each.shard.why_not
                    ]
                    break
            await asyncio.sleep(self._pause_s)
        for each in suspects:
            await self._look_again(each, findings)
        AUDIT_VIOLATIONS.set(sum(finding.total for finding in findings.values()))
        checks = [findings[rule].check(rule) for rule in Rule if final or rule is not Rule.DRAINED]
        return AuditReport(holds=all(check.holds for check in checks), checks=checks, figures=figures)

    async def _take_cut(self, snapshot: Snapshot, sale: str | None) -> tuple[list[ShardMoment], list[SaleMoment]]:
        """The ledger's cursors, then Valkey: a moment a shard, and for its sales the moment they were read in."""
        rows = {row.shard: row for row in await snapshot.shards()}
        sale_rows = await snapshot.sales(sale)
        if sale is not None:
            if not sale_rows:
                raise NotFound("There is no such sale.", param="sale")
            rows = {row.shard: rows[row.shard] for row in sale_rows}
        pending = await snapshot.pending(rows.keys())
        shards: list[ShardMoment] = []
        sales: list[SaleMoment] = []
        for row in rows.values():
            of_shard = [each for each in sale_rows if each.shard == row.shard]
            for part in _parts(of_shard, SALES_A_CUT) or [[]]:
                cut = await self._hot.cut(
                    row.shard,
                    epoch=row.epoch,
                    after=row.last_seq,
                    most=self._most_behind,
                    sales=[each.sale_no for each in part],
                )
                moment = shard_moment(row, cut, pending)
                known = row.last_seq or row.outbox_no or any(each.loaded_epoch for each in of_shard)
                if cut.epoch == 0 and not known:
                    moment.untouched, moment.why_not = True, ""
                shards.append(moment)
                sales += [SaleMoment(each, moment) for each in part]
        return shards, sales

    async def _judge(
        self,
        snapshot: Snapshot,
        shards: Sequence[ShardMoment],
        sales: Sequence[SaleMoment],
        findings: Findings,
        *,
        final: bool,
    ) -> Figures:
        by_shard = {moment.row.shard: moment for moment in shards}
        for moment in by_shard.values():
            if not moment.untouched:
                judge_shard(moment, findings, final=final)
        for moment in shards:
            if moment.why_not:
                findings.not_now((*_ON_THE_CUT, *_BY_NAME), moment.why_not)
        for each in sales:
            if each.items is None and each.should_be_there:
                findings[Rule.STOCK].add(f"sale {each.row.sale}: Valkey does not have it")
        by_no = {each.row.sale_no: each for each in sales}
        items = await snapshot.items(by_no.keys())
        sums = await snapshot.sums(by_no.keys())
        units: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        for row in sums:
            units[row.sale_no, row.item_no][row.status] += row.units
        for item in items:
            judge_item(by_no[item.sale_no], item, units.pop((item.sale_no, item.item_no), Counter()), findings)
        for (sale_no, item_no), by_status in units.items():
            # Orders of an item that is not there are refused.
            if any(by_status[status] for status in LIVE):
                findings[Rule.COUNTERS].add(f"sale {by_no[sale_no].row.sale}: live orders of an item {item_no}")
        await self._judge_rows(snapshot, list(by_no), findings)
        await self._judge_numbers(snapshot, by_shard, findings)
        parked, parked_in_all = await snapshot.parked(by_shard.keys(), most=LISTED)
        figures = _figures(by_shard.values(), sales, items, sums, parked, parked_in_all)
        orders = sum(figures.orders.values())
        for rule in Rule:
            findings[rule].looked_at = f"{len(sales)} sales, {len(items)} items, {orders} orders"
        for rule in _OF_SHARDS:
            findings[
                rule
            ].looked_at = f"{len(by_shard)} shards, {figures.backlog} behind the cursor, {parked_in_all} parked"
        return figures

    async def _judge_rows(self, snapshot: Snapshot, sales: Collection[int], findings: Findings) -> None:
        for rule, ask in (
            (Rule.HOLDINGS, snapshot.holdings_off),
            (Rule.LIMITS, snapshot.limits_off),
            (Rule.KEYS, snapshot.keys_off),
            (Rule.AMOUNTS, snapshot.amounts_off),
            (Rule.PRICES, snapshot.prices_off),
        ):
            found = await ask(sales, most=LISTED)
            findings[rule].add(*found.texts, total=found.total)

    async def _judge_numbers(self, snapshot: Snapshot, shards: Mapping[int, ShardMoment], findings: Findings) -> None:
        counted = {row.shard: row for row in await snapshot.numbers(shards.keys())}
        off = []
        for shard, moment in shards.items():
            row, end = counted.get(shard), moment.row.last_seq
            whole = end == 0 if row is None else (row.numbers, row.times, row.lowest, row.highest) == (end, end, 1, end)
            if not whole:
                off.append(shard)
        if off:
            found = await snapshot.numbers_off(off, most=LISTED)
            findings[Rule.NUMBERS].add(*found.texts, total=found.total)

    async def _scan(self, snapshot: Snapshot, sale: SaleMoment, findings: Findings) -> Suspects:
        """Names of a sale for which Valkey, read in slices after the cut, is not what the ledger and the entries behind
        its cursor say."""
        shard, sale_no = sale.shard.row.shard, sale.row.sale_no
        behind = sale.shard.behind
        answers = await _differing(
            lambda: snapshot.answers(sale_no),
            self._hot.scan_answers(shard, sale_no),
            instead={_bytes(name): _bytes(answer) for name, answer in behind.answers[sale_no].items()},
            outdated=(),
        )
        more = Counter(behind.viewers[sale_no])
        for release in sale.shard.pending:
            if release.sale_no == sale_no:
                more[release.units_field] += release.quantity
        held = await snapshot.units_named(sale_no, list(more)) if more else {}
        units = await _differing(
            lambda: snapshot.units(sale_no),
            self._hot.scan_units(shard, sale_no),
            instead={_bytes(name): b"%d" % (held.get(name, 0) + count) for name, count in more.items()},
            outdated=[b"%b\n%d" % (_bytes(name), count) for name, count in held.items()],
        )
        if max(len(answers), len(units)) > MOST_SUSPECTS:
            findings.not_now(_BY_NAME, f"sale {sale.row.sale}: more than {MOST_SUSPECTS} names differ")
        return Suspects(sale.row, answers, units)

    async def _look_again(self, suspects: Suspects, findings: Findings) -> None:
        """Judges each differing name in a moment of both stores; broken is what differs in every one of them."""
        for kind in (Suspects(suspects.row, suspects.answers, []), Suspects(suspects.row, [], suspects.units)):
            broken = 0
            for at in range(0, max(len(kind.answers), len(kind.units)), NAMES_A_LOOK):
                part = slice(at, at + NAMES_A_LOOK)
                broken += await self._look(kind.row, kind.answers[part], kind.units[part], findings)
                if broken >= ENOUGH_BROKEN:
                    findings.not_now(_BY_NAME, f"sale {suspects.row.sale}: not looked at all names that differ")
                    break

    async def _look(self, sale: SaleRow, answers: list[str], units: list[str], findings: Findings) -> int:
        """How many of the names are broken."""
        why_not = ""
        broken: dict[str, tuple[Rule, str]] = {}
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(self._pause_s)
            async with self._ledger.snapshot() as snapshot:
                row = next(row for row in await snapshot.shards() if row.shard == sale.shard)
                cut = await self._hot.cut(
                    row.shard,
                    epoch=row.epoch,
                    after=row.last_seq,
                    most=self._most_behind,
                    named_sale=sale.sale_no,
                    answers=answers,
                    units=units,
                )
                moment = shard_moment(row, cut, await snapshot.pending([row.shard]))
                why_not = moment.why_not
                if why_not:
                    continue
                broken = await self._compare_names(snapshot, sale, moment, answers, units)
            answers = [name for name in answers if name in broken]
            units = [name for name in units if name in broken]
            if not broken:
                break
        if why_not:
            findings.not_now(_BY_NAME, why_not)
            return 0
        for name, (rule, text) in broken.items():
            findings[rule].add(f"sale {sale.sale} {name}: {text}")
        return len(broken)

    async def _compare_names(
        self, snapshot: Snapshot, sale: SaleRow, moment: ShardMoment, answers: Sequence[str], units: Sequence[str]
    ) -> dict[str, tuple[Rule, str]]:
        broken: dict[str, tuple[Rule, str]] = {}
        releasing = [p for p in moment.pending if p.sale_no == sale.sale_no]
        cut, behind = moment.cut, moment.behind
        if answers:
            orders = _grouped(await snapshot.answers_named(sale.sale_no, answers), lambda order: order.field)
            places = _grouped(releasing, lambda release: release.answer_field)
            for name in answers:
                found = judge_answer(
                    cut.answers.get(name),
                    orders.get(name, ()),
                    behind.answers[sale.sale_no].get(name),
                    {(release.epoch, release.seq) for release in places.get(name, ())},
                )
                if found:
                    broken[name] = found
        if units:
            held = await snapshot.units_named(sale.sale_no, units)
            quantities = _grouped(releasing, lambda release: release.units_field)
            for name in units:
                waiting = behind.viewers[sale.sale_no][name]
                ending = sum(release.quantity for release in quantities.get(name, ()))
                if cut.units.get(name, 0) != held.get(name, 0) + waiting + ending:
                    broken[name] = (
                        Rule.UNITS,
                        f"{cut.units.get(name, 0)} units in Valkey, {held.get(name, 0)} held + {waiting} waiting"
                        f" + {ending} releasing",
                    )
        return broken


def _figures(
    shards: Iterable[ShardMoment],
    sales: Sequence[SaleMoment],
    items: Sequence[ItemRow],
    sums: Sequence[SumRow],
    parked: Sequence[ParkedRow],
    parked_in_all: int,
) -> Figures:
    orders: Counter[str] = Counter()
    units: Counter[str] = Counter()
    for row in sums:
        orders[row.status] += row.orders
        units[row.status] += row.units
    by_no = {each.row.sale_no: each for each in sales}
    stock = left = waiting = releasing = 0
    for item in items:
        sale = by_no[item.sale_no]
        hot = (sale.items or {}).get(item.item_no)
        # What Valkey does not have sells nothing, so the ledger knows what is left.
        left += item.stock - item.held - item.sold if hot is None else hot.left
        stock += item.stock + sale.shard.behind.stock[item.sale_no, item.item_no]
        waiting += sale.shard.behind.units[item.sale_no, item.item_no]
        releasing += sum(
            p.quantity for p in sale.shard.pending if (p.sale_no, p.item_no) == (item.sale_no, item.item_no)
        )
    return Figures(
        sales=len(sales),
        orders=dict(orders),
        units=dict(units),
        stock=stock,
        left=left,
        held=sum(item.held for item in items),
        sold=sum(item.sold for item in items),
        waiting=waiting,
        releasing=releasing,
        backlog=sum(max(0, moment.cut.seq - moment.row.last_seq) for moment in shards),
        parked=parked_in_all,
        parked_entries=[
            f"shard {row.shard} epoch {row.epoch}: {row.first_seq} to {row.last_seq}: {row.reason}" for row in parked
        ],
    )


async def _differing(
    expected: Callable[[], AsyncIterator[Sequence[Line]]],
    scanned: AsyncIterator[Mapping[bytes, bytes]],
    *,
    instead: Mapping[bytes, bytes],
    outdated: Iterable[bytes],
) -> list[str]:
    """Names that Valkey has otherwise than expected, or lacks; at most one more than `MOST_SUSPECTS`.

    `instead` are fields that the ledger does not have yet, or has as an `outdated` line. Lines are compared by their
    64-bit hash, so that the names of a sale need not all stand in memory."""
    must: set[int] = set()
    may: set[int] = set()
    async for lines in expected():
        must.update([hash(line) for line, live in lines if live])
        may.update([hash(line) for line, live in lines if not live])
    must.difference_update(map(hash, outdated))
    newer = {hash(b"%b\n%b" % (name, value)): name for name, value in instead.items()}
    must.update(newer)
    may |= must

    found: set[bytes] = set()
    async for fields in scanned:
        seen = {hash(b"%b\n%b" % (name, value)): name for name, value in fields.items()}
        must.difference_update(seen)
        if len(found) <= MOST_SUSPECTS:
            found.update(seen[strange] for strange in seen.keys() - may)
    if must:
        found.update(name for key, name in newer.items() if key in must)
        async for lines in expected():
            if len(found) > MOST_SUSPECTS:
                break
            found.update(line.rpartition(b"\n")[0] for line, _ in lines if hash(line) in must)
    names = [name.decode("utf-8", "surrogateescape") for name in found]
    return sorted(names)[: MOST_SUSPECTS + 1]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _parts(rows: Sequence[_T], most: int) -> list[list[_T]]:
    return [list(rows[at : at + most]) for at in range(0, len(rows), most)]


def _grouped(rows: Iterable[_T], key: Callable[[_T], str]) -> dict[str, list[_T]]:
    groups: defaultdict[str, list[_T]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups
