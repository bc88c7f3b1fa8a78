import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec
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


@pytest.fixture
def told(book: RuleBook) -> list[tuple[str, bool]]:
    """Of each change of bans: the room, and whether Mallory is banned from it now."""
    told: list[tuple[str, bool]] = []
    book.on_bans = lambda room, rules: told.append((room.room, rules.banned("mallory")))
    return told


MALLORY = RoomRules(bans=frozenset({"mallory of room_1"}))


async def test_other_bans_are_told_whoever_had_them_read(
    book: RuleBook, ledger: Ledger, clock: FakeClock, told: list[tuple[str, bool]]
) -> None:
    await book.get(room())
    ledger.change(RoomRules(words=frozenset({"spam"})))
    await book.read_anew(room())
    assert told == [], "of words nobody has to leave"
    ledger.change(MALLORY)
    clock.advance(FRESH_S)
    await book.get(room())
    await book.read_anew(room())
    assert told == [("room_1", True)]
    ledger.change(RoomRules())
    await book.seen(room(), ledger.no)
    assert told == [("room_1", True), ("room_1", False)]


async def test_rules_that_are_seen_to_be_the_same_are_not_read_and_stay_fresh(
    book: RuleBook, ledger: Ledger, clock: FakeClock, told: list[tuple[str, bool]]
) -> None:
    await book.get(room())
    for _ in range(3):
        clock.advance(FRESH_S - 1)
        await book.seen(room(), ledger.no)
    await book.get(room())
    assert ledger.asked == {"no": 1, "rules": 1}
    await book.seen(room(2), ledger.no)
    assert book.known(2) is not None, "also of a room whose rules were let go"
    ledger.is_away = True
    with pytest.raises(LedgerUnavailable):
        await book.seen(room(), ledger.no + 1)
    ledger.is_away = False
    ledger.change(MALLORY)
    await book.seen(room(), ledger.no)
    assert told == [("room_1", True)]


class Hashed:
    """Pseudonyms, and how many were made."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, room: str, sub: str) -> str:
        self.count += 1
        return pseudonym(room, sub)

    def since(self) -> int:
        count, self.count = self.count, 0
        return count


def banned_in(rooms: int, *more: tuple[str, str]) -> RoomRules:
    """Somebody in each of so many rooms from the whole shop, and these: (who, where)."""
    bans = {f"room_{number}": frozenset({f"nobody of room_{number}"}) for number in range(100, 100 + rooms)}
    for sub, where in more:
        bans[where] = bans.get(where, frozenset()) | {f"{sub} of {where}"}
    return RoomRules(shop_bans=bans)


async def test_a_shop_with_many_bans_costs_a_viewer_its_rooms_once_and_a_new_ban_a_single_one(
    ledger: Ledger, clock: FakeClock
) -> None:
    hashed = Hashed()
    book = RuleBook(rules=ledger, pseudonym=hashed, clock=clock)
    ledger.change(banned_in(500))
    rules = await book.get(room())
    assert not rules.banned("ann") and hashed.since() == 500
    assert not rules.banned("ann") and hashed.since() == 0
    for change, ann, cost in [
        (banned_in(500, ("bob", "room_7")), False, 1),
        (banned_in(500, ("bob", "room_7"), ("ann", "room_101")), True, 1),
        (banned_in(499, ("bob", "room_7"), ("ann", "room_101")), True, None),
        (banned_in(500, ("bob", "room_7")), False, 501),
    ]:
        ledger.change(change)
        rules = await book.read_anew(room())
        assert rules.banned("ann") is ann
        assert cost in (None, hashed.since())
        assert rules.banned("bob")
        hashed.since()
    ledger.change(msgspec.structs.replace(ledger.now, words=frozenset({"spam"})))
    rules = await book.read_anew(room())
    assert not rules.banned("ann") and hashed.since() == 0, "other words make no other bans"


async def test_remembered_verdicts_are_bounded_and_right_when_forgotten(
    ledger: Ledger, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room_rules, "_VERDICTS_MAX", 10)
    hashed = Hashed()
    book = RuleBook(rules=ledger, pseudonym=hashed, clock=clock)
    ledger.change(banned_in(20, ("viewer-3", "room_7")))
    rules = await book.get(room())
    for _ in range(2):
        assert [number for number in range(30) if rules.banned(f"viewer-{number}")] == [3]
    assert hashed.since() > 30 * 20
    assert not rules.banned("viewer-29") and hashed.since() == 0
