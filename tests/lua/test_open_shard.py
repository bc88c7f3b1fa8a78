from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.hot.shard import HotShard
from tests.support.lua_shard import LuaShard, order, read_header

WORDS = ("created", "there")


def test_every_word_of_the_header_is_reached(new_shard: LuaShard) -> None:
    assert tuple(new_shard.open()[0] for _ in WORDS) == WORDS


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
@pytest.mark.parametrize("epoch", [4, 5])
async def test_the_binding_enters_the_epoch_if_the_shard_is_in_it(word: str, epoch: int) -> None:
    scripts: Any = Recorded(word)
    client: Any = None
    hot = HotShard(shard=3, client=client, scripts=scripts)
    assert await hot.open(epoch=epoch) == word
    assert (hot.epoch, hot.seq_seen) == ((4, 9) if epoch == 4 else (0, 0))
    header = read_header("open_shard")
    assert (len(scripts.keys), len(scripts.args)) == (header.keys, header.args)


def test_a_new_shard_is_open_in_the_ledgers_epoch_with_nothing_in_it(new_shard: LuaShard) -> None:
    assert new_shard.open(epoch=3) == ("created", 3, 0)
    assert new_shard.facts() == {"epoch": "3", "seq": "0", "applied": "0", "released": "0", "open": "1"}


@pytest.mark.parametrize("state", ["open", "shut", "of another epoch", "loading"])
def test_a_shard_that_is_there_is_left_as_it_is(new_shard: LuaShard, state: str) -> None:
    new_shard.open(epoch=2 if state == "of another epoch" else 1)
    new_shard.load(epoch=2 if state == "of another epoch" else 1)
    if state == "shut":
        new_shard.valkey.hset(new_shard.keys.shard, "open", 0)
    elif state == "loading":
        new_shard.valkey.hdel(new_shard.keys.shard, "epoch", "seq")
        new_shard.valkey.hset(new_shard.keys.shard, mapping={"open": 0, "loading": 5})
    else:
        new_shard.place(order("vw_1"), order("vw_2"), epoch=2 if state == "of another epoch" else 1)
    before = new_shard.everything()
    assert new_shard.open()[0] == "there"
    assert new_shard.everything() == before


def test_the_shard_of_the_wrong_type_is_an_error(new_shard: LuaShard) -> None:
    new_shard.valkey.set(new_shard.keys.shard, "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        new_shard.open()
