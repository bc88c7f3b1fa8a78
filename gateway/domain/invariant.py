"""Where every unit of a sale is, between the two stores that count them, and what the audit last said of it; pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from msgspec import Struct

from gateway.domain.sale import ItemCounts


class BrokenRule(Struct, frozen=True):
    """`rule` is its label in metrics and logs; `detail` says what should be, and what was found where that is known."""

    rule: str
    detail: str


class Verdict(Struct, frozen=True, kw_only=True):
    """What the audit said of a sale. `holds` is None where it is not known, and `why_not` says why."""

    holds: bool | None
    audited_at_ms: int | None = None
    """When it began to read."""
    broken: tuple[BrokenRule, ...] = ()
    why_not: str | None = None


class LedgerItem(Struct, frozen=True, array_like=True):
    item_no: int
    sku: str
    stock: int
    held: int
    sold: int


class LedgerMoment(NamedTuple):
    """A sale and its shard at one moment of the ledger."""

    sale: str
    shard: int
    now_ms: int
    epoch: int
    last_seq: int
    outbox_no: int
    rebuilding: bool
    retired: bool
    """Valkey was asked to forget it."""
    items: Sequence[LedgerItem]
    verdict: Verdict


class HotMoment(NamedTuple):
    """A sale and its shard at one moment of Valkey."""

    epoch: int
    seq: int
    released: int
    counts: Mapping[int, ItemCounts] | None
    """By item number; None when Valkey does not have the sale."""


class ItemTerms(NamedTuple):
    """Of one item: stock = left + held + paid + on_the_way."""

    sku: str
    stock: int
    left: int | None
    held: int
    paid: int
    on_the_way: int | None


def are_one_moment(ledger: LedgerMoment, hot: HotMoment) -> bool:
    """Whether Valkey, which was read after the ledger, is at or past it and was told of nothing that the ledger wrote
    since: then all that the one has and the other lacks is on its way."""
    return (
        not ledger.rebuilding
        and hot.epoch == ledger.epoch
        and hot.seq >= ledger.last_seq
        and hot.released <= ledger.outbox_no
    )


def behind(ledger: LedgerMoment, hot: HotMoment | None) -> int | None:
    """How much is on its way in the shard, of this sale and of others: sequence numbers that the ledger has yet to
    apply, and rows of its outbox that Valkey has yet to be told. At 0 every item's `on_the_way` is 0. None where the
    two were not read as of one moment."""
    if ledger.retired:
        return 0
    if hot is None or not are_one_moment(ledger, hot):
        return None
    return hot.seq - ledger.last_seq + ledger.outbox_no - hot.released


def terms_of(ledger: LedgerMoment, hot: HotMoment | None) -> list[ItemTerms]:
    """`stock` and `left` are Valkey's, `held` (confirmed and unpaid) and `paid` the ledger's. What is missing between
    them is on the way: units that Valkey gave to orders (or to late money) that the ledger has yet to apply, and units
    that are free again in the ledger (refused, expired, cancelled, refunded) and that Valkey has yet to be told of.

    Both end: an order becomes held when the writer applied its entry, and a free unit is left when its row of the
    outbox was told. So `on_the_way` is never under 0, and 0 when nothing waits; all else is what the audit calls a
    broken conservation. It is None where the two were not read as of one moment, `left` too where Valkey does not have
    the sale. A sale that left Valkey is the ledger's alone, and nothing of it is on the way."""
    if ledger.retired:
        return [
            ItemTerms(item.sku, item.stock, item.stock - item.held - item.sold, item.held, item.sold, 0)
            for item in ledger.items
        ]
    counts = None if hot is None else hot.counts
    if hot is None or counts is None:
        return [ItemTerms(item.sku, item.stock, None, item.held, item.sold, None) for item in ledger.items]
    sure = are_one_moment(ledger, hot)
    terms = []
    for item in ledger.items:
        count = counts[item.item_no]
        rest = count.stock - count.left - item.held - item.sold
        terms.append(ItemTerms(item.sku, count.stock, count.left, item.held, item.sold, rest if sure else None))
    return terms
