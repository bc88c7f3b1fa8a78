"""How many viewers one core holds, and what a viewer costs who only listens.

`held`: one room at the default settings, twenty comments a second, more and more viewers until the slowest hundredth of
what they see is half a second old or somebody is cut. The open files a process may have bound it too, and the figure
says so. `idle`: CPU and memory of viewers in a room where nothing is said.
"""

import asyncio
import contextlib
import resource
from urllib.parse import urlsplit

import psutil

from .bench import Bench
from .drive import DriveError, Target
from .peakgate_path import gateway
from .room_load import OTHERS_CPU, Spending, crowd_in, pin, pin_everybody_else, play, quiet, steady, this_process_on
from .room_messages import Act, Crowd
from .servers import empty, kernel_tcp_bytes, valkey_process

PART = "room_capacity"
SHOWN_PER_S = 20.0
WITHIN_MS = 500.0
LADDER, QUICK_LADDER = (4_000, 8_000, 12_000, 16_000, 19_500), (1_000, 2_000)
SPARE_FILES = 300
"""What a process of ours, and the crowd, have open beside viewers' sockets."""
IDLE, QUICK_IDLE = 10_000, 1_000
SETTLE_S = 5.0


async def room_capacity(bench: Bench) -> None:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_FILES
    ladder = [size for size in (QUICK_LADDER if bench.quick else LADDER) if size <= files]
    idle = min(QUICK_IDLE if bench.quick else IDLE, files)
    with this_process_on(OTHERS_CPU):
        for _ in range(bench.rounds):
            await empty(bench.servers)
            async with gateway(
                bench.servers, bench.scratch, workers=1, tokens=max(*ladder, idle), stock=1_000
            ) as target:
                await pin_everybody_else(bench.servers)
                pin(target.processes, "live")
                await _idle(bench, target, idle)
                await _held(bench, target, ladder)
    bench.report.show(
        PART,
        "viewers of one live process on one core",
        detail_columns=[
            "p50_ms",
            "max_ms",
            "live_share",
            "crowd_share",
            "others_share",
            "rooms_valkey_share",
            "bound_by",
        ],
    )


def _crowd(target: Target, viewers: int) -> Crowd:
    live = urlsplit(target.urls[0])
    return Crowd(
        dialect="peakgate",
        port=live.port or 80,
        path=live.path,
        viewers=viewers,
        subprotocol="peakgate.v1.json",
        tokens=str(target.tokens),
        cpu=OTHERS_CPU,
    )


async def _held(bench: Bench, target: Target, ladder: list[int]) -> None:
    seconds = 3.0 if bench.quick else 2 * bench.measure_s
    pids = {
        "live": [process.pid for process in target.processes()["live"]],
        "rooms_valkey": [(await valkey_process(bench.servers.rooms_valkey_url)).pid],
    }
    held, bound_by = 0, "open files"
    for viewers in ladder:
        try:
            async with crowd_in(_crowd(target, viewers)) as readers:
                await play(readers, Act(for_s=2.0, comments=steady(SHOWN_PER_S, 2.0)), pids)
                await quiet()
                act = Act(for_s=seconds, comments=steady(SHOWN_PER_S, seconds), drain_s=2.0)
                heard, spent = await play(readers, act, pids)
        except DriveError as error:
            bound_by = str(error)
            break
        bench.report.add(
            part=PART,
            way="peakgate",
            name="comment_p99",
            unit="ms",
            value=heard.latency_ms.p99,
            conditions={"viewers": viewers},
            detail={
                "p50_ms": heard.latency_ms.p50,
                "max_ms": heard.latency_ms.max,
                "live_share": round(spent["live"] / seconds, 2),
                "rooms_valkey_share": round(spent["rooms_valkey"] / seconds, 3),
                "others_share": round(spent["others"] / seconds, 2),
                "crowd_share": round(heard.cpu_share, 2),
                "frames_per_s": round(heard.frames / seconds),
                "skipped": heard.skipped,
                "lost": heard.lost,
            },
        )
        if heard.latency_ms.p99 > WITHIN_MS or heard.lost:
            bound_by = "latency" if not heard.lost else "viewers were cut"
            break
        held = viewers
    bench.report.add(
        part=PART,
        way="peakgate",
        name="viewers_held",
        unit=f"viewers, p99 within {WITHIN_MS:g} ms",
        value=held,
        conditions={},
        detail={"bound_by": bound_by},
    )


async def _idle(bench: Bench, target: Target, viewers: int) -> None:
    live = [psutil.Process(process.pid) for process in target.processes()["live"]]
    pids = {
        "live": [process.pid for process in live],
        "rooms_valkey": [(await valkey_process(bench.servers.rooms_valkey_url)).pid],
    }
    # Some have been here before: what the first ones make the process allocate is nobody's in particular.
    async with crowd_in(_crowd(target, 200)):
        pass
    await asyncio.sleep(1.0)
    seconds = 5.0 if bench.quick else 30.0
    resident, kernel = sum(process.memory_info().rss for process in live), kernel_tcp_bytes()
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(crowd_in(_crowd(target, viewers)))
        await asyncio.sleep(SETTLE_S)
        await quiet()
        spending = Spending(pids)
        await asyncio.sleep(seconds)
        spent = spending.spent_s()
        grown = sum(process.memory_info().rss for process in live) - resident
        kernel_grown = kernel_tcp_bytes() - kernel
    values = {
        ("cpu_of_an_idle_viewer", "us an hour"): spent["live"] * 1e6 / viewers * 3600 / seconds,
        ("rooms_valkey_of_an_idle_viewer", "us an hour"): spent["rooms_valkey"] * 1e6 / viewers * 3600 / seconds,
        ("memory_of_an_idle_viewer", "bytes resident"): grown / viewers,
        ("kernel_memory_of_an_idle_viewer", "bytes, both ends"): kernel_grown / viewers,
    }
    for (name, unit), value in values.items():
        bench.report.add(
            part=PART,
            way="peakgate",
            name=name,
            unit=unit,
            value=value,
            conditions={"viewers": viewers},
            detail={"live_share": round(spent["live"] / seconds, 4)},
        )
