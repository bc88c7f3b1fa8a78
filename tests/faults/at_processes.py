"""Faults of processes: killed or stopped, at any time or at a labelled point; PostgreSQL gone for a while."""

import asyncio
import random
import signal
from pathlib import Path

from gateway import points
from tests.faults.journal import now_ms
from tests.faults.kept import UP_WITHIN_S, Kept, send
from tests.faults.strike import STRUCK_WITHIN_S, NotInjected, Struck
from tests.faults.world import COPIES, SERVERS, World

# Longer than the writer's lease, so that another one holds it when the stopped one goes on.
STOPPED_S = 2.4
# What others do not wait for by a lease needs only be noticed.
STOPPED_SHORTLY_S = 1.2


async def _role(world: World, role: str, rng: random.Random) -> str:
    """Which process of a role: the writer that works, any of the others."""
    return await world.holder() if role == "writer" else f"{role} {rng.randint(1, COPIES)}"


async def _kept(world: World, target: str, rng: random.Random) -> Kept:
    return world.servers[target] if target in SERVERS else world.roles[await _role(world, target, rng)]


async def kill(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    kept = await _kept(world, target, rng)
    await kept.is_up()
    before, at_ms = kept.deaths, now_ms()
    send([kept.pid], signal.SIGKILL)
    await kept.died(before)
    await kept.is_up()
    return Struck(at_ms, kept.name)


async def stop(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    """SIGSTOP, and SIGCONT when others have long taken over."""
    kept = await _kept(world, target, rng)
    at_ms = now_ms()
    pids = kept.pids()
    send(pids, signal.SIGSTOP)
    try:
        if long:
            await asyncio.sleep(STOPPED_S * rng.uniform(1, 2))
        else:
            await asyncio.sleep(STOPPED_S if target in ("writer", "ledger") else STOPPED_SHORTLY_S)
    finally:
        send([*pids, *kept.pids()], signal.SIGCONT)
    return Struck(at_ms, kept.name)


async def kill_backend(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    """kill -9 of one process of PostgreSQL: it ends all its connections and recovers."""
    rows = await world.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'peakgate'")
    inside = {row["pid"] for row in rows}
    # As root the server lives in a namespace of users, not of processes: its pids are ours.
    children = [pid for pid in world.servers["ledger"].pids()[1:] if pid in inside]
    if not children:
        raise NotInjected("no connection of the gateway found")
    at_ms = now_ms()
    send([rng.choice(children)], signal.SIGKILL)
    # Over when all of them are gone and it answers again: its recovery is a part of the fault.
    async with asyncio.timeout(UP_WITHIN_S):
        while set(children) & set(world.servers["ledger"].pids()):  # noqa: ASYNC110 - they are other processes
            await asyncio.sleep(0.01)
    await world.fetch("SELECT 1")
    return Struck(at_ms, "ledger")


async def terminate_backends(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    at_ms = now_ms()
    rows = await world.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'peakgate'"
    )
    if not rows:
        raise NotInjected("no connection of the gateway found")
    return Struck(at_ms, f"{len(rows)} connections")


async def restart_ledger(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _ledger_down(world, 0.0)


async def ledger_away(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _ledger_down(world, 20.0 if long else 2.0)


async def _ledger_down(world: World, for_s: float) -> Struck:
    kept = world.servers["ledger"]
    before, at_ms = kept.deaths, now_ms()
    kept.held = True
    send([kept.pid], signal.SIGINT)
    try:
        await kept.died(before)
        await asyncio.sleep(for_s)
    finally:
        kept.held = False
    await kept.is_up()
    return Struck(at_ms, "ledger")


async def kill_at_point(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await at_point(world, target, points.Action.KILL)


async def stop_at_point(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await at_point(world, target, points.Action.STOP)


async def at_point(world: World, point: str, action: points.Action) -> Struck:
    struck = world.points / points.STRUCK
    seen = len(_lines(struck))
    ordered = points.order(world.points, point, action)
    if point.startswith("rebuild."):
        # Nothing is rebuilt unless it was lost.
        await world.valkey.flushall()
    lines: list[str] = []
    # A sale leaves Valkey half a minute after its round ended; late money that finds no unit is rare.
    within_s = 3 * STRUCK_WITHIN_S if point.startswith(("retire.", "late.settle.")) else STRUCK_WITHIN_S
    try:
        async with asyncio.timeout(within_s):
            while len(lines) <= seen:
                await asyncio.sleep(0.01)
                lines = _lines(struck)
    except TimeoutError:
        ordered.unlink(missing_ok=True)
        raise NotInjected(f"nobody came by {point} within {within_s:g} s") from None
    _, _, pid, at_ms = lines[seen].split()
    role = next((role for role in world.roles.values() if role.pid == int(pid)), None)
    if action is points.Action.STOP:
        await asyncio.sleep(STOPPED_S)
        send([int(pid)], signal.SIGCONT)
    elif role is not None:
        async with asyncio.timeout(UP_WITHIN_S):
            while role.pid == int(pid):  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.01)
    return Struck(int(at_ms), f"{role.name if role else f'process {pid}'} at {point}")


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []
