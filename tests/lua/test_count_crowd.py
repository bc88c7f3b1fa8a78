"""The most viewers of each five seconds, as the count keeps it and the samples read it."""

import time
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.domain.attendance import SAMPLE_MS
from gateway.hot.connect import connect
from gateway.hot.keys import PROCESSES
from gateway.hot.rooms import Crowded, HotRooms
from gateway.hot.scripts import Scripts, find_lua_folder
from tests.support.lua_room import YOUNG_MS, LuaRoom


@pytest.fixture
def room(valkey_url: str) -> Iterator[LuaRoom]:
    room = LuaRoom(valkey_url)
    assert room.open()[0] == "opened"
    # Not across the border of two intervals: a call takes some ms.
    while (left_ms := SAMPLE_MS - room.now_ms() % SAMPLE_MS) < 1_500:
        time.sleep(left_ms / 1000)
    yield room
    room.close()


@pytest.fixture
async def hot(room: LuaRoom) -> AsyncIterator[HotRooms]:
    client = connect(room.valkey_url, max_connections=2)
    yield HotRooms(client=client, scripts=Scripts(client), process="p1", reading_rate=0.0, archive_max=10)
    await client.aclose()


def count(room: LuaRoom, sockets: int, process: str = "p1") -> None:
    room.beat(process, 60_000)
    word, *_ = room.call(
        "count_crowd", [room.keys.room, room.keys.crowd], [process, sockets, 100, YOUNG_MS, "p1", "p2"]
    )
    assert word == b"counted"


def slot(room: LuaRoom) -> int:
    return room.now_ms() // SAMPLE_MS


def peaks(room: LuaRoom) -> tuple[int, int]:
    assert int(room.facts["slot"]) == slot(room)
    return int(room.facts["peak"]), int(room.facts["peak_was"])


def test_the_script_and_the_samples_mean_the_same_interval() -> None:
    text = (find_lua_folder() / "count_crowd.lua").read_text(encoding="utf-8")
    assert f"SLOT_MS = KEYS[1], KEYS[2], 604800, {SAMPLE_MS}" in text


def test_the_most_of_an_interval_is_kept_when_viewers_leave_in_it(room: LuaRoom) -> None:
    for sockets in (3, 9, 4):
        count(room, sockets)
    count(room, 2, "p2")
    assert peaks(room) == (9, 0)


def test_a_new_interval_begins_with_those_who_were_there(room: LuaRoom) -> None:
    room.set(viewers=7, slot=slot(room) - 1, peak=12)
    count(room, 3)
    assert peaks(room) == (7, 12), "seven were there when it began, and twelve at once in the one before"


def test_an_interval_in_which_nobody_counted_was_as_the_last_count_found_it(room: LuaRoom) -> None:
    room.set(viewers=7, slot=slot(room) - 4, peak=12)
    count(room, 8)
    assert peaks(room) == (8, 7)


async def test_the_samples_read_the_interval_that_ended(room: LuaRoom, hot: HotRooms) -> None:
    count(room, 5)
    room.set(slot=slot(room), peak=20, peak_was=11)
    at_ms, found = await hot.crowds([room.room_no, 99], interval_ms=SAMPLE_MS)
    assert at_ms == (slot(room) - 1) * SAMPLE_MS
    assert found == {room.room_no: Crowded(5, 11)}, "a room that is not there has no sample"
    room.set(slot=slot(room) - 1)
    assert (await hot.crowds([room.room_no], interval_ms=SAMPLE_MS))[1][room.room_no].peak == 20
    room.set(slot=slot(room) - 2)
    assert (await hot.crowds([room.room_no], interval_ms=SAMPLE_MS))[1][room.room_no].peak == 5


async def test_sockets_of_processes_that_are_gone_are_in_no_sample(room: LuaRoom, hot: HotRooms) -> None:
    count(room, 5)
    count(room, 6, "p2")
    room.set(slot=0)
    assert (await hot.crowds([room.room_no], interval_ms=SAMPLE_MS))[1] == {room.room_no: Crowded(11, 11)}
    room.valkey.zrem(PROCESSES, "p1")
    assert (await hot.crowds([room.room_no], interval_ms=SAMPLE_MS))[1] == {room.room_no: Crowded(6, 6)}
    room.valkey.delete(PROCESSES)
    assert (await hot.crowds([room.room_no], interval_ms=SAMPLE_MS))[1] == {room.room_no: Crowded(0, 0)}
