"""The picture of a room: a snapshot and what ticks make of it."""

import copy
from typing import Any

import pytest

from gateway.client.room_view import RECENT_COMMENTS, RoomView

SNAPSHOT: dict[str, Any] = {
    "t": "snapshot",
    "room": {"room": "room_1", "title": "Show", "state": "live"},
    "epoch": 7,
    "seq": 10,
    "viewers": 3,
    "likes": 50,
    "sales": [
        {
            "sale": "sale_1",
            "title": "Tins",
            "state": "scheduled",
            "opens_at_ms": 5,
            "items": [
                {"sku": "tin", "title": "Tin", "price_minor": 1900, "left": 4},
                {"sku": "cup", "title": "Cup", "price_minor": 100, "low": False},
            ],
        }
    ],
    "coupons": [{"coupon": "cpn_1", "title": "Ten off", "left": 9}],
    "pin": None,
    "recent": [{"comment": "cmt_1", "viewer": "vw_a", "name": "Ann", "text": "hello", "at_ms": 1}],
    "chat": {"slow_mode_s": 0, "comments": "on"},
}


def view_after(*events: dict[str, Any]) -> RoomView:
    view = RoomView(SNAPSHOT)
    view.tick({"t": "tick", "seq": 11, "now_ms": 0, "ev": list(events)})
    return view


def comment(number: int, viewer: str = "vw_b") -> dict[str, Any]:
    return {
        "k": "comment",
        "comment": f"cmt_{number}",
        "viewer": viewer,
        "name": viewer,
        "text": str(number),
        "at_ms": number,
    }


def ids(view: RoomView) -> list[str]:
    return [shown["comment"] for shown in view.recent]


def test_a_snapshot_is_the_picture_it_tells() -> None:
    view = RoomView(SNAPSHOT)
    assert (view.epoch, view.seq, view.viewers, view.likes) == (7, 10, 3, 50)
    assert view.room == SNAPSHOT["room"]
    assert view.recent == SNAPSHOT["recent"]
    assert view.chat == {"slow_mode_s": 0, "comments": "on"}
    sale = view.sales["sale_1"]
    assert (sale.state, sale.facts["title"], "items" in sale.facts) == ("scheduled", "Tins", False)
    assert [item["price_minor"] for item in sale.items.values()] == [1900, 100]
    assert view.coupons["cpn_1"]["left"] == 9


def test_counts_stay_as_they_were_when_a_tick_does_not_tell_them_and_what_was_skipped_adds_up() -> None:
    view = RoomView(SNAPSHOT)
    view.tick({"t": "tick", "seq": 11, "now_ms": 0, "viewers": 5, "skipped": 2, "ev": []})
    view.tick({"t": "tick", "seq": 12, "now_ms": 0, "likes": 60, "skipped": 3, "ev": []})
    view.tick({"t": "tick", "seq": 13, "now_ms": 0, "ev": []})
    assert (view.seq, view.viewers, view.likes, view.skipped) == (13, 5, 60, 5)


@pytest.mark.parametrize("seq", [9, 10])
def test_a_tick_that_is_in_the_picture_already_changes_nothing(seq: int) -> None:
    view = RoomView(SNAPSHOT)
    view.tick({"t": "tick", "seq": seq, "now_ms": 0, "viewers": 99, "skipped": 9, "ev": [comment(2)]})
    assert (view.seq, view.viewers, view.skipped, ids(view)) == (10, 3, 0, ["cmt_1"])


def test_the_snapshot_itself_is_left_as_it_was() -> None:
    told = copy.deepcopy(SNAPSHOT)
    view = RoomView(told)
    events = [
        {"k": "stock", "sale": "sale_1", "sku": "tin", "left": 0},
        {"k": "sale", "sale": "sale_1", "state": "open"},
        {"k": "chat", "slow_mode_s": 9, "comments": "off"},
        {"k": "room", "state": "ended"},
        {"k": "coupon", "coupon": "cpn_1", "left": 0},
        comment(2),
    ]
    view.tick({"t": "tick", "seq": 11, "now_ms": 0, "ev": events})
    assert told == SNAPSHOT


def test_a_sale_opens_its_stock_goes_down_and_its_price_changes() -> None:
    view = view_after(
        {"k": "sale", "sale": "sale_1", "state": "open", "opens_at_ms": 6, "closes_at_ms": 9},
        {"k": "stock", "sale": "sale_1", "sku": "tin", "left": 3},
        {"k": "stock", "sale": "sale_1", "sku": "cup", "low": True},
        {"k": "price", "sale": "sale_1", "sku": "tin", "price_minor": 1500},
    )
    sale = view.sales["sale_1"]
    assert (sale.state, sale.facts["opens_at_ms"], sale.facts["closes_at_ms"]) == ("open", 6, 9)
    assert sale.items["tin"] == {"sku": "tin", "title": "Tin", "price_minor": 1500, "left": 3}
    assert sale.items["cup"]["low"] is True


def test_a_sale_and_a_coupon_newer_than_the_snapshot_begin_with_what_their_events_say() -> None:
    view = view_after(
        {"k": "stock", "sale": "sale_2", "sku": "pot", "left": 8},
        {"k": "sale", "sale": "sale_2", "state": "open"},
        {"k": "coupon", "coupon": "cpn_2", "title": "Half", "left": 2, "claim_until_ms": 4},
    )
    assert view.sales["sale_2"].facts == {"sale": "sale_2", "state": "open"}
    assert view.sales["sale_2"].items == {"pot": {"sku": "pot", "left": 8}}
    assert view.coupons["cpn_2"] == {"coupon": "cpn_2", "title": "Half", "left": 2, "claim_until_ms": 4}


def test_a_host_pins_and_unpins_announces_slows_the_chat_down_and_ends_the_room() -> None:
    pin = {"sale": "sale_1", "sku": "tin", "title": "Tin"}
    view = view_after(
        {"k": "pin", "pin": pin},
        {"k": "announce", "text": "Five minutes"},
        {"k": "chat", "slow_mode_s": 10, "comments": "on"},
        {"k": "room", "state": "ended"},
    )
    assert (view.pin, view.announcement, view.chat["slow_mode_s"], view.room["state"]) == (
        pin,
        "Five minutes",
        10,
        "ended",
    )
    view.tick({"t": "tick", "seq": 12, "now_ms": 0, "ev": [{"k": "pin", "pin": None}]})
    assert view.pin is None


def test_a_comment_is_shown_in_the_order_of_the_ticks_and_old_ones_go() -> None:
    view = view_after(*(comment(number) for number in range(2, RECENT_COMMENTS + 4)))
    assert len(view.recent) == RECENT_COMMENTS
    assert (ids(view)[0], ids(view)[-1]) == ("cmt_4", f"cmt_{RECENT_COMMENTS + 3}")
    assert view.shown == RECENT_COMMENTS + 2
    assert "k" not in view.recent[-1]


def test_a_retracted_comment_goes_and_so_do_all_of_a_viewer() -> None:
    view = view_after(comment(2), comment(3, "vw_c"), comment(4), {"k": "comment_gone", "comment": "cmt_1"})
    assert ids(view) == ["cmt_2", "cmt_3", "cmt_4"]
    view.tick({"t": "tick", "seq": 12, "now_ms": 0, "ev": [{"k": "comment_gone", "viewer": "vw_b"}, comment(5)]})
    assert ids(view) == ["cmt_3", "cmt_5"]


def test_an_own_comment_is_drawn_once_whether_its_reply_or_its_tick_comes_first() -> None:
    view = RoomView(SNAPSHOT)
    view.posted(comment="cmt_2", viewer="vw_b", text="2", at_ms=2)
    assert ids(view) == ["cmt_1", "cmt_2"]
    view.tick({"t": "tick", "seq": 11, "now_ms": 0, "ev": [comment(3, "vw_c"), comment(2)]})
    view.posted(comment="cmt_3", viewer="vw_c", text="3", at_ms=3)
    assert ids(view) == ["cmt_1", "cmt_2", "cmt_3"]
    assert [shown["name"] for shown in view.recent] == ["Ann", "vw_b", "vw_c"]
    assert view.shown == 2


def test_an_own_comment_that_is_sampled_away_stays_for_its_author() -> None:
    view = RoomView(SNAPSHOT)
    view.posted(comment="cmt_2", viewer="vw_b", text="2", at_ms=2)
    view.tick({"t": "tick", "seq": 11, "now_ms": 0, "skipped": 1, "ev": []})
    assert (ids(view), view.shown, view.skipped) == (["cmt_1", "cmt_2"], 0, 1)


def test_an_event_of_tomorrow_changes_nothing_and_the_next_one_counts() -> None:
    view = view_after({"k": "raffle", "sale": "sale_9"}, {"no": "kind"}, comment(2))
    assert ids(view) == ["cmt_1", "cmt_2"]
    assert view.sales.keys() == {"sale_1"}
