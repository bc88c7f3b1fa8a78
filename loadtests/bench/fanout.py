"""What it costs a server to show a comment to a viewer: ours beside nchan and nats-server, each on a core of its own.

One room, no sampling, a tick each 100 ms. The figure is the CPU of the server's processes by the comments that arrived
at readers, so it is fair to servers that were offered fewer: a peer that sends each comment by itself gets as many
viewers as make 40,000 frames a second. Ours is that of the live process alone; the rooms Valkey, whose work the peers
do in their own process or not at all, stands beside it. `nchan_merged` is nchan with a publisher that already did the
merging: what our ticks are worth, apart from how they are written.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from .bench import Bench, NotAvailable
from .fanout_peers import Peer, nats, nchan
from .figures import Ratio
from .peakgate_path import gateway
from .room_load import (
    OTHERS_CPU,
    SERVER_CPU,
    crowd_in,
    pin,
    pin_everybody_else,
    pin_process,
    play,
    quiet,
    steady,
    this_process_on,
)
from .room_messages import Act, Crowd
from .servers import empty, valkey_process

PART, FIGURE = "fanout", "cpu_of_a_delivered_comment"
VIEWERS = 2_000
PEER_FRAMES_PER_S = 40_000
"""Below what either peer manages on one core here, so that none is measured while it drowns."""
RATES, QUICK_RATES = (1, 10, 50, 200), (1, 200)
NOTHING_HELD_BACK = {
    "PEAKGATE_READING_RATE": "0",
    "PEAKGATE_COMMENT_RATE": "1000",
    "PEAKGATE_COMMENT_BURST": "1000",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    name: str
    crowd: Callable[[int], Crowd]
    """The readers at a number of comments a second."""
    pids: Mapping[str, list[int]]
    merged: bool = False


async def fanout(bench: Bench) -> None:
    seconds = 3.0 if bench.quick else 2 * bench.measure_s
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(this_process_on(OTHERS_CPU))
        ways = [way async for way in _ways(bench, stack)]
        for _ in range(bench.rounds):
            for rate in QUICK_RATES if bench.quick else RATES:
                for way in ways:
                    await _measure(bench, way, rate, seconds)
    bench.report.show(
        PART,
        "fan-out: CPU microseconds of the server a delivered comment",
        detail_columns=[
            "viewers",
            "rooms_valkey_us",
            "p50_ms",
            "p99_ms",
            "max_ms",
            "frames_per_s",
            "crowd_share",
            "others_share",
        ],
    )
    _compare(bench)


async def _ways(bench: Bench, stack: contextlib.AsyncExitStack) -> AsyncIterator[Way]:
    await empty(bench.servers)
    target = await stack.enter_async_context(
        gateway(bench.servers, bench.scratch, workers=1, tokens=VIEWERS, stock=1_000, settings=NOTHING_HELD_BACK)
    )
    await pin_everybody_else(bench.servers)
    pin(target.processes, "live")
    live = urlsplit(target.urls[0])
    pids = {
        "server": [process.pid for process in target.processes()["live"]],
        "rooms_valkey": [(await valkey_process(bench.servers.rooms_valkey_url)).pid],
    }
    for name, subprotocol in (("peakgate", "peakgate.v1.json"), ("peakgate_msgpack", "peakgate.v1.msgpack")):

        def ours(_rate: int, subprotocol: str = subprotocol) -> Crowd:
            return Crowd(
                dialect="peakgate",
                port=live.port or 80,
                path=live.path,
                viewers=VIEWERS,
                subprotocol=subprotocol,
                tokens=str(target.tokens),
                cpu=OTHERS_CPU,
            )

        yield Way(name=name, crowd=ours, pids=pids)
    for peer_name, start in (("nchan", nchan), ("nats", nats)):
        peer = await _started(bench, stack, peer_name, start)
        if peer is not None:
            yield Way(name=peer_name, crowd=_readers_of(peer, merged=False), pids={"server": peer.pids})
            if peer_name == "nchan":
                merged = _readers_of(peer, merged=True)
                yield Way(name="nchan_merged", crowd=merged, pids={"server": peer.pids}, merged=True)


async def _started(
    bench: Bench,
    stack: contextlib.AsyncExitStack,
    name: str,
    start: Callable[[Path], contextlib.AbstractAsyncContextManager[Peer]],
) -> Peer | None:
    try:
        peer = await stack.enter_async_context(start(bench.scratch))
    except NotAvailable as error:
        bench.report.skip(f"{PART}: {name}", str(error))
        return None
    for pid in peer.pids:
        pin_process(pid, SERVER_CPU)
    bench.report.conditions[f"{PART}_{name}"] = peer.version
    return peer


def _readers_of(peer: Peer, *, merged: bool) -> Callable[[int], Crowd]:
    def crowd(rate: int) -> Crowd:
        # Merged, it sends as many frames as ours and gets as many viewers.
        return Crowd(
            dialect=peer.dialect,
            port=peer.port,
            path=peer.path,
            viewers=VIEWERS if merged else min(VIEWERS, PEER_FRAMES_PER_S // rate),
            publish_port=peer.publish_port,
            publish_path=peer.publish_path,
            cpu=OTHERS_CPU,
        )

    return crowd


async def _measure(bench: Bench, way: Way, rate: int, seconds: float) -> None:
    crowd = way.crowd(rate)
    async with crowd_in(crowd) as readers:
        # The first comment of a room pays for the room.
        await play(readers, Act(for_s=1.0, comments=steady(5, 1.0), merged=way.merged), way.pids)
        await quiet()
        act = Act(for_s=seconds, comments=steady(rate, seconds), merged=way.merged)
        heard, spent = await play(readers, act, way.pids)
    if heard.comments != heard.sent * crowd.viewers or heard.least != heard.most:
        bench.report.mismatch(
            f"{PART}: {way.name} at {rate}/s: {heard.sent:,} comments to {crowd.viewers:,} viewers are "
            f"{heard.sent * crowd.viewers:,}, and {heard.comments:,} arrived"
        )
    delivered = max(1, heard.comments)
    bench.report.add(
        part=PART,
        way=way.name,
        name=FIGURE,
        unit="us",
        value=spent["server"] * 1e6 / delivered,
        conditions={"comments_a_second": rate},
        detail={
            "viewers": crowd.viewers,
            "rooms_valkey_us": round(spent.get("rooms_valkey", 0.0) * 1e6 / delivered, 3),
            "server_share": round(spent["server"] / seconds, 3),
            "p50_ms": heard.latency_ms.p50,
            "p99_ms": heard.latency_ms.p99,
            "max_ms": heard.latency_ms.max,
            "frames_per_s": round(heard.frames / seconds),
            "bytes_per_frame": round(heard.bytes / max(1, heard.frames)),
            "others_share": round(spent["others"] / seconds, 2),
            "crowd_share": round(heard.cpu_share, 2),
            "late_p99_ms": heard.late_p99_ms,
            "outcomes": heard.outcomes,
        },
    )


def _compare(bench: Bench) -> None:
    """Their cost by ours, each round's pair by itself."""
    figures = bench.report.figures(PART, FIGURE)
    for our in (figure for figure in figures if figure.way == "peakgate"):
        for their in (figure for figure in figures if not figure.way.startswith("peakgate")):
            if our.conditions == their.conditions:
                bench.report.ratios.append(
                    Ratio(
                        part=PART,
                        ours=our.way,
                        theirs=their.way,
                        name="their_cost_by_ours",
                        conditions=our.conditions,
                        rounds=[b / a for a, b in zip(our.rounds, their.rounds, strict=False) if a],
                    )
                )
