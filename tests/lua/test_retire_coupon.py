from collections.abc import Callable
from typing import Any

import pytest

from gateway.hot.retire import HotRetirement, Retiring
from gateway.hot.shard import HotShard
from tests.support.lua_coupons import COUPON, LuaCoupons, claim
from tests.support.lua_shard import SALE, LuaShard, order, read_header

OVER = {"claims_end_in_ms": -1, "valid_for_ms": -1}


@pytest.fixture
def coupons(shard: LuaShard) -> LuaCoupons:
    return LuaCoupons(shard)


def _dropped(coupons: LuaCoupons) -> str:
    coupons.load(**OVER)
    return coupons.retire()


def _running(coupons: LuaCoupons) -> str:
    coupons.load()
    return coupons.retire()


WORDS: dict[str, Callable[[LuaCoupons], str]] = {
    "dropped": _dropped,
    "gone": lambda coupons: coupons.retire(),
    "running": _running,
    "epoch": lambda coupons: coupons.retire(epoch=2),
}


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_header_is_reached(coupons: LuaCoupons, word: str) -> None:
    assert WORDS[word](coupons) == word


def test_the_words_of_the_header_are_those_that_are_tested() -> None:
    assert read_header("retire_coupon").words == [set(WORDS)]


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


@pytest.mark.parametrize("word", WORDS)
async def test_the_binding_gives_back_every_word_and_passes_what_the_header_names(word: str) -> None:
    nothing: Any = None
    scripts: Any = Recorded(word)
    shard = HotShard(shard=3, client=nothing, scripts=scripts)
    shard.enter_epoch(4, 0)
    assert await HotRetirement(shard=shard, client=nothing, scripts=scripts).drop_coupon(COUPON) is Retiring(word)
    name = f"{{s3}}:coupon:{COUPON}"
    assert scripts.keys == ["{s3}:shard", name, f"{name}:answers", f"{name}:viewers", f"{name}:claims"]
    assert scripts.args == [4]
    header = read_header("retire_coupon")
    assert (len(scripts.keys), len(scripts.args)) == (header.keys, header.args)


def test_all_of_a_coupon_that_is_over_is_forgotten_and_nothing_else(coupons: LuaCoupons) -> None:
    coupons.load(32)
    coupons.claim(claim(), coupon_no=32)
    coupons.load()
    before = set(coupons.shard.everything())
    coupons.claim(claim())
    coupons.shard.valkey.hset(coupons.shard.keys.coupon(COUPON), mapping={"claim_until": 1, "valid_until": 1})
    assert coupons.retire() == "dropped"
    assert coupons.retire() == "gone"
    assert set(coupons.shard.everything()) == before - {name.encode() for name in coupons.keys_of()}


@pytest.mark.parametrize(("claims_end_in_ms", "valid_for_ms"), [(-1, 1_000), (1_000, -1), (1_000, 1_000)])
def test_a_coupon_that_may_still_be_claimed_or_used_stays(
    coupons: LuaCoupons, claims_end_in_ms: int, valid_for_ms: int
) -> None:
    coupons.load(claims_end_in_ms=claims_end_in_ms, valid_for_ms=valid_for_ms)
    before = coupons.shard.everything()
    assert coupons.retire() == "running"
    assert coupons.shard.everything() == before


def test_an_order_that_ends_after_its_coupon_left_changes_nothing_of_coupons(coupons: LuaCoupons) -> None:
    shard = coupons.shard
    coupons.load()
    coupons.claim(claim("vw_1"))
    shard.place(order("vw_1", "k1", claim=(COUPON, "1|1")))
    shard.valkey.hset(shard.keys.coupon(COUPON), mapping={"claim_until": 1, "valid_until": 1})
    coupons.retire()
    release = [1, SALE, 1, "vw_1", "k1", 1, 2, 1, "release", COUPON, "1|1"]
    unclaim = [2, 0, 0, "vw_1", "c1", 1, 1, 0, "unclaim", COUPON, "1|1"]
    assert shard.release(release, unclaim) == ("released", 2)
    assert (shard.left(), shard.held()) == (10, 0)
    assert not shard.valkey.exists(*coupons.keys_of())
