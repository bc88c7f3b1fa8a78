from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.errors import Conflict, GatewayError, KeyReused, ShardClosed, Unavailable
from gateway.hot.coupons import DropDone, HotCoupons
from gateway.hot.shard import HotShard
from tests.support.fake_clock import FakeClock
from tests.support.lua_coupons import COUPON, Dropped, LuaCoupons, claim
from tests.support.lua_shard import LONG_AGO_MS, MINUTE_MS, LuaShard, read_header


@pytest.fixture
def coupons(shard: LuaShard) -> LuaCoupons:
    """A coupon that only a drop opens, and its claims would end in an hour."""
    made = LuaCoupons(shard)
    assert made.load(opens_in_ms=None) == "loaded"
    return made


def _replayed(coupons: LuaCoupons) -> Dropped:
    coupons.drop(key="k")
    return coupons.drop(key="k")


def _key_reused(coupons: LuaCoupons) -> Dropped:
    coupons.drop(key="k")
    return coupons.drop(key="k", fingerprint="other")


def _ended(coupons: LuaCoupons) -> Dropped:
    coupons.load(32, valid_for_ms=-1)
    return coupons.drop(coupon_no=32)


WORDS: dict[str, Callable[[LuaCoupons], Dropped]] = {
    "done": lambda coupons: coupons.drop(),
    "replayed": _replayed,
    "key_reused": _key_reused,
    "late": lambda coupons: coupons.drop(until_ms=LONG_AGO_MS),
    "ended": _ended,
    "epoch": lambda coupons: coupons.drop(epoch=2),
    "unloaded": lambda coupons: coupons.drop(coupon_no=99),
}

READ: dict[str, DropDone | type[GatewayError]] = {
    "done": DropDone(1, 4, 2_000_000, False),
    "replayed": DropDone(1, 4, 2_000_000, True),
    "key_reused": KeyReused,
    "late": Unavailable,
    "ended": Conflict,
    "epoch": ShardClosed,
    "unloaded": ShardClosed,
}


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_header_is_reached(coupons: LuaCoupons, word: str) -> None:
    assert WORDS[word](coupons).word == word


def test_the_words_of_the_header_are_those_that_are_bound_and_tested() -> None:
    (words,) = read_header("control_coupon").words
    assert words == set(WORDS) == set(READ)


class Recorded:
    def __init__(self, word: str) -> None:
        self.word = word
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return [self.word.encode(), 1, 4, 1_000_000, 2_000_000]


def bound(script: Recorded) -> HotCoupons:
    scripts: Any = script
    client: Any = None
    mint: Any = None
    clock = FakeClock()
    shard = HotShard(shard=3, client=client, scripts=scripts)
    shard.enter_epoch(1, 0)
    shard.clock.learn(1_000_000, clock.monotonic())
    return HotCoupons(shard=shard, client=client, scripts=scripts, mint=mint, clock=clock, backlog_max=50)


@pytest.mark.parametrize("word", READ)
async def test_the_binding_reads_every_word(word: str) -> None:
    expected = READ[word]
    drop = bound(Recorded(word)).drop(COUPON, room_no=4, for_ms=0, actor="host_1")
    if isinstance(expected, DropDone):
        assert await drop == expected
    else:
        with pytest.raises(expected) as caught:
            await drop
        assert type(caught.value) is expected


async def test_the_binding_passes_as_many_keys_and_arguments_as_the_header_names() -> None:
    script = Recorded("done")
    arrived_s = FakeClock().monotonic() - 1.0
    await bound(script).drop(
        COUPON, room_no=4, for_ms=30_000, actor="host_1", key="k", fingerprint="f", shop="tins", arrived_s=arrived_s
    )
    header = read_header("control_coupon")
    assert script.keys == ["{s3}:shard", f"{{s3}}:coupon:{COUPON}", "{s3}:acts", "{s3}:stream"]
    assert script.args == [1, COUPON, "drop", 4, 30_000, "host_1", "k", "f", 1_004_000, "tins"]
    assert (len(script.keys), len(script.args)) == (header.keys, header.args)


# What a drop does.


def test_a_drop_opens_the_claim_at_once_for_as_long_as_it_says(coupons: LuaCoupons) -> None:
    assert coupons.claim(claim()).words == ["not_started"]
    done = coupons.drop(for_ms=30_000, key="k", fingerprint="f")
    assert done == ("done", 1, 1, done.now_ms, done.now_ms + 30_000)
    assert coupons.facts()["claim_from"] == str(done.now_ms)
    assert coupons.facts()["claim_until"] == str(done.claim_until_ms)
    body = ["coupon_act", COUPON, done.now_ms, 1, "drop", 4, done.claim_until_ms, "host_1", "drop", "k", "f"]
    assert coupons.shard.stream() == [("1-1", body)]
    assert coupons.claim(claim()).words == ["claimed"]
    assert coupons.drop(for_ms=30_000, key="k", fingerprint="f")[:3] == ("replayed", 1, 1)


def test_without_a_time_of_its_own_the_claim_ends_when_the_coupon_says(coupons: LuaCoupons) -> None:
    until_ms = int(coupons.facts()["claim_until"])
    assert coupons.drop().claim_until_ms == until_ms
    assert coupons.facts()["claim_until"] == str(until_ms)


def test_a_second_drop_opens_what_ran_out_again_as_long_as_the_coupon_is_valid(coupons: LuaCoupons) -> None:
    coupons.load(32, opens_in_ms=-2 * MINUTE_MS, claims_end_in_ms=-MINUTE_MS)
    opened_at, valid_until = coupons.facts(32)["claim_from"], int(coupons.facts(32)["valid_until"])
    assert coupons.claim(claim(), coupon_no=32).words == ["ended"]
    assert coupons.drop(coupon_no=32).claim_until_ms == valid_until
    assert coupons.facts(32)["claim_from"] == opened_at, "it had opened before"
    assert coupons.claim(claim(), coupon_no=32).words == ["claimed"]


def test_no_drop_keeps_the_claim_open_past_the_time_the_coupon_is_valid(coupons: LuaCoupons) -> None:
    valid_until = int(coupons.facts()["valid_until"])
    assert coupons.drop(for_ms=24 * 60 * MINUTE_MS).claim_until_ms == valid_until


def test_while_clocks_are_not_trusted_a_drop_opens_by_the_time_trusted_last(coupons: LuaCoupons) -> None:
    trusted_ms = coupons.shard.now_ms() - MINUTE_MS
    coupons.shard.call("pause_opening", [coupons.shard.keys.shard], [trusted_ms])
    assert coupons.drop().word == "done"
    assert coupons.facts()["claim_from"] == str(trusted_ms)
    assert coupons.shard.stream()[0].body[2] == trusted_ms
    assert coupons.claim(claim()).words == ["claimed"]


@pytest.mark.parametrize("word", sorted(set(WORDS) - {"done"}))
def test_every_word_but_done_writes_nothing(coupons: LuaCoupons, word: str) -> None:
    WORDS[word](coupons)
    before = coupons.shard.everything()
    repeat: dict[str, Callable[[], Dropped]] = {
        "replayed": lambda: coupons.drop(key="k"),
        "key_reused": lambda: coupons.drop(key="k", fingerprint="other"),
        "ended": lambda: coupons.drop(coupon_no=32),
    }
    assert repeat.get(word, lambda: WORDS[word](coupons))().word == word
    assert coupons.shard.everything() == before


def test_a_key_is_of_one_kind_of_act(coupons: LuaCoupons) -> None:
    coupons.shard.act("pause", key="k", fingerprint="of the pause")
    assert coupons.drop(key="k", fingerprint="of the drop").word == "done"
    assert coupons.drop(key="k", fingerprint="of the drop").word == "replayed"
    assert coupons.shard.act("resume", key="k", fingerprint="of the pause")[0] == "replayed"


def test_a_key_of_an_earlier_epoch_says_that_the_ledger_has_it(coupons: LuaCoupons) -> None:
    coupons.drop(key="k")
    coupons.shard.valkey.hset(coupons.shard.keys.shard, mapping={"epoch": 2, "seq": 9})
    assert coupons.drop(key="k", epoch=2)[:3] == ("replayed", 2, 0)


def test_an_act_nobody_knows_is_an_error_and_writes_nothing(coupons: LuaCoupons) -> None:
    before = coupons.shard.everything()
    with pytest.raises(ResponseError, match="UNKNOWN_ACT explode"):
        coupons.drop(act="explode")
    assert coupons.shard.everything() == before
