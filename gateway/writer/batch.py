"""Entries of the stream folded into steps for the ledger; pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from gateway.domain.batch import OrderColumns
from gateway.domain.ids import IdMint
from gateway.wire.entries import ActEntry, LateEntry, OrdersEntry


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
class ActStep:
    after: int
    last: int
    act: ActEntry


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


Step = OrdersStep | ActStep | LateStep | UnreadableStep | GapStep


def fold(
    entries: Iterable[OrdersEntry | ActEntry | LateEntry | Unreadable],
    *,
    epoch: int,
    after: int,
    most: int,
    mint: IdMint,
) -> Iterator[Step]:
    """Steps of at most `most` orders (one entry more at most), in order; all but orders are steps of their own.

    The cursor may stand inside an entry: a batch that was bisected commits in parts. What it has is left out.
    """
    open_step: OrdersStep | None = None
    for entry in entries:
        if entry.last <= after:
            continue
        first = after + 1 if isinstance(entry, Unreadable) else entry.first
        is_orders = isinstance(entry, OrdersEntry)
        if open_step is not None and (not is_orders or first > after + 1 or len(open_step) >= most):
            yield open_step
            open_step = None
        if first > after + 1:
            yield GapStep(after, first - 1)
            after = first - 1
        match entry:
            case ActEntry():
                yield ActStep(after, entry.last, entry)
            case LateEntry():
                yield LateStep(after, entry.last, entry)
            case Unreadable():
                yield UnreadableStep(after, entry.last, entry)
            case OrdersEntry():
                if open_step is None:
                    open_step = OrdersStep(after, after)
                _add(open_step.orders, entry, epoch, after, mint)
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
