"""Coupons by HTTP: a host makes and drops them, a viewer claims copies and reads the own claims."""

from collections.abc import AsyncIterator, Mapping
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from gateway.client.calls import Calls
from gateway.client.claims import ClaimAnswer

_PAGE_SIZE = 200
T = TypeVar("T")


class Coupon(msgspec.Struct, kw_only=True):
    coupon: str
    title: str
    kind: str
    state: str
    currency: str
    copies: int
    limit_per_viewer: int
    claim_until: str
    valid_until: str
    claimed: int
    redeemed: int
    left: int
    threshold_minor: int = 0
    value_minor: int | None = None
    percent: int | None = None
    min_minor: int | None = None
    max_minor: int | None = None
    budget_minor: int | None = None
    claim_from: str | None = None
    room: str | None = None
    dropped_room: str | None = None
    sales: list[str] = []


class Claim(msgspec.Struct, kw_only=True):
    """An own claim; `order` is what redeems it."""

    claim: str
    coupon: str
    state: str
    title: str = ""
    kind: str = ""
    currency: str = ""
    valid_until: str = ""
    value_minor: int | None = None
    percent: int | None = None
    reason: str | None = None
    order: str | None = None


class _Claimed(msgspec.Struct):
    outcome: str
    claim: Claim | None = None
    retry_after_ms: int | None = None


class CouponHost(Calls):
    async def create_coupon(
        self,
        *,
        title: str,
        kind: str,
        copies: int,
        limit_per_viewer: int,
        valid_until: str,
        key: str | None = None,
        **fields: Any,
    ) -> Coupon:
        """`fields`: the amounts of its kind, and `threshold_minor`, `claim_from`, `claim_until`, `room`, `sales`."""
        body = {
            "title": title,
            "kind": kind,
            "copies": copies,
            "limit_per_viewer": limit_per_viewer,
            "valid_until": valid_until,
            **fields,
        }
        return msgspec.json.decode((await self.call("POST", "/v1/coupons", body, key=key)).body, type=Coupon)

    async def drop(self, coupon: str, *, room: str, for_s: int | None = None, key: str | None = None) -> Coupon:
        """Opens the claim at once and shows the coupon in the room."""
        body: dict[str, Any] = {"room": room} if for_s is None else {"room": room, "for_s": for_s}
        answer = await self.call("POST", f"/v1/coupons/{quote(coupon)}/drop", body, key=key)
        return msgspec.json.decode(answer.body, type=Coupon)

    async def coupons(self, *, room: str | None = None) -> list[Coupon]:
        """Newest first; with a room those made for it or dropped there."""
        return [coupon async for coupon in _each(self, "/v1/coupons", Coupon, {} if room is None else {"room": room})]


class CouponViewer(Calls):
    async def claim(self, coupon: str, *, key: str) -> ClaimAnswer:
        answer = await self.call("POST", f"/v1/coupons/{quote(coupon)}/claims", key=key)
        claimed = msgspec.json.decode(answer.body, type=_Claimed)
        return ClaimAnswer(
            outcome=claimed.outcome,
            key=key,
            claim=claimed.claim.claim if claimed.claim else None,
            value_minor=claimed.claim.value_minor if claimed.claim else None,
            replayed=answer.is_replayed,
            retry_after_ms=claimed.retry_after_ms,
        )

    async def claims(self) -> list[Claim]:
        """The own ones, newest first."""
        return [claim async for claim in _each(self, "/v1/coupon-claims", Claim)]


async def _each(calls: Calls, path: str, kind: type[T], filters: Mapping[str, str] | None = None) -> AsyncIterator[T]:
    """Every item of a listing, page by page."""
    params = {"limit": str(_PAGE_SIZE), **(filters or {})}
    while True:
        page = (await calls.call("GET", path, params=params)).json()
        for item in page["items"]:
            yield msgspec.convert(item, kind)
        if not page["next"]:
            return
        params["after"] = page["next"]
