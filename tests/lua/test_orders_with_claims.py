"""`place_orders` where orders redeem claims; without them it is tested beside."""

from typing import Any

import msgpack
import pytest
from redis.exceptions import ResponseError

from gateway.domain.coupon import COUPONS_A_GROUP, CouponKind
from gateway.domain.ids import ClaimPlace, IdMint
from gateway.domain.order import OrderAnswer, OrderOutcome, OrderRequest
from gateway.domain.sale import MAX_PRICE_MINOR
from gateway.hot.orders import HotOrders
from gateway.hot.shard import HotShard
from tests.support.coupons import coupon
from tests.support.fake_clock import FakeClock
from tests.support.lua_coupons import COUPON, LuaCoupons, claim
from tests.support.lua_shard import LONG_AGO_MS, SALE, LuaShard, order

FIRST = (COUPON, "1|1")
"""The first claim of the shard."""


@pytest.fixture
def coupons(shard: LuaShard) -> LuaCoupons:
    """5 off, and vw_1 has claimed it; beside the sale at 19.00, two a viewer."""
    made = LuaCoupons(shard)
    assert made.load() == "loaded"
    assert made.claim(claim("vw_1")).words == ["claimed"]
    return made


# What an order with a claim writes.


def test_an_order_redeems_a_claim(coupons: LuaCoupons) -> None:
    shard = coupons.shard
    placed = shard.place(order("vw_1", "k1", quantity=2, extra="x", claim=FIRST))
    assert placed.answers == [["reserved", 2, 1900, 500]]
    assert coupons.claims() == {"1|1": (500, "1:2", "vw_1")}
    assert shard.answers() == {"vw_1|k1": f"1.2.-1|1|2|{placed.now_ms}|1900|500"}
    assert (shard.left(), shard.held()) == (8, 2)
    row = ["vw_1", "k1", "1.2.-1", 1, 2, 1900, "x", 500, COUPON, "1|1"]
    assert shard.stream()[-1] == ("1-2", ["orders", SALE, placed.now_ms, 2, [row]])


def test_a_replay_says_the_discount_again(coupons: LuaCoupons) -> None:
    first = coupons.shard.place(order("vw_1", "k1", claim=FIRST))
    again = coupons.shard.place(order("vw_1", "k1", claim=FIRST), order("vw_1", "k1", claim=FIRST))
    assert again.answers == [["replayed", 1, 2, first.now_ms, 1900, 500]] * 2


def test_the_answer_of_a_group_with_and_without_claims_is_that_of_each_request_alone(coupons: LuaCoupons) -> None:
    coupons.load(32, kind="percent", value=0, percent=10)
    coupons.claim(claim("vw_2"), coupon_no=32)
    placed = coupons.shard.place(
        order("vw_3", "k1"),
        order("vw_1", "k1", claim=FIRST),
        order("vw_2", "k1", claim=(32, "1|2")),
        order("vw_4", "k1", quantity=2),
    )
    assert placed.answers == [
        ["reserved", 3, 1900],
        ["reserved", 4, 1900, 500],
        ["reserved", 5, 1900, 190],
        ["reserved", 6, 1900],
    ]
    rows = coupons.shard.stream()[-1].body[4]
    assert [len(row) for row in rows] == [7, 10, 10, 7]
    assert [row[7:] for row in rows[1:3]] == [[500, COUPON, "1|1"], [190, 32, "1|2"]]
    assert coupons.claims()["1|1"].holder == "1:4"
    assert coupons.claims(32)["1|2"].holder == "1:5"


def test_of_two_orders_of_a_group_with_one_claim_the_first_redeems_it(coupons: LuaCoupons) -> None:
    placed = coupons.shard.place(order("vw_1", "k1", claim=FIRST), order("vw_1", "k2", claim=FIRST))
    assert placed.answers == [["reserved", 2, 1900, 500], ["coupon_unusable"]]
    assert coupons.shard.place(order("vw_1", "k3", claim=FIRST)).words == ["coupon_unusable"]
    assert coupons.claims()["1|1"].holder == "1:2"
    assert coupons.shard.units() == {"vw_1|1": "1"}


def test_what_does_not_fit_in_a_group_leaves_its_claim_to_the_next_order(coupons: LuaCoupons) -> None:
    placed = coupons.shard.place(order("vw_1", "k1", quantity=3, claim=FIRST), order("vw_1", "k2", claim=FIRST))
    assert placed.words == ["limit_reached", "reserved"]


def test_a_group_of_the_most_coupons_is_decided(coupons: LuaCoupons) -> None:
    orders = []
    for at in range(COUPONS_A_GROUP):
        coupons.load(100 + at, value=10 + at)
        seq = coupons.claim(claim(f"buyer_{at}"), coupon_no=100 + at).seq
        orders.append(order(f"buyer_{at}", claim=(100 + at, f"1|{seq}")))
    coupons.shard.act("stock", item=1, value=100)
    assert [answer[3] for answer in coupons.shard.place(*orders).answers] == [10 + at for at in range(COUPONS_A_GROUP)]


# When a claim cannot be used.


UNUSABLE: dict[str, dict[str, Any]] = {
    "its coupon is not valid any more": {"valid_for_ms": -1},
    "the sale is not among those it is bound to": {"sales": ",6,77,"},
    "it is in another currency": {"currency": "EUR"},
    "the order is under its threshold": {"threshold": 1901},
    "it takes nothing off": {"value": 0},
    "its percentage comes to nothing": {"kind": "percent", "percent": 0},
}


@pytest.mark.parametrize("why", UNUSABLE)
def test_a_claim_is_of_no_use_when(coupons: LuaCoupons, why: str) -> None:
    coupons.load(32, **{"claims_end_in_ms": 1_000, **UNUSABLE[why]})
    coupons.shard.valkey.hset(coupons.shard.keys.coupon_claims(32), "1|1", "0||vw_1")
    before = coupons.shard.everything()
    assert coupons.shard.place(order("vw_1", claim=(32, "1|1"))).answers == [["coupon_unusable"]]
    assert coupons.shard.everything() == before


@pytest.mark.parametrize(
    ("viewer", "named"),
    [("vw_2", FIRST), ("vw_1", (COUPON, "1|2")), ("vw_1", (COUPON, "2|1")), ("vw_1", (99, "1|1"))],
    ids=["of somebody else", "that was never made", "of another epoch", "of a coupon Valkey does not have"],
)
def test_a_claim_is_of_no_use(coupons: LuaCoupons, viewer: str, named: tuple[int, str]) -> None:
    assert coupons.shard.place(order(viewer, claim=named)).answers == [["coupon_unusable"]]


def test_a_coupon_bound_to_the_sale_is_good_for_it(coupons: LuaCoupons) -> None:
    coupons.load(32, sales=f",6,{SALE},")
    coupons.claim(claim("vw_1"), coupon_no=32)
    assert coupons.shard.place(order("vw_1", claim=(32, "1|2"))).words == ["reserved"]


# How much it takes off, beside the rule in plain words.


def _place(coupons: LuaCoupons, facts: dict[str, Any], value: int, price: int, floor: int, quantity: int) -> int:
    coupons.shard.load([(1, price, 10, 10, floor, "")], sale_no=8)
    coupons.load(32, **facts)
    coupons.shard.valkey.hset(coupons.shard.keys.coupon_claims(32), "1|9", f"{value}||vw_1")
    answer = coupons.shard.place(order("vw_1", quantity=quantity, claim=(32, "1|9")), sale_no=8).answers[0]
    assert answer[0] in ("reserved", "coupon_unusable")
    return int(answer[3]) if answer[0] == "reserved" else 0


@pytest.mark.parametrize(
    ("price", "quantity", "floor"),
    [(1000, 1, 0), (1000, 3, 0), (333, 2, 0), (1000, 2, 990), (1000, 2, 1000), (1, 1, 0), (0, 1, 0), (200, 1, 0)],
)
@pytest.mark.parametrize(
    ("kind", "number", "threshold"),
    [
        (CouponKind.AMOUNT, 500, 0),
        (CouponKind.AMOUNT, 500, 1000),
        (CouponKind.AMOUNT, 5_000_000, 0),
        (CouponKind.PERCENT, 1, 0),
        (CouponKind.PERCENT, 33, 0),
        (CouponKind.PERCENT, 99, 0),
        (CouponKind.RANDOM, 137, 0),
    ],
)
def test_the_script_takes_off_what_the_rule_in_plain_words_does(
    coupons: LuaCoupons, kind: CouponKind, number: int, threshold: int, price: int, quantity: int, floor: int
) -> None:
    facts = {
        "kind": str(kind),
        "value": number if kind is CouponKind.AMOUNT else 0,
        "percent": number if kind is CouponKind.PERCENT else 0,
        "threshold": threshold,
    }
    rule = coupon(kind=kind, value_minor=facts["value"], percent=facts["percent"], threshold_minor=threshold)
    value = number if kind is CouponKind.RANDOM else 0
    expected = rule.discount_of(price_minor=price, quantity=quantity, floor_minor=floor, claim_value_minor=value)
    if price * quantity < threshold:
        expected = 0
    took = _place(coupons, facts, value, price, floor, quantity)
    assert took == expected
    assert took == 0 or price * quantity - took >= max(floor * quantity, 1)


def test_a_percentage_of_the_largest_order_is_exact(coupons: LuaCoupons) -> None:
    price = MAX_PRICE_MINOR - 1
    coupons.shard.load([(1, price, 1000, 1000)], sale_no=8)
    coupons.load(32, kind="percent", percent=97)
    coupons.claim(claim("vw_1"), coupon_no=32)
    placed = coupons.shard.place(order("vw_1", quantity=1000, claim=(32, "1|2")), sale_no=8)
    assert placed.answers == [["reserved", 3, price, price * 1000 * 97 // 100]]


# The order of the questions.


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"until_ms": LONG_AGO_MS}, "late"),
        ({"expect": 1900}, "price_changed"),
        ({"expect": 1400}, "reserved"),
        ({"quantity": 3, "claim": (99, "1|1")}, "limit_reached"),
        ({"expect": 1, "claim": (99, "1|1")}, "coupon_unusable"),
        ({"expect": 1900, "claim": (99, "1|1")}, "coupon_unusable"),
    ],
)
def test_the_price_is_compared_with_what_the_coupon_makes_of_it(
    coupons: LuaCoupons, asked: dict[str, Any], word: str
) -> None:
    assert coupons.shard.place(order("vw_1", **{"claim": FIRST, **asked})).words == [word]


def test_who_expects_another_price_is_told_it_with_the_discount(coupons: LuaCoupons) -> None:
    placed = coupons.shard.place(order("vw_1", quantity=2, expect=3800, claim=FIRST))
    assert placed.answers == [["price_changed", 1900, 500]]
    assert coupons.claims()["1|1"].holder == ""


def test_stock_is_asked_for_before_the_coupon_and_the_ledger_after_it(coupons: LuaCoupons) -> None:
    coupons.shard.load([(1, 1900, 2, 1)], sale_no=8)
    nowhere = (99, "1|1")
    assert coupons.shard.place(order("vw_1", quantity=2, claim=nowhere), sale_no=8).words == ["sold_out"]
    assert coupons.shard.place(order("vw_1", claim=nowhere), sale_no=8, backlog=0).words == ["coupon_unusable"]
    assert coupons.shard.place(order("vw_1", claim=FIRST), sale_no=8, backlog=0).words == ["backlog"]


def test_a_coupon_key_of_a_wrong_type_stops_the_group_before_its_first_write(coupons: LuaCoupons) -> None:
    shard = coupons.shard
    shard.valkey.set(shard.keys.coupon_claims(99), "no hash")
    coupons.load(99)
    before = shard.everything()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        shard.place(order("vw_2"), order("vw_1", claim=(99, "1|1")))
    assert shard.everything() == before


# The binding.


class Recorded:
    def __init__(self, *answers: list[Any]) -> None:
        self.reply = msgpack.packb(["open", 1, 5, 1_000_000, list(answers)])
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return self.reply


def request(key: str, claim_place: ClaimPlace | None) -> OrderRequest:
    return OrderRequest(
        sale_no=SALE,
        item_no=1,
        viewer="vw_1",
        key=key,
        fingerprint="f",
        quantity=2,
        expect_amount_minor=-1,
        extra="",
        arrived_s=0.0,
        answer=lambda answer: None,
        currency="CNY",
        claim=claim_place,
    )


MINT = IdMint(b"k" * 32)


async def decide(script: Recorded, *requests: OrderRequest) -> list[Any]:
    scripts: Any = script
    client: Any = None
    clock = FakeClock()
    shard = HotShard(shard=3, client=client, scripts=scripts)
    shard.enter_epoch(1, 0)
    shard.clock.learn(1_000_000, clock.monotonic())
    orders = HotOrders(shard=shard, scripts=scripts, mint=MINT, clock=clock, backlog_max=50)
    return await orders.decide(SALE, requests)


async def test_the_binding_names_each_coupon_of_the_group_once_and_the_claims_by_their_place() -> None:
    script = Recorded(*[["coupon_unusable"]] * 4)
    one, other = ClaimPlace(1, 31, 2, 8), ClaimPlace(1, 32, 1, 9)
    answers = await decide(
        script, request("a", one), request("b", None), request("c", other), request("d", one._replace(seq=7))
    )
    assert answers == [OrderAnswer(OrderOutcome.COUPON_UNUSABLE)] * 4
    first, second = "{s3}:coupon:31", "{s3}:coupon:32"
    assert script.keys[5:] == [first, f"{first}:claims", second, f"{second}:claims"]
    assert script.args[5] == "CNY"
    assert [packed[8:] for packed in msgpack.unpackb(script.args[4])] == [
        [6, "2|8", 31],
        [],
        [8, "1|9", 32],
        [6, "2|7", 31],
    ]


async def test_the_binding_takes_the_discount_off_the_amount() -> None:
    script = Recorded(["reserved", 5, 1900, 300], ["replayed", 1, 4, 999_000, 1900, 250], ["price_changed", 2000, 100])
    reserved, replayed, changed = await decide(script, *(request(key, ClaimPlace(1, 31, 1, 2)) for key in "abc"))
    assert (reserved.price_minor, reserved.discount_minor, reserved.amount_minor) == (1900, 300, 3500)
    assert (replayed.order, replayed.discount_minor, replayed.amount_minor) == (
        MINT.order(999_000, SALE, 1, 4),
        250,
        3550,
    )
    assert changed == OrderAnswer(OrderOutcome.PRICE_CHANGED, amount_minor=3900, discount_minor=100)
