"""What the writer hands to the ledger, and what the ledger answers: the shapes of one transaction."""

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

    def part(self, start: int, end: int) -> "OrderColumns":
        return OrderColumns(*(getattr(self, each.name)[start:end] for each in fields(self)))


class AppliedOrders(NamedTuple):
    pay_by_ms: dict[int, int]
    """By sale number."""
    refused: dict[int, str]
    """By sequence number, the reason."""


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
