"""The scripts of a room beside its tick: how it is opened and changed, who is counted, and where rooms stand."""

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import msgpack
import pytest

from gateway.domain.comment import CommentRequest
from gateway.domain.live import FOREVER_MS, RoomChange, RoomStanding
from gateway.hot.connect import connect
from gateway.hot.keys import PROCESSES, RoomKeys
from gateway.hot.rooms import Counted, HotRooms, Where
from gateway.hot.scripts import Scripts
from gateway.wire.said import CommentGone, Entry, Said, ViewerGone, decode
from gateway.wire.ticks import RoomFacts, read_tick
from tests.support.lua_room import HOUR_MS, YOUNG_MS, LuaRoom, chatter, numbers, say
from tests.support.lua_shard import read_header


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


def count(
    room: LuaRoom, process: str, sockets: int, *alive: str, interval_ms: int = 100, young_ms: int = YOUNG_MS
) -> Counted:
    """`alive`: the processes that live, the caller among them or not."""
    keys = room.keys
    word, *facts = room.call("count_crowd", [keys.room, keys.crowd], [process, sockets, interval_ms, young_ms, *alive])
    return Counted(word.decode(), *facts)


WORDS: dict[str, dict[str, Callable[[LuaRoom], str]]] = {
    "open_room": {
        "opened": lambda room: room.open()[0],
        "there": lambda room: (room.open(), room.open())[1][0],
    },
    "change_room": {
        "changed": lambda room: (room.open(), room.change())[1][0],
        "unknown": lambda room: room.change()[0],
    },
    "count_crowd": {
        "counted": lambda room: (room.open(), count(room, "p1", 3))[1].word,
        "unknown": lambda room: count(room, "p1", 3).word,
    },
}


@pytest.mark.parametrize(("script", "word"), [(script, word) for script, words in WORDS.items() for word in words])
def test_each_word_is_answered(new_room: LuaRoom, script: str, word: str) -> None:
    assert WORDS[script][word](new_room) == word


@pytest.mark.parametrize(
    ("script", "keys", "args"), [("open_room", 3, 7), ("change_room", 4, 5), ("count_crowd", 2, 5)]
)
def test_the_headers_name_exactly_these_words_keys_and_arguments(script: str, keys: int, args: int) -> None:
    header = read_header(script)
    assert header.words == [set(WORDS[script])]
    assert (header.keys, header.args) == (keys, args)


# How a room is opened.


def test_a_room_is_opened_as_the_ledger_knows_it_in_an_epoch_that_is_its_time(new_room: LuaRoom) -> None:
    before_ms = new_room.now_ms()
    pin = msgpack.packb({"sku": "tin"})
    word, epoch = new_room.open(slow_mode_s=5, comments=False, pin=pin, likes=70, mutes=[("vw_1", 9), ("vw_2", 8)])
    assert word == "opened"
    assert before_ms <= epoch <= new_room.now_ms()
    assert new_room.facts == {
        "epoch": str(epoch),
        "seq": "0",
        "cut_at": "0",
        "n": "0",
        "likes": "70",
        "shown_likes": "70",
        "kept_likes": "70",
        "slow_mode_s": "5",
        "comments": "0",
        "rules": "0",
        "pin": pin.decode("latin-1"),
    }
    assert new_room.hash(new_room.keys.mutes) == {"vw_1": "9", "vw_2": "8"}
    assert new_room.tick(at_once=True).told.word == "quiet", "likes it had already are no news"


def test_a_room_that_is_there_stays_as_it_is_whatever_the_ledger_says(room: LuaRoom) -> None:
    room.tick(say(), taps=3)
    before = room.everything()
    assert room.open(slow_mode_s=5, likes=70, mutes=[("vw_1", 9)]) == ("there", room.epoch)
    assert room.everything() == before


@pytest.mark.parametrize(("seq", "word"), [(2, "there"), (3, "there"), (4, "opened")])
def test_a_server_that_forgot_ticks_begins_the_room_anew(room: LuaRoom, seq: int, word: str) -> None:
    for at in range(3):
        room.cut(say(id=f"c{at}"), taps=5)
    before = room.epoch
    assert room.open(not_before=(before, seq), likes=2)[0] == word
    assert (room.epoch > before) == (word == "opened")
    assert room.facts["likes"] == ("2" if word == "opened" else "5")


def test_ticks_of_another_epoch_say_nothing_about_this_one(room: LuaRoom) -> None:
    assert room.open(not_before=(room.epoch - 1, 99))[0] == "there"
    assert room.open(not_before=(room.epoch + 1, 99))[0] == "there"


def test_the_epoch_grows_also_when_the_clock_went_back(room: LuaRoom) -> None:
    ahead = room.now_ms() + HOUR_MS
    room.set(epoch=ahead)
    assert room.open(not_before=(ahead, 1)) == ("opened", ahead + 1)


def test_nothing_is_left_of_the_epoch_before(room: LuaRoom) -> None:
    room.change({"k": "announce"}, mutes=[("vw_9", FOREVER_MS)], slow_mode_s=9, pin=b"+" + msgpack.packb({"a": 1}))
    room.cut(say("host", staff=True), taps=3, stock=[("sale_1|tin", 5, {"k": "stock"})])
    room.later(say("vw_2"))
    room.later(stock=[("sale_1|tin", 6, {"k": "stock", "left": 1})])
    count(room, "p1", 3)
    room.valkey.hset(room.keys.said[0], "a", "1|1")
    room.valkey.hset(room.keys.said[1], "a", "1|1")
    assert all(room.valkey.exists(key) for key in room.keys.all)
    archived = room.archive()
    room.valkey.delete(room.keys.room)
    assert room.open()[0] == "opened"
    assert [key for key in room.keys.all if room.valkey.exists(key)] == [room.keys.room]
    assert "pin" not in room.facts
    assert room.archive() == archived, "what was said is the ledger's to take"
    assert room.tick(say("host", staff=True), taps=3).words == ["posted"], "a repeat of another epoch is none"
    (tick,) = room.ticks()
    assert (tick.seq, tick.viewers, tick.likes, numbers(tick)) == (1, None, 3, [1])


# How it is changed.


def test_an_act_changes_what_it_names_and_nothing_else(room: LuaRoom) -> None:
    def facts() -> dict[str, str]:
        return {name: room.facts.get(name, "") for name in ("slow_mode_s", "comments", "pin", "rules")}

    as_opened = facts()
    assert room.change({"k": "announce"}, actor="h") == ("changed", room.epoch)
    assert facts() == as_opened
    room.change(slow_mode_s=30)
    assert facts() == as_opened | {"slow_mode_s": "30"}
    room.change(comments=0)
    room.change(pin=b"+\x80")
    assert facts() == {"slow_mode_s": "30", "comments": "0", "pin": "\x80", "rules": "0"}
    room.change(slow_mode_s=0, comments=1, pin=b"-")
    assert facts() == as_opened
    room.change(rules=True)
    room.change(rules=True)
    assert facts() == as_opened | {"rules": "2"}


def test_mutes_are_set_and_taken_away_one_by_one(room: LuaRoom) -> None:
    room.change(mutes=[("vw_1", 1_800_000_000_000), ("vw_2", FOREVER_MS)])
    room.change(mutes=[("vw_1", 0), ("vw_3", 5), ("vw_4", 0)])
    assert room.hash(room.keys.mutes) == {"vw_2": str(FOREVER_MS), "vw_3": "5"}


def test_who_is_banned_is_muted_for_good(room: LuaRoom) -> None:
    room.change(mutes=[("vw_1", FOREVER_MS)])
    assert room.tick(say()).words == ["muted"]


def test_the_room_is_told_events_in_their_order_and_not_before_its_tick(room: LuaRoom) -> None:
    room.later(say("vw_1"))
    events = [{"k": "chat", "slow_mode_s": at} for at in range(20)]
    room.change(*events[:10])
    room.change(*events[10:])
    assert room.ticks() == []
    assert room.cut().ev[1:] == events


def test_a_comment_that_waits_is_taken_back_and_never_shown(room: LuaRoom) -> None:
    room.later(say("vw_1"), say("host", staff=True), say("vw_2"))
    gone = {"k": "comment_gone", "comment": "cmt_1"}
    room.change(gone, gone=1)
    tick = room.cut()
    assert numbers(tick) == [2, 3]
    assert tick.ev[-1] == gone
    room.later(say("vw_3", staff=True), say("vw_4"))
    room.change(gone=4)
    assert numbers(room.cut()) == [5], "also what staff said"


def test_a_comment_of_an_epoch_before_takes_no_other_one_with_its_number(room: LuaRoom) -> None:
    room.later(say("vw_1"))
    archived = room.archive()
    room.change(gone=1, gone_epoch=(room.epoch + 1) % 65_536)
    assert room.archive() == archived
    assert numbers(room.cut()) == [1]


def test_a_comment_that_was_shown_is_taken_back_in_the_next_tick(room: LuaRoom) -> None:
    room.cut(say())
    room.change({"k": "comment_gone", "comment": "cmt_1"}, gone=1)
    tick = room.cut()
    assert tick.ev == [{"k": "comment_gone", "comment": "cmt_1"}]
    assert tick.skipped == 0


def test_all_that_a_viewer_said_so_far_is_taken_back_and_what_they_say_then_is_not(room: LuaRoom) -> None:
    room.cut(say("vw_1", "a"))
    room.later(say("vw_1", "b"), say("vw_2", "b"), say("vw_1", "c", staff=True))
    room.change({"k": "comment_gone", "viewer": "vw_1"}, viewer="vw_1", actor="host_2")
    room.later(say("vw_1", "d"))
    tick = room.cut()
    assert numbers(tick) == [3, 5]
    assert tick.ev[1] == {"k": "comment_gone", "viewer": "vw_1"}
    assert room.archive()[2] == [room.room_no, room.epoch, [["v", "vw_1", 4, "host_2"]]]


def test_the_archive_is_told_once_an_act_behind_what_was_said(room: LuaRoom) -> None:
    room.tick(say())
    room.change(gone=1, actor="host_1")
    room.change({"k": "announce"}, slow_mode_s=5)
    room.change(gone=1, viewer="vw_1", actor="host_2")
    entries = [decode(fields[b"e"]) for _, fields in room.valkey.xrange(room.keys.archive)]
    said = entries[0].items[0]
    assert isinstance(said, Said)
    assert [entry.items for entry in entries[1:]] == [
        [CommentGone(1, "host_1")],
        [CommentGone(1, "host_2"), ViewerGone("vw_1", 1, "host_2")],
    ]
    assert entries[1] == Entry(room.room_no, room.epoch, [CommentGone(1, "host_1")])


def test_what_is_left_of_those_that_wait_is_sampled_as_if_no_other_had_come(room: LuaRoom) -> None:
    room.later(*chatter(100))
    for at in range(50, 100):
        room.change(viewer=f"vw_{at}")
    assert room.facts["waiting"] == "50"
    room.set(tokens=5, tokens_at=room.now_ms() + HOUR_MS)
    tick = room.cut()
    assert (numbers(tick), tick.skipped) == ([10, 20, 30, 40, 50], 45)


def test_what_an_act_or_a_count_makes_is_forgotten_with_the_room(room: LuaRoom) -> None:
    room.change({"k": "announce"}, mutes=[("vw_1", FOREVER_MS)])
    count(room, "p1", 3)
    kept = [key for key in room.keys.all if room.valkey.exists(key)]
    assert set(kept) == {room.keys.room, room.keys.pending, room.keys.mutes, room.keys.crowd}
    assert all(604_700 < room.valkey.ttl(key) <= 604_800 for key in kept)
    room.later(say("vw_2"), say("vw_3"))
    room.change(viewer="vw_2")
    assert room.valkey.ttl(room.keys.pending) > 0, "it was made anew"


def test_an_act_on_a_room_that_is_not_there_leaves_nothing(new_room: LuaRoom) -> None:
    assert new_room.change({"k": "announce"}, slow_mode_s=5, mutes=[("vw_1", 9)], gone=1) == ("unknown", 0)
    assert new_room.everything() == {}


# Who is counted.


def test_the_sockets_of_all_processes_are_added_up(room: LuaRoom) -> None:
    assert count(room, "p1", 3, "p1", "p2") == Counted("counted", room.epoch, 0, 3, True, 0)
    assert count(room, "p2", 4, "p1", "p2", interval_ms=900).viewers == 7
    assert count(room, "p1", 1, "p1", "p2").viewers == 5
    assert (room.facts["viewers"], room.facts["interval"]) == ("5", "900")
    assert room.cut().viewers == 5
    assert not count(room, "p1", 1, "p1", "p2").is_news


def test_a_process_that_holds_nobody_any_more_neither_counts_nor_slows_the_room(room: LuaRoom) -> None:
    count(room, "p1", 3, "p1", "p2", interval_ms=900)
    count(room, "p2", 4, "p1", "p2")
    assert count(room, "p1", 0, "p1", "p2").viewers == 4
    assert room.facts["interval"] == "100"
    assert count(room, "p2", 0, "p1", "p2").viewers == 0
    assert room.hash(room.keys.crowd) == {}


def _aged(room: LuaRoom, process: str, by_ms: int) -> None:
    sockets, interval, at = room.hash(room.keys.crowd)[f"c:{process}"].split("|")
    room.valkey.hset(room.keys.crowd, f"c:{process}", f"{sockets}|{interval}|{int(at) - by_ms}")


def test_a_process_that_is_gone_is_dropped_and_one_that_just_came_is_not(room: LuaRoom) -> None:
    for process in ("dead", "young", "named"):
        count(room, process, 10, "dead", "young", "named")
    _aged(room, "dead", YOUNG_MS + 1_000)
    _aged(room, "named", HOUR_MS)
    assert count(room, "p1", 1, "p1", "named").viewers == 21
    assert room.hash(room.keys.crowd).keys() == {"c:p1", "c:young", "c:named"}
    assert count(room, "p1", 1, "p1", "named", young_ms=0).viewers == 11


def test_who_counts_is_counted_also_when_it_was_not_heard_of(room: LuaRoom) -> None:
    assert count(room, "p1", 2, "p2", young_ms=0).viewers == 2


def test_the_taps_of_a_process_stay_when_it_is_gone(room: LuaRoom) -> None:
    room.cut(process="dead", taps=5)
    count(room, "dead", 10, "dead")
    _aged(room, "dead", HOUR_MS)
    assert count(room, "p1", 1, "p1").viewers == 1
    tick = room.cut(process="dead", taps=5)
    assert (tick.viewers, tick.likes) == (1, None)


def test_a_room_that_is_not_there_is_not_counted(new_room: LuaRoom) -> None:
    assert count(new_room, "p1", 3) == Counted("unknown", 0, 0, 0, False, 0)
    assert new_room.everything() == {}


def test_processes_live_as_long_as_their_word_holds(new_room: LuaRoom) -> None:
    assert new_room.beat("p1", HOUR_MS) == ["p1"]
    assert new_room.beat("p2", HOUR_MS * 2) == ["p1", "p2"]
    new_room.valkey.zadd(PROCESSES, {"p3": new_room.now_ms() - 1, "p4": new_room.now_ms() + 60_000})
    assert new_room.beat("p1", HOUR_MS) == ["p4", "p1", "p2"]
    assert new_room.beat("p2", 0) == ["p4", "p1"]
    until_ms = new_room.valkey.zscore(PROCESSES, "p1")
    assert HOUR_MS - 5_000 < until_ms - new_room.now_ms() <= HOUR_MS


# Where rooms stand.


def test_rooms_of_a_shard_are_compared_in_one_call(room: LuaRoom) -> None:
    room.cut(say())
    room.change(rules=True)
    other = LuaRoom(room.valkey_url, room_no=21)
    other.open()
    assert room.where(5, 37, 21) == [room.epoch, 1, 1, 0, 0, 0, other.epoch, 0, 0]
    other.close()


def test_what_only_reads_may_run_on_a_server_that_is_full(room: LuaRoom) -> None:
    room.valkey.config_set("maxmemory", 1)
    try:
        assert room.where(5) == [room.epoch, 0, 0]
    finally:
        room.valkey.config_set("maxmemory", 0)


# The binding.


@pytest.fixture
async def hot(valkey_url: str) -> AsyncIterator[HotRooms]:
    client = connect(valkey_url, max_connections=2)
    yield HotRooms(client=client, scripts=Scripts(client), process="p1", reading_rate=20.0, archive_max=10)
    await client.aclose()


class Recorded:
    """In the place of the scripts: how many keys and arguments each is called with."""

    def __init__(self) -> None:
        self.calls: dict[str, tuple[int, int]] = {}

    def named(self, name: str) -> Any:
        async def call(keys: list[str], args: list[Any]) -> Any:
            self.calls[name] = (len(keys), len(args))
            raise LookupError

        return call


async def test_the_binding_brings_what_the_headers_name() -> None:
    recorded = Recorded()
    hot = HotRooms(client=None, scripts=recorded, process="p", reading_rate=20, archive_max=1)  # type: ignore[arg-type]
    event = {"k": "announce"}
    for called in (
        hot.open(5, RoomStanding(mutes={"vw_1": 5})),
        hot.tick(5, interval_ms=100, stock={"sale_1|tin": (1, event)}),
        hot.change(5, RoomChange(events=[event])),
        hot.count(5, sockets=1, interval_ms=100, alive=["p"], young_ms=1),
    ):
        with pytest.raises(LookupError):
            await called
    keys, args = recorded.calls.pop("open_room")
    # Each mute is two arguments; the other keys are all the room has, so that none of them outlives it.
    assert (keys, args - 1) == (len(RoomKeys(5).all), read_header("open_room").args)
    assert recorded.calls == {
        name: (read_header(name).keys, read_header(name).args) for name in ("tick_room", "change_room", "count_crowd")
    }


async def test_the_binding_opens_changes_and_reads_a_room(new_room: LuaRoom, hot: HotRooms) -> None:
    assert await hot.read(5) == (None, [])
    assert not await hot.change(5, RoomChange(slow_mode_s=1))
    pin = {"sale": "sale_1", "sku": "tin", "title": "日本"}
    standing = RoomStanding(slow_mode_s=5, comments=False, pin=pin, mutes={"vw_1": FOREVER_MS}, likes=9)
    epoch = await hot.open(5, standing)
    assert await hot.open(5, RoomStanding()) == epoch == new_room.epoch
    facts, ticks = await hot.read(5)
    as_opened = {"epoch": epoch, "seq": 0, "likes": 9, "viewers": 0, "rules": 0}
    assert facts == RoomFacts(**as_opened, slow_mode_s=5, comments=False, pin=pin)
    assert ticks == []
    assert new_room.hash(new_room.keys.mutes) == {"vw_1": str(FOREVER_MS)}
    gone = {"k": "comment_gone", "viewer": "vw_1"}
    assert await hot.change(5, RoomChange(events=[gone], slow_mode_s=0, comments=True, pin=None, mutes={"vw_1": 0}))
    facts, _ = await hot.read(5)
    assert facts == RoomFacts(**as_opened, slow_mode_s=0, comments=True, pin=None)
    assert new_room.cut().ev == [gone]
    assert await hot.change(5, RoomChange(pin=pin, rules_changed=True))
    facts, _ = await hot.read(5)
    assert facts is not None
    assert (facts.pin, facts.rules) == (pin, 1)


def request(viewer: str = "vw_1", id: str = "c1", *, is_staff: bool = False) -> CommentRequest:
    return CommentRequest(
        viewer=viewer,
        sub="ann",
        name="Ann",
        id=id,
        text="hé 🎉",
        is_staff=is_staff,
        arrived_s=0.0,
        answer=lambda answer: None,
    )


async def test_the_binding_brings_comments_taps_and_stock(new_room: LuaRoom, hot: HotRooms) -> None:
    ticked = await hot.tick(5, interval_ms=100)
    assert (ticked.word, ticked.answers) == ("unknown", [])
    epoch = await hot.open(5, RoomStanding(mutes={"vw_2": FOREVER_MS}))
    event = {"k": "stock", "sale": "sale_1", "sku": "tin", "left": 3}
    comments = [request(), request("vw_2"), request("vw_2", is_staff=True), request()]
    ticked = await hot.tick(
        5,
        interval_ms=100,
        at_once=True,
        taps_epoch=epoch,
        taps=4,
        comments=comments,
        stock={"sale_1|tin": (1_800_000_000_000_000, event)},
    )
    assert (ticked.word, ticked.epoch, ticked.seq, ticked.wait_ms) == ("cut", epoch, 1, -1)
    assert [answer[0] for answer in ticked.answers] == ["posted", "muted", "posted", "replayed"]
    facts, packed = await hot.read(5)
    (tick,) = map(read_tick, packed)
    assert facts is not None
    assert (facts.seq, facts.likes, tick.likes) == (1, 4, 4)
    assert [(each.viewer, each.name, each.text) for each in tick.ev[:2]] == [
        ("vw_1", "Ann", "hé 🎉"),
        ("vw_2", "Ann", "hé 🎉"),
    ]
    assert tick.ev[2] == event
    assert new_room.archive()[0][2][0][3:] == ["vw_1", "ann", "Ann", "hé 🎉"]


async def test_the_binding_reads_only_ticks_behind_the_one_it_names(new_room: LuaRoom, hot: HotRooms) -> None:
    await hot.open(5, RoomStanding())
    for at in range(5):
        new_room.cut(say(id=f"c{at}"))
    _, packed = await hot.read(5, after=3)
    assert [read_tick(tick).seq for tick in packed] == [4, 5]


async def test_the_binding_counts_and_compares_many_rooms(new_room: LuaRoom, hot: HotRooms) -> None:
    rooms = range(1, 40)
    epochs = {room_no: await hot.open(room_no, RoomStanding()) for room_no in rooms}
    assert await hot.where([*rooms, 99]) == {
        **{room_no: Where(epoch, 0, 0) for room_no, epoch in epochs.items()},
        99: Where(0, 0, 0),
    }
    assert (await hot.count(7, sockets=3, interval_ms=100, alive=["p1"], young_ms=10)).viewers == 3
    assert await hot.beat(1_000) == ["p1"]
    assert await hot.beat(0) == []
    assert (await hot.count(99, sockets=3, interval_ms=100, alive=["p1"], young_ms=10)).word == "unknown"
