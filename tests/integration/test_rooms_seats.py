"""A viewer's sockets are counted over all processes on a real rooms Valkey, and no seat is lost on the way."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from gateway.errors import HotUnavailable
from gateway.hot.connect import connect
from gateway.hot.rooms import HotRooms
from gateway.hot.scripts import Scripts
from gateway.rooms.seats import Seats
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.fake_clock import FakeClock
from tests.support.lua_room import LuaRoom
from tests.support.servers import eventually

ROOM_NO, MOST = 5, 5
AWAY_S = 1.0


class Watched:
    """The real one, whose calls are counted and may be held up, before or behind what Valkey does."""

    def __init__(self, hot: HotRooms) -> None:
        self._hot = hot
        self.calls: list[tuple[list[str], list[str]]] = []
        """Who left and who asked, of each call."""
        self.begun, self.done = asyncio.Event(), asyncio.Event()
        self.may_begin, self.may_answer = asyncio.Event(), asyncio.Event()
        self.may_begin.set()
        self.may_answer.set()
        self.behind: Callable[[], object] = lambda: None
        """Done right after the answers were given, before anybody who waits for one runs."""

    async def seats(
        self, room_no: int, *, alive: Sequence[str], most: int, left: Sequence[str], asking: Sequence[str]
    ) -> list[bool]:
        self.calls.append((list(left), list(asking)))
        self.begun.set()
        await self.may_begin.wait()
        taken = await self._hot.seats(room_no, alive=alive, most=most, left=left, asking=asking)
        self.done.set()
        await self.may_answer.wait()
        asyncio.get_running_loop().call_soon(self.behind)
        return taken


class Side:
    """What one process has of the seats."""

    def __init__(self, hot: Watched, seats: Seats, clock: FakeClock, alive: list[str]) -> None:
        self.hot = hot
        self.seats = seats
        self.clock = clock
        self.alive = alive

    async def take(self, count: int = 1, viewer: str = "vw_1", *, room_no: int = ROOM_NO) -> list[bool]:
        """So many at once."""
        return list(await asyncio.gather(*(self.seats.take(room_no, viewer) for _ in range(count))))

    def asks(self, viewer: str = "vw_1") -> "asyncio.Task[bool]":
        return asyncio.ensure_future(self.seats.take(ROOM_NO, viewer))


@asynccontextmanager
async def side_on(valkey_url: str, process: str = "p1", alive: Sequence[str] = ("p1", "p2")) -> AsyncIterator[Side]:
    client = connect(valkey_url, max_connections=2)
    clock, named = FakeClock(), list(alive)
    hot = Watched(
        HotRooms(client=client, scripts=Scripts(client), process=process, reading_rate=0.0, archive_max=1_000)
    )
    seats = Seats(hot=hot, alive=lambda: named, most=MOST, now_s=clock.monotonic)
    works = asyncio.ensure_future(seats.run())
    await asyncio.sleep(0)
    try:
        yield Side(hot, seats, clock, named)
    finally:
        works.cancel()
        _, deaf = await asyncio.wait([works], timeout=5)
        assert not deaf and works.cancelled(), works
        await client.aclose()


@pytest.fixture
def room(rooms_valkey_url: str) -> LuaRoom:
    return LuaRoom(rooms_valkey_url, room_no=ROOM_NO)


@pytest.fixture
async def first(room: LuaRoom) -> AsyncIterator[Side]:
    async with side_on(room.valkey_url, "p1") as side:
        yield side


@pytest.fixture
async def second(room: LuaRoom) -> AsyncIterator[Side]:
    async with side_on(room.valkey_url, "p2") as side:
        yield side


@pytest.fixture
async def bent(room: LuaRoom) -> AsyncIterator[tuple[Side, CuttingProxy]]:
    """Behind a network that bends; the script is known."""
    async with cutting_proxy(room.valkey_url) as proxy, side_on(proxy.url) as side:
        assert await side.take(viewer="vw_warm") == [True]
        side.seats.give_back(ROOM_NO, "vw_warm")
        await holds(room, {})
        side.hot.calls.clear()
        yield side, proxy


async def holds(room: LuaRoom, held: dict[str, int]) -> None:
    """By viewer and process, once it is so."""
    expected = {name: str(count) for name, count in held.items()}

    async def now() -> bool:
        return room.hash(room.keys.seats) == expected

    try:
        await eventually(now, within_s=5)
    except TimeoutError:
        raise AssertionError(f"{room.hash(room.keys.seats)} is never {expected}") from None


# The bound.


async def test_two_processes_share_the_bound(first: Side, second: Side, room: LuaRoom) -> None:
    assert await first.take(3) == [True] * 3
    assert await second.take(3) == [True, True, False]
    assert await first.take() == [False]
    assert await first.take(viewer="vw_2") == [True]
    assert await first.take(room_no=ROOM_NO + 1) == [True], "another room is another count"
    await holds(room, {"vw_1|p1": 3, "vw_1|p2": 2, "vw_2|p1": 1})


async def test_however_many_ask_everywhere_at_once_just_so_many_get_one(first: Side, second: Side) -> None:
    answers = await asyncio.gather(first.take(40), second.take(40))
    assert sum(map(sum, answers)) == MOST


async def test_those_of_one_moment_ask_in_one_call(first: Side) -> None:
    first.hot.may_begin.clear()
    one = first.asks("vw_0")
    await first.hot.begun.wait()
    others = [first.asks(f"vw_{at}") for at in range(1, 601)]
    await asyncio.sleep(0)
    first.hot.may_begin.set()
    assert all(await asyncio.gather(one, *others))
    assert [len(asking) for _, asking in first.hot.calls] == [1, 500, 100]


async def test_what_a_killed_process_held_is_free_once_the_others_know(room: LuaRoom, first: Side) -> None:
    async with side_on(room.valkey_url, "p2") as killed:
        assert await killed.take(MOST) == [True] * MOST
        assert await first.take() == [False]
    first.alive.remove("p2")
    assert await first.take(6) == [True] * MOST + [False]


async def test_what_is_given_back_is_free_for_any_process(first: Side, second: Side, room: LuaRoom) -> None:
    assert await first.take(MOST) == [True] * MOST
    assert await second.take() == [False]
    first.seats.give_back(ROOM_NO, "vw_1")
    await holds(room, {"vw_1|p1": 4})
    assert await second.take(2) == [True, False]


async def test_who_comes_and_goes_for_long_leaves_nothing(first: Side, room: LuaRoom) -> None:
    for _ in range(20):
        assert await first.take(3) == [True] * 3
        for _ in range(3):
            first.seats.give_back(ROOM_NO, "vw_1")
    await holds(room, {})


# Whoever asked is gone.


async def given_up(*asked: "asyncio.Task[bool]") -> None:
    for each in asked:
        each.cancel()
    for answer in await asyncio.gather(*asked, return_exceptions=True):
        assert isinstance(answer, asyncio.CancelledError)


async def test_who_is_gone_before_the_call_holds_no_seat(first: Side, room: LuaRoom) -> None:
    first.hot.may_begin.clear()
    stays = first.asks()
    await first.hot.begun.wait()
    # These wait for the call behind it.
    gone = [first.asks() for _ in range(MOST)]
    await asyncio.sleep(0)
    await given_up(*gone)
    first.hot.may_begin.set()
    assert await stays
    await holds(room, {"vw_1|p1": 1})
    assert await first.take(MOST) == [True] * 4 + [False]


@pytest.mark.parametrize("point", ["before Valkey acted", "after Valkey acted"])
async def test_who_is_gone_during_the_call_holds_no_seat(first: Side, room: LuaRoom, point: str) -> None:
    waits = first.hot.may_begin if point == "before Valkey acted" else first.hot.may_answer
    reached = first.hot.begun if point == "before Valkey acted" else first.hot.done
    waits.clear()
    gone = [first.asks() for _ in range(MOST)]
    await reached.wait()
    await given_up(*gone)
    waits.set()
    await holds(room, {})
    assert await first.take(MOST) == [True] * MOST


async def test_who_is_gone_when_the_answer_is_there_and_not_yet_read_holds_no_seat(first: Side, room: LuaRoom) -> None:
    gone = first.asks()
    first.hot.behind = gone.cancel
    with pytest.raises(asyncio.CancelledError):
        await gone
    first.hot.behind = lambda: None
    await holds(room, {})
    assert first.hot.calls == [([], ["vw_1"]), (["vw_1"], [])]


async def test_who_is_gone_and_was_refused_gives_nothing_back(first: Side, second: Side, room: LuaRoom) -> None:
    assert await second.take(4) == [True] * 4
    assert await first.take() == [True]
    first.hot.may_answer.clear()
    first.hot.done.clear()
    gone = first.asks()
    await first.hot.done.wait()
    await given_up(gone)
    first.hot.may_answer.set()
    assert await first.take() == [False]
    await holds(room, {"vw_1|p1": 1, "vw_1|p2": 4})


# Valkey is away.


async def test_while_valkey_is_away_everybody_is_let_in_and_for_a_second_nobody_waits_again(
    bent: tuple[Side, CuttingProxy], room: LuaRoom
) -> None:
    side, proxy = bent
    proxy.go_away()
    assert await side.take(8) == [True] * 8
    assert len(side.hot.calls) == 1
    side.clock.advance(AWAY_S - 0.01)
    assert await side.take(8) == [True] * 8
    assert len(side.hot.calls) == 1, "a server that did not answer a moment ago is not asked"
    side.clock.advance(0.02)
    assert await side.take() == [True]
    assert len(side.hot.calls) == 2
    proxy.away = False
    side.clock.advance(AWAY_S + 0.01)
    assert await side.take(6) == [True] * MOST + [False], "back, it counts again"
    await holds(room, {"vw_1|p1": MOST})


async def test_one_that_hangs_is_waited_for_once(first: Side) -> None:
    class Hangs:
        calls = 0

        async def seats(self, room_no: int, **brought: object) -> list[bool]:
            self.calls += 1
            await hung.wait()
            raise HotUnavailable

    hung, hot, clock = asyncio.Event(), Hangs(), FakeClock()
    seats = Seats(hot=hot, alive=list, most=MOST, now_s=clock.monotonic)
    works = asyncio.ensure_future(seats.run())
    await asyncio.sleep(0)
    early = [asyncio.ensure_future(seats.take(ROOM_NO, "vw_1")) for _ in range(3)]
    await asyncio.sleep(0)
    late = [asyncio.ensure_future(seats.take(ROOM_NO, "vw_1")) for _ in range(1_200)]
    await asyncio.sleep(0)
    hung.set()
    assert all(await asyncio.gather(*early, *late))
    assert hot.calls == 1
    works.cancel()
    await asyncio.wait([works])


async def test_a_lost_reply_lets_in_and_leaves_the_count_right(bent: tuple[Side, CuttingProxy], room: LuaRoom) -> None:
    side, proxy = bent
    proxy.lose_replies = 1
    assert await side.take() == [True]
    assert proxy.lost == 1
    await holds(room, {"vw_1|p1": 1})


@pytest.mark.parametrize("when", ["the call that fails", "the second in which nobody asks"])
async def test_who_leaves_while_valkey_is_away_holds_no_seat_afterwards(
    bent: tuple[Side, CuttingProxy], room: LuaRoom, when: str
) -> None:
    side, proxy = bent
    assert await side.take(MOST) == [True] * MOST
    proxy.go_away()
    if when == "the second in which nobody asks":
        assert await side.take(viewer="vw_2") == [True]
    for _ in range(MOST):
        side.seats.give_back(ROOM_NO, "vw_1")
    # Asked behind them: when it is let in, they have been looked at.
    assert await side.take(viewer="vw_2") == [True]
    await holds(room, {"vw_1|p1": MOST})
    proxy.away = False
    side.clock.advance(AWAY_S + 0.01)
    # Nobody else comes or goes here.
    await holds(room, {})
    assert await side.take(6) == [True] * MOST + [False]


async def test_who_leaves_when_the_seats_have_ended_harms_nothing(room: LuaRoom) -> None:
    async with side_on(room.valkey_url) as side:
        assert await side.take() == [True]
    side.seats.give_back(ROOM_NO, "vw_1")
    await holds(room, {"vw_1|p1": 1})
