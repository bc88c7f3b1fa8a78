"""The rooms of several processes on one real rooms Valkey: everybody is shown the same, whatever is lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.domain.comment import CommentAnswer, CommentOutcome
from gateway.domain.ids import RoomId
from gateway.domain.live import FOREVER_MS, RoomStanding
from gateway.metrics import ROOM_REPAIRS
from gateway.rooms import hub as hub_module
from gateway.rooms.hub import EMPTY_FOR_S, LONGEST_INTERVAL_MS
from gateway.rooms.picture import TICKS_KEPT
from tests.support.hub_process import HubProcess, hub_process, texts, told_up_to
from tests.support.lua_room import LuaRoom, say
from tests.support.members import ROOM, FakeMember
from tests.support.own_valkey import OwnValkey, own_valkey
from tests.support.servers import eventually

OTHER_ROOM = replace(ROOM, room=RoomId("room_2"), room_no=ROOM.room_no + 1)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "COMPARE_EVERY_S", 0.1)
    monkeypatch.setattr(hub_module, "_ON_ITS_WAY_S", 0.02)


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> None:
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


def repairs(how: str) -> float:
    return ROOM_REPAIRS.labels(how)._value.get()


def places(member: FakeMember) -> list[tuple[str, int]]:
    return [(frame["t"], frame["seq"]) for frame in member.told]


def contiguous(member: FakeMember) -> None:
    """Since its last snapshot, every tick once and in order."""
    seqs = [seq for _, seq in places(member)]
    last = max(at for at, (kind, _) in enumerate(places(member)) if kind == "snapshot")
    assert seqs[last:] == list(range(seqs[last], seqs[last] + len(seqs) - last))


async def snapshot_of(member: FakeMember, epoch: int) -> None:
    async def shown() -> bool:
        return any(frame["t"] == "snapshot" and frame["epoch"] == epoch for frame in member.told)

    await eventually(shown)


async def test_two_processes_show_the_same_ticks_in_the_same_order(
    room: LuaRoom, first: HubProcess, second: HubProcess
) -> None:
    viewers = [await process.enter() for process in (first, second) for _ in range(3)]
    answers: list[Any] = []
    for at in range(30):
        process = (first, second)[at % 2]
        answers.append(process.say(f"c{at}"))
        process.calls.like(ROOM.room_no, 2)
        await asyncio.sleep(0.003)
    await asyncio.gather(*answers)
    await first.calls.drained()
    await second.calls.drained()
    await told_up_to(int(room.facts["seq"]), *viewers)
    for viewer in viewers:
        contiguous(viewer)
        assert viewer.told[1:] == viewers[0].told[1:]
    assert sorted(texts(viewers[0])) == sorted(f"p{at % 2 + 1} says c{at}" for at in range(30))
    likes = [frame["likes"] for frame in viewers[0].told if frame["t"] == "tick" and "likes" in frame]
    assert likes == sorted(likes)
    assert likes[-1] == first.live().picture.likes == second.live().picture.likes == 60
    assert len(room.ticks()) < 30, "several comments share a tick"


async def test_ticks_that_were_not_heard_are_told_from_the_history(
    room: LuaRoom, first: HubProcess, second: HubProcess
) -> None:
    good, lossy = await first.enter(), await second.enter()
    second.loses = lambda tick: tick.seq % 3 == 0
    before = repairs("history")
    for at in range(9):
        room.cut(say(id=f"c{at}"))
        await told_up_to(at + 1, good)
    await told_up_to(9, lossy)
    contiguous(lossy)
    assert texts(lossy) == texts(good) == ["hello"] * 9
    assert repairs("history") >= before + 3
    assert places(lossy).count(("snapshot", 0)) == 1


async def test_the_last_tick_that_was_not_heard_is_found_by_comparing(
    rarely: None, room: LuaRoom, first: HubProcess
) -> None:
    viewer = await first.enter()
    first.loses = lambda tick: True
    room.cut(say())
    await first.hub.compare()
    await told_up_to(1, viewer)
    assert texts(viewer) == ["hello"]


async def test_what_the_history_has_no_more_becomes_a_snapshot(rarely: None, room: LuaRoom, first: HubProcess) -> None:
    viewer = await first.enter()
    first.loses = lambda tick: tick.seq <= 5
    for at in range(5):
        room.cut(say(id=f"c{at}", text=str(at)))
    room.valkey.xtrim(room.keys.ticks, maxlen=3, approximate=False)
    before = repairs("snapshot")
    room.cut(say(id="last", text="last"))
    await told_up_to(6, viewer)
    assert places(viewer) == [("snapshot", 0), ("snapshot", 6)]
    assert [each["text"] for each in viewer.told[1]["recent"]] == ["2", "3", "4", "last"]
    assert repairs("snapshot") == before + 1
    room.cut(say(id="next"))
    await told_up_to(7, viewer)
    assert places(viewer)[-1] == ("tick", 7)


async def test_a_tick_that_is_heard_while_the_history_is_read_is_told_with_it(
    rarely: None, room: LuaRoom, first: HubProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = await first.enter()
    first.loses = lambda tick: tick.seq == 1
    reading, read_on, read = asyncio.Event(), asyncio.Event(), first.hot.read

    async def slow(room_no: int, *, after: int = 0) -> Any:
        found = await read(room_no, after=after)
        reading.set()
        await read_on.wait()
        return found

    monkeypatch.setattr(first.hot, "read", slow)
    room.cut(say(id="c1"))
    room.cut(say(id="c2"))
    await reading.wait()
    room.cut(say(id="c3"))

    async def heard() -> bool:
        return first.heard[-1].seq == 3

    await eventually(heard)
    read_on.set()
    await told_up_to(3, viewer)
    assert places(viewer) == [("snapshot", 0), ("tick", 1), ("tick", 2), ("tick", 3)]


async def test_an_empty_valkey_gets_the_room_from_the_ledger_and_everybody_a_snapshot(
    room: LuaRoom, first: HubProcess, second: HubProcess
) -> None:
    viewers = [await first.enter(), await second.enter()]
    await first.say("c1")
    await told_up_to(1, *viewers)
    before = room.epoch
    pin = {"sale": "sale_1", "sku": "tin", "title": "A tin"}
    for process in (first, second):
        process.ruled.clear()
        process.standing = RoomStanding(slow_mode_s=60, likes=70, pin=pin, mutes={"vw_2": FOREVER_MS})
    room.valkey.flushall()

    async def opened() -> bool:
        return room.epoch > before

    await eventually(opened)
    for viewer in viewers:
        await snapshot_of(viewer, room.epoch)
        shown = viewer.told[-1]
        assert (shown["seq"], shown["likes"], shown["pin"]) == (0, 70, pin)
        assert (shown["chat"], shown["recent"]) == ({"slow_mode_s": 60, "comments": "on"}, [])
    assert first.ruled == second.ruled == [ROOM], "bans and words may be others"
    answers = [await second.say("c2", viewer=viewer) for viewer in ("vw_1", "vw_2")]
    assert [answer.outcome for answer in answers if isinstance(answer, CommentAnswer)] == [
        CommentOutcome.POSTED,
        CommentOutcome.MUTED,
    ]
    await told_up_to(1, *viewers)
    for viewer in viewers:
        assert texts(viewer) == ["p1 says c1", "p2 says c2"]
        contiguous(viewer)


@pytest.fixture
async def own() -> AsyncIterator[tuple[OwnValkey, LuaRoom]]:
    """Of the test alone; unlike ours it keeps a file, so that it may come back with an old one."""
    async with own_valkey() as valkey:
        room = LuaRoom(valkey.url, room_no=ROOM.room_no, rate=0)
        yield valkey, room
        room.close()


async def test_a_valkey_that_came_back_with_less_than_was_told_begins_the_room_anew(
    own: tuple[OwnValkey, LuaRoom],
) -> None:
    valkey, room = own
    async with hub_process(valkey.url, "p1") as first, hub_process(valkey.url, "p2") as second:
        viewers = [await first.enter(), await second.enter()]
        room.cut(say(id="c1"), taps=4)
        valkey.keep_copy()
        room.cut(say(id="c2"), taps=5)
        room.cut(say(id="c3"), taps=6)
        await told_up_to(3, *viewers)
        before = room.epoch
        for process in (first, second):
            process.standing = RoomStanding(likes=6)
        await valkey.come_back_older()
        assert (room.epoch, room.facts["seq"]) in ((before, "1"), (room.epoch, "0"))

        async def begun() -> bool:
            return room.epoch > before

        await eventually(begun)
        for viewer in viewers:
            await snapshot_of(viewer, room.epoch)
            assert (viewer.told[-1]["seq"], viewer.told[-1]["likes"]) == (0, 6)
        room.cut(say(id="c4", text="after"))
        await told_up_to(1, *viewers)
        for viewer in viewers:
            assert texts(viewer)[-1] == "after"
            contiguous(viewer)


async def test_a_valkey_that_came_back_as_it_was_goes_on_without_a_snapshot(own: tuple[OwnValkey, LuaRoom]) -> None:
    valkey, room = own
    async with hub_process(valkey.url) as process:
        viewer = await process.enter()
        room.cut(say(id="c1"))
        await told_up_to(1, viewer)
        before = room.epoch
        await valkey.restart()

        async def listens() -> bool:
            return process.bus._subscription is not None

        await eventually(listens)
        room.cut(say(id="c2"))
        await told_up_to(2, viewer)
        assert room.epoch == before
        assert places(viewer) == [("snapshot", 0), ("tick", 1), ("tick", 2)]


async def test_who_enters_while_valkey_is_away_sees_the_room_without_its_chat_and_later_with_it(
    own: tuple[OwnValkey, LuaRoom],
) -> None:
    valkey, room = own
    async with hub_process(valkey.url) as process:
        process.standing = RoomStanding(likes=70)
        await valkey.kill()
        viewer = await process.enter()
        (shown,) = viewer.told
        assert (shown["room"], shown["epoch"], shown["recent"]) == ({"room": ROOM.room}, 0, [])
        await valkey.start()

        async def opened() -> bool:
            return room.epoch > 0

        await eventually(opened)
        await snapshot_of(viewer, room.epoch)
        assert viewer.told[-1]["likes"] == 70
        assert isinstance(await process.say("c1"), CommentAnswer)
        await told_up_to(1, viewer)
        assert texts(viewer) == ["p1 says c1"]


async def test_a_subscription_that_broke_is_made_again_and_what_was_published_meanwhile_is_told(
    rarely: None, room: LuaRoom, first: HubProcess
) -> None:
    viewer = await first.enter()
    room.valkey.client_kill_filter(_type="pubsub")
    room.cut(say(id="c1"))
    await told_up_to(1, viewer)
    room.cut(say(id="c2"))
    await told_up_to(2, viewer)
    assert texts(viewer) == ["hello", "hello"]


async def test_what_one_room_cannot_be_shown_keeps_no_other_from_being_mended(
    rarely: None, room: LuaRoom, first: HubProcess
) -> None:
    viewer, unlucky = await first.enter(), await first.enter(room=OTHER_ROOM)
    first.windowless = {OTHER_ROOM.room_no}
    first.clock.advance(1.0)
    other = LuaRoom(room.valkey_url, room_no=OTHER_ROOM.room_no)
    room.valkey.delete(other.keys.room)
    await first.hub.compare()

    async def owes() -> bool:
        return first.live(OTHER_ROOM).owes_snapshot and not first.hub._mending

    await eventually(owes)
    first.loses = lambda tick: True
    room.cut(say())
    first.clock.advance(1.0)
    await first.hub.compare()
    await told_up_to(1, viewer)
    assert len(unlucky.told) == 1
    first.windowless = set()
    first.clock.advance(1.0)
    await first.hub.compare()
    await snapshot_of(unlucky, other.epoch)
    other.close()


async def test_a_room_closes_a_while_after_its_last_viewer_and_opens_again_for_the_next(
    rarely: None, room: LuaRoom, first: HubProcess
) -> None:
    viewer = await first.enter()
    live = first.live()
    await first.crowd.beat()
    first.hub.leave(live, viewer)
    first.clock.advance(EMPTY_FOR_S + 1)
    await first.hub._close_empty()
    assert first.hub.rooms, "it has not said yet that nobody is there"
    await first.crowd.beat()
    await first.hub._close_empty()
    assert not first.hub.rooms
    assert room.hash(room.keys.crowd) == {}

    async def unheard() -> bool:
        return room.valkey.pubsub_numsub(room.keys.channel)[0][1] == 0

    await eventually(unheard)
    room.cut(say())
    again = await first.enter()
    seq = int(room.facts["seq"])
    assert places(again) == [("snapshot", seq)]
    assert [each["text"] for each in again.told[0]["recent"]] == ["hello"]
    room.cut(say(id="c2"))
    await told_up_to(seq + 1, again)
    assert len(viewer.told) <= 2


async def test_a_room_that_somebody_came_back_to_in_time_stays(rarely: None, room: LuaRoom, first: HubProcess) -> None:
    viewer = await first.enter()
    live = first.live()
    first.hub.leave(live, viewer)
    await first.crowd.beat()
    first.clock.advance(EMPTY_FOR_S - 1)
    await first.hub._close_empty()
    assert await first.hub.enter(ROOM) is live
    first.clock.advance(2)
    await first.hub._close_empty()
    assert first.live() is live, "who is about to join finds it still there"


async def test_many_who_come_at_once_open_the_room_once(room: LuaRoom, first: HubProcess) -> None:
    before = room.valkey.info("commandstats").get("cmdstat_subscribe", {"calls": 0})["calls"]
    viewers = await asyncio.gather(*(first.enter() for _ in range(50)))
    after = room.valkey.info("commandstats")["cmdstat_subscribe"]["calls"]
    assert after - before == 1
    assert len(first.live().members) == 50
    assert all(viewer.told == viewers[0].told for viewer in viewers)


async def test_ticks_that_come_while_a_room_is_opened_are_not_lost(
    rarely: None, room: LuaRoom, first: HubProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.open()
    reading, read_on, read = asyncio.Event(), asyncio.Event(), first.hot.read

    async def slow(room_no: int, *, after: int = 0) -> Any:
        found = await read(room_no, after=after)
        reading.set()
        await read_on.wait()
        return found

    monkeypatch.setattr(first.hot, "read", slow)
    entering = asyncio.ensure_future(first.enter())
    await reading.wait()
    for at in range(2):
        room.cut(say(id=f"c{at}"))

    async def heard() -> bool:
        return [tick.seq for tick in first.heard] == [1, 2]

    await eventually(heard)
    read_on.set()
    viewer = await entering
    assert first.live().picture.seq == 2
    assert places(viewer) == [("snapshot", 2)]
    assert len(viewer.told[0]["recent"]) == 2


async def test_a_room_with_a_full_history_is_known_from_its_first_moment(room: LuaRoom, first: HubProcess) -> None:
    room.open()
    for at in range(1, TICKS_KEPT + 11):
        room.tick(taps=at, at_once=True)
    await first.enter()
    picture = first.live().picture
    assert (picture.seq, picture.likes) == (610, 610)
    assert len(picture.missed(room.epoch, 10) or ()) == TICKS_KEPT
    assert picture.missed(room.epoch, 9) is None


async def test_acts_on_the_rules_are_noticed_at_the_next_compare(
    rarely: None, room: LuaRoom, first: HubProcess
) -> None:
    await first.enter()
    await first.hub.compare()
    first.ruled.clear()
    room.change(rules=True)
    await first.hub.compare()
    await first.hub.compare()
    assert first.ruled == [ROOM]


async def test_the_ticks_of_a_room_come_slower_where_telling_takes_long(first: HubProcess) -> None:
    await first.enter()
    live = first.live()
    assert first.hub.interval_ms(ROOM.room_no) == first.hub.interval_ms(OTHER_ROOM.room_no) == 20
    live.took_s = 0.1
    assert first.hub.interval_ms(ROOM.room_no) == 200
    live.took_s = 9.0
    assert first.hub.interval_ms(ROOM.room_no) == LONGEST_INTERVAL_MS
