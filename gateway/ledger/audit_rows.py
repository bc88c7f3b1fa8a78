"""The rows of audit.py, as the queries of audit.sql give them."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.domain.coupon import Coupon


class AuditedShard(NamedTuple):
    shard: int
    epoch: int
    last_seq: int
    outbox_no: int
    rebuilding: bool


class AuditedSale(NamedTuple):
    sale_no: int
    sale: str
    shard: int
    currency: str
    hold: str
    opens_at_ms: int
    closes_at_ms: int
    loaded_epoch: int | None
    retired: bool


class AuditedItem(NamedTuple):
    sale_no: int
    item_no: int
    sku: str
    price_minor: int
    limit_per_viewer: int
    stock: int
    held: int
    sold: int
    floor_minor: int
    """0: it has none."""
    plan: str
    """As the scripts spell it; empty: it has none."""


class AuditedCoupon(NamedTuple):
    coupon: Coupon
    claimed: int
    spent_minor: int
    loaded_epoch: int | None
    claims: int
    """Live ones; the next three are of these too."""
    worth_minor: int
    lowest_minor: int
    highest_minor: int
    redeemed: int
    refused: int


class PendingClaims(NamedTuple):
    """Refused claims of a coupon in a shard's outbox behind the number `after`."""

    shard: int
    after: int
    coupon_no: int
    claims: int
    worth_minor: int


class AuditedViewer(NamedTuple):
    """Claims of a viewer: live, and refused ones of which Valkey was not told."""

    viewer: str
    live: int
    ending: int


class AuditedClaim(NamedTuple):
    field: str
    value_minor: int
    viewer: str
    state: str
    holder: str
    """The order that redeems it, as Valkey spells it; empty: none."""
    leaving: bool
    """It was refused, and Valkey was not told."""
    letting_go: Sequence[str]
    """Orders that let go of it, of which Valkey was not told."""


class OrderSum(NamedTuple):
    """The orders of one item in one status."""

    sale_no: int
    item_no: int
    status: str
    orders: int
    units: int
    amount_minor: int


class MoneySum(NamedTuple):
    """The payments of one sale, or of none, in one state."""

    sale_no: int | None
    state: str
    payments: int
    amount_minor: int


class PendingSum(NamedTuple):
    """Rows of a shard's outbox behind the number `after`, of one item and kind."""

    shard: int
    after: int
    sale_no: int
    item_no: int
    kind: str
    rows: int
    units: int


class OutboxSum(NamedTuple):
    """The numbers in a shard's outbox; 0 where it is empty."""

    shard: int
    rows: int
    first: int
    last: int


class Numbers(NamedTuple):
    """The sequence numbers of a shard's epoch behind `after`: how many there are, how many times they stand there in
    all. `end` is how far the ledger applied the epoch; None when it knows of no such epoch."""

    shard: int
    epoch: int
    after: int
    end: int | None
    numbers: int
    times: int
    lowest: int
    highest: int


class ParkedEntry(NamedTuple):
    shard: int
    epoch: int
    first_seq: int
    last_seq: int
    reason: str


class Listed(NamedTuple):
    """The first of what is wrong, how many there are in all, and of which sales."""

    texts: Sequence[str]
    total: int
    sales: Sequence[int]


class AuditedAnswer(NamedTuple):
    """An order by its key: what Valkey answers, spelled as it does."""

    field: str
    answer: str


class AuditedUnits(NamedTuple):
    """Units of a viewer and item: of live orders, and of orders that ended of which Valkey was not told."""

    field: str
    held: int
    ending: int
