"""Coupons: hosts make them and drop them into rooms. Viewers' claims are claim.py's."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from msgspec import Struct

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.coupon import Coupon, CouponState
from gateway.domain.drafts import CouponDraft, Effect, check_coupon, fingerprint
from gateway.domain.ids import IdMint
from gateway.domain.room import Room, RoomState
from gateway.errors import (
    Conflict,
    Forbidden,
    GatewayError,
    HotUnavailable,
    Invalid,
    LedgerUnavailable,
    NotFound,
    OutcomeUnknown,
    ShardClosed,
)
from gateway.flows.access import require_host, require_room
from gateway.flows.coupon_book import CouponBook
from gateway.flows.coupon_ports import Book, Dropped, Effects, Hot, Ledger, News, Publisher, Rooms, Sales, Shard
from gateway.flows.in_force import KEPT_WITHIN_S, Applied, in_force
from gateway.wire import bus

log = structlog.get_logger(__name__)

KIND, DROP_KIND = "coupon", "drop"  # the latter as the script names it in its entry
_LOAD_PAUSE_S = 0.2


class CouponReading(Struct, frozen=True):
    """A coupon as it stands. What could not be read is None."""

    coupon: Coupon
    state: CouponState
    claimed: int
    redeemed: int
    left: int
    sales: Sequence[str] = ()
    """Ids of the sales it is bound to."""


class Coupons:
    """A coupon is made in the ledger, then given to Valkey; the keeper gives it what could not be given at once."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        book: CouponBook,
        hot: Mapping[int, Hot],
        shards: Mapping[int, Shard],
        rooms: Rooms,
        sales: Sales,
        sale_book: Book,
        effects: Effects,
        applied: Applied,
        news: News,
        publisher: Publisher,
        mint: IdMint,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._hot = hot
        self._shards = shards
        self._rooms = rooms
        self._sales = sales
        self._sale_book = sale_book
        self._effects = effects
        self._applied = applied
        self._news = news
        self._publisher = publisher
        self._mint = mint
        self._clock = clock

    async def create(self, caller: Caller, draft: CouponDraft, key: str) -> tuple[CouponReading, bool]:
        """The coupon, and whether the key had made it before."""
        require_host(caller)
        require_room(caller, draft.room)
        await self._check_sales(caller, draft)
        effect = Effect(caller.sub, KIND, key, fingerprint(draft))
        # A repeat is answered also when its times have passed meanwhile.
        if await self._effects.find(caller.shop, effect) is None:
            check_coupon(draft, now_ms=self._clock.now_ms())
        try:
            made = await self._ledger.create(caller.shop, draft, effect)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error
        if not made.loaded:
            await self._load_or_say(made.coupon)
        await self._changed(made.coupon)
        return (await self._readings([made.coupon]))[0], made.replayed

    async def of_shop(
        self, caller: Caller, *, limit: int, after: str | None, room: str | None = None
    ) -> tuple[list[CouponReading], str | None]:
        """Newest first, and the cursor of the next page; with a room those made for it or dropped there."""
        require_host(caller)
        number = None if after is None else self._mint.read_coupon(after)
        if after is not None and number is None:
            raise Invalid("That is no cursor of this list.", param="after")
        if room is None:
            found = await self._ledger.of_shop(caller.shop, limit=limit + 1, after=number, only_rooms=caller.rooms)
        else:
            require_room(caller, room)
            room_no = self._mint.read_room(room)
            if room_no is None:
                raise NotFound("There is no such room.", param="room")
            found = await self._ledger.of_room_behind(
                caller.shop, room_no, limit=limit + 1, after=number, only_rooms=caller.rooms
            )
        return await self._readings(found[:limit]), found[limit - 1].coupon if len(found) > limit else None

    async def drop(
        self, caller: Caller, coupon_id: str, *, room_id: str, for_s: int | None, key: str
    ) -> tuple[CouponReading, bool]:
        """Opens the claim at once and shows the coupon in the room. The coupon afterwards, and whether the key had
        dropped it before."""
        require_host(caller)
        coupon = await self._find(caller, coupon_id)
        room = await self._room(caller, coupon, room_id)
        content = fingerprint(coupon.coupon, room.room, for_s)
        effect = Effect(caller.sub, DROP_KIND, key, content)
        # The ledger remembers for good what Valkey may have lost, and also a key used on another coupon.
        replayed = await self._effects.find(caller.shop, effect) is not None
        if not replayed:
            if room.state is RoomState.ENDED:
                raise Conflict("The room has ended.")
            if coupon.retired:
                raise Conflict("The coupon is not valid any more.")
            replayed = await self._drop(coupon, room, for_s, effect)
            # The ledger remembers the keys of acts that had an effect, also of an epoch before this one.
            if await self._effects.find(caller.shop, effect) is None:
                raise Conflict("The ledger could not take the drop.")
        await self._changed(coupon)
        try:
            [reading] = await self._readings([await self._find(caller, coupon_id)])
        except LedgerUnavailable as error:
            raise OutcomeUnknown("The drop is done, and the ledger cannot be read; repeat to see it.") from error
        if reading.state is CouponState.OPEN and reading.coupon.dropped_room == room.room:
            await self._news.tell(room.room, [coupon_event(reading.coupon, reading.left)], at_once=True)
        return reading, replayed

    async def _drop(self, coupon: Coupon, room: Room, for_s: int | None, effect: Effect) -> bool:
        """Whether the key had dropped it before; returns once the ledger has it."""
        arrived_s = self._clock.monotonic()

        async def ask() -> Dropped:
            return await self._hot[coupon.shard].drop(
                coupon.coupon_no,
                room_no=room.room_no,
                for_ms=0 if for_s is None else for_s * 1000,
                actor=effect.caller,
                key=effect.key,
                fingerprint=effect.fingerprint,
                shop=coupon.shop,
                arrived_s=arrived_s,
            )

        done = await in_force(ask, load_if_new=lambda: self._load_if_new(coupon), what=f"drop of {coupon.coupon}")
        if done.seq and not await self._applied.reached(coupon.shard, done.epoch, done.seq, within_s=KEPT_WITHIN_S):
            await self._changed(coupon)
            raise OutcomeUnknown("The drop is in force, and the ledger does not have it yet; repeat to be sure.")
        return done.replayed

    async def _find(self, caller: Caller, coupon_id: str) -> Coupon:
        """As the ledger has it, so that hosts see what they just did from any process."""
        number = self._mint.read_coupon(coupon_id)
        coupon = None if number is None else await self._ledger.find(number)
        if coupon is None or coupon.shop != caller.shop or coupon.coupon != coupon_id:
            raise NotFound("There is no such coupon in this shop.")
        require_room(caller, coupon.room)
        return coupon

    async def _room(self, caller: Caller, coupon: Coupon, room_id: str) -> Room:
        try:
            room = await self._rooms.own(caller, room_id)
        except NotFound as error:
            raise NotFound(error.message, param="room") from error
        if coupon.room is not None and coupon.room != room.room:
            raise Invalid("This coupon is for another room.", param="room")
        return room

    async def _check_sales(self, caller: Caller, draft: CouponDraft) -> None:
        currencies: set[str] = set() if draft.currency is None else {draft.currency}
        for at, sale_id in enumerate(draft.sales):
            try:
                sale = await self._sales.find(caller, sale_id)
            except (NotFound, Forbidden):
                raise NotFound("There is no such sale in this shop.", param=f"sales[{at}]") from None
            currencies.add(sale.currency)
            if len(currencies) > 1:
                raise Invalid("The sales of a coupon have its currency.", param=f"sales[{at}]")

    async def _readings(self, coupons: Sequence[Coupon]) -> list[CouponReading]:
        counts = await self._ledger.counts([coupon.coupon_no for coupon in coupons])
        left = await self._left(coupons)
        readings: list[CouponReading] = []
        for coupon in coupons:
            counted = counts.get(coupon.coupon_no)
            claimed, redeemed = (0, 0) if counted is None else (counted.claimed, counted.redeemed)
            state = coupon.state_at(await self._sales.now_ms(coupon.shard))
            still = left.get(coupon.coupon_no)
            sales = [await self._sale_book.by_no(sale_no) for sale_no in coupon.sales]
            readings.append(
                CouponReading(
                    coupon,
                    state,
                    claimed,
                    redeemed,
                    coupon.copies - claimed if still is None else still,
                    [sale.sale for sale in sales if sale is not None],
                )
            )
        return readings

    async def _left(self, coupons: Sequence[Coupon]) -> dict[int, int]:
        """By coupon number, as Valkey has it; without what it does not have or cannot say."""
        shards: dict[int, list[int]] = {}
        for coupon in coupons:
            shards.setdefault(coupon.shard, []).append(coupon.coupon_no)
        found: dict[int, int] = {}
        try:
            for shard, numbers in shards.items():
                left = await self._hot[shard].left(numbers)
                found.update((no, each) for no, each in zip(numbers, left, strict=True) if each is not None)
        except HotUnavailable as error:
            log.warning("coupons_without_left", error=str(error))
        return found

    async def _load_if_new(self, coupon: Coupon) -> bool:
        """Gives Valkey a coupon it never had. One it had and lost is not loaded: its counters are to be recounted."""
        try:
            if await self._ledger.is_loaded(coupon.coupon_no):
                return False
            await self._load(coupon)
        except (HotUnavailable, ShardClosed, LedgerUnavailable):
            return False
        return True

    async def _load_or_say(self, coupon: Coupon) -> None:
        """Asks a second time before it says that Valkey is away: a call that was lost may be repeated."""
        for last in (False, True):
            try:
                return await self._load(coupon)
            except (HotUnavailable, ShardClosed) as error:
                log.warning("coupon_not_loaded", coupon_no=coupon.coupon_no, error=str(error))
                if last:
                    raise OutcomeUnknown(
                        "The coupon is made and can be claimed once Valkey is back; repeat with the same key."
                    ) from error
                await asyncio.sleep(_LOAD_PAUSE_S)

    async def _load(self, coupon: Coupon) -> None:
        epoch = self._shards[coupon.shard].epoch
        await self._hot[coupon.shard].load(coupon)
        try:
            await self._ledger.mark_loaded(coupon.coupon_no, epoch)
        except GatewayError as error:
            # Valkey has it, which is what counts; the keeper finds that out and marks it.
            log.warning("coupon_not_marked_loaded", coupon_no=coupon.coupon_no, error=str(error))

    async def _changed(self, coupon: Coupon) -> None:
        """What this process and the others know of the coupon is old."""
        self._book.forget(coupon.coupon_no)
        await self._publisher.publish(bus.encode(bus.CouponChanged(coupon.coupon_no)))


def coupon_event(coupon: Coupon, left: int) -> dict[str, Any]:
    return {
        "k": "coupon",
        "coupon": coupon.coupon,
        "title": coupon.title,
        "left": left,
        "claim_until_ms": coupon.claim_until_ms,
    }
