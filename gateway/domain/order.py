"""An order: what a viewer asked for, how it was decided, and the states it goes through."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from gateway.domain.ids import ClaimId, ClaimPlace, OrderId
from gateway.domain.links import Link
from gateway.domain.pickup import Pickup

MAX_QUANTITY = 1000
MAX_META_BYTES = 600
MAX_KEY_LENGTH = 64
# With `~`, which ids hold, so that an id may be a key: the order's is the first to come to mind for its payment.
# Not `$`, which would let a line break pass; nor `\Z`, which only Python knows, and the pattern is published.
KEY_PATTERN = r"^[A-Za-z0-9\-_.:~]{1,64}(?![\s\S])"
# A request is decided within this time of its arrival or not at all, so that a tap stuck in a paused process has no
# effect after its viewer gave up.
DECIDE_WITHIN_S = 5.0


# Why an order was refused that Valkey had promised and lost before the ledger had it.
LOST = "lost"


class OrderOutcome(StrEnum):
    """What the contract calls the outcome of an order."""

    RESERVED = "reserved"
    SOLD_OUT = "sold_out"
    LIMIT_REACHED = "limit_reached"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    PAUSED = "paused"
    PRICE_CHANGED = "price_changed"
    COUPON_UNUSABLE = "coupon_unusable"
    TOO_FAST = "too_fast"


class OrderStatus(StrEnum):
    """Where an order stands; `confirmed` is the first promise."""

    RESERVED = "reserved"
    CONFIRMED = "confirmed"
    PAID = "paid"
    EXPIRED = "expired"
    CANCELLED = "cancelled"
    REFUSED = "refused"
    REFUND_DUE = "refund_due"
    REFUNDED = "refunded"


class Verdict(StrEnum):
    """The words of `lua/place_orders.lua`: what the script says of one request, a superset of the outcomes."""

    RESERVED = "reserved"
    REPLAYED = "replayed"
    KEY_REUSED = "key_reused"
    LATE = "late"
    SOLD_OUT = "sold_out"
    LIMIT_REACHED = "limit_reached"
    NOT_STARTED = "not_started"
    ENDED = "ended"
    PAUSED = "paused"
    PRICE_CHANGED = "price_changed"
    COUPON_UNUSABLE = "coupon_unusable"
    BACKLOG = "backlog"


class OrderRequest(msgspec.Struct, gc=False):
    """One viewer asks for units of one sku. `answer` is called exactly once, with an `OrderAnswer` or an error."""

    sale_no: int
    item_no: int
    viewer: str
    key: str
    fingerprint: str
    quantity: int
    expect_amount_minor: int
    """-1 when the viewer stated none."""
    extra: str
    """What the ledger keeps beside the order and the script never looks at: JSON of ref and meta, or empty."""
    arrived_s: float
    """On the monotonic clock."""
    answer: "Callable[[OrderAnswer | Exception], None]"
    sent: bool = False
    """Once true, an answer that never came back means that the outcome is unknown."""
    last: "OrderAnswer | Exception | None" = None
    """The last word on a request whose earlier reply was lost; it stands once its time to be decided is over."""
    currency: str = ""
    """Of the sale; asked for where there is a claim."""
    claim: ClaimPlace | None = None
    """The claim of a coupon that the order redeems."""

    @property
    def group_no(self) -> int:
        """What it is decided together with."""
        return self.sale_no

    @property
    def needs_no(self) -> int:
        """The coupon that it brings into its group besides; 0: none."""
        return 0 if self.claim is None else self.claim.coupon_no


class OrderAnswer(msgspec.Struct, frozen=True, gc=False):
    """How a request was decided. The fields past the outcome are set where the outcome calls for them."""

    outcome: OrderOutcome
    order: OrderId | None = None
    price_minor: int = 0
    amount_minor: int = 0
    at_ms: int = 0
    replayed: bool = False
    left: int = 0
    may_return: bool = False
    opens_at_ms: int = 0
    retry_after_ms: int = 0
    discount_minor: int = 0
    """What the coupon takes off; `amount_minor` is less by it."""

    @property
    def took_effect(self) -> bool:
        return self.outcome is OrderOutcome.RESERVED


class HeldKey(msgspec.Struct, frozen=True, gc=False):
    """What an idempotency key holds: the order, and what makes a request the same as the one it was."""

    order: OrderId
    fingerprint: str
    price_minor: int
    at_ms: int
    discount_minor: int = 0


class Order(msgspec.Struct, frozen=True, gc=False):
    """An order as the ledger (or, before it, the stream) tells it. Of one that was lost nothing is known but what its
    id says: its quantity is 0."""

    order: OrderId
    sale_no: int
    item_no: int
    viewer: str
    key: str | None
    quantity: int
    price_minor: int
    discount_minor: int
    amount_minor: int
    status: OrderStatus
    reason: str | None
    created_at_ms: int
    pay_by_ms: int | None
    extra: str
    claim: ClaimId | None = None
    """The claim of a coupon that it redeems."""
    link: Link | None = None
    """The link it came by and, in `pickup`, its code once it was paid: only for who shows it, who asks for them."""
    pickup: Pickup | None = None
    first_order: bool | None = None
    """Whether it is its viewer's first order in the shop; for who shows it. None before that is decided."""
