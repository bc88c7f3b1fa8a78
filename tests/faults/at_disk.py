"""Faults of a server's disk, and of what is on the orders Valkey's."""

import asyncio
import random
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import redis.asyncio as redis

from tests.faults.disk import BadDisk
from tests.faults.journal import now_ms
from tests.faults.kept import send
from tests.faults.strike import NotInjected, Struck
from tests.faults.world import World

SLOW_S = 1.2


async def slow_sync(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _slow(world, "orders", rng)


async def slow_ledger(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _slow(world, "ledger", rng)


async def _slow(world: World, server: str, rng: random.Random) -> Struck:
    disk = _disk(world, server)
    at_ms = now_ms()
    disk.tell(sync_ms=rng.randint(50, 300))
    await asyncio.sleep(SLOW_S)
    disk.be_good()
    if not disk.struck:
        raise NotInjected("no sync was slow")
    return Struck(at_ms, server)


async def failing_sync(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _bad_until_it_ends(world, failing_syncs=1)


async def full_disk(world: World, target: str, rng: random.Random, long: bool) -> Struck:
    return await _bad_until_it_ends(world, full=True)


async def _bad_until_it_ends(world: World, *, failing_syncs: int = 0, full: bool = False) -> Struck:
    """With `appendfsync always` a server that cannot write ends itself rather than answer what it cannot keep."""
    disk, kept = _disk(world, "orders"), world.servers["orders"]
    before, at_ms = kept.deaths, now_ms()
    disk.tell(failing_syncs=failing_syncs, full=full)
    try:
        await kept.died(before)
        if full:
            # Space is found after a while; until then it may come up and go again.
            await asyncio.sleep(0.5)
    finally:
        disk.be_good()
    await kept.is_up()
    return Struck(at_ms, "orders")


def _disk(world: World, server: str) -> BadDisk:
    disk = world.disks[server]
    if disk is None:
        raise NotInjected("no C compiler on this machine: the disk cannot be made bad")
    return disk


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
    await kept.is_up()
    before, at_ms = kept.deaths, now_ms()
    kept.held = True
    send([kept.pid], signal.SIGKILL)
    try:
        await kept.died(before)
        await asyncio.to_thread(_put_back, kept.folder, copy)
    finally:
        kept.held = False
    await kept.is_up()
    return Struck(at_ms, "orders")


def _put_back(folder: Path, copy: Path | None) -> None:
    shutil.rmtree(folder)
    if copy is not None:
        copy.rename(folder)
