"""The trend of a show: key figures of its last ten minutes against the ten before, each with its one definition.

All of them are read of the ledger, so a console that is opened anew shows what it showed before."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from msgspec import Struct

from gateway.domain.attendance import SAMPLE_MS
from gateway.domain.figures import Definition, ratio

SPAN_MS: Final = 600_000
SETTLE_MS: Final = 2_000
"""Spans end so long ago at least: until then comments, likes and the last sample are in the ledger."""

_COUNTED: Final = "counted up to 5 s late"
_EXACT: Final = ""

TREND_DEFINITIONS: Final[tuple[Definition, ...]] = (
    Definition(
        "viewers_avg",
        "mean of the samples of open sockets, one in five seconds, staff included",
        "room_samples",
        "gaps",
    ),
    Definition("viewers_peak", "the most of them at once", "room_samples", "half a second, gaps"),
    Definition("visits", "sockets of viewers that were welcomed", "room_visits", _COUNTED),
    Definition("comments", "comments posted, those taken back and of staff included", "comments", "half a second"),
    Definition("likes", "taps counted", "room_samples", "a second, gaps"),
    Definition(
        "shop_entries", "times the product bag was opened; again within a second: once", "room_visits", _COUNTED
    ),
    Definition(
        "orders_placed", "orders of the room's sales decided in the span, whatever became of them", "orders", _EXACT
    ),
    Definition("gmv_placed_minor", "amounts of `orders_placed` in `currency`", "orders", _EXACT),
    Definition(
        "orders_paid",
        "orders of the room's sales of which the money came in the span, not refunded or to be refunded",
        "payments",
        _EXACT,
    ),
    Definition("gmv_paid_minor", "amounts of `orders_paid` in `currency`", "payments", _EXACT),
    Definition(
        "payment_rate",
        "of the orders whose time to pay, counted from when they were decided, ended in the span: paid",
        "orders",
        _EXACT,
    ),
    Definition("orders_per_entry", "`orders_placed` / `shop_entries`", "both", _COUNTED),
)


class Pair(Struct, kw_only=True, frozen=True):
    """A count, money, or a share (0.25 for a quarter). Null: the show did not run in the span, nobody looked, or there
    is nothing to divide by."""

    last: int | float | None
    before: int | float | None


class TrendFigures(Struct, kw_only=True, frozen=True):
    viewers_avg: Pair
    viewers_peak: Pair
    visits: Pair
    comments: Pair
    likes: Pair
    shop_entries: Pair
    orders_placed: Pair
    gmv_placed_minor: Pair
    orders_paid: Pair
    gmv_paid_minor: Pair
    payment_rate: Pair
    orders_per_entry: Pair


class Spans(NamedTuple):
    """The edges of both: the one before goes from the first to the second, the last one from there to the third. They
    are full intervals of samples, and none begins before the show."""

    before_ms: int
    last_ms: int
    to_ms: int


class Trend(Struct, kw_only=True, frozen=True):
    spans: Spans
    currency: str | None
    """As in the figures of the show: that with most orders of all its sales."""
    figures: TrendFigures

    @property
    def is_complete(self) -> bool:
        """The show ran in all of both spans: only then they compare."""
        return self.spans.to_ms - self.spans.before_ms == 2 * SPAN_MS


class Sample(NamedTuple):
    at_ms: int
    viewers: int
    peak: int
    likes: int | None
    """All of the room until then; None where they were not kept yet."""


def spans_at(now_ms: int, *, started_at_ms: int | None, ended_at_ms: int | None) -> Spans:
    """The last ones of a show that runs or is over; empty ones before it."""
    to_ms = _floor(now_ms - SETTLE_MS)
    if started_at_ms is None:
        return Spans(to_ms, to_ms, to_ms)
    if ended_at_ms is not None:
        to_ms = min(to_ms, -_floor(-ended_at_ms))
    start_ms = _floor(started_at_ms)
    to_ms = max(to_ms, start_ms)
    return Spans(max(start_ms, to_ms - 2 * SPAN_MS), max(start_ms, to_ms - SPAN_MS), to_ms)


def viewers_of(samples: Sequence[Sample], from_ms: int, to_ms: int) -> tuple[float | None, int | None]:
    """Mean and peak. A sample holds for its interval; one of nobody for as long as there is no other."""
    total = intervals = 0
    peak: int | None = None
    ends = [*(sample.at_ms for sample in samples[1:]), to_ms]
    for sample, next_ms in zip(samples, ends[: len(samples)], strict=True):
        until_ms = sample.at_ms + SAMPLE_MS if sample.viewers else max(next_ms, sample.at_ms + SAMPLE_MS)
        held = (min(until_ms, to_ms) - max(sample.at_ms, from_ms)) // SAMPLE_MS
        if held <= 0:
            continue
        intervals += held
        total += held * sample.viewers
        # What was the most in its own interval says nothing of those after it.
        peak = max(peak or 0, sample.peak if sample.at_ms >= from_ms else 0)
    return ratio(total, intervals, digits=1), peak


def likes_of(samples: Sequence[Sample], from_ms: int, to_ms: int) -> int | None:
    """What was added since the last sample before the span; without one nobody had been there to like anything."""
    until = [sample for sample in samples if sample.at_ms < to_ms]
    since = [sample for sample in until if sample.at_ms < from_ms]
    if not until or until[-1].likes is None:
        return None
    base = since[-1].likes if since else 0
    return None if base is None else until[-1].likes - base


def _floor(at_ms: int) -> int:
    return at_ms // SAMPLE_MS * SAMPLE_MS
