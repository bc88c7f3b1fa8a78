from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.errors import HotUnavailable, LedgerUnavailable
from gateway.keeper.clock_rule import AGREE_FOR_S, TOLERANCE_S
from gateway.keeper.clocks import FRESH_S, NOTE_EVERY_S, NOTE_KEPT_S, SLOWEST_S, Clocks
from gateway.metrics import CLOCK_SKEW_SECONDS, CLOCK_TRUSTED
from tests.support.fake_clock import FakeClock

UNIX_S = 1_800_000_000.0
HOUR_S = 3600.0
SHARDS = (0, 1)


class Server:
    """A server's clock: it runs with ours, is set by a test, and is away while `fails` is set."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.ahead_s = UNIX_S - clock.monotonic()
        self.takes_s = 0.0
        self.fails: Exception | None = None

    def read(self) -> float:
        if self.fails is not None:
            raise self.fails
        self.clock.advance(self.takes_s / 2)
        time_s = self.clock.monotonic() + self.ahead_s
        self.clock.advance(self.takes_s / 2)
        return time_s


class Hot(Server):
    """Valkey: its clock, and which shards have opening paused up to when."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.paused: dict[int, int] = {}
        self.writes = 0

    async def time_s(self) -> float:
        return self.read()

    async def pause(self, shard: int, *, up_to_ms: int) -> bool:
        if self.fails is not None:
            raise self.fails
        self.writes += 1
        self.paused.setdefault(shard, up_to_ms)
        return True

    async def resume(self, shard: int) -> None:
        if self.fails is not None:
            raise self.fails
        self.writes += 1
        self.paused.pop(shard, None)


class Ledger(Server):
    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.places = dict.fromkeys(SHARDS, (1, 40, 0, 0))
        self.moves: list[tuple[int, int, int]] = []
        """(shard, times moved that the caller knew of, total ms)"""
        self.refuses_moves: Exception | None = None
        self.notes: dict[str, tuple[float, float, float, Mapping[int, tuple[int, int, int, int]]]] = {}

    async def time_s(self) -> tuple[float, Mapping[int, tuple[int, int, int, int]]]:
        return self.read(), dict(self.places)

    async def move_deadlines(
        self,
        shard: int,
        *,
        steps: int,
        shift_ms: int,
        base: tuple[int, int],
        total_ms: int,
        shifts: Sequence[tuple[tuple[int, int], tuple[int, int], int]],
    ) -> int:
        if self.refuses_moves is not None:
            raise self.refuses_moves
        self.moves.append((shard, steps, total_ms))
        epoch, seq, known, shifted_ms = self.places[shard]
        self.places[shard] = (epoch, seq, known + 1, shifted_ms + total_ms)
        return len(shifts)

    async def note(self, machine: str, *, at_s: float, valkey_s: float, ledger_s: float, places: Any) -> None:
        self.notes[machine] = (at_s, valkey_s, ledger_s, places)

    async def noted(self, machine: str) -> tuple[float, float, float, Mapping[int, tuple[int, int, int, int]]] | None:
        return self.notes.get(machine)


class Keeper:
    """A keeper's clocks, and a second that passes between its looks."""

    def __init__(self, machine: str = "") -> None:
        self.clock = FakeClock()
        self.hot, self.ledger = Hot(self.clock), Ledger(self.clock)
        self.clocks = self.another(machine)

    def another(self, machine: str = "") -> Clocks:
        return Clocks(
            hot=self.hot, opening=self.hot, ledger=self.ledger, shards=SHARDS, clock=self.clock, machine=machine
        )

    async def look(self, times: int = 1) -> None:
        for _ in range(times):
            self.clock.advance(1)
            await self.clocks.step()

    def set_both(self, by_s: float) -> None:
        self.hot.ahead_s += by_s
        self.ledger.ahead_s += by_s

    @property
    def valkey_ms(self) -> int:
        return int((self.clock.monotonic() + self.hot.ahead_s) * 1000)


@pytest.fixture
async def keeper() -> Keeper:
    """That has trusted the clocks for three seconds."""
    keeper = Keeper()
    await keeper.look(3)
    assert keeper.clocks.trusted
    return keeper


async def test_before_the_first_comparison_nothing_is_trusted_and_nothing_paused() -> None:
    keeper = Keeper()
    assert not keeper.clocks.trusted
    assert keeper.clocks.not_after == datetime.min.replace(tzinfo=UTC)
    keeper.hot.fails = HotUnavailable()
    await keeper.look(3)
    assert not keeper.clocks.trusted and keeper.hot.paused == {}
    keeper.hot.fails = None
    await keeper.look()
    assert keeper.clocks.trusted


async def test_what_another_keeper_left_paused_is_resumed(keeper: Keeper) -> None:
    fresh = Keeper()
    for _ in range(2):  # also when an older file of Valkey brings it back later
        fresh.hot.paused = {0: 1, 1: 1}
        await fresh.look(6)
        assert fresh.hot.paused == {}


async def test_a_skew_pauses_opening_at_the_time_that_was_trusted_last(keeper: Keeper) -> None:
    trusted_ms = keeper.valkey_ms + 1000
    keeper.hot.ahead_s += HOUR_S
    with capture_logs() as logs:
        await keeper.look(3)
    assert not keeper.clocks.trusted
    assert keeper.hot.paused == {0: trusted_ms, 1: trusted_ms}
    assert [line["log_level"] for line in logs if line["event"] == "clocks_not_trusted"] == ["critical"], "said once"
    assert CLOCK_TRUSTED.value == 0
    assert CLOCK_SKEW_SECONDS.value == pytest.approx(HOUR_S)


async def test_a_shard_that_valkey_got_back_meanwhile_is_paused_too(keeper: Keeper) -> None:
    keeper.hot.ahead_s += HOUR_S
    await keeper.look()
    paused = dict(keeper.hot.paused)
    keeper.hot.paused.clear()  # as a rebuild leaves it
    await keeper.look()
    assert keeper.hot.paused == paused


async def test_a_skew_that_is_gone_moves_no_deadline(keeper: Keeper) -> None:
    keeper.hot.ahead_s += HOUR_S
    await keeper.look(30)
    keeper.hot.ahead_s -= HOUR_S
    await keeper.look(int(AGREE_FOR_S))
    assert not keeper.clocks.trusted
    await keeper.look(2)
    assert keeper.clocks.trusted and keeper.hot.paused == {} and keeper.ledger.moves == []


@pytest.mark.parametrize("by_s", [HOUR_S, -HOUR_S, 3.0])
async def test_a_step_of_both_moves_the_deadlines_of_every_shard_once(keeper: Keeper, by_s: float) -> None:
    keeper.set_both(by_s)
    with capture_logs() as logs:
        await keeper.look(int(AGREE_FOR_S) + 1)
    assert keeper.clocks.trusted and keeper.hot.paused == {}
    assert keeper.ledger.moves == [(0, 0, by_s * 1000), (1, 0, by_s * 1000)]
    assert any(line["event"] == "clocks_trusted_again" for line in logs)
    await keeper.look(5)
    assert len(keeper.ledger.moves) == 2


async def test_while_deadlines_cannot_be_moved_nothing_is_trusted(keeper: Keeper) -> None:
    keeper.ledger.refuses_moves = LedgerUnavailable()
    keeper.set_both(HOUR_S)
    with pytest.raises(LedgerUnavailable):
        await keeper.look(int(AGREE_FOR_S) + 1)
    assert not keeper.clocks.trusted and keeper.hot.paused
    keeper.ledger.refuses_moves = None
    await keeper.look()
    assert keeper.clocks.trusted and keeper.ledger.moves == [(0, 0, HOUR_S * 1000), (1, 0, HOUR_S * 1000)]


async def test_the_next_step_knows_what_was_moved_for_the_one_before(keeper: Keeper) -> None:
    for _ in range(2):
        keeper.set_both(HOUR_S)
        await keeper.look(int(AGREE_FOR_S) + 1)
    assert [known for _, known, _ in keeper.ledger.moves] == [0, 0, 1, 1]


async def test_a_step_that_both_keepers_saw_is_told_to_the_ledger_as_one(keeper: Keeper) -> None:
    second = keeper.another()
    await second.step()
    keeper.set_both(HOUR_S)
    for _ in range(int(AGREE_FOR_S) + 1):
        await keeper.look()
        await second.step()
    assert second.trusted
    assert [known for _, known, _ in keeper.ledger.moves] == [0, 0, 0, 0], "the ledger tells the second from the first"


# What judges by the ledger's clock between two looks.


async def test_until_the_next_look_the_ledgers_clock_is_believed_only_up_to_where_it_must_be(keeper: Keeper) -> None:
    now_s = keeper.clock.monotonic() + keeper.ledger.ahead_s
    assert keeper.clocks.not_after.timestamp() == pytest.approx(now_s + TOLERANCE_S)
    keeper.set_both(HOUR_S)
    assert keeper.clocks.not_after.timestamp() == pytest.approx(now_s + TOLERANCE_S)
    keeper.clock.advance(0.5)
    assert keeper.clocks.not_after.timestamp() == pytest.approx(now_s + 0.5 + TOLERANCE_S)


async def test_a_process_that_was_stopped_trusts_nothing_until_it_looked_again(keeper: Keeper) -> None:
    keeper.clock.advance(FRESH_S + 0.1)
    assert not keeper.clocks.trusted
    await keeper.clocks.step()
    assert keeper.clocks.trusted


async def test_answers_that_took_long_are_not_compared(keeper: Keeper) -> None:
    keeper.ledger.takes_s = 2 * SLOWEST_S
    keeper.ledger.ahead_s += HOUR_S
    await keeper.look()
    assert keeper.hot.paused == {}
    keeper.ledger.takes_s = 0
    await keeper.look()
    assert keeper.hot.paused


async def test_half_of_the_round_trip_is_not_taken_for_a_difference(keeper: Keeper) -> None:
    keeper.ledger.takes_s = SLOWEST_S * 0.9
    await keeper.look()
    assert CLOCK_SKEW_SECONDS.value == pytest.approx(0, abs=1e-6)


async def test_with_valkey_away_orders_expire_by_the_ledgers_clock(keeper: Keeper) -> None:
    keeper.hot.fails = HotUnavailable()
    await keeper.look(60)
    assert keeper.clocks.trusted


# Keepers that come and go.


async def test_a_step_while_no_keeper_ran_is_seen_by_the_next_one_of_the_machine() -> None:
    keeper = Keeper(machine="m1")
    await keeper.look(2)
    keeper.clock.advance(100)
    keeper.set_both(HOUR_S)
    keeper.clocks = keeper.another("m1")
    await keeper.look(2)
    assert not keeper.clocks.trusted and keeper.hot.paused
    await keeper.look(int(AGREE_FOR_S))
    assert keeper.clocks.trusted and keeper.ledger.moves == [(0, 0, HOUR_S * 1000), (1, 0, HOUR_S * 1000)]


@pytest.mark.parametrize("machine", ["m2", ""])
async def test_another_machine_has_nothing_to_compare_with(machine: str) -> None:
    keeper = Keeper(machine="m1")
    await keeper.look(2)
    keeper.set_both(HOUR_S)
    keeper.clocks = keeper.another(machine)
    await keeper.look()
    assert keeper.clocks.trusted


async def test_what_was_noted_long_ago_is_not_compared_with() -> None:
    keeper = Keeper(machine="m1")
    await keeper.look(2)
    keeper.clock.advance(NOTE_KEPT_S)
    keeper.set_both(10)
    keeper.clocks = keeper.another("m1")
    await keeper.look()
    assert keeper.clocks.trusted


async def test_what_is_trusted_is_noted_now_and_then() -> None:
    keeper = Keeper(machine="m1")
    await keeper.look()
    first = keeper.ledger.notes["m1"][0]
    await keeper.look(int(NOTE_EVERY_S) - 2)
    assert keeper.ledger.notes["m1"][0] == first
    await keeper.look(2)
    assert keeper.ledger.notes["m1"][0] > first
