"""What ten thousand rooms cost in which nothing happens: CPU of the live process and of the rooms Valkey.

Three states, half a minute each: nobody anywhere; all viewers in one room; as many rooms, live, with one viewer each.
The last two differ only in the rooms.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from urllib.parse import urlsplit

from .bench import Bench
from .drive import Target
from .peakgate_path import gateway
from .room_load import OTHERS_CPU, Spending, crowd_in, pin, pin_everybody_else, this_process_on
from .room_messages import Crowd
from .servers import empty, valkey_process

PART = "idle_rooms"
ROOMS, QUICK_ROOMS = 10_000, 300
MAKING_AT_ONCE = 16
SETTLE_S = 5.0


async def idle_rooms(bench: Bench) -> None:
    count = QUICK_ROOMS if bench.quick else ROOMS
    seconds = 5.0 if bench.quick else 30.0
    with this_process_on(OTHERS_CPU):
        await empty(bench.servers)
        async with gateway(bench.servers, bench.scratch, workers=1, tokens=count, stock=1_000) as target:
            await pin_everybody_else(bench.servers)
            pin(target.processes, "live")
            started = time.monotonic()
            paths = bench.scratch / "room-paths"
            await asyncio.to_thread(paths.write_text, "\n".join(await _rooms(target, count)))
            bench.report.console.print(f"{PART}: {count:,} rooms made in {time.monotonic() - started:.0f} s")
            for _ in range(bench.rounds):
                await _measure(bench, target, "nobody", 0, None, seconds)
                await _measure(bench, target, "one room", count, None, seconds)
                await _measure(bench, target, "a room each", count, paths, seconds)
    bench.report.show(PART, "rooms in which nothing happens", detail_columns=["viewers"])


async def _rooms(target: Target, count: int) -> list[str]:
    """Live rooms; the paths of their sockets."""
    assert target.host is not None
    host, paths, numbers = target.host, [""] * count, iter(range(count))

    async def make() -> None:
        for number in numbers:
            room = await host.create_room(f"idle {number}", key=f"idle-{number}")
            await host.start_room(room.room)
            paths[number] = urlsplit(room.live_url).path

    async with asyncio.TaskGroup() as group:
        for _ in range(MAKING_AT_ONCE):
            group.create_task(make())
    return paths


async def _measure(bench: Bench, target: Target, state: str, viewers: int, paths: Path | None, seconds: float) -> None:
    live = urlsplit(target.urls[0])
    pids = {
        "live": [process.pid for process in target.processes()["live"]],
        "rooms_valkey": [(await valkey_process(bench.servers.rooms_valkey_url)).pid],
    }
    async with contextlib.AsyncExitStack() as stack:
        if viewers:
            crowd = Crowd(
                dialect="peakgate",
                port=live.port or 80,
                path=live.path,
                paths=str(paths) if paths is not None else None,
                viewers=viewers,
                subprotocol="peakgate.v1.json",
                tokens=str(target.tokens),
                cpu=OTHERS_CPU,
            )
            await stack.enter_async_context(crowd_in(crowd))
        await asyncio.sleep(SETTLE_S)
        spending = Spending(pids)
        await asyncio.sleep(seconds)
        spent = spending.spent_s()
    for role, used_s in spent.items():
        bench.report.add(
            part=PART,
            way="peakgate",
            name=f"{role}_cpu",
            unit="ms a second",
            value=used_s * 1000 / seconds,
            conditions={"viewers_in": state},
            detail={"viewers": viewers},
        )
