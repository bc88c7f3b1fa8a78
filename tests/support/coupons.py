"""Coupons as tests of the rules want them."""

from typing import Any

from gateway.domain.coupon import Coupon, CouponKind
from gateway.domain.ids import CouponId


def coupon(**facts: Any) -> Coupon:
    """5 off, ten copies, two a viewer; `facts` says what else."""
    return Coupon(
        **{
            "coupon": CouponId("cpn_31"),
            "coupon_no": 31,
            "shop": "tins",
            "shard": 3,
            "title": "Five off",
            "kind": CouponKind.AMOUNT,
            "currency": "CNY",
            "value_minor": 500,
            "copies": 10,
            "limit_per_viewer": 2,
            "claim_from_ms": 1_000,
            "claim_until_ms": 2_000,
            "valid_until_ms": 3_000,
            "created_at_ms": 0,
            **facts,
        }
    )
