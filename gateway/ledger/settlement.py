"""What becomes of confirmed orders in the ledger: settled by payments, cancels and refunds, ended by their deadline."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from gateway.domain.ids import ClaimPlace
from gateway.domain.settle import LatePayment, SettleAct, Settled
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("settlement.sql")


class ExpiredOrder(NamedTuple):
    shop: str
    viewer: str
    order_id: str
    sale_no: int
    claim: str | None
    """The claim of a coupon that is free again, and its state."""
    claim_state: str | None


class LedgerSettlement:
    """Each call is one transaction under the shard's row lock. Raises LedgerUnavailable: the effect is unknown."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def settle(self, shard: int, acts: Sequence[SettleAct]) -> list[Settled]:
        """One answer an act, in their order; acts are judged one after the other, so that later ones see earlier."""
        packed = json.dumps([{"place": place, **act.as_json()} for place, act in enumerate(acts)])
        rows = await self._ledger.fetch(_QUERIES["settle"], shard, packed)
        return [Settled(*row) for row in rows]

    async def is_due(self, shard: int, *, not_after: datetime) -> bool:
        """Whether an order is past its deadline; locks nothing. Nothing is due by a clock that is past `not_after`."""
        return bool(await self._ledger.fetchval(_QUERIES["is_due"], shard, not_after))

    async def expire(self, shard: int, *, most: int, not_after: datetime) -> list[ExpiredOrder] | None:
        """Ends orders that are due, about `most`; None when nothing is due, and then nothing is locked: asked here
        too, because a caller may have asked long before."""
        if not await self.is_due(shard, not_after=not_after):
            return None
        return [ExpiredOrder(*row) for row in await self._ledger.fetch(_QUERIES["expire"], shard, most, not_after)]

    async def waiting_payments(self, shard: int, *, limit: int) -> list[LatePayment]:
        """Late money of a shard, oldest first. A claim is named while Valkey has its coupon; of one that was retired
        the ledger alone decides."""
        return [_late(row) for row in await self._ledger.fetch(_QUERIES["waiting"], shard, limit)]

    async def settle_late(self, shard: int, payment_no: int, reason: str | None) -> str | None:
        """See `settle_late` in 0002: the order's status, or None when the payment does not wait any more."""
        status: str | None = await self._ledger.fetchval(_QUERIES["settle_late"], shard, payment_no, reason)
        return status


def _late(row: Any) -> LatePayment:
    payment = LatePayment(*tuple(row)[:8])._replace(claim_id=row["claim"] or "")
    if row["coupon_no"] is None:
        return payment
    place = ClaimPlace(row["claimed_at_ms"], row["coupon_no"], row["claim_epoch"], row["claim_seq"])
    return payment._replace(claim=place, holder=f"{row['epoch']}:{row['seq']}")
