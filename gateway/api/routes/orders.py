"""Addresses of orders: a viewer places, reads and cancels them, hosts read those of a sale, backends the shop's."""

from collections.abc import Iterable, Sequence

from aiohttp import web

from gateway.api.bodies import ORDER_BYTES, checked_key, page_of, read_body, required_key, wait_s
from gateway.api.callers import Callers
from gateway.api.messages import NewOrder
from gateway.api.middleware import Audience
from gateway.api.replies import (
    LostOrderReply,
    OrderReply,
    OutcomeReply,
    PageReply,
    json_reply,
    outcome_reply,
    reserved_reply,
    shown_reply,
)
from gateway.api.routes import Route
from gateway.domain.caller import Caller, Role
from gateway.domain.ids import OrderId
from gateway.domain.order import Order, OrderAnswer, OrderOutcome, OrderStatus
from gateway.domain.payment import Payment
from gateway.errors import GatewayError, Invalid, NotFound
from gateway.flows.cancel_order import CancelOrder
from gateway.flows.order_people import OrderPeople
from gateway.flows.orders import OrderReader
from gateway.flows.payments import Payments
from gateway.flows.place_order import PlaceOrder
from gateway.flows.sale_book import SaleBook

MAX_WAIT_S = 30  # the contract's
# Requests that only wait for their confirmation; past it a viewer is answered `reserved` at once, which is as true.
_WAITING_MOST = 2000
_STATUSES = frozenset(OrderStatus) - {OrderStatus.RESERVED}


class OrderRoutes:
    def __init__(
        self,
        *,
        callers: Callers,
        orders: PlaceOrder,
        reader: OrderReader,
        cancelling: CancelOrder,
        payments: Payments,
        people: OrderPeople,
        book: SaleBook,
    ) -> None:
        self._callers = callers
        self._orders = orders
        self._people = people
        self._reader = reader
        self._cancelling = cancelling
        self._payments = payments
        self._book = book
        self._waiting = 0

    def routes(self) -> Iterable[Route]:
        order = {200: OrderReply | LostOrderReply}
        yield Route(
            "POST",
            "/v1/orders",
            self.place,
            Audience.VIEWERS,
            about="Asks for units: 201 holds them, 200 says why not. `Prefer: wait=N` answers once it is confirmed.",
            takes=NewOrder,
            gives={201: OutcomeReply, 200: OutcomeReply},
            refuses=("not_found",),
            keyed=True,
            headers=("Prefer",),
        )
        yield Route(
            "GET",
            "/v1/orders",
            self.listed,
            Audience.ANY,
            about="A viewer's own orders, newest first; for the shop's backend all of the shop, oldest first.",
            gives={200: PageReply[OrderReply | LostOrderReply]},
            query=("limit", "after"),
            roles=(Role.VIEWER, Role.SERVICE),
        )
        yield Route(
            "GET",
            "/v1/orders/by-key/{key}",
            self.by_key,
            Audience.VIEWERS,
            about="The order that an idempotency key holds; 404: nothing yet, so repeat with it.",
            gives=order,
            refuses=("bad_request",),
            query=("sale",),
            needs=("sale",),
        )
        yield Route(
            "GET",
            "/v1/orders/{order}",
            self.by_id,
            Audience.ANY,
            about="An order: a viewer's own; for staff any of the shop, with `sub` and `payments`.",
            gives=order,
        )
        yield Route(
            "POST",
            "/v1/orders/{order}/cancel",
            self.cancel,
            Audience.VIEWERS,
            about="Gives an own, confirmed and unpaid order back.",
            gives=order,
            refuses=("conflict", "not_confirmed"),
        )
        yield Route(
            "GET",
            "/v1/sales/{sale}/orders",
            self.of_sale,
            Audience.HOSTS,
            about="The orders of a sale, oldest first.",
            gives={200: PageReply[OrderReply | LostOrderReply]},
            query=("status", "limit", "after"),
        )

    async def place(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.VIEWER)
        key = required_key(request)
        body = await read_body(request, NewOrder, max_bytes=ORDER_BYTES)
        answer = await self._orders.ask(
            caller,
            sale=body.sale,
            sku=body.sku,
            quantity=body.quantity,
            key=key,
            expect_amount_minor=body.expect_amount_minor,
            coupon_claim=body.coupon_claim,
            ref=body.ref,
            meta=body.meta,
            pickup=body.pickup,
        )
        if answer.order is None:
            return json_reply(outcome_reply(answer))
        order = await self._placed(caller, body, answer)
        wait = wait_s(request, most_s=MAX_WAIT_S)
        if wait and order.status == OrderStatus.RESERVED:
            order = await self._confirmed(caller, answer.order, wait) or order
        reply = OutcomeReply(outcome=OrderOutcome.RESERVED.value, order=order)
        response = json_reply(reply, status=201, replayed=answer.replayed)
        if wait:
            response.headers["Preference-Applied"] = f"wait={wait}"
        return response

    async def listed(self, request: web.Request) -> web.Response:
        """A viewer's own, newest first; for the shop's backend all of the shop, oldest first."""
        caller = await self._callers.of(request, Role.VIEWER, Role.SERVICE)
        page = page_of(request)
        of_whom = self._reader.own if caller.role is Role.VIEWER else self._reader.of_shop
        orders, next_cursor = await of_whom(caller, limit=page.limit, after=page.after)
        return json_reply(PageReply(items=await self._shown(caller, orders), next=next_cursor))

    async def by_id(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request)
        order = await self._reader.by_id(caller, request.match_info["order"])
        payments = await self._payments.of_order(caller, order.order) if caller.is_staff else ()
        return await self._one(caller, order, payments)

    async def cancel(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.VIEWER)
        return await self._one(caller, await self._cancelling.cancel(caller, request.match_info["order"]))

    async def by_key(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.VIEWER)
        key = checked_key(request.match_info["key"])
        sale_id = request.query.get("sale")
        if sale_id is None:
            raise Invalid("A key belongs to a sale.", param="sale")
        return await self._one(caller, await self._reader.by_key(caller, sale_id, key))

    async def of_sale(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        page = page_of(request)
        orders, next_cursor = await self._reader.of_sale(
            caller, request.match_info["sale"], status=status_of(request), limit=page.limit, after=page.after
        )
        return json_reply(PageReply(items=await self._shown(caller, orders), next=next_cursor))

    async def _placed(self, caller: Caller, body: NewOrder, answer: OrderAnswer) -> OrderReply | LostOrderReply:
        """The order as it stands: just reserved, or whatever became of the one that the key holds already."""
        if answer.replayed and answer.order is not None:
            order = await self._reader.by_id(caller, answer.order)
            shown = (await self._shown(caller, [order]))[0]
            if isinstance(shown, OrderReply) and shown.coupon_claim is None:
                # Before the ledger has it the stream knows its place only; the same key means the same claim.
                shown.coupon_claim = body.coupon_claim
            return shown
        # The sale was known to whoever placed the order, however long ago it was read.
        sale = self._book.cached(caller.shop, body.sale) or await self._book.get(caller.shop, body.sale)
        return reserved_reply(
            answer,
            sale,
            sku=body.sku,
            quantity=body.quantity,
            ref=self._orders.ref_for(caller, body.ref),
            meta=body.meta,
            pickup=body.pickup,
            coupon_claim=body.coupon_claim,
        )

    async def _confirmed(self, caller: Caller, order_id: OrderId, wait: int) -> OrderReply | LostOrderReply | None:
        """The order once it is more than reserved; None when that takes longer than the wait."""
        if self._waiting >= _WAITING_MOST:
            return None
        self._waiting += 1
        try:
            order = await self._reader.confirmed(order_id, wait)
            return None if order is None else (await self._shown(caller, [order]))[0]
        except GatewayError:
            return None  # it is reserved, whatever keeps us from learning more
        finally:
            self._waiting -= 1

    async def _one(self, caller: Caller, order: Order, payments: Sequence[Payment] = ()) -> web.Response:
        return json_reply((await self._shown(caller, [order], payments))[0])

    async def _shown(
        self, caller: Caller, orders: Sequence[Order], payments: Sequence[Payment] = ()
    ) -> list[OrderReply | LostOrderReply]:
        """`payments` are those of the one order there is."""
        sales = {}
        for sale_no in {order.sale_no for order in orders}:
            sale = await self._book.by_no(sale_no)
            if sale is None:
                raise NotFound("There is no such sale.")
            sales[sale_no] = sale
        orders = await self._people.of(orders, to_staff=caller.is_staff)
        return [
            shown_reply(order, sales[order.sale_no], to_staff=caller.is_staff, payments=payments) for order in orders
        ]


def status_of(request: web.Request) -> str | None:
    """The filter `?status=`; what is only reserved is not in the ledger yet and cannot be asked for."""
    status = request.query.get("status")
    if status is not None and status not in _STATUSES:
        raise Invalid(f"A status is one of {', '.join(sorted(_STATUSES))}.", param="status")
    return status
