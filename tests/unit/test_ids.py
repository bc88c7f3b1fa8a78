import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.ids import ClaimPlace, IdMint, OrderPlace
from gateway.domain.order import KEY_PATTERN

MINT = IdMint(b"k" * 32)

instants_ms = st.integers(0, 2**48 - 1)
numbers = st.integers(0, 2**32 - 1)
epochs = st.integers(1, 2**16 - 1)
places = st.tuples(instants_ms, numbers, epochs, numbers)


@given(places)
def test_an_order_id_says_the_place_it_was_made_for(place: tuple[int, int, int, int]) -> None:
    order = MINT.order(*place)
    assert len(order) == 28
    assert MINT.read_order(order) == OrderPlace(*place)


@given(places)
def test_an_order_id_may_be_an_idempotency_key(place: tuple[int, int, int, int]) -> None:
    assert re.match(KEY_PATTERN, MINT.order(*place))


@given(places)
def test_a_claim_id_says_the_place_it_was_made_for_and_is_no_order_id(place: tuple[int, int, int, int]) -> None:
    claim = MINT.claim(*place)
    assert len(claim) == 28
    assert MINT.read_claim(claim) == ClaimPlace(*place)
    assert MINT.read_order(claim) is None
    assert MINT.read_claim(MINT.order(*place)) is None


@given(instants_ms, numbers)
def test_a_coupon_id_says_its_number_and_is_no_sale_id(at_ms: int, number: int) -> None:
    coupon = MINT.coupon(at_ms, number)
    assert MINT.read_coupon(coupon) == number
    assert MINT.read_sale(coupon) is None
    assert MINT.read_coupon(f"{coupon}0") is None


@given(instants_ms, numbers)
def test_a_sale_id_and_a_room_id_say_their_number(at_ms: int, number: int) -> None:
    assert MINT.read_sale(MINT.sale(at_ms, number)) == number
    assert MINT.read_room(MINT.room(at_ms, number)) == number


@given(places, places)
def test_order_ids_sort_by_time_then_sale_then_epoch_then_sequence_number(
    one: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    if one != other:
        assert (MINT.order(*one) < MINT.order(*other)) == (one < other)


@given(st.lists(st.tuples(instants_ms, numbers), min_size=2, unique=True))
def test_sale_ids_and_room_ids_sort_by_time_then_number(made: list[tuple[int, int]]) -> None:
    assert sorted(MINT.sale(*each) for each in made) == [MINT.sale(*each) for each in sorted(made)]
    assert sorted(MINT.room(*each) for each in made) == [MINT.room(*each) for each in sorted(made)]


def test_ids_sort_as_their_bytes_do_so_that_a_database_sorts_them_the_same_way() -> None:
    made = [MINT.order(at_ms, 1, 1, 1) for at_ms in range(0, 2**48, 2**43 + 12345)]
    assert made == sorted(made, key=lambda each: each.encode("ascii"))


@given(places, st.integers(4, 27), st.characters(codec="ascii"))
def test_an_id_with_one_character_changed_is_none_of_ours_or_one_in_many(
    place: tuple[int, int, int, int], at: int, character: str
) -> None:
    order = MINT.order(*place)
    forged = order[:at] + character + order[at + 1 :]
    read = MINT.read_order(forged)
    # Two bytes of check: a change is found but for one in 65,536, and what is then read is another place.
    assert forged == order or read is None or read != OrderPlace(*place)


def test_forged_ids_are_refused_but_for_what_two_bytes_of_check_let_through() -> None:
    order = MINT.order(1_800_000_000_000, 7, 1, 1)
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
    forged = [order[:at] + one + order[at + 1 :] for at in range(4, 28) for one in alphabet if one != order[at]]
    assert len(forged) == 24 * 63
    assert sum(MINT.read_order(each) is not None for each in forged) <= 2


def test_an_installation_does_not_read_the_ids_of_another() -> None:
    other = IdMint(b"o" * 32)
    made = [MINT.order(1_800_000_000_000 + at, 7, 1, 1) for at in range(100)]
    assert [other.read_order(each) for each in made].count(None) >= 99


ORDER = MINT.order(1_800_000_000_000, 7, 1, 1)
SALE = MINT.sale(1_800_000_000_000, 7)
ROOM = MINT.room(1_800_000_000_000, 7)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ord_",
        ORDER[:-1],
        ORDER + "0",
        ORDER + "\n",
        " " + ORDER[1:],
        ORDER.upper(),
        "sale_" + ORDER[4:],
        "ord_" + "é" * 24,
        "ord_" + "=" * 24,
        "ord_" + "\x00" * 24,
        "ord_" + "-" * 24,
        "ord_" + "\ud800" * 24,
        "ord_" + ORDER[4:-4] + "====",
        SALE,
        ROOM,
    ],
)
def test_what_is_no_order_id_is_read_as_none(text: str) -> None:
    assert MINT.read_order(text) is None


def test_a_kind_of_id_is_not_read_as_another() -> None:
    assert MINT.read_sale(ORDER) is None
    assert MINT.read_room(ORDER) is None
    assert MINT.read_sale(ROOM) is None
    assert MINT.read_room(SALE) is None


@given(st.text(max_size=40))
def test_any_text_is_read_without_an_error(text: str) -> None:
    MINT.read_order(text)
    MINT.read_order("ord_" + text)
    MINT.read_sale("sale_" + text)
    MINT.read_room("room_" + text)
