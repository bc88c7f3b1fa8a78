"""Addresses of money: a viewer pays, the shop's backend reports, providers tell."""

from collections.abc import Iterable
from typing import Literal

from aiohttp import web

from gateway.api.bodies import page_of, read_body, read_json_bytes, required_key
from gateway.api.callers import Callers
from gateway.api.messages import ReportedPayment, ReportedRefund, instant_ms
from gateway.api.middleware import Audience
from gateway.api.replies import (
    LostOrderReply,
    NoticeReply,
    OrderReply,
    OwedPaymentReply,
    PageReply,
    PayingReply,
    UnknownOrderReply,
    json_reply,
    owed_reply,
    paying_reply,
    payment_reply,
    shown_reply,
)
from gateway.api.routes import Route
from gateway.domain.caller import Caller, Role
from gateway.errors import GatewayError, Invalid, NotFound, OutcomeUnknown, Unauthorized
from gateway.flows.order_people import OrderPeople
from gateway.flows.pay import PayOrder
from gateway.flows.payments import Payments, Reported
from gateway.flows.sale_book import SaleBook
from gateway.metrics import NOTICES
from gateway.payments.notices import HEADERS, MAX_NOTICE_BYTES, NoticeBody, check_signature, read_notice, signature_of


class PaymentRoutes:
    def __init__(
        self,
        *,
        callers: Callers,
        pay: PayOrder,
        payments: Payments,
        people: OrderPeople,
        book: SaleBook,
        max_bytes: int,
    ) -> None:
        self._callers = callers
        self._pay = pay
        self._payments = payments
        self._people = people
        self._book = book
        self._max_bytes = max_bytes

    def routes(self) -> Iterable[Route]:
        reported = {200: OrderReply | LostOrderReply | UnknownOrderReply}
        yield Route(
            "POST",
            "/v1/orders/{order}/pay",
            self.pay,
            Audience.VIEWERS,
            about="Starts the payment of an own order at the shop's provider, or returns the one that runs.",
            gives={200: PayingReply},
            refuses=("conflict", "not_confirmed"),
        )
        yield Route(
            "POST",
            "/v1/orders/{order}/payments",
            self.report_payment,
            Audience.HOSTS,
            about="Reports money that the shop has taken itself; the order is shown with what is known of its money.",
            takes=ReportedPayment,
            gives=reported,
            refuses=("conflict", "amount_mismatch", "not_confirmed"),
            keyed=True,
            roles=(Role.SERVICE,),
        )
        yield Route(
            "POST",
            "/v1/orders/{order}/refunds",
            self.report_refund,
            Audience.HOSTS,
            about="Reports money that the shop has given back.",
            takes=ReportedRefund,
            gives=reported,
            refuses=("conflict", "amount_mismatch", "not_confirmed"),
            keyed=True,
            roles=(Role.SERVICE,),
        )
        yield Route(
            "GET",
            "/v1/payments",
            self.owed,
            Audience.HOSTS,
            about="What the shop is to give back.",
            gives={200: PageReply[OwedPaymentReply]},
            query=("state", "limit", "after"),
            needs=("state",),
            roles=(Role.SERVICE, Role.HOST),
        )
        yield Route(
            "POST",
            "/v1/payments/{shop}/{provider}/webhook",
            self.notice,
            Audience.PROVIDERS,
            about="A provider's signed notice (Standard Webhooks) of a payment or a refund; a repeat changes nothing.",
            takes=NoticeBody,
            gives={200: NoticeReply},
            refuses=("unauthorized", "conflict", "amount_mismatch", "not_confirmed"),
            headers=HEADERS,
        )

    async def pay(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.VIEWER)
        return json_reply(paying_reply(await self._pay.pay(caller, request.match_info["order"])))

    async def report_payment(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.SERVICE)
        key = required_key(request)
        body = await read_body(request, ReportedPayment, max_bytes=self._max_bytes)
        order_id = request.match_info["order"]
        reported = await self._payments.report_payment(
            caller,
            order_id,
            provider=body.provider,
            txn=body.txn,
            amount_minor=body.amount_minor,
            paid_at_ms=instant_ms(body.paid_at, "paid_at"),
            key=key,
        )
        return await self._shown(caller, order_id, reported)

    async def report_refund(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.SERVICE)
        key = required_key(request)
        body = await read_body(request, ReportedRefund, max_bytes=self._max_bytes)
        order_id = request.match_info["order"]
        reported = await self._payments.report_refund(
            caller, order_id, txn=body.txn, amount_minor=body.amount_minor, key=key
        )
        return await self._shown(caller, order_id, reported)

    async def owed(self, request: web.Request) -> web.Response:
        """What the shop is to give back. Other payments are read with their order."""
        caller = await self._callers.of(request, Role.SERVICE, Role.HOST)
        page = page_of(request)
        if request.query.get("state") != "refund_due":
            raise Invalid("Payments are listed by state=refund_due.", param="state")
        owed, next_cursor = await self._payments.owed(caller, limit=page.limit, after=page.after)
        return json_reply(PageReply(items=[owed_reply(each) for each in owed], next=next_cursor))

    async def notice(self, request: web.Request) -> web.Response:
        """Whatever is answered with 2xx is done with; a provider repeats the rest."""
        shop, provider = request.match_info["shop"], request.match_info["provider"]
        try:
            signature = signature_of(request.headers)
            body = await read_json_bytes(request, max_bytes=MAX_NOTICE_BYTES)
            check_signature(body, signature, await self._payments.secrets(shop, provider))
        except Unauthorized:
            NOTICES.labels("forged").inc()
            raise
        try:
            notice = read_notice(body, provider=provider)
        except GatewayError:
            NOTICES.labels("unreadable").inc()
            raise
        outcome: Literal["taken", "known", "ignored"]
        if notice is None:
            outcome = "ignored"
        else:
            outcome = "known" if await self._payments.take_notice(shop, notice) else "taken"
        NOTICES.labels(outcome).inc()
        return json_reply(NoticeReply(outcome=outcome))

    async def _shown(self, caller: Caller, order_id: str, reported: Reported) -> web.Response:
        """The order with what is known of its money."""
        order = reported.order
        if order is None:
            payments = [payment_reply(each) for each in reported.payments]
            return json_reply(UnknownOrderReply(order=order_id, payments=payments), replayed=reported.replayed)
        sale = await self._book.by_no(order.sale_no)
        if sale is None:
            raise OutcomeUnknown from NotFound("There is no such sale.")
        (order,) = await self._people.of([order], to_staff=caller.is_staff)
        return json_reply(
            shown_reply(order, sale, to_staff=caller.is_staff, payments=reported.payments), replayed=reported.replayed
        )
