"""The rooms a process knows, while the ledger answers, hangs and fails."""

import asyncio
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from gateway.domain.ids import IdMint
from gateway.domain.room import Room
from gateway.errors import LedgerUnavailable, NotFound
from gateway.flows import last_known
from gateway.flows.room_book import RoomBook
from tests.support.fake_clock import FakeClock
from tests.support.members import ROOM

MINT = IdMint(bytes(32))
KNOWN = replace(ROOM, room=MINT.room(0, ROOM.room_no))


class Ledger:
    """Answers once it may; counts what it was asked."""

    def __init__(self) -> None:
        self.room: Room | None = KNOWN
        self.asked = 0
        self.is_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def find(self, room_no: int) -> Room | None:
        self.asked += 1
        room = self.room
        await self.may_answer.wait()
        if self.is_away:
            raise LedgerUnavailable("away")
        return room


@pytest.fixture
async def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def book(ledger: Ledger, clock: FakeClock) -> RoomBook:
    return RoomBook(rooms=ledger, mint=MINT, clock=clock)


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(last_known, "_WAIT_S", 0.02)
    yield


async def test_a_room_is_read_once_for_all_who_ask(book: RoomBook, ledger: Ledger, clock: FakeClock) -> None:
    ledger.may_answer.clear()
    asking = [asyncio.ensure_future(book.get(KNOWN.room)) for _ in range(200)]
    await asyncio.sleep(0)
    asking.pop().cancel()
    await asyncio.sleep(0)
    ledger.may_answer.set()
    assert await asyncio.gather(*asking) == [KNOWN] * 199
    await book.get(KNOWN.room)
    assert ledger.asked == 1
    clock.advance(5.1)
    await book.get(KNOWN.room)
    assert ledger.asked == 2


@pytest.mark.usefixtures("short_wait")
async def test_while_the_ledger_hangs_a_known_room_is_waited_for_once_and_shortly(
    book: RoomBook, ledger: Ledger, clock: FakeClock
) -> None:
    await book.get(KNOWN.room)
    clock.advance(6)
    ledger.may_answer.clear()
    async with asyncio.timeout(2):
        assert await asyncio.gather(*(book.get(KNOWN.room) for _ in range(200))) == [KNOWN] * 200
    asked = ledger.asked
    assert asked == 2
    last_known._WAIT_S = 3600
    clock.advance(4.9)
    async with asyncio.timeout(2):
        assert await book.get(KNOWN.room) == KNOWN
    ledger.room = replace(KNOWN, title="Another show")
    ledger.may_answer.set()
    clock.advance(0.2)
    await book.get(KNOWN.room)
    clock.advance(5.1)
    assert (await book.get(KNOWN.room)).title == "Another show"


async def test_a_ledger_that_fails_is_asked_again_after_a_while_only(
    book: RoomBook, ledger: Ledger, clock: FakeClock
) -> None:
    await book.get(KNOWN.room)
    clock.advance(6)
    ledger.is_away = True
    for _ in range(10):
        assert await book.get(KNOWN.room) == KNOWN
    assert ledger.asked == 2
    clock.advance(5.1)
    await book.get(KNOWN.room)
    assert ledger.asked == 3


async def test_a_room_that_was_never_read_fails_with_the_ledger_and_is_there_when_it_is(
    book: RoomBook, ledger: Ledger
) -> None:
    ledger.is_away = True
    with pytest.raises(LedgerUnavailable):
        await book.get(KNOWN.room)
    ledger.is_away = False
    assert await book.get(KNOWN.room) == KNOWN


async def test_what_began_to_be_read_before_a_change_is_not_kept(book: RoomBook, ledger: Ledger) -> None:
    ledger.may_answer.clear()
    before = asyncio.ensure_future(book.get(KNOWN.room))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ledger.room = replace(KNOWN, title="Another show")
    book.forget(KNOWN.room)
    after = asyncio.ensure_future(book.get(KNOWN.room))
    await asyncio.sleep(0)
    ledger.may_answer.set()
    assert (await before).title == "Show"
    assert (await after).title == "Another show"
    assert (await book.get(KNOWN.room)).title == "Another show"


async def test_what_is_no_room_is_not_found_and_not_kept(book: RoomBook, ledger: Ledger) -> None:
    with pytest.raises(NotFound):
        await book.get("room_of_somebody_else")
    assert ledger.asked == 0
    ledger.room = None
    with pytest.raises(NotFound):
        await book.get(KNOWN.room)
    ledger.room = KNOWN
    assert await book.get(KNOWN.room) == KNOWN
