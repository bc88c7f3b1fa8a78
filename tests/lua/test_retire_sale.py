from collections.abc import Callable
from typing import Any

import msgpack
import pytest

from gateway.hot.connect import connect
from gateway.hot.retire import HotRetirement, Retiring
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from tests.support.lua_shard import MINUTE_MS, SALE, LuaShard, order, read_header

PAST = 8
"""A sale that ended a minute ago by its time alone."""


def retire(
    shard: LuaShard,
    what: str = "drop",
    *,
    sold: dict[int, int] | None = None,
    sale_no: int = SALE,
    epoch: int = 1,
) -> str:
    keys = shard.keys
    names = [
        keys.shard,
        keys.sale(sale_no),
        keys.answers(sale_no),
        keys.units(sale_no),
        keys.late(sale_no),
    ]
    packed = msgpack.packb(sorted((sold or {1: 0}).items()))
    word: bytes = shard.call("retire_sale", names, [epoch, what, packed])
    return word.decode()


def _closed(shard: LuaShard) -> LuaShard:
    assert shard.act("close").word == "done"
    return shard


def _busy(shard: LuaShard) -> str:
    shard.place(order())
    return retire(_closed(shard))


def _gone(shard: LuaShard) -> str:
    retire(_closed(shard))
    return retire(shard)


WORDS: dict[str, Callable[[LuaShard], str]] = {
    "settled": lambda shard: retire(_closed(shard), "look"),
    "dropped": lambda shard: retire(_closed(shard)),
    "gone": _gone,
    "busy": _busy,
    "running": lambda shard: retire(shard),
    "epoch": lambda shard: retire(_closed(shard), epoch=2),
}


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_answered(shard: LuaShard, word: str) -> None:
    assert WORDS[word](shard) == word


def test_the_header_names_exactly_these_words_keys_and_arguments() -> None:
    header = read_header("retire_sale")
    assert header.words == [set(WORDS)] == [{str(word) for word in Retiring}]
    assert (header.keys, header.args) == (5, 3)


def sold_out(shard: LuaShard) -> dict[int, int]:
    """Two viewers bought two each and paid, a third's order expired; what the ledger sold."""
    shard.place(*(order(f"vw_{at}", quantity=2) for at in range(3)))
    shard.release(
        [1, SALE, 1, "vw_0", "k1", 1, 1, 2, "paid"],
        [2, SALE, 1, "vw_1", "k1", 1, 2, 2, "paid"],
        [3, SALE, 1, "vw_2", "k1", 1, 3, 2, "release"],
    )
    return {1: 4}


def test_everything_of_the_sale_is_forgotten_and_nothing_else(shard: LuaShard) -> None:
    sold = sold_out(_open_other(shard))
    _closed(shard)
    shard.valkey.hset(shard.keys.late(SALE), "5", "1|9")
    others = {name: value for name, value in shard.everything().items() if f"sale:{SALE}".encode() not in name}
    assert retire(shard, sold=sold) == "dropped"
    assert shard.everything() == others
    assert shard.place(order()).state == "unloaded"


def _open_other(shard: LuaShard) -> LuaShard:
    shard.load(sale_no=PAST, opens_in_ms=-2 * MINUTE_MS, closes_in_ms=-MINUTE_MS)
    return shard


def test_a_look_changes_nothing(shard: LuaShard) -> None:
    sold = sold_out(shard)
    _closed(shard)
    before = shard.everything()
    assert retire(shard, "look", sold=sold) == "settled"
    assert shard.everything() == before


def test_a_sale_whose_time_has_passed_is_over(shard: LuaShard) -> None:
    _open_other(shard)
    assert retire(shard, sale_no=PAST) == "dropped"


def test_a_paused_sale_is_not_over(shard: LuaShard) -> None:
    shard.act("pause")
    assert retire(shard) == "running"


@pytest.mark.parametrize("what", ["look", "drop"])
def test_units_that_are_not_where_the_ledger_has_them_keep_the_sale(shard: LuaShard, what: str) -> None:
    """As while a revival waits in the stream: taken from what is left, held by nobody, not sold yet."""
    sold = sold_out(shard)
    _closed(shard)
    shard.valkey.hincrby(shard.keys.sale(SALE), "1:left", -1)
    before = shard.everything()
    assert retire(shard, what, sold=sold) == "busy"
    assert shard.everything() == before
    assert retire(shard, what, sold={1: sold[1] + 1}) in ("settled", "dropped")


def test_stock_that_a_host_added_is_counted_as_valkey_has_it(shard: LuaShard) -> None:
    shard.act("stock", item=1, value=5, key="k")
    _closed(shard)
    assert retire(shard) == "dropped"


def test_every_item_is_looked_at(new_shard: LuaShard) -> None:
    shard = new_shard
    shard.open()
    shard.load([(at, 100, 2, 10) for at in range(1, 201)])
    shard.place(order(item=200))
    _closed(shard)
    sold = dict.fromkeys(range(1, 201), 0)
    assert retire(shard, sold=sold) == "busy"
    shard.release([1, SALE, 200, "vw_1", "k1", 1, 1, 1, "release"])
    assert retire(shard, sold=sold) == "dropped"


def test_a_shut_shard_is_left_alone(shard: LuaShard) -> None:
    _closed(shard)
    shard.valkey.hset(shard.keys.shard, "open", 0)
    before = shard.everything()
    assert retire(shard) == "epoch"
    assert shard.everything() == before


def test_what_is_left_of_a_sale_that_is_gone_is_forgotten_too(shard: LuaShard) -> None:
    shard.valkey.delete(shard.keys.sale(SALE))
    shard.valkey.hset(shard.keys.answers(SALE), "a", "b")
    assert retire(shard, "look") == "gone"
    assert shard.valkey.exists(shard.keys.answers(SALE))
    assert retire(shard) == "gone"
    assert not shard.valkey.exists(shard.keys.answers(SALE))


def test_forgetting_half_a_million_keys_holds_nobody_up(shard: LuaShard) -> None:
    """The memory goes in the background; the call itself takes as long as any."""
    _closed(shard)
    with shard.valkey.pipeline(transaction=False) as pipe:
        for start in range(0, 500_000, 10_000):
            fields = {f"vw_{at}|k": "1.1.-1|1|123|1800000000000|1900" for at in range(start, start + 10_000)}
            pipe.hset(shard.keys.answers(SALE), mapping=fields)
            if start % 100_000 == 90_000:
                pipe.execute()
        pipe.execute()
    usual_us = shard.valkey.config_get("slowlog-log-slower-than")["slowlog-log-slower-than"]
    # Freed in the foreground it takes a tenth of a second and more. What is noted is without the sync of the file.
    shard.valkey.config_set("slowlog-log-slower-than", 30_000)
    try:
        shard.valkey.slowlog_reset()
        assert retire(shard) == "dropped"
        assert shard.valkey.slowlog_get() == []
    finally:
        shard.valkey.config_set("slowlog-log-slower-than", usual_us)


# The binding.


@pytest.fixture
async def binding(shard: LuaShard, valkey_url: str) -> Any:
    client = connect(valkey_url, max_connections=1)
    scripts = Scripts(client)
    hot = HotShard(shard=3, client=client, scripts=scripts)
    hot.enter_epoch(1, 0)
    yield HotRetirement(shard=hot, client=client, scripts=scripts)
    await client.aclose()


async def test_the_binding_looks_then_drops(shard: LuaShard, binding: HotRetirement) -> None:
    sold = sold_out(shard)
    assert await binding.look(SALE, list(sold.items())) is Retiring.RUNNING
    _closed(shard)
    assert await binding.look(SALE, list(sold.items())) is Retiring.SETTLED
    assert await binding.drop(SALE, list(sold.items())) is Retiring.DROPPED
    assert await binding.drop(SALE, list(sold.items())) is Retiring.GONE


async def test_acts_are_forgotten_up_to_a_place(shard: LuaShard, binding: HotRetirement) -> None:
    for at in range(1, 4):
        shard.act("stock", item=1, value=1, key=f"k{at}", fingerprint="a|b")
    assert await binding.forget_acts(up_to=(1, 0)) == 0
    assert await binding.forget_acts(up_to=(1, 2)) == 2
    assert list(shard.hash(shard.keys.acts).values()) == ["a|b|1|3"]
    assert await binding.forget_acts(up_to=(2, 0)) == 1
    assert await binding.forget_acts(up_to=(2, 0)) == 0
