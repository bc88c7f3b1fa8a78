"""How many watch, counted over processes that come, go and vanish, on a real rooms Valkey."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.errors import HotUnavailable
from gateway.hot.bus import Bus
from gateway.hot.connect import connect
from gateway.rooms import hub as hub_module
from gateway.rooms.crowd import BEAT_EVERY_S, WORD_HOLDS_MS
from tests.support.hub_process import HubProcess, hub_process
from tests.support.lua_room import LuaRoom, say
from tests.support.members import ROOM
from tests.support.servers import eventually


@pytest.fixture(autouse=True)
def _rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is compared but when a test asks for it."""
    monkeypatch.setattr(hub_module, "COMPARE_EVERY_S", 3_600.0)


@pytest.fixture
def room(rooms_valkey_url: str) -> Iterator[LuaRoom]:
    room = LuaRoom(rooms_valkey_url, room_no=ROOM.room_no, rate=0)
    yield room
    room.close()


@pytest.fixture
async def first(room: LuaRoom) -> AsyncIterator[HubProcess]:
    async with hub_process(room.valkey_url, "p1") as process:
        yield process


@pytest.fixture
async def second(room: LuaRoom) -> AsyncIterator[HubProcess]:
    async with hub_process(room.valkey_url, "p2") as process:
        yield process


async def shown(viewers: int, *processes: HubProcess) -> None:
    """Until all of them show so many."""

    async def now() -> bool:
        return all(process.live().picture.viewers == viewers for process in processes)

    await eventually(now)


async def test_the_viewers_of_all_processes_are_shown_to_all(first: HubProcess, second: HubProcess) -> None:
    for _ in range(3):
        await first.enter()
    members = [await second.enter() for _ in range(4)]
    await first.crowd.beat()
    await second.crowd.beat()
    await shown(7, first, second)
    second.hub.leave(second.live(), members[0])
    await second.crowd.beat()
    await shown(6, first, second)

    async def told() -> bool:
        return bool(members[1].told[-1].get("viewers") == 6)

    await eventually(told)
    assert sorted(first.crowd.alive) <= sorted(second.crowd.alive) == ["p1", "p2"]


async def test_a_room_that_did_not_change_is_not_counted_again(
    room: LuaRoom, first: HubProcess, second: HubProcess
) -> None:
    await first.enter()
    await second.enter()
    for _ in range(2):
        await first.crowd.beat()
        await second.crowd.beat()
    await shown(2, first, second)
    before = room.valkey.dump(room.keys.crowd)
    seq = room.facts["seq"]
    for _ in range(3):
        await first.crowd.beat()
        await second.crowd.beat()
    assert (room.valkey.dump(room.keys.crowd), room.facts["seq"]) == (before, seq)


async def test_a_process_that_vanished_is_counted_no_more(room: LuaRoom, first: HubProcess, second: HubProcess) -> None:
    """It counted just before it was killed, which is when its count is youngest."""
    for _ in range(3):
        await first.enter()
    for _ in range(4):
        await second.enter()
    await first.crowd.beat()
    await second.crowd.beat()
    await first.crowd.beat()
    await shown(7, first, second)
    killed_s = time.monotonic()

    async def right() -> bool:
        await first.crowd.beat()
        return first.live().picture.viewers == 3

    await eventually(right)
    took_s = time.monotonic() - killed_s
    assert took_s >= WORD_HOLDS_MS / 1000 - 0.1, "a process is not given up while its word holds"
    assert took_s < WORD_HOLDS_MS / 1000 + 1.0


async def test_who_takes_the_place_of_a_vanished_process_counts_alone(room: LuaRoom, first: HubProcess) -> None:
    async with hub_process(room.valkey_url, "killed") as killed:
        await killed.enter()
        await killed.crowd.beat()
    await first.enter()

    async def right() -> bool:
        await first.crowd.beat()
        return first.live().picture.viewers == 1 and first.crowd.alive == ["p1"]

    await eventually(right)


async def test_a_process_that_leaves_is_counted_no_more_with_the_next_word_or_two(
    first: HubProcess, second: HubProcess
) -> None:
    await first.enter()
    await second.enter()
    for process in (first, second, first):
        await process.crowd.beat()
    await shown(2, first, second)
    await second.enter()
    await second.crowd.beat()
    await second.crowd.leave()
    # It counted so shortly before that it could be one that was born since.
    await first.crowd.beat()
    beating = asyncio.ensure_future(first.crowd.run())
    try:
        await eventually(lambda: _shows(first, 1), within_s=4 * BEAT_EVERY_S)
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _shows(process: HubProcess, viewers: int) -> bool:
    return process.live().picture.viewers == viewers


async def test_who_was_silent_for_too_long_counts_all_its_rooms_anew(room: LuaRoom, first: HubProcess) -> None:
    await first.enter()
    await first.crowd.beat()
    await shown(1, first)
    # As the others do with whom they take for dead.
    room.valkey.delete(room.keys.crowd)
    await first.crowd.beat()
    assert not room.valkey.exists(room.keys.crowd)
    first.clock.advance(WORD_HOLDS_MS / 1000 + 0.1)
    await first.crowd.beat()
    assert room.hash(room.keys.crowd).keys() == {"c:p1"}


async def test_what_could_not_be_counted_is_counted_with_the_next_word(
    room: LuaRoom, first: HubProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    await first.enter()
    await first.crowd.beat()
    count = first.hot.count

    async def lost(room_no: int, **brought: Any) -> Any:
        raise HotUnavailable

    room.valkey.delete(room.keys.crowd)
    first.clock.advance(WORD_HOLDS_MS / 1000 + 0.1)
    monkeypatch.setattr(first.hot, "count", lost)
    with pytest.raises(HotUnavailable):
        await first.crowd.beat()
    monkeypatch.setattr(first.hot, "count", count)
    await first.crowd.beat()
    assert room.hash(room.keys.crowd).keys() == {"c:p1"}


async def test_a_room_that_began_anew_is_counted_anew(room: LuaRoom, first: HubProcess) -> None:
    viewer = await first.enter()
    await first.crowd.beat()
    await shown(1, first)
    before = room.epoch
    room.valkey.flushall()
    await first.crowd.beat()
    assert room.epoch == 0, "counting opens no room"
    await first.hub.compare()

    async def begun() -> bool:
        return first.live().picture.epoch > before

    await eventually(begun)
    await first.crowd.beat()
    await shown(1, first)

    async def told() -> bool:
        return viewer.told[-1].get("viewers") == 1

    await eventually(told)


async def test_the_interval_of_the_slowest_process_is_the_rooms(
    room: LuaRoom, first: HubProcess, second: HubProcess
) -> None:
    await first.enter()
    await second.enter()
    await first.crowd.beat()
    await second.crowd.beat()
    await shown(2, first, second)
    second.live().took_s = 0.2
    await second.crowd.beat()
    assert room.facts["interval"] == "400"
    second.live().took_s = 0.19
    await second.crowd.beat()
    assert room.facts["interval"] == "400", "a little less is not worth a call"
    second.live().took_s = 0.1
    await second.crowd.beat()
    assert room.facts["interval"] == "200"


async def test_a_room_that_is_followed_while_the_subscription_is_made_is_heard(room: LuaRoom) -> None:
    room.open()
    for turns in range(0, 60, 3):
        client = connect(room.valkey_url, max_connections=1)
        bus = Bus(url=room.valkey_url, client=client)
        heard: list[int] = []
        bus.on_tick = lambda room_no, payload, heard=heard: heard.append(room_no)  # type: ignore[misc]

        async def on_gap() -> None:
            pass

        listening = asyncio.ensure_future(bus.listen(lambda message: None, on_gap))
        for _ in range(turns):
            await asyncio.sleep(0)
        await bus.follow(ROOM.room_no)

        async def told(heard: list[int] = heard, turns: int = turns) -> bool:
            room.cut(say(id=f"c{turns}.{room.facts['seq']}"))
            return bool(heard)

        try:
            await eventually(told)
        except TimeoutError:
            pytest.fail(f"not heard when it was followed after {turns} turns of the loop")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await client.aclose()
