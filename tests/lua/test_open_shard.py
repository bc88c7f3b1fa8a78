from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.hot.shard import HotShard
from tests.support.lua_shard import LuaShard, order, read_header


def _lost(shard: LuaShard) -> str:
    return shard.open(seq=1)[0]


def _open(shard: LuaShard) -> str:
    shard.open()
    return shard.open()[0]


WORDS: dict[str, Callable[[LuaShard], str]] = {
    "created": lambda shard: shard.open()[0],
    "open": _open,
    "lost": _lost,
}


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_header_is_reached(new_shard: LuaShard, word: str) -> None:
    assert WORDS[word](new_shard) == word


def test_the_words_of_the_header_are_those_that_are_tested() -> None:
    assert read_header("open_shard").words == [set(WORDS)]


class Recorded:
    def __init__(self, word: str) -> None:
        self.word = word
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return [self.word.encode(), 4, 9]


@pytest.mark.parametrize("word", WORDS)
async def test_the_binding_enters_the_epoch_unless_the_shard_is_lost(word: str) -> None:
    scripts: Any = Recorded(word)
    client: Any = None
    hot = HotShard(shard=3, client=client, scripts=scripts)
    assert await hot.open(epoch=4, last_seq=7, outbox_no=2) == word
    assert (hot.epoch, hot.seq_seen) == ((0, 0) if word == "lost" else (4, 9))
    header = read_header("open_shard")
    assert len(scripts.keys) == header.keys
    assert len(scripts.args) == header.args


def test_a_new_shard_is_open_in_the_ledgers_epoch_with_nothing_in_it(new_shard: LuaShard) -> None:
    assert new_shard.open(epoch=3) == ("created", 3, 0)
    assert new_shard.facts() == {"epoch": "3", "seq": "0", "applied": "0", "released": "0", "open": "1"}


def test_a_shard_at_or_past_the_ledger_is_open_and_left_as_it_is(new_shard: LuaShard) -> None:
    new_shard.open()
    new_shard.load()
    new_shard.place(order("vw_1"), order("vw_2"))
    before = new_shard.everything()
    assert new_shard.open(seq=0) == ("open", 1, 2)
    assert new_shard.open(seq=2, outbox=9) == ("open", 1, 2)
    assert new_shard.everything() == before


@pytest.mark.parametrize(("seq", "outbox"), [(1, 0), (0, 1), (5, 5)])
def test_an_empty_server_is_lost_when_the_ledger_has_anything_of_the_shard(
    new_shard: LuaShard, seq: int, outbox: int
) -> None:
    assert new_shard.open(seq=seq, outbox=outbox) == ("lost", 0, 0)
    assert new_shard.everything() == {}


def test_a_shard_behind_the_ledger_is_shut_and_sells_nothing(new_shard: LuaShard) -> None:
    new_shard.open()
    new_shard.load()
    new_shard.place(order("vw_1"))
    assert new_shard.open(seq=2) == ("lost", 1, 1)
    assert new_shard.facts()["open"] == "0"
    assert new_shard.place(order("vw_2")).state == "closed"
    assert new_shard.open(seq=1) == ("open", 1, 1), "the shard was right after all"
    assert new_shard.place(order("vw_2")).state == "open"


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_shard_of_another_epoch_is_shut(new_shard: LuaShard, epoch: int) -> None:
    new_shard.open(epoch=2)
    assert new_shard.open(epoch=epoch) == ("lost", 2, 0)
    assert new_shard.facts()["open"] == "0"


def test_the_shard_of_the_wrong_type_is_an_error(new_shard: LuaShard) -> None:
    new_shard.valkey.set(new_shard.keys.shard, "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        new_shard.open()
