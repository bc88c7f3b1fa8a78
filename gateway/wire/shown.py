"""What stands inside ticks and snapshots as maps, written down as types: for the published contract and its tests.

Ticks are put together where a room's acts are, and told on as they came; nothing is decoded with these on the way to a
viewer.
"""

from msgspec import UNSET, Struct, UnsetType

from gateway.domain.room import RoomState
from gateway.domain.sale import SaleState
from gateway.wire.frames import ShownComment
from gateway.wire.told import OnOff


class StockShown(Struct, tag_field="k", tag="stock", omit_defaults=True):
    """Units left of an item; `left`, `low` or neither, as the sale displays its stock."""

    sale: str
    sku: str
    left: int | None = None
    low: bool | None = None


class PriceShown(Struct, tag_field="k", tag="price"):
    """Orders from here on pay this."""

    sale: str
    sku: str
    price_minor: int


class SaleShown(Struct, tag_field="k", tag="sale"):
    """A sale is in another state, or its window is another one."""

    sale: str
    state: SaleState
    opens_at_ms: int
    closes_at_ms: int


class CouponShown(Struct, tag_field="k", tag="coupon"):
    """Copies to claim, until then."""

    coupon: str
    title: str
    left: int
    claim_until_ms: int


class CommentGone(Struct, tag_field="k", tag="comment_gone", omit_defaults=True):
    """A comment, or all that a viewer has said so far, is shown no more."""

    comment: str | None = None
    viewer: str | None = None


class Announced(Struct, tag_field="k", tag="announce"):
    text: str


class PinnedItem(Struct, forbid_unknown_fields=True):
    sale: str
    sku: str
    title: str


class PinnedComment(Struct, forbid_unknown_fields=True):
    comment: str
    viewer: str
    name: str
    text: str


class PinShown(Struct, tag_field="k", tag="pin"):
    """Null: nothing is pinned any more."""

    pin: PinnedItem | PinnedComment | None


class ChatShown(Struct, tag_field="k", tag="chat"):
    slow_mode_s: int
    comments: OnOff
    """`on` or `off`."""


class RoomStateShown(Struct, tag_field="k", tag="room", omit_defaults=True):
    """The room starts, ends, or a host changed it: then with what changed, null where it was cleared."""

    state: RoomState
    title: str | UnsetType = UNSET
    starts_at_ms: int | UnsetType | None = UNSET
    stream_url: str | UnsetType | None = UNSET
    notice: str | UnsetType | None = UNSET


EVENTS = (
    ShownComment,
    CommentGone,
    Announced,
    PinShown,
    StockShown,
    PriceShown,
    SaleShown,
    CouponShown,
    ChatShown,
    RoomStateShown,
)


# In a snapshot.


class ShownRoom(Struct):
    room: str
    title: str
    state: RoomState
    starts_at_ms: int | None
    stream_url: str | None
    notice: str | None


class ShownItem(Struct, omit_defaults=True):
    sku: str
    title: str
    price_minor: int
    list_price_minor: int | None
    limit_per_viewer: int
    image_url: str | None
    left: int | None = None
    low: bool | None = None


class ShownSale(Struct):
    sale: str
    title: str
    state: SaleState
    currency: str
    opens_at_ms: int
    closes_at_ms: int
    items: list[ShownItem]


class ShownCoupon(Struct):
    coupon: str
    title: str
    left: int
    claim_until_ms: int


class ShownChat(Struct):
    slow_mode_s: int
    comments: OnOff
    """`on` or `off`."""
