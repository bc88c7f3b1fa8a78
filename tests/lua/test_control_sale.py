from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.domain.acts import Act
from gateway.errors import Conflict, GatewayError, KeyReused, ShardClosed, StockInUse, Unavailable
from gateway.hot.control import ActDone, HotControl
from gateway.hot.shard import HotShard
from tests.support.fake_clock import FakeClock
from tests.support.lua_shard import LONG_AGO_MS, MINUTE_MS, SALE, Done, LuaShard, order, read_header


def _same(shard: LuaShard) -> Done:
    shard.act("pause")
    return shard.act("pause")


def _replayed(shard: LuaShard) -> Done:
    shard.act("stock", item=1, value=5, key="k1")
    return shard.act("stock", item=1, value=5, key="k1")


def _key_reused(shard: LuaShard) -> Done:
    shard.act("stock", item=1, value=5, key="k1")
    return shard.act("stock", item=1, value=6, key="k1", fingerprint="other")


def _ended(shard: LuaShard) -> Done:
    shard.act("close")
    return shard.act("resume")


def _past(shard: LuaShard) -> Done:
    return shard.act("window", value=int(shard.sale()["opens_at"]), text=str(shard.now_ms() - 1))


WORDS: dict[str, Callable[[LuaShard], Done]] = {
    "done": lambda shard: shard.act("pause"),
    "same": _same,
    "replayed": _replayed,
    "key_reused": _key_reused,
    "late": lambda shard: shard.act("pause", until_ms=LONG_AGO_MS),
    "ended": _ended,
    "in_use": lambda shard: shard.act("stock", item=1, value=-11),
    "started": lambda shard: shard.act("window", value=5, text=shard.sale()["closes_at"]),
    "past": _past,
    "epoch": lambda shard: shard.act("pause", epoch=2),
    "unloaded": lambda shard: shard.act("pause", sale_no=99),
}

READ: dict[str, ActDone | type[GatewayError]] = {
    "done": ActDone(1, 4, False),
    "same": ActDone(1, 4, False),
    "replayed": ActDone(1, 4, True),
    "key_reused": KeyReused,
    "late": Unavailable,
    "ended": Conflict,
    "in_use": StockInUse,
    "started": Conflict,
    "past": Conflict,
    "epoch": ShardClosed,
    "unloaded": ShardClosed,
}


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_header_is_reached(shard: LuaShard, word: str) -> None:
    assert WORDS[word](shard).word == word


def test_the_words_of_the_header_are_those_that_are_bound_and_tested() -> None:
    (words,) = read_header("control_sale").words
    assert words == set(WORDS) == set(READ)


# The binding.


class Recorded:
    def __init__(self, word: str) -> None:
        self.word = word
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return [self.word.encode(), 1, 4, 1_000_000]


def bound(script: Recorded) -> HotControl:
    scripts: Any = script
    client: Any = None
    clock = FakeClock()
    shard = HotShard(shard=3, client=client, scripts=scripts)
    shard.enter_epoch(1, 0)
    shard.clock.learn(1_000_000, clock.monotonic())
    return HotControl(shard=shard, scripts=scripts, clock=clock)


@pytest.mark.parametrize("word", READ)
async def test_the_binding_reads_every_word(word: str) -> None:
    expected = READ[word]
    act = bound(Recorded(word)).act(SALE, Act.PAUSE, actor="host_1")
    if isinstance(expected, ActDone):
        assert await act == expected
    else:
        with pytest.raises(expected) as caught:
            await act
        assert type(caught.value) is expected


async def test_the_binding_passes_as_many_keys_and_arguments_as_the_header_names() -> None:
    script = Recorded("done")
    await bound(script).act(
        SALE, Act.STOCK, actor="host_1", item_no=1, value=5, key="k1", fingerprint="f", reason="more came"
    )
    header = read_header("control_sale")
    assert len(script.keys) == header.keys == len(set(script.keys))
    assert len(script.args) == header.args
    assert script.args == [1, SALE, "stock", 1, 5, "host_1", "k1", "f", 1_005_000, "more came", "", ""]


@pytest.mark.parametrize("act", Act)
def test_the_script_knows_every_act_of_the_product(shard: LuaShard, act: Act) -> None:
    shard.load(sale_no=8, opens_in_ms=MINUTE_MS)
    if act is Act.RESUME:
        shard.act("pause", sale_no=8)
    text = {Act.PLAN: "5:100", Act.WINDOW: str(shard.now_ms() + MINUTE_MS)}.get(act, "")
    assert shard.act(str(act), sale_no=8, item=1, value=1, text=text).word == "done"


def test_an_act_nobody_knows_is_an_error_and_writes_nothing(shard: LuaShard) -> None:
    before = shard.everything()
    with pytest.raises(ResponseError, match="UNKNOWN_ACT explode"):
        shard.act("explode")
    assert shard.everything() == before


# What an act does, and its entry.


def test_an_act_is_an_entry_of_the_orders_stream_under_the_next_sequence_number(shard: LuaShard) -> None:
    shard.place(order("vw_1"), order("vw_2"))
    done = shard.act("stock", item=1, value=-3, actor="host_9", key="k1", fingerprint="abc", reason="broken")
    assert done == ("done", 1, 3, done.now_ms)
    entry = shard.stream()[-1]
    assert entry.id == "1-3"
    assert entry.body == ["act", SALE, done.now_ms, 3, "stock", 1, -3, "host_9", "stock", "k1", "abc", "broken"]
    assert shard.facts()["seq"] == "3"


def test_orders_are_decided_by_the_acts_before_them(shard: LuaShard) -> None:
    words = [shard.place(order("vw_1")).words]
    shard.act("pause")
    words.append(shard.place(order("vw_2")).words)
    shard.act("resume")
    words.append(shard.place(order("vw_2")).words)
    shard.act("close")
    words.append(shard.place(order("vw_3")).words)
    assert words == [["reserved"], ["paused"], ["reserved"], ["ended"]]


def test_open_brings_the_opening_forward_to_now(shard: LuaShard) -> None:
    shard.load(sale_no=8, opens_in_ms=MINUTE_MS)
    assert shard.place(order(), sale_no=8).words == ["not_started"]
    done = shard.act("open", sale_no=8)
    assert shard.sale(8)["opens_at"] == str(done.now_ms)
    assert shard.place(order(), sale_no=8).words == ["reserved"]


def test_open_of_a_running_sale_is_already_so_and_of_a_paused_one_goes_on_without_moving_the_opening(
    shard: LuaShard,
) -> None:
    opens_at = shard.sale()["opens_at"]
    assert shard.act("open").word == "same"
    shard.act("pause")
    assert shard.act("open").word == "done"
    assert (shard.sale()["hold"], shard.sale()["opens_at"]) == ("active", opens_at)


def test_resume_before_the_opening_leaves_the_opening_where_it_is(shard: LuaShard) -> None:
    shard.load(sale_no=8, hold="paused", opens_in_ms=MINUTE_MS)
    assert shard.act("resume", sale_no=8).word == "done"
    assert shard.place(order(), sale_no=8).words == ["not_started"]


def test_closed_is_final_for_every_act_but_another_close(shard: LuaShard) -> None:
    assert shard.act("close").word == "done"
    before = shard.everything()
    words = {str(act): shard.act(str(act), item=1, value=1).word for act in Act}
    assert words == {**dict.fromkeys(map(str, Act), "ended"), "close": "same"}
    assert shard.everything() == before


def test_a_sale_past_its_end_can_only_be_closed(shard: LuaShard) -> None:
    shard.load(sale_no=8, opens_in_ms=-2 * MINUTE_MS, closes_in_ms=-MINUTE_MS)
    words = {str(act): shard.act(str(act), sale_no=8, item=1, value=1).word for act in Act if act is not Act.CLOSE}
    assert set(words.values()) == {"ended"}
    assert shard.act("close", sale_no=8).word == "done"


# Stock.


def test_stock_changes_what_is_left_by_as_much(shard: LuaShard) -> None:
    shard.place(order("vw_1", quantity=2))
    shard.act("stock", item=1, value=5)
    assert (shard.sale()["1:stock"], shard.left(), shard.held()) == ("15", 13, 2)
    shard.act("stock", item=1, value=-13)
    assert (shard.sale()["1:stock"], shard.left(), shard.held()) == ("2", 0, 2)
    assert shard.place(order("vw_2")).answers == [["sold_out", 0, 1]]


def test_stock_never_falls_under_what_is_held_or_sold(shard: LuaShard) -> None:
    shard.place(order("vw_1", quantity=2))
    before = shard.everything()
    done = shard.act("stock", item=1, value=-9, key="k1")
    assert (done.word, done.seq) == ("in_use", 1)
    assert shard.everything() == before
    assert shard.act("stock", item=1, value=-8, key="k1").word == "done", "a refusal holds no key"


def test_stock_of_an_item_that_is_not_there_is_an_error_and_writes_nothing(shard: LuaShard) -> None:
    before = shard.everything()
    with pytest.raises(ResponseError):
        shard.act("stock", item=2, value=1, key="k1")
    assert shard.everything() == before


# Prices.


def test_a_price_is_in_force_for_the_next_order_and_orders_before_keep_theirs(shard: LuaShard) -> None:
    first = shard.place(order("vw_1", expect=1900))
    done = shard.act("price", item=1, value=1500, key="k1", fingerprint="f1")
    assert done.word == "done"
    assert shard.stream()[-1].body == [
        *("act", SALE, done.now_ms, 2, "price", 1, 1500),
        *("host_1", "price", "k1", "f1", ""),
    ]
    assert shard.place(order("vw_2", expect=1900)).answers == [["price_changed", 1500]]
    assert shard.place(order("vw_2", expect=1500)).answers == [["reserved", 3, 1500]]
    assert shard.place(order("vw_1", expect=1900)).answers == [["replayed", 1, 1, first.now_ms, 1900]]
    assert (shard.left(), shard.held(), shard.sale()["1:stock"]) == (8, 2, "10")


def test_the_price_that_is_so_already_is_no_act(shard: LuaShard) -> None:
    before = shard.everything()
    assert shard.act("price", item=1, value=1900, key="k1").word == "same"
    assert shard.everything() == before


def test_a_price_of_nothing_is_a_price(shard: LuaShard) -> None:
    assert shard.act("price", item=1, value=0).word == "done"
    assert shard.place(order(expect=0)).answers == [["reserved", 2, 0]]


def test_a_price_changes_one_item_only(shard: LuaShard) -> None:
    shard.load([(1, 100, 5, 5), (2, 200, 5, 5)], sale_no=8)
    shard.act("price", item=2, value=9_000_000_000_000, sale_no=8)
    assert (shard.sale(8)["1:price"], shard.sale(8)["2:price"]) == ("100", "9000000000000")


def test_the_price_of_an_item_that_is_not_there_is_an_error_and_writes_nothing(shard: LuaShard) -> None:
    before = shard.everything()
    with pytest.raises(ResponseError):
        shard.act("price", item=2, value=1, key="k1")
    assert shard.everything() == before


# Keys.


def test_a_repeated_key_answers_the_first_act_and_where_it_stands(shard: LuaShard) -> None:
    first = shard.act("stock", item=1, value=5, key="k1")
    shard.act("pause")
    shard.act("close")
    before = shard.everything()
    again = shard.act("stock", item=1, value=5, key="k1", until_ms=LONG_AGO_MS)
    assert again[:3] == ("replayed", 1, first.seq)
    assert shard.everything() == before


def test_the_same_key_of_another_host_is_another_key(shard: LuaShard) -> None:
    shard.act("stock", item=1, value=5, key="k1", actor="host_1")
    assert shard.act("stock", item=1, value=5, key="k1", actor="host_2").word == "done"
    assert shard.sale()["1:stock"] == "20"


def test_an_act_without_a_key_is_done_each_time(shard: LuaShard) -> None:
    shard.act("stock", item=1, value=5)
    shard.act("stock", item=1, value=5)
    assert shard.sale()["1:stock"] == "20"
    assert not shard.valkey.exists(shard.keys.acts)


def test_a_key_of_an_earlier_epoch_is_replayed_as_kept(shard: LuaShard) -> None:
    shard.act("stock", item=1, value=5, key="k1")
    shard.valkey.hset(shard.keys.shard, mapping={"epoch": 2, "seq": 0})
    again = shard.act("stock", item=1, value=5, key="k1", epoch=2)
    assert again[:3] == ("replayed", 2, 0)


# Nothing is written for a refusal, and nothing after the first write can fail.


@pytest.mark.parametrize("word", sorted(set(WORDS) - {"done"}))
def test_every_word_but_done_writes_nothing(shard: LuaShard, word: str) -> None:
    WORDS[word](shard)
    before = shard.everything()
    repeat: dict[str, Callable[[], Done]] = {
        "late": lambda: shard.act("pause", until_ms=LONG_AGO_MS),
        "epoch": lambda: shard.act("resume", epoch=2),
        "unloaded": lambda: shard.act("pause", sale_no=99),
        "in_use": lambda: shard.act("stock", item=1, value=-11),
        "replayed": lambda: shard.act("stock", item=1, value=5, key="k1"),
        "key_reused": lambda: shard.act("stock", item=1, value=6, key="k1", fingerprint="other"),
        "ended": lambda: shard.act("resume"),
        "same": lambda: shard.act("pause"),
        "started": lambda: WORDS["started"](shard),
        "past": lambda: WORDS["past"](shard),
    }
    assert repeat[word]().word == word
    assert shard.everything() == before


def test_a_shard_that_is_shut_takes_no_act(shard: LuaShard) -> None:
    shard.valkey.hset(shard.keys.shard, "open", 0)
    before = shard.everything()
    assert shard.act("pause").word == "epoch"
    assert shard.everything() == before


@pytest.mark.parametrize("which", ["shard", "sale", "acts", "stream"])
def test_a_key_of_the_wrong_type_is_an_error_before_any_write(shard: LuaShard, which: str) -> None:
    keys = shard.keys
    name = {"shard": keys.shard, "sale": keys.sale(SALE), "acts": keys.acts, "stream": keys.stream}[which]
    shard.valkey.delete(name)
    shard.valkey.set(name, "no hash, no stream")
    before = shard.everything()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        shard.act("stock", item=1, value=1, key="k1")
    assert shard.everything() == before
