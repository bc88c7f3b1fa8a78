from typing import Any

import pytest

from gateway.rooms.picture import RECENT, TICKS_KEPT, RoomPicture, ShownTick, Variant
from gateway.wire.codec import JSON, MSGPACK, Codec
from tests.support.members import comment, cut, frames_in, picture

GONE = "comment_gone"


def seqs(ticks: Any) -> list[int]:
    return [tick.seq for tick in ticks]


def told(tick: ShownTick, variant: Variant = Variant.WHOLE, codec: Codec = JSON) -> dict[str, Any]:
    (frame,) = frames_in(tick.encoded(codec, variant), codec)
    return frame


def names(tick: ShownTick) -> list[str]:
    """Comments by their id, other events by their kind."""
    return [event["comment"] if event["k"] == "comment" else event["k"] for event in told(tick)["ev"]]


def test_a_tick_moves_the_picture_on_in_what_it_says() -> None:
    room = picture(likes=3, viewers=4, slow_mode_s=5, comments=False, pin={"sku": "tin"})
    room.apply(cut(1, likes=9))
    assert (room.seq, room.likes, room.viewers) == (1, 9, 4)
    room.apply(cut(2, {"k": "chat", "slow_mode_s": 0, "comments": "on"}, viewers=0))
    assert (room.viewers, room.chat) == (0, {"slow_mode_s": 0, "comments": "on"})
    assert room.pin == {"sku": "tin"}
    room.apply(cut(3, {"k": "pin", "pin": {"sku": "cup"}}, {"k": "chat", "slow_mode_s": 9, "comments": "off"}))
    assert (room.pin, room.chat) == ({"sku": "cup"}, {"slow_mode_s": 9, "comments": "off"})
    room.apply(cut(4, {"k": "pin", "pin": None}))
    assert room.pin is None


def test_a_comment_is_shown_with_its_public_id() -> None:
    room = picture(epoch=7)
    tick = room.apply(cut(1, comment(3, "vw_2", at_ms=55), epoch=7))
    expected = {"comment": "cmt_7_3", "viewer": "vw_2", "name": "name of vw_2", "text": "text 3", "at_ms": 55}
    assert told(tick)["ev"] == [{"k": "comment", **expected}]
    assert told(tick, codec=MSGPACK) == told(tick)


def test_the_last_comments_are_recent() -> None:
    room = picture()
    for seq in range(1, RECENT + 11):
        room.apply(cut(seq, comment(seq)))
    assert [each.comment for each in room.recent] == [f"cmt_1_{n}" for n in range(11, RECENT + 11)]


def test_who_missed_ticks_is_told_exactly_those() -> None:
    room = picture(seq=10)
    for seq in range(11, 16):
        room.apply(cut(seq))
    assert seqs(room.missed(1, 12)) == [13, 14, 15]
    assert seqs(room.missed(1, 10)) == [11, 12, 13, 14, 15]
    assert seqs(room.missed(1, 15)) == []


@pytest.mark.parametrize(
    ("epoch", "seq"), [(1, 9), (1, 16), (1, -1), (0, 12), (2, 12)], ids=["too old", "ahead", "none", "before", "after"]
)
def test_who_missed_more_than_is_known_needs_a_snapshot(epoch: int, seq: int) -> None:
    room = picture(seq=10)
    for at in range(11, 16):
        room.apply(cut(at))
    assert room.missed(epoch, seq) is None


def test_as_many_ticks_are_kept_as_valkey_keeps() -> None:
    room = picture()
    for seq in range(1, TICKS_KEPT + 6):
        room.apply(cut(seq))
    assert room.missed(1, 4) is None
    assert len(room.missed(1, 5) or ()) == TICKS_KEPT


def test_history_is_remembered_up_to_the_facts_and_of_their_epoch_only() -> None:
    room = picture(epoch=2, seq=5)
    room.remember([cut(4, comment(1), epoch=2), cut(5, comment(2), epoch=2), cut(6, epoch=2), cut(5, epoch=1)])
    assert seqs(room.ticks) == [4, 5]
    assert [each.comment for each in room.recent] == ["cmt_2_1", "cmt_2_2"]
    assert seqs(room.missed(2, 3)) == [4, 5]
    assert room.missed(2, 2) is None


def test_what_was_remembered_changes_nothing_that_the_facts_say() -> None:
    room = picture(seq=5, likes=70, viewers=9, pin={"sku": "tin"}, slow_mode_s=3)
    pin, chat = {"k": "pin", "pin": None}, {"k": "chat", "slow_mode_s": 0, "comments": "off"}
    room.remember([cut(5, pin, chat, likes=1, viewers=1)])
    assert (room.seq, room.likes, room.viewers, room.pin) == (5, 70, 9, {"sku": "tin"})
    assert room.chat == {"slow_mode_s": 3, "comments": "on"}


def _with_comments() -> tuple[RoomPicture, ShownTick, ShownTick]:
    room = picture()
    first = room.apply(cut(1, comment(1, "vw_1"), comment(2, "vw_2"), {"k": "announce", "text": "!"}))
    second = room.apply(cut(2, comment(3, "vw_1")))
    for tick in (first, second):
        for codec in (JSON, MSGPACK):
            tick.encoded(codec, Variant.WHOLE)
    return room, first, second


def test_a_comment_that_was_taken_back_is_in_nothing_that_is_told_from_then_on() -> None:
    room, first, second = _with_comments()
    third = room.apply(cut(3, comment(4, "vw_1"), {"k": GONE, "comment": "cmt_1_1"}))
    assert names(first) == ["cmt_1_2", "announce"]
    assert names(second) == ["cmt_1_3"]
    assert names(third) == ["cmt_1_4", GONE]
    assert [each.comment for each in room.recent] == ["cmt_1_2", "cmt_1_3", "cmt_1_4"]
    assert told(first, codec=MSGPACK) == told(first)


def test_all_that_a_viewer_said_before_is_taken_back_and_what_they_say_after_is_not() -> None:
    room, first, second = _with_comments()
    gone = {"k": GONE, "viewer": "vw_1"}
    third = room.apply(cut(3, comment(4, "vw_1"), comment(5, "vw_3"), gone, comment(6, "vw_1")))
    assert [names(tick) for tick in (first, second, third)] == [
        ["cmt_1_2", "announce"],
        [],
        ["cmt_1_5", GONE, "cmt_1_6"],
    ]
    assert [each.comment for each in room.recent] == ["cmt_1_2", "cmt_1_5", "cmt_1_6"]
    assert room.recent.maxlen == RECENT


def test_a_comment_taken_back_in_the_history_is_not_remembered() -> None:
    room = picture(seq=2)
    room.remember([cut(1, comment(1), comment(2)), cut(2, {"k": GONE, "comment": "cmt_1_1"})])
    assert [each.comment for each in room.recent] == ["cmt_1_2"]
    assert names(room.ticks[0]) == ["cmt_1_2"]


def test_a_tick_is_encoded_once_and_anew_only_when_something_of_it_was_taken_back() -> None:
    room, first, second = _with_comments()
    before_first, before_second = first.encoded(JSON, Variant.WHOLE), second.encoded(JSON, Variant.WHOLE)
    assert first.encoded(JSON, Variant.WHOLE) is before_first
    room.apply(cut(3, {"k": GONE, "comment": "cmt_1_1"}))
    assert first.encoded(JSON, Variant.WHOLE) != before_first
    assert second.encoded(JSON, Variant.WHOLE) is before_second


def test_who_cannot_keep_up_gets_less_and_is_told_how_much_was_left_out() -> None:
    kinds = ["sale", "price", "stock", "coupon", "room", "announce"]
    events = [comment(1), *({"k": kind} for kind in kinds), {"k": "pin", "pin": None}, {"k": "chat"}, comment(2)]
    tick = picture().apply(cut(1, *events, skipped=3, likes=5, viewers=6))
    same = {"t": "tick", "seq": 1, "now_ms": 100}
    assert told(tick) | {"ev": None} == {**same, "ev": None, "viewers": 6, "likes": 5, "skipped": 3}
    less = told(tick, Variant.NO_COMMENTS)
    assert less == {**same, "ev": [{"k": kind} for kind in kinds] + events[7:9], "viewers": 6, "likes": 5, "skipped": 5}
    assert told(tick, Variant.SALE_ONLY) == {**same, "ev": less["ev"], "skipped": 5}, (
        "what no later tick says again stays"
    )


def test_who_was_left_without_totals_is_told_them_with_the_next_tick() -> None:
    room = picture()
    room.apply(cut(1, likes=5, viewers=6))
    tick = room.apply(cut(2, likes=9))
    same = {"t": "tick", "seq": 2, "now_ms": 200, "ev": [], "likes": 9}
    assert told(tick) == same
    assert told(tick, Variant.AND_TOTALS) == {**same, "viewers": 6}


def test_every_variant_of_a_quiet_tick_is_a_tick_all_the_same() -> None:
    tick = picture().apply(cut(1))
    for variant in (Variant.WHOLE, Variant.NO_COMMENTS, Variant.SALE_ONLY):
        assert told(tick, variant) == {"t": "tick", "seq": 1, "now_ms": 100, "ev": []}
