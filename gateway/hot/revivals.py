"""The binding of `lua/revive_order.lua`: units for an expired order whose money came late."""

from gateway.domain.coupon import claim_field
from gateway.domain.settle import LatePayment
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard


class HotRevivals:
    def __init__(self, *, shard: HotShard, scripts: Scripts) -> None:
        self._shard = shard
        self._revive = scripts.named("revive_order")

    async def revive(self, payment: LatePayment) -> str:
        """The script's word. Raises HotUnavailable when the reply was lost; asking again is harmless."""
        shard, keys, sale_no = self._shard, self._shard.keys, payment.sale_no
        names = [keys.shard, keys.sale(sale_no), keys.units(sale_no), keys.late(sale_no), keys.stream]
        asked: list[str | bytes | int] = [
            shard.epoch,
            sale_no,
            payment.payment_no,
            payment.item_no,
            payment.viewer,
            payment.quantity,
            payment.order_id,
        ]
        if payment.claim is not None:
            names.append(keys.coupon_claims(payment.claim.coupon_no))
            asked += [claim_field(payment.claim), payment.holder, int(payment.retired)]
        word, epoch, seq = await self._revive(names, asked)
        if epoch == shard.epoch:
            shard.seq_seen = max(shard.seq_seen, int(seq))
        return str(word, "ascii")
