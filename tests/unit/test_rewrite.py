from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from gateway.keeper.rewrite import (
    EVERY_S,
    FAILED_PAUSE_S,
    LEAST_BYTES,
    OPENING_WITHIN_S,
    QUIET_FOR_S,
    QUIET_ORDERS_S,
    FileRewrites,
    Why,
)
from tests.support.fake_clock import FakeClock

MB = 1024 * 1024
CEILING = 8192 * MB


@dataclass
class State:
    size: int = 200 * MB
    base: int = 10 * MB
    rewriting: bool = False
    last_failed: bool = False


@dataclass
class Server:
    state: State | None = field(default_factory=State)
    by_itself: bool = False
    rewrites: int = 0

    async def file(self) -> State | None:
        return self.state

    async def rewrites_by_itself(self) -> bool:
        return self.by_itself

    async def rewrite(self) -> None:
        self.rewrites += 1


class Stream:
    epoch, seq = 1, 0

    async def head(self) -> tuple[int, int]:
        return self.epoch, self.seq


class Sales:
    opens_in_s = 1e9

    async def opens_within(self, seconds: float) -> bool:
        return self.opens_in_s <= seconds


class Keeper:
    def __init__(self) -> None:
        self.clock, self.server, self.sales = FakeClock(), Server(), Sales()
        self.streams = {0: Stream(), 1: Stream()}
        self.rewrites = FileRewrites(
            server=self.server, streams=self.streams, sales=self.sales, clock=self.clock, ceiling_bytes=CEILING
        )

    @property
    def state(self) -> State:
        assert self.server.state is not None
        return self.server.state

    async def look(self, for_s: float = 0, *, orders_s: float = 0) -> Why | None:
        """One look, then one every few seconds while orders come; what the last one did."""
        why = await self.rewrites.look()
        for _ in range(int(for_s / EVERY_S)):
            self.clock.advance(EVERY_S)
            self.streams[1].seq += int(orders_s * EVERY_S)
            why = await self.rewrites.look()
        return why


@pytest.fixture
def keeper() -> Keeper:
    return Keeper()


async def test_a_file_that_grew_is_rewritten_after_a_quiet_while(keeper: Keeper) -> None:
    assert await keeper.look(QUIET_FOR_S - EVERY_S) is None
    assert await keeper.look(EVERY_S) is Why.QUIET
    assert keeper.server.rewrites == 1


async def test_a_trickle_of_orders_is_quiet_and_a_stream_is_not(keeper: Keeper) -> None:
    assert await keeper.look(QUIET_FOR_S, orders_s=QUIET_ORDERS_S - 5) is Why.QUIET
    busy = Keeper()
    assert await busy.look(600, orders_s=QUIET_ORDERS_S + 5) is None
    assert busy.server.rewrites == 0
    assert await busy.look(QUIET_FOR_S) is Why.QUIET, "the peak is over"


async def test_a_new_epoch_begins_the_quiet_time_anew(keeper: Keeper) -> None:
    await keeper.look(QUIET_FOR_S - EVERY_S)
    keeper.streams[0].epoch += 1
    assert await keeper.look(QUIET_FOR_S - EVERY_S) is None
    assert await keeper.look(2 * EVERY_S) is Why.QUIET


@pytest.mark.parametrize("state", [State(size=LEAST_BYTES), State(size=200 * MB, base=100 * MB)])
async def test_what_grew_little_is_left_alone(keeper: Keeper, state: State) -> None:
    keeper.server.state = state
    assert await keeper.look(600) is None


async def test_before_an_opening_nothing_is_begun(keeper: Keeper) -> None:
    keeper.sales.opens_in_s = OPENING_WITHIN_S
    assert await keeper.look(120) is None
    keeper.sales.opens_in_s = OPENING_WITHIN_S + 1
    assert await keeper.look() is Why.QUIET


async def test_one_that_runs_is_not_begun_again(keeper: Keeper) -> None:
    keeper.state.rewriting = True
    assert await keeper.look(120) is None


async def test_at_the_ceiling_it_is_forced_and_reported(keeper: Keeper) -> None:
    keeper.server.state = State(size=CEILING + 1, base=100 * MB)
    keeper.sales.opens_in_s = 1
    with capture_logs() as logs:
        assert await keeper.look(0) is Why.FORCED
    assert [(line["event"], line["log_level"]) for line in logs] == [("file_rewrite_forced", "error")]


async def test_a_file_that_is_as_small_as_it_gets_is_not_rewritten_forever(keeper: Keeper) -> None:
    keeper.server.state = State(size=CEILING + MB, base=CEILING)
    assert await keeper.look(120, orders_s=1000) is None


async def test_a_server_that_rewrites_by_itself_is_left_alone_and_said_so_once(keeper: Keeper) -> None:
    keeper.server.by_itself = True
    keeper.server.state = State(size=2 * CEILING)
    with capture_logs() as logs:
        assert await keeper.look(60) is None
    assert [line["event"] for line in logs] == ["file_rewrites_left_to_the_server"]


async def test_a_server_without_a_file_has_none_to_rewrite(keeper: Keeper) -> None:
    keeper.server.state = None
    assert await keeper.look(60) is None


async def test_a_failure_is_told_and_tried_again_after_a_while(keeper: Keeper) -> None:
    await keeper.look(QUIET_FOR_S)
    keeper.state.last_failed = True
    with capture_logs() as logs:
        assert await keeper.look(FAILED_PAUSE_S - EVERY_S) is None
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["file_rewrite_failed"]
    assert await keeper.look(EVERY_S) is Why.QUIET
