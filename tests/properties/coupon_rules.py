"""The rules of coupons in plain words. Copies are there or not; what is left, and of the budget, are sums over them."""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.properties.things import Order

DRAWS = 2**31


@dataclass(slots=True)
class Coupon:
    no: int
    kind: str
    copies: int
    limit: int
    claim_from: int | None
    claim_until: int
    valid_until: int
    value: int = 0
    percent: int = 0
    least: int = 0
    most: int = 0
    budget: int = 0
    threshold: int = 0
    sales: tuple[int, ...] = ()

    def copy(self) -> "Coupon":
        return replace(self)

    def closed(self, now_ms: int, opens_up_to: int | None) -> list[Any]:
        """Why nobody may claim; empty: they may."""
        if now_ms >= min(self.claim_until, self.valid_until):
            return ["ended"]
        opens_at = self.claim_from
        if opens_at is None or now_ms < opens_at or (opens_up_to is not None and opens_at > opens_up_to):
            return ["not_started", opens_at or 0]
        return []

    def value_of_next(self, taken: "list[Claim]", draw: int) -> int:
        if self.kind != "random":
            return self.value
        left, budget = self.copies - len(taken), self.budget - sum(claim.value for claim in taken)
        highest = min(self.most, budget - self.least * (left - 1), max(self.least, 2 * budget // left - self.least))
        return self.least + draw * (highest - self.least + 1) // DRAWS

    def takes_off(self, price: int, quantity: int, floor: int, claim: "Claim") -> int:
        amount = price * quantity
        if amount < self.threshold:
            return 0
        off = amount * self.percent // 100 if self.kind == "percent" else claim.value
        return max(0, min(off, amount - max(floor * quantity, 1)))

    def drop(self, at: int, claim_until: int) -> None:
        self.claim_from = at if self.claim_from is None else min(self.claim_from, at)
        self.claim_until = claim_until


@dataclass(slots=True)
class Claim:
    """A copy that somebody has taken."""

    coupon_no: int
    viewer: str
    key: str
    value: int
    epoch: int
    seq: int
    at_ms: int
    status: str = "waiting"
    """As the ledger has it: waiting (in the stream) | confirmed | refused | lost."""
    there: bool = True
    """In Valkey it is taken."""
    answers: bool = True
    """Its key gives it as the answer, in Valkey."""

    @property
    def field(self) -> str:
        return f"{self.epoch}|{self.seq}"


@dataclass(slots=True)
class Coupons:
    """The coupons of a shard: Valkey's part, and what the ledger knows of their windows."""

    offered: dict[int, Coupon] = field(default_factory=dict)
    ledger: dict[int, Coupon] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = {no: coupon.copy() for no, coupon in self.offered.items()}

    def taken(self, coupon_no: int) -> list[Claim]:
        return [claim for claim in self.claims if claim.there and claim.coupon_no == coupon_no]

    def answering(self, coupon_no: int) -> dict[tuple[str, str], Claim]:
        return {(c.viewer, c.key): c for c in self.claims if c.answers and c.coupon_no == coupon_no}

    def named(self, coupon_no: int, place: str) -> Claim | None:
        return next((claim for claim in self.taken(coupon_no) if claim.field == place), None)

    def lose(self) -> None:
        for claim in self.claims:
            if claim.status == "waiting":
                claim.status, claim.there, claim.answers = "lost", False, False

    def recount(self) -> None:
        for claim in self.claims:
            claim.there = claim.answers = claim.status == "confirmed"
        self.offered = {no: coupon.copy() for no, coupon in self.ledger.items()}

    # What must hold whatever happened.

    def keeps_its_promises(self) -> bool:
        for no, coupon in self.offered.items():
            promised = [c for c in self.claims if c.coupon_no == no and c.status in ("waiting", "confirmed")]
            for claims in (promised, self.taken(no)):
                if len(claims) > coupon.copies:
                    return False
                if coupon.kind == "random" and sum(claim.value for claim in claims) > coupon.budget:
                    return False
                if coupon.kind == "random" and any(not coupon.least <= c.value <= coupon.most for c in claims):
                    return False
                viewers = [claim.viewer for claim in claims]
                if any(viewers.count(viewer) > coupon.limit for viewer in viewers):
                    return False
        return True

    # As Valkey spells it.

    def hashes(self, no: int, orders: "list[Order]") -> list[dict[str, str]]:
        """The coupon, its answers, its viewers and its claims."""
        coupon, taken = self.offered[no], self.taken(no)
        spent = sum(claim.value for claim in taken) if coupon.kind == "random" else 0
        facts = {
            "kind": coupon.kind,
            "value": coupon.value,
            "percent": coupon.percent,
            "min": coupon.least,
            "max": coupon.most,
            "threshold": coupon.threshold,
            "copies": coupon.copies,
            "left": coupon.copies - len(taken),
            "budget_left": coupon.budget - spent,
            "limit": coupon.limit,
            "claim_from": "" if coupon.claim_from is None else coupon.claim_from,
            "claim_until": coupon.claim_until,
            "valid_until": coupon.valid_until,
            "currency": "CNY",
            "sales": f",{','.join(map(str, coupon.sales))}," if coupon.sales else "",
        }
        viewers = [claim.viewer for claim in taken]
        holders = {id(o.claim): f"{o.epoch}:{o.seq}" for o in orders if o.claim is not None and o.holds_claim}
        return [
            {name: str(value) for name, value in facts.items()},
            {
                f"{viewer}|{key}": f"{held.field}|{held.at_ms}|{held.value}"
                for (viewer, key), held in self.answering(no).items()
            },
            {viewer: str(viewers.count(viewer)) for viewer in viewers},
            {claim.field: f"{claim.value}|{holders.get(id(claim), '')}|{claim.viewer}" for claim in taken},
        ]
