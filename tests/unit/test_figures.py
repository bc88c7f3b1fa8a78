"""Every figure has the contract's name, one definition, and a place in the frame, the answer and the page."""

from pathlib import Path
from typing import Final

from gateway.api.figure_replies import MetricsReply
from gateway.cli.report_words import WORDS
from gateway.domain.figures import BUCKETS_MAX, DEFINITIONS, Figures, bucket_ms, ratio
from gateway.domain.trend import TREND_DEFINITIONS, TrendFigures
from gateway.wire import frames

CONTRACT: Final = """
bookings, visits, viewers, viewers_now, viewers_peak, watch_avg_s, watched_to_end_share, comments, commenters, likes,
shop_entries, shop_viewers, orders_placed, orders_confirmed, orders_paid, orders_expired, gmv_placed_minor,
gmv_paid_minor, order_value_avg_minor, payment_rate, order_time_avg_s, orders_per_s_peak, new_customer_share,
coupons_claimed, coupons_redeemed, pickup_share, orders_per_entry, ordering_viewers_per_shop_viewer, orders_per_visit
""".replace(",", "").split()
README: Final = Path(__file__).resolve().parent.parent.parent / "README.md"


def test_the_figures_are_the_contracts_in_its_order_and_each_is_defined_once() -> None:
    assert list(Figures.__struct_fields__) == CONTRACT
    assert [definition.name for definition in DEFINITIONS] == CONTRACT


def test_the_socket_and_http_tell_all_of_them() -> None:
    for kind in (frames.ShowFigures, MetricsReply):
        assert set(CONTRACT) < set(kind.__struct_fields__)


def test_the_page_has_a_word_for_each_in_every_language() -> None:
    first, *others = WORDS.values()
    assert set(CONTRACT) <= set(first)
    for words in others:
        assert words.keys() == first.keys()
        assert [name for name in first if ("{" in first[name]) != ("{" in words[name])] == []


def test_the_table_of_definitions_is_the_code_s() -> None:
    rows = [f"| `{each.name}` | {each.formula} | {each.source} | {each.error or 'exact'} |" for each in DEFINITIONS]
    assert "\n".join(rows) in README.read_text(encoding="utf-8")


def test_the_figures_of_the_trend_are_each_defined_once_and_the_table_is_the_code_s() -> None:
    assert [definition.name for definition in TREND_DEFINITIONS] == list(TrendFigures.__struct_fields__)
    rows = [
        f"| `{each.name}` | {each.formula} | {each.source} | {each.error or 'exact'} |" for each in TREND_DEFINITIONS
    ]
    assert "\n".join(rows) in (README.parent / "gateway/flows/README.md").read_text(encoding="utf-8")


def test_there_are_never_more_buckets_than_a_screen_shows() -> None:
    lengths = (1, 999, 499_999, 500_000, 500_001, 7_200_000, 172_800_000, 10**12)
    for length_ms in lengths:
        assert -(-length_ms // bucket_ms(length_ms)) <= BUCKETS_MAX
    assert [bucket_ms(length_ms) for length_ms in lengths[:6]] == [1_000, 1_000, 1_000, 1_000, 2_000, 15_000]


def test_a_ratio_of_nothing_is_none_and_of_zero_is_zero() -> None:
    assert (ratio(1, 0), ratio(None, 3), ratio(0, 3), ratio(1, 3)) == (None, None, 0, 0.3333)
