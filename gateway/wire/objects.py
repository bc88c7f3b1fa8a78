"""Rooms, sales and orders as JSON shows them, over HTTP and in outgoing events: field by field what the contract says,
and who sees what."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.domain.order import LOST, Order
from gateway.domain.payment import Payment
from gateway.domain.pickup import Pickup, shown_code
from gateway.domain.room import Room
from gateway.domain.sale import Item, ItemCounts, Sale, SaleState, left_for_viewers
from gateway.wire.told import Moment, OrderStatusWord, PaymentStateWord, RoomStateWord, SaleStateWord, StockDisplayWord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class RoomSaleReply(Struct, kw_only=True):
    """A sale inside its room."""

    sale: str
    title: str
    state: SaleStateWord
    opens_at: Moment
    closes_at: Moment


class RoomReply(Struct, kw_only=True, omit_defaults=True):
    room: str
    title: str
    state: RoomStateWord
    created_at: Moment
    live_url: str
    starts_at: Moment | None = None
    started_at: Moment | None = None
    ended_at: Moment | None = None
    stream_url: str | None = None
    notice: str | None = None
    viewers: int | None = None
    """Open connections in all processes; left out while it cannot be read."""
    bookings: int | None = None
    booked: bool | None = None
    """Whether the viewer who asks has booked; left out once the room has started."""
    sales: list[RoomSaleReply] | None = None


class PriceStepReply(Struct, kw_only=True, rename={"from_": "from"}):
    from_: Moment
    price_minor: int


class ItemReply(Struct, kw_only=True, omit_defaults=True):
    """Stock, `held`, `paid` and the floor are for staff; `left` or `low` for viewers as the sale displays its stock."""

    sku: str
    title: str
    price_minor: int
    limit_per_viewer: int
    list_price_minor: int | None = None
    floor_minor: int | None = None
    image_url: str | None = None
    prices: list[PriceStepReply] | None = None
    """The plan of its price, of which `price_minor` is what is in force now."""
    stock: int | None = None
    left: int | None = None
    low: bool | None = None
    held: int | None = None
    paid: int | None = None


class SaleReply(Struct, kw_only=True, omit_defaults=True):
    sale: str
    title: str
    state: SaleStateWord
    currency: str
    opens_at: Moment
    closes_at: Moment
    pay_within_s: int
    stock_display: StockDisplayWord
    created_at: Moment
    items: list[ItemReply]
    room: str | None = None
    items_left_out: int | None = None
    """In an event that would be too long with them: how many items there are, `items` being empty."""


class PaymentReply(Struct, kw_only=True, omit_defaults=True):
    """Money told of. `state`: `waiting` (late, and being judged), `applied`, `refund_due` or `refunded`."""

    provider: str
    txn: str
    amount_minor: int
    paid_at: Moment
    state: PaymentStateWord
    reason: str | None = None
    """Why the order could not take it."""


class PickupReply(Struct, kw_only=True, omit_defaults=True):
    """An order that is to be collected; the code comes with the payment."""

    place: str | None = None
    code: str | None = None
    redeemed_at: Moment | None = None
    redeemed_by: str | None = None
    """For staff."""


class OrderReply(Struct, kw_only=True, omit_defaults=True):
    order: str
    sale: str
    sku: str
    quantity: int
    price_minor: int
    discount_minor: int
    amount_minor: int
    currency: str
    status: OrderStatusWord
    created_at: Moment
    reason: str | None = None
    pay_by: Moment | None = None
    coupon_claim: str | None = None
    ref: str | None = None
    source: str | None = None
    """What the link of `ref` says; this and the next two are for staff."""
    referrer: str | None = None
    """Never the one who ordered."""
    guide: str | None = None
    meta: Any = None
    pickup: PickupReply | None = None
    sub: str | None = None
    """Whose order it is; for staff."""
    first_order: bool | None = None
    """Whether it is the viewer's first order in the shop; for staff. Decided once, shortly after it was confirmed, and
    left out before."""
    payments: list[PaymentReply] | None = None
    """What money was told of; for staff, of one order."""

    # A discount of 0 is said, so it has no default to be left out by.


class LostOrderReply(Struct, kw_only=True, omit_defaults=True):
    """An order that was promised and lost before the ledger had it: what its id says is all that is left of it."""

    order: str
    sale: str
    status: OrderStatusWord
    reason: str
    created_at: Moment
    payments: list[PaymentReply] | None = None
    """What money was told of; for staff."""


class _Extra(Struct):
    """What the shop sent along with an order."""

    ref: str | None = None
    meta: Any = None
    pickup: bool | str = False


_read_extra: Final = msgspec.json.Decoder(_Extra).decode


def instant(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def optional_instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else instant(at_ms)


def room_reply(
    room: Room,
    *,
    live_url: str,
    sales: Sequence[tuple[Sale, SaleState]] | None = None,
    viewers: int | None = None,
) -> RoomReply:
    """`live_url` holds `{room}` where the room's id goes."""
    return RoomReply(
        room=room.room,
        title=room.title,
        state=room.state.value,
        created_at=instant(room.created_at_ms),
        live_url=live_url.replace("{room}", room.room),
        starts_at=optional_instant(room.starts_at_ms),
        started_at=optional_instant(room.started_at_ms),
        ended_at=optional_instant(room.ended_at_ms),
        stream_url=room.stream_url,
        notice=room.notice,
        viewers=viewers,
        sales=None if sales is None else [_sale_in_room(sale, state) for sale, state in sales],
    )


def _sale_in_room(sale: Sale, state: SaleState) -> RoomSaleReply:
    return RoomSaleReply(
        sale=sale.sale,
        title=sale.title,
        state=state.value,
        opens_at=instant(sale.opens_at_ms),
        closes_at=instant(sale.closes_at_ms),
    )


def sale_object(
    sale: Sale,
    state: SaleState,
    *,
    to_staff: bool,
    counts: Mapping[int, ItemCounts] | None = None,
    ledger: Mapping[int, tuple[int, int, int]] | None = None,
    now_ms: int = 0,
) -> SaleReply:
    """`counts`: by item number, from Valkey. `ledger`: by item number, stock, held and sold; for staff only."""
    return SaleReply(
        sale=sale.sale,
        title=sale.title,
        state=state.value,
        currency=sale.currency,
        opens_at=instant(sale.opens_at_ms),
        closes_at=instant(sale.closes_at_ms),
        pay_within_s=sale.pay_within_s,
        stock_display=sale.stock_display.value,
        created_at=instant(sale.created_at_ms),
        items=[
            item_object(sale, item, to_staff=to_staff, counts=counts, ledger=ledger, now_ms=now_ms)
            for item in sale.items
        ],
        room=sale.room,
    )


def item_object(
    sale: Sale,
    item: Item,
    *,
    to_staff: bool,
    counts: Mapping[int, ItemCounts] | None = None,
    ledger: Mapping[int, tuple[int, int, int]] | None = None,
    now_ms: int = 0,
) -> ItemReply:
    count = None if counts is None else counts.get(item.item_no)
    reply = ItemReply(
        sku=item.sku,
        title=item.title,
        price_minor=item.price_at(now_ms),
        limit_per_viewer=item.limit_per_viewer,
        list_price_minor=item.list_price_minor,
        image_url=item.image_url,
        prices=[PriceStepReply(from_=instant(step.from_ms), price_minor=step.price_minor) for step in item.prices]
        or None,
    )
    if not to_staff:
        for name, value in left_for_viewers(sale, count).items():
            setattr(reply, name, value)
        return reply
    reply.floor_minor = item.floor_minor
    reply.stock = item.stock
    if ledger is not None:
        reply.stock, reply.held, reply.paid = ledger[item.item_no]
    if count is not None:
        # What Valkey holds is ahead of the ledger by what is reserved and not yet confirmed.
        reply.stock, reply.left, reply.held = count.stock, count.left, count.held
    return reply


def shown_reply(
    order: Order, sale: Sale, *, to_staff: bool, payments: Sequence[Payment] = ()
) -> OrderReply | LostOrderReply:
    """An order as whoever asked for it by its id may be told."""
    if order.reason != LOST:
        return order_reply(order, sale, to_staff=to_staff, payments=payments)
    return LostOrderReply(
        order=order.order,
        sale=sale.sale,
        status=order.status.value,
        reason=LOST,
        created_at=instant(order.created_at_ms),
        payments=_payments(payments, to_staff=to_staff),
    )


def order_reply(order: Order, sale: Sale, *, to_staff: bool, payments: Sequence[Payment] = ()) -> OrderReply:
    extra = _read_extra(order.extra) if order.extra else _Extra()
    reply = OrderReply(
        order=order.order,
        sale=sale.sale,
        sku=sku_of(sale, order.item_no),
        quantity=order.quantity,
        price_minor=order.price_minor,
        discount_minor=order.discount_minor,
        amount_minor=order.amount_minor,
        currency=sale.currency,
        status=order.status.value,
        created_at=instant(order.created_at_ms),
        reason=order.reason,
        pay_by=optional_instant(order.pay_by_ms),
        coupon_claim=order.claim,
        ref=extra.ref,
        meta=extra.meta,
        pickup=pickup_object(extra.pickup, order.pickup, to_staff=to_staff),
        sub=order.viewer if to_staff else None,
        first_order=order.first_order if to_staff else None,
        payments=_payments(payments, to_staff=to_staff),
    )
    if to_staff and order.link is not None:
        link = order.link
        reply.source, reply.referrer, reply.guide = link.source, link.referrer_of(order.viewer), link.guide
    return reply


def asks_pickup(order: Order) -> bool:
    return bool(order.extra) and bool(_read_extra(order.extra).pickup)


def pickup_object(
    wish: bool | str | None, pickup: Pickup | None = None, *, to_staff: bool = False
) -> PickupReply | None:
    """`wish`: what the order said, a place or that there is one."""
    if not wish:
        return None
    reply = PickupReply(place=wish if isinstance(wish, str) else None)
    if pickup is not None:
        reply.code = shown_code(pickup.code)
        reply.redeemed_at = optional_instant(pickup.redeemed_at_ms)
        reply.redeemed_by = pickup.redeemed_by if to_staff else None
    return reply


def _payments(payments: Sequence[Payment], *, to_staff: bool) -> list[PaymentReply] | None:
    return [payment_reply(each) for each in payments] if payments and to_staff else None


def payment_reply(payment: Payment) -> PaymentReply:
    return PaymentReply(
        provider=payment.provider,
        txn=payment.txn,
        amount_minor=payment.amount_minor,
        paid_at=instant(payment.paid_at_ms),
        state=payment.state,
        reason=payment.reason,
    )


def sku_of(sale: Sale, item_no: int) -> str:
    return next((item.sku for item in sale.items if item.item_no == item_no), "")
