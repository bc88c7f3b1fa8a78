"""Reading claims: from the ledger, and before the ledger has them, from the keys that hold them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from gateway.domain.caller import Caller
from gateway.domain.coupon import Claim, ClaimAnswer, ClaimState, Coupon
from gateway.domain.ids import ClaimId, ClaimPlace, IdMint
from gateway.errors import Invalid, LedgerUnavailable, NotFound, Unavailable
from gateway.flows.coupon_book import CouponBook

Key = tuple[str, int, str]
"""Viewer, coupon number, idempotency key."""


class Ledger(Protocol):
    """`gateway.ledger.coupons.LedgerCoupons`."""

    async def claims_of_viewer(self, shop: str, viewer: str, *, limit: int, after: str | None) -> list[Claim]: ...
    async def claims_by_keys(self, keys: Sequence[Key]) -> Mapping[Key, Claim]: ...
    async def claims_by_place(self, places: Sequence[tuple[int, str]]) -> Mapping[str, Claim]: ...
    async def lost_claims(self, places: Sequence[ClaimPlace], claim_ids: Sequence[str]) -> set[str]: ...


class HeldClaim(Protocol):
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def value_minor(self) -> int: ...


class Held(Protocol):
    """`gateway.hot.coupons.HotCoupons` of one shard."""

    async def held(
        self, coupon_no: int, viewer_keys: Sequence[tuple[str, str]]
    ) -> tuple[Sequence[HeldClaim | None], bool]: ...


class ClaimReader:
    def __init__(self, *, ledger: Ledger, held: Mapping[int, Held], book: CouponBook, mint: IdMint) -> None:
        self._ledger = ledger
        self._held = held
        self._book = book
        self._mint = mint

    async def own(
        self, caller: Caller, *, limit: int, after: str | None
    ) -> tuple[list[tuple[Claim, Coupon]], str | None]:
        """The caller's claims, newest first, and the cursor of the next page."""
        if after is not None and self._mint.read_claim(after) is None:
            raise Invalid("That is no cursor of this list.", param="after")
        claims = await self._ledger.claims_of_viewer(caller.shop, caller.sub, limit=limit + 1, after=after)
        shown = [(claim, await self._coupon(claim.coupon_no)) for claim in claims[:limit]]
        return shown, claims[limit - 1].claim if len(claims) > limit else None

    async def answered(self, caller: Caller, key: str, answer: ClaimAnswer) -> tuple[Claim, Coupon]:
        """The claim that an answer gave as it stands: just taken, or whatever became of the one the key holds."""
        claim_id = answer.claim or ClaimId("")
        place = self._mint.read_claim(claim_id)
        assert place is not None, "an answer names a claim"
        if answer.replayed:
            try:
                known = (await self._ledger.claims_by_place([(place.coupon_no, claim_id)])).get(claim_id)
            except LedgerUnavailable:
                known = None
            if known is not None:
                return known, await self._coupon(place.coupon_no)
        taken = _taken(claim_id, place, caller.sub, key, answer.value_minor)
        return taken, self._book.cached_no(place.coupon_no) or await self._coupon(place.coupon_no)

    async def by_keys(self, viewer: str, keys: Sequence[tuple[Coupon, str]]) -> list[Claim | None]:
        """For each (coupon, key) of a viewer the claim it holds; one question to the ledger."""
        away: LedgerUnavailable | None = None
        known: Mapping[Key, Claim] = {}
        try:
            known = await self._ledger.claims_by_keys([(viewer, coupon.coupon_no, key) for coupon, key in keys])
        except LedgerUnavailable as error:
            away = error  # what Valkey holds is still told
        found: list[Claim | None] = []
        for coupon, key in keys:
            claim = known.get((viewer, coupon.coupon_no, key))
            if claim is None:
                (held,), is_there = await self._held[coupon.shard].held(coupon.coupon_no, [(viewer, key)])
                if held is None and away is not None and not is_there:
                    raise Unavailable from away
                if held is not None:
                    claim_id = self._mint.claim(held.at_ms, coupon.coupon_no, held.epoch, held.seq)
                    place = ClaimPlace(held.at_ms, coupon.coupon_no, held.epoch, held.seq)
                    claim = await self._by_place(_taken(claim_id, place, viewer, key, held.value_minor), place)
            found.append(claim)
        return found

    async def _by_place(self, taken: Claim, place: ClaimPlace) -> Claim | None:
        """The ledger first: it may have refused it, and Valkey not have been told. One that was lost holds nothing."""
        try:
            known = (await self._ledger.claims_by_place([(taken.coupon_no, taken.claim)])).get(taken.claim)
            if known is None and taken.claim in await self._ledger.lost_claims([place], [taken.claim]):
                return None
        except LedgerUnavailable:
            known = None
        return known or taken

    async def _coupon(self, coupon_no: int) -> Coupon:
        coupon = await self._book.by_no(coupon_no)
        if coupon is None:
            raise NotFound("There is no such coupon.")
        return coupon


def _taken(claim_id: ClaimId, place: ClaimPlace, viewer: str, key: str, value_minor: int) -> Claim:
    """A claim that only Valkey has."""
    return Claim(
        claim=claim_id,
        coupon_no=place.coupon_no,
        viewer=viewer,
        key=key,
        value_minor=value_minor,
        state=ClaimState.CLAIMED,
        reason=None,
        at_ms=place.at_ms,
    )
