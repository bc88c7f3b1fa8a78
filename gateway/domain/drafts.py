"""What a host asks to have made or changed, the key it is asked under, and the rules between its fields.

Bounds of single fields are the edge's, which names them in its message types; nothing here reads or writes.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import UNSET, Struct, UnsetType

from gateway.domain.coupon import CouponKind
from gateway.domain.sale import MAX_PAY_WITHIN_S, PAY_WITHIN_S, PriceStep, StockDisplay
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
    prices: tuple[PriceStep, ...] = ()


class SaleDraft(Struct, frozen=True, kw_only=True):
    title: str
    currency: str
    opens_at_ms: int
    closes_at_ms: int
    items: Sequence[ItemDraft]
    room: str | None = None
    pay_within_s: int = PAY_WITHIN_S
    stock_display: StockDisplay = StockDisplay.EXACT


class SaleChanges(Struct, frozen=True, kw_only=True):
    """Only what is set changes. `prices` and `plans` are by sku; an empty plan ends one."""

    title: str | UnsetType = UNSET
    stock_display: StockDisplay | UnsetType = UNSET
    opens_at_ms: int | UnsetType = UNSET
    closes_at_ms: int | UnsetType = UNSET
    prices: Mapping[str, int] = {}
    plans: Mapping[str, tuple[PriceStep, ...]] = {}
    places: Mapping[str, int] = {}
    """Where each sku stands in what was asked, to name what is wrong."""


class CouponDraft(Struct, frozen=True, kw_only=True):
    """Of the amounts only those of its kind are set; the others are 0."""

    title: str
    kind: CouponKind
    copies: int
    limit_per_viewer: int
    valid_until_ms: int
    value_minor: int = 0
    percent: int = 0
    min_minor: int = 0
    max_minor: int = 0
    budget_minor: int = 0
    threshold_minor: int = 0
    claim_from_ms: int | None = None
    """None: a drop opens it."""
    claim_until_ms: int | None = None
    """None: as long as it is valid."""
    currency: str | None = None
    room: str | None = None
    sales: tuple[str, ...] = ()
    """The sales it is good for; none: all of the shop in its currency."""


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
        check_plan(
            item.prices,
            opens_at_ms=draft.opens_at_ms,
            closes_at_ms=draft.closes_at_ms,
            floor_minor=item.floor_minor,
            param=f"items[{at}].prices",
        )


def check_plan(
    prices: Sequence[PriceStep], *, opens_at_ms: int, closes_at_ms: int, floor_minor: int | None, param: str
) -> None:
    """Raises Invalid for the first step that is not after the one before, outside the sale's window or under the
    floor."""
    before_ms = -1
    for at, step in enumerate(prices):
        if step.from_ms <= before_ms:
            raise Invalid("The steps of a price follow each other in time.", param=f"{param}[{at}].from")
        before_ms = step.from_ms
        if not opens_at_ms <= step.from_ms < closes_at_ms:
            raise Invalid("A price changes while its sale is open.", param=f"{param}[{at}].from")
        if step.price_minor < (floor_minor or 0):
            raise Invalid(f"The price is at least {floor_minor}.", param=f"{param}[{at}].price_minor")


def check_coupon(draft: CouponDraft, *, now_ms: int) -> None:
    """Raises Invalid for the first rule between fields that the draft breaks."""
    if draft.valid_until_ms <= now_ms:
        raise Invalid("A coupon is valid for a while.", param="valid_until")
    claim_until_ms = draft.valid_until_ms if draft.claim_until_ms is None else draft.claim_until_ms
    if not now_ms < claim_until_ms <= draft.valid_until_ms:
        raise Invalid("Copies are claimed from now on and while they are valid.", param="claim_until")
    if draft.claim_from_ms is not None and draft.claim_from_ms >= claim_until_ms:
        raise Invalid("The claim ends after it begins.", param="claim_from")
    if draft.kind is CouponKind.RANDOM:
        if draft.min_minor > draft.max_minor:
            raise Invalid("A copy's most is at least its least.", param="max_minor")
        if draft.budget_minor < draft.copies * draft.min_minor:
            raise Invalid("The budget is enough for the least value of every copy.", param="budget_minor")
