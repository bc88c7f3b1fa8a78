"""What processes are told of the writer's transactions: later states of orders and claims, by shop."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from gateway.domain.batch import AppliedOrders, ClaimColumns, OrderColumns
from gateway.wire import bus
from gateway.writer.ports import Ledger

_Find = Callable[[Sequence[int]], Awaitable[dict[int, str]]]


class ShopNames:
    """Which shop numbers are of, asked for once each: neither a sale nor a coupon ever changes its shop."""

    def __init__(self, find: _Find) -> None:
        self._find = find
        self._known: dict[int, str] = {}

    async def of(self, numbers: Iterable[int]) -> dict[int, str]:
        """All that are known; numbers of nothing the ledger has are not among them."""
        unknown = set(numbers) - self._known.keys()
        if unknown:
            self._known.update(await self._find(sorted(unknown)))
        return self._known


class Newsroom:
    """Makes the news of one read after the other."""

    def __init__(self, ledger: Ledger) -> None:
        self._sales = ShopNames(ledger.shops_of)
        self._coupons = ShopNames(ledger.shops_of_coupons)

    def news(self) -> "News":
        return News(self._sales, self._coupons)


class News:
    """What is to be told of the entries that were read at once."""

    def __init__(self, sales: ShopNames, coupons: ShopNames) -> None:
        self._sales = sales
        self._coupons = coupons
        self._shops: dict[str, bus.ShopOrders] = {}

    def shops(self) -> list[bus.ShopOrders]:
        return list(self._shops.values())

    async def of_orders(self, orders: OrderColumns, applied: AppliedOrders) -> None:
        shops = await self._sales.of(orders.sales)
        pay_by, refused, claims = applied.pay_by_ms, applied.refused, applied.claims
        for seq, sale_no, viewer, order_id in zip(
            orders.seqs, orders.sales, orders.viewers, orders.order_ids, strict=True
        ):
            group = self._of(shops.get(sale_no, ""))
            if seq in refused:
                group.orders.append(bus.LaterState(viewer, order_id, "refused", 0, "ledger"))
            else:
                group.orders.append(bus.LaterState(viewer, order_id, "confirmed", pay_by.get(sale_no, 0)))
            if seq in claims:
                group.claims.append(bus.LaterClaim(viewer, *claims[seq]))

    async def of_claims(self, claims: ClaimColumns, refused: Iterable[int]) -> None:
        shops = await self._coupons.of(claims.coupons)
        for seq, coupon_no, viewer, claim in zip(
            claims.seqs, claims.coupons, claims.viewers, claims.claims, strict=True
        ):
            group = self._of(shops.get(coupon_no, ""))
            if seq in refused:
                group.claims.append(bus.LaterClaim(viewer, claim, "refused", "ledger"))
            else:
                group.claims.append(bus.LaterClaim(viewer, claim, "confirmed"))

    async def of_revival(self, sale_no: int, state: bus.LaterState, claim: str | None) -> None:
        group = self._of((await self._sales.of([sale_no])).get(sale_no, ""))
        group.orders.append(state)
        if claim is not None:
            group.claims.append(bus.LaterClaim(state.viewer, claim, "redeemed"))

    def _of(self, shop: str) -> bus.ShopOrders:
        group = self._shops.get(shop)
        if group is None:
            group = self._shops[shop] = bus.ShopOrders(shop, [])
        return group
