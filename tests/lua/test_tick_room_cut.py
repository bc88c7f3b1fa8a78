"""When a tick is cut and what it tells: the sample of the comments, the numbers, the history and what is published."""

import itertools
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.wire.ticks import SaidComment, read_tick
from tests.support.lua_room import HOUR_MS, LuaRoom, chatter, numbers, say

WAITING_MAX = 200
_rooms = itertools.count(100)


@pytest.fixture
def room(valkey_url: str) -> Iterator[LuaRoom]:
    room = LuaRoom(valkey_url)
    assert room.open()[0] == "opened"
    yield room
    room.close()


def allow(room: LuaRoom, tokens: float) -> None:
    """So many comments may be shown; none is added by the time that passes in the test."""
    room.set(tokens=tokens, tokens_at=room.now_ms() + HOUR_MS)


# When.


def test_a_tick_is_cut_when_the_interval_has_passed_since_the_last_one(room: LuaRoom) -> None:
    room.set(cut_at=room.now_ms() - 10_000)
    answer = room.tick(say(), interval_ms=11_000).told
    assert answer.word == "early"
    assert 0 < answer.wait_ms <= 1_000
    room.set(cut_at=room.now_ms() - 11_000)
    answer = room.tick(interval_ms=11_000).told
    assert (answer.word, answer.seq, answer.wait_ms) == ("cut", 1, -1)
    assert abs(int(room.facts["cut_at"]) - room.now_ms()) < 5_000
    assert room.later(say(id="c2")).told.word == "early", "the time begins anew"


def test_what_came_too_early_is_told_later_in_its_order_and_once(room: LuaRoom) -> None:
    for at in range(3):
        room.later(say(id=f"c{at}"))
    assert room.ticks() == []
    assert numbers(room.cut()) == [1, 2, 3]
    assert room.tick(at_once=True).told.word == "quiet"


def test_an_act_does_not_wait_for_the_interval(room: LuaRoom) -> None:
    room.later(say())
    tick = room.cut(say(id="c2"), interval_ms=HOUR_MS)
    assert numbers(tick) == [1, 2]


def test_a_tick_without_news_is_not_cut_whoever_asks(room: LuaRoom) -> None:
    answer = room.tick(at_once=True).told
    assert (answer.word, answer.seq, answer.wait_ms) == ("quiet", 0, -1)
    assert room.ticks() == []


def test_the_longest_interval_of_all_processes_counts(room: LuaRoom) -> None:
    room.set(interval=HOUR_MS, cut_at=room.now_ms() - 60_000)
    answer = room.tick(say(), interval_ms=100).told
    assert answer.word == "early"
    assert answer.wait_ms > HOUR_MS - 120_000
    room.set(interval=100)
    assert room.tick(interval_ms=100).told.word == "cut"


def test_a_clock_that_went_back_holds_no_tick_up(room: LuaRoom) -> None:
    room.set(cut_at=room.now_ms() + HOUR_MS)
    assert room.tick(say()).told.word == "cut"
    assert int(room.facts["cut_at"]) <= room.now_ms()


def test_viewers_and_likes_alone_are_news_and_are_told_when_they_changed(room: LuaRoom) -> None:
    room.set(viewers=7)
    tick = room.cut(taps=2)
    assert (tick.viewers, tick.likes, tick.ev) == (7, 2, [])
    tick = room.cut(say(), taps=2)
    assert (tick.viewers, tick.likes) == (None, None)
    room.set(viewers=0)
    assert room.cut().viewers == 0


# The sample.


def test_of_many_comments_those_that_people_can_read_are_shown_evenly_spread(room: LuaRoom) -> None:
    allow(room, 10)
    tick = room.cut(*chatter(100))
    assert numbers(tick) == list(range(10, 101, 10))
    assert tick.skipped == 90
    assert room.cut(say("one_more")).skipped == 1, "all that may be shown was shown"


def test_at_first_a_burst_is_shown_whole(room: LuaRoom) -> None:
    tick = room.cut(*chatter(25))
    assert (len(numbers(tick)), tick.skipped) == (20, 5)


def test_a_higher_rate_has_a_burst_of_a_second(room: LuaRoom) -> None:
    tick = room.cut(*chatter(60), rate=50)
    assert (len(numbers(tick)), tick.skipped) == (50, 10)


def test_with_the_time_more_may_be_shown_up_to_a_burst(room: LuaRoom) -> None:
    room.set(tokens=0, tokens_at=room.now_ms() - 500)
    assert 10 <= len(numbers(room.cut(*chatter(100)))) <= 15, "20 a second, and the test takes its time too"
    room.set(tokens=0, tokens_at=room.now_ms() - HOUR_MS)
    assert len(numbers(room.cut(*chatter(100, begin=100)))) == 20


def test_parts_of_a_comment_add_up(room: LuaRoom) -> None:
    allow(room, 1.75)
    assert len(numbers(room.cut(*chatter(5)))) == 1
    assert float(room.facts["tokens"]) == 0.75


def test_where_everything_is_read_everything_is_shown(room: LuaRoom) -> None:
    allow(room, 0)
    tick = room.cut(*chatter(100), rate=0)
    assert (numbers(tick), tick.skipped) == (list(range(1, 101)), 0)


def test_staff_are_always_shown_and_take_nobodys_place(room: LuaRoom) -> None:
    allow(room, 2)
    said = [say("host", f"h{at}", staff=True) if at % 2 else say(f"vw_{at}") for at in range(20)]
    tick = room.cut(*said)
    assert len([n for n in numbers(tick) if n % 2]) == 2
    assert [n for n in numbers(tick) if n % 2 == 0] == list(range(2, 21, 2))
    assert tick.skipped == 8


def test_at_most_so_many_wait_and_what_comes_beyond_is_counted_as_skipped(room: LuaRoom) -> None:
    allow(room, 20)
    answer = room.later(*chatter(150))
    room.later(*chatter(100, begin=150))
    assert room.valkey.llen(room.keys.pending) == WAITING_MAX
    assert answer.words == ["posted"] * 150, "posted they are all the same"
    room.later(say("host", staff=True))
    tick = room.cut()
    assert (len(numbers(tick)), tick.skipped) == (21, 230)
    assert numbers(tick)[-1] == 251
    assert sum(len(items) for _, _, items in room.archive()) == 251
    assert room.cut(say("next"), rate=0).skipped == 0, "told once"


def test_only_skipped_comments_are_news_too(room: LuaRoom) -> None:
    allow(room, 0)
    tick = room.cut(say())
    assert (tick.ev, tick.skipped) == ([], 1)


def test_what_was_taken_back_before_it_was_shown_is_neither_shown_nor_skipped(room: LuaRoom) -> None:
    allow(room, 2)
    room.later(*chatter(4))
    room.change(viewer="vw_0")
    room.change(gone=3)
    tick = room.cut()
    assert (numbers(tick), tick.skipped) == ([2, 4], 0)


calls = st.lists(
    st.tuples(st.integers(0, 90), st.integers(0, 3), st.booleans(), st.sampled_from([0, 0.5, 7, 20, 33])),
    min_size=1,
    max_size=8,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls=calls)
def test_every_comment_is_shown_or_counted_as_skipped(
    valkey_url: str, calls: list[tuple[int, int, bool, float]]
) -> None:
    room = LuaRoom(valkey_url, room_no=next(_rooms))
    try:
        room.open()
        posted, staff_said = 0, set()
        for viewers, staff, at_once, rate in calls:
            said = [*chatter(viewers, begin=posted), *(say(f"host_{posted}_{at}", staff=True) for at in range(staff))]
            answers = room.later(*said, at_once=at_once, rate=rate).told.answers
            assert [answer[:2] for answer in answers] == [["posted", posted + at + 1] for at in range(len(said))]
            staff_said |= {answer[1] for answer in answers[viewers:]}
            posted += len(said)
        room.tick(at_once=True)
        ticks = room.ticks()
        shown = [n for tick in ticks for n in numbers(tick)]
        assert len(shown) + sum(tick.skipped for tick in ticks) == posted
        assert shown == sorted(set(shown))
        assert staff_said <= set(shown)
        assert (room.facts["waiting"], room.facts["skipped"]) == ("0", "0")
    finally:
        room.close()


# What a tick is.


@pytest.mark.parametrize("count", [0, 1, 15, 16, 255, 256, 700])
def test_a_tick_of_any_size_is_read_as_it_was_meant(room: LuaRoom, count: int) -> None:
    room.set(viewers=70_000)
    for begin in range(0, count, 200):
        room.later(*chatter(min(200, count - begin), begin=begin), rate=0)
    tick = room.cut(rate=0)
    assert (tick.epoch, tick.seq, tick.viewers, tick.likes, tick.skipped) == (room.epoch, 1, 70_000, None, 0)
    assert tick.ev == [
        SaidComment(at + 1, event.at_ms, f"vw_{at}", f"name of vw_{at}", f"text {at}")
        for at, event in enumerate(tick.ev)
    ]
    assert len(tick.ev) == count


def test_events_are_told_as_they_were_given_between_the_comments_of_their_time(room: LuaRoom) -> None:
    announce = {"k": "announce", "text": "日本 " * 100}
    pin = {"k": "pin", "pin": None}
    room.later(say("vw_1"))
    room.change(announce, pin)
    room.later(say("vw_2"))
    tick = room.cut()
    assert numbers(tick) == [1, 2]
    assert tick.ev[1:3] == [announce, pin]


def test_a_name_that_is_missing_and_a_long_text_are_told_as_they_are(room: LuaRoom) -> None:
    said = ["vw_1", "sub", "c1", "", "🎉" * 200, 0]
    (event,) = room.cut(said).ev
    assert (event.name, event.text) == ("", "🎉" * 200)


def test_what_is_published_is_what_the_history_keeps(room: LuaRoom) -> None:
    with room.valkey.pubsub(ignore_subscribe_messages=True) as heard:
        heard.subscribe(room.keys.channel)
        heard.get_message(timeout=5)
        for at in range(3):
            room.cut(say(id=f"c{at}"), taps=at)
        published = [heard.get_message(timeout=5)["data"] for _ in range(3)]
    assert published == list(room.packed_ticks().values())
    assert [read_tick(packed).seq for packed in published] == [1, 2, 3]


def test_the_history_is_the_last_600_ticks_without_a_gap(room: LuaRoom) -> None:
    for at in range(1, 621):
        assert room.tick(taps=at, at_once=True).told.seq == at
    ids = list(room.packed_ticks())
    assert ids == [f"{at}-0" for at in range(21, 621)]
    assert [tick.seq for tick in room.ticks()] == list(range(21, 621))
    assert [tick.likes for tick in room.ticks()] == list(range(21, 621))


def test_a_room_that_nobody_comes_to_any_more_is_forgotten_in_a_week(room: LuaRoom) -> None:
    room.change(mutes=[("vw_9", room.now_ms() + HOUR_MS)])
    room.set(slow_mode_s=1)
    room.cut(say(), taps=1, stock=[("sale_1|tin", 1, {"k": "stock"})])
    kept = [key for key in room.keys.all if room.valkey.exists(key)]
    assert {room.keys.room, room.keys.ticks, room.keys.crowd, room.keys.mutes, room.keys.stock} < set(kept)
    assert all(604_700 < room.valkey.ttl(key) <= 604_800 for key in kept)
    assert room.valkey.ttl(room.keys.archive) == -1, "that is the ledger's to take"


def unforgotten(room: LuaRoom) -> list[str]:
    """Keys that would outlive the room."""
    return [key for key in room.keys.all if room.valkey.ttl(key) == -1]


def test_every_key_is_forgotten_in_the_end_whenever_it_was_made(room: LuaRoom) -> None:
    assert unforgotten(room) == []
    room.cut(say(id="first"))
    room.set(slow_mode_s=1)
    room.later(say("vw_2"), taps=1, stock=[("sale_1|tin", 1, {"k": "stock"})])
    made = {room.keys.pending, room.keys.crowd, room.keys.spoke, room.keys.stock, room.keys.untold}
    assert made <= {key for key in room.keys.all if room.valkey.exists(key)}
    assert unforgotten(room) == []


def test_a_room_that_is_told_something_now_and_then_is_kept_whole(room: LuaRoom) -> None:
    room.change(mutes=[("vw_9", room.now_ms() + HOUR_MS)])
    room.cut(say(), taps=1, stock=[("sale_1|tin", 1, {"k": "stock"})])
    kept = [key for key in room.keys.all if room.valkey.exists(key)]
    for key in kept:
        room.valkey.expire(key, 600_000)
    room.cut(say(id="c2"))
    assert all(room.valkey.ttl(key) > 604_700 for key in kept)
