"""What a call decides about comments, taps and stock; when it cuts a tick and what the tick tells is beside."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.domain.comment import CommentOutcome
from gateway.hot.keys import ROOM_SHARDS
from tests.support.lua_room import HOUR_MS, PERIOD_MS, Answer, LuaRoom, chatter, numbers, say
from tests.support.lua_shard import read_header

LIKES_EVERY_MS = 1_000
STOCK_A_TICK = 200


@pytest.fixture
def new_room(valkey_url: str) -> Iterator[LuaRoom]:
    """The server is empty."""
    room = LuaRoom(valkey_url)
    yield room
    room.close()


@pytest.fixture
def room(new_room: LuaRoom) -> LuaRoom:
    assert new_room.open()[0] == "opened"
    return new_room


def _twice(room: LuaRoom) -> Answer:
    room.tick(say())
    return room.tick(say())


def _muted(room: LuaRoom) -> Answer:
    room.change(mutes=[("vw_1", room.now_ms() + HOUR_MS)])
    return room.tick(say())


def _hurried(room: LuaRoom) -> Answer:
    room.set(slow_mode_s=60)
    return room.tick(say(), say(id="c2"))


def _silent(room: LuaRoom) -> Answer:
    room.set(comments=0)
    return room.tick(say())


WORDS: dict[str, Callable[[LuaRoom], Answer]] = {
    "cut": lambda room: room.tick(say()),
    "early": lambda room: room.later(say()),
    "quiet": lambda room: room.tick(),
    "unknown": lambda room: LuaRoom(room.valkey_url, room_no=6).tick(say(), taps_epoch=1),
}
ANSWERS: dict[str, Callable[[LuaRoom], Answer]] = {
    "posted": lambda room: room.tick(say()),
    "replayed": _twice,
    "rejected": lambda room: room.tick(say(banned=True)),
    "muted": _muted,
    "slow_mode": _hurried,
    "comments_off": _silent,
    "overloaded": lambda room: room.tick(say(), archive_max=0),
}


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_answered(room: LuaRoom, word: str) -> None:
    assert WORDS[word](room).told.word == word


@pytest.mark.parametrize("word", ANSWERS)
def test_each_comment_is_answered(room: LuaRoom, word: str) -> None:
    assert ANSWERS[word](room).words[-1] == word


def test_the_header_names_exactly_these_words_keys_and_arguments() -> None:
    header = read_header("tick_room")
    assert header.words == [set(WORDS), set(ANSWERS)]
    # Haste is judged before; a repeat is an outcome of the first, and too much an error.
    assert set(ANSWERS) - {"replayed", "overloaded"} == set(CommentOutcome) - {CommentOutcome.TOO_FAST}
    assert (header.keys, header.args) == (12, 3)


def test_a_room_that_is_not_there_is_left_alone(new_room: LuaRoom) -> None:
    answer = new_room.tick(say(), taps=3, taps_epoch=1, stock=[("sale_1|tin", 1, {"k": "stock"})], at_once=True)
    assert (answer.told.word, answer.told.epoch, answer.words) == ("unknown", 0, [])
    assert new_room.everything() == {}


# Comments.


def test_a_comment_is_posted_under_the_next_number_and_the_servers_time(room: LuaRoom) -> None:
    before_ms = room.now_ms()
    answer = room.tick(say(), say("vw_2"))
    (_, first, at_ms), (_, second, also_at_ms) = answer.told.answers
    assert (first, second) == (1, 2)
    assert before_ms <= at_ms == also_at_ms == answer.told.now_ms <= room.now_ms()
    assert room.tick(say("vw_3")).told.answers[0][1] == 3


def test_an_id_said_twice_in_one_call_is_one_comment(room: LuaRoom) -> None:
    answer = room.tick(say(text="one"), say(text="two"), say("vw_2"))
    assert answer.words == ["posted", "replayed", "posted"]
    assert answer.told.answers[0][1:] == answer.told.answers[1][1:]
    (tick,) = room.ticks()
    assert [(event.n, event.text) for event in tick.ev] == [(1, "one"), (2, "hello")]
    assert len(room.archive()[0][2]) == 2


def test_a_later_call_answers_a_repeat_as_the_first_did_and_tells_nothing(room: LuaRoom) -> None:
    first = room.tick(say()).told
    again = room.tick(say(text="other"))
    assert (again.told.word, again.told.answers) == ("quiet", [["replayed", *first.answers[0][1:]]])
    assert len(room.archive()) == 1


def test_an_id_is_the_viewers_own(room: LuaRoom) -> None:
    assert room.tick(say("vw_1", "c"), say("vw_2", "c"), say("vw_1", "d")).words == ["posted"] * 3


def _age(room: LuaRoom, periods: int) -> None:
    """What was said in this period was said so many periods ago."""
    period = room.now_ms() // PERIOD_MS
    said = room.keys.said
    assert room.facts["said_in"] == str(period), "the period ended under the test"
    if periods % 2:
        room.valkey.rename(said[period % 2], said[1 - period % 2])
    room.set(said_in=period - periods)


def test_a_repeat_is_known_in_the_next_period_and_forgotten_in_the_one_after(room: LuaRoom) -> None:
    first = room.tick(say()).told.answers[0]
    _age(room, 1)
    assert room.tick(say()).told.answers == [["replayed", *first[1:]]]
    assert room.tick(say("vw_2")).words == ["posted"]
    assert room.tick(say(), say("vw_2")).words == ["replayed", "replayed"]
    room.valkey.delete(*room.keys.said)
    room.tick(say("vw_3"))
    _age(room, 2)
    assert room.tick(say("vw_3")).words == ["posted"]


@pytest.mark.parametrize("periods", [2, 3, 4])
def test_what_was_said_long_ago_is_forgotten_whichever_half_it_is_in(room: LuaRoom, periods: int) -> None:
    room.tick(say())
    _age(room, periods)
    assert room.tick(say("vw_2")).words == ["posted"]
    period = room.now_ms() // PERIOD_MS
    assert room.hash(room.keys.said[period % 2]).keys() == {"vw_2|c1"}
    assert not room.valkey.exists(room.keys.said[1 - period % 2])


def test_a_period_that_ends_forgets_only_what_is_two_periods_old(room: LuaRoom) -> None:
    room.tick(say("last"))
    _age(room, 1)
    period = room.now_ms() // PERIOD_MS
    room.valkey.hset(room.keys.said[period % 2], "old|c1", "9|9")
    assert room.tick(say("last"), say("old")).words == ["replayed", "posted"]


def test_repeats_are_known_after_the_clock_went_back_over_the_end_of_a_period(room: LuaRoom) -> None:
    room.tick(say("now"))
    period = room.now_ms() // PERIOD_MS
    room.set(said_in=period + 1)
    room.valkey.hset(room.keys.said[1 - period % 2], "ahead|c1", f"9|{room.now_ms()}")
    assert room.tick(say("now"), say("ahead"), say("new")).words == ["replayed", "replayed", "posted"]
    assert room.tick(say("new")).words == ["replayed"]


def test_who_is_muted_is_told_for_how_long_and_says_nothing(room: LuaRoom) -> None:
    room.change(mutes=[("vw_1", room.now_ms() + HOUR_MS)])
    answer = room.tick(say("vw_1"), say("vw_2"))
    assert answer.words == ["muted", "posted"]
    assert HOUR_MS - 5_000 < answer.told.answers[0][1] <= HOUR_MS
    assert [event.viewer for event in room.ticks()[0].ev] == ["vw_2"]
    assert [item[3] for item in room.archive()[0][2]] == ["vw_2"]


def test_a_mute_ends_by_itself_or_by_an_unmute(room: LuaRoom) -> None:
    room.change(mutes=[("vw_1", room.now_ms() - 1), ("vw_2", room.now_ms() + HOUR_MS)])
    assert room.tick(say("vw_1"), say("vw_2")).words == ["posted", "muted"]
    room.change(mutes=[("vw_2", 0)])
    assert room.tick(say("vw_2")).words == ["posted"], "a refusal does not hold the id"


def test_in_slow_mode_a_viewer_speaks_once_in_its_time(room: LuaRoom) -> None:
    room.set(slow_mode_s=60)
    answer = room.tick(say("vw_1", "a"), say("vw_1", "b"), say("vw_2", "a"))
    assert answer.words == ["posted", "slow_mode", "posted"]
    assert answer.told.answers[1][1] == 60_000
    later = room.tick(say("vw_1", "b"))
    assert later.words == ["slow_mode"]
    assert 50_000 < later.told.answers[0][1] <= 60_000
    room.valkey.zadd(room.keys.spoke, {"vw_1": room.now_ms() - 60_000})
    assert room.tick(say("vw_1", "b"), say("vw_1", "c")).words == ["posted", "slow_mode"]


def test_a_refused_comment_does_not_prolong_the_wait(room: LuaRoom) -> None:
    room.set(slow_mode_s=60)
    room.tick(say("vw_1", "a"))
    spoke = room.valkey.zscore(room.keys.spoke, "vw_1")
    assert room.tick(say("vw_1", "b")).words == ["slow_mode"]
    assert room.valkey.zscore(room.keys.spoke, "vw_1") == spoke


def test_slow_mode_remembers_only_who_has_to_wait(room: LuaRoom) -> None:
    room.tick(say("before"))
    assert not room.valkey.exists(room.keys.spoke), "nothing is kept while there is no slow mode"
    room.set(slow_mode_s=60)
    room.valkey.zadd(room.keys.spoke, {"long_ago": room.now_ms() - 60_001, "lately": room.now_ms() - 30_000})
    room.tick(say("now"))
    assert set(room.valkey.zrange(room.keys.spoke, 0, -1)) == {b"lately", b"now"}


def test_nobody_waits_in_slow_mode_because_the_clock_went_back(room: LuaRoom) -> None:
    room.set(slow_mode_s=5)
    room.valkey.zadd(room.keys.spoke, {"vw_1": room.now_ms() + HOUR_MS})
    assert room.tick(say("vw_1", "a"), say("vw_1", "b")).words == ["posted", "slow_mode"]


def test_staff_speak_in_slow_mode_while_comments_are_off_and_when_muted(room: LuaRoom) -> None:
    room.set(slow_mode_s=60, comments=0)
    room.change(mutes=[("host", room.now_ms() + HOUR_MS)])
    assert room.tick(say("host", "a", staff=True), say("host", "b", staff=True), say()).words == [
        "posted",
        "posted",
        "comments_off",
    ]


def test_a_repeat_is_answered_whatever_is_forbidden_since(room: LuaRoom) -> None:
    first = room.tick(say()).told.answers[0]
    room.set(slow_mode_s=60, comments=0)
    room.change(mutes=[("vw_1", room.now_ms() + HOUR_MS)])
    assert room.tick(say(banned=True), archive_max=0).told.answers == [["replayed", *first[1:]]]


def test_a_mute_is_named_before_comments_that_are_off_and_these_before_slow_mode(room: LuaRoom) -> None:
    room.set(slow_mode_s=60)
    room.tick(say("vw_1"))
    room.set(comments=0)
    room.change(mutes=[("vw_2", room.now_ms() + HOUR_MS)])
    assert room.tick(say("vw_1", "b"), say("vw_2", "b"), archive_max=0).words == ["comments_off", "muted"]
    room.set(comments=1)
    assert room.tick(say("vw_1", "b"), say("vw_3", "b"), archive_max=0).words == ["slow_mode", "overloaded"]


def test_comments_are_refused_also_to_staff_while_the_ledger_is_too_far_behind(room: LuaRoom) -> None:
    for at in range(3):
        assert room.tick(say(id=f"c{at}"), archive_max=3).words == ["posted"]
    assert room.tick(say(id="c3"), say("host", staff=True), archive_max=3).words == ["overloaded"] * 2
    room.valkey.xtrim(room.keys.archive, maxlen=2, approximate=False)
    assert room.tick(say(id="c3"), archive_max=3).words == ["posted"]


def test_the_archive_is_bounded_in_comments_too_for_an_entry_may_hold_many(room: LuaRoom) -> None:
    for begin in (0, 100, 200):
        assert set(room.tick(*chatter(100, begin=begin), archive_max=150).words) == {"posted"}
    assert room.tick(say("late"), archive_max=150).words == ["overloaded"]
    other = LuaRoom(room.valkey_url, room_no=room.room_no + ROOM_SHARDS)
    other.open()
    assert other.tick(say(), archive_max=150).words == ["overloaded"], "it is one for the shard"
    other.close()
    room.valkey.delete(room.keys.archive)
    assert room.tick(say("late"), archive_max=150).words == ["posted"], "the ledger has it all"


def test_many_comments_in_all_are_not_too_many_while_the_ledger_keeps_up(room: LuaRoom) -> None:
    for at in range(100):
        assert room.tick(*chatter(20, begin=20 * at), archive_max=500).words == ["posted"] * 20
        room.valkey.xtrim(room.keys.archive, maxlen=2, approximate=False)


def test_the_archive_gets_what_was_said_in_one_entry_a_call(room: LuaRoom) -> None:
    answer = room.tick(say("vw_1", text="日本語 🎉"), say("vw_2", staff=True), say("vw_1"))
    room.tick(say("vw_1"))
    now_ms = answer.told.now_ms
    assert room.archive() == [
        [
            room.room_no,
            room.epoch,
            [
                ["c", 1, now_ms, "vw_1", "sub of vw_1", "name of vw_1", "日本語 🎉"],
                ["c", 2, now_ms, "vw_2", "sub of vw_2", "name of vw_2", "hello"],
            ],
        ]
    ]


# Taps.


def test_taps_are_a_total_so_told_twice_they_count_once(room: LuaRoom) -> None:
    assert room.cut(taps=3).likes == 3
    assert room.tick(taps=3).told.word == "quiet"
    assert room.tick(taps=2).told.word == "quiet", "a call that was overtaken"
    assert room.cut(taps=10).likes == 10


def test_the_taps_of_all_processes_are_added_to_what_the_room_had(new_room: LuaRoom) -> None:
    new_room.open(likes=1_000)
    assert new_room.cut(process="p1", taps=3).likes == 1_003
    assert new_room.cut(process="p2", taps=4).likes == 1_007
    assert new_room.cut(process="p1", taps=5).likes == 1_009


def test_taps_of_another_epoch_are_not_counted(room: LuaRoom) -> None:
    assert room.tick(taps=5, taps_epoch=room.epoch - 1).told.word == "quiet"
    assert room.tick(taps=5, taps_epoch=0).told.word == "quiet"
    assert room.facts["likes"] == "0"


def test_likes_stay_exact_where_their_number_is_long(new_room: LuaRoom) -> None:
    new_room.open(likes=2**50)
    assert new_room.cut(taps=1).likes == 2**50 + 1
    assert new_room.facts["likes"] == str(2**50 + 1)


def archived_likes(room: LuaRoom) -> list[int]:
    return [items[0][1] for _, _, items in room.archive() if items[0][0] == "l"]


def a_second_later(room: LuaRoom) -> None:
    room.set(likes_at=int(room.facts["likes_at"]) - LIKES_EVERY_MS)


def test_likes_are_archived_once_a_second_however_often_they_are_told(room: LuaRoom) -> None:
    for at in range(1, 51):
        assert room.cut(taps=at).likes == at
    assert archived_likes(room) == [1]
    a_second_later(room)
    room.cut(taps=51)
    assert archived_likes(room) == [1, 51]


def test_the_last_likes_are_archived_by_the_call_that_their_caller_is_asked_for(room: LuaRoom) -> None:
    assert room.tick(taps=1, at_once=True).told.wait_ms == -1, "these are archived"
    told = room.tick(taps=2, at_once=True).told
    assert told.word == "cut"
    assert 0 < told.wait_ms <= LIKES_EVERY_MS
    told = room.tick().told
    assert (told.word, 0 < told.wait_ms <= LIKES_EVERY_MS) == ("quiet", True)
    a_second_later(room)
    told = room.tick().told
    assert (told.word, told.wait_ms) == ("quiet", -1)
    assert archived_likes(room) == [1, 2]


def test_likes_are_archived_also_after_the_clock_went_back(room: LuaRoom) -> None:
    room.cut(taps=1)
    room.set(likes_at=room.now_ms() + HOUR_MS)
    room.cut(taps=2)
    assert archived_likes(room) == [1, 2]


def test_likes_alone_never_fill_the_archive_so_that_comments_are_refused(room: LuaRoom) -> None:
    for at in range(1, 21):
        room.cut(taps=at, archive_max=10)
        a_second_later(room)
    assert archived_likes(room) == [1, 2, 3, 4, 5], "they take half of it"
    told = room.tick(say(), archive_max=10).told
    assert told.answers[0][0] == "posted"
    assert 0 < told.wait_ms <= LIKES_EVERY_MS, "they are not forgotten"
    room.valkey.delete(room.keys.archive)
    a_second_later(room)
    room.tick(archive_max=10)
    assert archived_likes(room) == [20]


# Stock.


def stock(version: int, left: int, field: str = "sale_1|tin") -> tuple[str, int, dict[str, Any]]:
    return field, version, {"k": "stock", "sku": field.split("|")[1], "left": left}


def test_of_several_readings_the_newest_is_told_in_whichever_order_they_come(room: LuaRoom) -> None:
    room.later(stock=[stock(20, 7)])
    room.later(stock=[stock(10, 9)])
    room.later(stock=[stock(30, 5)], process="p2")
    told = room.cut(stock=[stock(25, 6), stock(1, 2, "sale_1|cup")]).ev
    assert sorted(told, key=lambda event: event["sku"]) == [stock(1, 2, "sale_1|cup")[2], stock(30, 5)[2]]


def test_an_old_reading_that_comes_late_is_not_told(room: LuaRoom) -> None:
    room.cut(stock=[stock(20, 7)])
    assert room.tick(stock=[stock(19, 9)], at_once=True).told.word == "quiet"
    assert room.tick(stock=[stock(20, 9)], at_once=True).told.word == "quiet", "the same moment says the same"


def test_a_newer_reading_of_the_same_content_is_no_news_and_still_outdates_an_older_one(room: LuaRoom) -> None:
    room.cut(stock=[stock(20, 7)])
    assert room.tick(stock=[stock(30, 7)], at_once=True).told.word == "quiet"
    assert room.tick(stock=[stock(25, 9)], at_once=True).told.word == "quiet"


def test_a_reading_that_came_back_to_what_was_told_is_no_news(room: LuaRoom) -> None:
    room.cut(stock=[stock(20, 7)])
    assert room.later(stock=[stock(30, 6)]).told.word == "early"
    assert room.later(stock=[stock(40, 7)]).told.word == "quiet"
    assert room.cut(stock=[stock(50, 6)]).ev == [stock(50, 6)[2]]


def test_a_tick_tells_so_much_stock_and_the_next_ones_the_rest(room: LuaRoom) -> None:
    fields = [f"sale_1|sku{at}" for at in range(2 * STOCK_A_TICK + 50)]
    for begin in range(0, len(fields), 50):
        room.later(stock=[stock(1, 9, field) for field in fields[begin : begin + 50]])
    told = [room.tick(at_once=True).told for _ in range(4)]
    assert [each.word for each in told] == ["cut", "cut", "cut", "quiet"]
    assert [each.wait_ms for each in told] == [100, 100, -1, -1], "who cuts is asked for the rest"
    assert [len(tick.ev) for tick in room.ticks()] == [STOCK_A_TICK, STOCK_A_TICK, 50]
    assert sorted(event["sku"] for tick in room.ticks() for event in tick.ev) == sorted(f[7:] for f in fields)


def test_what_waits_longest_is_told_first_whatever_else_changes_meanwhile(room: LuaRoom) -> None:
    room.later(stock=[stock(1, 9, "sale_1|waits")])
    score = room.valkey.zscore(room.keys.untold, "sale_1|waits")
    room.valkey.zadd(room.keys.untold, {"sale_1|waits": score - 1_000})
    room.later(stock=[stock(1, 9, f"sale_1|a{at}") for at in range(STOCK_A_TICK)])
    room.later(stock=[stock(2, 8, "sale_1|waits")])
    assert stock(2, 8, "sale_1|waits")[2] in room.cut().ev


def test_one_item_that_moves_costs_the_same_however_many_the_room_has_sold(room: LuaRoom) -> None:
    """By the keys' commands, which are the server's work: none of them reads a whole hash."""
    for sale in range(10):
        room.cut(stock=[stock(1, 9, f"sale_{sale}|sku{at}") for at in range(STOCK_A_TICK)])
    room.valkey.config_resetstat()
    assert len(room.cut(stock=[stock(2, 8, "sale_0|sku0")]).ev) == 1
    assert "cmdstat_hgetall" not in room.valkey.info("commandstats")


def test_each_item_is_told_once_and_by_itself(room: LuaRoom) -> None:
    tin, cup = stock(20, 7), stock(20, 3, "sale_1|cup")
    assert sorted(event["sku"] for event in room.cut(stock=[tin, cup]).ev) == ["cup", "tin"]
    assert room.cut(stock=[stock(21, 2, "sale_1|cup")]).ev == [stock(21, 2, "sale_1|cup")[2]]
    assert room.cut(say()).ev[0].n == 1
    assert len(room.ticks()[-1].ev) == 1


def test_versions_are_compared_as_numbers_of_any_length(room: LuaRoom) -> None:
    micros = 1_800_000_000_000_000
    room.cut(stock=[stock(micros, 7)])
    assert room.tick(stock=[stock(micros - 1, 9)], at_once=True).told.word == "quiet"
    assert room.cut(stock=[stock(micros + 1, 6)]).ev[0]["left"] == 6


def test_a_reading_with_the_separator_in_it_is_told_whole(room: LuaRoom) -> None:
    event = {"k": "stock", "sku": "a|b", "title": "1|2|3"}
    assert room.cut(stock=[("sale_1|a|b", 5, event)]).ev == [event]


def test_all_that_one_call_brings_is_in_one_tick(room: LuaRoom) -> None:
    tick = room.cut(*chatter(3), taps=4, stock=[stock(1, 9)])
    assert (numbers(tick), tick.likes, tick.ev[3]) == ([1, 2, 3], 4, stock(1, 9)[2])
