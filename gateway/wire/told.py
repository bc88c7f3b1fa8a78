"""Texts of answers that are more than texts, and what the published contract says of them; encoding asks none of it."""

from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta

from gateway.domain.comment import CommentOutcome
from gateway.domain.coupon import ClaimOutcome, ClaimState, CouponKind, CouponState
from gateway.domain.order import OrderOutcome, OrderStatus
from gateway.domain.room import RoomState
from gateway.domain.sale import SaleState, StockDisplay


def _one_of(*kinds: type[StrEnum], also: tuple[str, ...] = ()) -> Meta:
    return Meta(extra_json_schema={"enum": [*dict.fromkeys(str(word) for kind in kinds for word in kind), *also]})


Moment = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339 in UTC."""
NOTHING_HELD: Final = "none"
"""Of a pending key: ask again with the same one."""

RoomStateWord = Annotated[str, _one_of(RoomState)]
SaleStateWord = Annotated[str, _one_of(SaleState)]
StockDisplayWord = Annotated[str, _one_of(StockDisplay)]
OrderStatusWord = Annotated[str, _one_of(OrderStatus)]
OrderOutcomeWord = Annotated[str, _one_of(OrderOutcome)]
CouponKindWord = Annotated[str, _one_of(CouponKind)]
CouponStateWord = Annotated[str, _one_of(CouponState)]
ClaimStateWord = Annotated[str, _one_of(ClaimState)]
ClaimOutcomeWord = Annotated[str, _one_of(ClaimOutcome)]
ReplyOutcomeWord = Annotated[str, _one_of(OrderOutcome, CommentOutcome, ClaimOutcome)]
KnownOrderWord = Annotated[str, _one_of(OrderOutcome, also=(NOTHING_HELD,))]
KnownClaimWord = Annotated[str, _one_of(ClaimOutcome, also=(NOTHING_HELD,))]
OnOff = Annotated[str, Meta(extra_json_schema={"enum": ["on", "off"]})]
PaymentStateWord = Annotated[str, Meta(extra_json_schema={"enum": ["waiting", "applied", "refund_due", "refunded"]})]
