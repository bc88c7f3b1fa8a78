"""What a host asks to have made or changed, the key it is asked under, and the rules between its fields.

Bounds of single fields are the edge's, which names them in its message types; nothing here reads or writes.
"""

import hashlib
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.domain.sale import MAX_PAY_WITHIN_S, PAY_WITHIN_S, StockDisplay
from gateway.errors import Invalid


class Effect(Struct, frozen=True):
    """Who asks what under which key. The same key with the same content gets the same object again."""

    caller: str
    kind: str
    key: str
    fingerprint: str


class RoomDraft(Struct, frozen=True, kw_only=True):
    title: str
    starts_at_ms: int | None = None
    stream_url: str | None = None
    notice: str | None = None


class RoomChanges(Struct, frozen=True, kw_only=True):
    """Only what is set changes; None clears."""

    title: str | UnsetType = UNSET
    starts_at_ms: int | UnsetType | None = UNSET
    stream_url: str | UnsetType | None = UNSET
    notice: str | UnsetType | None = UNSET


class ItemDraft(Struct, frozen=True, kw_only=True):
    sku: str
    title: str
    price_minor: int
    stock: int
    limit_per_viewer: int
    list_price_minor: int | None = None
    floor_minor: int | None = None
    image_url: str | None = None


class SaleDraft(Struct, frozen=True, kw_only=True):
    title: str
    currency: str
    opens_at_ms: int
    closes_at_ms: int
    items: Sequence[ItemDraft]
    room: str | None = None
    pay_within_s: int = PAY_WITHIN_S
    stock_display: StockDisplay = StockDisplay.EXACT


def fingerprint(*content: object) -> str:
    """Equal for equal content, in 32 hexadecimal digits."""
    return hashlib.blake2b(msgspec.json.encode(content, order="deterministic"), digest_size=16).hexdigest()


def check_sale(draft: SaleDraft, *, min_pay_within_s: int) -> None:
    """Raises Invalid for the first rule between fields that the draft breaks."""
    if draft.opens_at_ms >= draft.closes_at_ms:
        raise Invalid("A sale closes after it opens.", param="closes_at")
    if not min_pay_within_s <= draft.pay_within_s <= MAX_PAY_WITHIN_S:
        raise Invalid(f"The term of payment is {min_pay_within_s} to {MAX_PAY_WITHIN_S} seconds.", param="pay_within_s")
    seen: set[str] = set()
    for at, item in enumerate(draft.items):
        if item.sku in seen:
            raise Invalid("A sku stands once in a sale.", param=f"items[{at}].sku")
        seen.add(item.sku)
        if item.floor_minor is not None and item.floor_minor > item.price_minor:
            raise Invalid("The floor is at most the price.", param=f"items[{at}].floor_minor")
