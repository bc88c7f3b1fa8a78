"""A recorded chat, twenty times as fast, in a full room with orders beside it, on one live process and its defaults.

Two questions: how long a comment takes to the viewers it is shown to, and what the room costs those who buy. Orders go
through the same live process at a fixed rate; the same rate in a room without viewers is what they are compared with.
"""

import asyncio
import contextlib
import dataclasses
from collections import Counter
from urllib.parse import urlsplit

import msgspec

from gateway.cli.chat_file import read_chat, shipped_chat

from .bench import Bench
from .drive import Run, Target, drive
from .figures import Detail, Ratio
from .generator import Fate, Outcome
from .peakgate_path import gateway
from .room_load import OTHERS_CPU, crowd_in, pin, pin_everybody_else, play, quiet, this_process_on
from .room_messages import Act, Crowd, Heard
from .servers import empty, valkey_process

PART = "room"
SPEED = 20.0
SIZES, QUICK_SIZES = (3_000, 10_000), (1_000,)
QUICK_S = 10.0
ORDERS_PER_S = 200.0
ORDER_SOCKETS = 200
ALONE_S = 15.0
STOCK = 10_000_000
PAY_WITHIN_S = 86_400
"""Longer than all runs of a round together: units that come back meanwhile would look like orders that were lost."""


async def room(bench: Bench) -> None:
    lines = await asyncio.to_thread(read_chat, bench.chat or shipped_chat())
    comments = [(line.offset_s / SPEED, line.text[:180]) for line in lines]
    if bench.quick:
        comments = [comment for comment in comments if comment[0] < QUICK_S]
    for_s = comments[-1][0] + 1.0
    bench.report.conditions[f"{PART}_chat"] = f"{bench.chat or shipped_chat().name}, {len(comments):,} comments"
    sizes = QUICK_SIZES if bench.quick else SIZES
    with this_process_on(OTHERS_CPU):
        for _ in range(bench.rounds):
            await empty(bench.servers)
            async with gateway(
                bench.servers,
                bench.scratch,
                workers=1,
                tokens=ORDER_SOCKETS + max(sizes),
                stock=STOCK,
                pay_within_s=PAY_WITHIN_S,
            ) as target:
                await pin_everybody_else(bench.servers)
                pin(target.processes, "live")
                unchecked = dataclasses.replace(target, check=_not_yet)
                alone = await _orders(bench, unchecked, min(for_s, ALONE_S), None, [])
                _add_orders(bench, alone, viewers=0)
                runs = [alone, *[await _replay(bench, unchecked, size, comments, for_s) for size in sizes]]
                for difference in await target.check(_together(runs), []):
                    bench.report.mismatch(f"{PART}: {difference}")
    bench.report.show(
        PART,
        f"a recorded chat at {SPEED:g} times its speed, and {ORDERS_PER_S:g} orders a second on the same process",
        detail_columns=[
            "p50_ms",
            "p99_ms",
            "max_ms",
            "live_share",
            "skipped",
            "outcomes",
            "late_p99_ms",
            "others_share",
        ],
    )
    _compare(bench)


async def _replay(bench: Bench, target: Target, viewers: int, comments: list[tuple[float, str]], for_s: float) -> Run:
    live = urlsplit(target.urls[0])
    crowd = Crowd(
        dialect="peakgate",
        port=live.port or 80,
        path=live.path,
        viewers=viewers,
        subprotocol="peakgate.v1.json",
        tokens=str(target.tokens),
        tokens_from=ORDER_SOCKETS,
        cpu=OTHERS_CPU,
    )
    heard: list[tuple[Heard, float]] = []
    run = await _orders(bench, target, for_s, (crowd, comments), heard)
    told, others_share = heard[0]
    bench.report.add(
        part=PART,
        way="peakgate",
        name="comment_p99",
        unit="ms",
        value=told.latency_ms.p99,
        conditions={"viewers": viewers},
        detail={
            "p50_ms": told.latency_ms.p50,
            "p99_ms": told.latency_ms.p99,
            "max_ms": told.latency_ms.max,
            "live_share": round(run.cpu_us["live"] * max(1, run.outcome.confirmed_total) / 1e6 / for_s, 2),
            "skipped": told.skipped,
            "sent": told.sent,
            "least": told.least,
            "most": told.most,
            "lost": told.lost,
            "outcomes": told.outcomes,
            "others_share": round(others_share, 2),
            "crowd_share": round(told.cpu_share, 2),
            "late_p99_ms": told.late_p99_ms,
        },
    )
    if told.least != told.most or told.lost:
        bench.report.mismatch(
            f"{PART}: {told.lost} of {viewers:,} viewers were cut; they got from {told.least} to {told.most} comments"
        )
    if told.outcomes.get("posted", 0) and told.most + told.skipped != told.outcomes["posted"]:
        bench.report.mismatch(
            f"{PART}: {told.outcomes['posted']} comments were posted, {told.most} shown and {told.skipped} skipped"
        )
    _add_orders(bench, run, viewers=viewers)
    return run


async def _orders(
    bench: Bench,
    target: Target,
    for_s: float,
    room: tuple[Crowd, list[tuple[float, str]]] | None,
    heard: list[tuple[Heard, float]],
) -> Run:
    """Orders for so long, beside a room if one is given."""
    rooms_valkey = (await valkey_process(bench.servers.rooms_valkey_url)).pid
    async with contextlib.AsyncExitStack() as stack:
        readers = await stack.enter_async_context(crowd_in(room[0])) if room is not None else None

        await quiet()

        async def beside() -> None:
            if readers is not None and room is not None:
                act = Act(for_s=for_s, comments=room[1])
                told, spent = await play(readers, act, {"rooms_valkey": [rooms_valkey]})
                heard.append((told, spent["others"] / for_s))

        return await drive(
            target,
            bench.servers,
            bench.scratch,
            sockets=ORDER_SOCKETS,
            rate=ORDERS_PER_S,
            warm_up_s=1.0,
            measure_s=for_s - 1.0,
            during=beside,
        )


async def _not_yet(_outcome: Outcome, _fates: list[Fate]) -> list[str]:
    """The sale is the same in all runs, so its units are compared with all of them together."""
    return []


def _together(runs: list[Run]) -> Outcome:
    outcomes = [run.outcome for run in runs]
    refused: Counter[str] = Counter()
    for outcome in outcomes:
        refused.update(outcome.refused)
    return msgspec.structs.replace(
        outcomes[-1],
        confirmed_total=sum(outcome.confirmed_total for outcome in outcomes),
        unconfirmed=sum(outcome.unconfirmed for outcome in outcomes),
        unanswered=sum(outcome.unanswered for outcome in outcomes),
        refused=dict(refused),
    )


def _add_orders(bench: Bench, run: Run, *, viewers: int) -> None:
    reserved = run.outcome.reserved_latency_ms
    detail: Detail = {
        "p50_ms": reserved.p50,
        "p99_ms": reserved.p99,
        "max_ms": reserved.max,
        "confirmed_p99_ms": run.outcome.confirmed_latency_ms.p99,
        "outcomes": run.outcome.refused,
        "late_p99_ms": run.outcome.late_p99_ms,
        "orders": run.outcome.confirmed_total,
    }
    bench.report.add(
        part=PART,
        way="peakgate",
        name="order_reserved_p99",
        unit="ms",
        value=reserved.p99,
        conditions={"viewers": viewers},
        detail=detail,
    )


def _compare(bench: Bench) -> None:
    figures = bench.report.figures(PART, "order_reserved_p99")
    alone = next(figure for figure in figures if figure.conditions["viewers"] == 0)
    for full in figures:
        if full is not alone:
            bench.report.ratios.append(
                Ratio(
                    part=PART,
                    ours="order in a full room",
                    theirs="in an empty one",
                    name="order_reserved_p99",
                    conditions=full.conditions,
                    rounds=[a / b for a, b in zip(full.rounds, alone.rounds, strict=False) if b],
                )
            )
