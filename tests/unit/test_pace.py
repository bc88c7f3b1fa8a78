import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import pace as pace_module
from gateway.admission.pace import Pace, Turn


@pytest.fixture(autouse=True)
def _no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace_module.random, "uniform", lambda low, high: 1_000.0)


def test_at_an_open_door_nobody_waits() -> None:
    pace = Pace(rate=10)
    assert [pace.take(100.0 + at) for at in range(5)] == [Turn()] * 5


def test_who_comes_together_enters_one_after_the_other_at_the_rate() -> None:
    pace = Pace(rate=10)
    waits = [pace.take(100.0).wait_s for _ in range(5)]
    assert waits == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert pace.take(100.25).wait_s == pytest.approx(0.25)


def test_a_wait_of_more_than_two_seconds_becomes_an_appointment() -> None:
    pace = Pace(rate=10)
    turns = [pace.take(100.0) for _ in range(30)]
    assert [turn.retry_after_ms for turn in turns[:21]] == [None] * 21
    assert turns[20].wait_s == pytest.approx(2.0)
    appointments = [turn.retry_after_ms for turn in turns[21:]]
    assert appointments == pytest.approx([2_200, 2_300, 2_400, 2_500, 2_600, 2_700, 2_800, 2_900, 3_000], abs=1)
    assert all(turn.wait_s == 0.0 for turn in turns[21:])


def test_who_keeps_the_appointment_gets_in() -> None:
    pace = Pace(rate=10)
    turns = [pace.take(100.0) for _ in range(100)]
    for turn in turns:
        if turn.retry_after_ms is not None:
            assert pace.take(100.0 + turn.retry_after_ms / 1000).retry_after_ms is None


def test_nobody_is_sent_away_for_longer_than_half_a_minute() -> None:
    pace = Pace(rate=10)
    turns = [pace.take(100.0) for _ in range(2_000)]
    assert turns[-1].retry_after_ms == 30_000


def test_appointments_are_spread_so_that_not_all_come_on_the_same_millisecond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    pace = Pace(rate=1)
    appointments = {pace.take(100.0).retry_after_ms for _ in range(1_000)} - {None}
    assert len(appointments) > 200
    assert all(2_000 < after_ms <= 36_000 for after_ms in appointments if after_ms is not None)


def test_a_door_that_was_left_alone_is_open_again() -> None:
    pace = Pace(rate=10)
    for _ in range(500):
        pace.take(100.0)
    assert pace.take(103.0) == Turn()


@given(rate=st.floats(0.5, 200), pauses_s=st.lists(st.floats(0, 1), min_size=1, max_size=200))
def test_in_no_span_of_time_more_enter_than_the_rate_gives(rate: float, pauses_s: list[float]) -> None:
    pace, now_s, entered = Pace(rate=rate), 1_000.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        turn = pace.take(now_s)
        if turn.retry_after_ms is None:
            assert 0.0 <= turn.wait_s <= 2.0
            entered.append(now_s + turn.wait_s)
        else:
            assert turn.retry_after_ms > 0
    assert entered == sorted(entered)
    for earlier, later in itertools.pairwise(entered):
        assert later - earlier >= 1 / rate - 1e-6
