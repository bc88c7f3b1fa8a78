from collections.abc import Callable

import pytest

from gateway.hot.connect import connect
from gateway.hot.opening import HotOpening
from gateway.hot.scripts import Scripts
from tests.support.lua_shard import MINUTE_MS, SALE, LuaShard, order, read_header

SOON = 8
"""A sale that opens in a minute."""


def pause(shard: LuaShard, up_to_ms: int | str) -> str:
    word: bytes = shard.call("pause_opening", [shard.keys.shard], [up_to_ms])
    return word.decode()


def _none(shard: LuaShard) -> str:
    shard.valkey.delete(shard.keys.shard)
    return pause(shard, 5)


WORDS: dict[str, Callable[[LuaShard], str]] = {
    "paused": lambda shard: pause(shard, shard.now_ms()),
    "resumed": lambda shard: pause(shard, ""),
    "none": _none,
}


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_answered(shard: LuaShard, word: str) -> None:
    assert WORDS[word](shard) == word


def test_the_header_names_exactly_these_words_keys_and_arguments() -> None:
    header = read_header("pause_opening")
    assert header.words == [set(WORDS)]
    assert (header.keys, header.args) == (1, 1)


def test_an_earlier_pause_stands(shard: LuaShard) -> None:
    pause(shard, 1000)
    assert pause(shard, 2000) == "paused"
    assert shard.facts()["opens_up_to"] == "1000"


def test_a_shard_that_valkey_does_not_have_is_not_made(new_shard: LuaShard) -> None:
    assert (pause(new_shard, 1000), pause(new_shard, "")) == ("none", "resumed")
    assert new_shard.everything() == {}


def test_opening_is_resumed_also_in_the_middle_of_a_rebuild(shard: LuaShard) -> None:
    """Else the pause would come back with the shard, and nobody would end it."""
    pause(shard, 1000)
    shard.valkey.hdel(shard.keys.shard, "epoch")
    assert pause(shard, "") == "resumed"
    assert "opens_up_to" not in shard.facts()


def test_repeats_write_nothing(shard: LuaShard) -> None:
    for up_to in ("", 1000):
        pause(shard, up_to)
        offset = shard.valkey.info("replication")["master_repl_offset"], shard.everything()
        pause(shard, up_to)
        assert (shard.valkey.info("replication")["master_repl_offset"], shard.everything()) == offset


async def test_the_binding_pauses_and_resumes(shard: LuaShard, valkey_url: str) -> None:
    client = connect(valkey_url, max_connections=1)
    try:
        opening = HotOpening(Scripts(client))
        assert await opening.pause(3, up_to_ms=1000)
        assert shard.facts()["opens_up_to"] == "1000"
        await opening.resume(3)
        assert "opens_up_to" not in shard.facts()
        assert not await opening.pause(4, up_to_ms=1000)
    finally:
        await client.aclose()


# What orders and hosts find meanwhile. A time in the past stands for the last trusted one, before the clock was set.


def test_a_sale_that_is_open_goes_on(shard: LuaShard) -> None:
    pause(shard, shard.now_ms())
    assert shard.place(order()).words == ["reserved"]


def test_a_sale_that_opens_by_the_untrusted_clock_alone_does_not_open(shard: LuaShard) -> None:
    """It was to open a minute before now by a clock that was set an hour ahead."""
    shard.load(sale_no=SOON, opens_in_ms=-MINUTE_MS)
    opens_at = int(shard.sale(SOON)["opens_at"])
    pause(shard, shard.now_ms() - 60 * MINUTE_MS)
    assert shard.place(order(), sale_no=SOON).answers == [["not_started", opens_at]]
    pause(shard, "")
    assert shard.place(order(), sale_no=SOON).words == ["reserved"]


def test_a_clock_that_was_set_back_opens_nothing_either(shard: LuaShard) -> None:
    shard.load(sale_no=SOON, opens_in_ms=MINUTE_MS)
    pause(shard, shard.now_ms() + 60 * MINUTE_MS)
    assert shard.place(order(), sale_no=SOON).words == ["not_started"]


def test_a_pause_refuses_no_answer_that_was_given(shard: LuaShard) -> None:
    first = shard.place(order())
    pause(shard, shard.now_ms() - 60 * MINUTE_MS)
    again = shard.place(order()).answers[0]
    assert again[:3] == ["replayed", 1, first.seq]
    assert shard.place(order("vw_2")).words == ["not_started"]


def test_a_host_who_opens_a_sale_opens_it_at_once(shard: LuaShard) -> None:
    """By the last trusted time, in Valkey and, through the entry's own time, in the ledger alike."""
    shard.load(sale_no=SOON, opens_in_ms=-MINUTE_MS)
    trusted_ms = shard.now_ms() - 60 * MINUTE_MS
    pause(shard, trusted_ms)
    assert shard.act("open", sale_no=SOON).word == "done"
    assert shard.sale(SOON)["opens_at"] == str(trusted_ms)
    assert shard.stream()[-1].body[2] == trusted_ms
    assert shard.place(order(), sale_no=SOON).words == ["reserved"]
    assert shard.act("open", sale_no=SOON).word == "same"


def test_other_acts_keep_their_own_time(shard: LuaShard) -> None:
    before_ms = shard.now_ms()
    pause(shard, before_ms - 60 * MINUTE_MS)
    assert shard.act("pause", sale_no=SALE).word == "done"
    assert shard.stream()[-1].body[2] >= before_ms
