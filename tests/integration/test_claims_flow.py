"""Claims from a viewer to the group and back; read again by key and by viewer; and what rooms hear of what is left."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.admission.limiter import Limiter
from gateway.domain.caller import Caller, Role
from gateway.domain.coupon import Claim, ClaimAnswer, ClaimOutcome, ClaimRequest, ClaimState, Coupon
from gateway.domain.ids import ClaimId, ClaimPlace, IdMint, RoomId
from gateway.errors import (
    Forbidden,
    HotUnavailable,
    LedgerUnavailable,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from gateway.flows.claim import ClaimCoupon
from gateway.flows.claims import ClaimReader
from gateway.flows.coupon_book import CouponBook
from gateway.flows.coupon_news import CouponNews
from gateway.flows.retired_keys import RetiredClaims
from tests.support.couponing import ask, make_coupon
from tests.support.coupons import coupon
from tests.support.fake_clock import FakeClock
from tests.support.shop_floor import SHARD, SHOP, ShopFloor, shop_floor

MINT = IdMint(b"k" * 32)
VIEWER = Caller(shop="tins", sub="vw_1", role=Role.VIEWER, expires_at_s=2**31)
CLAIM = MINT.claim(5_000, 7, 1, 4)
ROOM = MINT.room(1, 3)
FOREVER = {"claim_until_ms": 2**50, "valid_until_ms": 2**50}


def a_coupon(coupon_no: int = 7, **facts: Any) -> Coupon:
    return coupon(**{"coupon_no": coupon_no, "coupon": MINT.coupon(1, coupon_no), "shard": 0, **FOREVER, **facts})


class Ledger:
    def __init__(self, *coupons: Coupon) -> None:
        self.coupons = {each.coupon_no: each for each in coupons}
        self.reads = 0
        self.away = False

    async def find(self, coupon_no: int) -> Coupon | None:
        self.reads += 1
        await asyncio.sleep(0)
        if self.away:
            raise LedgerUnavailable
        return self.coupons.get(coupon_no)


class Group:
    def __init__(self) -> None:
        self.requests: list[ClaimRequest] = []
        self.answer: ClaimAnswer | Exception = ClaimAnswer(ClaimOutcome.CLAIMED, claim=CLAIM, value_minor=500)
        self.error: Exception | None = None

    def submit(self, request: ClaimRequest) -> None:
        if self.error is not None:
            raise self.error
        self.requests.append(request)
        request.answer(self.answer)


class Desk:
    """A desk of claims with everything around it in a test's hand."""

    def __init__(self, *coupons: Coupon, rate: float = 1000, burst: int = 1000) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(*(coupons or (a_coupon(),)))
        self.group, self.retired = Group(), Group()
        self.watched: list[tuple[str, bool]] = []
        self.moved: list[int] = []
        self.book = CouponBook(coupons=self.ledger, mint=MINT, clock=self.clock)
        self.flow = ClaimCoupon(
            book=self.book,
            groups=lambda shard: self.group,
            retired=self.retired,
            limiter=Limiter(rate=rate, burst=burst),
            watch=self,
            clock=self.clock,
            moved=self.moved.append,
        )

    def claimed(self, claim: ClaimId, *, coupon_no: int, shop: str, viewer: str, ask_now: bool) -> None:
        assert (coupon_no, shop, viewer) == (7, "tins", "vw_1")
        self.watched.append((claim, ask_now))

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Desk"]:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(self.flow.run())
            await asyncio.sleep(0)
            try:
                yield self
            finally:
                running.cancel()

    async def ask(self, caller: Caller = VIEWER, *, coupon_no: int = 7, key: str = "k1") -> ClaimAnswer:
        return await asyncio.wait_for(self.flow.ask(caller, coupon=MINT.coupon(1, coupon_no), key=key), 5)


async def test_a_claim_goes_to_the_group_of_its_coupon_and_is_watched_until_it_is_confirmed() -> None:
    async with Desk().open() as desk:
        answers = await asyncio.gather(*(desk.ask(key=f"k{at}") for at in range(3)))
        assert {answer.claim for answer in answers} == {CLAIM}
        assert desk.ledger.reads == 1, "the first look-up is for all"
        assert [(each.viewer, each.key, each.coupon_no) for each in desk.group.requests] == [
            ("vw_1", f"k{at}", 7) for at in range(3)
        ]
        assert desk.watched == [(CLAIM, False)] * 3
        assert desk.moved == [7] * 3


async def test_a_repeat_asks_at_once_what_became_of_it_and_moves_nothing() -> None:
    async with Desk().open() as desk:
        desk.group.answer = ClaimAnswer(ClaimOutcome.CLAIMED, claim=CLAIM, replayed=True)
        await desk.ask()
        assert (desk.watched, desk.moved) == ([(CLAIM, True)], [])


@pytest.mark.parametrize("outcome", [ClaimOutcome.GONE, ClaimOutcome.LIMIT_REACHED, ClaimOutcome.ENDED])
async def test_a_refusal_is_an_answer_and_nothing_is_watched(outcome: ClaimOutcome) -> None:
    async with Desk().open() as desk:
        desk.group.answer = ClaimAnswer(outcome)
        assert (await desk.ask()).outcome is outcome
        assert desk.watched == desk.moved == []


async def test_a_viewer_who_claims_too_fast_is_told_when_to_come_back_and_asks_nobody() -> None:
    async with Desk(rate=2, burst=1).open() as desk:
        await desk.ask()
        answer = await desk.ask(key="k2")
        assert (answer.outcome, len(desk.group.requests)) == (ClaimOutcome.TOO_FAST, 1)
        assert 0 < answer.retry_after_ms <= 501
        desk.clock.advance(answer.retry_after_ms / 1000)
        assert (await desk.ask(key="k2")).outcome is ClaimOutcome.CLAIMED


async def test_only_viewers_of_the_shop_and_of_the_coupons_room_claim() -> None:
    async with Desk(a_coupon(), a_coupon(8, shop="cups"), a_coupon(9, room=ROOM)).open() as desk:
        host = Caller(shop="tins", sub="host", role=Role.HOST, expires_at_s=2**31)
        elsewhere = Caller(
            shop="tins", sub="vw_1", role=Role.VIEWER, expires_at_s=2**31, rooms=frozenset({RoomId("room_2")})
        )
        with pytest.raises(Forbidden):
            await desk.ask(host)
        for coupon_no in (8, 10):
            with pytest.raises(NotFound):
                await desk.ask(coupon_no=coupon_no)
        for _ in range(2):  # looked up, and known
            with pytest.raises(Forbidden):
                await desk.ask(elsewhere, coupon_no=9)
        assert desk.group.requests == []
        assert (await desk.ask(elsewhere)).outcome is ClaimOutcome.CLAIMED, "one of no room is free"


async def test_a_coupon_that_left_valkey_is_asked_for_elsewhere() -> None:
    async with Desk(a_coupon(retired=True)).open() as desk:
        desk.retired.answer = ClaimAnswer(ClaimOutcome.ENDED)
        assert (await desk.ask()).outcome is ClaimOutcome.ENDED
        assert (len(desk.group.requests), len(desk.retired.requests)) == (0, 1)


async def test_an_answer_that_never_came_of_a_coupon_that_is_over_has_it_looked_up_anew() -> None:
    async with Desk(a_coupon(claim_until_ms=1, valid_until_ms=2)).open() as desk:
        desk.group.answer = OutcomeUnknown()
        for _ in range(2):
            with pytest.raises(OutcomeUnknown):
                await desk.ask()
        assert desk.ledger.reads == 2


async def test_what_was_not_sent_has_not_happened() -> None:
    async with Desk().open() as desk:
        desk.ledger.away = True
        with pytest.raises(Unavailable):
            await desk.ask()
        desk.ledger.away = False
        desk.group.error = Overloaded()
        with pytest.raises(Overloaded):
            await desk.ask()
        desk.flow.stop_admitting()
        with pytest.raises(Unavailable):
            await desk.ask()


# Keys of coupons that left Valkey.


class KeyLedger:
    def __init__(self) -> None:
        self.held: dict[tuple[str, int, str], Claim] = {}
        self.away = False

    async def claims_by_keys(self, keys: Sequence[tuple[str, int, str]]) -> Mapping[tuple[str, int, str], Claim]:
        if self.away:
            raise LedgerUnavailable
        return {key: self.held[key] for key in keys if key in self.held}


async def test_the_ledger_is_asked_for_the_key_before_anybody_is_told_that_it_ended() -> None:
    ledger = KeyLedger()
    held = Claim(CLAIM, 7, "vw_1", "k1", 500, ClaimState.CONFIRMED, None, 5_000)
    ledger.held["vw_1", 7, "k1"] = held
    retired = RetiredClaims(ledger=ledger)
    answers: list[ClaimAnswer | Exception] = []

    def request(key: str) -> ClaimRequest:
        return ClaimRequest(viewer="vw_1", key=key, coupon_no=7, arrived_s=0.0, answer=answers.append)

    with pytest.raises(Unavailable):
        retired.submit(request("k1"))
    running = asyncio.create_task(retired.run())
    await asyncio.sleep(0)
    for key in ("k1", "k2"):
        retired.submit(request(key))
    await asyncio.sleep(0.01)
    ledger.away = True
    retired.submit(request("k1"))
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    again, ended, away = answers
    assert again == ClaimAnswer(ClaimOutcome.CLAIMED, claim=CLAIM, value_minor=500, at_ms=5_000, replayed=True)
    assert ended == ClaimAnswer(ClaimOutcome.ENDED)
    assert isinstance(away, Unavailable)


# Reading, from real servers.


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url) as floor:
        yield floor


def reader_of(floor: ShopFloor) -> ClaimReader:
    book = CouponBook(coupons=floor.coupons, mint=floor.mint, clock=floor.clock)
    return ClaimReader(ledger=floor.coupons, held={SHARD: floor.hot_coupons}, book=book, mint=floor.mint)


async def test_a_key_tells_its_claim_before_the_ledger_has_it_and_afterwards(floor: ShopFloor) -> None:
    made = await make_coupon(floor)
    [taken] = await ask(floor, made, ("ann", "k1"))
    assert isinstance(taken, ClaimAnswer) and taken.claim is not None
    reader = reader_of(floor)
    keys = [(made, "k1"), (made, "k2")]
    before, nothing = await reader.by_keys("ann", keys)
    assert before is not None and nothing is None
    assert (before.claim, before.state, before.value_minor) == (taken.claim, ClaimState.CLAIMED, 500)
    ann = Caller(shop=SHOP, sub="ann", role=Role.VIEWER, expires_at_s=2**31)
    assert await reader.own(ann, limit=5, after=None) == ([], None)
    await floor.written()
    after, nothing = await reader.by_keys("ann", keys)
    assert after is not None and nothing is None
    assert (after.claim, after.state) == (taken.claim, ClaimState.CONFIRMED)
    shown, cursor = await reader.own(ann, limit=5, after=None)
    assert ([(claim.claim, of.coupon) for claim, of in shown], cursor) == ([(taken.claim, made.coupon)], None)


async def test_own_claims_come_in_pages_newest_first(floor: ShopFloor) -> None:
    made = await make_coupon(floor, limit_per_viewer=5, copies=5)
    for at in range(5):
        await ask(floor, made, ("ann", f"k{at}"))
    await floor.written()
    reader = reader_of(floor)
    ann = Caller(shop=SHOP, sub="ann", role=Role.VIEWER, expires_at_s=2**31)
    seen: list[str] = []
    cursor: str | None = None
    while True:
        shown, cursor = await reader.own(ann, limit=2, after=cursor)
        seen += [claim.claim for claim, _ in shown]
        if cursor is None:
            break
    assert len(seen) == 5 and seen == sorted(seen, reverse=True)


async def test_a_claim_that_was_lost_with_its_server_frees_its_key(floor: ShopFloor) -> None:
    made = await make_coupon(floor)
    [taken] = await ask(floor, made, ("ann", "k1"))
    assert isinstance(taken, ClaimAnswer) and taken.claim is not None
    place = floor.mint.read_claim(taken.claim)
    assert place is not None
    # The cursor is past it, and the ledger does not have it.
    await floor.ledger.execute("UPDATE shards SET last_seq = $1", place.seq)
    [known] = await reader_of(floor).by_keys("ann", [(made, "k1")])
    assert known is None
    assert await floor.coupons.lost_claims([place], [taken.claim]) == {taken.claim}


# What rooms hear.


class Copies:
    def __init__(self) -> None:
        self.copies: dict[int, int | None] = {}
        self.away = False
        self.version = 0

    async def left_at(self, coupon_nos: Sequence[int]) -> tuple[int, list[int | None]]:
        if self.away:
            raise HotUnavailable
        self.version += 1
        return self.version, [self.copies.get(coupon_no) for coupon_no in coupon_nos]


class Telling:
    def __init__(self, *coupons: Coupon) -> None:
        self.hot = Copies()
        self.told: list[tuple[int, str, int, int]] = []
        self.coupons = {each.coupon_no: each for each in coupons}
        self.news = CouponNews(find=self.find, hot={0: self.hot}, rooms=self, read_room=MINT.read_room)

    async def find(self, coupon_no: int) -> Coupon | None:
        return self.coupons.get(coupon_no)

    def stock(self, room_no: int, field: str, version: int, event: dict[str, Any]) -> None:
        assert event["k"] == "coupon" and field == event["coupon"]
        self.told.append((room_no, field, version, event["left"]))


async def test_a_room_hears_what_is_left_of_its_coupons_once_for_however_many_claims() -> None:
    bound, free, nowhere = a_coupon(7, room=ROOM), a_coupon(8, dropped_room=ROOM), a_coupon(9)
    telling = Telling(bound, free, nowhere)
    telling.hot.copies = {7: 5, 8: 0, 9: 3}
    for coupon_no in (7, 7, 8, 9, 10):
        telling.news.note(coupon_no)
    await telling.news.tell()
    assert telling.told == [(3, bound.coupon, 1, 5), (3, free.coupon, 1, 0)]
    await telling.news.tell()
    assert len(telling.told) == 2


async def test_what_could_not_be_read_is_told_the_next_time() -> None:
    telling = Telling(a_coupon(7, room=ROOM))
    telling.hot.copies, telling.hot.away = {7: 4}, True
    telling.news.note(7)
    await telling.news.tell()
    assert telling.told == []
    telling.hot.away = False
    await telling.news.tell()
    assert [each[3] for each in telling.told] == [4]


def test_a_place_says_where_a_claim_stands() -> None:
    assert MINT.read_claim(CLAIM) == ClaimPlace(5_000, 7, 1, 4)
