"""`make torture`: real processes under load, one fault a round, and after each round everything must agree.

    python -m tests.faults.torture [--rounds N] [--seed N] [--only KIND | --kinds A,B] [--json FILE] [--keep]
                                   [--without-compiler]

Exit status 0: nothing wrong was answered, nothing was lost that was promised, and every planned fault was injected.
2: nothing was run, because a fault that was asked for cannot be done on this machine.
"""

import argparse
import asyncio
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TextIO

from gateway.ledger.shops import Shops
from tests.faults.crowd import Crowd
from tests.faults.disk import compiler
from tests.faults.journal import Journal, now_ms
from tests.faults.judge import Verdict, audit, judge, judge_all_money, judge_late
from tests.faults.kinds import Kind, all_kinds
from tests.faults.plan import make_plan
from tests.faults.report import NO_COMPILER, RoundReport, RunReport
from tests.faults.rounds import SCARCE, Round
from tests.faults.strike import NotInjected
from tests.faults.world import World
from tests.faults.zeros import Wrong, Zero

# From this many rounds on the long form of each fault is done, and every target of every kind is a must.
LONG_FROM_ROUNDS = 100
WARM_UP_S = 0.3
SELLS_AGAIN_WITHIN_S = 30.0
QUIET_WITHIN_S = 40.0
STOCK = 25


class Torture:
    def __init__(self, kinds: list[Kind], *, seed: int, rounds: int, folder: Path) -> None:
        self.long = rounds >= LONG_FROM_ROUNDS
        self.plan = make_plan(kinds, seed=seed, rounds=rounds)
        self.report = RunReport(seed)
        self.folder = folder
        self._rng = random.Random(seed)

    async def run(self, *, keep: bool) -> RunReport:
        began_s = time.monotonic()
        async with World(keep_folder=keep) as world:
            if keep:
                print(f"the world is kept in {world.folder}", flush=True)
            async with Shops.connect(world.database_url) as shops:
                shop = await shops.get_or_create("tins")
            with (self.folder / "journal.jsonl").open("a", encoding="utf-8") as file:
                async with Crowd(world, shop, think_s=0.25) as crowd:
                    for number, (kind, target) in enumerate(self.plan, start=1):
                        report = await self._round(world, crowd, file, number, kind, target)
                        self.report.rounds.append(report)
                        _say(report, phases=keep)
                        if report.is_stuck:
                            break
                    await self._end(world, crowd)
            self.report.logged = _logged(world)
        self.report.took_s = time.monotonic() - began_s
        done = {(each.kind, each.target) for each in self.report.rounds if each.injected}
        self.report.missing = sorted(
            {f"{kind.name} on {target}" for kind, target in self.plan if (kind.name, target) not in done}
        )
        return self.report

    async def _end(self, world: World, crowd: Crowd) -> None:
        """What only the whole run can tell; it is added to the last round."""
        report, whole = self.report.rounds[-1], Verdict()
        if not report.is_stuck:
            await world.quiet(within_s=QUIET_WITHIN_S)
            await judge_late(world, crowd, whole)
            await judge_all_money(world, crowd, whole)
            await audit(world, whole, sale=None)
        report.wrong += whole.wrong
        report.audit += whole.audit

    async def _round(
        self, world: World, crowd: Crowd, file: TextIO, number: int, kind: Kind, target: str
    ) -> RoundReport:
        report = RoundReport(number, kind.name, target, may_lose=kind.may_lose(target))
        rng = random.Random(self._rng.random())
        journal = Journal(file)
        journal.write("round", number=number, fault=kind.name, target=target)
        try:
            with report.phase("sale"):
                sale = await crowd.make_sale(number=number, stock=STOCK)
                round = Round(number, sale, journal, rng, stock=STOCK)
                crowd.begin(round)
                await asyncio.sleep(WARM_UP_S)
            with report.phase("fault"):
                try:
                    struck = await kind.inject(world, target, rng, self.long)
                except NotInjected as why:
                    report.why_not = str(why)
                else:
                    report.injected, report.struck = True, struck.target
            with report.phase("again"):
                await world.proxy.heal()
                if report.injected:
                    await _sells_again(journal, now_ms())
                    report.fault_ms, report.over_at_ms = struck.at_ms, struck.over_at_ms
                    report.to_reserved_s = _after(struck.at_ms, journal.first_reserved_ms(struck.at_ms))
                    report.to_confirmed_s = _after(struck.at_ms, journal.first_confirmed_ms(struck.at_ms))
                    over_ms = struck.over_at_ms
                    report.over_to_reserved_s = _after(over_ms, journal.first_reserved_ms(over_ms))
                    report.over_to_confirmed_s = _after(over_ms, journal.first_confirmed_ms(over_ms))
            with report.phase("answers"):
                await crowd.end()
            with report.phase("up"):
                await world.all_ready()
            with report.phase("quiet"):
                await world.quiet(within_s=QUIET_WITHIN_S)
            with report.phase("judge"):
                verdict = await judge(world, crowd, round, may_lose=report.may_lose, rng=rng)
                await crowd.close_sale(round)
        except TimeoutError as error:
            report.wrong += [*journal.wrong, Wrong(Zero.STUCK, f"{error or 'it took too long'}")]
            report.is_stuck = True
        else:
            report.take(verdict)
        file.flush()
        return report


async def _sells_again(journal: Journal, since_ms: int) -> None:
    """Until an order that was asked for after the fault is confirmed."""
    try:
        async with asyncio.timeout(SELLS_AGAIN_WITHIN_S):
            while journal.first_confirmed_ms(since_ms) is None:  # noqa: ASYNC110 - the crowd's own tasks bring it
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise TimeoutError(f"it did not sell again within {SELLS_AGAIN_WITHIN_S:g} s") from None


def _after(fault_ms: int, then_ms: int | None) -> float | None:
    return None if then_ms is None else (then_ms - fault_ms) / 1000


def _say(report: RoundReport, *, phases: bool = False) -> None:
    state = "ok" if report.is_good else "WRONG"
    if not report.injected:
        state += f", not injected: {report.why_not}"
    times, over = (
        " ".join("-" if each is None else f"{each:.2f}" for each in pair)
        for pair in (
            (report.to_reserved_s, report.to_confirmed_s),
            (report.over_to_reserved_s, report.over_to_confirmed_s),
        )
    )
    print(
        f"{report.number:>4} {report.kind:<20} {report.struck or report.target:<34} {report.took_s:5.1f} s"
        f" {report.reserved:>5} reserved, {report.broken} broken, sells/confirms again {times} s,"
        f" after it was over {over} s: {state}" + (f"  {report.phases}" if phases else ""),
        flush=True,
    )
    for sentence in (*report.wrong[:5], *report.audit[:5]):
        print(f"     WRONG {str(sentence)[:1200]}", flush=True)


def _logged(world: World) -> dict[str, int]:
    """Errors by event; a line that is no JSON is a traceback or a word of the runtime's own."""
    found: Counter[str] = Counter()
    for log in world.logs.glob("*.log"):
        if log.name.startswith(("valkey", "postgres")):
            continue
        for line in log.read_text(errors="replace").splitlines():
            try:
                told = json.loads(line)
            except ValueError:
                # Of a traceback its last line is enough.
                if re.match(r"[\w.]+(Error|Exception|Exit)\b|[\w.]+: [A-Z]", line):
                    found[f"{log.stem.split('-')[0]}: {line[:100]}"] += 1
                continue
            if told.get("level") in ("error", "critical"):
                found[f"{log.stem.split('-')[0]}: {told.get('event')}"] += 1
    return dict(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    parser.add_argument("--only", help="only kinds whose name holds this")
    parser.add_argument("--kinds", help="only these, by their whole names with commas between them")
    parser.add_argument("--json", type=Path, help="where to write the report")
    parser.add_argument("--keep", action="store_true", help="leave the world's folder behind, with all logs")
    parser.add_argument("--journal", type=Path, default=None, help="folder for the journal of what clients were told")
    parser.add_argument(
        "--without-compiler", action="store_true", help="where there is no C compiler leave out what needs one"
    )
    given = parser.parse_args()
    kinds = [kind for kind in all_kinds() if given.only is None or given.only in kind.name]
    if given.kinds is not None:
        wanted = given.kinds.split(",")
        if unknown := set(wanted) - {kind.name for kind in kinds}:
            parser.error(f"no kind of fault is called {', '.join(sorted(unknown))}")
        kinds = [kind for kind in kinds if kind.name in wanted]
    left_out = [] if compiler() else [kind.name for kind in kinds if kind.compiled]
    if left_out:
        print(f"{NO_COMPILER} (cc or gcc) on this machine, so these faults cannot be done: {', '.join(left_out)}.")
        if not given.without_compiler or len(left_out) == len(kinds):
            print("Nothing was run. Install one, or leave those faults out with --without-compiler.", flush=True)
            return 2
        kinds = [kind for kind in kinds if kind.name not in left_out]
    folder = given.journal or Path(tempfile.mkdtemp(prefix="peakgate-journal-"))
    print(f"seed {given.seed}, {SCARCE} fought over, the journal is in {folder}", flush=True)
    torture = Torture(kinds, seed=given.seed, rounds=given.rounds, folder=folder)
    torture.report.left_out = left_out
    report = asyncio.run(torture.run(keep=given.keep))
    for line in report.lines():
        print(line)
    if given.json is not None:
        given.json.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
