"""A report as one page: all of it in one file, no script, nothing fetched, and readable on a phone and on paper."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, tzinfo
from html import escape
from typing import Any, Final

from gateway.cli.report_chart import Panel, chart, since_start
from gateway.cli.report_words import WORDS, Language
from gateway.domain.figures import Figures, Mark, Report, funnel

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2127; --soft: #667080; --line: #d9dee5; --back: #fff; --card: #f5f7f9;
  --viewers: #3b6fb6; --comments: #5c9a5c; --orders: #c8553d; --mark: #8a6d3b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4b1; --line: #38414c; --back: #14181d;
  --card: #1d232a; --viewers: #7ba7e0; --comments: #8cc58c; --orders: #ec8a75; --mark: #d0b070; } }
@media print { :root { color-scheme: light; --ink: #000; --soft: #444; --line: #bbb; --back: #fff; --card: #fff;
  --viewers: #3b6fb6; --comments: #5c9a5c; --orders: #c8553d; --mark: #8a6d3b; }
  section { break-inside: avoid; } body { max-width: none; } .wide { overflow: visible; }
  .wide svg { min-width: 0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 62rem; padding: 1rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", sans-serif; }
h1 { font-size: 1.5rem; margin: .2rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 1.8rem 0 .6rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); font-size: .9rem; }
.note { border-left: 3px solid var(--mark); padding-left: .6rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: .5rem; margin: 0; }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: .4rem; padding: .5rem .6rem; }
.cards dt { color: var(--soft); font-size: .82rem; } .cards dd { margin: 0; font-size: 1.05rem; font-weight: 600;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.funnel { list-style: none; margin: 0; padding: 0; }
.funnel li { display: grid; grid-template-columns: 9.5rem 1fr; gap: .1rem .6rem; align-items: center;
  margin: .25rem 0; }
.funnel .bar { display: block; height: 1.1rem; min-width: 2px; border-radius: .2rem; background: var(--viewers);
  print-color-adjust: exact; -webkit-print-color-adjust: exact; }
.funnel .orders { background: var(--orders); }
.funnel .count { grid-column: 2; color: var(--soft); font-size: .85rem; } .funnel b { color: var(--ink); }
@media (max-width: 30rem) { .funnel li { grid-template-columns: 1fr; } .funnel .count { grid-column: 1; } }
svg { display: block; width: 100%; height: auto; min-width: 44rem; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; } svg .tick { text-anchor: end; }
svg .time, svg .number { text-anchor: middle; } svg .axis { fill: var(--ink); }
svg .grid { stroke: var(--line); } svg .mark line { stroke: var(--mark); stroke-dasharray: 3 3; }
svg .number { fill: var(--mark); font-size: 11px; }
svg .viewers { fill: var(--viewers); } svg .comments { fill: var(--comments); } svg .orders { fill: var(--orders); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 500; vertical-align: bottom; word-break: keep-all; } .n { text-align: right; }
td { overflow-wrap: anywhere; min-width: 4.5rem; } td.n { white-space: nowrap; min-width: 0; }
"""
# A page that is opened from a folder fetches nothing and runs nothing, whatever a title says.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_MONEY: Final = "_minor"
_SHARES: Final = frozenset({"payment_rate", "watched_to_end_share", "new_customer_share", "pickup_share"})
_CONVERSIONS: Final = ("orders_per_entry", "ordering_viewers_per_shop_viewer", "orders_per_visit")
_PERSONS: Final = frozenset({"bookings", "viewers", "shop_viewers", "ordering_viewers"})
# ISO 4217: currencies whose smallest unit is not a hundredth.
_WHOLE: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THOUSANDTHS: Final = "BHD IQD JOD KWD LYD OMR TND"


class ReportPage:
    """Everything that comes from outside is escaped as it is put in."""

    def __init__(self, report: Report, *, language: Language, zone: tzinfo = UTC) -> None:
        self._report = report
        self._reading = report.reading
        self._words = WORDS[language]
        self._language = language
        self._zone = zone

    def html(self) -> str:
        say, title = self._say, escape(self._report.title)
        body = [
            f'<p class="soft">{say("report")}</p><h1>{title}</h1>',
            self._when(),
            *self._section("funnel", self._funnel()),
            *self._section("timeline", self._timeline()),
            *self._section("figures", self._figures()),
            *self._section("conversions", self._cards(_CONVERSIONS)),
            *self._section("skus", self._lines(self._report.skus, empty=("sku",))),
            *self._section("coupons", self._lines(self._report.coupons, empty=("coupon",))),
            *self._section("sources", self._lines(self._report.sources, empty=("source",))),
            *self._section("marks", self._marks()),
            self._error(),
        ]
        return (
            f'<!DOCTYPE html>\n<html lang="{self._language}">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            + "\n".join(body)
            + "\n</body>\n</html>\n"
        )

    def _say(self, word: str, **values: object) -> str:
        return escape(self._words.get(word, word).format(**values) if values else self._words.get(word, word))

    def _section(self, word: str, content: str) -> list[str]:
        return [f"<section><h2>{self._say(word)}</h2>", content, "</section>"]

    # Parts of the page.

    def _when(self) -> str:
        reading, say = self._reading, self._say
        parts = []
        if reading.started_at_ms is None:
            parts.append(say("not_started"))
        else:
            end_ms = reading.ended_at_ms or reading.at_ms
            length_ms = end_ms - reading.started_at_ms
            start, end = self._time(reading.started_at_ms), self._time(end_ms)
            parts.append(say("from_to", start=start, end=end, length=since_start(length_ms), zone=self._zone))
        cursor = reading.cursor
        parts.append(say("as_of", at=self._time(reading.at_ms), epoch=cursor.epoch, seq=cursor.seq))
        told = "".join(f'<p class="soft">{part}</p>' for part in parts)
        if reading.started_at_ms is not None and not reading.is_final:
            told += f'<p class="note">{say("running")}</p>'
        return told

    def _funnel(self) -> str:
        steps = funnel(self._reading)
        most = max(1, *(count for _, count in steps))
        lines = []
        before: int | None = None
        for name, count in steps:
            of_what = self._say("persons" if name in _PERSONS else "orders")
            share = self._say("of_previous", share=f"{count / before:.1%}") if before else ""
            if name in ("viewers", "orders_placed"):
                # Not all who came had booked, and orders are no part of persons.
                share = ""
            kind, width = "bar" if name in _PERSONS else "bar orders", 100 * count / most
            lines.append(
                f'<li><span>{self._say(name)}</span><span class="{kind}" style="width: {width:.2f}%"></span>'
                f'<span class="count"><b>{count:,}</b> {of_what}{", " if share else ""}{share}</span></li>'
            )
            before = count
        return f'<ol class="funnel">{"".join(lines)}</ol>'

    def _timeline(self) -> str:
        report, say = self._report, self._words
        if not report.timeline:
            return f'<p class="soft">{self._say("not_started")}</p>'
        panels = (
            Panel("viewers", say["viewers_peak"], lambda bucket: bucket.viewers),
            Panel("comments", say["comments_per_s"], lambda bucket: bucket.comments_per_s),
            Panel("orders", say["orders_per_s"], lambda bucket: bucket.orders_per_s),
        )
        drawn = chart(report, panels, mark_title=lambda mark: f"{self._since(mark)} {self._mark(mark)}")
        bucket_s = report.bucket_ms // 1000
        bucket = f"{bucket_s} s" if bucket_s < 60 else f"{bucket_s // 60} {say['minutes']}"
        told = f'<div class="wide">{drawn}</div><p class="soft">{self._say("every", bucket=bucket)}</p>'
        if report.orders_outside:
            told += f'<p class="soft">{self._say("outside", count=report.orders_outside)}</p>'
        return told

    def _figures(self) -> str:
        names = [name for name in Figures.__struct_fields__ if name not in _CONVERSIONS]
        told = self._cards(names) + f'<p class="soft">{self._say("watched_to_end_share")}: {self._say("watched")}</p>'
        others = self._reading.money[1:]
        return told + (f"<h2>{self._say('per_currency')}</h2>{self._lines(others, empty=())}" if others else "")

    def _cards(self, names: Sequence[str]) -> str:
        currency = self._reading.currency or ""
        values = ((name, getattr(self._reading.figures, name)) for name in names)
        cards = (
            f"<div><dt>{self._say(name)}</dt><dd>{escape(_value(name, value, currency))}</dd></div>"
            for name, value in values
        )
        return f'<dl class="cards">{"".join(cards)}</dl>'

    def _lines(self, lines: Sequence[Any], *, empty: Sequence[str]) -> str:
        """One row a line, one column a field."""
        if not lines:
            return f'<p class="soft">{self._say("none")}</p>'
        columns = [name for name in lines[0].__struct_fields__ if name not in ("sale", "coupon", "currency")]
        rows = [[self._cell(name, getattr(line, name), line.currency) for name in columns] for line in lines]
        return _table([(self._say(name), _is_number(getattr(lines[0], name))) for name in columns], rows)

    def _cell(self, name: str, value: Any, currency: str) -> str:
        if name == "source" and value == "":
            return self._say("no_source")
        if name == "kind":
            return self._say(value)
        return escape(value if isinstance(value, str) else _value(name, value, currency))

    def _marks(self) -> str:
        marks = self._report.marks
        if not marks:
            return f'<p class="soft">{self._say("none")}</p>'
        rows = [
            [str(number), self._since(mark), self._say(mark.kind), escape(mark.label)]
            for number, mark in enumerate(marks, 1)
        ]
        titles = [("#", True), (self._say("time"), True), (self._say("kind"), False), (self._say("label"), False)]
        more = f'<p class="soft">{self._say("marks_are_more")}</p>' if self._report.marks_are_more else ""
        return _table(titles, rows) + more

    def _error(self) -> str:
        error = self._reading.error
        told = self._say(
            "error",
            visits=error.visits_lag_s,
            watch=error.watch_lag_s,
            cut=error.cut_sockets,
            missed=error.missed_visits,
        )
        return f'<p class="soft">{told}</p>'

    # Words for values.

    def _since(self, mark: Mark) -> str:
        started_at_ms = self._reading.started_at_ms
        return self._time(mark.at_ms) if started_at_ms is None else since_start(mark.at_ms - started_at_ms)

    def _mark(self, mark: Mark) -> str:
        """Not escaped."""
        return f"{self._words.get(mark.kind, mark.kind)} {mark.label}".strip()

    def _time(self, at_ms: int) -> str:
        return datetime.fromtimestamp(at_ms / 1000, self._zone).strftime("%Y-%m-%d %H:%M:%S")


def money(minor: int, currency: str) -> str:
    """Exact: integers all the way."""
    decimals = 0 if currency in _WHOLE else 3 if currency in _THOUSANDTHS else 2
    whole, rest = divmod(abs(minor), 10**decimals)
    sign = "-" if minor < 0 else ""
    return f"{currency} {sign}{whole:,}" + (f".{rest:0{decimals}d}" if decimals else "")


def _value(name: str, value: Any, currency: str) -> str:
    if value is None:
        return "–"
    if name.endswith(_MONEY):
        return money(value, currency)
    if name.endswith("_avg_s"):
        return since_start(round(value * 1000)) if value >= 60 else f"{value:.1f} s"
    if name in _SHARES or name in _CONVERSIONS:
        return f"{value:.1%}"
    return f"{value:,}"


def _is_number(value: Any) -> bool:
    return not isinstance(value, str)


def _table(titles: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]]) -> str:
    """Of cells that are escaped; numbers stand to the right."""
    kind: Callable[[bool], str] = lambda is_number: ' class="n"' if is_number else ""  # noqa: E731
    head = "".join(f"<th{kind(is_number)}>{title}</th>" for title, is_number in titles)
    body = "".join(
        "<tr>" + "".join(f"<td{kind(title[1])}>{cell}</td>" for title, cell in zip(titles, row, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
