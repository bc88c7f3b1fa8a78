"""The viewer's order path by HTTP, for those who have no socket."""

from collections.abc import AsyncIterator, Mapping
from urllib.parse import quote

import msgspec

from gateway.client.calls import Calls
from gateway.client.coupons import CouponViewer
from gateway.client.orders import OrderAnswer
from gateway.errors import NotFound

PAGE_SIZE = 200


class Payment(msgspec.Struct, kw_only=True):
    """Money the gateway was told of; `state` is `waiting`, `applied`, `refund_due` or `refunded`."""

    provider: str
    txn: str
    amount_minor: int
    state: str
    paid_at: str | None = None
    reason: str | None = None


class Pickup(msgspec.Struct, kw_only=True):
    """Of an order that is to be collected; the code comes with the payment."""

    place: str | None = None
    code: str | None = None
    redeemed_at: str | None = None
    redeemed_by: str | None = None


class Booking(msgspec.Struct, kw_only=True):
    room: str
    booked_at: str


class Order(msgspec.Struct, kw_only=True):
    """An order as HTTP shows it. What only staff see is None for a viewer; of an order that was lost little is left."""

    order: str
    sale: str = ""
    sku: str = ""
    quantity: int = 0
    status: str = ""
    amount_minor: int = 0
    price_minor: int = 0
    discount_minor: int = 0
    coupon_claim: str | None = None
    currency: str = ""
    reason: str | None = None
    pay_by: str | None = None
    created_at: str | None = None
    sub: str | None = None
    ref: str | None = None
    source: str | None = None
    referrer: str | None = None
    guide: str | None = None
    meta: object = None
    pickup: Pickup | None = None
    payments: list[Payment] = []


class Paying(msgspec.Struct, kw_only=True):
    """A payment that runs at a provider: the viewer pays at `url`, until `pay_by`."""

    order: str
    provider: str
    checkout: str
    url: str
    amount_minor: int
    currency: str
    pay_by: str | None = None


class OrderPage(msgspec.Struct):
    items: list[Order]
    next: str | None = None


class _PlacedOrder(msgspec.Struct):
    outcome: str
    order: Order | None = None
    amount_minor: int | None = None
    left: int | None = None
    may_return: bool = False
    retry_after_ms: int | None = None


class ViewerHttp(CouponViewer):
    """A viewer's calls: book a show, claim a coupon, place an order, pay or cancel it, and read one's own."""

    async def place_order(
        self,
        *,
        sale: str,
        sku: str,
        quantity: int = 1,
        key: str,
        expect_amount_minor: int | None = None,
        ref: str | None = None,
        meta: object = None,
        pickup: bool | str | None = None,
        coupon_claim: str | None = None,
        wait_s: int | None = None,
    ) -> OrderAnswer:
        """The outcome; with `wait_s` a reservation is answered once it is confirmed, or after that many seconds."""
        body: dict[str, object] = {"sale": sale, "sku": sku, "quantity": quantity}
        if expect_amount_minor is not None:
            body["expect_amount_minor"] = expect_amount_minor
        if meta is not None:
            body["meta"] = meta
        if ref is not None:
            body["ref"] = ref
        if pickup is not None:
            body["pickup"] = pickup
        if coupon_claim is not None:
            body["coupon_claim"] = coupon_claim
        headers = {} if wait_s is None else {"Prefer": f"wait={wait_s}"}
        answer = await self.call("POST", "/v1/orders", body, key=key, headers=headers)
        placed = msgspec.json.decode(answer.body, type=_PlacedOrder)
        return OrderAnswer(
            outcome=placed.outcome,
            key=key,
            order=placed.order.order if placed.order else None,
            amount_minor=placed.order.amount_minor if placed.order else placed.amount_minor,
            replayed=answer.is_replayed,
            left=placed.left,
            may_return=placed.may_return,
            retry_after_ms=placed.retry_after_ms,
        )

    async def order(self, order: str) -> Order:
        answer = await self.call("GET", f"/v1/orders/{quote(order)}")
        return msgspec.json.decode(answer.body, type=Order)

    async def pay(self, order: str) -> Paying:
        """Begins to pay; asked again, the payment that runs is answered."""
        return msgspec.json.decode((await self.call("POST", f"/v1/orders/{quote(order)}/pay")).body, type=Paying)

    async def cancel(self, order: str) -> Order:
        return msgspec.json.decode((await self.call("POST", f"/v1/orders/{quote(order)}/cancel")).body, type=Order)

    async def orders(self) -> list[Order]:
        return [order async for order in each_order(self, "/v1/orders")]

    async def pickup_svg(self, order: str) -> bytes:
        """The code of a paid order as a picture, to be held in front of a till."""
        return (await self.call("GET", f"/v1/orders/{quote(order)}/pickup.svg")).body

    async def book(self, room: str) -> Booking:
        """Asked again, the booking there is."""
        answer = await self.call("POST", f"/v1/rooms/{quote(room)}/bookings")
        return msgspec.json.decode(answer.body, type=Booking)

    async def cancel_booking(self, room: str) -> None:
        await self.call("DELETE", f"/v1/rooms/{quote(room)}/bookings/mine")

    async def by_key(self, key: str, *, sale: str) -> Order | None:
        """The order this key holds, or None: nothing held yet, and the same key may be asked again."""
        try:
            answer = await self.call("GET", f"/v1/orders/by-key/{quote(key)}", params={"sale": sale})
        except NotFound:
            return None
        return msgspec.json.decode(answer.body, type=Order)


async def each_order(calls: Calls, path: str, filters: Mapping[str, str] | None = None) -> AsyncIterator[Order]:
    """Every order of a listing, page by page."""
    params = {"limit": str(PAGE_SIZE), **(filters or {})}
    while True:
        page = msgspec.json.decode((await calls.call("GET", path, params=params)).body, type=OrderPage)
        for order in page.items:
            yield order
        if not page.next:
            return
        params["after"] = page.next
