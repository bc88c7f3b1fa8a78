"""Answers as HTTP gives them. The objects in them, which events show as well, are in wire/objects.py."""

from collections.abc import Sequence
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from aiohttp import web
from msgspec import Struct

from gateway.domain.order import OrderAnswer, OrderOutcome
from gateway.domain.payment import OwedPayment
from gateway.domain.sale import Item, Sale
from gateway.flows.pay import Paying
from gateway.flows.rooms import RoomReading
from gateway.flows.sales import SaleReading
from gateway.wire.objects import ItemReply as ItemReply
from gateway.wire.objects import LostOrderReply as LostOrderReply
from gateway.wire.objects import OrderReply as OrderReply
from gateway.wire.objects import PaymentReply as PaymentReply
from gateway.wire.objects import RoomReply as RoomReply
from gateway.wire.objects import RoomSaleReply as RoomSaleReply
from gateway.wire.objects import SaleReply as SaleReply
from gateway.wire.objects import instant as instant
from gateway.wire.objects import item_object, optional_instant, pickup_object, sale_object
from gateway.wire.objects import order_reply as order_reply
from gateway.wire.objects import payment_reply as payment_reply
from gateway.wire.objects import room_reply as room_reply
from gateway.wire.objects import shown_reply as shown_reply
from gateway.wire.told import Moment, OrderOutcomeWord

T = TypeVar("T")
_encode: Final = msgspec.json.Encoder().encode

REPLAYED: Final = "Idempotent-Replayed"


class OwedPaymentReply(PaymentReply, kw_only=True, omit_defaults=True):
    """Money to give back, and the order it was told of."""

    cursor: str
    """Opaque: as `after` it asks for what stands behind this payment."""
    order: str
    currency: str | None = None
    """Left out where the payment's own is not known."""


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
    pay_by: Moment | None = None


class OutcomeReply(Struct, kw_only=True, omit_defaults=True):
    outcome: OrderOutcomeWord
    order: OrderReply | LostOrderReply | None = None
    amount_minor: int | None = None
    left: int | None = None
    may_return: bool | None = None
    opens_at: Moment | None = None
    retry_after_ms: int | None = None


class PageReply(Struct, Generic[T], kw_only=True):
    """A page of a list."""

    items: Sequence[T]
    next: str | None
    """The `after` of the next page; null on the last one."""


class LifeReply(Struct, kw_only=True):
    alive: bool


class ReadinessReply(Struct, kw_only=True):
    ready: bool


class NoticeReply(Struct, kw_only=True):
    """What became of a provider's notice; each of these is final."""

    outcome: Literal["taken", "known", "ignored"]


def json_reply(reply: Struct, *, status: int = 200, replayed: bool = False) -> web.Response:
    response = web.Response(body=_encode(reply), status=status, content_type="application/json")
    if replayed:
        response.headers[REPLAYED] = "true"
    return response


def room_reading_reply(reading: RoomReading, *, live_url: str) -> RoomReply:
    return room_reply(reading.room, live_url=live_url, sales=reading.sales, viewers=reading.viewers)


def sale_reply(reading: SaleReading, *, to_staff: bool) -> SaleReply:
    return sale_object(
        reading.sale,
        reading.state,
        to_staff=to_staff,
        counts=reading.counts,
        ledger=reading.ledger,
        now_ms=reading.now_ms,
    )


def item_reply(reading: SaleReading, item: Item, *, to_staff: bool) -> ItemReply:
    return item_object(
        reading.sale,
        item,
        to_staff=to_staff,
        counts=reading.counts,
        ledger=reading.ledger,
        now_ms=reading.now_ms,
    )


def owed_reply(owed: OwedPayment) -> OwedPaymentReply:
    return OwedPaymentReply(
        **msgspec.structs.asdict(payment_reply(owed.payment)),
        cursor=owed.cursor,
        order=owed.order,
        currency=owed.currency,
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
        pay_by=optional_instant(order.pay_by_ms),
    )


def reserved_reply(
    answer: OrderAnswer,
    sale: Sale,
    *,
    sku: str,
    quantity: int,
    ref: str | None,
    meta: Any,
    pickup: bool | str | None = None,
    coupon_claim: str | None = None,
) -> OrderReply:
    """An order that was just reserved, from what is known without asking anybody."""
    return OrderReply(
        order=answer.order or "",
        sale=sale.sale,
        sku=sku,
        quantity=quantity,
        price_minor=answer.price_minor,
        discount_minor=answer.discount_minor,
        amount_minor=answer.amount_minor,
        currency=sale.currency,
        status=OrderOutcome.RESERVED.value,
        created_at=instant(answer.at_ms),
        coupon_claim=coupon_claim,
        ref=ref,
        meta=meta,
        pickup=pickup_object(pickup),
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
