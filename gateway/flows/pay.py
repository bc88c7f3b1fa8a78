"""A viewer begins to pay an order: at the shop's provider, once an order."""

from typing import Protocol

from msgspec import Struct

from gateway.domain.caller import Caller
from gateway.domain.order import Order, OrderStatus
from gateway.domain.payment import DuePayment, ShopPlace
from gateway.errors import Conflict, NotConfirmed, NotFound
from gateway.flows.cancel_order import CONFIRMED_SOON_MS, Reader
from gateway.flows.till import Till


class Provider(Protocol):
    """Who takes the money. What became of it, a provider tells by its notices."""

    @property
    def name(self) -> str: ...

    async def begin(self, due: DuePayment) -> str:
        """A checkout for the amount. May be called more than once an order; one of the checkouts is used."""
        ...

    def url_of(self, checkout: str) -> str:
        """Where the viewer pays."""
        ...


class Checkouts(Protocol):
    async def running(self, *, sale_no: int, order_id: str) -> tuple[str, str] | None: ...

    async def begin(
        self, *, sale_no: int, order_id: str, shop_no: int, provider: str, checkout: str
    ) -> tuple[str, str]:
        """(provider, checkout) of the order: this one, or the one that runs already."""
        ...


class Paying(Struct, frozen=True):
    order: Order
    currency: str
    provider: str
    checkout: str
    url: str


class PayOrder:
    """Asked again, the payment that runs is answered. `provider` None: the shop takes the money itself."""

    def __init__(self, *, till: Till, reader: Reader, checkouts: Checkouts, provider: Provider | None) -> None:
        self._till = till
        self._reader = reader
        self._checkouts = checkouts
        self._provider = provider

    async def pay(self, caller: Caller, order_id: str) -> Paying:
        order = await self._reader.by_id(caller, order_id)
        sale = await self._till.sale_of(caller.shop, order_id)
        if sale is None:
            raise NotFound("There is no such order.")
        if order.status is OrderStatus.RESERVED:
            raise NotConfirmed(retry_after_ms=CONFIRMED_SOON_MS)
        if order.status is not OrderStatus.CONFIRMED:
            raise Conflict(f"The order is {order.status}.")
        if self._provider is None:
            raise Conflict("This shop takes payments itself: no provider is set up at which one could begin.")
        place: ShopPlace = await self._till.place_of(caller.shop)
        at = await self._checkouts.running(sale_no=order.sale_no, order_id=order_id)
        if at is None:
            checkout = await self._provider.begin(
                DuePayment(shop=caller.shop, order=order_id, amount_minor=order.amount_minor, currency=sale.currency)
            )
            at = await self._checkouts.begin(
                sale_no=order.sale_no,
                order_id=order_id,
                shop_no=place.shop_no,
                provider=self._provider.name,
                checkout=checkout,
            )
        provider, checkout = at
        if provider != self._provider.name:
            raise Conflict(f"A payment of this order runs at {provider}.")
        return Paying(order, sale.currency, provider, checkout, self._provider.url_of(checkout))
