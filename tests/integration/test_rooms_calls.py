"""What a process brings to a room reaches it once, on a real rooms Valkey behind a network that loses replies."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.domain.comment import CommentAnswer, CommentOutcome, CommentRequest
from gateway.domain.live import FOREVER_MS, RoomStanding
from gateway.errors import LedgerUnavailable, OutcomeUnknown, Overloaded, Unavailable
from gateway.hot.connect import Client, connect
from gateway.hot.rooms import HotRooms, Ticked
from gateway.hot.scripts import Scripts
from gateway.rooms import calls
from gateway.rooms.calls import COMMENTS_A_CALL, DECIDE_WITHIN_S, STOCK_A_CALL, WAITING_MAX, RoomCalls
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.fake_clock import ShiftedClock
from tests.support.lua_room import HOUR_MS, LuaRoom, numbers, say
from tests.support.servers import eventually

ROOM_NO = 5
Answer = CommentAnswer | Exception


class Watched(HotRooms):
    """The real one, with a note of each call that came through."""

    def __init__(self, client: Client, process: str, archive_max: int) -> None:
        super().__init__(
            client=client, scripts=Scripts(client), process=process, reading_rate=0.0, archive_max=archive_max
        )
        self.ticked: list[Ticked] = []

    async def tick(self, room_no: int, **brought: Any) -> Ticked:
        self.ticked.append(await super().tick(room_no, **brought))
        return self.ticked[-1]


class Side:
    """What one process has of the room's calls."""

    def __init__(self, calls: RoomCalls, hot: Watched, clock: ShiftedClock) -> None:
        self.calls = calls
        self.hot = hot
        self.clock = clock
        self.interval_ms = 20
        self.standing = RoomStanding()
        self.standing_asked = 0
        self.ledger_is_away = False

    async def read_standing(self, room_no: int) -> RoomStanding:
        self.standing_asked += 1
        if self.ledger_is_away:
            raise LedgerUnavailable
        return self.standing

    def say(self, viewer: str = "vw_1", id: str = "c1", *, is_staff: bool = False) -> "asyncio.Future[Answer]":
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = CommentRequest(
            viewer=viewer,
            sub="ann",
            name="Ann",
            id=id,
            text="hello",
            is_staff=is_staff,
            arrived_s=self.clock.monotonic(),
            answer=answered.set_result,
        )
        self.calls.comment(ROOM_NO, request)
        return answered


@asynccontextmanager
async def running(valkey_url: str, *, process: str = "p1", archive_max: int = 1_000) -> AsyncIterator[Side]:
    client = connect(valkey_url, max_connections=2)
    hot, clock = Watched(client, process, archive_max), ShiftedClock()
    side: Side

    calls = RoomCalls(
        hot=hot,
        standing=lambda room_no: side.read_standing(room_no),
        interval_ms=lambda room_no: side.interval_ms,
        mint=lambda at_ms, room_no, epoch, n: f"cmt_{room_no}_{epoch}_{n}",
        clock=clock,
    )
    side = Side(calls, hot, clock)
    works = asyncio.ensure_future(calls.run())
    await asyncio.sleep(0)
    try:
        yield side
    finally:
        works.cancel()
        await asyncio.gather(works, return_exceptions=True)
        await client.aclose()


@pytest.fixture
def room(rooms_valkey_url: str) -> Any:
    room = LuaRoom(rooms_valkey_url, room_no=ROOM_NO)
    room.open()
    yield room
    room.close()


@pytest.fixture
async def side(room: LuaRoom) -> AsyncIterator[Side]:
    async with running(room.valkey_url) as side:
        # So that the scripts are known, and a lost reply is one of a call.
        await side.hot.tick(ROOM_NO, interval_ms=1)
        side.hot.ticked.clear()
        yield side


@pytest.fixture
async def bent(room: LuaRoom) -> AsyncIterator[tuple[Side, CuttingProxy]]:
    """Behind a network that bends."""
    async with cutting_proxy(room.valkey_url) as proxy, running(proxy.url) as side:
        await side.hot.tick(ROOM_NO, interval_ms=1)
        side.hot.ticked.clear()
        yield side, proxy


async def ticks_once(room: LuaRoom, holds: Callable[[LuaRoom], bool]) -> None:
    async def now() -> bool:
        return holds(room)

    await eventually(now)


def posted(answers: Sequence[Answer]) -> list[str]:
    """The ids; every one of them was posted."""
    ids = []
    for answer in answers:
        assert isinstance(answer, CommentAnswer), answer
        assert answer.outcome is CommentOutcome.POSTED
        assert answer.comment is not None
        ids.append(answer.comment)
    return ids


async def test_a_comment_is_answered_with_its_id_and_shown(side: Side, room: LuaRoom) -> None:
    answer = await side.say()
    assert posted([answer]) == [f"cmt_{ROOM_NO}_{room.epoch}_1"]
    (tick,) = room.ticks()
    assert isinstance(answer, CommentAnswer)
    assert (tick.ev[0].at_ms, answer.replayed) == (answer.at_ms, False)


async def test_every_word_of_the_script_is_an_answer(side: Side, room: LuaRoom) -> None:
    room.change(mutes=[("muted", room.now_ms() + 60_000), ("banned", FOREVER_MS)], slow_mode_s=60)
    muted, banned = await side.say("muted"), await side.say("banned")
    first, again, hurried = side.say(), side.say(), side.say(id="c2")
    assert isinstance(muted, CommentAnswer)
    assert isinstance(banned, CommentAnswer)
    assert (muted.outcome, banned) == (CommentOutcome.MUTED, CommentAnswer(CommentOutcome.MUTED))
    assert 50_000 < (muted.retry_after_ms or 0) <= 60_000, "and for good there is no time to name"
    (id, same) = posted([await first, await again])
    assert id == same
    replayed, slow = await again, await hurried
    assert isinstance(replayed, CommentAnswer)
    assert replayed.replayed
    assert isinstance(slow, CommentAnswer)
    assert (slow.outcome, slow.retry_after_ms) == (CommentOutcome.SLOW_MODE, 60_000)
    room.change(comments=0)
    assert await side.say("vw_3") == CommentAnswer(CommentOutcome.COMMENTS_OFF)


async def test_while_the_ledger_is_far_behind_a_comment_is_refused_as_overload(room: LuaRoom) -> None:
    async with running(room.valkey_url, archive_max=0) as side:
        answer = await side.say()
        assert isinstance(answer, Overloaded)
        assert 1_000 <= (answer.retry_after_ms or 0) <= 5_000


async def test_many_comments_go_in_calls_of_a_bounded_size_in_their_order(side: Side, room: LuaRoom) -> None:
    answers = [side.say(f"vw_{at}") for at in range(2 * COMMENTS_A_CALL + 50)]
    ids = posted(await asyncio.gather(*answers))
    assert ids == [f"cmt_{ROOM_NO}_{room.epoch}_{at + 1}" for at in range(450)]
    assert [len(ticked.answers) for ticked in side.hot.ticked if ticked.answers] == [200, 200, 50]
    await side.calls.drained()
    assert [n for tick in room.ticks() for n in numbers(tick)] == list(range(1, 451))


async def test_a_comment_whose_reply_was_lost_is_posted_once_and_taps_count_once(
    bent: tuple[Side, CuttingProxy], room: LuaRoom
) -> None:
    side, proxy = bent
    side.calls.like(ROOM_NO, 3)
    await side.calls.drained()
    proxy.lose_replies = 2
    answer = side.say()
    side.calls.like(ROOM_NO, 4)
    side.calls.stock(ROOM_NO, "sale_1|tin", 5, {"k": "stock", "left": 9})
    got = await answer
    await side.calls.drained()
    assert proxy.lost == 2
    assert len(posted([got])) == 1
    assert isinstance(got, CommentAnswer)
    assert got.replayed
    events = [event for tick in room.ticks() for event in tick.ev]
    assert len(events) == 2
    assert events[1] == {"k": "stock", "left": 9}
    assert [tick.likes for tick in room.ticks()] == [3, 7]
    assert [items for _, _, items in room.archive() if items[0][0] != "l"] == [
        [["c", 1, got.at_ms, "vw_1", "ann", "Ann", "hello"]]
    ]


async def test_a_room_that_valkey_lacks_is_opened_as_the_ledger_knows_it_and_what_was_brought_is_not_lost(
    side: Side, room: LuaRoom
) -> None:
    room.valkey.flushall()
    side.standing = RoomStanding(slow_mode_s=60, likes=70, mutes={"vw_2": FOREVER_MS})
    side.calls.like(ROOM_NO, 5)
    answers = [side.say(), side.say(id="c2"), side.say("vw_2")]
    words = [answer.outcome for answer in await asyncio.gather(*answers) if isinstance(answer, CommentAnswer)]
    assert words == [CommentOutcome.POSTED, CommentOutcome.SLOW_MODE, CommentOutcome.MUTED]
    await side.calls.drained()
    assert room.ticks()[-1].likes == 75
    assert side.standing_asked == 2, "what was set while it was opened is not missed"


async def test_while_the_ledger_cannot_say_how_to_open_a_room_comments_wait(side: Side, room: LuaRoom) -> None:
    room.valkey.flushall()
    side.ledger_is_away = True
    answer = side.say()

    async def asked_twice() -> bool:
        return side.standing_asked >= 2

    await eventually(asked_twice)
    assert not answer.done()
    side.ledger_is_away = False
    assert len(posted([await answer])) == 1


async def test_taps_that_were_not_told_in_the_old_epoch_are_told_in_the_new_one_and_the_told_ones_are_not(
    side: Side, room: LuaRoom
) -> None:
    side.calls.like(ROOM_NO, 30)
    await side.calls.drained()
    assert room.ticks()[-1].likes == 30
    before = room.epoch
    room.valkey.flushall()
    side.standing = RoomStanding(likes=25)
    side.calls.like(ROOM_NO, 4)
    await side.calls.drained()
    assert room.epoch > before
    assert (room.ticks()[-1].likes, room.facts["likes"]) == (29, "29")
    side.calls.like(ROOM_NO, 1)
    await side.calls.drained()
    assert room.ticks()[-1].likes == 30


async def test_the_taps_of_two_processes_add_up(side: Side, room: LuaRoom) -> None:
    async with running(room.valkey_url, process="p2") as other:
        for _ in range(20):
            side.calls.like(ROOM_NO, 1)
            other.calls.like(ROOM_NO, 2)
            await asyncio.sleep(0)
        await side.calls.drained()
        await other.calls.drained()
    assert room.facts["likes"] == "60"


async def test_the_last_likes_are_archived_without_anybody_asking(side: Side, room: LuaRoom) -> None:
    for _ in range(3):
        side.calls.like(ROOM_NO, 1)
        await ticks_once(room, lambda room: room.facts["likes"] == str(side.calls._desks[ROOM_NO].taps))
    assert room.archive()[-1][2] == [["l", 1]]
    await side.calls.drained()
    assert [items for _, _, items in room.archive()] == [[["l", 1]], [["l", 3]]]


async def test_stock_goes_in_calls_of_a_bounded_size_and_all_of_it_is_told(side: Side, room: LuaRoom) -> None:
    for at in range(2 * STOCK_A_CALL + 1):
        side.calls.stock(ROOM_NO, f"sale_1|sku{at}", 5, {"k": "stock", "sku": at})
    await side.calls.drained()
    assert [len(tick.ev) for tick in room.ticks()] == [STOCK_A_CALL, STOCK_A_CALL, 1]
    assert sorted(event["sku"] for tick in room.ticks() for event in tick.ev) == list(range(2 * STOCK_A_CALL + 1))


async def test_stock_that_one_tick_does_not_tell_is_told_by_the_next_without_anybody_asking(
    side: Side, room: LuaRoom
) -> None:
    for begin in (0, 200):
        room.later(stock=[(f"sale_1|sku{at}", 5, {"k": "stock", "sku": at}) for at in range(begin, begin + 200)])
    side.calls.cut(ROOM_NO)
    await side.calls.drained()
    assert [len(tick.ev) for tick in room.ticks()] == [200, 200]


async def test_rooms_that_are_idle_are_forgotten_when_many_are_known_and_taps_never(
    side: Side, room: LuaRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calls, "DESKS_MAX", 10)
    side.calls.like(ROOM_NO, 5)
    await side.calls.drained()
    for room_no in range(100, 200):
        side.calls.cut(room_no)
        await side.calls.drained()
    assert len(side.calls._desks) <= 10
    side.calls.like(ROOM_NO, 1)
    await side.calls.drained()
    assert room.facts["likes"] == "6"


async def test_what_came_too_early_is_cut_later_without_anybody_asking(side: Side, room: LuaRoom) -> None:
    side.interval_ms = 200
    room.cut(say("other"))
    await side.say()
    assert [numbers(tick) for tick in room.ticks()] == [[1]]
    await side.calls.drained()
    assert [numbers(tick) for tick in room.ticks()] == [[1], [2]]
    assert [ticked.word for ticked in side.hot.ticked] == ["early", "cut"]


async def _brought_too_early(side: Side, room: LuaRoom) -> Ticked:
    """Another process has cut a tick just now."""
    room.set(interval=HOUR_MS)
    room.cut(say("other"))
    await side.say()
    (ticked,) = side.hot.ticked
    assert ticked.word == "early"
    assert not side.calls._idle.is_set()
    return ticked


async def test_who_hears_a_later_tick_asks_for_none(side: Side, room: LuaRoom) -> None:
    ticked = await _brought_too_early(side, room)
    side.calls.heard(ROOM_NO, ticked.epoch, ticked.seq + 1)
    async with asyncio.timeout(5):
        await side.calls.drained()
    assert len(side.hot.ticked) == 1


async def test_who_hears_a_tick_from_before_still_asks(side: Side, room: LuaRoom) -> None:
    ticked = await _brought_too_early(side, room)
    side.calls.heard(ROOM_NO, ticked.epoch, ticked.seq)
    side.calls.heard(ROOM_NO, ticked.epoch - 1, ticked.seq + 9)
    side.calls.heard(ROOM_NO + 1, ticked.epoch, ticked.seq + 9)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not side.calls._idle.is_set()


async def test_an_act_is_told_at_once_however_long_the_interval_is(side: Side, room: LuaRoom) -> None:
    await _brought_too_early(side, room)
    room.change({"k": "announce"})
    side.calls.cut(ROOM_NO, at_once=True)
    await ticks_once(room, lambda room: len(room.ticks()) == 2)
    assert numbers(room.ticks()[-1]) == [2]
    assert room.ticks()[-1].ev[-1] == {"k": "announce"}


async def test_a_process_calls_at_most_once_an_interval(side: Side, room: LuaRoom) -> None:
    side.interval_ms = HOUR_MS
    await side.say()
    for at in range(50):
        side.calls.like(ROOM_NO, 1)
        side.calls.cut(ROOM_NO)
        side.say(id=f"d{at}")
        await asyncio.sleep(0)
    assert len(side.hot.ticked) == 1


async def test_while_valkey_is_away_so_many_comments_wait_and_no_more(
    bent: tuple[Side, CuttingProxy], room: LuaRoom
) -> None:
    side, proxy = bent
    proxy.go_away()
    answers = [side.say(f"vw_{at}") for at in range(WAITING_MAX)]
    with pytest.raises(Overloaded) as refused:
        side.say("one_more")
    assert 500 <= (refused.value.retry_after_ms or 0) <= 2_000
    proxy.away = False
    assert len(set(posted(await asyncio.gather(*answers)))) == WAITING_MAX
    assert int(room.facts["n"]) == WAITING_MAX


async def test_a_comment_is_given_up_when_its_time_is_over_and_taps_never_are(
    bent: tuple[Side, CuttingProxy], room: LuaRoom
) -> None:
    side, proxy = bent
    proxy.go_away()
    old = side.say(id="old")
    side.calls.like(ROOM_NO, 3)
    side.clock.advance(DECIDE_WITHIN_S - 1)
    young = side.say(id="young")
    for _ in range(20):
        await asyncio.sleep(0)
    assert not old.done()
    side.clock.advance(1.5)
    assert isinstance(await old, OutcomeUnknown)
    assert not young.done()
    proxy.away = False
    assert len(posted([await young])) == 1
    await side.calls.drained()
    assert (room.facts["n"], room.facts["likes"]) == ("1", "3")


async def test_of_two_readings_the_newer_is_told_also_when_the_older_came_while_it_was_on_its_way(
    bent: tuple[Side, CuttingProxy], room: LuaRoom
) -> None:
    side, proxy = bent
    proxy.go_away()
    side.calls.stock(ROOM_NO, "sale_1|tin", 20, {"k": "stock", "left": 2})
    side.calls.stock(ROOM_NO, "sale_1|tin", 10, {"k": "stock", "left": 1})
    await asyncio.sleep(0)
    side.calls.stock(ROOM_NO, "sale_1|tin", 15, {"k": "stock", "left": 5})
    proxy.away = False
    await side.calls.drained()
    assert [event for tick in room.ticks() for event in tick.ev] == [{"k": "stock", "left": 2}]


async def test_whoever_goes_away_says_that_it_does_not_know(room: LuaRoom) -> None:
    async with cutting_proxy(room.valkey_url) as proxy:
        proxy.away = True
        async with running(proxy.url) as side:
            answer = side.say()
            await asyncio.sleep(0)
            waiting = side.say(id="c2")
        assert isinstance(await answer, OutcomeUnknown)
        assert isinstance(await waiting, OutcomeUnknown)


async def test_nothing_is_taken_before_the_calls_run(room: LuaRoom) -> None:
    async with running(room.valkey_url) as side:
        side.calls._tasks = None
        with pytest.raises(Unavailable):
            side.say()
