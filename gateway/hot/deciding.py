"""What the scripts that decide a group have in common: how they are asked, and what they say of the shard."""

from typing import Any, NamedTuple

import msgspec

from gateway import points
from gateway.clock import Clock
from gateway.domain.order import DECIDE_WITHIN_S
from gateway.errors import HotUnavailable, ServerUnknown, ShardClosed
from gateway.hot.scripts import Script
from gateway.hot.shard import HotShard

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode


class Decided(NamedTuple):
    epoch: int
    now_ms: int
    answers: list[Any]


class GroupScript:
    """Decides groups on one shard. `backlog_max`: sequence numbers the ledger may be behind."""

    def __init__(self, *, shard: HotShard, script: Script, clock: Clock, backlog_max: int) -> None:
        self._shard = shard
        self._script = script
        self._clock = clock
        self._backlog_max = backlog_max

    async def know_time(self) -> None:
        """Until when a request may be decided is told by the server's time."""
        if not self._shard.clock.known:
            try:
                await self._shard.read_clock(self._clock.monotonic())
            except HotUnavailable as error:
                raise ShardClosed(str(error)) from error  # nothing was sent

    def decide_until_ms(self, arrived_s: float) -> int:
        return self._shard.clock.ms_at(arrived_s + DECIDE_WITHIN_S)

    async def decide(self, keys: list[str], number: int, requests: object, *more: str) -> Decided:
        """One answer a request, in their order. See `group.Decider` for what is raised."""
        shard = self._shard
        epoch = shard.epoch
        points.reach("group.call.before")
        sent_s = self._clock.monotonic()
        try:
            reply = await self._script(keys, [epoch, shard.seq_seen, self._backlog_max, number, _pack(requests), *more])
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
        return Decided(epoch, now_ms, answers)
