"""The binding of `lua/place_orders.lua`: typed requests in, answers out."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway import points
from gateway.clock import Clock
from gateway.domain.ids import IdMint
from gateway.domain.order import DECIDE_WITHIN_S, OrderAnswer, OrderOutcome, OrderRequest, Verdict
from gateway.errors import (
    GatewayError,
    HotUnavailable,
    KeyReused,
    NotFound,
    Overloaded,
    ServerUnknown,
    ShardClosed,
    Unavailable,
)
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode

# Outcomes that carry nothing are shared.
_PLAIN = {
    Verdict.LIMIT_REACHED: OrderAnswer(OrderOutcome.LIMIT_REACHED),
    Verdict.ENDED: OrderAnswer(OrderOutcome.ENDED),
    Verdict.PAUSED: OrderAnswer(OrderOutcome.PAUSED),
}


class HotOrders:
    """Decides groups of orders of one shard. `backlog_max`: sequence numbers the ledger may be behind."""

    def __init__(self, *, shard: HotShard, scripts: Scripts, mint: IdMint, clock: Clock, backlog_max: int) -> None:
        self._shard = shard
        self._place = scripts.named("place_orders")
        self._mint = mint
        self._clock = clock
        self._backlog_max = backlog_max

    async def decide(self, sale_no: int, group: Sequence[OrderRequest]) -> list[OrderAnswer | GatewayError]:
        """One answer a request, in their order. See `group.Decider` for what is raised."""
        shard = self._shard
        if not shard.clock.known:
            try:
                await shard.read_clock(self._clock.monotonic())
            except HotUnavailable as error:
                raise ShardClosed(str(error)) from error  # nothing was sent
        requests = [
            (
                request.viewer,
                request.key,
                request.fingerprint,
                request.item_no,
                request.quantity,
                request.expect_amount_minor,
                request.extra,
                shard.clock.ms_at(request.arrived_s + DECIDE_WITHIN_S),
            )
            for request in group
        ]
        keys = shard.keys
        epoch = shard.epoch
        points.reach("group.call.before")
        sent_s = self._clock.monotonic()
        try:
            reply = await self._place(
                [keys.shard, keys.sale(sale_no), keys.answers(sale_no), keys.units(sale_no), keys.stream],
                [epoch, shard.seq_seen, self._backlog_max, sale_no, _pack(requests)],
            )
        except ServerUnknown as error:
            shard.clock.forget()
            raise ShardClosed(str(error)) from error  # nothing was sent
        except HotUnavailable:
            # What answers next may be another server with another clock.
            shard.clock.forget()
            raise
        points.reach("group.call.after")
        state, at_epoch, seq, now_ms, answers = _unpack(reply)
        shard.clock.learn(now_ms, sent_s)
        if state != "open":
            if state == "behind":
                shard.behind_in = epoch
            shard.doubt()
            raise ShardClosed(f"shard {shard.shard}: {state} (epoch {at_epoch}, sequence number {seq})")
        if shard.epoch == epoch:
            shard.seq_seen = max(shard.seq_seen, seq)
        return [
            self._read(sale_no, request, answer, epoch, now_ms) for request, answer in zip(group, answers, strict=True)
        ]

    def _read(
        self, sale_no: int, request: OrderRequest, answer: list[Any], epoch: int, now_ms: int
    ) -> OrderAnswer | GatewayError:
        word = answer[0]
        if word == Verdict.RESERVED:
            return self._reserved(sale_no, request, epoch, answer[1], now_ms, answer[2])
        if word == Verdict.SOLD_OUT:
            return OrderAnswer(OrderOutcome.SOLD_OUT, left=answer[1], may_return=answer[2] == 1)
        if word == Verdict.REPLAYED:
            _, of_epoch, of_seq, at_ms, price = answer
            return self._reserved(sale_no, request, of_epoch, of_seq, at_ms, price, replayed=True)
        if (plain := _PLAIN.get(word)) is not None:
            return plain
        if word == Verdict.NOT_STARTED:
            return OrderAnswer(OrderOutcome.NOT_STARTED, opens_at_ms=answer[1])
        if word == Verdict.PRICE_CHANGED:
            return OrderAnswer(OrderOutcome.PRICE_CHANGED, amount_minor=answer[1] * request.quantity)
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
        price_minor: int,
        *,
        replayed: bool = False,
    ) -> OrderAnswer:
        return OrderAnswer(
            OrderOutcome.RESERVED,
            order=self._mint.order(at_ms, sale_no, epoch, seq),
            price_minor=price_minor,
            amount_minor=price_minor * request.quantity,
            at_ms=at_ms,
            replayed=replayed,
        )
