import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from gateway.domain.ids import RoomId
from gateway.domain.live import RoomRules
from gateway.domain.room import Room, RoomState
from gateway.domain.words import WordFilter
from gateway.errors import LedgerUnavailable
from gateway.flows import room_rules
from gateway.flows.room_rules import FRESH_S, RuleBook
from tests.support.fake_clock import FakeClock


def room(number: int = 1) -> Room:
    return Room(
        room=RoomId(f"room_{number}"),
        room_no=number,
        shop="tins",
        title="Show",
        state=RoomState.LIVE,
        created_at_ms=0,
    )


def pseudonym(room: str, sub: str) -> str:
    return f"{sub} of {room}"


class Ledger:
    """Answers once it may; counts what it was asked."""

    def __init__(self) -> None:
        self.now = RoomRules()
        self.no = 0
        self.asked: Counter[str] = Counter()
        self.is_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    def change(self, rules: RoomRules) -> None:
        self.now, self.no = rules, self.no + 1

    async def rules_no(self, room_no: int) -> Any:
        return await self._answer("no", self.no)

    async def rules(self, room_no: int) -> RoomRules:
        return await self._answer("rules", self.now)

    async def _answer(self, what: str, answer: Any) -> Any:
        self.asked[what] += 1
        if self.is_away:
            raise LedgerUnavailable("away")
        await self.may_answer.wait()
        return answer


@pytest.fixture
async def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def book(ledger: Ledger, clock: FakeClock) -> RuleBook:
    return RuleBook(rules=ledger, pseudonym=pseudonym, clock=clock)


async def test_who_is_banned_is_known_by_their_name_in_the_room_or_in_another_of_the_shop(
    book: RuleBook, ledger: Ledger
) -> None:
    ledger.change(
        RoomRules(bans=frozenset({"ann of room_1"}), shop_bans={"room_7": frozenset({"bob of room_7"})}),
    )
    rules = await book.get(room())
    assert [rules.banned(sub) for sub in ("ann", "bob", "cid")] == [True, True, False]
    assert not (await book.get(room(2))).banned("ann")


async def test_texts_with_a_banned_word_are_refused(book: RuleBook, ledger: Ledger) -> None:
    assert not (await book.get(room())).refuses("buy spam")
    ledger.change(RoomRules(words=frozenset({"spam"})))
    rules = await book.read_anew(room())
    assert (rules.refuses("buy s p a m"), rules.refuses("buy tins")) == (True, False)


async def test_what_is_fresh_is_not_asked_for_and_what_did_not_change_is_not_read(
    book: RuleBook, ledger: Ledger, clock: FakeClock
) -> None:
    first = await book.get(room())
    clock.advance(FRESH_S - 0.1)
    assert await book.get(room()) is first
    assert ledger.asked == {"no": 1, "rules": 1}
    clock.advance(0.2)
    assert await book.get(room()) is first
    assert ledger.asked == {"no": 2, "rules": 1}
    ledger.change(RoomRules(words=frozenset({"spam"})))
    clock.advance(FRESH_S)
    assert (await book.get(room())).refuses("spam")


async def test_a_crowd_shares_one_reading_also_when_one_of_them_leaves(book: RuleBook, ledger: Ledger) -> None:
    ledger.may_answer.clear()
    asking = [asyncio.create_task(book.get(room())) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    ledger.may_answer.set()
    read = await asyncio.gather(*asking[1:])
    assert len(set(map(id, read))) == 1
    assert ledger.asked == {"no": 1, "rules": 1}


async def test_a_ledger_that_is_away_leaves_what_was_known(book: RuleBook, ledger: Ledger, clock: FakeClock) -> None:
    with pytest.raises(LedgerUnavailable):
        ledger.is_away = True
        await book.get(room())
    ledger.is_away = False
    ledger.change(RoomRules(words=frozenset({"spam"})))
    rules = await book.get(room())
    ledger.is_away = True
    clock.advance(FRESH_S + 1)
    assert await book.get(room()) is rules
    asked = ledger.asked["no"]
    assert await book.get(room()) is rules
    assert ledger.asked["no"] == asked, "it is asked again after a while, not by everyone"
    with pytest.raises(LedgerUnavailable):
        await book.read_anew(room())


async def test_a_ledger_that_hangs_is_waited_for_a_moment_and_by_one(
    book: RuleBook, ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_rules, "_WAIT_S", 0.01)
    rules = await book.get(room())
    ledger.may_answer.clear()
    clock.advance(FRESH_S + 1)
    assert await book.get(room()) is rules
    waiting = asyncio.create_task(book.get(room()))
    await asyncio.sleep(0)
    assert waiting.done()
    ledger.may_answer.set()


async def test_what_is_known_waits_for_nobody_and_is_read_anew_when_old(
    book: RuleBook, ledger: Ledger, clock: FakeClock
) -> None:
    assert book.known(1) is None
    await book.get(room())
    ledger.change(RoomRules(words=frozenset({"spam"})))
    clock.advance(FRESH_S)
    known = book.known(1)
    assert known is not None and not known.refuses("spam")
    async with asyncio.timeout(5):
        while not (known := book.known(1)) or not known.refuses("spam"):  # noqa: ASYNC110 - read by a task of the book's
            await asyncio.sleep(0)


async def test_a_reading_begun_before_a_change_is_not_kept_after_it(book: RuleBook, ledger: Ledger) -> None:
    ledger.may_answer.clear()
    before = asyncio.create_task(book.get(room()))
    await asyncio.sleep(0)
    ledger.change(RoomRules(words=frozenset({"spam"})))
    anew = asyncio.create_task(book.read_anew(room()))
    await asyncio.sleep(0)
    ledger.may_answer.set()
    assert (await anew).refuses("spam")
    await before
    assert (await book.get(room())).refuses("spam")


async def test_rooms_that_ban_the_same_words_share_a_filter_built_once_beside_the_loop(
    book: RuleBook, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    built_in: list[int] = []

    class Counted(WordFilter):
        def __init__(self, words: Iterable[str]) -> None:
            built_in.append(threading.get_ident())
            super().__init__(words)

    monkeypatch.setattr(room_rules, "WordFilter", Counted)
    ledger.change(RoomRules(words=frozenset(f"word-{n:04d}" for n in range(600))))
    read = await asyncio.gather(*(book.get(room(number)) for number in range(1, 6)))
    assert len(built_in) == 1 and built_in[0] != threading.get_ident()
    assert all(rules.refuses("it is word-0599") for rules in read)


async def test_rooms_beyond_the_bound_are_read_again(
    book: RuleBook, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_rules, "_ROOMS_MAX", 2)
    for number in (1, 2, 3):
        await book.get(room(number))
    assert [book.known(number) is not None for number in (1, 2, 3)] == [False, True, True]
