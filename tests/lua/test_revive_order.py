from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from redis.exceptions import ResponseError

from gateway.domain.ids import ClaimPlace
from gateway.hot.revivals import HotRevivals
from gateway.hot.shard import HotShard
from gateway.wire import entries
from tests.support.lua_coupons import COUPON, LuaCoupons, claim
from tests.support.lua_shard import MINUTE_MS, SALE, LuaShard, order, read_header


def expired(shard: LuaShard, viewer: str = "vw_1", *, quantity: int = 1) -> None:
    """An order of the viewer that was confirmed, not paid in time and given back."""
    seq = shard.place(order(viewer, f"{viewer}.old", quantity=quantity)).seq
    no = int(shard.facts()["released"]) + 1
    assert shard.release([no, SALE, 1, viewer, f"{viewer}.old", 1, seq, quantity, "release"]) == ("released", no)


def _sold_out(shard: LuaShard) -> str:
    expired(shard)
    shard.act("stock", item=1, value=-10)
    return shard.revive()[0]


def _limit_reached(shard: LuaShard) -> str:
    expired(shard)
    shard.place(order("vw_1", "new", quantity=2))
    return shard.revive()[0]


def _replayed(shard: LuaShard) -> str:
    shard.revive()
    return shard.revive()[0]


def _waits(shard: LuaShard) -> str:
    coupons = LuaCoupons(shard)
    coupons.load()
    coupons.claim(claim())
    shard.place(order("vw_1", claim=(COUPON, "1|1")))
    return shard.revive(claim=(COUPON, "1|1"), holder="1:2")[0]


WORDS: dict[str, Callable[[LuaShard], str]] = {
    "revived": lambda shard: shard.revive()[0],
    "replayed": _replayed,
    "sold_out": _sold_out,
    "limit_reached": _limit_reached,
    "epoch": lambda shard: shard.revive(epoch=2)[0],
    "unloaded": lambda shard: shard.revive(sale_no=99)[0],
    "coupon_unusable": lambda shard: shard.revive(claim=(COUPON, "1|9"), holder="1:1")[0],
    "waits": _waits,
}


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_header_is_reached(shard: LuaShard, word: str) -> None:
    assert WORDS[word](shard) == word


def test_the_words_of_the_header_are_those_that_are_tested() -> None:
    assert read_header("revive_order").words == [set(WORDS)]


# The binding.


class Recorded:
    def __init__(self, word: str, epoch: int = 1) -> None:
        self.word = word
        self.epoch = epoch
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return [self.word.encode(), self.epoch, 6]


class Payment(NamedTuple):
    payment_no: int = 12
    sale_no: int = 7
    item_no: int = 2
    viewer: str = "vw_1"
    order_id: str = "ord_1"
    quantity: int = 3
    retired: bool = False
    claim: ClaimPlace | None = None
    holder: str = ""


def bound(script: Recorded) -> tuple[HotRevivals, HotShard]:
    scripts: Any = script
    client: Any = None
    shard = HotShard(shard=3, client=client, scripts=scripts)
    shard.enter_epoch(1, 4)
    return HotRevivals(shard=shard, scripts=scripts), shard


@pytest.mark.parametrize("word", WORDS)
async def test_the_binding_gives_back_every_word_and_passes_what_the_header_names(word: str) -> None:
    script = Recorded(word)
    revivals, shard = bound(script)
    assert await revivals.revive(Payment()) == word
    header = read_header("revive_order")
    sale = "{s3}:sale:7"
    assert script.keys == ["{s3}:shard", sale, f"{sale}:units", f"{sale}:late", "{s3}:stream"]
    assert script.args == [1, 7, 12, 2, "vw_1", 3, "ord_1"]
    assert (len(script.keys) + 1, len(script.args) + 3) == (header.keys, header.args)
    assert shard.seq_seen == 6


async def test_the_binding_names_the_claim_that_the_order_redeems() -> None:
    script = Recorded("revived")
    revivals, _ = bound(script)
    await revivals.revive(Payment(claim=ClaimPlace(1_000_000, 31, 2, 8), holder="2:9"))
    header = read_header("revive_order")
    assert (len(script.keys), len(script.args)) == (header.keys, header.args)
    assert (script.keys[5], script.args[7:]) == ("{s3}:coupon:31:claims", ["2|8", "2:9", 0])


async def test_the_numbers_of_another_epoch_are_not_taken_for_those_of_this_one() -> None:
    revivals, shard = bound(Recorded("epoch", epoch=2))
    await revivals.revive(Payment())
    assert shard.seq_seen == 4


# What a revival takes.


def test_it_takes_units_that_are_sold_at_once(shard: LuaShard) -> None:
    expired(shard, quantity=2)
    assert shard.revive(5, quantity=2, order_id="ord_x") == ("revived", 1, 2)
    assert (shard.left(), shard.held()) == (8, 0)
    assert shard.units() == {"vw_1|1": "2"}
    assert shard.late() == {"5": "1|2"}
    assert shard.facts()["seq"] == "2"
    # The order's key goes on answering with the order.
    assert list(shard.answers()) == ["vw_1|vw_1.old"]


def test_its_entry_is_what_the_writer_reads(shard: LuaShard) -> None:
    expired(shard, quantity=2)
    shard.revive(5, quantity=2, order_id="ord_x")
    id, fields = shard.valkey.xrange(shard.keys.stream)[-1]
    entry: Any = entries.decode(fields[b"o"])
    assert id == b"1-2"
    assert entry == entries.LateEntry(
        sale_no=SALE, at_ms=entry.at_ms, seq=2, payment_no=5, item_no=1, viewer="vw_1", quantity=2, order_id="ord_x"
    )
    assert 0 <= shard.now_ms() - entry.at_ms < MINUTE_MS
    assert (entry.first, entry.last) == (2, 2)


def test_a_payment_takes_units_once_however_often_it_asks(shard: LuaShard) -> None:
    first = shard.revive(5)
    shard.place(order("vw_2"))
    before = shard.everything()
    for _ in range(3):
        assert shard.revive(5) == ("replayed", 1, first[2])
    assert shard.everything() == before


def test_an_answer_holds_also_when_nothing_is_left_or_the_limit_is_full_by_now(shard: LuaShard) -> None:
    shard.revive(5)
    shard.place(order("vw_1", "more"))
    shard.act("stock", item=1, value=-8)
    assert shard.left() == 0
    assert shard.revive(5)[0] == "replayed"


def test_each_payment_is_decided_for_itself(shard: LuaShard) -> None:
    shard.load([(1, 100, 1, 1)], sale_no=8)
    assert shard.revive(5, sale_no=8)[0] == "revived"
    assert shard.revive(6, sale_no=8)[0] == "limit_reached"
    assert shard.revive(7, viewer="vw_2", sale_no=8)[0] == "sold_out"
    assert shard.late(8) == {"5": "1|1"}


def test_a_no_is_not_remembered(shard: LuaShard) -> None:
    shard.load([(1, 100, 1, 1)], sale_no=8)
    shard.place(order("vw_2"), sale_no=8)
    before = shard.everything()
    assert shard.revive(5, sale_no=8) == ("sold_out", 1, 1)
    assert shard.everything() == before
    shard.release([1, 8, 1, "vw_2", "k1", 1, 1, 1, "release"], sales=(8,))
    assert shard.revive(5, sale_no=8) == ("revived", 1, 2)


@pytest.mark.parametrize("how", ["paused", "closed", "over", "not begun", "not trusted"])
def test_a_sale_need_not_be_open_any_more(shard: LuaShard, how: str) -> None:
    windows: dict[str, dict[str, Any]] = {
        "paused": {"hold": "paused"},
        "closed": {"hold": "closed"},
        "over": {"opens_in_ms": -2 * MINUTE_MS, "closes_in_ms": -MINUTE_MS},
        "not begun": {"opens_in_ms": MINUTE_MS},
        "not trusted": {},
    }
    shard.load(sale_no=8, **windows[how])
    if how == "not trusted":
        shard.valkey.hset(shard.keys.shard, "opens_up_to", 1)
    assert shard.place(order("vw_2"), sale_no=8).words != ["reserved"]
    assert shard.revive(5, sale_no=8)[0] == "revived"


def test_the_next_group_goes_on_behind_it_and_sees_its_units(shard: LuaShard) -> None:
    shard.load([(1, 100, 2, 3)], sale_no=8)
    shard.revive(5, quantity=2, sale_no=8)
    placed = shard.place(order("vw_1", "k2"), order("vw_2", "k3"), order("vw_3", "k4"), sale_no=8)
    # What is paid does not come back by itself: nothing is held but the order of this group.
    assert placed.answers == [["limit_reached"], ["reserved", 2, 100], ["sold_out", 0, 1]]
    assert [entry.id for entry in shard.stream()] == ["1-1", "1-2"]


def test_what_the_ledger_does_not_take_comes_back_and_the_payment_stays_decided(shard: LuaShard) -> None:
    shard.revive(5)
    assert shard.release([1, SALE, 1, "vw_1", "", 1, 1, 1, "return"]) == ("released", 1)
    assert (shard.left(), shard.held(), shard.units()) == (10, 0, {})
    assert shard.revive(5)[0] == "replayed"


# Nothing is written for a no, and nothing after the first write can fail.


@pytest.mark.parametrize("word", sorted(set(WORDS) - {"revived"}))
def test_every_word_but_revived_writes_nothing(shard: LuaShard, word: str) -> None:
    WORDS[word](shard)
    before = shard.everything()
    more: dict[str, Any] = {
        "epoch": {"epoch": 2},
        "unloaded": {"sale_no": 99},
        "coupon_unusable": {"claim": (COUPON, "1|9"), "holder": "1:1"},
        "waits": {"claim": (COUPON, "1|1"), "holder": "1:2"},
    }.get(word, {})
    assert shard.revive(**more)[0] == word
    assert shard.everything() == before


def test_a_shard_that_is_shut_gives_nothing(shard: LuaShard) -> None:
    shard.revive(5)
    shard.valkey.hset(shard.keys.shard, "open", 0)
    before = shard.everything()
    assert shard.revive(5) == ("epoch", 1, 1)
    assert shard.revive(6) == ("epoch", 1, 1)
    assert shard.everything() == before


def test_an_empty_server_gives_nothing(new_shard: LuaShard) -> None:
    assert new_shard.revive() == ("epoch", 0, 0)
    assert new_shard.everything() == {}


def test_a_payment_of_an_earlier_epoch_stays_decided(shard: LuaShard) -> None:
    """Counters that went on into the next epoch have its units taken already."""
    shard.revive(5)
    shard.valkey.hset(shard.keys.shard, mapping={"epoch": 2, "seq": 0})
    assert shard.revive(5, epoch=2) == ("replayed", 2, 0), "a number of epoch 1 would pass for one of this epoch"
    assert shard.left() == 9


@pytest.mark.parametrize("which", ["shard", "sale", "units", "late", "stream"])
def test_a_key_of_the_wrong_type_is_an_error_before_any_write(shard: LuaShard, which: str) -> None:
    keys = shard.keys
    names = {"shard": keys.shard, "sale": keys.sale(SALE), "units": keys.units(SALE), "late": keys.late(SALE)}
    name = {**names, "stream": keys.stream}[which]
    shard.valkey.delete(name)
    shard.valkey.set(name, "no hash, no stream")
    before = shard.everything()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        shard.revive()
    assert shard.everything() == before


# An order that redeems a claim.


def _expired_with_claim(shard: LuaShard) -> LuaCoupons:
    """An order of vw_1 with the claim 1|1, decided as 1:2, expired and given back."""
    coupons = LuaCoupons(shard)
    coupons.load()
    coupons.claim(claim("vw_1", "a"))
    assert shard.place(order("vw_1", "k1", claim=(COUPON, "1|1"))).words == ["reserved"]
    row = [1, SALE, 1, "vw_1", "k1", 1, 2, 1, "release", COUPON, "1|1"]
    assert shard.release(row) == ("released", 1)
    return coupons


def test_a_revived_order_holds_its_claim_again(shard: LuaShard) -> None:
    coupons = _expired_with_claim(shard)
    assert shard.revive(claim=(COUPON, "1|1"), holder="1:2") == ("revived", 1, 3)
    assert coupons.claims() == {"1|1": (500, "1:2", "vw_1")}
    assert shard.place(order("vw_1", "k2", claim=(COUPON, "1|1"))).words == ["coupon_unusable"]
    assert shard.revive(claim=(COUPON, "1|1"), holder="1:2")[0] == "replayed"


def test_an_order_whose_claim_another_one_redeems_does_not_come_back(shard: LuaShard) -> None:
    coupons = _expired_with_claim(shard)
    shard.place(order("vw_1", "k2", claim=(COUPON, "1|1")))
    before = shard.everything()
    assert shard.revive(claim=(COUPON, "1|1"), holder="1:2")[0] == "coupon_unusable"
    assert shard.everything() == before
    assert coupons.claims()["1|1"].holder == "1:3"


def test_a_claim_of_somebody_else_brings_no_order_back(shard: LuaShard) -> None:
    _expired_with_claim(shard)
    assert shard.revive(viewer="vw_2", claim=(COUPON, "1|1"), holder="1:2")[0] == "coupon_unusable"


def test_a_sale_that_left_has_nothing_to_count_and_its_orders_claim_is_taken_all_the_same(shard: LuaShard) -> None:
    """A coupon may outlive a sale; what the ledger redeems again must not be free here."""
    coupons = _expired_with_claim(shard)
    shard.valkey.delete(shard.keys.sale(SALE), shard.keys.units(SALE), shard.keys.answers(SALE))
    named = {"claim": (COUPON, "1|1"), "holder": "1:2"}
    assert shard.revive(**named)[0] == "unloaded", "one that is missing did not leave"
    assert shard.revive(**named, retired=True) == ("revived", 1, 3)
    assert coupons.claims() == {"1|1": (500, "1:2", "vw_1")}
    assert not shard.valkey.exists(shard.keys.sale(SALE), shard.keys.units(SALE), shard.keys.late(SALE))
    assert shard.revive(**named, retired=True)[0] == "waits", "it is taken once"
    assert [entry.id for entry in shard.stream()][-1] == "1-3"
    shard.release([2, SALE, 1, "vw_1", "", 1, 2, 1, "return", COUPON, "1|1"])
    assert coupons.claims()["1|1"].holder == ""


def test_a_sale_that_left_brings_no_order_back_without_a_claim_to_take(shard: LuaShard) -> None:
    assert shard.revive(sale_no=99, retired=True)[0] == "unloaded"


def test_money_waits_until_the_end_of_its_order_is_known_here(shard: LuaShard) -> None:
    """Else the row that tells the end would free the claim of an order that was paid."""
    coupons = LuaCoupons(shard)
    coupons.load()
    coupons.claim(claim("vw_1", "a"))
    shard.place(order("vw_1", "k1", claim=(COUPON, "1|1")))
    assert shard.revive(claim=(COUPON, "1|1"), holder="1:2")[0] == "waits"
    shard.release([1, SALE, 1, "vw_1", "k1", 1, 2, 1, "release", COUPON, "1|1"])
    assert shard.revive(claim=(COUPON, "1|1"), holder="1:2")[0] == "revived"
    assert coupons.claims()["1|1"].holder == "1:2"


def test_a_revival_that_the_ledger_did_not_take_lets_go_of_the_claim(shard: LuaShard) -> None:
    coupons = _expired_with_claim(shard)
    shard.revive(claim=(COUPON, "1|1"), holder="1:2")
    shard.release([2, SALE, 1, "vw_1", "", 1, 2, 1, "return", COUPON, "1|1"])
    assert coupons.claims()["1|1"].holder == ""
    assert (shard.left(), shard.held()) == (10, 0)
