"""Coupons in the ledger: made once a key, read and counted; which of them Valkey was given; and their claims.

Claims, drops and what orders redeem come through the order stream and are applied by the writer, not here.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.domain.coupon import Claim, ClaimState, Coupon, CouponKind
from gateway.domain.drafts import CouponDraft, Effect
from gateway.domain.ids import ClaimId, ClaimPlace, CouponId, IdMint, OrderId, RoomId
from gateway.errors import Invalid, NotFound
from gateway.ledger.effects import take_key
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("coupons.sql")

UNLOADED_MOST = 500  # a sweep takes the next ones the next time
OF_ROOM_MOST = 50  # a show has a handful of coupons; the newest are the ones that matter

Key = tuple[str, int, str]
"""Viewer, coupon number, idempotency key."""


class CouponCreated(NamedTuple):
    coupon: Coupon
    replayed: bool
    loaded: bool
    """Valkey was given it already; only a repeat can find that."""


class CouponCounts(NamedTuple):
    """As far as the ledger has applied the stream."""

    claimed: int
    """Claims that were not refused."""
    redeemed: int
    """Of these, those that orders redeem, paid or yet to be paid."""
    spent_minor: int
    """Of a budget: what the claims are worth."""


class DropDone(NamedTuple):
    epoch: int
    seq: int
    room: str | None
    actor: str
    at_ms: int
    before: str | None
    """`claim_from claim_until`, the first empty where only a drop opens it."""
    after: str | None
    """None when the drop had no effect."""


class LedgerCoupons:
    def __init__(self, ledger: Ledger, mint: IdMint) -> None:
        self._ledger = ledger
        self._mint = mint

    # Coupons.

    async def create(self, shop: str, draft: CouponDraft, effect: Effect) -> CouponCreated:
        """One coupon a key, in one transaction. Raises KeyReused; NotFound for a room or a sale of another shop;
        Invalid where no currency can be told, or a sale it is bound to has another one."""
        async with self._ledger.transaction() as connection:
            place = await connection.fetchrow(_QUERIES["place"], shop)
            if place is None:
                raise NotFound("There is no such shop.")
            coupon_no: int = place["coupon_no"]
            coupon_id: str = self._mint.coupon(place["at_ms"], coupon_no)
            held = await take_key(connection, shop_no=place["shop_no"], effect=effect, object_id=coupon_id)
            if held is None:
                await _insert(connection, place, coupon_id, draft)
            else:
                coupon_no = self._mint.read_coupon(held) or 0
            row = await connection.fetchrow(_QUERIES["by_number"], [coupon_no])
        if row is None:
            raise NotFound("There is no such coupon.")
        return CouponCreated(read_coupon(row), held is not None, row["loaded_epoch"] is not None)

    async def find(self, coupon_no: int) -> Coupon | None:
        row = await self._ledger.fetchrow(_QUERIES["by_number"], [coupon_no])
        return None if row is None else read_coupon(row)

    async def find_many(self, coupon_nos: Sequence[int]) -> list[Coupon]:
        """In the order asked; those the ledger does not have are left out."""
        if not coupon_nos:
            return []
        found = {
            row["coupon_no"]: read_coupon(row) for row in await self._ledger.fetch(_QUERIES["by_number"], coupon_nos)
        }
        return [found[coupon_no] for coupon_no in coupon_nos if coupon_no in found]

    async def of_shop(
        self, shop: str, *, limit: int, after: int | None = None, only_rooms: Collection[str] | None = None
    ) -> list[Coupon]:
        """Newest first, behind the coupon number `after`; only coupons of those rooms where they are given."""
        rooms = None if only_rooms is None else list(only_rooms)
        return await self._named(_QUERIES["of_shop"], shop, after, rooms, limit)

    async def of_room_behind(
        self,
        shop: str,
        room_no: int,
        *,
        limit: int,
        after: int | None = None,
        only_rooms: Collection[str] | None = None,
    ) -> list[Coupon]:
        """Those made for the room or ever dropped there; newest first, behind the coupon number `after`."""
        rooms = None if only_rooms is None else list(only_rooms)
        return await self._named(_QUERIES["of_room_behind"], room_no, shop, after, rooms, limit)

    async def of_room(self, room_no: int, *, limit: int = OF_ROOM_MOST) -> list[Coupon]:
        """Those made for the room, or dropped there last; newest first."""
        return await self._named(_QUERIES["of_room"], room_no, limit)

    async def unloaded(self, shard: int, epoch: int) -> list[Coupon]:
        """Coupons of the shard that Valkey was given neither in `epoch` nor before; nobody has claimed them."""
        return await self._named(_QUERIES["unloaded"], shard, epoch, UNLOADED_MOST)

    async def is_loaded(self, coupon_no: int) -> bool:
        """Whether Valkey was given it in any epoch."""
        return bool(await self._ledger.fetchval(_QUERIES["is_loaded"], coupon_no))

    async def mark_loaded(self, coupon_no: int, epoch: int) -> None:
        await self._ledger.execute(_QUERIES["mark_loaded"], coupon_no, epoch)

    async def counts(self, coupon_nos: Sequence[int]) -> Mapping[int, CouponCounts]:
        """By coupon number."""
        rows = await self._ledger.fetch(_QUERIES["counts"], coupon_nos)
        return {row["coupon_no"]: CouponCounts(row["claimed"], row["redeemed"], row["spent_minor"]) for row in rows}

    async def drops(self, coupon_no: int) -> list[DropDone]:
        """Oldest first."""
        return [DropDone(*row) for row in await self._ledger.fetch(_QUERIES["drops"], coupon_no)]

    async def was_refused(self, *, shard: int, epoch: int, seq: int, coupon_no: int) -> bool:
        """Whether the ledger has this act without effect: it could not take what Valkey took."""
        return bool(await self._ledger.fetchval(_QUERIES["was_refused"], shard, epoch, seq, coupon_no))

    # Claims. Their states are the stored ones: what has expired meanwhile is told by `Claim.told_at`.

    async def claims_of_viewer(self, shop: str, viewer: str, *, limit: int, after: str | None = None) -> list[Claim]:
        """Newest first, behind the claim `after`."""
        return [_claim(row) for row in await self._ledger.fetch(_QUERIES["of_viewer"], viewer, shop, after, limit)]

    async def claims_of_coupon(
        self, coupon_no: int, *, limit: int, after: tuple[int, int] | None = None
    ) -> list[Claim]:
        """In the order they were decided, behind the place (epoch, sequence number) `after`."""
        rows = await self._ledger.fetch(_QUERIES["of_coupon"], coupon_no, *(after or (0, 0)), limit)
        return [_claim(row) for row in rows]

    async def claims_by_keys(self, keys: Sequence[Key]) -> dict[Key, Claim]:
        """Those of (viewer, coupon number, key) that hold a claim, as the scripts remember it while it is in Valkey."""
        rows = await self._ledger.fetch(
            _QUERIES["by_keys"], [at[0] for at in keys], [at[1] for at in keys], [at[2] for at in keys]
        )
        return {(row["viewer"], row["coupon_no"], row["key"]): _claim(row) for row in rows}

    async def claims_by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Claim]:
        """Claims by (coupon number, claim id); those the ledger does not have are left out."""
        at = [(coupon_no, place) for coupon_no, claim in places if (place := self._mint.read_claim(claim)) is not None]
        rows = await self._ledger.fetch(
            _QUERIES["by_place"],
            [coupon_no for coupon_no, _ in at],
            [place.epoch for _, place in at],
            [place.seq for _, place in at],
        )
        return {row["claim"]: _claim(row) for row in rows}

    async def lost_claims(self, places: Sequence[ClaimPlace], claim_ids: Sequence[str]) -> set[str]:
        """Of claims by place and, beside it, id: those that the ledger does not have and never will, because its cursor
        is past them. One statement, so that the cursor and the claims are of one moment."""
        rows = await self._ledger.fetch(
            _QUERIES["lost"],
            [at.coupon_no for at in places],
            list(claim_ids),
            [at.epoch for at in places],
            [at.seq for at in places],
        )
        return {row["claim"] for row in rows}

    async def _named(self, query: str, *values: object) -> list[Coupon]:
        return await self.find_many([row["coupon_no"] for row in await self._ledger.fetch(query, *values)])


async def _insert(connection: Any, place: Any, coupon_id: str, draft: CouponDraft) -> None:
    shop_no = place["shop_no"]
    room_no = None
    if draft.room is not None:
        room_no = await connection.fetchval(_QUERIES["room"], draft.room, shop_no)
        if room_no is None:
            raise NotFound("There is no such room in this shop.", param="room")
    bound = await connection.fetch(_QUERIES["bound"], list(draft.sales), shop_no)
    if len(bound) < len(set(draft.sales)):
        raise NotFound("There is no such sale in this shop.", param="sales")
    currencies = {row["currency"] for row in bound}
    if draft.currency is not None:
        currency = draft.currency
    elif bound:
        currency = min(currencies)
    else:
        currency = await connection.fetchval(_QUERIES["newest_currency"], shop_no)
    if currency is None:
        raise Invalid("A coupon has a currency while its shop has no sale.", param="currency")
    if currencies - {currency}:
        raise Invalid("The sales of a coupon have its currency.", param="currency")
    claim_until_ms = draft.valid_until_ms if draft.claim_until_ms is None else draft.claim_until_ms
    await connection.execute(
        _QUERIES["insert"],
        place["coupon_no"],
        coupon_id,
        shop_no,
        room_no,
        draft.title,
        str(draft.kind),
        draft.value_minor,
        draft.percent,
        draft.min_minor,
        draft.max_minor,
        draft.budget_minor,
        draft.threshold_minor,
        draft.copies,
        draft.limit_per_viewer,
        currency,
        draft.claim_from_ms,
        claim_until_ms,
        draft.valid_until_ms,
        place["at_ms"],
    )
    if bound:
        await connection.execute(_QUERIES["insert_sales"], place["coupon_no"], [row["sale_no"] for row in bound])


def read_coupon(row: Any) -> Coupon:
    """Of the columns of `by_number`."""
    return Coupon(
        coupon=CouponId(row["coupon"]),
        coupon_no=row["coupon_no"],
        shop=row["shop"],
        shard=row["shard"],
        room=None if row["room"] is None else RoomId(row["room"]),
        title=row["title"],
        kind=CouponKind(row["kind"]),
        currency=row["currency"],
        value_minor=row["value_minor"],
        percent=row["percent"],
        min_minor=row["min_minor"],
        max_minor=row["max_minor"],
        budget_minor=row["budget_minor"],
        threshold_minor=row["threshold_minor"],
        copies=row["copies"],
        limit_per_viewer=row["limit_per_viewer"],
        claim_from_ms=row["claim_from_ms"],
        claim_until_ms=row["claim_until_ms"],
        valid_until_ms=row["valid_until_ms"],
        created_at_ms=row["created_at_ms"],
        sales=tuple(row["sales"]),
        dropped_room=None if row["dropped_room"] is None else RoomId(row["dropped_room"]),
        retired=row["retired"],
    )


def _claim(row: Any) -> Claim:
    return Claim(
        claim=ClaimId(row["claim"]),
        coupon_no=row["coupon_no"],
        viewer=row["viewer"],
        key=row["key"],
        value_minor=row["value_minor"],
        state=ClaimState(row["state"]),
        # The ledger keeps which of its judgements it was, for people; to viewers all of them are one.
        reason=None if row["reason"] is None else "ledger",
        at_ms=row["at_ms"],
        sale_no=row["sale_no"],
        order=None if row["order_id"] is None else OrderId(row["order_id"]),
    )
