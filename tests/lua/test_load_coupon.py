from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from gateway.domain.coupon import CouponKind
from gateway.errors import ShardClosed
from gateway.hot.coupons import HotCoupons
from gateway.hot.shard import HotShard
from tests.support.coupons import coupon
from tests.support.fake_clock import FakeClock
from tests.support.lua_coupons import COUPON, LuaCoupons, claim
from tests.support.lua_shard import LuaShard, read_header


def _there(coupons: LuaCoupons) -> str:
    coupons.load()
    return coupons.load()


WORDS: dict[str, Callable[[LuaCoupons], str]] = {
    "loaded": lambda coupons: coupons.load(),
    "there": _there,
    "epoch": lambda coupons: coupons.load(epoch=2),
}


@pytest.fixture
def coupons(shard: LuaShard) -> LuaCoupons:
    return LuaCoupons(shard)


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_header_is_reached(coupons: LuaCoupons, word: str) -> None:
    assert WORDS[word](coupons) == word


def test_the_words_of_the_header_are_those_that_are_tested() -> None:
    assert read_header("load_coupon").words == [set(WORDS)]


class Recorded:
    def __init__(self, word: str) -> None:
        self.word = word
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return self.word.encode()


def bound(script: Recorded) -> HotCoupons:
    nothing: Any = None
    scripts: Any = script
    shard = HotShard(shard=3, client=nothing, scripts=scripts)
    shard.enter_epoch(1, 0)
    return HotCoupons(shard=shard, client=nothing, scripts=scripts, mint=nothing, clock=FakeClock(), backlog_max=50)


def _fields(script: Recorded) -> dict[str, str]:
    flat = msgpack.unpackb(script.args[1])
    return dict(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize("word", WORDS)
async def test_the_binding_takes_every_word_and_passes_what_the_header_names(word: str) -> None:
    script = Recorded(word)
    load = bound(script).load(coupon())
    if word == "epoch":
        with pytest.raises(ShardClosed):
            await load
    else:
        await load
    header = read_header("load_coupon")
    assert script.keys == ["{s3}:shard", f"{{s3}}:coupon:{COUPON}"]
    assert (len(script.keys), len(script.args)) == (header.keys, header.args)


async def test_the_binding_gives_all_copies_and_all_of_the_budget_unless_it_is_told_what_is_left() -> None:
    script = Recorded("loaded")
    given = coupon(
        kind=CouponKind.RANDOM,
        value_minor=0,
        min_minor=5,
        max_minor=50,
        budget_minor=900,
        threshold_minor=70,
        sales=(7, 12),
        claim_from_ms=None,
    )
    await bound(script).load(given)
    assert _fields(script) == {
        "kind": "random",
        "value": "0",
        "percent": "0",
        "min": "5",
        "max": "50",
        "threshold": "70",
        "copies": "10",
        "left": "10",
        "budget_left": "900",
        "limit": "2",
        "claim_from": "",
        "claim_until": "2000",
        "valid_until": "3000",
        "currency": "CNY",
        "sales": ",7,12,",
    }
    await bound(script).load(given, 3, 100)
    assert (_fields(script)["left"], _fields(script)["budget_left"]) == ("3", "100")


async def test_what_the_binding_gives_is_what_the_tests_of_the_scripts_load(coupons: LuaCoupons) -> None:
    script = Recorded("loaded")
    await bound(script).load(coupon())
    coupons.load()
    assert set(coupons.facts()) == set(_fields(script))


def test_a_coupon_that_is_there_keeps_what_it_has(coupons: LuaCoupons) -> None:
    coupons.load()
    coupons.claim(claim())
    before = coupons.shard.everything()
    assert coupons.load(copies=99) == "there"
    assert coupons.shard.everything() == before


def test_a_shard_that_is_shut_takes_no_coupon(coupons: LuaCoupons) -> None:
    coupons.shard.valkey.hset(coupons.shard.keys.shard, "open", 0)
    before = coupons.shard.everything()
    assert coupons.load() == "epoch"
    assert coupons.shard.everything() == before
