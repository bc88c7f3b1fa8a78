from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from redis.exceptions import ResponseError

from gateway.errors import ShardClosed
from gateway.hot.releases import HotReleases, Release
from gateway.hot.shard import HotShard
from tests.support.lua_shard import SALE, LuaShard, order, read_header


def row(
    no: int,
    kind: str = "refuse",
    *,
    viewer: str = "vw_1",
    key: str = "k1",
    seq: int = 1,
    quantity: int = 1,
    sale_no: int = SALE,
    item: int = 1,
    epoch: int = 1,
) -> list[Any]:
    return [no, sale_no, item, viewer, key, epoch, seq, quantity, kind]


KINDS = ("refuse", "release", "paid", "return")


WORDS: dict[str, Callable[[LuaShard], tuple[str, int]]] = {
    "released": lambda shard: shard.release(row(1)),
    "gap": lambda shard: shard.release(row(2)),
    "epoch": lambda shard: shard.release(row(1), epoch=2),
}


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_header_is_reached(shard: LuaShard, word: str) -> None:
    shard.place(order())
    assert WORDS[word](shard)[0] == word


def test_the_words_of_the_header_are_those_that_are_tested() -> None:
    assert read_header("release_orders").words == [set(WORDS)]


class Recorded:
    def __init__(self, word: str) -> None:
        self.word = word
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return [self.word.encode(), 6]


@pytest.mark.parametrize("word", WORDS)
async def test_the_binding_reads_every_word_and_passes_three_keys_a_sale(word: str) -> None:
    scripts: Any = Recorded(word)
    client: Any = None
    releases = HotReleases(shard=HotShard(shard=3, client=client, scripts=scripts), scripts=scripts)
    rows = [Release(no, sale_no, 1, "vw_1", "k1", 1, no, 1, "release") for no, sale_no in ((5, 7), (6, 8), (7, 7))]
    if word == "released":
        assert await releases.apply(rows) == 6
    else:
        with pytest.raises(ShardClosed, match=word):
            await releases.apply(rows)
    header = read_header("release_orders")
    assert len(scripts.args) == header.args
    spelled = SpelledKeys(3)
    assert scripts.keys == [spelled.shard, *spelled.of(7), *spelled.of(8)]
    assert msgpack.unpackb(scripts.args[1]) == [
        [5, 2, 1, "vw_1", "k1", 1, 5, 1, "release"],
        [6, 5, 1, "vw_1", "k1", 1, 6, 1, "release"],
        [7, 2, 1, "vw_1", "k1", 1, 7, 1, "release"],
    ]


class SpelledKeys:
    """The keys as they stand in Valkey, spelled out once more: a change of spelling loses every running sale."""

    def __init__(self, shard: int) -> None:
        self.shard = f"{{s{shard}}}:shard"
        self._tag = f"{{s{shard}}}"

    def of(self, sale_no: int) -> list[str]:
        sale = f"{self._tag}:sale:{sale_no}"
        return [sale, f"{sale}:answers", f"{sale}:units"]


# What each kind does.


@pytest.mark.parametrize(
    ("kind", "left", "held", "units", "answers"),
    [
        ("refuse", 10, 0, {}, []),
        ("release", 10, 0, {}, ["vw_1|k1"]),
        ("paid", 8, 0, {"vw_1|1": "2"}, ["vw_1|k1"]),
        ("return", 10, 2, {}, ["vw_1|k1"]),
    ],
)
def test_each_kind_moves_the_units_that_it_is_about(
    shard: LuaShard, kind: str, left: int, held: int, units: dict[str, str], answers: list[str]
) -> None:
    shard.place(order("vw_1", "k1", quantity=2))
    assert shard.release(row(1, kind, quantity=2)) == ("released", 1)
    assert (shard.left(), shard.held()) == (left, held)
    assert shard.units() == units
    assert list(shard.answers()) == answers
    assert shard.sale()["1:stock"] == "10"
    assert shard.facts() == {"epoch": "1", "seq": "1", "applied": "0", "released": "1", "open": "1"}


def test_the_key_of_a_refused_order_asks_anew(shard: LuaShard) -> None:
    shard.place(order("vw_1", "k1", quantity=2))
    shard.release(row(1, "refuse", quantity=2))
    assert shard.place(order("vw_1", "k1", quantity=2)).answers == [["reserved", 2, 1900]]


@pytest.mark.parametrize("kind", ["release", "return"])
def test_the_key_of_an_order_that_ended_still_answers_and_another_key_buys_again(shard: LuaShard, kind: str) -> None:
    first = shard.place(order("vw_1", "k1", quantity=2))
    if kind == "return":
        shard.release(row(1, "paid", quantity=2))
    shard.release(row(2 if kind == "return" else 1, kind, quantity=2))
    assert (shard.left(), shard.held()) == (10, 0)
    again = shard.place(order("vw_1", "k1", quantity=2), order("vw_1", "k2", quantity=2))
    assert again.answers == [["replayed", 1, 1, first.now_ms, 1900], ["reserved", 2, 1900]]


def test_a_paid_order_still_counts_for_the_limit_and_its_units_may_not_return(shard: LuaShard) -> None:
    shard.load([(1, 100, 2, 2)], sale_no=8)
    shard.place(order("vw_1", quantity=2), sale_no=8)
    assert shard.place(order("vw_2", quantity=1), sale_no=8).answers == [["sold_out", 0, 1]]
    shard.release(row(1, "paid", quantity=2, sale_no=8), sales=(8,))
    assert shard.place(order("vw_1", "k2"), sale_no=8).words == ["limit_reached"]
    assert shard.place(order("vw_2", quantity=1), sale_no=8).answers == [["sold_out", 0, 0]]


def test_one_call_mixes_kinds_also_of_one_viewer_and_item(shard: LuaShard) -> None:
    shard.load([(1, 100, 9, 20)], sale_no=8)
    shard.place(*(order("vw_1", f"k{at}") for at in range(1, 6)), order("vw_2", quantity=3), sale_no=8)
    rows = [
        row(1, "refuse", key="k1", seq=1),
        row(2, "release", key="k2", seq=2),
        row(3, "paid", key="k3", seq=3),
        row(4, "paid", key="k4", seq=4),
        row(5, "return", key="k3", seq=3),
        row(6, "paid", viewer="vw_2", seq=6, quantity=3),
        row(7, "return", viewer="vw_2", seq=6, quantity=3),
    ]
    rows = [[no, 8, *rest] for no, _, *rest in rows]
    assert shard.release(*rows, sales=(8,)) == ("released", 7)
    # Of vw_1 k4 is paid and k5 still held; all of vw_2 came back.
    assert (shard.left(1, 8), shard.held(1, 8)) == (18, 1)
    assert shard.units(8) == {"vw_1|1": "2"}
    assert set(shard.answers(8)) == {"vw_1|k2", "vw_1|k3", "vw_1|k4", "vw_1|k5", "vw_2|k1"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_one_by_one_or_among_others_has_the_same_effect(shard: LuaShard, kind: str) -> None:
    for sale_no in (8, 9):
        shard.load([(1, 100, 9, 20)], sale_no=sale_no)
        shard.place(order("vw_1", "k1", quantity=2), order("vw_1", "k2", quantity=3), sale_no=sale_no)
    one, two = row(1, kind, quantity=2, sale_no=8), row(2, kind, key="k2", seq=2, quantity=3, sale_no=8)
    shard.release(one, sales=(8,))
    shard.release(two, sales=(8,))
    both = [[3, 9, 1, "vw_1", "k1", 1, 3, 2, kind], [4, 9, 1, "vw_1", "k2", 1, 4, 3, kind]]
    shard.release(*both, sales=(9,))
    counts = [{name: shard.sale(no)[name] for name in ("1:left", "1:held")} for no in (8, 9)]
    assert counts[0] == counts[1]
    assert shard.units(8) == shard.units(9)
    assert list(shard.answers(8)) == list(shard.answers(9))


def test_only_the_order_that_holds_a_key_frees_it(shard: LuaShard) -> None:
    shard.place(order("vw_1", "k1"))
    assert shard.release(row(1, key="k1", seq=9)) == ("released", 1)
    assert list(shard.answers()) == ["vw_1|k1"]
    assert shard.place(order("vw_1", "k1")).words == ["replayed"]


def test_an_order_of_another_epoch_with_the_same_number_frees_no_key(shard: LuaShard) -> None:
    shard.place(order("vw_1", "k1"))
    shard.release(row(1, epoch=2))
    assert list(shard.answers()) == ["vw_1|k1"]


def test_the_other_units_of_the_viewer_stay(shard: LuaShard) -> None:
    shard.place(order("vw_1", "k1"), order("vw_1", "k2"))
    shard.release(row(1, key="k2", seq=2))
    assert shard.units() == {"vw_1|1": "1"}
    assert shard.place(order("vw_1", "k3", quantity=2)).words == ["limit_reached"]


def test_an_order_without_a_key_gives_back_its_units(shard: LuaShard) -> None:
    shard.place(order("vw_1", "k1"))
    assert shard.release(row(1, key="")) == ("released", 1)
    assert (shard.left(), shard.held()) == (10, 0)


def test_rows_of_several_sales_and_items_are_released_in_one_call(shard: LuaShard) -> None:
    shard.load([(1, 100, 5, 5), (2, 200, 5, 5)], sale_no=8)
    shard.place(order("vw_1", "k1"))
    shard.place(order("vw_1", "k1", item=1, quantity=2), order("vw_2", "k2", item=2, quantity=3), sale_no=8)
    released = shard.release(
        row(1),
        row(2, sale_no=8, seq=2, quantity=2),
        row(3, sale_no=8, item=2, viewer="vw_2", key="k2", seq=3, quantity=3),
        sales=(SALE, 8),
    )
    assert released == ("released", 3)
    assert (shard.left(), shard.left(1, 8), shard.left(2, 8)) == (10, 5, 5)
    assert (shard.held(), shard.held(1, 8), shard.held(2, 8)) == (0, 0, 0)


def test_a_sale_that_was_retired_is_passed_over(shard: LuaShard) -> None:
    shard.place(order("vw_1", "k1"))
    assert shard.release(row(1, sale_no=99), row(2), sales=(99, SALE)) == ("released", 2)
    assert shard.left() == 10
    assert not shard.valkey.exists(shard.keys.sale(99), shard.keys.units(99), shard.keys.answers(99))


# Each row exactly once.


def test_a_repeat_of_rows_changes_nothing(shard: LuaShard) -> None:
    shard.place(order("vw_1"), order("vw_2"), order("vw_3"))
    rows = [row(no, viewer=f"vw_{no}", seq=no) for no in (1, 2)]
    shard.release(*rows)
    before = shard.everything()
    assert shard.release(*rows) == ("released", 2)
    assert shard.release(rows[1]) == ("released", 2)
    assert shard.everything() == before
    assert shard.release(*rows, row(3, viewer="vw_3", seq=3)) == ("released", 3)
    assert (shard.left(), shard.held()) == (10, 0)


def test_rows_that_overlap_what_is_applied_add_only_what_is_new(shard: LuaShard) -> None:
    shard.place(order("vw_1", quantity=2), order("vw_2"), order("vw_3"))
    rows = [
        row(1, "paid", quantity=2),
        row(2, "release", viewer="vw_2", seq=2),
        row(3, "return", quantity=2),
        row(4, "refuse", viewer="vw_3", seq=3),
    ]
    assert shard.release(*rows[:2]) == ("released", 2)
    # The reply was lost, and more was added to the outbox since.
    assert shard.release(*rows[:3]) == ("released", 3)
    assert shard.release(*rows[1:]) == ("released", 4)
    before = shard.everything()
    assert shard.release(*rows) == ("released", 4)
    assert shard.everything() == before
    assert (shard.left(), shard.held()) == (10, 0)
    assert shard.units() == {}
    assert list(shard.answers()) == ["vw_1|k1", "vw_2|k1"]


def test_rows_behind_a_gap_are_refused_and_nothing_is_written(shard: LuaShard) -> None:
    shard.place(order("vw_1"), order("vw_2"))
    shard.release(row(1))
    before = shard.everything()
    assert shard.release(row(3, viewer="vw_2", seq=2)) == ("gap", 1)
    assert shard.everything() == before


def test_another_epoch_writes_nothing(shard: LuaShard) -> None:
    shard.place(order())
    before = shard.everything()
    assert shard.release(row(1), epoch=2) == ("epoch", 0)
    assert shard.everything() == before


def test_no_rows_change_nothing_that_is_counted(shard: LuaShard) -> None:
    assert shard.release() == ("released", 0)


def test_five_hundred_rows_over_many_sales_are_released_in_one_call(shard: LuaShard) -> None:
    sales = tuple(range(10, 60))
    for sale_no in sales:
        shard.load([(1, 100, 10, 10)], sale_no=sale_no)
        shard.place(*(order(f"vw_{at}", f"k{at}") for at in range(10)), sale_no=sale_no)
    rows = [
        row(at + 1, sale_no=sales[at // 10], viewer=f"vw_{at % 10}", key=f"k{at % 10}", seq=at + 1) for at in range(500)
    ]
    assert shard.release(*rows, sales=sales) == ("released", 500)
    assert {shard.left(1, sale_no) for sale_no in sales} == {10}
    assert all(shard.answers(sale_no) == {} for sale_no in sales)


@pytest.mark.parametrize("which", ["shard", "sale", "answers", "units"])
@pytest.mark.parametrize("place", ["first", "second"])
def test_a_key_of_the_wrong_type_is_an_error_before_any_write(shard: LuaShard, which: str, place: str) -> None:
    """Whatever is written before the error would be given back once more by the repeat."""
    shard.load(sale_no=8)
    shard.place(order("vw_1"))
    shard.place(order("vw_1"), sale_no=8)
    broken = SALE if place == "first" else 8
    name = {
        "shard": shard.keys.shard,
        "sale": shard.keys.sale(broken),
        "answers": shard.keys.answers(broken),
        "units": shard.keys.units(broken),
    }[which]
    shard.valkey.delete(name)
    shard.valkey.set(name, "no hash")
    before = shard.everything()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        shard.release(row(1), row(2, sale_no=8, seq=2), sales=(SALE, 8))
    assert shard.everything() == before
