"""The bindings of `lua/claim_coupons.lua`, `lua/control_coupon.lua` and `lua/load_coupon.lua`, and what is read of a
coupon beside them."""

import os
from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from gateway import points
from gateway.clock import Clock
from gateway.domain.coupon import DRAWS, ClaimAnswer, ClaimOutcome, ClaimRequest, ClaimVerdict, Coupon
from gateway.domain.ids import IdMint
from gateway.domain.order import DECIDE_WITHIN_S
from gateway.errors import Conflict, GatewayError, KeyReused, NotFound, Overloaded, ShardClosed, Unavailable
from gateway.hot.connect import Client, hot_errors
from gateway.hot.deciding import GroupScript
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard

_pack = msgspec.msgpack.Encoder().encode

# Outcomes that carry nothing are shared.
_PLAIN = {
    ClaimVerdict.GONE: ClaimAnswer(ClaimOutcome.GONE),
    ClaimVerdict.LIMIT_REACHED: ClaimAnswer(ClaimOutcome.LIMIT_REACHED),
    ClaimVerdict.ENDED: ClaimAnswer(ClaimOutcome.ENDED),
}


class DropDone(NamedTuple):
    """The drop is in force. It is kept once the ledger has applied `seq` of `epoch` (0: it has already)."""

    epoch: int
    seq: int
    claim_until_ms: int
    replayed: bool


class HeldClaim(NamedTuple):
    """Where the claim stands that a key holds, as the scripts remember it."""

    epoch: int
    seq: int
    at_ms: int
    value_minor: int


class HotCoupons:
    """Decides groups of claims of one shard, opens its coupons, and says what is left of them. `backlog_max`: sequence
    numbers the ledger may be behind."""

    def __init__(
        self, *, shard: HotShard, client: Client, scripts: Scripts, mint: IdMint, clock: Clock, backlog_max: int
    ) -> None:
        self._shard = shard
        self._client = client
        self._mint = mint
        self._clock = clock
        self._claim = GroupScript(
            shard=shard, script=scripts.named("claim_coupons"), clock=clock, backlog_max=backlog_max
        )
        self._control = scripts.named("control_coupon")
        self._load = scripts.named("load_coupon")

    async def decide(self, coupon_no: int, group: Sequence[ClaimRequest]) -> list[ClaimAnswer | GatewayError]:
        """One answer a request, in their order. See `group.Decider` for what is raised."""
        keys = self._shard.keys
        await self._claim.know_time()
        requests = [
            (request.viewer, request.key, self._claim.decide_until_ms(request.arrived_s), draw)
            for request, draw in zip(group, _draws(len(group)), strict=True)
        ]
        names = [
            keys.shard,
            keys.coupon(coupon_no),
            keys.coupon_answers(coupon_no),
            keys.coupon_viewers(coupon_no),
            keys.coupon_claims(coupon_no),
            keys.stream,
        ]
        epoch, now_ms, answers = await self._claim.decide(names, coupon_no, requests)
        return [self._read(coupon_no, answer, epoch, now_ms) for answer in answers]

    async def load(self, coupon: Coupon, left: int | None = None, budget_left: int | None = None) -> None:
        """Gives Valkey a coupon of the ledger, with all of it left where nothing else is said; harmless when it is
        there. Raises ShardClosed when the shard is shut."""
        fields = coupon.in_valkey(
            left=coupon.copies if left is None else left,
            budget_left=coupon.budget_minor if budget_left is None else budget_left,
        )
        word = await self._load(
            [self._shard.keys.shard, self._shard.keys.coupon(coupon.coupon_no)],
            [self._shard.epoch, _pack([part for pair in fields.items() for part in pair])],
        )
        if word == b"epoch":
            self._shard.doubt()
            raise ShardClosed

    async def drop(
        self,
        coupon_no: int,
        *,
        room_no: int,
        for_ms: int,
        actor: str,
        key: str = "",
        fingerprint: str = "",
        shop: str = "",
        arrived_s: float | None = None,
    ) -> DropDone:
        """Opens the claim at once; `for_ms` 0: as long as the coupon says. Raises Conflict (it is not valid any more),
        KeyReused, ShardClosed or Unavailable: nothing happened then. Raises HotUnavailable when the reply was lost;
        repeating it under the same key is harmless."""
        shard, keys = self._shard, self._shard.keys
        now_s = self._clock.monotonic()
        # A repeat after a lost reply is still the same request: its time runs from its arrival.
        until_s = (now_s if arrived_s is None else arrived_s) + DECIDE_WITHIN_S
        if not shard.clock.known:
            await shard.read_clock(now_s)
        until_ms = shard.clock.ms_at(until_s)
        points.reach("control.script.before")
        word, epoch, seq, now_ms, claim_until_ms = await self._control(
            [keys.shard, keys.coupon(coupon_no), keys.acts, keys.stream],
            [shard.epoch, coupon_no, "drop", room_no, for_ms, actor, key, fingerprint, until_ms, shop],
        )
        points.reach("control.script.after")
        shard.clock.learn(now_ms, now_s)
        match str(word, "ascii"):
            case "done" | "replayed" as done:
                return DropDone(epoch, seq, claim_until_ms, done == "replayed")
            case "ended":
                raise Conflict("The coupon is not valid any more.")
            case "key_reused":
                raise KeyReused
            case "late":
                raise Unavailable(retry_after_ms=500)
            case other:
                shard.doubt()
                raise ShardClosed(f"shard {shard.shard}: {other}")

    async def left(self, coupon_nos: Sequence[int]) -> list[int | None]:
        """Copies left of each, or None where Valkey does not have the coupon."""
        with hot_errors():
            async with self._client.pipeline(transaction=False) as pipe:
                for coupon_no in coupon_nos:
                    pipe.hget(self._shard.keys.coupon(coupon_no), "left")
                found = await pipe.execute()
        return [None if left is None else int(left) for left in found]

    async def left_at(self, coupon_nos: Sequence[int]) -> tuple[int, list[int | None]]:
        """The server's time of the reading in microseconds, and what is left: of two readings the later one is
        truer."""
        with hot_errors():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.time()
                for coupon_no in coupon_nos:
                    pipe.hget(self._shard.keys.coupon(coupon_no), "left")
                (seconds, micros), *found = await pipe.execute()
        return seconds * 1_000_000 + micros, [None if left is None else int(left) for left in found]

    async def held(self, coupon_no: int, viewer_keys: Sequence[tuple[str, str]]) -> tuple[list[HeldClaim | None], bool]:
        """For each (viewer, key) what it holds, or None; and whether Valkey has the coupon: of one that left it, only
        the ledger knows the keys.

        Raises ShardClosed where that cannot be told: a shard that was lost or is being filled lacks what was promised.
        """
        keys = self._shard.keys
        fields = [f"{viewer}|{key}" for viewer, key in viewer_keys]
        with hot_errors():
            # One moment of both: a shard that is open now may have been filled since the answers were read.
            pipe = self._client.pipeline(transaction=True)
            pipe.hmget(keys.coupon_answers(coupon_no), fields)
            pipe.hget(keys.shard, "open")
            pipe.exists(keys.coupon(coupon_no))
            answers, is_open, is_there = await pipe.execute()
        if None in answers and is_open != b"1":
            raise ShardClosed
        found = [None if answer is None else HeldClaim(*map(int, answer.split(b"|"))) for answer in answers]
        return found, bool(is_there)

    def _read(self, coupon_no: int, answer: list[Any], epoch: int, now_ms: int) -> ClaimAnswer | GatewayError:
        word = answer[0]
        if word == ClaimVerdict.CLAIMED:
            return self._claimed(coupon_no, epoch, answer[1], now_ms, answer[2])
        if (plain := _PLAIN.get(word)) is not None:
            return plain
        if word == ClaimVerdict.REPLAYED:
            _, of_epoch, of_seq, at_ms, value = answer
            return self._claimed(coupon_no, of_epoch, of_seq, at_ms, value, replayed=True)
        if word == ClaimVerdict.NOT_STARTED:
            return ClaimAnswer(ClaimOutcome.NOT_STARTED, opens_at_ms=answer[1])
        if word == ClaimVerdict.LATE:
            return Unavailable("It took too long to decide this; nothing happened.", retry_after_ms=500)
        if word == ClaimVerdict.BACKLOG:
            return Overloaded("The ledger is behind; nothing happened, repeat in a moment.", retry_after_ms=2000)
        return NotFound(f"claim_coupons answered {word}")

    def _claimed(
        self, coupon_no: int, epoch: int, seq: int, at_ms: int, value_minor: int, *, replayed: bool = False
    ) -> ClaimAnswer:
        return ClaimAnswer(
            ClaimOutcome.CLAIMED,
            claim=self._mint.claim(at_ms, coupon_no, epoch, seq),
            value_minor=value_minor,
            at_ms=at_ms,
            replayed=replayed,
        )


def _draws(count: int) -> list[int]:
    """Numbers that nobody can foretell, one a request; the script makes values of them."""
    return [number % DRAWS for number in array("I", os.urandom(array("I").itemsize * count))]
