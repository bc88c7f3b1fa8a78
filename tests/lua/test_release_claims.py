"""`release_orders` where rows name claims; without them it is tested beside."""

from typing import Any

import msgpack
import pytest
from redis.exceptions import ResponseError

from gateway.hot.releases import HotReleases, Release
from gateway.hot.shard import HotShard
from tests.support.lua_coupons import COUPON, LARGEST, LuaCoupons, claim
from tests.support.lua_shard import SALE, LuaShard, order


@pytest.fixture
def coupons(shard: LuaShard) -> LuaCoupons:
    """vw_1 has claimed 5 off (1|1) and redeems it in the order 1:2; beside it 6 to 9 off, by chance."""
    made = LuaCoupons(shard)
    assert made.load() == "loaded"
    assert made.load(32, kind="random", value=0, min=600, max=900, budget_left=8000) == "loaded"
    made.claim(claim("vw_1", "a"))
    assert shard.place(order("vw_1", "k1", claim=(COUPON, "1|1"))).words == ["reserved"]
    return made


def ended(no: int, kind: str, *, seq: int = 2, field: str = "1|1", coupon_no: int = COUPON) -> list[Any]:
    return [no, SALE, 1, "vw_1", "k1", 1, seq, 1, kind, coupon_no, field]


def unclaim(no: int, field: str = "1|1", *, viewer: str = "vw_1", key: str = "a", coupon_no: int = COUPON) -> list[Any]:
    epoch, seq = field.split("|")
    return [no, 0, 0, viewer, key, int(epoch), int(seq), 0, "unclaim", coupon_no, field]


# Orders that end.


@pytest.mark.parametrize(("kind", "holder"), [("refuse", ""), ("release", ""), ("return", ""), ("paid", "1:2")])
def test_an_order_that_ends_unsold_lets_go_of_its_claim(coupons: LuaCoupons, kind: str, holder: str) -> None:
    assert coupons.shard.release(ended(1, kind)) == ("released", 1)
    assert coupons.claims() == {"1|1": (500, holder, "vw_1")}
    assert (coupons.left(), coupons.viewers()) == (9, {"vw_1": "1"}), "the copy stays with the viewer"
    again = coupons.shard.place(order("vw_1", "k2", claim=(COUPON, "1|1")))
    assert again.words == (["reserved"] if holder == "" else ["coupon_unusable"])


def test_a_claim_that_another_order_redeems_stays_with_it(coupons: LuaCoupons) -> None:
    shard = coupons.shard
    shard.release(ended(1, "release"))
    shard.place(order("vw_1", "k2", claim=(COUPON, "1|1")))
    assert shard.release(ended(2, "return")) == ("released", 2)
    assert coupons.claims()["1|1"].holder == "1:3"


def test_a_row_applied_twice_lets_go_once(coupons: LuaCoupons) -> None:
    shard = coupons.shard
    shard.release(ended(1, "release"))
    shard.place(order("vw_1", "k2", claim=(COUPON, "1|1")))
    before = shard.everything()
    assert shard.release(ended(1, "release")) == ("released", 1)
    assert shard.everything() == before


# Claims that the ledger did not take.


def test_a_claim_that_was_not_taken_gives_copy_budget_and_count_back_and_its_key_asks_anew(
    coupons: LuaCoupons,
) -> None:
    placed = coupons.claim(claim("vw_1", "a", draw=LARGEST), claim("vw_2", "a", draw=LARGEST), coupon_no=32)
    values = [answer[2] for answer in placed.answers]
    assert (coupons.left(32), coupons.budget_left(32)) == (8, 8000 - sum(values))
    assert coupons.shard.release(unclaim(1, "1|3", coupon_no=32)) == ("released", 1)
    assert (coupons.left(32), coupons.budget_left(32)) == (9, 8000 - values[1])
    assert coupons.viewers(32) == {"vw_2": "1"}
    assert list(coupons.claims(32)) == ["1|4"]
    assert list(coupons.answers(32)) == ["vw_2|a"]
    assert coupons.claim(claim("vw_1", "a"), coupon_no=32).words == ["claimed"]


def test_of_another_kind_there_is_no_budget_to_give_back(coupons: LuaCoupons) -> None:
    coupons.shard.release(unclaim(1))
    assert (coupons.left(), coupons.budget_left()) == (10, 0)
    assert (coupons.viewers(), coupons.claims(), coupons.answers()) == ({}, {}, {})


def test_a_viewer_with_two_claims_keeps_the_other(coupons: LuaCoupons) -> None:
    seq = coupons.claim(claim("vw_1", "b")).seq
    assert coupons.claim(claim("vw_1", "c")).words == ["limit_reached"]
    coupons.shard.release(unclaim(1, f"1|{seq}", key="b"))
    assert coupons.viewers() == {"vw_1": "1"}
    assert coupons.claim(claim("vw_1", "c")).words == ["claimed"]


def test_a_key_that_holds_another_claim_keeps_it(coupons: LuaCoupons) -> None:
    coupons.shard.release(unclaim(1))
    seq = coupons.claim(claim("vw_1", "a")).seq
    assert coupons.shard.release(unclaim(2, "1|1")) == ("released", 2)
    assert coupons.answers()["vw_1|a"].startswith(f"1|{seq}|")
    assert (coupons.left(), coupons.viewers()) == (9, {"vw_1": "1"}), "what is gone does not go back twice"


def test_a_number_that_begins_like_the_claims_is_not_the_claims(coupons: LuaCoupons) -> None:
    coupons.shard.valkey.hset(coupons.shard.keys.coupon_answers(COUPON), "vw_1|a", "1|11|1700000000000|500")
    coupons.shard.release(unclaim(1))
    assert list(coupons.answers()) == ["vw_1|a"]


def test_an_unclaim_applied_twice_gives_back_once(coupons: LuaCoupons) -> None:
    coupons.claim(claim("vw_2", "a"))
    coupons.shard.release(unclaim(1))
    before = coupons.shard.everything()
    coupons.shard.release(unclaim(1))
    assert coupons.shard.everything() == before


@pytest.mark.parametrize("first", ["order", "claim"])
def test_an_order_and_its_claim_refused_in_one_call_come_back_once_each(coupons: LuaCoupons, first: str) -> None:
    refused = [ended(1, "refuse"), unclaim(2)] if first == "order" else [unclaim(1), ended(2, "refuse")]
    assert coupons.shard.release(*refused) == ("released", 2)
    assert (coupons.left(), coupons.viewers(), coupons.claims(), coupons.answers()) == (10, {}, {}, {})
    assert (coupons.shard.left(), coupons.shard.held(), coupons.shard.units()) == (10, 0, {})


def test_rows_of_two_coupons_and_two_sales_are_applied_in_one_call(coupons: LuaCoupons) -> None:
    shard = coupons.shard
    shard.load([(1, 5000, 2, 10)], sale_no=8)
    coupons.claim(claim("vw_1", "b"), coupon_no=32)
    assert shard.place(order("vw_1", "k8", claim=(32, "1|3")), sale_no=8).words == ["reserved"]
    row = [2, 8, 1, "vw_1", "k8", 1, 4, 1, "release", 32, "1|3"]
    assert shard.release(ended(1, "release"), row, unclaim(3, "1|3", key="b", coupon_no=32), sales=(SALE, 8)) == (
        "released",
        3,
    )
    assert (shard.left(), shard.left(sale_no=8)) == (10, 10)
    assert coupons.claims()["1|1"].holder == ""
    assert (coupons.claims(32), coupons.left(32), coupons.budget_left(32)) == ({}, 10, 8000)


def test_a_coupon_key_of_a_wrong_type_stops_the_call_before_its_first_write(coupons: LuaCoupons) -> None:
    shard = coupons.shard
    shard.valkey.set(shard.keys.coupon_claims(99), "no hash")
    before = shard.everything()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        shard.release(ended(1, "release"), ended(2, "release", coupon_no=99))
    assert shard.everything() == before


# The binding.


async def test_the_binding_names_the_keys_of_each_sale_and_each_coupon_once() -> None:
    class Recorded:
        keys: list[str]
        args: list[Any]

        def named(self, name: str) -> "Recorded":
            return self

        async def __call__(self, keys: list[str], args: list[Any]) -> Any:
            self.keys, self.args = keys, args
            return [b"released", 8]

    scripts: Any = Recorded()
    nothing: Any = None
    releases = HotReleases(shard=HotShard(shard=3, client=nothing, scripts=scripts), scripts=scripts)
    rows = [
        Release(5, 7, 1, "vw_1", "k1", 1, 9, 2, "release", 31, 1, 4),
        Release(6, None, 0, "vw_2", "c1", 1, 5, 0, "unclaim", 31, 1, 5),
        Release(7, 7, 1, "vw_3", "", 1, 6, 1, "paid"),
    ]
    assert await releases.apply(rows) == 8
    sale, name = "{s3}:sale:7", "{s3}:coupon:31"
    assert scripts.keys == [
        "{s3}:shard",
        sale,
        f"{sale}:answers",
        f"{sale}:units",
        name,
        f"{name}:answers",
        f"{name}:viewers",
        f"{name}:claims",
    ]
    assert msgpack.unpackb(scripts.args[1]) == [
        [5, 2, 1, "vw_1", "k1", 1, 9, 2, "release", 5, "1|4"],
        [6, 0, 0, "vw_2", "c1", 1, 5, 0, "unclaim", 5, "1|5"],
        [7, 2, 1, "vw_3", "", 1, 6, 1, "paid"],
    ]
