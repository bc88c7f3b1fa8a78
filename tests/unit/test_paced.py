"""A reading is made no more often than it is worth, and once for all who ask."""

import asyncio

import pytest

from gateway.errors import LedgerUnavailable
from gateway.flows.paced import Paced
from tests.support.fake_clock import FakeClock


class Source:
    """Answers with how often a key was read; a test says how long that takes, and when it fails."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.takes_s = 0.0
        self.fails = False
        self.read: list[str] = []
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, key: str) -> int:
        await self.go.wait()
        self.read.append(key)
        self.clock.advance(self.takes_s)
        if self.fails:
            raise LedgerUnavailable
        return self.read.count(key)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def source(clock: FakeClock) -> Source:
    return Source(clock)


async def test_a_cheap_reading_holds_for_a_second(source: Source, clock: FakeClock) -> None:
    paced = Paced(read=source, clock=clock)
    assert [await paced.get("a"), await paced.get("a")] == [1, 1]
    clock.advance(0.99)
    assert await paced.get("a") == 1
    clock.advance(0.01)
    assert await paced.get("a") == 2


async def test_a_dear_reading_holds_twenty_times_as_long_as_it_took(source: Source, clock: FakeClock) -> None:
    paced = Paced(read=source, clock=clock)
    source.takes_s = 0.5
    assert await paced.get("a") == 1
    clock.advance(9.9)
    assert await paced.get("a") == 1
    clock.advance(0.2)
    assert await paced.get("a") == 2


async def test_many_rooms_are_read_less_often_than_one(source: Source, clock: FakeClock) -> None:
    paced = Paced(read=source, clock=clock)
    source.takes_s = 0.1
    for at in range(50):
        await paced.get(f"room-{at}")
    source.takes_s = 0.1
    clock.advance(15)
    assert await paced.get("room-49") == 1, "fifty of them would take a connection a third of the time"
    clock.advance(6)
    assert await paced.get("room-49") == 2


async def test_who_asks_while_it_is_read_waits_for_that_reading(source: Source, clock: FakeClock) -> None:
    paced = Paced(read=source, clock=clock)
    source.go.clear()
    asking = [asyncio.create_task(paced.get("a")) for _ in range(5)]
    await asyncio.sleep(0)
    asking[0].cancel()
    source.go.set()
    assert await asyncio.gather(*asking[1:]) == [1, 1, 1, 1], "who left took it from nobody"


async def test_two_are_read_at_once_and_no_more(source: Source, clock: FakeClock) -> None:
    paced = Paced(read=source, clock=clock)
    source.go.clear()
    asking = [asyncio.create_task(paced.get(key)) for key in "abc"]
    for _ in range(5):
        await asyncio.sleep(0)
    assert paced._turns.locked()
    source.go.set()
    assert await asyncio.gather(*asking) == [1, 1, 1]


async def test_a_reading_that_fails_is_told_and_made_anew(source: Source, clock: FakeClock) -> None:
    paced = Paced(read=source, clock=clock)
    source.fails = True
    with pytest.raises(LedgerUnavailable):
        await paced.get("a")
    source.fails = False
    assert await paced.get("a") == 2


async def test_the_key_that_was_asked_for_longest_ago_is_forgotten(source: Source, clock: FakeClock) -> None:
    paced = Paced(read=source, clock=clock, most=2)
    for key in ("a", "b", "a", "c"):
        await paced.get(key)
    assert (await paced.get("a"), await paced.get("b")) == (1, 2)
