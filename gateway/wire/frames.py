"""The frames of the live socket, named by direction from the product's side.

Inbound frames are one tagged union, decoded and validated in one step at the border; its constraints are the
contract's. Unknown fields are ignored (the contract lets clients send more than we know). Outbound frames omit what
is not set.
"""

from typing import Annotated, Any

from msgspec import Meta, Struct

from gateway.domain.figures import AudienceError, Figures, MoneyFigures
from gateway.domain.live import MAX_LIKES
from gateway.domain.order import KEY_PATTERN, MAX_QUANTITY
from gateway.domain.pickup import MAX_PLACE_CHARS, PLACE_PATTERN
from gateway.wire.told import ClaimStateWord, KnownClaimWord, KnownOrderWord, OrderStatusWord, ReplyOutcomeWord

MAX_FRAME_BYTES = 4096  # of a viewer's frame; the contract's number
MAX_PENDING = 32  # keys a hello may name; a viewer has few in flight, and each is a look-up

Key = Annotated[str, Meta(pattern=KEY_PATTERN)]
Identifier = Annotated[str, Meta(min_length=1, max_length=64)]
Quantity = Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]
AmountMinor = Annotated[int, Meta(ge=0, le=2**53)]
Reference = Annotated[str, Meta(min_length=1, max_length=256)]
# The order is to be collected: at the place of this name, or wherever the shop's one place is.
PickupWish = bool | Annotated[str, Meta(min_length=1, max_length=MAX_PLACE_CHARS, pattern=PLACE_PATTERN)]


# From the viewer.


class Resume(Struct, gc=False):
    epoch: int
    seq: int


class Pending(Struct, gc=False):
    """A key in flight or not yet confirmed: of an order (`sale`) or of a claim (`coupon`)."""

    key: Key
    sale: Identifier | None = None
    coupon: Identifier | None = None


class Hello(Struct, tag_field="t", tag="hello", gc=False):
    token: str | None = None
    resume: Resume | None = None
    pending: Annotated[list[Pending], Meta(max_length=MAX_PENDING)] = []


class FreshToken(Struct, tag_field="t", tag="token", gc=False):
    token: str


class PlaceOrder(Struct, tag_field="t", tag="order", gc=False):
    id: Key
    sale: Identifier
    sku: Identifier
    quantity: Quantity
    expect_amount_minor: AmountMinor | None = None
    ref: Reference | None = None
    meta: Any = None
    coupon_claim: Identifier | None = None
    pickup: PickupWish | None = None
    # Not the viewer's to say: refused rather than ignored, since the viewer would count on it.
    price_minor: None = None
    amount_minor: None = None
    discount_minor: None = None
    currency: None = None


class Claim(Struct, tag_field="t", tag="claim", gc=False):
    id: Key
    coupon: Identifier


class Comment(Struct, tag_field="t", tag="comment", gc=False):
    """The length is judged after normalising, by the flow."""

    id: Key
    text: str


class Like(Struct, tag_field="t", tag="like", gc=False):
    n: Annotated[int, Meta(ge=1, le=MAX_LIKES)]


class Enter(Struct, tag_field="t", tag="enter", gc=False):
    """The viewer opened the product bag."""

    sale: Identifier | None = None


class Ping(Struct, tag_field="t", tag="ping", gc=False):
    id: Annotated[str, Meta(max_length=64)] | int | None = None


FromViewer = Hello | FreshToken | PlaceOrder | Comment | Like | Claim | Enter | Ping


# To the viewer.


class KnownOrder(Struct, omit_defaults=True, gc=False):
    """What became of a pending key: the order it holds, or `none` (nothing held yet; repeat with the same key)."""

    sale: str
    key: str
    outcome: KnownOrderWord
    order: str | None = None
    status: OrderStatusWord | None = None
    amount_minor: int | None = None
    pay_by_ms: int | None = None
    reason: str | None = None


class KnownClaim(Struct, omit_defaults=True, gc=False):
    """What became of a pending key of a coupon: the claim it holds, or `none` (repeat with the same key)."""

    coupon: str
    key: str
    outcome: KnownClaimWord
    claim: str | None = None
    state: ClaimStateWord | None = None
    value_minor: int | None = None
    reason: str | None = None


class Welcome(Struct, tag_field="t", tag="welcome", omit_defaults=True, gc=False):
    you: str
    epoch: int
    seq: int
    now_ms: int
    recovered: bool
    orders: list[KnownOrder] | None = None
    claims: list[KnownClaim] | None = None


class ShownComment(Struct, tag_field="k", tag="comment", gc=False):
    """An event of a tick, and a line of a snapshot's `recent`."""

    comment: str
    viewer: str
    name: str
    text: str
    at_ms: int


class Snapshot(Struct, tag_field="t", tag="snapshot", gc=False):
    room: dict[str, Any]
    epoch: int
    seq: int
    viewers: int
    likes: int
    sales: list[dict[str, Any]]
    coupons: list[dict[str, Any]]
    pin: dict[str, Any] | None
    recent: list[ShownComment]
    chat: dict[str, Any]


Event = ShownComment | dict[str, Any]


class Tick(Struct, tag_field="t", tag="tick", omit_defaults=True, gc=False):
    """What happened in the room since tick `seq - 1`, in order."""

    seq: int
    now_ms: int
    ev: list[Event]
    viewers: int | None = None
    likes: int | None = None
    skipped: int = 0
    """Comments that were not shown (to this viewer)."""


class Reply(Struct, tag_field="t", tag="reply", omit_defaults=True, gc=False):
    id: str
    outcome: ReplyOutcomeWord
    order: str | None = None
    amount_minor: int | None = None
    replayed: bool = False
    left: int | None = None
    may_return: bool | None = None
    opens_at_ms: int | None = None
    retry_after_ms: int | None = None
    comment: str | None = None
    at_ms: int | None = None
    claim: str | None = None
    value_minor: int | None = None


class OrderChanged(Struct, tag_field="t", tag="order", omit_defaults=True, gc=False):
    order: str
    status: OrderStatusWord
    pay_by_ms: int | None = None
    reason: str | None = None


class ClaimChanged(Struct, tag_field="t", tag="claim", omit_defaults=True, gc=False):
    claim: str
    state: ClaimStateWord
    reason: str | None = None


class ShowFigures(Figures, tag_field="t", tag="figures", kw_only=True, omit_defaults=True):
    """For hosts, when they changed. Audience figures are off by what `error` says; what cannot be said is left out."""

    at_ms: int
    error: AudienceError
    currency: str | None = None
    other_currencies: tuple[MoneyFigures, ...] = ()


class FedOrder(Struct, omit_defaults=True, gc=False):
    """An order as it is now; `viewer` is who placed it as the room knows them, `sub` as the shop does."""

    order: str
    sale: str
    sku: str
    quantity: int
    amount_minor: int
    currency: str
    status: str
    created_at_ms: int
    viewer: str
    sub: str
    reason: str | None = None


class Feed(Struct, tag_field="t", tag="feed", omit_defaults=True, gc=False):
    """For hosts: the newest orders of the room's sales, once after they joined; then those that are new or have a new
    status. The newest last."""

    orders: list[FedOrder]
    more: int = 0
    """Changes before these that are not shown."""


class Error(Struct, tag_field="t", tag="error", omit_defaults=True, gc=False):
    code: str
    message: str
    retryable: bool
    id: str | None = None
    param: str | None = None
    retry_after_ms: int | None = None

    # `retryable` has no default, so that it is always said.


class Pong(Struct, tag_field="t", tag="pong", omit_defaults=True, gc=False):
    now_ms: int
    id: str | int | None = None


class TokenEnding(Struct, tag_field="t", tag="token_ending", gc=False):
    in_ms: int


class Bye(Struct, tag_field="t", tag="bye", omit_defaults=True, gc=False):
    code: int
    reason: str
    retry_after_ms: int | None = None


ToHost = ShowFigures | Feed
ToViewer = Welcome | Snapshot | Tick | Reply | OrderChanged | ClaimChanged | Error | Pong | TokenEnding | Bye | ToHost
