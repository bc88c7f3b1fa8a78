"""The clocks against a real Valkey and a real PostgreSQL: their time is what it is, so the keeper's own clock is moved
under them, which looks the same from here."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.hot.opening import HotOpening
from gateway.hot.server_state import ServerState
from gateway.keeper.clock_rule import AGREE_FOR_S, Place, Shift, Step
from gateway.keeper.clocks import Clocks, this_machine
from gateway.keeper.deadlines import Deadlines
from gateway.ledger.clocks import LedgerClocks
from tests.support.fake_clock import ShiftedClock
from tests.support.shop_floor import SHARD, ShopFloor, shop_floor

HOUR_S = 3600
HOUR_MS = 3_600_000


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url) as floor:
        yield floor


class StandingStill(ServerState):
    """A test that moves the keeper's clock by hand moves the servers' time against it, except where this makes up for
    it: seconds that pass for both."""

    passed_s = 0.0

    async def time_s(self) -> float:
        return await super().time_s() + self.passed_s


class StandingStillLedger(LedgerClocks):
    passed_s = 0.0

    async def time_s(self) -> Any:
        time_s, places = await super().time_s()
        return time_s + self.passed_s, places


class Keeper:
    def __init__(self, floor: ShopFloor, *, machine: str = "") -> None:
        self.floor = floor
        self.clock = ShiftedClock()
        self.server, self.ledger = StandingStill(floor.client), StandingStillLedger(floor.ledger)
        self.clocks = Clocks(
            hot=self.server,
            opening=HotOpening(floor.scripts),
            ledger=self.ledger,
            shards=[SHARD],
            clock=self.clock,
            machine=machine,
        )

    async def look(self, times: int = 1) -> None:
        """Once a second, without waiting for it."""
        for _ in range(times):
            self.clock.advance(1)
            self.server.passed_s += 1
            self.ledger.passed_s += 1
            await self.clocks.step()

    def set_servers(self, by_s: float) -> None:
        """Both servers' clocks are set: our own goes the other way."""
        self.clock.advance(-by_s)


async def deadlines(floor: ShopFloor) -> list[tuple[datetime, datetime, datetime]]:
    """(confirmed at, pay by, deadline) of every order, as they were decided."""
    rows = await floor.ledger.fetch(
        "SELECT o.confirmed_at, o.pay_by, d.pay_by AS due FROM orders o JOIN deadlines d ON d.sale_no = o.sale_no"
        " AND o.order_id BETWEEN d.first_id AND d.last_id ORDER BY o.seq"
    )
    return [tuple(row) for row in rows]


async def test_the_clocks_of_one_machine_are_trusted_at_once(floor: ShopFloor) -> None:
    keeper = Keeper(floor)
    assert not keeper.clocks.trusted
    await keeper.clocks.step()
    assert keeper.clocks.trusted
    assert timedelta(0) < keeper.clocks.not_after - datetime.now(UTC) < timedelta(seconds=3)


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S])
async def test_after_a_step_every_hold_has_the_time_it_had_left(floor: ShopFloor, by_s: int) -> None:
    await floor.reserve(floor.request("vw_1"), floor.request("vw_2"))
    await floor.written()
    before = await deadlines(floor)
    keeper = Keeper(floor)
    await keeper.look(2)
    keeper.set_servers(by_s)
    await keeper.look(int(AGREE_FOR_S) + 1)
    assert keeper.clocks.trusted
    after = await deadlines(floor)
    moved = timedelta(seconds=by_s)
    for old, new in zip(before, after, strict=True):
        for was, now_is in zip(old, new, strict=True):
            assert abs(now_is - was - moved) < timedelta(milliseconds=200)
    row = await floor.ledger.fetchrow("SELECT shard, step, by_ms, orders FROM clock_steps")
    assert (row["shard"], row["step"], row["orders"]) == (SHARD, 1, 2)
    assert row["by_ms"] == pytest.approx(by_s * 1000, abs=200)
    assert await floor.client.hexists(floor.keys.shard, "opens_up_to") is False


async def test_while_the_clocks_are_not_trusted_no_further_sale_opens(floor: ShopFloor) -> None:
    keeper = Keeper(floor)
    await keeper.look(2)
    keeper.set_servers(HOUR_S)
    await keeper.look()
    paused = int(await floor.client.hget(floor.keys.shard, "opens_up_to"))
    assert paused == pytest.approx(await floor.now_ms() - HOUR_MS, abs=10_000)
    # Opened long before by Valkey's clock, but not by the time that was trusted last.
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "opens_at", str(paused + 60_000))
    [answer] = await floor.place(floor.request("vw_1"))
    assert str(getattr(answer, "outcome", answer)) == "not_started"
    await keeper.look(int(AGREE_FOR_S))
    await floor.reserve(floor.request("vw_1"))


async def test_two_keepers_that_saw_one_step_move_deadlines_once(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"))
    await floor.written()
    [(_, before, _)] = await deadlines(floor)
    keepers = [Keeper(floor), Keeper(floor)]
    for keeper in keepers:
        await keeper.look(2)
        keeper.set_servers(HOUR_S)
        await keeper.look(int(AGREE_FOR_S))
    await asyncio.gather(*(keeper.look() for keeper in keepers))
    assert all(keeper.clocks.trusted for keeper in keepers)
    [(_, after, _)] = await deadlines(floor)
    assert after - before == pytest.approx(timedelta(seconds=HOUR_S), abs=timedelta(seconds=0.2))
    assert await floor.ledger.fetchval("SELECT count(*) FROM clock_steps") == 1


async def test_a_step_between_two_keepers_of_a_machine_is_noticed(floor: ShopFloor) -> None:
    first = Keeper(floor, machine="m")
    await first.look(2)
    second = Keeper(floor, machine="m")
    second.clock, second.clocks._clock = first.clock, first.clock
    second.server.passed_s = first.server.passed_s + HOUR_S
    second.ledger.passed_s = first.ledger.passed_s + HOUR_S
    await second.look(2)
    assert not second.clocks.trusted
    await second.look(int(AGREE_FOR_S))
    assert second.clocks.trusted


def test_this_machine_has_a_name() -> None:
    assert this_machine() == this_machine() != ""


# Moving deadlines, by itself.


def step(*shifts: Shift, total_ms: int, steps: int = 0, shift_ms: int = 0, at: tuple[int, int] = (1, 0)) -> Step:
    return Step(before=Place(*at, steps, shift_ms), total_ms=total_ms, shifts=shifts)


async def move(floor: ShopFloor, what: Step) -> int:
    return await LedgerClocks(floor.ledger).move_deadlines(
        SHARD,
        steps=what.before.steps,
        shift_ms=what.before.shift_ms,
        base=what.before.cursor,
        total_ms=what.total_ms,
        shifts=what.shifts,
    )


async def batches(floor: ShopFloor, count: int) -> list[datetime]:
    """So many batches of one order each; when each must be paid."""
    for at in range(count):
        await floor.reserve(floor.request(f"vw_{at}"))
        await floor.written()
    return [pay_by for _, pay_by, _ in await deadlines(floor)]


async def test_each_set_of_orders_is_moved_by_its_own(floor: ShopFloor) -> None:
    before = await batches(floor, 4)
    hour = Shift((0, 0), (1, 1), HOUR_MS), Shift((1, 2), (1, 3), -2 * HOUR_MS)
    assert await move(floor, step(*hour, total_ms=HOUR_MS)) == 2
    after = [pay_by for _, pay_by, _ in await deadlines(floor)]
    hours = [(new - old) / timedelta(hours=1) for old, new in zip(before, after, strict=True)]
    assert hours == [1, 0, -2, 0]
    dues = [due - pay_by for _, pay_by, due in await deadlines(floor)]
    assert all(timedelta(0) <= late < timedelta(milliseconds=5) for late in dues), "a deadline goes with its orders"


async def test_only_orders_that_wait_for_money_are_moved(floor: ShopFloor) -> None:
    await batches(floor, 2)
    await floor.ledger.execute("UPDATE orders SET status = 'paid' WHERE seq = 1")
    assert await move(floor, step(Shift((0, 0), (1, 2), HOUR_MS), total_ms=HOUR_MS)) == 1


async def test_what_another_keeper_moved_already_is_not_moved_again(floor: ShopFloor) -> None:
    before = await batches(floor, 1)
    hour = step(Shift((0, 0), (1, 1), HOUR_MS), total_ms=HOUR_MS)
    assert await move(floor, hour) == 1
    nearly = step(Shift((0, 0), (1, 1), HOUR_MS + 40), total_ms=HOUR_MS + 40)
    assert await move(floor, nearly) == 0
    # One that slept through two steps, of which the other moved one, moves what is left.
    both = step(Shift((0, 0), (1, 1), 3 * HOUR_MS), total_ms=3 * HOUR_MS, at=(1, 1))
    assert await move(floor, both) == 1
    [(_, pay_by, _)] = await deadlines(floor)
    assert pay_by - before[0] == timedelta(hours=3)


async def test_a_lease_in_the_future_of_a_clock_that_was_set_back_ends_soon(floor: ShopFloor) -> None:
    await floor.ledger.execute("UPDATE shards SET lease_until = clock_timestamp() + interval '1 hour'")
    await move(floor, step(total_ms=-HOUR_MS))
    left = await floor.ledger.fetchval("SELECT extract(epoch FROM lease_until - clock_timestamp()) FROM shards")
    assert left < 6


async def test_nothing_expires_by_a_clock_that_was_set_since_it_was_looked_at(floor: ShopFloor) -> None:
    """The sweep that runs between the step and the next look."""
    await batches(floor, 1)
    await floor.ledger.execute(
        "UPDATE orders SET confirmed_at = confirmed_at - interval '1 hour', pay_by = pay_by - interval '1 hour'"
    )
    await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '1 hour'")
    not_after = datetime.now(UTC) - timedelta(seconds=10)
    assert await floor.settlement.expire(SHARD, most=10, not_after=not_after) is None
    # Also where the clock is set between the question and the answer.
    rows = await floor.ledger.fetch("SELECT * FROM expire_orders($1::int2, 10, $2)", SHARD, not_after)
    assert rows == []
    keeper = Keeper(floor)
    await keeper.clocks.step()
    sweep = Deadlines(shards=[SHARD], ledger=floor.settlement, clocks=keeper.clocks, publisher=floor.heard)
    assert await sweep.sweep(SHARD) == 1
