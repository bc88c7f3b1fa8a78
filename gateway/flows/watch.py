"""A viewer enters a room: who they are there, the room as it is, and what became of the keys they had in flight."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.coupon import Claim, ClaimState, Coupon, CouponState
from gateway.domain.ids import IdMint
from gateway.domain.order import Order
from gateway.domain.room import Room
from gateway.domain.sale import ItemCounts, Sale, left_for_viewers
from gateway.errors import Forbidden, GatewayError, LedgerUnavailable, NotFound
from gateway.flows.claims import ClaimReader
from gateway.flows.coupon_book import CouponBook
from gateway.flows.coupons import coupon_event
from gateway.flows.last_known import LastKnown
from gateway.flows.order_watch import OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.room_book import RoomBook
from gateway.flows.sale_book import SaleBook
from gateway.wire import frames

log = structlog.get_logger(__name__)

_SALES_SHOWN = 50
_ROOMS_REMEMBERED = 10_000


class Sales(Protocol):
    async def of_room(self, room_no: int, *, limit: int) -> list[Sale]: ...


class Coupons(Protocol):
    """`gateway.ledger.coupons.LedgerCoupons`."""

    async def of_room(self, room_no: int) -> list[Coupon]: ...


class CopiesLeft(Protocol):
    """`gateway.hot.coupons.HotCoupons` of one shard."""

    async def left(self, coupon_nos: Sequence[int]) -> Sequence[int | None]: ...


class Counters(Protocol):
    """`gateway.flows.counts.SaleCounts`."""

    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None: ...


class Hot(Protocol):
    async def counts_of(self, sales: Sequence[Sale]) -> list[dict[int, ItemCounts] | None]:
        """In one round trip."""
        ...


Counts = dict[int, ItemCounts] | None


class _OfRoom(NamedTuple):
    """What the ledger has of a room's sales."""

    sales: list[Sale]
    retired: dict[int, Counts]
    """By sale number, of those that left Valkey."""
    coupons: list[Coupon]


class Window(NamedTuple):
    """What a viewer sees of a room beside its ticks."""

    room: dict[str, Any]
    sales: list[dict[str, Any]]
    coupons: list[dict[str, Any]]


class Known(NamedTuple):
    """What became of the keys a viewer named; None where none of the kind was named."""

    orders: list[frames.KnownOrder] | None
    claims: list[frames.KnownClaim] | None


class WatchRoom:
    """Builds what a viewer is shown at entering."""

    def __init__(
        self,
        *,
        rooms: RoomBook,
        sales: Sales,
        book: SaleBook,
        counters: Mapping[int, Counters],
        hot: Mapping[int, Hot],
        reader: OrderReader,
        coupons: Coupons,
        coupon_book: CouponBook,
        copies: Mapping[int, CopiesLeft],
        claims: ClaimReader,
        watch: OrderWatch,
        mint: IdMint,
        id_key: bytes,
        clock: Clock,
    ) -> None:
        self._rooms = rooms
        self._sales = sales
        self._book = book
        self._counters = counters
        self._hot = hot
        self._reader = reader
        self._coupons = coupons
        self._coupon_book = coupon_book
        self._copies = copies
        self._claims = claims
        self._watch = watch
        self._mint = mint
        self._id_key = id_key
        self._clock = clock
        self._shown: LastKnown[int, _OfRoom] = LastKnown(
            read=self._of_room, fresh_s=0, most=_ROOMS_REMEMBERED, clock=clock
        )

    async def room(self, room_id: str) -> Room:
        return await self._rooms.get(room_id)

    async def check(self, caller: Caller, room_id: str) -> Room:
        """The room, when the caller may watch it; one that has ended too. Raises NotFound, Forbidden."""
        room = await self._rooms.get(room_id)
        if room.shop != caller.shop:
            raise NotFound("There is no such room in this shop.")
        if caller.rooms is not None and room_id not in caller.rooms:
            raise Forbidden("This token is not for this room.")
        return room

    def pseudonym(self, room_id: str, sub: str) -> str:
        """What other viewers of the room see instead of `sub`; the same on every process, different in every room."""
        return "vw_" + hashlib.blake2b(f"{room_id}|{sub}".encode(), key=self._id_key, digest_size=9).hexdigest()

    async def pending(self, caller: Caller, pending: Sequence[frames.Pending]) -> Known:
        """What became of the keys a viewer names; what is not yet confirmed is watched from here on."""
        orders = [(named.sale, named.key) for named in pending if named.sale is not None]
        claims = [(named.coupon, named.key) for named in pending if named.coupon is not None]
        return Known(
            await self._pending_orders(caller, orders) if orders else None,
            await self._pending_claims(caller, claims) if claims else None,
        )

    async def _pending_orders(self, caller: Caller, pending: Sequence[tuple[str, str]]) -> list[frames.KnownOrder]:
        sales: list[tuple[Sale, str]] = []
        answers: list[frames.KnownOrder] = []
        for sale_id, key in pending:
            try:
                sales.append((await self._book.get(caller.shop, sale_id), key))
            except NotFound:
                answers.append(frames.KnownOrder(sale=sale_id, key=key, outcome="none"))
        for (sale, key), order in zip(sales, await self._reader.by_keys(caller.sub, sales), strict=True):
            answers.append(_known(sale, key, order))
            if order is not None and answers[-1].status == "reserved":
                self._watch.placed(order.order, sale_no=sale.sale_no, shop=caller.shop, viewer=caller.sub)
        return answers

    async def _pending_claims(self, caller: Caller, pending: Sequence[tuple[str, str]]) -> list[frames.KnownClaim]:
        coupons: list[tuple[Coupon, str]] = []
        answers: list[frames.KnownClaim] = []
        for coupon_id, key in pending:
            try:
                coupons.append((await self._coupon_book.get(caller.shop, coupon_id), key))
            except NotFound:
                answers.append(frames.KnownClaim(coupon=coupon_id, key=key, outcome="none"))
        now_ms = self._clock.now_ms()
        for (coupon, key), claim in zip(coupons, await self._claims.by_keys(caller.sub, coupons), strict=True):
            answers.append(_known_claim(coupon, key, claim, now_ms))
            if claim is not None and claim.state is ClaimState.CLAIMED:
                self._watch.claimed(claim.claim, coupon_no=coupon.coupon_no, shop=caller.shop, viewer=caller.sub)
        return answers

    async def window(self, room: Room) -> Window:
        """The room, its sales and its coupons as viewers are shown them. Whoever comes while the ledger is away sees
        the room as it was, and can order; while Valkey is, the room without what is left."""
        of_room = _OfRoom([], {}, [])
        try:
            room = await self._rooms.get(room.room)
            of_room = await self._shown.get(room.room_no) or of_room
        except LedgerUnavailable as error:
            log.warning("room_shown_without_sales", room_no=room.room_no, error=str(error))
        counts = of_room.retired | await self._counts(sale for sale in of_room.sales if not sale.retired)
        now_ms = self._clock.now_ms()
        return Window(
            room_for_viewers(room),
            [sale_for_viewers(sale, counts.get(sale.sale_no), now_ms) for sale in of_room.sales],
            await self._to_claim(coupon for coupon in of_room.coupons if coupon.state_at(now_ms) is CouponState.OPEN),
        )

    async def _of_room(self, room_no: int) -> _OfRoom:
        sales = await self._sales.of_room(room_no, limit=_SALES_SHOWN)
        return _OfRoom(
            sales,
            {sale.sale_no: await self._counters[sale.shard].counts(sale) for sale in sales if sale.retired},
            await self._coupons.of_room(room_no),
        )

    async def _to_claim(self, coupons: Iterable[Coupon]) -> list[dict[str, Any]]:
        """What can be claimed now, with what is left of it; nothing while that cannot be read."""
        shards: dict[int, list[Coupon]] = {}
        for coupon in coupons:
            shards.setdefault(coupon.shard, []).append(coupon)
        shown: list[dict[str, Any]] = []
        try:
            for shard, of_shard in shards.items():
                left = await self._copies[shard].left([coupon.coupon_no for coupon in of_shard])
                shown += (coupon_for_viewers(each, still) for each, still in zip(of_shard, left, strict=True) if still)
        except GatewayError as error:
            log.warning("room_shown_without_coupons", error=str(error))
        return shown

    async def _counts(self, sales: Iterable[Sale]) -> dict[int, Counts]:
        """By sale number, without those that cannot be read. One call a shard; after the first that fails no other is
        waited for, as all shards are on one server."""
        shards: dict[int, list[Sale]] = {}
        for sale in sales:
            shards.setdefault(sale.shard, []).append(sale)
        found: dict[int, Counts] = {}
        try:
            for shard, of_shard in shards.items():
                counts = await self._hot[shard].counts_of(of_shard)
                found.update((sale.sale_no, each) for sale, each in zip(of_shard, counts, strict=True))
        except GatewayError as error:
            log.warning("room_shown_without_stock", error=str(error))
        return found


def room_for_viewers(room: Room) -> dict[str, Any]:
    return {
        "room": room.room,
        "title": room.title,
        "state": str(room.state),
        "starts_at_ms": room.starts_at_ms,
        "stream_url": room.stream_url,
        "notice": room.notice,
    }


def sale_for_viewers(sale: Sale, counts: Counts, now_ms: int) -> dict[str, Any]:
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
                "price_minor": item.price_at(now_ms),
                "list_price_minor": item.list_price_minor,
                "limit_per_viewer": item.limit_per_viewer,
                "image_url": item.image_url,
                **left_for_viewers(sale, counts.get(item.item_no) if counts else None),
            }
            for item in sale.items
        ],
    }


def coupon_for_viewers(coupon: Coupon, left: int) -> dict[str, Any]:
    """A coupon on the socket, as its event tells it."""
    return {name: value for name, value in coupon_event(coupon, left).items() if name != "k"}


def _known_claim(coupon: Coupon, key: str, claim: Claim | None, now_ms: int) -> frames.KnownClaim:
    if claim is None:
        return frames.KnownClaim(coupon=coupon.coupon, key=key, outcome="none")
    return frames.KnownClaim(
        coupon=coupon.coupon,
        key=key,
        outcome="claimed",
        claim=claim.claim,
        state=str(claim.told_at(now_ms, coupon.valid_until_ms)),
        value_minor=claim.value_minor or None,
        reason=claim.reason,
    )


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
