"""Reading orders: from the ledger, and before the ledger has them, from where they stand in the stream."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

from gateway.domain.caller import Caller
from gateway.domain.ids import IdMint, OrderId, OrderPlace
from gateway.domain.order import LOST, Order, OrderStatus
from gateway.domain.sale import Sale
from gateway.errors import LedgerUnavailable, NotFound, ShardClosed, Unavailable
from gateway.flows.access import require_room
from gateway.flows.order_watch import OrderWatch
from gateway.flows.sale_book import SaleBook
from gateway.wire import entries


class Ledger(Protocol):
    async def by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Order]: ...
    async def lost(self, places: Sequence[OrderPlace], order_ids: Sequence[str]) -> set[str]: ...
    async def by_keys(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], Order]: ...
    async def own(self, *, shop: str, viewer: str, limit: int, after: str | None) -> list[Order]: ...
    async def of_sale(self, sale_no: int, *, status: str | None, limit: int, after: str | None) -> list[Order]: ...
    async def of_shop(
        self, shop: str, *, only_rooms: Collection[str] | None, limit: int, after: str | None
    ) -> list[Order]: ...


class Held(Protocol):
    """Answers in Valkey: where the order stands that a key holds."""

    async def held_by(
        self, sale_no: int, keys: Sequence[tuple[str, str]]
    ) -> tuple[list[tuple[int, int, int] | None], bool]:
        """For each (viewer, key): (epoch, seq, decided at ms), or None; and whether Valkey has the sale."""
        ...

    async def entry_of(self, epoch: int, seq: int) -> bytes | None:
        """None: the order never stood there. Both raise ShardClosed where Valkey lost what would tell."""
        ...


class OrderReader:
    """Never answers `not found` for an order that was answered `reserved`: one that was lost with its server is told
    to be lost. Its id alone says whose it could be, so it says no more than that."""

    def __init__(
        self, *, ledger: Ledger, held: "dict[int, Held]", book: SaleBook, watch: OrderWatch, mint: IdMint
    ) -> None:
        self._ledger = ledger
        self._held = held
        self._book = book
        self._watch = watch
        self._mint = mint

    async def by_id(self, caller: Caller, order_id: str) -> Order:
        place = self._mint.read_order(order_id)
        sale = None if place is None else await self._book.by_no(place.sale_no)
        if place is None or sale is None or sale.shop != caller.shop:
            raise NotFound("There is no such order.")
        require_room(caller, sale.room)
        order = await self._find(sale, order_id, place)
        if order is None or not (caller.is_staff or order.viewer == caller.sub or order.reason == LOST):
            raise NotFound("There is no such order.")
        return order

    async def by_key(self, caller: Caller, sale_id: str, key: str) -> Order:
        """The order a key of the caller holds; NotFound means that it holds none yet."""
        sale = await self._book.get(caller.shop, sale_id)
        require_room(caller, sale.room)
        found = (await self.by_keys(caller.sub, [(sale, key)]))[0]
        if found is None:
            raise NotFound("The key holds nothing yet; repeat with the same key.")
        return found

    async def by_keys(self, viewer: str, keys: Sequence[tuple[Sale, str]]) -> list[Order | None]:
        """For each (sale, key) of a viewer the order it holds; one question to the ledger, one a sale to Valkey."""
        away: LedgerUnavailable | None = None
        try:
            known = await self._ledger.by_keys([(viewer, sale.sale_no, key) for sale, key in keys])
        except LedgerUnavailable as error:
            known, away = {}, error  # what Valkey holds is still told
        found: list[Order | None] = []
        for sale, key in keys:
            order = known.get((viewer, sale.sale_no, key))
            if order is None:
                (held,), is_there = await self._held[sale.shard].held_by(sale.sale_no, [(viewer, key)])
                if held is None and away is not None and not is_there:
                    raise Unavailable from away
                if held is not None:
                    epoch, seq, at_ms = held
                    # The ledger first: it may have refused it, and Valkey not have been told.
                    order_id = self._mint.order(at_ms, sale.sale_no, epoch, seq)
                    order = await self._find(sale, order_id, OrderPlace(at_ms, sale.sale_no, epoch, seq))
            # A key that held a lost order holds nothing: asked again, it is decided anew.
            found.append(None if order is not None and order.reason == LOST else order)
        return found

    async def own(self, caller: Caller, *, limit: int, after: str | None) -> tuple[list[Order], str | None]:
        """The caller's orders, newest first, and the cursor of the next page."""
        return _page(await self._ledger.own(shop=caller.shop, viewer=caller.sub, limit=limit + 1, after=after), limit)

    async def of_sale(
        self, caller: Caller, sale_id: str, *, status: str | None, limit: int, after: str | None
    ) -> tuple[list[Order], str | None]:
        sale = await self._book.get(caller.shop, sale_id)
        require_room(caller, sale.room)
        return _page(await self._ledger.of_sale(sale.sale_no, status=status, limit=limit + 1, after=after), limit)

    async def of_shop(self, caller: Caller, *, limit: int, after: str | None) -> tuple[list[Order], str | None]:
        """The orders of all sales in the order of their ids, and the cursor of the next page. Orders of one millisecond
        and several sales may appear behind a cursor that stands in it: who reads on after a while steps back a little.
        """
        orders = await self._ledger.of_shop(caller.shop, only_rooms=caller.rooms, limit=limit + 1, after=after)
        return _page(orders, limit)

    async def confirmed(self, order_id: OrderId, within_s: float) -> Order | None:
        """The order once the ledger has judged it, or None when nobody said so within the time, a ledger that hangs
        included."""
        place = self._mint.read_order(order_id)
        if place is None:
            return None
        at = [(place.sale_no, str(order_id))]
        try:
            async with asyncio.timeout(within_s):
                with self._watch.listening(order_id) as heard:
                    order = (await self._ledger.by_place(at)).get(order_id)
                    if order is not None:
                        return order
                    state = await heard
                if state.reason == LOST:
                    return _lost(order_id, place)
                return (await self._ledger.by_place(at)).get(order_id)
        except TimeoutError:
            return None

    async def _find(self, sale: Sale, order_id: str, place: OrderPlace) -> Order | None:
        try:
            order = await self._in_ledger(order_id, place)
        except LedgerUnavailable:
            order = None
        shut: ShardClosed | None = None
        if order is None:
            try:
                order = await self._in_stream(sale, order_id, place.epoch, place.seq)
            except ShardClosed as error:
                shut = error
        if order is None:
            # Between the two questions the ledger may have taken it and the stream forgotten it.
            order = await self._in_ledger(order_id, place)
        if order is None and shut is not None:
            # The writer may still hold it, or it is lost: the epoch that begins now will say.
            raise shut
        return order

    async def _in_ledger(self, order_id: str, place: OrderPlace) -> Order | None:
        order = (await self._ledger.by_place([(place.sale_no, order_id)])).get(order_id)
        if order is None and await self._ledger.lost([place], [order_id]):
            return _lost(order_id, place)
        return order

    async def _in_stream(self, sale: Sale, order_id: str, epoch: int, seq: int) -> Order | None:
        body = await self._held[sale.shard].entry_of(epoch, seq)
        entry = None if body is None else entries.decode(body)
        if not isinstance(entry, entries.OrdersEntry) or not entry.first <= seq <= entry.last:
            return None
        if self._mint.order(entry.at_ms, entry.sale_no, epoch, seq) != order_id:
            return None  # the place is another order's now: this one was lost
        row = entry.orders[seq - entry.first]
        return Order(
            order=OrderId(order_id),
            sale_no=sale.sale_no,
            item_no=row.item_no,
            viewer=row.viewer,
            key=row.key,
            quantity=row.quantity,
            price_minor=row.price_minor,
            discount_minor=row.discount_minor,
            amount_minor=row.price_minor * row.quantity - row.discount_minor,
            status=OrderStatus.RESERVED,
            reason=None,
            created_at_ms=entry.at_ms,
            pay_by_ms=None,
            extra=row.extra,
        )


def _lost(order_id: str, place: OrderPlace) -> Order:
    return Order(
        order=OrderId(order_id),
        sale_no=place.sale_no,
        item_no=0,
        viewer="",
        key=None,
        quantity=0,
        price_minor=0,
        discount_minor=0,
        amount_minor=0,
        status=OrderStatus.REFUSED,
        reason=LOST,
        created_at_ms=place.at_ms,
        pay_by_ms=None,
        extra="",
    )


def _page(orders: list[Order], limit: int) -> tuple[list[Order], str | None]:
    if len(orders) <= limit:
        return orders, None
    return orders[:limit], orders[limit - 1].order
