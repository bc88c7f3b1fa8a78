"""The figures and the report of a show, as HTTP shows them."""

from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.domain.figures import (
    AudienceError,
    CouponLine,
    Cursor,
    Figures,
    FiguresReading,
    MoneyFigures,
    Report,
    SkuLine,
    SourceLine,
    funnel,
)
from gateway.domain.trend import SPAN_MS, Trend, TrendFigures
from gateway.wire.objects import instant, optional_instant
from gateway.wire.told import Moment


class MetricsReply(Figures, kw_only=True, omit_defaults=True):
    """All of one moment of the ledger, but `viewers_now`. What cannot be said yet is left out."""

    room: str
    at: Moment
    final: bool
    """The show is over. Payments, refunds and pickups may still come."""
    cursor: Cursor
    error: AudienceError
    currency: str | None = None
    """Of the money figures: of the room's sales the currency with most orders."""
    other_currencies: tuple[MoneyFigures, ...] = ()
    """Nothing is added across currencies."""


class FunnelStep(Struct, kw_only=True):
    step: str
    count: int


class BucketReply(Struct, kw_only=True, omit_defaults=True):
    at: Moment
    comments_per_s: float
    orders_per_s: float
    viewers: int | None = None
    """The most at once; left out where nobody looked."""


class MarkReply(Struct, kw_only=True, omit_defaults=True):
    at: Moment
    kind: str
    label: str = ""


class ReportReply(Struct, kw_only=True, omit_defaults=True):
    """`final` is false while the show runs: the same report of so far."""

    room: str
    title: str
    final: bool
    at: Moment
    cursor: Cursor
    figures: Figures
    error: AudienceError
    funnel: list[FunnelStep]
    bucket_s: int
    timeline: list[BucketReply]
    """From the start to the end, or now; empty before the start."""
    orders_outside: int
    """Of the orders placed: before the start or after the end."""
    marks: list[MarkReply]
    marks_are_more: bool
    skus: list[SkuLine]
    coupons: list[CouponLine]
    sources: list[SourceLine]
    started_at: Moment | None = None
    ended_at: Moment | None = None
    currency: str | None = None
    other_currencies: tuple[MoneyFigures, ...] = ()


def metrics_reply(room: str, reading: FiguresReading) -> MetricsReply:
    return MetricsReply(
        **msgspec.structs.asdict(reading.figures),
        room=room,
        at=instant(reading.at_ms),
        final=reading.is_final,
        cursor=reading.cursor,
        error=reading.error,
        currency=reading.currency,
        other_currencies=reading.money[1:],
    )


def report_reply(report: Report) -> ReportReply:
    reading = report.reading
    return ReportReply(
        room=report.room,
        title=report.title,
        final=reading.is_final,
        at=instant(reading.at_ms),
        cursor=reading.cursor,
        figures=reading.figures,
        error=reading.error,
        funnel=[FunnelStep(step=step, count=count) for step, count in funnel(reading)],
        bucket_s=report.bucket_ms // 1000,
        timeline=[
            BucketReply(
                at=instant(bucket.at_ms),
                comments_per_s=bucket.comments_per_s,
                orders_per_s=bucket.orders_per_s,
                viewers=bucket.viewers,
            )
            for bucket in report.timeline
        ],
        orders_outside=report.orders_outside,
        marks=[MarkReply(at=instant(mark.at_ms), kind=mark.kind, label=mark.label) for mark in report.marks],
        marks_are_more=report.marks_are_more,
        skus=list(report.skus),
        coupons=list(report.coupons),
        sources=list(report.sources),
        started_at=optional_instant(reading.started_at_ms),
        ended_at=optional_instant(reading.ended_at_ms),
        currency=reading.currency,
        other_currencies=reading.money[1:],
    )


class TrendReply(Struct, kw_only=True, omit_defaults=True):
    """Two spans: `last` ends at `at`, `before` where that begins. Null is what cannot be said of a span."""

    room: str
    at: Moment
    """A few seconds ago; once the show is over, its end."""
    span_s: int
    last_s: int
    """How much of the span the show has been running for."""
    before_s: int
    complete: bool
    """In all of both: only then they compare."""
    figures: TrendFigures
    currency: str | None = None
    """Of the money figures, as in the metrics; left out while the room has no sale."""


def trend_reply(room: str, trend: Trend) -> TrendReply:
    before_ms, last_ms, to_ms = trend.spans
    return TrendReply(
        room=room,
        at=instant(to_ms),
        span_s=SPAN_MS // 1000,
        last_s=(to_ms - last_ms) // 1000,
        before_s=(last_ms - before_ms) // 1000,
        complete=trend.is_complete,
        figures=trend.figures,
        currency=trend.currency,
    )


class FigureLine(Struct, kw_only=True):
    name: str
    value: int | float | None


PARTS: Final[tuple[str, ...]] = ("skus", "figures", "timeline", "marks", "coupons", "sources")
"""Of the report as CSV; the first is what is given unasked."""

_LINES: Final[dict[str, type[Struct]]] = {
    "skus": SkuLine,
    "figures": FigureLine,
    "timeline": BucketReply,
    "marks": MarkReply,
    "coupons": CouponLine,
    "sources": SourceLine,
}


def part_rows(reply: ReportReply, part: str) -> list[list[Any]]:
    """One part of a report as a table, with its titles."""
    lines: list[Any] = (
        [FigureLine(name=name, value=getattr(reply.figures, name)) for name in Figures.__struct_fields__]
        if part == "figures"
        else getattr(reply, part)
    )
    columns = _LINES[part].__struct_fields__
    return [list(columns), *([getattr(line, column) for column in columns] for line in lines)]
