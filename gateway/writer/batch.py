"""Entries of the stream folded into steps for the ledger; pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.domain.batch import ClaimColumns, ClaimsNamed, OrderColumns
from gateway.domain.ids import IdMint
from gateway.wire.entries import ActEntry, ClaimsEntry, CouponActEntry, Entry, EntryOrder, LateEntry, OrdersEntry


@dataclass(slots=True)
class OrdersStep:
    """Orders `after + 1` to `last`, without a gap; one transaction."""

    after: int
    last: int
    orders: OrderColumns = field(default_factory=OrderColumns)

    def __len__(self) -> int:
        return len(self.orders.seqs)

    def halves(self) -> tuple["OrdersStep", "OrdersStep"]:
        middle = len(self) // 2
        cut = self.orders.seqs[middle - 1]
        return (
            OrdersStep(self.after, cut, self.orders.part(0, middle)),
            OrdersStep(cut, self.last, self.orders.part(middle, len(self))),
        )


@dataclass(slots=True)
class ClaimsStep:
    """Claims `after + 1` to `last`, without a gap; one transaction."""

    after: int
    last: int
    claims: ClaimColumns = field(default_factory=ClaimColumns)

    def __len__(self) -> int:
        return len(self.claims.seqs)

    def halves(self) -> tuple["ClaimsStep", "ClaimsStep"]:
        middle = len(self) // 2
        cut = self.claims.seqs[middle - 1]
        return (
            ClaimsStep(self.after, cut, self.claims.part(0, middle)),
            ClaimsStep(cut, self.last, self.claims.part(middle, len(self))),
        )


@dataclass(slots=True)
class ActStep:
    after: int
    last: int
    act: ActEntry


@dataclass(slots=True)
class CouponActStep:
    after: int
    last: int
    act: CouponActEntry


@dataclass(slots=True)
class LateStep:
    after: int
    last: int
    late: LateEntry


@dataclass(slots=True)
class Unreadable:
    """An entry that is none; `last` is of its id in the stream."""

    last: int
    body: bytes
    error: str


@dataclass(slots=True)
class UnreadableStep:
    after: int
    last: int
    entry: Unreadable


@dataclass(slots=True)
class GapStep:
    """Sequence numbers `after + 1` to `last` are missing, and later ones are there: what they promised is lost."""

    after: int
    last: int


Step = OrdersStep | ClaimsStep | ActStep | CouponActStep | LateStep | UnreadableStep | GapStep


def fold(
    entries: Iterable[Entry | Unreadable],
    *,
    epoch: int,
    after: int,
    most: int,
    mint: IdMint,
) -> Iterator[Step]:
    """Steps of at most `most` orders or claims (one entry more at most), in order; all but these are steps of their
    own.

    The cursor may stand inside an entry: a batch that was bisected commits in parts. What it has is left out.
    """
    open_step: OrdersStep | ClaimsStep | None = None
    for entry in entries:
        if entry.last <= after:
            continue
        first = after + 1 if isinstance(entry, Unreadable) else entry.first
        is_more = isinstance(entry, OrdersEntry if isinstance(open_step, OrdersStep) else ClaimsEntry)
        if open_step is not None and (not is_more or first > after + 1 or len(open_step) >= most):
            yield open_step
            open_step = None
        if first > after + 1:
            yield GapStep(after, first - 1)
            after = first - 1
        match entry:
            case ActEntry():
                yield ActStep(after, entry.last, entry)
            case CouponActEntry():
                yield CouponActStep(after, entry.last, entry)
            case LateEntry():
                yield LateStep(after, entry.last, entry)
            case Unreadable():
                yield UnreadableStep(after, entry.last, entry)
            case OrdersEntry():
                if not isinstance(open_step, OrdersStep):
                    open_step = OrdersStep(after, after)
                _add(open_step.orders, entry, epoch, after, mint)
                open_step.last = entry.last
            case ClaimsEntry():
                if not isinstance(open_step, ClaimsStep):
                    open_step = ClaimsStep(after, after)
                _add_claims(open_step.claims, entry, epoch, after, mint)
                open_step.last = entry.last
        after = entry.last
    if open_step is not None:
        yield open_step


def _add(columns: OrderColumns, entry: OrdersEntry, epoch: int, after: int, mint: IdMint) -> None:
    orders = entry.orders[max(0, after + 1 - entry.first) :]
    count, sale_no, at_ms = len(orders), entry.sale_no, entry.at_ms
    seqs = range(entry.last + 1 - count, entry.last + 1)
    columns.seqs += seqs
    columns.sales += [sale_no] * count
    columns.items += [order.item_no for order in orders]
    columns.order_ids += [mint.order(at_ms, sale_no, epoch, seq) for seq in seqs]
    columns.viewers += [order.viewer for order in orders]
    columns.keys += [order.key for order in orders]
    columns.fingerprints += [order.fingerprint for order in orders]
    columns.quantities += [order.quantity for order in orders]
    columns.prices += [order.price_minor for order in orders]
    columns.at_ms += [at_ms] * count
    columns.extras += [order.extra or None for order in orders]
    if columns.claims is not None or any(order.coupon_no or order.discount_minor for order in orders):
        _add_named(columns, orders)


def _add_named(columns: OrderColumns, orders: list[EntryOrder]) -> None:
    """The claims that the orders at the end of the columns redeem."""
    if columns.claims is None:
        columns.claims = ClaimsNamed()
        for _ in range(len(columns.seqs) - len(orders)):
            columns.claims.add(None, None, None, None)
    for order in orders:
        epoch, seq = order.claim_place if order.coupon_no else (None, None)
        columns.claims.add(order.discount_minor or None, order.coupon_no or None, epoch, seq)


def _add_claims(columns: ClaimColumns, entry: ClaimsEntry, epoch: int, after: int, mint: IdMint) -> None:
    claims = entry.claims[max(0, after + 1 - entry.first) :]
    count, coupon_no, at_ms = len(claims), entry.coupon_no, entry.at_ms
    seqs = range(entry.last + 1 - count, entry.last + 1)
    columns.seqs += seqs
    columns.coupons += [coupon_no] * count
    columns.claims += [mint.claim(at_ms, coupon_no, epoch, seq) for seq in seqs]
    columns.viewers += [claim.viewer for claim in claims]
    columns.keys += [claim.key for claim in claims]
    columns.values += [claim.value_minor for claim in claims]
    columns.at_ms += [at_ms] * count
