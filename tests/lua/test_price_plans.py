"""Prices that change by themselves, as `place_orders` judges them and `control_sale` sets them."""

from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.domain.ids import Sku
from gateway.domain.sale import MAX_PRICE_STEPS, Item, PriceStep, plan_text
from tests.support.lua_coupons import LuaCoupons, claim
from tests.support.lua_shard import MINUTE_MS, SALE, LuaShard, order


def load(shard: LuaShard, *steps: tuple[int, int], sale_no: int = 8, floor: int = 0) -> Item:
    """A sale at 19.00 with a plan, its steps in ms from now on; the item as the rules in plain words know it."""
    now_ms = shard.now_ms()
    prices = tuple(PriceStep(now_ms + in_ms, price) for in_ms, price in steps)
    assert shard.load([(1, 1900, 1000, 1000, floor, plan_text(prices))], sale_no=sale_no) == "loaded"
    return Item(item_no=1, sku=Sku("tin"), title="Tin", price_minor=1900, stock=9, limit_per_viewer=9, prices=prices)


@pytest.mark.parametrize(
    ("steps", "price"),
    [
        ([], 1900),
        ([(MINUTE_MS, 900)], 1900),
        ([(-MINUTE_MS, 900)], 900),
        ([(-2 * MINUTE_MS, 1500), (-MINUTE_MS, 1200), (MINUTE_MS, 900)], 1200),
        ([(-2 * MINUTE_MS, 1500), (-MINUTE_MS, 2500)], 2500),
        ([(0, 900)], 900),
    ],
)
def test_the_price_is_that_of_the_last_step_that_has_begun(
    shard: LuaShard, steps: list[tuple[int, int]], price: int
) -> None:
    load(shard, *steps)
    placed = shard.place(order(expect=price * 2, quantity=2), order("vw_2", expect=price + 1), sale_no=8)
    assert placed.answers == [["reserved", 1, price], ["price_changed", price]]
    assert shard.stream()[0].body[4][0][5] == price
    assert shard.answers(8)["vw_1|k1"].endswith(f"|{price}")


def test_a_step_holds_from_its_very_millisecond_on(shard: LuaShard) -> None:
    """Steps every few milliseconds, asked for until the last one has begun: each answer has the price of its time."""
    item = load(shard, *((at * 3, 1800 - at) for at in range(1, MAX_PRICE_STEPS + 1)))
    seen: set[int] = set()
    while shard.now_ms() < item.prices[-1].from_ms:
        placed = shard.place(order("vw_1", f"k{len(seen)}", expect=1), sale_no=8)
        assert placed.answers == [["price_changed", item.price_at(placed.now_ms)]], placed.now_ms
        seen.add(placed.answers[0][1])
    assert len(seen) > 3, "it changed while we looked"
    last = shard.place(order(expect=1), sale_no=8)
    assert last.answers == [["price_changed", item.price_at(last.now_ms)]] == [["price_changed", 1800 - 50]]


def test_each_item_has_its_own_plan(shard: LuaShard) -> None:
    past = shard.now_ms() - MINUTE_MS
    shard.load([(1, 1900, 9, 9, 0, f"{past}:900"), (2, 500, 9, 9), (3, 700, 9, 9, 0, f"{past}:600")], sale_no=8)
    placed = shard.place(*(order("vw_1", f"k{item}", item=item) for item in (1, 2, 3)), sale_no=8)
    assert [answer[2] for answer in placed.answers] == [900, 500, 600]


def test_a_replay_says_the_price_at_which_the_order_was_reserved(shard: LuaShard) -> None:
    load(shard)
    first = shard.place(order(), sale_no=8)
    shard.act("plan", sale_no=8, item=1, text=f"{shard.now_ms() - 1}:900")
    assert shard.place(order(), order("vw_2"), sale_no=8).answers == [
        ["replayed", 1, 1, first.now_ms, 1900],
        ["reserved", 3, 900],
    ]


# Floors, which only a coupon comes near to.


@pytest.mark.parametrize(("floor", "took"), [(0, 899), (600, 300), (899, 1), (900, 0), (1000, 0)])
def test_no_coupon_passes_the_floor_of_the_price_as_it_is_now(shard: LuaShard, floor: int, took: int) -> None:
    load(shard, (-MINUTE_MS, 900), floor=floor)
    coupons = LuaCoupons(shard)
    coupons.load(value=5000)
    coupons.claim(claim("vw_1"))
    answer = shard.place(order("vw_1", claim=(31, "1|1")), sale_no=8).answers[0]
    assert answer == (["reserved", 2, 900, took] if took else ["coupon_unusable"])


# Acts.


def test_a_plan_is_set_and_ended_by_acts_in_the_stream(shard: LuaShard) -> None:
    text = f"{shard.now_ms() - 5}:900;{shard.now_ms() + MINUTE_MS}:800"
    done = shard.act("plan", item=1, text=text, key="k", fingerprint="f")
    assert done[:3] == ("done", 1, 1)
    assert shard.sale()["1:plan"] == text
    body = ["act", SALE, done.now_ms, 1, "plan", 1, 0, "host_1", "plan", "k", "f", "", text]
    assert shard.stream() == [("1-1", body)]
    assert shard.place(order()).answers == [["reserved", 2, 900]]
    assert shard.act("plan", item=1, text=text).word == "same"
    assert shard.act("plan", item=1, text=text, key="k", fingerprint="f")[:3] == ("replayed", 1, 1)
    assert shard.act("plan", item=1, text="").word == "done"
    assert shard.stream()[-1].body[12:] == [""]
    assert "1:plan" not in shard.sale()
    assert shard.act("plan", item=1, text="").word == "same"
    assert shard.place(order("vw_2")).answers == [["reserved", 4, 1900]]


def test_a_price_that_is_set_ends_the_plan_even_when_it_is_the_same_price(shard: LuaShard) -> None:
    load(shard, (-MINUTE_MS, 900))
    assert shard.act("price", sale_no=8, item=1, value=1900).word == "done"
    assert "1:plan" not in shard.sale(8)
    assert len(shard.stream()[-1].body) == 12, "the entry of a price is what it was"
    assert shard.act("price", sale_no=8, item=1, value=1900).word == "same"
    assert shard.place(order(), sale_no=8).answers == [["reserved", 2, 1900]]


@pytest.mark.parametrize("text", ["soon:900", "5:900;5:800", "9:900;5:800", "5:900;", ";5:900", "5:", "5:-900", "5:9 "])
def test_a_plan_that_cannot_be_read_is_an_error_and_writes_nothing(shard: LuaShard, text: str) -> None:
    before = shard.everything()
    with pytest.raises(ResponseError, match="UNKNOWN_PLAN"):
        shard.act("plan", item=1, text=text)
    assert shard.everything() == before


def test_a_plan_of_no_item_is_an_error_and_writes_nothing(shard: LuaShard) -> None:
    before = shard.everything()
    with pytest.raises(ResponseError, match="UNKNOWN_ITEM 9"):
        shard.act("plan", item=9, text="5:900")
    assert shard.everything() == before


def test_a_sale_that_ended_takes_no_plan(shard: LuaShard) -> None:
    shard.act("close")
    assert shard.act("plan", item=1, text="5:900").word == "ended"


# Windows.


def _window(shard: LuaShard, sale_no: int = 8) -> tuple[int, int]:
    sale = shard.sale(sale_no)
    return int(sale["opens_at"]), int(sale["closes_at"])


def test_the_window_of_a_sale_to_come_moves(shard: LuaShard) -> None:
    shard.load(sale_no=8, opens_in_ms=MINUTE_MS)
    opens_at, closes_at = _window(shard)
    done = shard.act("window", sale_no=8, value=opens_at + 5, text=str(closes_at + 7), reason="late")
    assert done.word == "done"
    assert _window(shard) == (opens_at + 5, closes_at + 7)
    body = ["act", 8, done.now_ms, 1, "window", 0, opens_at + 5, "host_1", "window", "", "f", "late"]
    assert shard.stream() == [("1-1", [*body, str(closes_at + 7)])]
    assert shard.act("window", sale_no=8, value=opens_at + 5, text=str(closes_at + 7)).word == "same"
    assert shard.place(order(), sale_no=8).answers == [["not_started", opens_at + 5]]
    assert shard.act("window", sale_no=8, value=shard.now_ms(), text=str(closes_at)).word == "done"
    assert shard.place(order(), sale_no=8).words == ["reserved"]


def test_of_a_sale_that_has_begun_only_the_end_moves(shard: LuaShard) -> None:
    opens_at, closes_at = _window(shard, SALE)
    assert shard.act("window", value=opens_at - 1, text=str(closes_at)).word == "started"
    assert shard.act("window", value=opens_at, text=str(closes_at + 1)).word == "done"
    assert _window(shard, SALE) == (opens_at, closes_at + 1)


@pytest.mark.parametrize(("opens_in_ms", "closes_in_ms"), [(MINUTE_MS, 0), (MINUTE_MS, -1), (2 * MINUTE_MS, MINUTE_MS)])
def test_a_window_closes_ahead_of_us_and_after_it_opens(shard: LuaShard, opens_in_ms: int, closes_in_ms: int) -> None:
    shard.load(sale_no=8, opens_in_ms=MINUTE_MS)
    now_ms = shard.now_ms()
    before = shard.everything()
    window: dict[str, Any] = {"value": now_ms + opens_in_ms, "text": str(now_ms + closes_in_ms)}
    assert shard.act("window", sale_no=8, **window).word == "past"
    assert shard.everything() == before


def test_a_sale_that_clocks_keep_shut_has_not_begun(shard: LuaShard) -> None:
    shard.load(sale_no=8, opens_in_ms=-1)
    shard.call("pause_opening", [shard.keys.shard], [shard.now_ms() - MINUTE_MS // 2])
    opens_at, closes_at = _window(shard)
    assert shard.act("window", sale_no=8, value=opens_at + MINUTE_MS, text=str(closes_at)).word == "done"
