from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram, generate_latest

from gateway import metrics
from gateway.metrics import LoopCounter, LoopHistogram, SaidGauge


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[CollectorRegistry]:
    """The metrics of a test register here, and not beside those of the gateway."""
    ours = CollectorRegistry()
    monkeypatch.setattr(metrics, "REGISTRY", ours)
    yield ours


def exposed(registry: CollectorRegistry) -> list[str]:
    """The text a scraper gets, without the times of creation, which only the library's own state."""
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def test_a_counter_prints_what_the_librarys_own_would(registry: CollectorRegistry) -> None:
    theirs = CollectorRegistry()
    ours = LoopCounter("peakgate_answers", "Answers, by outcome.", "outcome")
    own = Counter("peakgate_answers", "Answers, by outcome.", ["outcome"], registry=theirs)
    for outcome, by in [("reserved", 1), ("sold_out", 1), ("reserved", 41), ('a "quoted"\nword\\', 2)]:
        ours.inc(outcome, by)
        own.labels(outcome).inc(by)
    assert exposed(registry) == exposed(theirs)
    assert 'peakgate_answers_total{outcome="reserved"} 42.0' in exposed(registry)


def test_a_counter_nobody_touched_prints_its_help_and_nothing_else(registry: CollectorRegistry) -> None:
    theirs = CollectorRegistry()
    LoopCounter("peakgate_answers", "Answers, by outcome.", "outcome")
    Counter("peakgate_answers", "Answers, by outcome.", ["outcome"], registry=theirs)
    assert exposed(registry) == exposed(theirs)


@given(st.lists(st.one_of(st.sampled_from([0.0005, 0.001, 0.01, 1.0, 5.0]), st.floats(0, 10)), max_size=40))
def test_a_histogram_prints_what_the_librarys_own_would(values: list[float]) -> None:
    bounds = (0.0005, 0.001, 0.01, 1.0, 5.0)
    theirs, registry = CollectorRegistry(), CollectorRegistry()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "REGISTRY", registry)
        ours = LoopHistogram("peakgate_wait_seconds", "A wait.", bounds)
    own = Histogram("peakgate_wait_seconds", "A wait.", buckets=bounds, registry=theirs)
    for value in values:
        ours.observe(value)
        own.observe(value)
    assert exposed(registry) == exposed(theirs)


@pytest.mark.parametrize("bounds", [(1, 2, 256), (0.00001, 1e6, 1e22), (0.5, 1, 2.5)])
def test_bounds_of_any_size_are_named_as_the_library_names_them(
    registry: CollectorRegistry, bounds: tuple[float, ...]
) -> None:
    theirs = CollectorRegistry()
    ours = LoopHistogram("peakgate_sizes", "Sizes.", bounds)
    own = Histogram("peakgate_sizes", "Sizes.", buckets=bounds, registry=theirs)
    ours.observe(1.5)
    own.observe(1.5)
    assert exposed(registry) == exposed(theirs)


def test_a_value_on_a_bound_counts_under_it(registry: CollectorRegistry) -> None:
    ours = LoopHistogram("peakgate_wait_seconds", "A wait.", (0.1, 1.0))
    ours.observe(0.1)
    lines = exposed(registry)
    assert 'peakgate_wait_seconds_bucket{le="0.1"} 1.0' in lines
    assert "peakgate_wait_seconds_count 1.0" in lines
    assert "peakgate_wait_seconds_sum 0.1" in lines


def test_every_metric_of_the_gateway_is_exposed_under_its_name() -> None:
    text = generate_latest(REGISTRY).decode()
    for name in ("peakgate_orders_total", "peakgate_order_seconds", "peakgate_confirm_seconds", "peakgate_backlog"):
        assert f"# HELP {name} " in text


def test_a_gauge_of_what_only_one_process_looks_at_says_nothing_elsewhere(registry: CollectorRegistry) -> None:
    gauge = SaidGauge("peakgate_trust", "Trust.")
    assert not [line for line in exposed(registry) if line.startswith("peakgate_trust")]
    gauge.set(0)
    assert "peakgate_trust 0.0" in exposed(registry)
