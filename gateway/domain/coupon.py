"""A coupon: a discount with limited copies. A viewer claims a copy; an order redeems the claim.

What follows from these facts alone is here; who still gets a copy is decided by `lua/claim_coupons.lua` and judged
again by the ledger.
"""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from gateway.domain.ids import ClaimId, ClaimPlace, CouponId, OrderId, RoomId

MAX_COPIES = 100_000_000
MAX_COUPON_SALES = 200
MAX_BUDGET_MINOR = 9 * 10**15
"""Below 2^53, where Lua's numbers end."""
MIN_PERCENT, MAX_PERCENT = 1, 99
COUPONS_A_GROUP = 16
"""Coupons that the orders of one group call may name; each costs the script two reads."""
DRAWS = 2**31
"""A draw of the process is one of so many numbers, from 0."""


class CouponKind(StrEnum):
    AMOUNT = "amount"
    PERCENT = "percent"
    RANDOM = "random"


class CouponState(StrEnum):
    """Of claims; what was claimed is good until the coupon is `expired`."""

    SCHEDULED = "scheduled"
    OPEN = "open"
    CLOSED = "closed"
    EXPIRED = "expired"


class ClaimOutcome(StrEnum):
    """What the contract calls the outcome of a claim."""

    CLAIMED = "claimed"
    GONE = "gone"
    LIMIT_REACHED = "limit_reached"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    TOO_FAST = "too_fast"


class ClaimVerdict(StrEnum):
    """The words of `lua/claim_coupons.lua`: what the script says of one request."""

    CLAIMED = "claimed"
    REPLAYED = "replayed"
    LATE = "late"
    GONE = "gone"
    LIMIT_REACHED = "limit_reached"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    BACKLOG = "backlog"


class ClaimState(StrEnum):
    """Where a claim stands. `claimed` is Valkey's word, `confirmed` the ledger's; `expired` is told, not stored."""

    CLAIMED = "claimed"
    CONFIRMED = "confirmed"
    REFUSED = "refused"
    REDEEMED = "redeemed"
    EXPIRED = "expired"


class Coupon(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of a coupon that change only by acts of its host; counters live in Valkey and in the ledger."""

    coupon: CouponId
    coupon_no: int
    shop: str
    shard: int
    room: RoomId | None = None
    title: str
    kind: CouponKind
    currency: str
    value_minor: int = 0
    """Of `amount`."""
    percent: int = 0
    """Of `percent`."""
    min_minor: int = 0
    max_minor: int = 0
    budget_minor: int = 0
    """Of `random`: each claim draws its own value, and all of them together are at most the budget."""
    threshold_minor: int = 0
    """Price times quantity from which it may be used."""
    copies: int
    limit_per_viewer: int
    claim_from_ms: int | None
    """None: claims open by a drop only."""
    claim_until_ms: int
    valid_until_ms: int
    created_at_ms: int
    sales: tuple[int, ...] = ()
    """Numbers of the sales it is bound to; empty: any of its shop."""
    dropped_room: RoomId | None = None
    """The room it was shown in last."""
    retired: bool = False
    """It ended long ago, and the ledger alone answers for it."""

    def state_at(self, now_ms: int) -> CouponState:
        """The state by the time of Valkey, which is also what the scripts judge by."""
        if self.retired or now_ms >= self.valid_until_ms:
            return CouponState.EXPIRED
        if now_ms >= self.claim_until_ms:
            return CouponState.CLOSED
        if self.claim_from_ms is None or now_ms < self.claim_from_ms:
            return CouponState.SCHEDULED
        return CouponState.OPEN

    def fits(self, *, sale_no: int, currency: str, amount_minor: int, now_ms: int) -> bool:
        """Whether an order of `amount_minor` (price times quantity) may redeem a claim of it."""
        return (
            now_ms < self.valid_until_ms
            and (not self.sales or sale_no in self.sales)
            and currency == self.currency
            and amount_minor >= self.threshold_minor
        )

    def discount_of(self, *, price_minor: int, quantity: int, floor_minor: int | None, claim_value_minor: int) -> int:
        """What it takes off an order that it fits: nothing is sold under its floor, nor for less than 1. At 0 it is of
        no use."""
        amount = price_minor * quantity
        if self.kind is CouponKind.PERCENT:
            off = amount * self.percent // 100
        else:
            off = self.value_minor if self.kind is CouponKind.AMOUNT else claim_value_minor
        return max(0, min(off, amount - max((floor_minor or 0) * quantity, 1)))

    def in_valkey(self, *, left: int, budget_left: int) -> dict[str, str]:
        """The coupon as `lua/load_coupon.lua` spells it, with its counters."""
        numbers = {
            "value": self.value_minor,
            "percent": self.percent,
            "min": self.min_minor,
            "max": self.max_minor,
            "threshold": self.threshold_minor,
            "copies": self.copies,
            "left": left,
            "budget_left": budget_left,
            "limit": self.limit_per_viewer,
            "claim_until": self.claim_until_ms,
            "valid_until": self.valid_until_ms,
        }
        return {
            "kind": str(self.kind),
            "currency": self.currency,
            "sales": f",{','.join(map(str, self.sales))}," if self.sales else "",
            "claim_from": "" if self.claim_from_ms is None else str(self.claim_from_ms),
            **{name: str(number) for name, number in numbers.items()},
        }


class ClaimRequest(msgspec.Struct, gc=False):
    """One viewer asks for a copy. `answer` is called exactly once, with a `ClaimAnswer` or an error."""

    viewer: str
    key: str
    coupon_no: int
    arrived_s: float
    """On the monotonic clock."""
    answer: "Callable[[ClaimAnswer | Exception], None]"
    sent: bool = False
    """Once true, an answer that never came back means that the outcome is unknown."""
    last: "ClaimAnswer | Exception | None" = None
    """The last word on a request whose earlier reply was lost; it stands once its time to be decided is over."""

    @property
    def group_no(self) -> int:
        """What it is decided together with."""
        return self.coupon_no

    @property
    def needs_no(self) -> int:
        """What it brings into its group besides: nothing."""
        return 0


class ClaimAnswer(msgspec.Struct, frozen=True, gc=False):
    """How a request was decided. The fields past the outcome are set where the outcome calls for them."""

    outcome: ClaimOutcome
    claim: ClaimId | None = None
    value_minor: int = 0
    """What the claim is worth by itself: of `random` what was drawn, of `amount` the coupon's value, of `percent` 0."""
    at_ms: int = 0
    replayed: bool = False
    opens_at_ms: int = 0
    """0: by a drop only."""
    retry_after_ms: int = 0

    @property
    def took_effect(self) -> bool:
        return self.outcome is ClaimOutcome.CLAIMED


class Claim(msgspec.Struct, frozen=True, gc=False):
    """A claim as the ledger (or, before it, the stream) tells it."""

    claim: ClaimId
    coupon_no: int
    viewer: str
    key: str | None
    value_minor: int
    state: ClaimState
    reason: str | None
    at_ms: int
    sale_no: int | None = None
    order: OrderId | None = None
    """Of a redeemed claim, what redeemed it."""

    def told_at(self, now_ms: int, valid_until_ms: int) -> ClaimState:
        """The state that viewers see: one that was not used in time has expired."""
        unused = self.state in (ClaimState.CLAIMED, ClaimState.CONFIRMED)
        return ClaimState.EXPIRED if unused and now_ms >= valid_until_ms else self.state


def claim_field(place: ClaimPlace) -> str:
    """A claim's name inside its coupon, as the scripts spell it."""
    return f"{place.epoch}|{place.seq}"
