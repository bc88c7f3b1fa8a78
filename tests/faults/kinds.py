"""Every kind of fault there is, and how it is done to the world. A fault is over when its function returns."""

import asyncio
import random
import re
import shutil
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis.asyncio as redis

import gateway
from gateway import points
from tests.faults.crowd import PAY_WITHIN_S
from tests.faults.disk import BadDisk
from tests.faults.journal import now_ms
from tests.faults.world import COPIES, EDGES, ROLES, SERVERS, Kept, World, link_name
from tests.support.fault_proxy import Bend, Mode

# Longer than the writer's lease, so that another one holds it when the stopped one goes on.
STOPPED_S = 2.4
# What others do not wait for by a lease needs only be noticed.
STOPPED_SHORTLY_S = 1.2
BENT_S = 0.8
STRUCK_WITHIN_S = 20.0
UP_WITHIN_S = 30.0


class NotInjected(Exception):
    """This fault could not be done here; the run counts it as missing and says why."""


@dataclass(frozen=True, slots=True)
class Struck:
    """When a fault began to hurt."""

    at_ms: int
    target: str


LOSSES = ("flush on", "file removed on", "older file on")

Inject = Callable[[World, str, random.Random, bool], Awaitable[Struck]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    name: str
    targets: Sequence[str]
    inject: Inject
    many: bool = False
    """Its targets are too many to do all of them."""
    loses: bool = False
    """Valkey's file is gone or older than what was promised: `reserved` may end as refused, `lost`."""

    def may_lose(self, target: str) -> bool:
        return self.loses or "rebuild." in target or any(loss in target for loss in LOSSES)


def two_at_once(kinds: Sequence[Kind]) -> Kind:
    """A target names two faults, `one + other`, that are done at the same time."""
    by_name = {f"{kind.name} on {target}": (kind, target) for kind in kinds for target in kind.targets}
    # Beside anything: faults that do not wait for a server that the first one may hold down.
    beside = [name for name in by_name if name.startswith(("link", *(f"{do} {role}" for role in ROLES for do in _DO)))]

    async def inject(world: World, target: str, rng: random.Random, long: bool) -> Struck:
        both = [by_name[name] for name in target.split(" + ")]
        struck = await asyncio.gather(*(kind.inject(world, each, rng, long) for kind, each in both))
        return Struck(max(each.at_ms for each in struck), " + ".join(each.target for each in struck))

    return Kind(
        name="two at once",
        targets=[f"{one} + {other}" for one in by_name for other in beside if one != other],
        inject=inject,
        many=True,
    )


_DO = ("kill", "stop")


def points_in_code() -> list[str]:
    """The labelled points that the gateway has today."""
    folder = Path(gateway.__file__).parent
    text = "\n".join(path.read_text() for path in folder.rglob("*.py"))
    return sorted(set(re.findall(r"points\.reach\(\s*\"([^\"]+)\"", text)))


async def _role(world: World, role: str, rng: random.Random) -> str:
    """Which process of a role: the writer that works, any of the others."""
    return await world.holder() if role == "writer" else f"{role} {rng.randint(1, COPIES)}"


async def _kept(world: World, target: str, rng: random.Random) -> Kept:
    return world.servers[target] if target in SERVERS else world.roles[await _role(world, target, rng)]


async def _up(kept: Kept) -> None:
    async with asyncio.timeout(UP_WITHIN_S):
        await kept.up.wait()


async def kill(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    kept = await _kept(world, target, rng)
    before, at_ms = kept.deaths, now_ms()
    pid = kept.pid
    psutil.Process(pid).send_signal(signal.SIGKILL)
    await kept.died(before)
    await _up(kept)
    return Struck(at_ms, kept.name)


async def stop(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    """SIGSTOP, and SIGCONT when others have long taken over."""
    kept = await _kept(world, target, rng)
    at_ms = now_ms()
    pids = kept.pids()
    _signal(pids, signal.SIGSTOP)
    try:
        if long:
            await asyncio.sleep(STOPPED_S * rng.uniform(1, 2))
        else:
            await asyncio.sleep(STOPPED_S if target in ("writer", "ledger") else STOPPED_SHORTLY_S)
    finally:
        _signal([*pids, *kept.pids()], signal.SIGCONT)
    return Struck(at_ms, kept.name)


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(number)


async def kill_backend(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    """kill -9 of one process of PostgreSQL: it ends all its connections and recovers."""
    rows = await world.fetch("SELECT pid FROM pg_stat_activity WHERE application_name = 'peakgate'")
    inside = {row["pid"] for row in rows}
    # As root the server lives in a namespace of users, not of processes: its pids are ours.
    children = [pid for pid in world.servers["ledger"].pids()[1:] if pid in inside]
    if not children:
        raise NotInjected("no connection of the gateway found")
    at_ms = now_ms()
    _signal([rng.choice(children)], signal.SIGKILL)
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
    psutil.Process(kept.pid).send_signal(signal.SIGINT)
    try:
        await kept.died(before)
        await asyncio.sleep(for_s)
    finally:
        kept.held = False
    await _up(kept)
    return Struck(at_ms, "ledger")


async def kill_at_point(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await at_point(world, target, points.Action.KILL)


async def stop_at_point(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await at_point(world, target, points.Action.STOP)


async def at_point(world: World, point: str, action: points.Action) -> Struck:
    struck = world.points / points.STRUCK
    if point.startswith("expire."):
        # Where something is due, so that the point is the boundary it names.
        await asyncio.sleep(PAY_WITHIN_S)
    seen = len(_lines(struck))
    ordered = points.order(world.points, point, action)
    if point.startswith("rebuild."):
        # Nothing is rebuilt unless it was lost.
        await world.valkey.flushall()
    lines: list[str] = []
    # A sale leaves Valkey half a minute after its round ended.
    within_s = 3 * STRUCK_WITHIN_S if point.startswith("retire.") else STRUCK_WITHIN_S
    try:
        async with asyncio.timeout(within_s):
            while len(lines) <= seen:
                await asyncio.sleep(0.01)
                lines = _lines(struck)
    except TimeoutError:
        ordered.unlink(missing_ok=True)
        raise NotInjected(f"nobody came by {point} within {within_s:g} s") from None
    _, _, pid, at_ms = lines[seen].split()
    name = next((role.name for role in world.roles.values() if role.pid == int(pid)), f"process {pid}")
    if action is points.Action.STOP:
        await asyncio.sleep(STOPPED_S)
        _signal([int(pid)], signal.SIGCONT)
    return Struck(int(at_ms), f"{name} at {point}")


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def bend(mode: Mode) -> Inject:
    async def inject(world: World, target: str, rng: random.Random, long: bool) -> Struck:
        one, _, other = target.partition(">")
        if one == "clients":
            links = [link_name("clients", edge) for edge in EDGES if edge.startswith(other)]
            # One of the two: a client goes to the other one.
            links = [rng.choice(links)] if rng.random() < 0.7 else links
        elif one == "writer" and rng.random() < 0.5:
            links = [link_name(await world.holder(), other)]
        else:
            links = [link_name(f"{one} {copy}", other) for copy in range(1, COPIES + 1)]
        before = await world.proxy.state(links)
        at_ms = now_ms()
        how = {
            Mode.DELAY: Bend(mode=mode, ms=rng.uniform(20, 150)),
            Mode.SLOW: Bend(mode=mode, bytes_per_s=rng.uniform(2_000, 20_000)),
            Mode.LOSE_REPLY: Bend(mode=mode, count=rng.randint(1, 5), **_replies(one, other)),
        }.get(mode, Bend(mode=mode))
        await world.proxy.set(links, how)
        if mode is Mode.LOSE_REPLY:
            await _lost(world, links, sum(before[link]["lost"] for link in links))
        else:
            await asyncio.sleep(BENT_S * rng.uniform(1, 3 if long else 1.2))
        # Its own links only: another fault may go on beside this one.
        await world.proxy.set(links, Bend())
        return Struck(at_ms, ", ".join(links))

    return inject


def _replies(one: str, other: str) -> dict[str, Any]:
    """What a request looks like whose effect must survive the loss of its reply."""
    if other == "orders" and one in ("live", "api"):
        return {"marker": "EVALSHA"}
    if one == "writer" and other == "ledger":
        return {"min_bytes": 400}  # a batch; the lease's statement is shorter
    if one == "clients" and other == "api":
        return {"marker": "POST /v1/"}
    if other == "rooms":
        return {"pushes": True}
    return {}


async def _lost(world: World, links: Sequence[str], before: int) -> None:
    try:
        async with asyncio.timeout(STRUCK_WITHIN_S):
            lost = before
            while lost <= before:
                await asyncio.sleep(0.02)
                lost = sum(link["lost"] for link in (await world.proxy.state(links)).values())
    except TimeoutError:
        await world.proxy.set(links, Bend())
        raise NotInjected(f"no reply passed {', '.join(links)}") from None
    await asyncio.sleep(0.2)


async def slow_sync(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    disk = _disk(world)
    at_ms = now_ms()
    disk.tell(sync_ms=rng.randint(50, 300))
    await asyncio.sleep(BENT_S * 1.5)
    disk.be_good()
    if not disk.struck:
        raise NotInjected("no sync was slow")
    return Struck(at_ms, "orders")


async def failing_sync(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _bad_until_it_ends(world, failing_syncs=1)


async def full_disk(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _bad_until_it_ends(world, full=True)


async def _bad_until_it_ends(world: World, *, failing_syncs: int = 0, full: bool = False) -> Struck:
    """With `appendfsync always` a server that cannot write ends itself rather than answer what it cannot keep."""
    disk, kept = _disk(world), world.servers["orders"]
    before, at_ms = kept.deaths, now_ms()
    disk.tell(failing_syncs=failing_syncs, full=full)
    try:
        await kept.died(before)
        if full:
            # Space is found after a while; until then it may come up and go again.
            await asyncio.sleep(0.5)
    finally:
        disk.be_good()
    await _up(kept)
    return Struck(at_ms, "orders")


def _disk(world: World) -> BadDisk:
    if world.disk is None:
        raise NotInjected("no C compiler on this machine: the disk cannot be made bad")
    return world.disk


async def flush(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    at_ms = now_ms()
    await world.valkey.flushall()
    return Struck(at_ms, "orders")


async def file_removed(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _other_file(world, None)


async def older_file(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    """A copy of its file comes back, from a moment ago: behind what was promised, or even behind the ledger."""
    kept = world.servers["orders"]
    copy = world.folder / "orders.copy"
    shutil.rmtree(copy, ignore_errors=True)
    with suppress(redis.RedisError):
        await asyncio.to_thread(shutil.copytree, kept.folder, copy)
    await asyncio.sleep(rng.uniform(0.05, 0.8))
    return await _other_file(world, copy)


async def _other_file(world: World, copy: Path | None) -> Struck:
    kept = world.servers["orders"]
    before, at_ms = kept.deaths, now_ms()
    kept.held = True
    psutil.Process(kept.pid).send_signal(signal.SIGKILL)
    try:
        await kept.died(before)
        await asyncio.to_thread(_put_back, kept.folder, copy)
    finally:
        kept.held = False
    await _up(kept)
    return Struck(at_ms, "orders")


def _put_back(folder: Path, copy: Path | None) -> None:
    shutil.rmtree(folder)
    if copy is not None:
        copy.rename(folder)


def all_kinds() -> list[Kind]:
    links = [f"{role}>{server}" for role in ROLES for server in SERVERS] + ["clients>live", "clients>api"]
    found = points_in_code()
    rebuilds = [point for point in found if point.startswith("rebuild.")]
    elsewhere = [point for point in found if point not in rebuilds]
    alone = [
        *(Kind(name=f"kill {target}", targets=[target], inject=kill) for target in (*ROLES, *SERVERS)),
        *(Kind(name=f"stop {target}", targets=[target], inject=stop) for target in (*ROLES, *SERVERS)),
        Kind(name="kill a backend", targets=["ledger"], inject=kill_backend),
        Kind(name="terminate backends", targets=["ledger"], inject=terminate_backends),
        Kind(name="restart ledger", targets=["ledger"], inject=restart_ledger),
        Kind(name="ledger away", targets=["ledger"], inject=ledger_away),
        *(
            Kind(name=f"link {mode.replace('_', ' ')}", targets=_asked(links, mode), inject=bend(mode))
            for mode in Mode
            if mode is not Mode.PASS
        ),
        Kind(name="kill at point", targets=elsewhere, inject=kill_at_point),
        Kind(name="stop at point", targets=elsewhere, inject=stop_at_point),
        Kind(name="kill in a rebuild", targets=rebuilds, inject=kill_at_point, loses=True),
        Kind(name="stop in a rebuild", targets=rebuilds, inject=stop_at_point, loses=True),
        Kind(name="slow sync", targets=["orders"], inject=slow_sync),
        Kind(name="failing sync", targets=["orders"], inject=failing_sync),
        Kind(name="full disk", targets=["orders"], inject=full_disk),
        Kind(name="flush", targets=["orders"], inject=flush, loses=True),
        Kind(name="file removed", targets=["orders"], inject=file_removed, loses=True),
        Kind(name="older file", targets=["orders"], inject=older_file, loses=True),
    ]
    return [*alone, two_at_once(alone)]


def _asked(links: Sequence[str], mode: Mode) -> list[str]:
    """The keeper tells rooms of what it changed and listens to nobody: too seldom to wait for a reply to lose."""
    return [link for link in links if not (mode is Mode.LOSE_REPLY and link == "keeper>rooms")]
