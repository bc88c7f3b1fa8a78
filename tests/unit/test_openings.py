"""Coupons of a room that open by the clock: a clock and a ledger in a test's hand."""

from typing import NamedTuple

import pytest

from gateway.errors import LedgerUnavailable
from gateway.keeper.openings import AHEAD_MS, CouponOpenings

NOON_MS = 1_800_000_000_000


class Opening(NamedTuple):
    coupon_no: int
    at_ms: int


class World:
    """The ledger, Valkey's clock, and who hears of it."""

    def __init__(self, *openings: Opening) -> None:
        self.openings = list(openings)
        self.now_ms = float(NOON_MS)
        self.trusted = True
        self.away = False
        self.heard: list[tuple[int, int]] = []
        """(coupon, how long after its time)."""
        self.keeper = self.another_keeper()

    def another_keeper(self) -> CouponOpenings:
        return CouponOpenings(ledger=self, server=self, clocks=self, opened=self.note, clock=self, sleep=self.sleep)

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def now_s(self) -> float:
        return self.now_ms / 1000

    async def time_s(self) -> float:
        return self.now_ms / 1000

    async def sleep(self, seconds: float) -> None:
        """Who sleeps wakes a little early, as timers may."""
        self.now_ms += max(0.3, seconds * 1000 - 2)

    async def coupon_openings(self, from_ms: int, to_ms: int) -> list[Opening]:
        if self.away:
            raise LedgerUnavailable("away")
        return [each for each in self.openings if from_ms <= each.at_ms <= to_ms]

    def note(self, coupon_no: int) -> None:
        at_ms = next(each.at_ms for each in self.openings if each.coupon_no == coupon_no)
        self.heard.append((coupon_no, int(self.now_ms) - at_ms))

    async def until(self, ms: int) -> None:
        while self.now_ms < NOON_MS + ms:
            try:
                await self.keeper.step()
            except LedgerUnavailable:
                pass
            await self.sleep(1.0)


@pytest.mark.parametrize("in_ms", [-900, 0, 1, 999, 1000, AHEAD_MS - 1, AHEAD_MS, AHEAD_MS + 1, 2001, 3500])
async def test_an_opening_is_heard_of_once_never_before_its_time_and_soon_after_it(in_ms: int) -> None:
    world = World(Opening(7, NOON_MS + in_ms))
    await world.until(20_000)
    [(coupon_no, late_ms)] = world.heard
    assert coupon_no == 7
    assert 0 <= late_ms <= max(3, -in_ms)


async def test_openings_a_moment_apart_are_each_heard_of_at_their_time() -> None:
    world = World(*(Opening(no, NOON_MS + 900 + no * 20) for no in range(1, 8)))
    await world.until(5000)
    assert [coupon_no for coupon_no, _ in world.heard] == list(range(1, 8))
    assert all(0 <= late_ms <= 3 for _, late_ms in world.heard)


async def test_what_opened_in_an_outage_is_heard_of_after_it() -> None:
    world = World(Opening(7, NOON_MS + 2000))
    await world.until(1000)
    world.away = True
    await world.until(60_000)
    world.away = False
    await world.until(65_000)
    assert [coupon_no for coupon_no, _ in world.heard] == [7]


async def test_a_coupon_that_valkey_holds_back_is_heard_of_once_the_clocks_are_trusted() -> None:
    world = World(Opening(7, NOON_MS + 500), Opening(8, NOON_MS + 30_000))
    world.trusted = False
    await world.until(20_000)
    assert world.heard == []
    world.trusted = True
    await world.until(22_000)
    assert [coupon_no for coupon_no, _ in world.heard] == [7]
    await world.until(40_000)
    assert [coupon_no for coupon_no, _ in world.heard] == [7, 8]


async def test_a_clock_that_was_set_back_makes_nobody_wait_for_it() -> None:
    world = World(Opening(7, NOON_MS + 1000))

    async def set_back(seconds: float) -> None:
        world.now_ms -= 60_000

    world.keeper._sleep = set_back
    await world.keeper.step()
    assert world.heard == []
    world.keeper._sleep = world.sleep
    await world.until(5000)
    assert [coupon_no for coupon_no, _ in world.heard] == [7]
