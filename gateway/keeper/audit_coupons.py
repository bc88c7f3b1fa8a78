"""Judging the coupons of one moment of both stores; pure. Their claims by name are in `audit_claims.py`."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.domain.coupon import CouponKind
from gateway.keeper.audit_judge import Findings, ShardMoment
from gateway.keeper.audit_ports import CouponRow
from gateway.keeper.audit_report import Rule

_COUNTERS = ("left", "budget_left")


@dataclass(slots=True)
class CouponMoment:
    row: CouponRow
    shard: ShardMoment

    @property
    def coupon_no(self) -> int:
        return self.row.coupon.coupon_no

    @property
    def hot(self) -> Mapping[str, str] | None:
        """Its fields; None when Valkey does not have it."""
        return self.shard.cut.coupons.get(self.coupon_no)

    @property
    def should_be_there(self) -> bool:
        """Valkey was given it in this epoch, and it was not retired."""
        return self.row.loaded_epoch == self.shard.row.epoch and not self.row.coupon.retired


def judge_coupon(moment: CouponMoment, findings: Findings) -> None:
    row, coupon = moment.row, moment.row.coupon
    is_random = coupon.kind is CouponKind.RANDOM
    worth = row.worth_minor if is_random else 0
    name = f"coupon {coupon.coupon}"
    if (row.claimed, row.spent_minor) != (row.claims, worth):
        findings[Rule.CLAIMED].add(
            f"{name}: claimed {row.claimed}, spent {row.spent_minor}; there are {row.claims} claims of {worth}"
        )
    if row.claims > coupon.copies:
        findings[Rule.COPIES].add(f"{name}: {row.claims} claims of {coupon.copies} copies")
    elif worth + (coupon.copies - row.claims) * coupon.min_minor > coupon.budget_minor:
        findings[Rule.COPIES].add(
            f"{name}: {row.claims} claims of {worth}, the budget is {coupon.budget_minor} for {coupon.copies} copies"
        )
    low, high = (coupon.min_minor, coupon.max_minor) if is_random else (coupon.value_minor, coupon.value_minor)
    if row.claims and not (low <= row.lowest_minor and row.highest_minor <= high):
        findings[Rule.COPIES].add(
            f"{name}: claims are worth {row.lowest_minor} to {row.highest_minor}, and may be {low} to {high}"
        )
    _compare(moment, name, worth, findings)


def _compare(moment: CouponMoment, name: str, worth: int, findings: Findings) -> None:
    row, coupon, shard, hot = moment.row, moment.row.coupon, moment.shard, moment.hot
    if hot is None:
        if moment.should_be_there and not shard.row.rebuilding and shard.cut.epoch == shard.row.epoch:
            findings[Rule.COUPONS].add(f"{name}: Valkey does not have it")
        return
    if shard.why_not:
        return
    behind, (refused, refused_worth) = shard.behind.coupons[coupon.coupon_no], shard.refused_claims[coupon.coupon_no]
    left = coupon.copies - row.claims - len(behind.claims) - refused
    budget_left = coupon.budget_minor - worth
    if coupon.kind is CouponKind.RANDOM:
        budget_left -= behind.worth_minor + refused_worth
    if (hot.get("left"), hot.get("budget_left")) != (str(left), str(budget_left)):
        findings[Rule.COPIES_LEFT].add(
            f"{name}: left {hot.get('left')}, budget {hot.get('budget_left')} in Valkey; {coupon.copies} copies are"
            f" {left} left + {row.claims} claimed + {len(behind.claims)} waiting + {refused} releasing, of the budget"
            f" {budget_left} is left"
        )
    facts = coupon.in_valkey(left=left, budget_left=budget_left)
    if behind.dropped_ms is not None:
        claim_from = min(behind.dropped_ms, coupon.claim_from_ms or behind.dropped_ms)
        facts |= {"claim_from": str(claim_from), "claim_until": str(behind.until_ms)}
    off = [
        f"{field} {hot.get(field)} is {facts.get(field)}"
        for field in sorted(hot.keys() | facts.keys())
        if field not in _COUNTERS and hot.get(field) != facts.get(field)
    ]
    if off:
        findings[Rule.COUPONS].add(f"{name}: {', '.join(off)} in the ledger and behind its cursor")
