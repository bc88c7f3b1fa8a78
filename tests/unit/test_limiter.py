import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admission import limiter
from gateway.admission.limiter import Limiter


def test_a_burst_is_allowed_at_once_and_the_next_attempt_waits_for_one_interval() -> None:
    limit = Limiter(rate=5, burst=3)
    assert [limit.wait_s("vw_1", 100.0) for _ in range(3)] == [0.0, 0.0, 0.0]
    assert limit.wait_s("vw_1", 100.0) == pytest.approx(0.2)


def test_after_the_wait_it_named_exactly_one_attempt_is_allowed() -> None:
    limit = Limiter(rate=5, burst=3)
    for _ in range(3):
        limit.wait_s("vw_1", 100.0)
    wait_s = limit.wait_s("vw_1", 100.05)
    assert limit.wait_s("vw_1", 100.05 + wait_s) == 0.0
    assert limit.wait_s("vw_1", 100.05 + wait_s) > 0


def test_a_refusal_costs_the_viewer_nothing() -> None:
    limit = Limiter(rate=5, burst=1)
    limit.wait_s("vw_1", 100.0)
    waits = {limit.wait_s("vw_1", 100.0) for _ in range(1_000)}
    assert len(waits) == 1
    assert limit.wait_s("vw_1", 100.2) == 0.0


def test_a_burst_of_one_is_one_attempt_an_interval() -> None:
    limit = Limiter(rate=2, burst=1)
    allowed = [limit.wait_s("vw_1", 100.0 + at * 0.1) == 0.0 for at in range(16)]
    assert [at for at, yes in enumerate(allowed) if yes] == [0, 5, 10, 15]


def test_who_waited_long_has_a_whole_burst_again_and_no_more() -> None:
    limit = Limiter(rate=5, burst=3)
    for at_s in (100.0, 10_000.0):
        assert [limit.wait_s("vw_1", at_s) for _ in range(4)].count(0.0) == 3


def test_one_viewers_attempts_are_nobody_elses() -> None:
    limit = Limiter(rate=5, burst=1)
    limit.wait_s("vw_1", 100.0)
    assert limit.wait_s("vw_1", 100.0) > 0
    assert limit.wait_s("vw_2", 100.0) == 0.0


def test_the_table_forgets_who_is_allowed_a_whole_burst_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_SWEEP_EVERY", 100)
    limit = Limiter(rate=5, burst=1)
    for at in range(1_000):
        limit.wait_s(f"vw_{at}", 100.0 + at)
    # A viewer is in the table for the fifth of a second that one attempt costs; the rest waits for the next sweep.
    assert len(limit._empty_at) <= 101


def test_a_sweep_forgets_nobody_who_has_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiter, "_SWEEP_EVERY", 10)
    limit = Limiter(rate=1, burst=1)
    limit.wait_s("busy", 100.0)
    for at in range(50):
        limit.wait_s(f"vw_{at}", 100.5)
    assert limit.wait_s("busy", 100.5) == pytest.approx(0.5)


@given(
    rate=st.floats(0.5, 100),
    burst=st.integers(1, 20),
    pauses_s=st.lists(st.floats(0, 2), min_size=1, max_size=80),
)
def test_in_no_span_of_time_more_is_allowed_than_the_burst_and_what_the_rate_gives(
    rate: float, burst: int, pauses_s: list[float]
) -> None:
    limit = Limiter(rate=rate, burst=burst)
    now_s, allowed = 1_000.0, []
    for pause_s in pauses_s:
        now_s += pause_s
        if limit.wait_s("vw_1", now_s) == 0.0:
            allowed.append(now_s)
    for at, start_s in enumerate(allowed):
        for count, end_s in enumerate(allowed[at:], 1):
            assert count <= burst + (end_s - start_s) * rate + 1e-3
