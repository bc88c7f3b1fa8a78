from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.batch import OrderColumns
from gateway.domain.ids import IdMint
from gateway.wire.entries import ActEntry, EntryOrder, OrdersEntry
from gateway.writer.batch import ActStep, GapStep, OrdersStep, Step, fold

MINT = IdMint(b"k" * 32)
Entries = list[OrdersEntry | ActEntry]


def orders(first: int, count: int, *, sale_no: int = 7, at_ms: int = 1_000) -> OrdersEntry:
    rows = [EntryOrder(f"vw_{seq}", f"k{seq}", "f", 1, 2, 1900, "") for seq in range(first, first + count)]
    return OrdersEntry(sale_no, at_ms, first, rows)


def act(seq: int) -> ActEntry:
    return ActEntry(7, 1_000, seq, "pause", 0, 0, "host_1", "stock", "", "")


def steps_of(entries: Entries, *, after: int = 0, most: int = 100) -> list[Step]:
    return list(fold(entries, epoch=1, after=after, most=most, mint=MINT))


def ranges(steps: list[Step]) -> list[tuple[str, int, int]]:
    return [("orders" if isinstance(step, OrdersStep) else "act", step.after, step.last) for step in steps]


def test_nothing_folds_to_no_step() -> None:
    assert steps_of([]) == []


def test_groups_in_a_row_are_one_step() -> None:
    (step,) = steps_of([orders(6, 3), orders(9, 1), orders(10, 2)], after=5)
    assert isinstance(step, OrdersStep)
    assert (step.after, step.last, len(step)) == (5, 11, 6)
    assert step.orders.seqs == list(range(6, 12))


def test_an_act_is_a_step_of_its_own_between_the_orders_around_it() -> None:
    steps = steps_of([orders(1, 2), act(3), act(4), orders(5, 1)])
    assert ranges(steps) == [("orders", 0, 2), ("act", 2, 3), ("act", 3, 4), ("orders", 4, 5)]


def test_a_step_is_closed_once_it_is_full_and_never_cuts_an_entry() -> None:
    steps = steps_of([orders(1, 3), orders(4, 3), orders(7, 3), orders(10, 1)], most=4)
    assert ranges(steps) == [("orders", 0, 6), ("orders", 6, 10)]


def test_every_column_of_an_order_is_what_its_entry_says() -> None:
    entry = OrdersEntry(
        9,
        1_800_000_000_000,
        4,
        [
            EntryOrder("vw_1", "k1", "1.2.-1", 3, 2, 1900, '{"ref":"r"}'),
            EntryOrder("vw_2", "k2", "1.1.-1", 1, 1, 500, ""),
        ],
    )
    (step,) = fold([entry], epoch=2, after=3, most=100, mint=MINT)
    assert isinstance(step, OrdersStep)
    assert step.orders == OrderColumns(
        seqs=[4, 5],
        sales=[9, 9],
        items=[3, 1],
        order_ids=[MINT.order(1_800_000_000_000, 9, 2, 4), MINT.order(1_800_000_000_000, 9, 2, 5)],
        viewers=["vw_1", "vw_2"],
        keys=["k1", "k2"],
        fingerprints=["1.2.-1", "1.1.-1"],
        quantities=[2, 1],
        prices=[1900, 500],
        at_ms=[1_800_000_000_000, 1_800_000_000_000],
        extras=['{"ref":"r"}', None],
    )


@pytest.mark.parametrize(
    ("entries", "after", "missing"),
    [
        ([orders(2, 1)], 0, (0, 2)),
        ([orders(1, 2), orders(4, 1)], 0, (2, 4)),
        ([act(1), act(3)], 0, (1, 3)),
        ([orders(1, 2), act(4)], 0, (2, 4)),
        ([act(7)], 5, (5, 7)),
    ],
)
def test_a_missing_number_is_a_gap_that_says_where(entries: Entries, after: int, missing: tuple[int, int]) -> None:
    (gap,) = [step for step in steps_of(entries, after=after) if isinstance(step, GapStep)]
    assert (gap.after, gap.last + 1) == missing


def test_what_stands_around_a_gap_is_folded_and_the_steps_are_without_a_hole() -> None:
    steps = steps_of([orders(1, 2), orders(9, 1), orders(10, 2), act(15)])
    assert [(type(step).__name__, step.after, step.last) for step in steps] == [
        ("OrdersStep", 0, 2),
        ("GapStep", 2, 8),
        ("OrdersStep", 8, 11),
        ("GapStep", 11, 14),
        ("ActStep", 14, 15),
    ]
    assert isinstance(steps[2], OrdersStep) and steps[2].orders.seqs == [9, 10, 11]


def test_what_the_ledger_has_already_is_left_out_also_inside_an_entry() -> None:
    """A batch that was bisected commits in parts, so the cursor may stand in the middle of an entry."""
    steps = steps_of([orders(1, 2), act(3), orders(4, 5), orders(9, 1)], after=6)
    assert ranges(steps) == [("orders", 6, 9)]
    (step,) = steps
    assert isinstance(step, OrdersStep)
    assert step.orders.seqs == [7, 8, 9]
    assert step.orders.viewers == ["vw_7", "vw_8", "vw_9"]
    assert step.orders.order_ids == [MINT.order(1_000, 7, 1, seq) for seq in (7, 8, 9)]
    assert steps_of([orders(1, 2), act(3)], after=3) == []


sizes = st.lists(st.integers(0, 5), min_size=1, max_size=20)


@given(sizes, st.integers(1, 12), st.integers(0, 1_000))
def test_steps_cover_every_sequence_number_once_and_in_order(sizes: list[int], most: int, after: int) -> None:
    entries: Entries = []
    at = after
    for size in sizes:
        entries.append(orders(at + 1, size) if size else act(at + 1))
        at = entries[-1].last
    covered = []
    for step in steps_of(entries, after=after, most=most):
        assert step.after == (covered[-1] if covered else after)
        if isinstance(step, OrdersStep):
            assert 1 <= len(step) < most + 5
            assert step.orders.seqs == list(range(step.after + 1, step.last + 1))
            columns = [each.name for each in fields(step.orders) if each.name != "claims"]
            assert {len(getattr(step.orders, name)) for name in columns} == {len(step)}
        else:
            assert isinstance(step, ActStep)
        covered += range(step.after + 1, step.last + 1)
    assert covered == list(range(after + 1, at + 1))


@given(sizes, st.integers(0, 60))
def test_from_any_place_of_the_stream_on_each_number_is_taken_once(sizes: list[int], cursor: int) -> None:
    entries: Entries = []
    at = 0
    for size in sizes:
        entries.append(orders(at + 1, size) if size else act(at + 1))
        at = entries[-1].last
    taken = [seq for step in steps_of(entries, after=cursor) for seq in range(step.after + 1, step.last + 1)]
    assert taken == list(range(cursor + 1, at + 1))


@given(st.integers(2, 40), st.integers(0, 100))
def test_halves_are_the_whole_without_a_gap_down_to_single_orders(count: int, after: int) -> None:
    (whole,) = steps_of([orders(after + 1, count)], after=after)
    assert isinstance(whole, OrdersStep)
    waiting, singles = [whole], []
    while waiting:
        step = waiting.pop()
        if len(step) == 1:
            singles.append(step)
            continue
        first, second = step.halves()
        assert (first.after, first.last, second.last) == (step.after, second.after, step.last)
        assert first.orders.seqs + second.orders.seqs == step.orders.seqs
        waiting += [second, first]
    assert [(single.after + 1, single.last) for single in singles] == [
        (seq, seq) for seq in range(after + 1, after + count + 1)
    ]
    assert [single.orders.viewers for single in singles] == [[viewer] for viewer in whole.orders.viewers]
