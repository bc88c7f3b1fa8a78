"""What the writer hands to the ledger, and what the ledger answers: the shapes of one transaction."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import NamedTuple


class Lease(NamedTuple):
    epoch: int
    last_seq: int
    token: int


@dataclass(slots=True)
class OrderColumns:
    """A run of orders, a list a column, as the ledger's function takes them."""

    seqs: list[int] = field(default_factory=list)
    sales: list[int] = field(default_factory=list)
    items: list[int] = field(default_factory=list)
    order_ids: list[str] = field(default_factory=list)
    viewers: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    fingerprints: list[str] = field(default_factory=list)
    quantities: list[int] = field(default_factory=list)
    prices: list[int] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)
    extras: list[str | None] = field(default_factory=list)
    claims: "ClaimsNamed | None" = None
    """None while no order of the run names one: most batches ask nothing about coupons."""

    def part(self, start: int, end: int) -> "OrderColumns":
        columns = [getattr(self, each.name)[start:end] for each in fields(self) if each.name != "claims"]
        part = OrderColumns(*columns)
        part.claims = None if self.claims is None else self.claims.part(start, end)
        return part


@dataclass(slots=True)
class ClaimsNamed:
    """The claims that a run of orders redeems, beside its other columns; None for an order without one."""

    discounts: list[int | None] = field(default_factory=list)
    coupons: list[int | None] = field(default_factory=list)
    epochs: list[int | None] = field(default_factory=list)
    seqs: list[int | None] = field(default_factory=list)

    def add(self, discount: int | None, coupon_no: int | None, epoch: int | None, seq: int | None) -> None:
        self.discounts.append(discount)
        self.coupons.append(coupon_no)
        self.epochs.append(epoch)
        self.seqs.append(seq)

    def part(self, start: int, end: int) -> "ClaimsNamed":
        return ClaimsNamed(*(getattr(self, each.name)[start:end] for each in fields(self)))


@dataclass(slots=True)
class ClaimColumns:
    """A run of claims, a list a column, as the ledger's function takes them."""

    seqs: list[int] = field(default_factory=list)
    coupons: list[int] = field(default_factory=list)
    claims: list[str] = field(default_factory=list)
    viewers: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    at_ms: list[int] = field(default_factory=list)

    def part(self, start: int, end: int) -> "ClaimColumns":
        return ClaimColumns(*(getattr(self, each.name)[start:end] for each in fields(self)))


class AppliedOrders(NamedTuple):
    pay_by_ms: dict[int, int]
    """By sale number."""
    refused: dict[int, str]
    """By sequence number, the reason."""
    claims: Mapping[int, tuple[str, str]] = {}
    """By the sequence number of an order that names a claim: the claim's id, and the state it is in now."""


class ActColumns(NamedTuple):
    sale_no: int
    act: str
    item_no: int
    value: int
    actor: str
    at_ms: int
    kind: str
    key: str
    fingerprint: str
    reason: str
    text: str = ""


class CouponActColumns(NamedTuple):
    coupon_no: int
    act: str
    room_no: int
    claim_until_ms: int
    actor: str
    at_ms: int
    kind: str
    key: str
    fingerprint: str


class AppliedLate(NamedTuple):
    status: str | None
    """The order's afterwards: `paid`, or what it is when it could not come back. None: no such order."""
    claim: str | None
    """The claim that the order redeems again."""


class LateColumns(NamedTuple):
    """A revival of an expired order, as the ledger's function takes it."""

    sale_no: int
    payment_no: int
    item_no: int
    viewer: str
    order_id: str
    quantity: int


class Place(NamedTuple):
    """Where a batch stands: it moves the cursor of `shard` in `epoch` from `after` to `last` under the lease
    `token`."""

    shard: int
    epoch: int
    after: int
    last: int
    token: int
