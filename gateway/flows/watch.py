"""A viewer enters a room: who they are there, the room as it is, and what became of the keys they had in flight."""

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.ids import IdMint
from gateway.domain.order import Order
from gateway.domain.room import Room
from gateway.domain.sale import ItemCounts, Sale, left_for_viewers
from gateway.errors import Forbidden, GatewayError, LedgerUnavailable, NotFound
from gateway.flows.order_watch import OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.room_book import RoomBook
from gateway.flows.sale_book import SaleBook
from gateway.wire import frames

_SALES_SHOWN = 50
_ROOMS_REMEMBERED = 10_000


class Sales(Protocol):
    async def of_room(self, room_no: int, *, limit: int) -> list[Sale]: ...


class Counters(Protocol):
    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None: ...


class WatchRoom:
    """Builds what a viewer is shown at entering."""

    def __init__(
        self,
        *,
        rooms: RoomBook,
        sales: Sales,
        book: SaleBook,
        counters: "dict[int, Counters]",
        reader: OrderReader,
        watch: OrderWatch,
        mint: IdMint,
        id_key: bytes,
        clock: Clock,
    ) -> None:
        self._rooms = rooms
        self._sales = sales
        self._book = book
        self._counters = counters
        self._reader = reader
        self._watch = watch
        self._mint = mint
        self._id_key = id_key
        self._clock = clock
        self._shown: dict[str, list[Sale]] = {}

    async def room(self, room_id: str) -> Room:
        return await self._rooms.get(room_id)

    async def check(self, caller: Caller, room_id: str) -> Room:
        """The room, when the caller may watch it. Raises NotFound, Forbidden or (ended) leaves it to the caller."""
        room = await self._rooms.get(room_id)
        if room.shop != caller.shop:
            raise NotFound("There is no such room in this shop.")
        if caller.rooms is not None and room_id not in caller.rooms:
            raise Forbidden("This token is not for this room.")
        return room

    def pseudonym(self, room_id: str, sub: str) -> str:
        """What other viewers of the room see instead of `sub`; the same on every process, different in every room."""
        return "vw_" + hashlib.blake2b(f"{room_id}|{sub}".encode(), key=self._id_key, digest_size=9).hexdigest()

    async def pending(self, caller: Caller, pending: Sequence[frames.Pending]) -> list[frames.KnownOrder]:
        """What became of the order keys a viewer names; orders not yet confirmed are watched from here on."""
        sales: list[tuple[Sale, str]] = []
        answers: list[frames.KnownOrder] = []
        for named in pending:
            if named.sale is None:
                continue
            try:
                sales.append((await self._book.get(caller.shop, named.sale), named.key))
            except NotFound:
                answers.append(frames.KnownOrder(sale=named.sale, key=named.key, outcome="none"))
        for (sale, key), order in zip(sales, await self._reader.by_keys(caller.sub, sales), strict=True):
            answers.append(_known(sale, key, order))
            if order is not None and answers[-1].status == "reserved":
                self._watch.placed(order.order, sale_no=sale.sale_no, shop=caller.shop, viewer=caller.sub)
        return answers

    async def window(self, room: Room) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The room and its sales as viewers are shown them."""
        try:
            room = await self._rooms.get(room.room)
            shown = await self._sales.of_room(room.room_no, limit=_SALES_SHOWN)
            self._shown[room.room] = shown
            if len(self._shown) > _ROOMS_REMEMBERED:
                del self._shown[next(iter(self._shown))]
        except LedgerUnavailable:
            # Whoever comes back while the ledger is away sees the room as it was, and can order.
            shown = self._shown.get(room.room, [])
        sales: list[dict[str, Any]] = []
        for sale in shown:
            try:
                counts = await self._counters[sale.shard].counts(sale)
            except GatewayError:
                counts = None  # Valkey is away: the room is shown, without what is left
            sales.append(sale_for_viewers(sale, counts, self._clock.now_ms()))
        return room_for_viewers(room), sales


def room_for_viewers(room: Room) -> dict[str, Any]:
    return {
        "room": room.room,
        "title": room.title,
        "state": str(room.state),
        "starts_at_ms": room.starts_at_ms,
        "stream_url": room.stream_url,
        "notice": room.notice,
    }


def sale_for_viewers(sale: Sale, counts: dict[int, ItemCounts] | None, now_ms: int) -> dict[str, Any]:
    """A sale on the socket: times in milliseconds, `left` only as the sale's `stock_display` allows."""
    return {
        "sale": sale.sale,
        "title": sale.title,
        "state": str(sale.state_at(now_ms)),
        "currency": sale.currency,
        "opens_at_ms": sale.opens_at_ms,
        "closes_at_ms": sale.closes_at_ms,
        "items": [
            {
                "sku": item.sku,
                "title": item.title,
                "price_minor": item.price_minor,
                "list_price_minor": item.list_price_minor,
                "limit_per_viewer": item.limit_per_viewer,
                "image_url": item.image_url,
                **left_for_viewers(sale, counts.get(item.item_no) if counts else None),
            }
            for item in sale.items
        ],
    }


def _known(sale: Sale, key: str, order: Order | None) -> frames.KnownOrder:
    if order is None:
        return frames.KnownOrder(sale=sale.sale, key=key, outcome="none")
    return frames.KnownOrder(
        sale=sale.sale,
        key=key,
        outcome="reserved",
        order=order.order,
        status=str(order.status),
        amount_minor=order.amount_minor,
        pay_by_ms=order.pay_by_ms,
        reason=order.reason,
    )
