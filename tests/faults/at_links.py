"""Faults of the network between any two processes."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

from tests.faults.journal import now_ms
from tests.faults.strike import STRUCK_WITHIN_S, Inject, NotInjected, Struck
from tests.faults.world import COPIES, EDGES, World, link_name
from tests.support.fault_proxy import Bend, Mode

BENT_S = 0.8


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
