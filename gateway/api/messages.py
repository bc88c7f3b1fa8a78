"""The bodies of requests: message types whose constraints are the contract's. Rules between fields are the domain's.

Unknown fields are ignored, except those that would say who pays what: a field of type None is one that nobody may set.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.domain.drafts import ItemDraft, RoomChanges, RoomDraft, SaleChanges, SaleDraft
from gateway.domain.payment import MAX_TXN_LENGTH, PROVIDER_PATTERN
from gateway.domain.sale import (
    MAX_ITEMS,
    MAX_PRICE_MINOR,
    MAX_PRICE_STEPS,
    MAX_STOCK,
    PAY_WITHIN_S,
    PriceStep,
    StockDisplay,
)
from gateway.errors import Invalid
from gateway.wire.frames import AmountMinor, Identifier, PickupWish, Quantity, Reference

# `$` would let a last newline through.
_END: Final = r"(?![\s\S])"
_NO_CONTROLS: Final = r"^[^\x00-\x1f\x7f]*" + _END
_NO_CONTROLS_BUT_LINES: Final = r"^[^\x00-\x08\x0b-\x1f\x7f]*" + _END
# Named one by one: a page opens these, and there are schemes that run code.
_WEB: Final = r"^https?://[^\s\x00-\x1f\x7f\"<>\\]+" + _END
_STREAM: Final = r"^(https?|wss?|rtmps?|rtsps?|srt|webrtc)://[^\s\x00-\x1f\x7f\"<>\\]+" + _END

Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=_NO_CONTROLS)]
Notice = Annotated[str, Meta(max_length=1000, pattern=_NO_CONTROLS_BUT_LINES)]
Reason = Annotated[str, Meta(min_length=1, max_length=200, pattern=_NO_CONTROLS)]
WebUrl = Annotated[str, Meta(max_length=2000, pattern=_WEB)]
StreamUrl = Annotated[str, Meta(max_length=2000, pattern=_STREAM)]
SkuText = Annotated[str, Meta(min_length=1, max_length=64, pattern=_NO_CONTROLS)]
Price = Annotated[int, Meta(ge=0, le=MAX_PRICE_MINOR)]
Stock = Annotated[int, Meta(ge=0, le=MAX_STOCK)]
StockChange = Annotated[int, Meta(ge=-MAX_STOCK, le=MAX_STOCK)]
UnitLimit = Annotated[int, Meta(ge=1, le=MAX_STOCK)]
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}" + _END)]
Instant = Annotated[datetime, Meta(tz=True)]
ProviderName = Annotated[str, Meta(pattern=PROVIDER_PATTERN)]
Transaction = Annotated[str, Meta(min_length=1, max_length=MAX_TXN_LENGTH, pattern=_NO_CONTROLS)]


class NewRoom(Struct, kw_only=True):
    title: Title
    starts_at: Instant | None = None
    stream_url: StreamUrl | None = None
    notice: Notice | None = None

    def draft(self) -> RoomDraft:
        return RoomDraft(
            title=self.title,
            starts_at_ms=None if self.starts_at is None else instant_ms(self.starts_at, "starts_at"),
            stream_url=self.stream_url,
            notice=self.notice,
        )


class ChangedRoom(Struct, kw_only=True):
    """What is left out stays; null clears."""

    title: Title | UnsetType = UNSET
    starts_at: Instant | UnsetType | None = UNSET
    stream_url: StreamUrl | UnsetType | None = UNSET
    notice: Notice | UnsetType | None = UNSET

    def changes(self) -> RoomChanges:
        starts_at = self.starts_at
        return RoomChanges(
            title=self.title,
            starts_at_ms=instant_ms(starts_at, "starts_at") if isinstance(starts_at, datetime) else starts_at,
            stream_url=self.stream_url,
            notice=self.notice,
        )


class NewStep(Struct, kw_only=True, rename={"from_": "from"}):
    from_: Instant
    price_minor: Price


PricePlan = Annotated[list[NewStep], Meta(max_length=MAX_PRICE_STEPS)]


class NewItem(Struct, kw_only=True):
    sku: SkuText
    title: Title
    price_minor: Price
    stock: Stock
    limit_per_viewer: UnitLimit
    list_price_minor: Price | None = None
    floor_minor: Price | None = None
    image_url: WebUrl | None = None
    prices: PricePlan = []

    def draft(self, at: int) -> ItemDraft:
        """`at`: where it stands among the items, to name what is wrong."""
        return ItemDraft(
            sku=self.sku,
            title=self.title,
            price_minor=self.price_minor,
            stock=self.stock,
            limit_per_viewer=self.limit_per_viewer,
            list_price_minor=self.list_price_minor,
            floor_minor=self.floor_minor,
            image_url=self.image_url,
            prices=_plan(self.prices, f"items[{at}].prices"),
        )


class NewSale(Struct, kw_only=True):
    title: Title
    currency: Currency
    opens_at: Instant
    closes_at: Instant
    items: Annotated[list[NewItem], Meta(min_length=1, max_length=MAX_ITEMS)]
    room: Identifier | None = None
    # Its least value depends on the installation, so the domain judges it.
    pay_within_s: int = PAY_WITHIN_S
    stock_display: StockDisplay = StockDisplay.EXACT

    def draft(self) -> SaleDraft:
        return SaleDraft(
            title=self.title,
            currency=self.currency,
            opens_at_ms=instant_ms(self.opens_at, "opens_at"),
            closes_at_ms=instant_ms(self.closes_at, "closes_at"),
            items=tuple(item.draft(at) for at, item in enumerate(self.items)),
            room=self.room,
            pay_within_s=self.pay_within_s,
            stock_display=self.stock_display,
        )


class ChangedStock(Struct, kw_only=True):
    add: StockChange
    reason: Reason

    def __post_init__(self) -> None:
        if self.add == 0:
            # msgspec names the place of an error raised here by itself.
            raise ValueError("A change of stock adds or takes units, not 0")


class ChangedItem(Struct, kw_only=True, forbid_unknown_fields=True):
    """A price in force at once ends the plan there was, unless it comes with a new one."""

    sku: SkuText
    price_minor: Price | UnsetType = UNSET
    prices: PricePlan | UnsetType | None = UNSET


class ChangedSale(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays. Whatever else is named is refused: its host counts on it."""

    title: Title | UnsetType = UNSET
    opens_at: Instant | UnsetType = UNSET
    closes_at: Instant | UnsetType = UNSET
    stock_display: StockDisplay | UnsetType = UNSET
    items: Annotated[list[ChangedItem], Meta(min_length=1, max_length=MAX_ITEMS)] | UnsetType = UNSET

    def changes(self) -> SaleChanges:
        items = [] if isinstance(self.items, UnsetType) else self.items
        places: dict[str, int] = {}
        prices: dict[str, int] = {}
        plans: dict[str, tuple[PriceStep, ...]] = {}
        for at, item in enumerate(items):
            if item.sku in places:
                raise Invalid("A sku stands once in a change.", param=f"items[{at}].sku")
            places[item.sku] = at
            if isinstance(item.price_minor, UnsetType) and isinstance(item.prices, UnsetType):
                raise Invalid("An item changes its price or its plan.", param=f"items[{at}].price_minor")
            if not isinstance(item.price_minor, UnsetType):
                prices[item.sku] = item.price_minor
            if not isinstance(item.prices, UnsetType):
                plans[item.sku] = _plan(item.prices or [], f"items[{at}].prices")
        changes = SaleChanges(
            title=self.title,
            stock_display=self.stock_display,
            opens_at_ms=UNSET if isinstance(self.opens_at, UnsetType) else instant_ms(self.opens_at, "opens_at"),
            closes_at_ms=UNSET if isinstance(self.closes_at, UnsetType) else instant_ms(self.closes_at, "closes_at"),
            prices=prices,
            plans=plans,
            places=places,
        )
        if changes == SaleChanges():
            raise Invalid("A change names what it changes.", param="title")
        return changes


class ReportedPayment(Struct, kw_only=True):
    provider: ProviderName
    txn: Transaction
    amount_minor: AmountMinor
    paid_at: Instant


class ReportedRefund(Struct, kw_only=True):
    txn: Transaction
    amount_minor: AmountMinor


class NewOrder(Struct, kw_only=True):
    sale: Identifier
    sku: Identifier
    quantity: Quantity
    expect_amount_minor: AmountMinor | None = None
    coupon_claim: Identifier | None = None
    ref: Reference | None = None
    meta: Any = None
    pickup: PickupWish | None = None
    # Who pays what is never the client's to say.
    price_minor: None = None
    amount_minor: None = None
    discount_minor: None = None
    currency: None = None
    viewer: None = None
    sub: None = None
    shop: None = None
    status: None = None


def _plan(steps: Sequence[NewStep], param: str) -> tuple[PriceStep, ...]:
    return tuple(
        PriceStep(instant_ms(step.from_, f"{param}[{at}].from"), step.price_minor) for at, step in enumerate(steps)
    )


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_LAST_MS: Final = 253_402_300_799_999  # the last one of the year 9999, where RFC 3339 ends


def instant_ms(instant: datetime, param: str) -> int:
    at_ms = (instant - _EPOCH) // _MILLISECOND
    if not 0 <= at_ms <= _LAST_MS:
        raise Invalid("Times lie between 1970 and 9999.", param=param)
    return at_ms
