"""What a run says of itself, in lines and as JSON."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults.judge import Verdict
from tests.faults.zeros import FIVE, Wrong, Zero, count_zeros

NO_COMPILER = "NOT INJECTED: no C compiler"


@dataclass
class RoundReport:
    number: int
    kind: str
    target: str
    may_lose: bool = False
    """Valkey was without its file, or with an older one."""
    struck: str = ""
    injected: bool = False
    why_not: str = ""
    reserved: int = 0
    confirmed: int = 0
    asks: int = 0
    attempts: int = 0
    broken: int = 0
    unknown_then_refused: int = 0
    is_stuck: bool = False
    """It never became quiet, or never sold again: no further round makes sense."""
    wrong: list[Wrong] = field(default_factory=list)
    audit: list[Wrong] = field(default_factory=list)
    fault_ms: int | None = None
    over_at_ms: int | None = None
    """When the fault was over: what it hit ran again, links were whole, the disk was good. Wall time, as `fault_ms`."""
    to_reserved_s: float | None = None
    """From the fault until the first new order was answered `reserved`."""
    to_confirmed_s: float | None = None
    over_to_reserved_s: float | None = None
    """The same from when it was over, of orders asked for after that."""
    over_to_confirmed_s: float | None = None
    phases: dict[str, float] = field(default_factory=dict)
    """Seconds each part of the round took."""

    @property
    def took_s(self) -> float:
        return sum(self.phases.values())

    @property
    def is_good(self) -> bool:
        return not (self.wrong or self.audit)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        began_s = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = round(time.monotonic() - began_s, 3)

    def take(self, verdict: Verdict) -> None:
        self.reserved, self.confirmed = verdict.reserved, verdict.confirmed
        self.asks, self.attempts = verdict.asks, verdict.attempts
        self.broken, self.wrong, self.audit = len(verdict.broken), verdict.wrong, verdict.audit
        self.unknown_then_refused = verdict.unknown_then_refused


@dataclass
class RunReport:
    seed: int
    rounds: list[RoundReport] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """What should have been injected and was not."""
    left_out: list[str] = field(default_factory=list)
    """Kinds of fault that were not planned because this machine cannot do them; only a run that allows it has any."""
    logged: dict[str, int] = field(default_factory=dict)
    """Errors of the processes' own logs, by event."""
    took_s: float = 0.0

    @property
    def is_good(self) -> bool:
        return not self.missing and all(each.is_good for each in self.rounds)

    def as_json(self) -> dict[str, Any]:
        promises = {
            kind: {"reserved": sum(each.reserved for each in rounds), "broken": sum(each.broken for each in rounds)}
            for kind, rounds in sorted(self._by_kind().items())
        }
        return {**asdict(self), "is_good": self.is_good, "zeros": self.zeros(), "promises": promises}

    def zeros(self) -> dict[str, int]:
        return count_zeros(found for each in self.rounds for found in (*each.wrong, *each.audit))

    def _by_kind(self) -> dict[str, list[RoundReport]]:
        by_kind: defaultdict[str, list[RoundReport]] = defaultdict(list)
        for each in self.rounds:
            if each.injected:
                loses = each.may_lose and each.kind == "two at once"
                by_kind[f"{each.kind}, losing" if loses else each.kind].append(each)
        return by_kind

    def lines(self) -> Iterable[str]:
        yield f"{'':<63}{'from the fault':>38}{'after it was over':>38}"
        yield f"{'kind of fault':<22}{'rounds':>7}{'reserved':>10}{'broken':>8}{'rate':>9}{'wrong':>7}" + (
            2 * f"{'sells s':>10}{'worst':>8}{'confirms s':>12}{'worst':>8}"
        )
        for kind, rounds in sorted(self._by_kind().items()):
            reserved, broken = sum(each.reserved for each in rounds), sum(each.broken for each in rounds)
            wrong = sum(len(each.wrong) + len(each.audit) for each in rounds)
            yield (
                f"{kind:<22}{len(rounds):>7}{reserved:>10}{broken:>8}{broken / max(1, reserved):>9.2%}{wrong:>7}"
                f"{_times([each.to_reserved_s for each in rounds], 10)}"
                f"{_times([each.to_confirmed_s for each in rounds], 12)}"
                f"{_times([each.over_to_reserved_s for each in rounds], 10)}"
                f"{_times([each.over_to_confirmed_s for each in rounds], 12)}"
            )
        points = Counter(each.target for each in self.rounds if each.injected and each.kind in _AT_POINTS)
        if points:
            yield "points: " + ", ".join(f"{point} {count}" for point, count in sorted(points.items()))
        links = Counter(each.target for each in self.rounds if each.injected and each.kind.startswith("link"))
        if links:
            yield "links: " + ", ".join(f"{link} {count}" for link, count in sorted(links.items()))
        for event, count in sorted(self.logged.items()):
            yield f"logged: {event} {count}"
        for each in self.rounds:
            for sentence in (*each.wrong, *each.audit):
                yield f"WRONG in round {each.number} ({each.kind}, {each.struck or each.target}): {sentence}"
        yield from (f"NOT INJECTED: {fault}" for fault in self.missing)
        if self.left_out:
            yield f"{NO_COMPILER}: {', '.join(self.left_out)}"
        zeros = self.zeros()
        yield (
            "zeros: "
            + ", ".join(f"{zero} {zeros[zero]}" for zero in FIVE)
            + ("; beside them: " + ", ".join(f"{zero} {zeros[zero]}" for zero in Zero if zero not in FIVE))
        )
        total = Counter[str]()
        for each in self.rounds:
            total.update(reserved=each.reserved, confirmed=each.confirmed, attempts=each.attempts, broken=each.broken)
            total.update(wrong=len(each.wrong), audit=len(each.audit))
        yield (
            f"{'HELD' if self.is_good else 'BROKEN'}: seed {self.seed}, {len(self.rounds)} rounds in"
            f" {self.took_s:.0f} s, {total['attempts']} asks sent, {total['reserved']} orders reserved,"
            f" {total['confirmed']} confirmed, {total['broken']} promises broken, {total['wrong']} wrong words,"
            f" {total['audit']} audit violations"
        )


_AT_POINTS = tuple(f"{do} {where}" for do in ("kill", "stop") for where in ("at point", "in a rebuild"))


def _times(found: list[float | None], width: int) -> str:
    """The median and the worst."""
    times = sorted(each for each in found if each is not None)
    if not times:
        return f"{'-':>{width}}{'-':>8}"
    return f"{times[len(times) // 2]:>{width}.2f}{times[-1]:>8.2f}"
