"""What each way answers when PostgreSQL is away, and what a forced checkpoint does to its latency.

Open loop at a rate well below what the way can do. `frozen`: for five seconds no process of PostgreSQL runs, as with a
hung disk. `cut`: every connection to it ends at once, as in a restart. Of the orders sent in those seconds the bench
says how many were refused, told `reserved`, told `confirmed`, left waiting until it was over, or never answered; and
afterwards whether anything that was promised is not in the ledger.
"""

import asyncio
import dataclasses
import statistics
import time
from collections.abc import Callable

from .bench import Bench, detail_of
from .drive import DriveError, Run, drive
from .figures import Detail
from .generator import Fate, Outcome
from .servers import backends_killed, checkpoint, frozen
from .ways import Way, up

PART, CHECKPOINT_PART = "outage", "checkpoint"
AWAY_S = 5.0
BEFORE_S = 3.0
AFTER_S = 7.0
CUT_SHOWS_S = 1.0
"""How long after a cut an order still counts as sent in it."""
FILL_S = 3.0
"""How long the checkpoint run first writes at full speed, so that the checkpoint has something to write."""


FULL_PAGES_S = 1.0
"""How long after a checkpoint orders still count as met by it: first changes of pages are logged whole then."""


class Interval:
    """When something was done, in milliseconds since the generator's start."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self.from_ms = 0.0
        self.until_ms = 0.0

    def now_ms(self) -> float:
        return (time.perf_counter() - self._began) * 1000

    def start(self) -> None:
        self.from_ms = self.now_ms()

    def end(self) -> None:
        self.until_ms = self.now_ms()


async def outage(bench: Bench) -> None:
    for way in bench.ways:
        for kind in ("frozen",) if bench.quick else ("frozen", "cut"):
            bench.report.console.print(f"[dim]{way.title}: {kind}")
            try:
                run, interval = await _with_outage(bench, way, kind)
            except DriveError as error:
                bench.report.skip(f"{PART}: {way.name}", str(error))
                break
            for difference in run.differences:
                bench.report.mismatch(f"{way.name}, PostgreSQL {kind}: {difference}")
            bench.report.add(
                part=PART,
                way=way.name,
                name="longest wait of an order sent meanwhile",
                unit="ms",
                value=_longest_wait_ms(run.fates, interval),
                conditions={"postgresql": kind, "rate": way.outage_rate, "away_s": AWAY_S if kind == "frozen" else 0},
                detail={**detail_of(run), **fates_within(run.fates, interval)},
            )
    columns = ["sent", "refused_then", "reserved_then", "confirmed_then", "answered_later", "never_answered"]
    bench.report.show(PART, "PostgreSQL away: orders sent in that time", detail_columns=columns)


async def _with_outage(bench: Bench, way: Way, kind: str) -> tuple[Run, Interval]:
    async with up(way, bench.servers, bench.scratch, sockets=bench.sockets) as target:
        holder: list[Interval] = []

        async def during() -> None:
            interval = Interval()
            holder.append(interval)
            await asyncio.sleep(BEFORE_S)
            interval.start()
            if kind == "frozen":
                await frozen(bench.servers.rivals_url, for_s=AWAY_S)
            else:
                await backends_killed(bench.servers.rivals_url)
                await asyncio.sleep(CUT_SHOWS_S)
            interval.end()

        run = await drive(
            target,
            bench.servers,
            bench.scratch,
            sockets=bench.sockets,
            rate=way.outage_rate,
            warm_up_s=1.0,
            measure_s=BEFORE_S - 1.0 + AWAY_S + AFTER_S,
            drain_s=35.0,
            journal=True,
            during=during,
        )
        return run, holder[0]


def fates_within(fates: list[Fate], interval: Interval) -> Detail:
    """What became of the orders sent within the interval, and what they knew before it ended."""
    sent = [fate for fate in fates if interval.from_ms <= fate.sent_ms < interval.until_ms]

    def then(at: Callable[[Fate], float | None]) -> int:
        return sum(1 for fate in sent if (told := at(fate)) is not None and told < interval.until_ms)

    refused: dict[str, int] = {}
    for fate in sent:
        if fate.refused_ms is not None:
            refused[fate.outcome] = refused.get(fate.outcome, 0) + 1
    answers = [first for fate in sent if (first := first_answer_ms(fate)) is not None]
    return {
        "sent": len(sent),
        "refused_then": then(lambda fate: fate.refused_ms),
        "reserved_then": then(lambda fate: fate.reserved_ms),
        "confirmed_then": then(lambda fate: fate.confirmed_ms),
        "answered_later": sum(1 for answer in answers if answer >= interval.until_ms),
        "never_answered": len(sent) - len(answers),
        "refused_as": refused,
    }


def first_answer_ms(fate: Fate) -> float | None:
    """When the viewer heard anything about the order."""
    known = [at for at in (fate.reserved_ms, fate.confirmed_ms, fate.refused_ms) if at is not None]
    return min(known, default=None)


def _longest_wait_ms(fates: list[Fate], interval: Interval) -> float:
    waits = (
        answer - fate.sent_ms
        for fate in fates
        if interval.from_ms <= fate.sent_ms < interval.until_ms and (answer := first_answer_ms(fate)) is not None
    )
    return max(waits, default=0.0)


async def forced_checkpoint(bench: Bench) -> None:
    """p99 to `confirmed` of the orders sent while a checkpoint is forced, beside that of the orders before it."""
    for way in bench.ways:
        bench.report.console.print(f"[dim]{way.title}: checkpoint")
        try:
            run, interval = await _with_checkpoint(bench, way)
        except DriveError as error:
            bench.report.skip(f"{CHECKPOINT_PART}: {way.name}", str(error))
            continue
        for difference in run.differences:
            bench.report.mismatch(f"{way.name}, checkpoint: {difference}")
        over = _waits_ms(run.fates, interval.from_ms, interval.until_ms + FULL_PAGES_S * 1000)
        before = _waits_ms(run.fates, 1000.0, interval.from_ms)
        bench.report.add(
            part=CHECKPOINT_PART,
            way=way.name,
            name="p99_to_confirmed",
            unit="ms",
            value=percentile(over, 99),
            conditions={"rate": way.outage_rate, "sockets": bench.sockets},
            detail={
                **detail_of(run),
                "p99_before_ms": percentile(before, 99),
                "orders_over_it": len(over),
                "max_over_it_ms": max(over, default=0.0),
                "checkpoint_ms": interval.until_ms - interval.from_ms,
            },
        )
    columns = ["p99_before_ms", "orders_over_it", "max_over_it_ms", "checkpoint_ms"]
    bench.report.show(CHECKPOINT_PART, "over a forced checkpoint", detail_columns=columns)


async def _with_checkpoint(bench: Bench, way: Way) -> tuple[Run, Interval]:
    async with up(way, bench.servers, bench.scratch, sockets=bench.sockets) as target:
        # Two loads on one sale: the counts of one of them cannot be compared with the ledger.
        unchecked = dataclasses.replace(target, check=_no_check)
        await checkpoint(bench.servers.rivals_url)
        await drive(
            unchecked,
            bench.servers,
            bench.scratch,
            sockets=bench.sockets,
            in_flight=8,
            warm_up_s=0.0,
            measure_s=FILL_S,
        )
        holder: list[Interval] = []

        async def during() -> None:
            interval = Interval()
            holder.append(interval)
            await asyncio.sleep(BEFORE_S)
            interval.start()
            await checkpoint(bench.servers.rivals_url)
            interval.end()

        run = await drive(
            unchecked,
            bench.servers,
            bench.scratch,
            sockets=bench.sockets,
            rate=way.outage_rate,
            warm_up_s=1.0,
            measure_s=BEFORE_S + 3.0,
            journal=True,
            during=during,
        )
        return run, holder[0]


async def _no_check(_outcome: Outcome, _fates: list[Fate]) -> list[str]:
    return []


def _waits_ms(fates: list[Fate], from_ms: float, until_ms: float) -> list[float]:
    return [f.confirmed_ms - f.sent_ms for f in fates if from_ms <= f.sent_ms < until_ms and f.confirmed_ms is not None]


def percentile(values: list[float], percent: int) -> float:
    if len(values) < 2:
        return max(values, default=0.0)
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
