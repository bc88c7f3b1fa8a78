"""The page of a report: safe to open, complete without a network, and drawn as the numbers say."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from zoneinfo import ZoneInfo

import msgspec
import pytest

from gateway.cli.report_chart import since_start
from gateway.cli.report_page import ReportPage, money
from gateway.cli.report_words import Language
from gateway.domain.figures import (
    AudienceError,
    Bucket,
    CouponLine,
    Cursor,
    Figures,
    FiguresReading,
    Mark,
    MoneyFigures,
    Report,
    SkuLine,
    SourceLine,
)

EVIL = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>&amp;"
START_MS = 1_800_000_000_000
VOID = {"meta", "br", "hr", "img", "link", "input"}


def line(**changes: object) -> dict[str, object]:
    return {
        "currency": "CNY",
        "orders_placed": 4,
        "orders_paid": 2,
        "gmv_placed_minor": 7600,
        "gmv_paid_minor": 3800,
    } | changes


def report(
    text: str = "Evening tea", *, viewers: tuple[int | None, ...] = (1, 5, None, 4), **changes: object
) -> Report:
    figures = Figures(
        **dict.fromkeys((name for name in Figures.__struct_fields__ if name not in Figures.__struct_defaults__), 1)
        | {"orders_per_entry": 0.1832, "gmv_paid_minor": 3800, "watch_avg_s": 1832.4}
    )
    reading = FiguresReading(
        at_ms=START_MS + 65_000,
        cursor=Cursor(shard=0, epoch=3, seq=99),
        started_at_ms=START_MS,
        ended_at_ms=START_MS + 60_000,
        currency="CNY",
        figures=figures,
        money=(MoneyFigures(**line()), MoneyFigures(**line(currency="JPY"))),  # type: ignore[arg-type]
        ordering_viewers=1,
        error=AudienceError(visits_lag_s=5, watch_lag_s=30, cut_sockets=12, missed_visits=3),
    )
    made = Report(
        room="room_1",
        title=text,
        reading=reading,
        bucket_ms=15_000,
        timeline=tuple(
            Bucket(at_ms=START_MS + at * 15_000, viewers=count, comments_per_s=0.2 * at, orders_per_s=float(at == 1))
            for at, count in enumerate(viewers)
        ),
        orders_outside=2,
        marks=(
            Mark(at_ms=START_MS, kind="start"),
            Mark(at_ms=START_MS + 20_000, kind="announce", label=text),
            Mark(at_ms=START_MS - 90_000, kind="open", label=text),
        ),
        marks_are_more=False,
        skus=(
            SkuLine(
                **line(
                    sale="sale_1",
                    sku=text,
                    title=text,
                    stock=9,
                    units_placed=5,
                    units_paid=2,
                    orders_expired=1,
                    discount_paid_minor=0,
                )
            ),
        ),  # type: ignore[arg-type]
        coupons=(
            CouponLine(
                coupon="cpn_1",
                title=text,
                kind="amount",
                currency="CNY",
                copies=5,
                claimed=4,
                redeemed=1,
                discount_minor=9,
            ),
        ),
        sources=(SourceLine(**line(source="")), SourceLine(**line(source=text))),  # type: ignore[arg-type]
    )
    return msgspec.structs.replace(made, **changes)


def page(made: Report, language: Language = Language.EN, zone: str = "UTC") -> str:
    return ReportPage(made, language=language, zone=ZoneInfo(zone)).html()


class Reader(HTMLParser):
    """Whether every element that is opened is closed in its turn, and which attributes there are."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize("language", Language)
def test_nothing_that_others_wrote_becomes_a_part_of_the_page(language: Language) -> None:
    reader, plain = read(page(report(EVIL), language)), read(page(report(), language))
    assert "script" not in reader.tags and "img" not in reader.tags
    assert reader.tags == plain.tags, "whatever it is called, the page has the same elements"
    assert not [name for name, _ in reader.attributes if name.startswith("on")]
    assert sum(EVIL in text for text in reader.text) >= 8, "it is shown as it was written"


def test_the_page_asks_nobody_for_anything() -> None:
    html = page(report())
    reader = read(html)
    assert not {"script", "link", "img", "iframe", "object"} & set(reader.tags)
    assert not {"src", "href", "action", "xlink:href"} & {name for name, _ in reader.attributes}
    assert "url(" not in html and "@import" not in html and "http:" not in html and "https:" not in html
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in reader.attributes


def paths(html: str, name: str) -> Iterator[str]:
    yield from re.findall(rf'<path class="{name}" d="([^"]*)"', html)


def test_the_timeline_is_drawn_to_its_scale_with_a_gap_where_nobody_looked() -> None:
    before, after = paths(page(report()), "viewers")
    # Of five at most; the panel is 118 high and ends at 156.
    assert before == "M58.0 156L58.0 132.4H285.5L285.5 38.0H513.0V156Z"
    assert after == "M740.5 156L740.5 61.6H968.0V156Z"
    assert len(list(paths(page(report()), "orders"))) == 1


def test_marks_stand_at_their_time_and_only_those_of_the_show_are_drawn() -> None:
    html = page(report())
    assert re.findall(r'<g class="mark"><title>([^<]*)</title><line x1="([^"]*)"', html) == [
        ("0:00 start", "58.0"),
        ("0:20 announcement Evening tea", "361.3"),
    ]
    assert "-1:30" in html, "the one before the start is in the list"


def test_marks_that_are_near_each_other_share_a_number() -> None:
    marks = tuple(Mark(at_ms=START_MS + at * 100, kind="pin", label=str(at)) for at in range(50))
    html = page(report(marks=marks))
    assert html.count('<g class="mark">') == 50
    assert len(re.findall(r'class="number"', html)) == 5


def test_a_show_that_runs_says_so_and_one_that_has_not_begun_has_no_timeline() -> None:
    ended = report()
    running = msgspec.structs.replace(ended, reading=msgspec.structs.replace(ended.reading, ended_at_ms=None))
    assert "still running" in page(running) and "still running" not in page(ended)
    none = msgspec.structs.replace(ended.reading, started_at_ms=None, ended_at_ms=None)
    html = page(msgspec.structs.replace(ended, reading=none, timeline=()))
    assert "<svg" not in html and "has not started" in html


def test_an_empty_report_is_a_page_too() -> None:
    read(page(report(viewers=(None,), marks=(), skus=(), coupons=(), sources=())))
    read(page(report(viewers=(0,))))


def test_times_are_in_the_zone_that_was_asked_for() -> None:
    assert "2027-01-15 08:00:00" in page(report())
    assert "2027-01-15 16:00:00" in page(report(), zone="Asia/Shanghai")


def test_a_page_in_chinese_says_so_and_has_no_english_titles() -> None:
    html = page(report(), Language.ZH)
    assert '<html lang="zh">' in html and "转化漏斗" in html and "Funnel" not in html


def test_the_error_of_the_audience_figures_is_told() -> None:
    assert "12 sockets were on processes that ended without a word" in page(report())


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (28_836_005, "CNY", "CNY 288,360.05"),
        (9_007_199_254_740_993, "EUR", "EUR 90,071,992,547,409.93"),
        (1_200, "JPY", "JPY 1,200"),
        (1_200, "KWD", "KWD 1.200"),
        (7, "CNY", "CNY 0.07"),
    ],
)
def test_money_is_exact_and_has_the_decimals_of_its_currency(minor: int, currency: str, text: str) -> None:
    assert money(minor, currency) == text


def test_time_since_the_start_has_hours_where_there_are_any() -> None:
    assert [since_start(ms) for ms in (0, 61_000, 3_661_000, -90_000)] == ["0:00", "1:01", "1:01:01", "-1:30"]
