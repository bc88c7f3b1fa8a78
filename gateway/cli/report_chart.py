"""The timeline of a report as one SVG: viewers, comments and orders over the show, and what was done in it."""

from collections.abc import Callable, Sequence
from html import escape
from typing import Final, NamedTuple

from gateway.domain.figures import Bucket, Mark, Report

_WIDTH, _LEFT, _RIGHT = 1000, 58, 32
_PANEL, _GAP, _TOP, _BOTTOM = 118, 34, 38, 28
_PLOT: Final = _WIDTH - _LEFT - _RIGHT
# Numbers of marks that are nearer to each other cannot be read.
_NEAREST = 18
# The end of a show is noted a moment after it.
_END_NOTED_MS = 1_000
_STEPS_S: Final = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 14_400, 43_200, 86_400)


class Panel(NamedTuple):
    name: str
    """Of its colour."""
    title: str
    value: Callable[[Bucket], float | None]


def chart(report: Report, panels: Sequence[Panel], *, mark_title: Callable[[Mark], str]) -> str:
    """Marks are numbered by their place in the report's list."""
    buckets = report.timeline
    from_ms = buckets[0].at_ms
    length_ms = len(buckets) * report.bucket_ms
    height = _TOP + len(panels) * (_PANEL + _GAP) + _BOTTOM - _GAP

    def x_of(at_ms: int) -> float:
        return _LEFT + _PLOT * (at_ms - from_ms) / length_ms

    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(panels[0].title)}">']
    for at, panel in enumerate(panels):
        parts += _panel(panel, buckets, y=_TOP + at * (_PANEL + _GAP), step=_PLOT / len(buckets))
    bottom = height - _BOTTOM
    parts += _marks(report.marks, x_of, bottom, (from_ms, from_ms + length_ms), mark_title)
    parts += _hours(from_ms, length_ms, x_of, bottom)
    return "".join([*parts, "</svg>"])


def _panel(panel: Panel, buckets: Sequence[Bucket], *, y: float, step: float) -> list[str]:
    values = [panel.value(bucket) for bucket in buckets]
    top = _round_up(max((value for value in values if value is not None), default=0))
    floor = y + _PANEL
    parts = [
        f'<text class="axis" x="{_LEFT}" y="{y - 6}">{escape(panel.title)}</text>',
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>',
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{floor}" y2="{floor}"/>',
        f'<text class="tick" x="{_LEFT - 6}" y="{y + 4}">{_short(top)}</text>',
        f'<text class="tick" x="{_LEFT - 6}" y="{floor + 4}">0</text>',
    ]
    for first, run in _runs(values):
        x = _LEFT + first * step
        line = "".join(
            f"L{x + at * step:.1f} {floor - _PANEL * value / top:.1f}H{x + (at + 1) * step:.1f}"
            for at, value in enumerate(run)
        )
        parts.append(f'<path class="{panel.name}" d="M{x:.1f} {floor}{line}V{floor}Z"/>')
    return parts


def _runs(values: Sequence[float | None]) -> list[tuple[int, list[float]]]:
    """Values in a row that are known, and where each row begins."""
    runs: list[tuple[int, list[float]]] = []
    for at, value in enumerate(values):
        if value is None:
            continue
        if runs and runs[-1][0] + len(runs[-1][1]) == at:
            runs[-1][1].append(value)
        else:
            runs.append((at, [value]))
    return runs


def _marks(
    marks: Sequence[Mark],
    x_of: Callable[[int], float],
    bottom: float,
    show_ms: tuple[int, int],
    title: Callable[[Mark], str],
) -> list[str]:
    parts = []
    last_x = -1000.0
    for number, mark in enumerate(marks, 1):
        if not show_ms[0] <= mark.at_ms <= show_ms[1] + _END_NOTED_MS:
            continue
        x = x_of(min(mark.at_ms, show_ms[1]))
        label = ""
        if x - last_x >= _NEAREST:
            label, last_x = f'<text class="number" x="{x:.1f}" y="9">{number}</text>', x
        parts.append(
            f'<g class="mark"><title>{escape(title(mark))}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="12" y2="{bottom}"/>{label}</g>'
        )
    return parts


def _hours(from_ms: int, length_ms: int, x_of: Callable[[int], float], bottom: float) -> list[str]:
    """Time since the start, at some six places."""
    step_s = next((step_s for step_s in _STEPS_S if length_ms <= step_s * 7_000), -(-length_ms // 7_000))
    return [
        f'<text class="time" x="{x_of(from_ms + at_ms):.1f}" y="{bottom + 18}">{since_start(at_ms)}</text>'
        for at_ms in range(0, length_ms + 1, step_s * 1000)
    ]


def since_start(ms: int) -> str:
    """Minutes and seconds, with hours where there are any."""
    minutes, seconds = divmod(abs(ms) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    sign = "-" if ms < 0 else ""
    return f"{sign}{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{sign}{minutes}:{seconds:02d}"


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ... so that an axis ends at a number one can read."""
    unit = 0.001
    while True:
        for times in (1, 2, 5):
            if value <= unit * times:
                return unit * times
        unit *= 10


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:.3f}".rstrip("0").rstrip(".")
