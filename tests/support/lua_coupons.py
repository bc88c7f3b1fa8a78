"""The coupons of a shard as the scripts see them: claims and acts in, and what the keys hold."""

from typing import Any, NamedTuple

import msgpack

from tests.support.lua_shard import BACKLOG, MINUTE_MS, NEVER_LATE_MS, LuaShard, Placed

COUPON = 31
MIDDLE = 2**30
"""The draw in the middle."""
LARGEST = 2**31 - 1


class Claimed(NamedTuple):
    """A claim as its coupon keeps it."""

    value: int
    holder: str
    viewer: str


class Dropped(NamedTuple):
    word: str
    epoch: int
    seq: int
    now_ms: int
    claim_until_ms: int


def claim(viewer: str = "vw_1", key: str = "c1", *, until_ms: int = NEVER_LATE_MS, draw: int = MIDDLE) -> list[Any]:
    """A request of `claim_coupons`."""
    return [viewer, key, until_ms, draw]


class LuaCoupons:
    def __init__(self, shard: LuaShard) -> None:
        self.shard = shard

    def load(
        self,
        coupon_no: int = COUPON,
        *,
        opens_in_ms: int | None = -MINUTE_MS,
        claims_end_in_ms: int = 60 * MINUTE_MS,
        valid_for_ms: int = 90 * MINUTE_MS,
        epoch: int = 1,
        **facts: Any,
    ) -> str:
        """5 off, ten copies, two a viewer, open; `facts` says what else. `opens_in_ms` None: by a drop."""
        now_ms = self.shard.now_ms()
        copies = facts.get("copies", 10)
        fields = {
            "kind": "amount",
            "value": 500,
            "percent": 0,
            "min": 0,
            "max": 0,
            "threshold": 0,
            "copies": copies,
            "left": copies,
            "budget_left": 0,
            "limit": 2,
            "claim_from": "" if opens_in_ms is None else now_ms + opens_in_ms,
            "claim_until": now_ms + claims_end_in_ms,
            "valid_until": now_ms + valid_for_ms,
            "currency": "CNY",
            "sales": "",
            **facts,
        }
        flat = msgpack.packb([str(part) for pair in fields.items() for part in pair])
        keys = self.shard.keys
        word: bytes = self.shard.call("load_coupon", [keys.shard, keys.coupon(coupon_no)], [epoch, flat])
        return word.decode()

    def claim(
        self, *requests: list[Any], coupon_no: int = COUPON, epoch: int = 1, seen: int = 0, backlog: int = BACKLOG
    ) -> Placed:
        reply = self.shard.call(
            "claim_coupons",
            [self.shard.keys.shard, *self.keys_of(coupon_no), self.shard.keys.stream],
            [epoch, seen, backlog, coupon_no, msgpack.packb(requests, use_bin_type=False)],
        )
        return Placed(*msgpack.unpackb(reply))

    def drop(
        self,
        *,
        coupon_no: int = COUPON,
        act: str = "drop",
        room_no: int = 4,
        for_ms: int = 0,
        actor: str = "host_1",
        key: str = "",
        fingerprint: str = "f",
        until_ms: int = NEVER_LATE_MS,
        epoch: int = 1,
    ) -> Dropped:
        keys = self.shard.keys
        word, *rest = self.shard.call(
            "control_coupon",
            [keys.shard, keys.coupon(coupon_no), keys.acts, keys.stream],
            [epoch, coupon_no, act, room_no, for_ms, actor, key, fingerprint, until_ms, ""],
        )
        return Dropped(word.decode(), *rest)

    def retire(self, coupon_no: int = COUPON, *, epoch: int = 1) -> str:
        names = [self.shard.keys.shard, *self.keys_of(coupon_no)]
        word: bytes = self.shard.call("retire_coupon", names, [epoch])
        return word.decode()

    # What the keys hold.

    def keys_of(self, coupon_no: int = COUPON) -> list[str]:
        keys = self.shard.keys
        return [
            keys.coupon(coupon_no),
            keys.coupon_answers(coupon_no),
            keys.coupon_viewers(coupon_no),
            keys.coupon_claims(coupon_no),
        ]

    def facts(self, coupon_no: int = COUPON) -> dict[str, str]:
        return self.shard.hash(self.shard.keys.coupon(coupon_no))

    def left(self, coupon_no: int = COUPON) -> int:
        return int(self.facts(coupon_no)["left"])

    def budget_left(self, coupon_no: int = COUPON) -> int:
        return int(self.facts(coupon_no)["budget_left"])

    def answers(self, coupon_no: int = COUPON) -> dict[str, str]:
        return self.shard.hash(self.shard.keys.coupon_answers(coupon_no))

    def viewers(self, coupon_no: int = COUPON) -> dict[str, str]:
        return self.shard.hash(self.shard.keys.coupon_viewers(coupon_no))

    def claims(self, coupon_no: int = COUPON) -> dict[str, Claimed]:
        found = self.shard.hash(self.shard.keys.coupon_claims(coupon_no))
        return {place: _claimed(text) for place, text in found.items()}


def _claimed(text: str) -> Claimed:
    value, holder, viewer = text.split("|", 2)
    return Claimed(int(value), holder, viewer)
