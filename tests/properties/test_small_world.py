"""The whole of a small world is looked at, and what it says of every kind of step is what the real parts do."""

import functools
import random
import time
from collections.abc import Iterator

import pytest

from gateway.domain.ids import IdMint
from gateway.hot.connect import connect
from gateway.ledger.pool import Ledger
from gateway.ledger.shards import LedgerShards
from tests.properties.explore import Explored, explore, kind_of
from tests.properties.profiles import NIGHTLY, REPORT, SEED
from tests.properties.replay import Floor, Real, walk
from tests.properties.small_steps import PROGRESS, steps_of, take
from tests.properties.small_world import Plan, Step, World, check, check_rest

_PAY = ("pay", "expire")
PLANS = [
    # Three viewers want two units.
    Plan("three viewers, two units", does=("pay", "expire", "cancel")),
    # One unit and every end of an order, so that a second viewer gets what the first gives back.
    Plan("two viewers, one unit", taps=(0, 1), stock=1),
    # A viewer who buys again, so that late money meets the limit.
    Plan("two orders of one viewer", taps=(0, 0)),
    Plan("a limit of two", taps=(0, 0, 1), limit=2, does=_PAY),
    # Valkey comes back or is lost, and is rebuilt by one rebuilder, which may die at any step.
    Plan("restarted", taps=(0, 1), stock=1, does=_PAY, faults=("restart",), rebuilders=1),
    Plan("emptied", taps=(0,), stock=1, does=_PAY, faults=("empty",), rebuilders=1),
    Plan("an older copy", taps=(0,), stock=1, does=_PAY, faults=("save",), rebuilders=1),
    # Two rebuilders at once, of which one may have been stopped for as long as it takes.
    Plan("restarted, two rebuilders", taps=(0,), stock=1, does=("expire",), faults=("restart",), rebuilders=2),
    Plan("emptied, two rebuilders", taps=(0,), stock=1, does=(), faults=("empty",), rebuilders=2),
    Plan("an older copy, two rebuilders", taps=(0,), stock=1, does=(), faults=("save",), rebuilders=2),
]
NIGHTLY_PLANS = [
    Plan("three viewers, two units, every end"),
    Plan("emptied, two viewers", taps=(0, 1), stock=1, does=_PAY, faults=("empty",), rebuilders=1),
    Plan("an older copy, two viewers", taps=(0, 1), stock=1, does=_PAY, faults=("save",), rebuilders=1),
    Plan("emptied and restarted", taps=(0,), stock=1, does=(), faults=("empty", "restart"), rebuilders=2),
    Plan("an older copy and what expires", taps=(0,), stock=1, does=("expire",), faults=("save",), rebuilders=2),
]
WAYS = 1_500 if NIGHTLY else 20
"""Ways that are walked besides those that every kind of step is on."""
_plans = PLANS + (NIGHTLY_PLANS if NIGHTLY else [])


@functools.cache
def explored(plan: Plan) -> Explored:
    began_s = time.monotonic()
    found = explore(plan)
    REPORT.append(
        f"small world, {plan.name}: {found.states:,} states, {found.transitions:,} transitions,"
        f" {found.at_rest:,} at rest, {found.depth} steps deep, {time.monotonic() - began_s:.1f} s"
    )
    return found


@pytest.mark.parametrize("plan", _plans, ids=lambda plan: plan.name)
def test_no_promise_is_broken_in_any_state_of(plan: Plan) -> None:
    found = explored(plan)
    assert found.at_rest > 0


def _to_rest(world: World, dice: random.Random) -> list[Step]:
    """Whatever is left to do is done, in some order, until nothing is."""
    way: list[Step] = []
    while True:
        possible = [step for step in steps_of(world) if step[0] in PROGRESS and take(world.copy(), step) is not None]
        if not possible:
            check_rest(world)
            return way
        way.append(dice.choice(possible))
        take(world, way[-1])
        check(world)


def _ways(plan: Plan, dice: random.Random, count: int, passed: set[tuple[str, ...]]) -> list[list[Step]]:
    """Every kind of step that no way has passed yet, and any ways besides; each goes on to where everything rests."""
    found = explored(plan)
    # The longest ways first: what they pass needs no way of its own.
    needed = {kind: [*found.way_to(state), step] for kind, (state, step) in found.edges.items()}
    states, ways = list(found.came_from), []
    for kind, way in sorted(needed.items(), key=lambda each: -len(each[1])):
        if kind not in passed:
            ways.append(way)
            passed |= set(_kinds(plan, way))
    ways += [found.way_to(dice.choice(states)) for _ in range(count)]
    return [_on_to_rest(plan, way, dice) for way in ways]


def _kinds(plan: Plan, way: list[Step]) -> Iterator[tuple[str, ...]]:
    world = World(plan)
    for step in way:
        before = world.copy()
        yield kind_of(before, step, str(take(world, step)))


def _on_to_rest(plan: Plan, way: list[Step], dice: random.Random) -> list[Step]:
    world = World(plan)
    for step in way:
        take(world, step)
    return [*way, *_to_rest(world, dice)]


async def test_the_real_parts_do_what_the_small_world_says(database_url: str, valkey_url: str) -> None:
    dice = random.Random(SEED)
    ledger = await Ledger.connect(database_url, size=2)
    client = connect(valkey_url, max_connections=4, reply_timeout_s=5.0)
    began_s, walked, passed = time.monotonic(), 0, set[tuple[str, ...]]()
    try:
        mint = IdMint(await LedgerShards(ledger).id_key())
        floor = Floor(ledger=ledger, database_url=database_url, client=client, mint=mint)
        try:
            for plan in _plans:
                for way in _ways(plan, dice, WAYS // len(_plans), passed):
                    walked += 1
                    await walk(Real(floor, walked, World(plan)), way)
        finally:
            await floor.batches.close()
        REPORT.append(
            f"small world on the real parts: {walked} ways, {floor.compared:,} states compared,"
            f" {len(passed)} kinds of steps, {time.monotonic() - began_s:.1f} s, PEAKGATE_SEED={SEED}"
        )
    finally:
        await client.aclose()
        await ledger.close()
