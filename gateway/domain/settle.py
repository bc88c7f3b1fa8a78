"""What is asked of a confirmed order: a payment reported, a refund reported, a cancel; and how it was judged."""

from typing import Any, NamedTuple

import msgspec

from gateway.domain.ids import ClaimPlace


class SettleAct(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One act, spelled as `settle` of the ledger reads it.

    `keep`: money the order cannot take was received all the same (a provider's notice) and is kept as refund due; a
    report without it changes nothing where its amount is wrong or there is no such order.
    """

    do: str
    """pay | refund | cancel"""
    shop_no: int = 0
    """Filled in at the till (`flows.till`); no shop has the number 0."""
    order: str
    sale: int | None = None
    amount: int | None = None
    currency: str | None = None
    provider: str | None = None
    txn: str | None = None
    paid_at_ms: int | None = None
    keep: bool = False
    viewer: str | None = None
    caller: str | None = None
    key: str | None = None
    fingerprint: str | None = None

    def as_json(self) -> dict[str, Any]:
        return {**msgspec.to_builtins(self), "keep": self.keep}


class Settled(NamedTuple):
    word: str
    """done | replayed | key_reused | txn_reused | not_found | amount_mismatch | no_payment | waiting | conflict"""
    shop: str
    viewer: str
    order_id: str
    status: str | None
    """The order's status afterwards; None when there is no such order."""
    changed: bool
    """The status is a new one."""
    claim: str | None = None
    """The claim of a coupon that is free again with it, and its state."""
    claim_state: str | None = None


class LatePayment(NamedTuple):
    """Money of an expired order that waits for Valkey's word."""

    payment_no: int
    shop: str
    sale_no: int
    item_no: int
    viewer: str
    order_id: str
    quantity: int
    retired: bool
    """The sale left Valkey."""
    claim: ClaimPlace | None = None
    """The claim of a coupon that the order redeems."""
    holder: str = ""
    """The order as claims name it, `epoch:seq` of its id."""
    claim_id: str = ""
