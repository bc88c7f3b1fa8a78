"""Late money: payments of expired orders. Valkey is asked whether a unit is free; the ledger has the last word."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import structlog

from gateway import points
from gateway.domain.settle import LatePayment
from gateway.errors import GatewayError
from gateway.metrics import LATE_PAYMENTS
from gateway.wire import bus

log = structlog.get_logger(__name__)

EVERY_S = 0.25
PAYMENTS_AT_ONCE = 200
# Words of the script that end the matter, and why the money is to be refunded.
_NO = {"sold_out": "stock", "limit_reached": "limit", "coupon_unusable": "coupon"}


class Ledger(Protocol):
    async def waiting_payments(self, shard: int, *, limit: int) -> Sequence[LatePayment]: ...
    async def settle_late(self, shard: int, payment_no: int, reason: str | None) -> str | None: ...


class Revivals(Protocol):
    async def revive(self, payment: LatePayment) -> str: ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class LateMoney:
    """Each payment that waits is asked for until the ledger has settled it. Valkey takes units for a payment at most
    once; what it took is an entry of the stream, which the ledger applies or gives back."""

    def __init__(self, *, hot: Mapping[int, Revivals], ledger: Ledger, publisher: Publisher) -> None:
        self._hot = hot
        self._ledger = ledger
        self._publisher = publisher

    async def run(self) -> None:
        while True:
            for shard in self._hot:
                try:
                    await self.settle(shard)
                except GatewayError as error:
                    log.warning("late_money_waits", shard=shard, error=str(error))
            await asyncio.sleep(EVERY_S)

    async def settle(self, shard: int) -> None:
        for payment in await self._ledger.waiting_payments(shard, limit=PAYMENTS_AT_ONCE):
            points.reach("late.script.before")
            word = await self._hot[shard].revive(payment)
            points.reach("late.script.after")
            if word == "revived":
                LATE_PAYMENTS.labels("revived").inc()
            elif word in _NO or (word == "unloaded" and payment.retired):
                # A retired sale has no counters in Valkey: with no claim to be taken there, the ledger alone decides.
                status = await self._ledger.settle_late(shard, payment.payment_no, _NO.get(word))
                points.reach("late.settle.after")
                if status is not None:
                    LATE_PAYMENTS.labels("revived" if status == "paid" else "refund_due").inc()
                    await self._publisher.publish(bus.encode_later(_states(payment, status)))


def _states(payment: LatePayment, status: str) -> Iterator[tuple[str, bus.LaterState | bus.LaterClaim]]:
    yield payment.shop, bus.LaterState(payment.viewer, payment.order_id, status)
    if status == "paid" and payment.claim_id:
        yield payment.shop, bus.LaterClaim(payment.viewer, payment.claim_id, "redeemed")
