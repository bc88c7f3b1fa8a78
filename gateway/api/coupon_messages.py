"""What hosts send about coupons. Of the amounts each kind takes its own and no other."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from gateway.api.messages import Currency, Instant, Price, Title, instant_ms
from gateway.domain.coupon import MAX_BUDGET_MINOR, MAX_COUPON_SALES, MAX_PERCENT, MIN_PERCENT, CouponKind
from gateway.domain.drafts import CouponDraft
from gateway.domain.sale import MAX_PRICE_MINOR
from gateway.errors import Invalid
from gateway.wire.frames import Identifier

MAX_COPIES: Final = 1_000_000
MAX_DROP_S: Final = 86_400

Copies = Annotated[int, Meta(ge=1, le=MAX_COPIES)]
Amount = Annotated[int, Meta(ge=1, le=MAX_PRICE_MINOR)]
Budget = Annotated[int, Meta(ge=1, le=MAX_BUDGET_MINOR)]

_OF_KIND: Final = {
    CouponKind.AMOUNT: ("value_minor",),
    CouponKind.PERCENT: ("percent",),
    CouponKind.RANDOM: ("min_minor", "max_minor", "budget_minor"),
}
_OF_ANY_KIND: Final = tuple(name for names in _OF_KIND.values() for name in names)


class NewCoupon(Struct, kw_only=True):
    title: Title
    kind: CouponKind
    copies: Copies
    limit_per_viewer: Copies
    valid_until: Instant
    value_minor: Amount | None = None
    percent: Annotated[int, Meta(ge=MIN_PERCENT, le=MAX_PERCENT)] | None = None
    min_minor: Amount | None = None
    max_minor: Amount | None = None
    budget_minor: Budget | None = None
    threshold_minor: Price = 0
    claim_from: Instant | None = None
    claim_until: Instant | None = None
    currency: Currency | None = None
    room: Identifier | None = None
    sales: Annotated[list[Identifier], Meta(max_length=MAX_COUPON_SALES)] = []

    def draft(self) -> CouponDraft:
        amounts: dict[str, int] = {}
        for name in _OF_ANY_KIND:
            value, is_of_kind = getattr(self, name), name in _OF_KIND[self.kind]
            if value is None and is_of_kind:
                raise Invalid("This field is required.", param=name)
            if value is not None:
                if not is_of_kind:
                    raise Invalid(f"A coupon of the kind {self.kind} has none.", param=name)
                amounts[name] = value
        seen: set[str] = set()
        for at, sale in enumerate(self.sales):
            if sale in seen:
                raise Invalid("A sale stands once in a coupon.", param=f"sales[{at}]")
            seen.add(sale)
        return CouponDraft(
            title=self.title,
            kind=self.kind,
            copies=self.copies,
            limit_per_viewer=self.limit_per_viewer,
            valid_until_ms=instant_ms(self.valid_until, "valid_until"),
            threshold_minor=self.threshold_minor,
            claim_from_ms=None if self.claim_from is None else instant_ms(self.claim_from, "claim_from"),
            claim_until_ms=None if self.claim_until is None else instant_ms(self.claim_until, "claim_until"),
            currency=self.currency,
            room=self.room,
            sales=tuple(self.sales),
            **amounts,
        )


class NewDrop(Struct, kw_only=True):
    room: Identifier
    for_s: Annotated[int, Meta(ge=1, le=MAX_DROP_S)] | None = None
    """None: for as long as copies may be claimed."""
