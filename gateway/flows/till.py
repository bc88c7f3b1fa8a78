"""The way of an act on an order to where its shop's orders are settled."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from msgspec.structs import replace

from gateway.domain.ids import IdMint
from gateway.domain.payment import ShopPlace
from gateway.domain.sale import Sale
from gateway.domain.settle import SettleAct, Settled
from gateway.errors import HotUnavailable, LedgerUnavailable, NotFound, ShardClosed, Unavailable
from gateway.flows.sale_book import SaleBook

_SHOPS_KNOWN_MAX = 10_000


class Shops(Protocol):
    async def place_of(self, shop: str) -> ShopPlace | None: ...


class Settle(Protocol):
    async def ask(self, shard: int, act: SettleAct) -> Settled: ...


class Till:
    def __init__(self, *, settle: Settle, shops: Shops, book: SaleBook, mint: IdMint) -> None:
        self._settle = settle
        self._shops = shops
        self._book = book
        self._mint = mint
        # A shop never moves, so what was read once holds.
        self._places: dict[str, ShopPlace] = {}

    async def sale_of(self, shop: str, order_id: str) -> Sale | None:
        """The sale of an order id of ours; None for any other text, and for an order of another shop."""
        place = self._mint.read_order(order_id)
        if place is None:
            return None
        with nothing_done():
            sale = await self._book.by_no(place.sale_no)
        return sale if sale is not None and sale.shop == shop else None

    async def ask(self, shop: str, act: SettleAct) -> Settled:
        """How an act of the shop was judged; which number the shop has is filled in here."""
        place = await self.place_of(shop)
        return await self._settle.ask(place.shard, replace(act, shop_no=place.shop_no))

    async def place_of(self, shop: str) -> ShopPlace:
        place = self._places.get(shop)
        if place is None:
            with nothing_done():
                place = await self._shops.place_of(shop)
            if place is None:
                raise NotFound("There is no such shop.")
            if len(self._places) >= _SHOPS_KNOWN_MAX:
                self._places.clear()
            self._places[shop] = place
        return place


@contextmanager
def nothing_done() -> Iterator[None]:
    """Around questions asked before an act: whatever is away then, the act did not happen."""
    try:
        yield
    except (LedgerUnavailable, HotUnavailable, ShardClosed) as error:
        raise Unavailable from error
