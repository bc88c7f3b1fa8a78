import asyncio
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
import redis
from redis.exceptions import ResponseError

from gateway.domain.ids import IdMint
from gateway.domain.order import DECIDE_WITHIN_S, MAX_QUANTITY, OrderAnswer, OrderOutcome, OrderRequest, Verdict
from gateway.domain.sale import MAX_PRICE_MINOR, MAX_STOCK
from gateway.errors import GatewayError, KeyReused, Overloaded, ShardClosed, Unavailable
from gateway.hot.connect import connect
from gateway.hot.orders import HotOrders
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from tests.support.fake_clock import FakeClock
from tests.support.lua_coupons import COUPON
from tests.support.lua_shard import LONG_AGO_MS, MINUTE_MS, SALE, LuaShard, order, read_header

GROUP_MAX = 256

# Each word of an answer, by a shard on which it is the answer to `order()`.


def _paused(shard: LuaShard) -> list[Any]:
    assert shard.act("pause").word == "done"
    return shard.place(order()).answers[0]


def _not_started(shard: LuaShard) -> list[Any]:
    shard.load(sale_no=8, opens_in_ms=MINUTE_MS)
    return shard.place(order(), sale_no=8).answers[0]


def _ended(shard: LuaShard) -> list[Any]:
    assert shard.act("close").word == "done"
    return shard.place(order()).answers[0]


def _key_reused(shard: LuaShard) -> list[Any]:
    shard.place(order())
    return shard.place(order(quantity=2)).answers[0]


def _replayed(shard: LuaShard) -> list[Any]:
    shard.place(order())
    return shard.place(order()).answers[0]


def _sold_out(shard: LuaShard) -> list[Any]:
    shard.place(*(order(f"other_{at}", quantity=2) for at in range(5)))
    return shard.place(order()).answers[0]


VERDICTS: dict[str, Callable[[LuaShard], list[Any]]] = {
    "reserved": lambda shard: shard.place(order()).answers[0],
    "replayed": _replayed,
    "key_reused": _key_reused,
    "late": lambda shard: shard.place(order(until_ms=LONG_AGO_MS)).answers[0],
    "sold_out": _sold_out,
    "limit_reached": lambda shard: shard.place(order(quantity=3)).answers[0],
    "not_started": _not_started,
    "ended": _ended,
    "paused": _paused,
    "price_changed": lambda shard: shard.place(order(expect=1)).answers[0],
    "coupon_unusable": lambda shard: shard.place(order(claim=(COUPON, "1|9"))).answers[0],
    "backlog": lambda shard: shard.place(order(), backlog=0).answers[0],
}


def _behind(shard: LuaShard) -> str:
    return shard.place(order(), seen=1).state


def _closed(shard: LuaShard) -> str:
    shard.valkey.hset(shard.keys.shard, "open", 0)
    return shard.place(order()).state


STATES: dict[str, Callable[[LuaShard], str]] = {
    "open": lambda shard: shard.place(order()).state,
    "closed": _closed,
    "epoch": lambda shard: shard.place(order(), epoch=2).state,
    "behind": _behind,
    "unloaded": lambda shard: shard.place(order(), sale_no=99).state,
}


@pytest.mark.parametrize("word", VERDICTS)
def test_every_verdict_of_the_header_is_reached(shard: LuaShard, word: str) -> None:
    assert VERDICTS[word](shard)[0] == word


@pytest.mark.parametrize("state", STATES)
def test_every_state_of_the_header_is_reached(shard: LuaShard, state: str) -> None:
    assert STATES[state](shard) == state


# The header and its binding.


class RecordedScript:
    """Stands for a loaded script: remembers what it was called with and answers what the test says."""

    def __init__(self, reply: object) -> None:
        self.reply = reply
        self.keys: list[str] = []
        self.args: list[Any] = []

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return self.reply


class RecordedScripts:
    def __init__(self, script: RecordedScript) -> None:
        self._script = script

    def named(self, name: str) -> RecordedScript:
        return self._script


MINT = IdMint(b"k" * 32)


def request(clock: FakeClock, *, viewer: str = "vw_1", key: str = "k1", quantity: int = 1) -> OrderRequest:
    return OrderRequest(
        sale_no=SALE,
        item_no=1,
        viewer=viewer,
        key=key,
        fingerprint=f"1.{quantity}.-1",
        quantity=quantity,
        expect_amount_minor=-1,
        extra="",
        arrived_s=clock.monotonic(),
        answer=lambda answer: None,
    )


def bound(script: RecordedScript, clock: FakeClock) -> HotOrders:
    scripts: Any = RecordedScripts(script)
    client: Any = None
    shard = HotShard(shard=3, client=client, scripts=scripts)
    shard.enter_epoch(1, 0)
    shard.clock.learn(1_000_000, clock.monotonic())
    return HotOrders(shard=shard, scripts=scripts, mint=MINT, clock=clock, backlog_max=50)


def reply(state: str, *answers: list[Any]) -> bytes:
    packed: bytes = msgpack.packb([state, 1, 5, 1_000_000, list(answers)])
    return packed


ANSWERS: dict[str, tuple[list[Any], OrderAnswer | type[GatewayError]]] = {
    "reserved": (
        ["reserved", 5, 1900],
        OrderAnswer(
            OrderOutcome.RESERVED,
            order=MINT.order(1_000_000, SALE, 1, 5),
            price_minor=1900,
            amount_minor=3800,
            at_ms=1_000_000,
        ),
    ),
    "replayed": (
        ["replayed", 1, 4, 999_000, 1900],
        OrderAnswer(
            OrderOutcome.RESERVED,
            order=MINT.order(999_000, SALE, 1, 4),
            price_minor=1900,
            amount_minor=3800,
            at_ms=999_000,
            replayed=True,
        ),
    ),
    "key_reused": (["key_reused"], KeyReused),
    "late": (["late"], Unavailable),
    "sold_out": (["sold_out", 1, 1], OrderAnswer(OrderOutcome.SOLD_OUT, left=1, may_return=True)),
    "limit_reached": (["limit_reached"], OrderAnswer(OrderOutcome.LIMIT_REACHED)),
    "not_started": (["not_started", 2_000_000], OrderAnswer(OrderOutcome.NOT_STARTED, opens_at_ms=2_000_000)),
    "ended": (["ended"], OrderAnswer(OrderOutcome.ENDED)),
    "paused": (["paused"], OrderAnswer(OrderOutcome.PAUSED)),
    "price_changed": (["price_changed", 2000], OrderAnswer(OrderOutcome.PRICE_CHANGED, amount_minor=4000)),
    "coupon_unusable": (["coupon_unusable"], OrderAnswer(OrderOutcome.COUPON_UNUSABLE)),
    "backlog": (["backlog"], Overloaded),
}


def test_the_words_of_the_header_are_the_verdicts_and_states_that_are_bound_and_tested() -> None:
    states, verdicts = read_header("place_orders").words
    assert verdicts == {str(verdict) for verdict in Verdict} == set(VERDICTS) == set(ANSWERS)
    assert states == set(STATES)


@pytest.mark.parametrize("word", ANSWERS)
async def test_the_binding_reads_every_verdict(word: str) -> None:
    clock = FakeClock()
    answer, expected = ANSWERS[word]
    (read,) = await bound(RecordedScript(reply("open", answer)), clock).decide(SALE, [request(clock, quantity=2)])
    if isinstance(expected, type):
        assert isinstance(read, expected)
    else:
        assert read == expected


@pytest.mark.parametrize("state", sorted(set(STATES) - {"open"}))
async def test_the_binding_decides_nothing_in_any_state_but_open(state: str) -> None:
    clock = FakeClock()
    with pytest.raises(ShardClosed, match=state):
        await bound(RecordedScript(reply(state)), clock).decide(SALE, [request(clock)])


async def test_the_binding_passes_as_many_keys_and_arguments_as_the_header_names() -> None:
    clock = FakeClock()
    script = RecordedScript(reply("open", ["paused"]))
    await bound(script, clock).decide(SALE, [request(clock)])
    header = read_header("place_orders")
    # KEYS[6..] are those of coupons, and this group names none.
    assert len(script.keys) == header.keys - 1 == len(set(script.keys))
    assert len(script.args) == header.args
    assert {name[: name.index("}") + 1] for name in script.keys} == {"{s3}"}, "all keys of a script share a slot"


async def test_a_request_may_be_decided_for_five_seconds_of_the_servers_time_from_its_arrival() -> None:
    clock = FakeClock()
    script = RecordedScript(reply("open", ["paused"]))
    await bound(script, clock).decide(SALE, [request(clock)])
    (packed,) = msgpack.unpackb(script.args[4])
    assert packed[7] == 1_000_000 + DECIDE_WITHIN_S * 1000


# What an effect writes.


def test_a_reserved_order_is_in_the_counters_the_stream_and_the_answers(shard: LuaShard) -> None:
    placed = shard.place(order("vw_1", "k1", quantity=2, extra='{"ref":"r"}'))
    assert placed == ("open", 1, 1, placed.now_ms, [["reserved", 1, 1900]])
    assert (shard.left(), shard.held()) == (8, 2)
    assert shard.units() == {"vw_1|1": "2"}
    assert shard.answers() == {"vw_1|k1": f"1.2.-1|1|1|{placed.now_ms}|1900"}
    assert shard.facts()["seq"] == "1"
    (entry,) = shard.stream()
    assert entry.id == "1-1"
    assert entry.body == ["orders", SALE, placed.now_ms, 1, [["vw_1", "k1", "1.2.-1", 1, 2, 1900, '{"ref":"r"}']]]


def test_a_group_is_one_entry_named_by_its_last_sequence_number_with_the_reserved_orders_only(shard: LuaShard) -> None:
    placed = shard.place(
        order("vw_1", "k1"), order("vw_2", "k1", quantity=9), order("vw_3", "k1", quantity=2), order("vw_4", "k1")
    )
    assert placed.answers == [["reserved", 1, 1900], ["limit_reached"], ["reserved", 2, 1900], ["reserved", 3, 1900]]
    (entry,) = shard.stream()
    assert entry.id == "1-3"
    assert entry.body[3] == 1
    assert [row[0] for row in entry.body[4]] == ["vw_1", "vw_3", "vw_4"]


def test_sequence_numbers_go_on_without_a_gap_over_groups_refusals_and_acts(shard: LuaShard) -> None:
    shard.load([(1, 500, 5, 50)], sale_no=8)
    shard.place(order("vw_1"), order("vw_2"))
    shard.act("pause")
    shard.place(order("vw_3"))
    shard.act("resume")
    shard.place(order("vw_3"), order("vw_4"), sale_no=8)
    shard.act("stock", item=1, value=5)
    shard.place(order("vw_3", "k9"))
    ranges = []
    for entry in shard.stream():
        kind, first = entry.body[0], entry.body[3]
        last = first + len(entry.body[4]) - 1 if kind == "orders" else first
        assert entry.id == f"1-{last}"
        ranges.append((kind, first, last))
    assert ranges == [
        ("orders", 1, 2),
        ("act", 3, 3),
        ("act", 4, 4),
        ("orders", 5, 6),
        ("act", 7, 7),
        ("orders", 8, 8),
    ]
    assert shard.facts()["seq"] == "8"


@pytest.mark.parametrize("word", sorted(set(VERDICTS) - {"reserved"}))
def test_every_answer_but_reserved_writes_nothing(shard: LuaShard, word: str) -> None:
    VERDICTS[word](shard)
    before = shard.everything()
    repeats: dict[str, Callable[[], list[str]]] = {
        "late": lambda: shard.place(order(until_ms=LONG_AGO_MS)).words,
        "limit_reached": lambda: shard.place(order(quantity=3)).words,
        "price_changed": lambda: shard.place(order(expect=1)).words,
        "backlog": lambda: shard.place(order(), backlog=0).words,
        "not_started": lambda: shard.place(order(), sale_no=8).words,
        "key_reused": lambda: shard.place(order(quantity=2)).words,
        "coupon_unusable": lambda: shard.place(order(claim=(COUPON, "1|9"))).words,
    }
    assert repeats.get(word, lambda: shard.place(order()).words)() == [word]
    assert shard.everything() == before


@pytest.mark.parametrize("state", sorted(set(STATES) - {"open"}))
def test_a_shard_that_is_not_open_writes_nothing(shard: LuaShard, state: str) -> None:
    shard.place(order("vw_0"))
    seen = {"behind": 2}
    if state == "closed":
        shard.valkey.hset(shard.keys.shard, "open", 0)
    before = shard.everything()
    placed = shard.place(
        order("vw_0"),
        order("vw_1"),
        epoch=2 if state == "epoch" else 1,
        seen=seen.get(state, 0),
        sale_no=99 if state == "unloaded" else SALE,
    )
    assert (placed.state, placed.epoch, placed.seq, placed.answers) == (state, 1, 1, [])
    assert shard.everything() == before


def test_an_empty_server_is_closed_and_stays_empty(new_shard: LuaShard) -> None:
    placed = new_shard.place(order())
    assert (placed.state, placed.epoch, placed.seq) == ("closed", 0, 0)
    assert new_shard.everything() == {}


# Requests of one group see each other.


def test_a_group_sells_no_more_than_the_stock_in_the_order_of_its_requests(shard: LuaShard) -> None:
    placed = shard.place(*(order(f"vw_{at}", quantity=2 if at else 1) for at in range(7)))
    assert placed.words == ["reserved"] * 5 + ["sold_out"] * 2
    assert placed.answers[5:] == [["sold_out", 1, 1], ["sold_out", 1, 1]]
    assert shard.left() == 1
    assert shard.place(order("vw_9")).words == ["reserved"], "one unit was too few for two and enough for one"


def test_sold_out_says_whether_units_may_come_back(shard: LuaShard) -> None:
    shard.load([(1, 1900, 2, 0)], sale_no=8)
    assert shard.place(order(), sale_no=8).answers == [["sold_out", 0, 0]]
    shard.place(*(order(f"vw_{at}", quantity=2) for at in range(5)))
    assert shard.place(order("vw_9")).answers == [["sold_out", 0, 1]]


def test_a_viewers_limit_counts_over_keys_inside_a_group_and_over_groups(shard: LuaShard) -> None:
    placed = shard.place(order("vw_1", "k1"), order("vw_1", "k2"), order("vw_1", "k3"), order("vw_2", "k3"))
    assert placed.words == ["reserved", "reserved", "limit_reached", "reserved"]
    assert shard.place(order("vw_1", "k4")).words == ["limit_reached"]
    assert shard.units() == {"vw_1|1": "2", "vw_2|1": "1"}


def test_limits_and_stock_are_of_each_item_by_itself(shard: LuaShard) -> None:
    shard.load([(1, 100, 1, 1), (2, 200, 1, 5)], sale_no=8)
    placed = shard.place(
        order("vw_1", "a", item=1),
        order("vw_1", "b", item=2),
        order("vw_2", "a", item=1),
        order("vw_2", "b", item=2),
        sale_no=8,
    )
    assert placed.answers == [["reserved", 1, 100], ["reserved", 2, 200], ["sold_out", 0, 1], ["reserved", 3, 200]]
    assert (shard.left(1, 8), shard.left(2, 8), shard.held(1, 8), shard.held(2, 8)) == (0, 3, 1, 2)


def test_a_repeat_inside_the_group_gets_the_answer_of_the_first(shard: LuaShard) -> None:
    placed = shard.place(order(), order(), order("vw_2"))
    assert placed.answers == [["reserved", 1, 1900], ["replayed", 1, 1, placed.now_ms, 1900], ["reserved", 2, 1900]]
    assert shard.left() == 8


def test_a_key_with_other_content_inside_the_group_is_reused(shard: LuaShard) -> None:
    assert shard.place(order(), order(quantity=2)).words == ["reserved", "key_reused"]


def test_a_refusal_holds_no_key_inside_the_group(shard: LuaShard) -> None:
    assert shard.place(order(quantity=3), order(quantity=1)).words == ["limit_reached", "reserved"]


def test_the_same_key_of_another_viewer_or_sale_is_another_key(shard: LuaShard) -> None:
    shard.load(sale_no=8)
    assert shard.place(order("vw_1"), order("vw_2")).words == ["reserved", "reserved"]
    assert shard.place(order("vw_1"), sale_no=8).words == ["reserved"]


# A key that holds an effect is answered before any other question.


@pytest.mark.parametrize("trouble", ["paused", "ended", "sold out", "price", "late", "backlog"])
def test_a_replay_is_answered_whatever_became_of_the_sale(shard: LuaShard, trouble: str) -> None:
    first = shard.place(order("vw_0", "k0"))
    late, backlog = {}, 50
    match trouble:
        case "paused":
            shard.act("pause")
        case "ended":
            shard.act("close")
        case "sold out":
            shard.place(*(order(f"vw_{at}", quantity=2) for at in range(1, 5)), order("vw_5"))
        case "price":
            shard.valkey.hset(shard.keys.sale(SALE), "1:price", 2500)
        case "late":
            late = {"until_ms": LONG_AGO_MS}
        case "backlog":
            backlog = 0
    expected = {"paused": "paused", "ended": "ended", "sold out": "sold_out", "late": "late", "backlog": "backlog"}
    before = shard.everything()
    placed = shard.place(order("vw_0", "k0", **late), order("vw_9", "k9", expect=1900, **late), backlog=backlog)
    assert placed.answers[0] == ["replayed", 1, 1, first.now_ms, 1900]
    assert placed.words[1] == expected.get(trouble, "price_changed")
    assert shard.everything() == before


def test_other_content_under_a_held_key_is_named_before_any_other_question(shard: LuaShard) -> None:
    shard.place(order())
    shard.act("close")
    assert shard.place(order(quantity=2, until_ms=LONG_AGO_MS)).words == ["key_reused"]


def test_a_replay_keeps_the_epoch_time_and_price_of_its_order(shard: LuaShard) -> None:
    first = shard.place(order())
    shard.valkey.hset(shard.keys.shard, mapping={"epoch": 2, "seq": 0})
    shard.valkey.hset(shard.keys.sale(SALE), "1:price", 2500)
    placed = shard.place(order(), order("vw_2"), epoch=2)
    assert placed.answers == [["replayed", 1, 1, first.now_ms, 1900], ["reserved", 1, 2500]]


# The order of the other questions.


def test_a_late_request_is_late_before_the_state_is_asked(shard: LuaShard) -> None:
    shard.act("close")
    assert shard.place(order(until_ms=LONG_AGO_MS)).words == ["late"]


def test_a_request_is_late_only_after_its_last_millisecond(shard: LuaShard) -> None:
    far = shard.now_ms() + MINUTE_MS
    assert shard.place(order(until_ms=far)).words == ["reserved"]
    assert shard.place(order("vw_2", until_ms=shard.now_ms() - 1)).words == ["late"]


def test_closed_outranks_paused_and_a_time_past_its_end_is_closed(shard: LuaShard) -> None:
    shard.load(sale_no=8, hold="paused", opens_in_ms=-2 * MINUTE_MS, closes_in_ms=-MINUTE_MS)
    assert shard.place(order(), sale_no=8).words == ["ended"]
    shard.load(sale_no=9, hold="paused", opens_in_ms=MINUTE_MS)
    assert shard.place(order(), sale_no=9).words == ["paused"]


def test_not_started_says_when(shard: LuaShard) -> None:
    shard.load(sale_no=8, opens_in_ms=MINUTE_MS)
    opens_at_ms = int(shard.sale(8)["opens_at"])
    assert shard.place(order(), sale_no=8).answers == [["not_started", opens_at_ms]]


def test_the_expected_amount_is_of_all_units_and_the_answer_names_the_price_of_one(shard: LuaShard) -> None:
    placed = shard.place(order("vw_1", quantity=2, expect=3800), order("vw_2", quantity=2, expect=1900))
    assert placed.answers == [["reserved", 1, 1900], ["price_changed", 1900]]


def test_the_price_is_asked_before_the_limit_and_the_limit_before_the_stock(shard: LuaShard) -> None:
    shard.load([(1, 100, 1, 0)], sale_no=8)
    placed = shard.place(order(quantity=2, expect=1), order(quantity=2), order(quantity=1), sale_no=8, backlog=0)
    assert placed.words == ["price_changed", "limit_reached", "sold_out"]


def test_a_price_of_nothing_is_a_price(shard: LuaShard) -> None:
    shard.load([(1, 0, 1, 1)], sale_no=8)
    assert shard.place(order(expect=0), sale_no=8).answers == [["reserved", 1, 0]]


def test_the_largest_price_and_quantity_are_exact(shard: LuaShard) -> None:
    shard.load([(1, MAX_PRICE_MINOR - 1, MAX_QUANTITY, MAX_STOCK)], sale_no=8)
    quantity = MAX_QUANTITY - 1
    amount = (MAX_PRICE_MINOR - 1) * quantity
    assert amount < 2**53, "past it numbers of scripts and of most clients are rounded"
    placed = shard.place(
        order("vw_1", quantity=quantity, expect=amount - 1),
        order("vw_1", quantity=quantity, expect=amount + 1),
        order("vw_1", quantity=quantity, expect=amount),
        sale_no=8,
    )
    assert placed.answers == [
        ["price_changed", MAX_PRICE_MINOR - 1],
        ["price_changed", MAX_PRICE_MINOR - 1],
        ["reserved", 1, MAX_PRICE_MINOR - 1],
    ]
    (row,) = shard.stream()[-1].body[4]
    assert (row[4], row[5]) == (quantity, MAX_PRICE_MINOR - 1)
    assert (shard.left(1, 8), shard.held(1, 8)) == (MAX_STOCK - quantity, quantity)


# The backlog.


def test_a_full_backlog_refuses_new_orders_until_the_ledger_is_nearer(shard: LuaShard) -> None:
    assert shard.place(order("vw_1"), order("vw_2"), backlog=2).words == ["reserved", "reserved"]
    assert shard.place(order("vw_1"), order("vw_3"), backlog=2).words == ["replayed", "backlog"]
    shard.valkey.hset(shard.keys.shard, "applied", 2)
    assert shard.place(order("vw_3"), order("vw_4"), backlog=2).words == ["reserved", "reserved"]


def test_a_group_that_would_pass_the_bound_is_refused_as_a_whole(shard: LuaShard) -> None:
    assert shard.place(order("vw_1"), order("vw_2"), order("vw_3"), backlog=2).words == ["backlog"] * 3
    assert shard.place(order("vw_1"), order("vw_2"), backlog=2).words == ["reserved"] * 2


def test_refusals_stay_what_they_are_under_a_full_backlog(shard: LuaShard) -> None:
    shard.act("pause")
    assert shard.place(order(), backlog=0).words == ["paused"]


# Sizes.


def test_a_full_group_over_the_largest_sale_is_decided_in_one_call(shard: LuaShard) -> None:
    shard.load([(no, 100 + no, 1000, 1000) for no in range(1, 201)], sale_no=8)
    requests = [
        order(f"vw_{at}", f"key-{at}", item=at % 200 + 1, quantity=at % 7 + 1, extra="x" * 600)
        for at in range(GROUP_MAX)
    ]
    placed = shard.place(*requests, sale_no=8)
    assert placed.words == ["reserved"] * GROUP_MAX
    assert [answer[1] for answer in placed.answers] == list(range(1, GROUP_MAX + 1))
    (entry,) = shard.stream()
    assert entry.id == f"1-{GROUP_MAX}"
    assert [row[0] for row in entry.body[4]] == [f"vw_{at}" for at in range(GROUP_MAX)]
    again = shard.place(*requests, sale_no=8)
    assert again.words == ["replayed"] * GROUP_MAX
    assert len(shard.stream()) == 1


def test_a_viewer_or_text_in_any_script_is_kept_as_it_came(shard: LuaShard) -> None:
    name = "买家|小王|é🎏"
    assert shard.place(order(name, "k|".replace("|", "."), extra='{"ref":"订单\\u0000"}')).words == ["reserved"]
    assert shard.place(order(name, "k.", extra='{"ref":"订单\\u0000"}')).words == ["replayed"]
    (row,) = shard.stream()[0].body[4]
    assert (row[0], row[6]) == (name, '{"ref":"订单\\u0000"}')


# Races, as numbers.


async def test_two_hundred_buyers_of_ten_units_get_exactly_ten(shard: LuaShard, valkey_url: str) -> None:
    client = connect(valkey_url, max_connections=20, wait_s=30)
    script = Scripts(client).named("place_orders")
    keys = shard.keys

    async def buy(viewer: str) -> str:
        reply = await script(
            [keys.shard, keys.sale(SALE), keys.answers(SALE), keys.units(SALE), keys.stream],
            [1, 0, 50_000, SALE, msgpack.packb([order(viewer)], use_bin_type=False)],
        )
        word: str = msgpack.unpackb(reply)[4][0][0]
        return word

    words = await asyncio.gather(*(buy(f"vw_{at}") for at in range(200)))
    await client.aclose()
    assert words.count("reserved") == 10
    assert words.count("sold_out") == 190
    assert (shard.left(), shard.held()) == (0, 10)
    assert sorted(int(entry.id.split("-")[1]) for entry in shard.stream()) == list(range(1, 11))


async def test_one_key_asked_two_hundred_times_at_once_has_one_effect(shard: LuaShard, valkey_url: str) -> None:
    client = connect(valkey_url, max_connections=20, wait_s=30)
    clock = FakeClock()
    hot = HotShard(shard=3, client=client, scripts=Scripts(client))
    hot.enter_epoch(1, 0)
    orders = HotOrders(shard=hot, scripts=Scripts(client), mint=MINT, clock=clock, backlog_max=50_000)
    answers = [
        answer
        for group in await asyncio.gather(*(orders.decide(SALE, [request(clock)] * 10) for _ in range(20)))
        for answer in group
    ]
    await client.aclose()
    assert {answer.order for answer in answers if isinstance(answer, OrderAnswer)} == {answers[0].order}  # type: ignore[union-attr]
    assert [answer.replayed for answer in answers if isinstance(answer, OrderAnswer)].count(False) == 1
    assert shard.left() == 9


# Nothing after the first write can fail.


@pytest.mark.parametrize("which", ["shard", "sale", "answers", "units", "stream"])
def test_a_key_of_the_wrong_type_is_an_error_before_any_write(shard: LuaShard, which: str) -> None:
    keys = shard.keys
    name = {
        "shard": keys.shard,
        "sale": keys.sale(SALE),
        "answers": keys.answers(SALE),
        "units": keys.units(SALE),
        "stream": keys.stream,
    }[which]
    shard.valkey.delete(name)
    shard.valkey.set(name, "no hash, no stream")
    before = shard.everything()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        shard.place(order("vw_1"), order("vw_2"))
    assert shard.everything() == before


def test_an_item_that_the_sale_does_not_have_is_an_error_before_any_write(shard: LuaShard) -> None:
    before = shard.everything()
    with pytest.raises(ResponseError, match="UNKNOWN_ITEM 2"):
        shard.place(order("vw_1"), order("vw_2", item=2))
    assert shard.everything() == before


def test_a_stream_that_is_ahead_of_the_shard_refuses_the_whole_group(shard: LuaShard) -> None:
    shard.valkey.xadd(shard.keys.stream, {"o": b"ahead"}, id="1-5")
    before = shard.everything()
    with pytest.raises(ResponseError, match="equal or smaller"):
        shard.place(order())
    assert shard.everything() == before


def test_a_server_that_is_out_of_memory_refuses_the_script_before_any_write(shard: LuaShard) -> None:
    shard.place(order("vw_0"))
    shard.valkey.config_set("maxmemory", 1)
    try:
        before = shard.everything()
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            shard.place(order())
        assert shard.everything() == before
    finally:
        shard.valkey.config_set("maxmemory", 0)
    assert shard.place(order()).words == ["reserved"]
