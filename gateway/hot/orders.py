"""The binding of `lua/place_orders.lua`: typed requests in, answers out."""

from collections.abc import Sequence
from typing import Any

from gateway.clock import Clock
from gateway.domain.coupon import claim_field
from gateway.domain.ids import IdMint
from gateway.domain.order import OrderAnswer, OrderOutcome, OrderRequest, Verdict
from gateway.errors import GatewayError, KeyReused, NotFound, Overloaded, Unavailable
from gateway.hot.deciding import GroupScript
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard

# Outcomes that carry nothing are shared.
_PLAIN = {
    Verdict.LIMIT_REACHED: OrderAnswer(OrderOutcome.LIMIT_REACHED),
    Verdict.ENDED: OrderAnswer(OrderOutcome.ENDED),
    Verdict.PAUSED: OrderAnswer(OrderOutcome.PAUSED),
    Verdict.COUPON_UNUSABLE: OrderAnswer(OrderOutcome.COUPON_UNUSABLE),
}


class HotOrders:
    """Decides groups of orders of one shard. `backlog_max`: sequence numbers the ledger may be behind."""

    def __init__(self, *, shard: HotShard, scripts: Scripts, mint: IdMint, clock: Clock, backlog_max: int) -> None:
        self._keys = shard.keys
        self._place = GroupScript(
            shard=shard, script=scripts.named("place_orders"), clock=clock, backlog_max=backlog_max
        )
        self._mint = mint

    async def decide(self, sale_no: int, group: Sequence[OrderRequest]) -> list[OrderAnswer | GatewayError]:
        """One answer a request, in their order. See `group.Decider` for what is raised."""
        keys = self._keys
        await self._place.know_time()
        names = [keys.shard, keys.sale(sale_no), keys.answers(sale_no), keys.units(sale_no), keys.stream]
        places: dict[int, int] = {}
        """Of the coupons: the place of their first key."""
        currency = ""
        requests: list[tuple[str | int, ...]] = []
        for request in group:
            asked = (
                request.viewer,
                request.key,
                request.fingerprint,
                request.item_no,
                request.quantity,
                request.expect_amount_minor,
                request.extra,
                self._place.decide_until_ms(request.arrived_s),
            )
            claim = request.claim
            if claim is None:
                requests.append(asked)
                continue
            if claim.coupon_no not in places:
                places[claim.coupon_no] = len(names) + 1
                names += [keys.coupon(claim.coupon_no), keys.coupon_claims(claim.coupon_no)]
            currency = request.currency
            requests.append((*asked, places[claim.coupon_no], claim_field(claim), claim.coupon_no))
        epoch, now_ms, answers = await self._place.decide(names, sale_no, requests, currency)
        return [
            self._read(sale_no, request, answer, epoch, now_ms) for request, answer in zip(group, answers, strict=True)
        ]

    def _read(
        self, sale_no: int, request: OrderRequest, answer: list[Any], epoch: int, now_ms: int
    ) -> OrderAnswer | GatewayError:
        word = answer[0]
        if word == Verdict.RESERVED:
            return self._reserved(sale_no, request, epoch, answer[1], now_ms, answer[2:])
        if word == Verdict.SOLD_OUT:
            return OrderAnswer(OrderOutcome.SOLD_OUT, left=answer[1], may_return=answer[2] == 1)
        if word == Verdict.REPLAYED:
            return self._reserved(sale_no, request, answer[1], answer[2], answer[3], answer[4:], replayed=True)
        if (plain := _PLAIN.get(word)) is not None:
            return plain
        if word == Verdict.NOT_STARTED:
            return OrderAnswer(OrderOutcome.NOT_STARTED, opens_at_ms=answer[1])
        if word == Verdict.PRICE_CHANGED:
            discount_minor = answer[2] if len(answer) > 2 else 0
            amount_minor = answer[1] * request.quantity - discount_minor
            return OrderAnswer(OrderOutcome.PRICE_CHANGED, amount_minor=amount_minor, discount_minor=discount_minor)
        if word == Verdict.KEY_REUSED:
            return KeyReused()
        if word == Verdict.LATE:
            return Unavailable("It took too long to decide this; nothing happened.", retry_after_ms=500)
        if word == Verdict.BACKLOG:
            return Overloaded("The ledger is behind; nothing happened, repeat in a moment.", retry_after_ms=2000)
        return NotFound(f"place_orders answered {word}")

    def _reserved(
        self,
        sale_no: int,
        request: OrderRequest,
        epoch: int,
        seq: int,
        at_ms: int,
        price: list[int],
        *,
        replayed: bool = False,
    ) -> OrderAnswer:
        # The discount stands behind the price where there is one.
        price_minor, discount_minor = price if len(price) == 2 else (price[0], 0)
        return OrderAnswer(
            OrderOutcome.RESERVED,
            order=self._mint.order(at_ms, sale_no, epoch, seq),
            price_minor=price_minor,
            amount_minor=price_minor * request.quantity - discount_minor,
            at_ms=at_ms,
            replayed=replayed,
            discount_minor=discount_minor,
        )
