"""What a room does to the others in it when something goes wrong, and how fast everybody is back.

`stalled`: a tenth of the viewers never reads; the healthy ones' slowest hundredth beside that of a room without them.
`thrown_out`: everybody is cut in one moment and comes back as the project's client does. `killed`: one of two live
processes is ended with SIGKILL. In both, orders go on. `likes`: 5,000 like frames a second with twenty taps each; the
total that the room shows is exactly what was sent.
"""

import asyncio
import os
import signal
from urllib.parse import urlsplit

from .bench import Bench
from .drive import Run, Target, drive
from .figures import Detail, Ratio
from .peakgate_path import gateway
from .room_load import OTHERS_CPU, crowd_in, pin, pin_everybody_else, play, quiet, steady, this_process_on
from .room_messages import Act, Crowd, Heard
from .servers import empty

PART = "room_faults"
VIEWERS, QUICK_VIEWERS = 3_000, 500
STORM, QUICK_STORM = 10_000, 1_000
STALLED_SHARE = 0.1
SHOWN_PER_S = 20.0
STALLED_TEXT_PER_S = 100.0
"""Enough that a viewer who never reads is far behind within seconds."""
STORM_S, QUICK_STORM_S = 20.0, 8.0
BACK_WITHIN_S = 10.0
LIKE_FRAMES_PER_S, TAPS = 5_000.0, 20
LIKE_FRAMES_OF_A_VIEWER = 2.0
"""At most: well below what a viewer may send, beyond which taps are shed on purpose."""
ORDER_SOCKETS, ORDERS_PER_S = 100, 100.0
STOCK = 10_000_000


async def room_faults(bench: Bench) -> None:
    with this_process_on(OTHERS_CPU):
        for _ in range(bench.rounds):
            await _stalled(bench)
            await _likes(bench)
            await _storm(bench, kill=False)
            await _storm(bench, kill=True)
    bench.report.show(
        PART,
        "a room when something goes wrong",
        detail_columns=["p50_ms", "p99_ms", "max_ms", "recovered", "anew", "present", "orders", "order_p99_ms"],
    )
    _compare(bench)


def _crowd(target: Target, viewers: int, *, stalled: int = 0, insist: bool = False) -> Crowd:
    live = urlsplit(target.urls[0])
    return Crowd(
        dialect="peakgate",
        port=live.port or 80,
        path=live.path,
        viewers=viewers,
        subprotocol="peakgate.v1.json",
        tokens=str(target.tokens),
        tokens_from=ORDER_SOCKETS,
        stalled=stalled,
        insist=insist,
        cpu=OTHERS_CPU,
    )


async def _stalled(bench: Bench) -> None:
    viewers = QUICK_VIEWERS if bench.quick else VIEWERS
    seconds = 5.0 if bench.quick else 15.0
    await empty(bench.servers)
    held_back = {"PEAKGATE_READING_RATE": str(STALLED_TEXT_PER_S)}
    async with gateway(
        bench.servers, bench.scratch, workers=1, tokens=ORDER_SOCKETS + viewers, stock=STOCK, settings=held_back
    ) as target:
        await pin_everybody_else(bench.servers)
        pin(target.processes, "live")
        for stalled in (0, int(viewers * STALLED_SHARE)):
            async with crowd_in(_crowd(target, viewers, stalled=stalled)) as readers:
                act = Act(for_s=seconds, comments=steady(STALLED_TEXT_PER_S, seconds))
                await quiet()
                heard, _ = await play(readers, act, {"live": _live(target)})
            _add(bench, "comment_p99", heard.latency_ms.p99, {"case": "stalled", "stalled": stalled}, heard)
            if heard.lost:
                bench.report.mismatch(f"{PART}: beside {stalled} stalled viewers {heard.lost} healthy ones were cut")


async def _likes(bench: Bench) -> None:
    viewers = QUICK_VIEWERS if bench.quick else VIEWERS
    seconds = 3.0 if bench.quick else 10.0
    await empty(bench.servers)
    async with gateway(bench.servers, bench.scratch, workers=1, tokens=ORDER_SOCKETS + viewers, stock=STOCK) as target:
        await pin_everybody_else(bench.servers)
        pin(target.processes, "live")
        async with crowd_in(_crowd(target, viewers)) as readers:
            act = Act(
                for_s=seconds,
                drain_s=3.0,
                comments=steady(SHOWN_PER_S, seconds),
                likes_per_s=min(LIKE_FRAMES_PER_S, LIKE_FRAMES_OF_A_VIEWER * viewers),
                taps=TAPS,
            )
            heard, spent = await play(readers, act, {"live": _live(target)})
    if heard.likes_shown != heard.likes_sent:
        bench.report.mismatch(f"{PART}: {heard.likes_sent:,} taps were sent, {heard.likes_shown:,} are shown")
    bench.report.add(
        part=PART,
        way="peakgate",
        name="taps_counted",
        unit="a second",
        value=heard.likes_shown / seconds,
        conditions={"case": "likes"},
        detail={
            "p50_ms": heard.latency_ms.p50,
            "p99_ms": heard.latency_ms.p99,
            "max_ms": heard.latency_ms.max,
            "sent": heard.likes_sent,
            "live_share": round(spent["live"] / seconds, 2),
        },
    )


async def _storm(bench: Bench, *, kill: bool) -> None:
    case = "killed" if kill else "thrown_out"
    viewers = QUICK_STORM if bench.quick else STORM
    seconds = QUICK_STORM_S if bench.quick else STORM_S
    await empty(bench.servers)
    async with gateway(
        bench.servers, bench.scratch, workers=2 if kill else 1, tokens=ORDER_SOCKETS + viewers, stock=STOCK
    ) as target:
        await pin_everybody_else(bench.servers)
        if not kill:
            pin(target.processes, "live")
        async with crowd_in(_crowd(target, viewers, insist=True)) as readers:
            heard: list[Heard] = []
            act = Act(
                for_s=seconds,
                comments=steady(SHOWN_PER_S, seconds),
                cut=0 if kill else viewers,
            )

            async def beside() -> None:
                await readers.begin(act)
                if kill:
                    await asyncio.sleep(1.0)
                    os.kill(_live(target)[0], signal.SIGKILL)
                heard.append(await readers.heard())

            run = await drive(
                target,
                bench.servers,
                bench.scratch,
                sockets=ORDER_SOCKETS,
                rate=ORDERS_PER_S,
                warm_up_s=0.5,
                measure_s=seconds,
                during=beside,
            )
    told = heard[0]
    _add(bench, "back_after_max", told.back_after_ms.max, {"case": case}, told, run)
    if told.present < viewers:
        bench.report.mismatch(f"{PART}: {case}: {told.present:,} of {viewers:,} viewers are back after {seconds:g} s")
    if told.back_after_ms.max > BACK_WITHIN_S * 1000:
        bench.report.console.print(f"[yellow]{PART}: {case}: the last was back after {told.back_after_ms.max:,.0f} ms")
    if not kill:
        # The generator's own sockets end with a killed process, and what it was told then is no longer the whole story.
        for difference in run.differences:
            bench.report.mismatch(f"{PART}: {case}: {difference}")


def _live(target: Target) -> list[int]:
    return [process.pid for process in target.processes()["live"]]


def _add(
    bench: Bench,
    name: str,
    value: float,
    conditions: dict[str, int | float | str],
    heard: Heard,
    run: Run | None = None,
) -> None:
    spread = heard.back_after_ms if name == "back_after_max" else heard.latency_ms
    detail: Detail = {
        "p50_ms": spread.p50,
        "p99_ms": spread.p99,
        "max_ms": spread.max,
        "comment_p99_ms": heard.latency_ms.p99,
        "recovered": heard.recovered,
        "anew": heard.anew,
        "refused": heard.refused,
        "lost": heard.lost,
        "present": heard.present,
        "crowd_share": round(heard.cpu_share, 2),
    }
    if run is not None:
        seconds = run.outcome.seconds["confirmed"]
        detail |= {
            "orders": run.outcome.confirmed_total,
            "order_p99_ms": run.outcome.reserved_latency_ms.p99,
            "order_max_ms": run.outcome.reserved_latency_ms.max,
            "orders_in_the_worst_second": min(seconds[1:-1], default=0),
            "order_refusals": run.outcome.refused,
        }
    bench.report.add(part=PART, way="peakgate", name=name, unit="ms", value=value, conditions=conditions, detail=detail)


def _compare(bench: Bench) -> None:
    figures = bench.report.figures(PART, "comment_p99")
    healthy = next((figure for figure in figures if figure.conditions["stalled"] == 0), None)
    for beside in figures:
        if healthy is not None and beside is not healthy:
            bench.report.ratios.append(
                Ratio(
                    part=PART,
                    ours="beside stalled viewers",
                    theirs="without them",
                    name="comment_p99",
                    conditions=beside.conditions,
                    rounds=[a / b for a, b in zip(beside.rounds, healthy.rounds, strict=False) if b],
                )
            )
