"""Judging one moment of both stores: what must be equal, and what is found where it is not; pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.keeper.audit_fold import Behind, fold
from gateway.keeper.audit_ports import (
    AnswerRow,
    Cut,
    ItemCut,
    ItemRow,
    Listed,
    OutboxRow,
    SaleCut,
    SaleRow,
    ShardRow,
)
from gateway.keeper.audit_report import LISTED, Check, Rule

LIVE = ("confirmed", "paid")
PAYMENT_STATES = ("applied", "waiting", "refund_due", "refunded")


@dataclass(slots=True)
class Finding:
    """What one rule came to."""

    violations: list[str] = field(default_factory=list)
    total: int = 0
    sales: set[int] = field(default_factory=set)
    shards: set[int] = field(default_factory=set)
    """Of violations that are of a shard and of no single sale in it."""
    not_now: str = ""
    unjudged: dict[int, str] = field(default_factory=dict)
    """Sales of which the rule could not be judged, and why."""
    looked_at: str = ""

    def add(self, *texts: str, total: int | None = None, sales: Iterable[int] = (), shards: Iterable[int] = ()) -> None:
        # What Valkey holds need not be text; a report is.
        some = texts[: LISTED - len(self.violations)]
        self.violations += [text.encode("utf-8", "backslashreplace").decode() for text in some]
        self.total += len(texts) if total is None else total
        self.sales.update(sales)
        if texts:
            self.shards.update(shards)

    def check(self, rule: Rule, names: Mapping[int, str]) -> Check:
        """`names` are the ids of sales by their number."""
        if self.total:
            detail = f"{'at least ' if self.not_now else ''}{self.total} broken, such as: {self.violations[0]}"
        elif self.not_now:
            detail = f"not auditable now: {self.not_now}"
        else:
            detail = self.looked_at
        return Check(
            name=rule.value,
            rule=rule.label,
            holds=not (self.total or self.not_now),
            detail=detail,
            broken=self.total,
            violations=self.violations,
            sales=sorted(names[number] for number in self.sales if number in names),
        )


class Findings(defaultdict[Rule, Finding]):
    def __init__(self) -> None:
        super().__init__(Finding)

    def add_listed(self, rules: Iterable[Rule], found: Mapping[str, Listed]) -> None:
        """What a query of the ledger found wrong, by the label of the rule."""
        for rule in rules:
            listed = found.get(rule.label)
            if listed is not None:
                self[rule].add(*listed.texts, total=listed.total, sales=listed.sales)

    def not_now(self, rules: Iterable[Rule], why: str, *, sales: Iterable[int] = ()) -> None:
        unjudged = dict.fromkeys(sales, why)
        for rule in rules:
            self[rule].not_now = why
            self[rule].unjudged.update(unjudged)


@dataclass(slots=True)
class ShardMoment:
    """A shard on the cut, with the sales read in it. `why_not` says what keeps it from being compared."""

    row: ShardRow
    cut: Cut
    behind: Behind
    why_not: str
    untouched: bool = False
    """Nobody has opened it yet, so there is nothing to compare."""
    pending: defaultdict[tuple[int, int], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """What the ledger ended and Valkey may not have been told: units by (sale number, item number) and kind."""
    pending_rows: int = 0
    refused_claims: defaultdict[int, tuple[int, int]] = field(default_factory=lambda: defaultdict(lambda: (0, 0)))
    """Claims that the ledger refused and Valkey may not have been told of: how many and their worth, by coupon."""

    def releasing(self, place: tuple[int, int]) -> int:
        """Units to be sold again."""
        kinds = self.pending[place]
        return kinds["refuse"] + kinds["release"] + kinds["return"]

    def unholding(self, place: tuple[int, int]) -> int:
        """Units not to be held any more."""
        kinds = self.pending[place]
        return kinds["refuse"] + kinds["release"] + kinds["paid"]


@dataclass(slots=True)
class SaleMoment:
    row: SaleRow
    shard: ShardMoment

    @property
    def hot(self) -> SaleCut | None:
        """None when Valkey does not have the sale."""
        return self.shard.cut.sales.get(self.row.sale_no)

    @property
    def should_be_there(self) -> bool:
        """Valkey was given it in this epoch, and it was not retired."""
        return self.row.loaded_epoch == self.shard.row.epoch and not self.row.retired


def shard_moment(row: ShardRow, cut: Cut) -> ShardMoment:
    """Folds one shard. It can be compared when Valkey is at or past the ledger, every entry behind the cursor is there,
    and no release newer than the ledger's snapshot is in Valkey's counters already."""
    why_not = ""
    if row.rebuilding:
        why_not = f"shard {row.shard} is being rebuilt, the ledger is in epoch {row.epoch}"
    elif cut.epoch != row.epoch:
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
    return ShardMoment(row, cut, behind, why_not)


def judge_shard(moment: ShardMoment, later: ShardRow, findings: Findings, *, final: bool) -> None:
    """`later` is the ledger's row after the cut: what it can tell was no violation."""
    row, cut, behind = moment.row, moment.cut, moment.behind

    def broken(rule: Rule, text: str) -> None:
        findings[rule].add(f"shard {row.shard}: {text}", shards=[row.shard])

    if not row.rebuilding and not later.rebuilding and later.epoch == row.epoch:
        if cut.epoch != row.epoch:
            state = "open" if cut.open else "shut"
            broken(Rule.EPOCH, f"epoch {cut.epoch} in Valkey ({state}), {row.epoch} in the ledger")
        elif cut.seq < row.last_seq:
            broken(Rule.AHEAD, f"Valkey stands at {cut.seq}, the ledger at {row.last_seq}")
        elif cut.applied > cut.seq:
            broken(Rule.AHEAD, f"Valkey stands at {cut.seq} and was told of {cut.applied}")
        elif cut.released > later.outbox_no:
            broken(Rule.AHEAD, f"Valkey released up to {cut.released}, the ledger wrote {later.outbox_no}")
    for gap in behind.gaps:
        broken(Rule.STREAM, gap)
    if behind.trimmed:
        broken(Rule.TRIM, behind.trimmed)
    if final and (cut.seq > row.last_seq or moment.pending_rows):
        waits = f"{cut.seq - row.last_seq} sequence numbers and {moment.pending_rows} rows of the outbox wait"
        broken(Rule.DRAINED, waits)


def judge_outbox(moment: ShardMoment, outbox: OutboxRow, findings: Findings) -> None:
    row, cut = moment.row, moment.cut
    if moment.untouched or row.rebuilding or cut.epoch != row.epoch:
        return

    def broken(text: str) -> None:
        findings[Rule.OUTBOX].add(f"shard {row.shard}: {text}", shards=[row.shard])

    if outbox.rows and (outbox.last != row.outbox_no or outbox.rows != outbox.last - outbox.first + 1):
        broken(f"{outbox.rows} rows from {outbox.first} to {outbox.last}, {row.outbox_no} were written")
    forgotten = outbox.first - 1 if outbox.rows else row.outbox_no
    if cut.released < forgotten:
        broken(f"Valkey was told up to {cut.released}, rows up to {forgotten} are gone")


def judge_sale(sale: SaleMoment, findings: Findings) -> None:
    row, hot, behind = sale.row, sale.hot, sale.shard.behind
    if hot is None:
        if sale.should_be_there and not sale.shard.row.rebuilding and sale.shard.cut.epoch == sale.shard.row.epoch:
            findings[Rule.STOCK].add(f"sale {row.sale}: Valkey does not have it", sales=[row.sale_no])
        return
    if sale.shard.why_not:
        return
    opens_at_ms, closes_at_ms = row.opens_at_ms, row.closes_at_ms
    if row.sale_no in behind.windows:
        opens_at_ms, closes_at = behind.windows[row.sale_no]
        closes_at_ms = int(closes_at) if closes_at.isdecimal() else -1
    wanted = (
        behind.holds.get(row.sale_no, row.hold),
        min(opens_at_ms, behind.opened_ms.get(row.sale_no, opens_at_ms)),
        closes_at_ms,
    )
    if (hot.hold, hot.opens_at_ms, hot.closes_at_ms) != wanted:
        findings[Rule.OFFER].add(
            f"sale {row.sale}: {hot.hold} from {hot.opens_at_ms} to {hot.closes_at_ms} in Valkey, {wanted[0]} from"
            f" {wanted[1]} to {wanted[2]} in the ledger and behind its cursor",
            sales=[row.sale_no],
        )


def judge_item(sale: SaleMoment, item: ItemRow, units: Mapping[str, int], findings: Findings) -> None:
    """`units` are those of the item's orders by status, in the ledger."""
    name = f"sale {sale.row.sale} item {item.item_no} ({item.sku})"

    def broken(rule: Rule, text: str) -> None:
        findings[rule].add(f"{name}: {text}", sales=[item.sale_no])

    live = sum(units.get(status, 0) for status in LIVE)
    confirmed, paid = units.get("confirmed", 0), units.get("paid", 0)
    if live > item.stock:
        broken(Rule.WITHIN_STOCK, f"{live} units in live orders, stock {item.stock}")
    if (item.held, item.sold) != (confirmed, paid):
        broken(Rule.COUNTERS, f"held {item.held}, sold {item.sold}; orders have {confirmed} confirmed, {paid} paid")
    if min(item.stock, item.held, item.sold) < 0:
        broken(Rule.NEGATIVE, f"in the ledger stock {item.stock}, held {item.held}, sold {item.sold}")
    if sale.hot is None:
        return
    hot = sale.hot.items.get(item.item_no)
    if hot is None:
        broken(Rule.STOCK, "Valkey does not have it")
        return
    if min(hot.stock, hot.left, hot.held) < 0:
        broken(Rule.NEGATIVE, f"in Valkey stock {hot.stock}, left {hot.left}, held {hot.held}")
    if not sale.shard.why_not:
        for rule, text in _compare_item(sale.shard, item, hot, confirmed=confirmed, live=live):
            broken(rule, text)


def _compare_item(
    shard: ShardMoment, item: ItemRow, hot: ItemCut, *, confirmed: int, live: int
) -> Iterable[tuple[Rule, str]]:
    place = (item.sale_no, item.item_no)
    behind = shard.behind
    stock, waiting, releasing = item.stock + behind.stock[place], behind.units(place), shard.releasing(place)
    if hot.stock != stock:
        yield Rule.STOCK, f"stock {hot.stock} in Valkey, {stock} in the ledger and behind its cursor"
    if stock != hot.left + live + waiting + releasing:
        yield (
            Rule.CONSERVATION,
            f"stock {stock} is not {hot.left} left + {live} live + {waiting} waiting + {releasing} releasing",
        )
    ordered, unholding = behind.ordered[place], shard.unholding(place)
    if hot.held != confirmed + ordered + unholding:
        yield (
            Rule.HELD,
            f"held {hot.held} in Valkey, {confirmed} confirmed + {ordered} waiting + {unholding} of the outbox",
        )
    price = behind.prices.get(place, item.price_minor)
    found = (hot.price, hot.limit, hot.floor, hot.plan)
    wanted = (price, item.limit_per_viewer, item.floor_minor, behind.plans.get(place, item.plan))
    if found != wanted:
        yield (
            Rule.OFFER,
            "price {}, limit {}, floor {}, plan '{}' in Valkey, ".format(*found)
            + "{}, {}, {} and '{}' in the ledger and behind its cursor".format(*wanted),
        )


def judge_money(sale: SaleRow, by_state: Mapping[str, int], paid_orders: int, findings: Findings) -> None:
    """Amounts of a sale's payments by state, against what its paid orders cost."""
    received = sum(by_state.values())
    applied, waiting, due, refunded = (by_state.get(state, 0) for state in PAYMENT_STATES)
    if received != paid_orders + waiting + due + refunded:
        findings[Rule.MONEY].add(
            f"sale {sale.sale}: {received} received ({applied} applied), paid orders cost {paid_orders},"
            f" {waiting} waiting, {due} refund due, {refunded} refunded",
            sales=[sale.sale_no],
        )


def judge_answer(
    found: str | None, orders: Sequence[AnswerRow], behind: str | None, refusing: Collection[tuple[int, int]]
) -> tuple[Rule, str] | None:
    """What Valkey answers by one key against what the key holds in the ledger and behind its cursor; `refusing` are
    the places of orders that still hold the key until Valkey is told."""
    if behind is not None:
        if found == behind:
            return None
        return Rule.ANSWERS, f"{found or 'nothing'} is answered, the stream has {behind}"
    if any(order.answer == found for order in orders):
        return None
    if found is None:
        return (Rule.ANSWERS, f"nothing is answered, the ledger has {orders[0].answer}") if orders else None
    if place_of(found) in refusing:
        return None
    if orders:
        return Rule.ANSWERS, f"{found} is answered, the ledger has {orders[0].answer}"
    return Rule.ANSWERED, f"{found} is answered, there is no such order"


def place_of(answer: str) -> tuple[int, int] | None:
    """(epoch, sequence number) of an answer, None when it cannot be read."""
    parts = answer.split("|")
    if len(parts) not in (5, 6) or not (parts[1].isdecimal() and parts[2].isdecimal()):
        return None
    return int(parts[1]), int(parts[2])
