"""The scripts of a rebuild: shut, advance, begin, drop, fill, open; and the mark of how far the ledger is."""

from collections.abc import Callable

import msgpack
import pytest
from redis.exceptions import ResponseError

from tests.support.lua_shard import SALE, LuaShard, order, read_header


def shut(shard: LuaShard, *, epoch: int = 1, token: int = 0) -> str:
    return _word(shard.call("shut_shard", [shard.keys.shard], [epoch, token]))


def advance(shard: LuaShard, *, ended: int = 1, at: int = 0, to: int = 2, token: int = 1) -> str:
    return _word(shard.call("advance_shard", [shard.keys.shard], [ended, at, to, token]))


def begin(shard: LuaShard, token: int = 1) -> str:
    return _word(shard.call("begin_load", [shard.keys.shard], [token]))


def drop(shard: LuaShard, *keys: str, token: int = 1) -> str:
    return _word(shard.call("drop_keys", [shard.keys.shard, *keys], [token]))


def fill(shard: LuaShard, key: str | None = None, *fields: str, token: int = 1) -> str:
    packed = msgpack.packb(list(fields or ("a", "1")))
    return _word(shard.call("load_fields", [shard.keys.shard, key or shard.keys.units(SALE)], [token, packed]))


def reopen(shard: LuaShard, *, token: int = 1, epoch: int = 2, released: int = 0) -> str:
    return _word(shard.call("open_loaded", [shard.keys.shard], [token, epoch, released]))


def mark(shard: LuaShard, *, epoch: int = 1, seq: int = 1, keep_from: int = 0) -> str:
    return _word(shard.call("mark_applied", [shard.keys.shard, shard.keys.stream], [epoch, seq, keep_from]))


def _word(reply: bytes) -> str:
    return reply.decode()


def _given_up(shard: LuaShard, token: int = 1) -> LuaShard:
    shut(shard)
    assert begin(shard, token) == "begun"
    return shard


WORDS: dict[str, dict[str, Callable[[LuaShard], str]]] = {
    "shut_shard": {
        "shut": shut,
        "filling": lambda shard: shut(_given_up(shard), epoch=0, token=2),
        "moved": lambda shard: shut(shard, epoch=2),
    },
    "advance_shard": {"advanced": advance, "other": lambda shard: advance(shard, at=1)},
    "begin_load": {"begun": lambda shard: begin(_given_up(shard)), "stale": begin},
    "drop_keys": {"dropped": lambda shard: drop(_given_up(shard), "x"), "stale": lambda shard: drop(shard, "x")},
    "load_fields": {"loaded": lambda shard: fill(_given_up(shard)), "stale": fill},
    "open_loaded": {"opened": lambda shard: reopen(_given_up(shard)), "stale": reopen},
    "mark_applied": {"marked": mark, "epoch": lambda shard: mark(shard, epoch=2)},
}
KEYS_AND_ARGS = {
    "shut_shard": (1, 2),
    "advance_shard": (1, 4),
    "begin_load": (1, 1),
    "drop_keys": (2, 1),
    "load_fields": (2, 2),
    "open_loaded": (1, 3),
    "mark_applied": (2, 3),
}


@pytest.mark.parametrize(("script", "word"), [(script, word) for script in WORDS for word in WORDS[script]])
def test_every_word_of_a_header_is_reached(shard: LuaShard, script: str, word: str) -> None:
    assert WORDS[script][word](shard) == word


@pytest.mark.parametrize("script", WORDS)
def test_a_header_names_exactly_these_words_keys_and_arguments(script: str) -> None:
    header = read_header(script)
    assert header.words == [set(WORDS[script])]
    assert (header.keys, header.args) == KEYS_AND_ARGS[script]


@pytest.mark.parametrize("script", WORDS)
def test_the_shard_of_the_wrong_type_is_an_error(new_shard: LuaShard, script: str) -> None:
    new_shard.valkey.set(new_shard.keys.shard, "no hash")
    before = new_shard.everything()
    (call, *_) = WORDS[script].values()
    if script in {"begin_load", "drop_keys", "load_fields", "open_loaded"}:
        call = {"begin_load": begin, "drop_keys": drop, "load_fields": fill, "open_loaded": reopen}[script]
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        call(new_shard)
    assert new_shard.everything() == before


# Shutting.


def test_a_shut_shard_decides_nothing_and_forgets_nothing(shard: LuaShard) -> None:
    shard.place(order("vw_1"))
    assert shut(shard) == shut(shard) == "shut"
    assert shard.place(order("vw_2")).state == "closed"
    assert (shard.facts()["epoch"], shard.facts()["seq"], shard.left()) == ("1", "1", 9)


def test_a_server_without_the_shard_is_not_given_one_to_shut(new_shard: LuaShard) -> None:
    assert shut(new_shard, epoch=0) == "shut"
    assert new_shard.everything() == {}


def test_a_rebuilder_that_comes_late_does_not_shut_what_another_opened(shard: LuaShard) -> None:
    _given_up(shard)
    reopen(shard, epoch=2)
    assert shut(shard, epoch=1) == "moved"
    assert shard.facts()["open"] == "1"


def test_from_a_shut_on_no_earlier_rebuild_changes_the_shard(shard: LuaShard) -> None:
    assert shut(shard, token=5) == shut(shard, token=5) == "shut"
    before = shard.everything()
    assert shut(shard, token=4) == "moved"
    for token in (3, 4):
        assert advance(shard, token=token) == "other"
        assert begin(shard, token) == "stale"
    assert shard.everything() == before
    assert advance(shard, token=5) == "advanced"


def test_a_shut_gives_up_what_an_earlier_rebuild_fills(shard: LuaShard) -> None:
    _given_up(shard, 4)
    fill(shard, token=4)
    assert shut(shard, epoch=0, token=5) == "filling"
    before = shard.everything()
    assert fill(shard, token=4) == reopen(shard, token=4) == begin(shard, 4) == "stale"
    assert shard.everything() == before
    assert shut(shard, epoch=0, token=5) == "shut"
    assert begin(shard, 5) == "begun"


def test_a_shut_without_a_rebuild_leaves_rebuilds_alone(shard: LuaShard) -> None:
    _given_up(shard, 4)
    assert shut(shard, epoch=0) == "shut"
    assert reopen(shard, token=4) == "opened"


# Advancing.


def test_an_advanced_shard_sells_from_the_counters_and_keys_it_has(shard: LuaShard) -> None:
    first = shard.place(order("vw_1", quantity=2))
    shard.valkey.hset(shard.keys.shard, mapping={"released": 7, "applied": 1, "opens_up_to": 9_999_999_999_999})
    shut(shard)
    assert advance(shard, at=1, token=3) == "advanced"
    facts = {"epoch": "2", "seq": "0", "applied": "0", "released": "7", "open": "1", "loaded": "3"}
    assert shard.facts() == facts | {"opens_up_to": "9999999999999"}
    assert (shard.left(), shard.held()) == (8, 2)
    replay, fresh = shard.place(order("vw_1", quantity=2), order("vw_2"), epoch=2).answers
    assert replay == ["replayed", 1, 1, first.now_ms, 1900]
    assert fresh[:2] == ["reserved", 1]
    assert [entry.id for entry in shard.stream()] == ["1-1", "2-1"]


@pytest.mark.parametrize("how", [{"at": 0}, {"at": 2}, {"ended": 2, "at": 1}])
def test_a_shard_that_is_not_where_its_epoch_ended_is_not_advanced(shard: LuaShard, how: dict[str, int]) -> None:
    shard.place(order("vw_1"))
    shut(shard)
    before = shard.everything()
    assert advance(shard, to=3, **how) == "other"
    assert shard.everything() == before


def test_a_shard_that_is_being_filled_is_not_advanced(shard: LuaShard) -> None:
    _given_up(shard)
    assert advance(shard) == "other"


# Filling.


def test_a_shard_that_is_given_up_says_no_to_everybody(shard: LuaShard) -> None:
    shard.place(order("vw_1"))
    _given_up(shard)
    before = shard.everything()
    assert shard.place(order("vw_2")).state == "closed"
    assert shard.act("pause").word == "epoch"
    assert shard.load(sale_no=8) == "epoch"
    assert shard.release([1, SALE, 1, "vw_1", "k1", 1, 1, 1, "release"])[0] == "epoch"
    assert mark(shard) == "epoch"
    assert shard.everything() == before


def test_what_is_filled_is_there_and_a_repeat_changes_nothing(shard: LuaShard) -> None:
    _given_up(shard)
    assert drop(shard, shard.keys.sale(SALE), shard.keys.answers(SALE)) == "dropped"
    fields = [text for at in range(1000) for text in (f"vw_{at}|k", f"f|1|{at}|5|1900")]
    for _ in range(2):
        assert fill(shard, shard.keys.answers(SALE), *fields) == "loaded"
    assert len(shard.answers()) == 1000
    assert shard.answers()["vw_7|k"] == "f|1|7|5|1900"
    assert reopen(shard, released=9) == "opened"
    facts = {"epoch": "2", "seq": "0", "applied": "0", "released": "9", "open": "1", "loaded": "1"}
    assert shard.facts() == facts


def test_a_later_rebuild_takes_over_and_the_one_before_changes_nothing_more(shard: LuaShard) -> None:
    _given_up(shard, 1)
    fill(shard, token=1)
    assert begin(shard, 2) == "begun"
    before = shard.everything()
    assert begin(shard, 1) == "stale"
    assert fill(shard, None, "a", "2", token=1) == "stale"
    assert drop(shard, shard.keys.units(SALE), token=1) == "stale"
    assert reopen(shard, token=1) == "stale"
    assert shard.everything() == before
    assert reopen(shard, token=2) == "opened"


def test_a_rebuild_that_was_stopped_changes_nothing_once_another_has_ended(shard: LuaShard) -> None:
    _given_up(shard, 1)
    begin(shard, 2)
    reopen(shard, token=2)
    shut(shard, epoch=2)
    before = shard.everything()
    for token in (1, 2):
        assert begin(shard, token) == fill(shard, token=token) == drop(shard, token=token) == "stale"
        assert reopen(shard, token=token) == "stale"
    assert shard.everything() == before
    assert begin(shard, 3) == "begun"


def test_a_shard_that_sells_is_not_given_up(shard: LuaShard) -> None:
    before = shard.everything()
    assert begin(shard, 99) == "stale"
    assert shard.everything() == before


def test_a_pause_of_openings_outlives_a_rebuild(shard: LuaShard) -> None:
    shard.valkey.hset(shard.keys.shard, "opens_up_to", 5)
    _given_up(shard)
    reopen(shard)
    assert shard.facts()["opens_up_to"] == "5"


# The mark.


def test_a_mark_trims_what_is_far_enough_behind(shard: LuaShard) -> None:
    for at in range(300):
        shard.place(order(f"vw_{at}", item=1, key=str(at)))
    assert len(shard.stream()) == 10, "ten units"
    assert mark(shard, seq=10, keep_from=0) == "marked"
    assert (len(shard.stream()), shard.facts()["applied"]) == (10, "10")
    shard.valkey.config_set("stream-node-max-entries", 1)
    try:
        shard.valkey.delete(shard.keys.stream)
        for seq in range(11, 21):
            shard.valkey.xadd(shard.keys.stream, {"o": "x"}, id=f"1-{seq}")
        mark(shard, seq=20, keep_from=16)
        assert shard.valkey.xlen(shard.keys.stream) == 5
    finally:
        shard.valkey.config_set("stream-node-max-entries", 100)
