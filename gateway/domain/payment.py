"""Payments of orders: begun at a provider, told of by it or by the shop, and kept until they are used or given back."""

from enum import StrEnum

from msgspec import Struct

SANDBOX = "sandbox"
"""The provider that exists in development only."""
PROVIDER_PATTERN = r"^[a-z0-9_-]{1,32}(?![\s\S])"
MAX_TXN_LENGTH = 128


class DuePayment(Struct, frozen=True, kw_only=True):
    """What a provider needs to know to take the money of an order."""

    shop: str
    order: str
    amount_minor: int
    currency: str


class Payment(Struct, frozen=True, kw_only=True):
    """Money that was reported; what became of it is its `state`: waiting, applied, refund_due or refunded."""

    provider: str
    txn: str
    amount_minor: int
    paid_at_ms: int
    state: str
    reason: str | None = None


class OwedPayment(Struct, frozen=True, kw_only=True):
    """Money that is to be given back, with what a shop needs for it."""

    payment_no: int
    order: str
    """As it was named; it may be none of the shop's orders."""
    currency: str | None
    """That of the sale; None where there is no sale, and where the payment's own may have been another one."""
    payment: Payment

    @property
    def cursor(self) -> str:
        return str(self.payment_no)


class NoticeKind(StrEnum):
    """What a provider tells that matters to us; the words are those of the notice's `type`."""

    SUCCEEDED = "payment.succeeded"
    REFUNDED = "payment.refunded"


class Notice(Struct, frozen=True, kw_only=True):
    """What a provider told, its signature checked."""

    kind: NoticeKind
    provider: str
    order: str
    txn: str
    amount_minor: int
    currency: str
    paid_at_ms: int


class ShopPlace(Struct, frozen=True):
    """Where the orders of a shop are settled; a shop stays where it is."""

    shop_no: int
    shard: int
