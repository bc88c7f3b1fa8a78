"""Folding the entries behind the cursor onto the ledger, and judging what must be equal; pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from gateway.keeper.audit_ports import AnswerRow, Cut, ItemCut, ItemRow, Pending, RawEntry, SaleRow, ShardRow
from gateway.keeper.audit_report import LISTED, Check, Rule
from gateway.wire.entries import OrdersEntry, decode

LIVE = ("confirmed", "paid")


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
