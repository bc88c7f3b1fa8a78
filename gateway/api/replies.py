"""Objects as HTTP shows them: field by field what the contract says, and who sees what."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.domain.order import LOST, Order, OrderAnswer, OrderOutcome
from gateway.domain.payment import OwedPayment, Payment
from gateway.domain.room import Room
from gateway.domain.sale import Item, Sale, SaleState, left_for_viewers
from gateway.flows.pay import Paying
from gateway.flows.rooms import RoomReading
from gateway.flows.sales import SaleReading

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_encode: Final = msgspec.json.Encoder().encode

REPLAYED: Final = "Idempotent-Replayed"


class RoomSaleReply(Struct, kw_only=True):
    """A sale inside its room."""

    sale: str
    title: str
    state: str
    opens_at: str
    closes_at: str


class RoomReply(Struct, kw_only=True, omit_defaults=True):
    room: str
    title: str
    state: str
    created_at: str
    live_url: str
    starts_at: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    stream_url: str | None = None
    notice: str | None = None
    viewers: int | None = None
    """Open connections in all processes; left out while it cannot be read."""
    sales: list[RoomSaleReply] | None = None


class ItemReply(Struct, kw_only=True, omit_defaults=True):
    """Stock, `held`, `paid` and the floor are for staff; `left` or `low` for viewers as the sale displays its stock."""

    sku: str
    title: str
    price_minor: int
    limit_per_viewer: int
    list_price_minor: int | None = None
    floor_minor: int | None = None
    image_url: str | None = None
    stock: int | None = None
    left: int | None = None
    low: bool | None = None
    held: int | None = None
    paid: int | None = None


class SaleReply(Struct, kw_only=True, omit_defaults=True):
    sale: str
    title: str
    state: str
    currency: str
    opens_at: str
    closes_at: str
    pay_within_s: int
    stock_display: str
    created_at: str
    items: list[ItemReply]
    room: str | None = None


class PaymentReply(Struct, kw_only=True, omit_defaults=True):
    """Money told of. `state`: `waiting` (late, and being judged), `applied`, `refund_due` or `refunded`."""

    provider: str
    txn: str
    amount_minor: int
    paid_at: str
    state: str
    reason: str | None = None
    """Why the order could not take it."""


class OwedPaymentReply(PaymentReply, kw_only=True, omit_defaults=True):
    """Money to give back, and the order it was told of."""

    cursor: str
    """Opaque: as `after` it asks for what stands behind this payment."""
    order: str
    currency: str | None = None
    """Left out where the payment's own is not known."""


class OrderReply(Struct, kw_only=True, omit_defaults=True):
    order: str
    sale: str
    sku: str
    quantity: int
    price_minor: int
    discount_minor: int
    amount_minor: int
    currency: str
    status: str
    created_at: str
    reason: str | None = None
    pay_by: str | None = None
    ref: str | None = None
    meta: Any = None
    sub: str | None = None
    """Whose order it is; for staff."""
    payments: list[PaymentReply] | None = None
    """What money was told of; for staff, of one order."""

    # A discount of 0 is said, so it has no default to be left out by.


class LostOrderReply(Struct, kw_only=True, omit_defaults=True):
    """An order that was promised and lost before the ledger had it: what its id says is all that is left of it."""

    order: str
    sale: str
    status: str
    reason: str
    created_at: str
    payments: list[PaymentReply] | None = None
    """What money was told of; for staff."""


class UnknownOrderReply(Struct, kw_only=True):
    """What is known of an order that is none of the shop's, and that money was told of all the same."""

    order: str
    payments: list[PaymentReply]


class PayingReply(Struct, kw_only=True, omit_defaults=True):
    """A payment that runs at a provider: the viewer pays at `url`, until `pay_by`."""

    order: str
    provider: str
    checkout: str
    url: str
    amount_minor: int
    currency: str
    pay_by: str | None = None


class OutcomeReply(Struct, kw_only=True, omit_defaults=True):
    outcome: str
    order: OrderReply | LostOrderReply | None = None
    amount_minor: int | None = None
    left: int | None = None
    may_return: bool | None = None
    opens_at: str | None = None
    retry_after_ms: int | None = None


class PageReply(Struct, kw_only=True):
    items: Sequence[Struct]
    next: str | None


class _Extra(Struct):
    """What the shop sent along with an order."""

    ref: str | None = None
    meta: Any = None


_read_extra: Final = msgspec.json.Decoder(_Extra).decode


def json_reply(reply: Struct, *, status: int = 200, replayed: bool = False) -> web.Response:
    response = web.Response(body=_encode(reply), status=status, content_type="application/json")
    if replayed:
        response.headers[REPLAYED] = "true"
    return response


def instant(at_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds."""
    return (_EPOCH + timedelta(milliseconds=at_ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _instant(at_ms: int | None) -> str | None:
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
        starts_at=_instant(room.starts_at_ms),
        started_at=_instant(room.started_at_ms),
        ended_at=_instant(room.ended_at_ms),
        stream_url=room.stream_url,
        notice=room.notice,
        viewers=viewers,
        sales=None if sales is None else [_sale_in_room(sale, state) for sale, state in sales],
    )


def room_reading_reply(reading: RoomReading, *, live_url: str) -> RoomReply:
    return room_reply(reading.room, live_url=live_url, sales=reading.sales, viewers=reading.viewers)


def _sale_in_room(sale: Sale, state: SaleState) -> RoomSaleReply:
    return RoomSaleReply(
        sale=sale.sale,
        title=sale.title,
        state=state.value,
        opens_at=instant(sale.opens_at_ms),
        closes_at=instant(sale.closes_at_ms),
    )


def sale_reply(reading: SaleReading, *, to_staff: bool) -> SaleReply:
    sale = reading.sale
    return SaleReply(
        sale=sale.sale,
        title=sale.title,
        state=reading.state.value,
        currency=sale.currency,
        opens_at=instant(sale.opens_at_ms),
        closes_at=instant(sale.closes_at_ms),
        pay_within_s=sale.pay_within_s,
        stock_display=sale.stock_display.value,
        created_at=instant(sale.created_at_ms),
        items=[item_reply(reading, item, to_staff=to_staff) for item in sale.items],
        room=sale.room,
    )


def item_reply(reading: SaleReading, item: Item, *, to_staff: bool) -> ItemReply:
    counts = None if reading.counts is None else reading.counts.get(item.item_no)
    reply = ItemReply(
        sku=item.sku,
        title=item.title,
        price_minor=item.price_minor,
        limit_per_viewer=item.limit_per_viewer,
        list_price_minor=item.list_price_minor,
        image_url=item.image_url,
    )
    if not to_staff:
        for name, value in left_for_viewers(reading.sale, counts).items():
            setattr(reply, name, value)
        return reply
    reply.floor_minor = item.floor_minor
    reply.stock = item.stock
    if reading.ledger is not None:
        reply.stock, reply.held, reply.paid = reading.ledger[item.item_no]
    if counts is not None:
        # What Valkey holds is ahead of the ledger by what is reserved and not yet confirmed.
        reply.stock, reply.left, reply.held = counts.stock, counts.left, counts.held
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
    return OrderReply(
        order=order.order,
        sale=sale.sale,
        sku=_sku(sale, order.item_no),
        quantity=order.quantity,
        price_minor=order.price_minor,
        discount_minor=order.discount_minor,
        amount_minor=order.amount_minor,
        currency=sale.currency,
        status=order.status.value,
        created_at=instant(order.created_at_ms),
        reason=order.reason,
        pay_by=_instant(order.pay_by_ms),
        ref=extra.ref,
        meta=extra.meta,
        sub=order.viewer if to_staff else None,
        payments=_payments(payments, to_staff=to_staff),
    )


def _payments(payments: Sequence[Payment], *, to_staff: bool) -> list[PaymentReply] | None:
    return [payment_reply(each) for each in payments] if payments and to_staff else None


def owed_reply(owed: OwedPayment) -> OwedPaymentReply:
    return OwedPaymentReply(
        **msgspec.structs.asdict(payment_reply(owed.payment)),
        cursor=owed.cursor,
        order=owed.order,
        currency=owed.currency,
    )


def payment_reply(payment: Payment) -> PaymentReply:
    return PaymentReply(
        provider=payment.provider,
        txn=payment.txn,
        amount_minor=payment.amount_minor,
        paid_at=instant(payment.paid_at_ms),
        state=payment.state,
        reason=payment.reason,
    )


def paying_reply(paying: Paying) -> PayingReply:
    order = paying.order
    return PayingReply(
        order=order.order,
        provider=paying.provider,
        checkout=paying.checkout,
        url=paying.url,
        amount_minor=order.amount_minor,
        currency=paying.currency,
        pay_by=_instant(order.pay_by_ms),
    )


def reserved_reply(
    answer: OrderAnswer, sale: Sale, *, sku: str, quantity: int, ref: str | None, meta: Any
) -> OrderReply:
    """An order that was just reserved, from what is known without asking anybody."""
    return OrderReply(
        order=answer.order or "",
        sale=sale.sale,
        sku=sku,
        quantity=quantity,
        price_minor=answer.price_minor,
        discount_minor=0,
        amount_minor=answer.amount_minor,
        currency=sale.currency,
        status=OrderOutcome.RESERVED.value,
        created_at=instant(answer.at_ms),
        ref=ref,
        meta=meta,
    )


def outcome_reply(answer: OrderAnswer) -> OutcomeReply:
    """An outcome that holds nothing, with the facts that belong to it."""
    reply = OutcomeReply(outcome=answer.outcome.value)
    match answer.outcome:
        case OrderOutcome.SOLD_OUT:
            reply.left, reply.may_return = answer.left, answer.may_return
        case OrderOutcome.PRICE_CHANGED:
            reply.amount_minor = answer.amount_minor
        case OrderOutcome.NOT_STARTED:
            reply.opens_at = instant(answer.opens_at_ms)
        case OrderOutcome.TOO_FAST:
            reply.retry_after_ms = answer.retry_after_ms
    return reply


def plain(values: Mapping[str, object], *, status: int = 200) -> web.Response:
    return web.Response(body=_encode(values), status=status, content_type="application/json")


def _sku(sale: Sale, item_no: int) -> str:
    return next((item.sku for item in sale.items if item.item_no == item_no), "")
