"""Coupons and claims as HTTP shows them."""

from msgspec import Struct

from gateway.api.replies import instant
from gateway.domain.coupon import Claim, ClaimAnswer, ClaimOutcome, Coupon, CouponKind
from gateway.flows.coupons import CouponReading
from gateway.wire.told import ClaimOutcomeWord, ClaimStateWord, CouponKindWord, CouponStateWord, Moment


class CouponReply(Struct, kw_only=True, omit_defaults=True):
    """Of the amounts those of its kind."""

    coupon: str
    title: str
    kind: CouponKindWord
    state: CouponStateWord
    """Of claims: `scheduled`, `open`, `closed`; `expired` once it is not valid any more."""
    currency: str
    threshold_minor: int
    copies: int
    limit_per_viewer: int
    claim_until: Moment
    valid_until: Moment
    created_at: Moment
    claimed: int
    redeemed: int
    left: int
    value_minor: int | None = None
    percent: int | None = None
    min_minor: int | None = None
    max_minor: int | None = None
    budget_minor: int | None = None
    claim_from: Moment | None = None
    """Left out where only a drop opens the claim."""
    room: str | None = None
    dropped_room: str | None = None
    """Where it was dropped last."""
    sales: list[str] | None = None
    """The sales it is good for; left out: all of the shop in its currency."""

    # Counts of 0 are said, so they have no default to be left out by.


class ClaimReply(Struct, kw_only=True, omit_defaults=True):
    """`value_minor`: of a `percent` coupon there is none, as the order says what it takes off."""

    claim: str
    coupon: str
    title: str
    kind: CouponKindWord
    state: ClaimStateWord
    """`claimed`, `confirmed`, `redeemed`, `expired` or `refused`."""
    currency: str
    threshold_minor: int
    claimed_at: Moment
    valid_until: Moment
    value_minor: int | None = None
    percent: int | None = None
    reason: str | None = None
    order: str | None = None
    """What redeems it."""


class ClaimOutcomeReply(Struct, kw_only=True, omit_defaults=True):
    outcome: ClaimOutcomeWord
    claim: ClaimReply | None = None
    opens_at: Moment | None = None
    retry_after_ms: int | None = None


def coupon_reply(reading: CouponReading) -> CouponReply:
    coupon = reading.coupon
    return CouponReply(
        coupon=coupon.coupon,
        title=coupon.title,
        kind=coupon.kind.value,
        state=reading.state.value,
        currency=coupon.currency,
        threshold_minor=coupon.threshold_minor,
        copies=coupon.copies,
        limit_per_viewer=coupon.limit_per_viewer,
        claim_until=instant(coupon.claim_until_ms),
        valid_until=instant(coupon.valid_until_ms),
        created_at=instant(coupon.created_at_ms),
        claimed=reading.claimed,
        redeemed=reading.redeemed,
        left=reading.left,
        value_minor=coupon.value_minor or None,
        percent=coupon.percent or None,
        min_minor=coupon.min_minor or None,
        max_minor=coupon.max_minor or None,
        budget_minor=coupon.budget_minor or None,
        claim_from=None if coupon.claim_from_ms is None else instant(coupon.claim_from_ms),
        room=coupon.room,
        dropped_room=coupon.dropped_room,
        sales=list(reading.sales) or None,
    )


def claim_reply(claim: Claim, coupon: Coupon, now_ms: int) -> ClaimReply:
    return ClaimReply(
        claim=claim.claim,
        coupon=coupon.coupon,
        title=coupon.title,
        kind=coupon.kind.value,
        state=claim.told_at(now_ms, coupon.valid_until_ms).value,
        currency=coupon.currency,
        threshold_minor=coupon.threshold_minor,
        claimed_at=instant(claim.at_ms),
        valid_until=instant(coupon.valid_until_ms),
        value_minor=None if coupon.kind is CouponKind.PERCENT else claim.value_minor,
        percent=coupon.percent or None,
        reason=claim.reason,
        order=claim.order,
    )


def claim_outcome_reply(answer: ClaimAnswer) -> ClaimOutcomeReply:
    """An outcome that gives nothing, with the facts that belong to it."""
    reply = ClaimOutcomeReply(outcome=answer.outcome.value)
    if answer.outcome is ClaimOutcome.NOT_STARTED and answer.opens_at_ms:
        reply.opens_at = instant(answer.opens_at_ms)
    if answer.outcome is ClaimOutcome.TOO_FAST:
        reply.retry_after_ms = answer.retry_after_ms
    return reply
