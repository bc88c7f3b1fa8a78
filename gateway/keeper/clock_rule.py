"""Whether the clocks of the two servers can be believed: judged from readings against a monotonic clock; pure.

A reading says how far each server's time is from our monotonic clock. Such a distance only changes when a clock is set
(or, by milliseconds an hour, when two clocks drift), so a change of more than `TOLERANCE_S` between two readings is a
step, and a difference of more than that between the servers is a skew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

TOLERANCE_S = 2.0
# How long both servers must agree, and stand still against the monotonic clock, until a new time is believed.
AGREE_FOR_S = 10.0


class Place(NamedTuple):
    """Where a shard's ledger stood at a reading."""

    epoch: int
    last_seq: int
    steps: int
    """How many times its deadlines were moved because of the clock, and by how much in all."""
    shift_ms: int

    @property
    def cursor(self) -> tuple[int, int]:
        return self.epoch, self.last_seq


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One look. The servers' times are distances from the monotonic clock, in seconds; None was not read, or too
    slowly to mean anything."""

    at_s: float
    valkey_s: float | None
    ledger_s: float | None
    places: Mapping[int, Place] = field(default_factory=dict)
    """By shard, as of the ledger's time."""


class Shift(NamedTuple):
    """Orders of a shard that were confirmed behind one place and up to another: their deadlines move by so much."""

    after: tuple[int, int]
    up_to: tuple[int, int]
    by_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What a shard's deadlines need after the ledger's clock was set: `total_ms` is how far it is from where it was
    trusted last, where the shard stood at `before`."""

    before: Place
    total_ms: int
    shifts: tuple[Shift, ...]


class Verdict(StrEnum):
    TRUSTED = "trusted"
    DISTRUSTED = "distrusted"
    SETTLED = "settled"
    """Both servers have agreed for long enough: once `shifts` are done, `accept` makes their time the trusted one."""


@dataclass(slots=True)
class _Stretch:
    """Readings between two steps of the ledger's clock: the first and the last of them."""

    first: Reading
    last: Reading


class ClockRule:
    """Fed with a reading a second. Not trusted until the first good comparison of both servers, or, where a trusted
    reading of an earlier process of this machine is known, until one that fits it."""

    def __init__(self, before: Reading | None = None) -> None:
        self._base = before
        self._trusted = False
        self._stretches: list[_Stretch] = []
        self._agree: Reading | None = None
        """The first reading since which both servers agree and stand still."""
        self.reason = "not compared yet"
        self.skew_s = 0.0

    @property
    def trusted(self) -> bool:
        return self._trusted

    @property
    def base(self) -> Reading | None:
        """The last reading that was trusted, or a server's part of it."""
        return self._base

    def look(self, reading: Reading) -> Verdict:
        """Judges a reading; without either server's time nothing changes."""
        if reading.valkey_s is not None and reading.ledger_s is not None:
            self.skew_s = reading.valkey_s - reading.ledger_s
        doubt = self._doubt(reading)
        if self._trusted or not self._stretches:
            if not doubt:
                return self._go_on(reading)
            self._trusted, self._agree, self.reason = False, None, doubt
            self._stretches = [_Stretch(self._base, self._base)] if self._base is not None else []
        self._note(reading)
        return self._settling(reading)

    def step(self, shard: int) -> Step | None:
        """What is to be done to the deadlines of a shard before `accept`: each set of orders keeps the time it had left
        by the clock that it was confirmed by. None when the ledger's clock was not set.

        Which side of a step the orders between two readings were confirmed on is not known: they get the later
        deadline, so that nothing ends early."""
        stretches = [each for each in self._stretches if shard in each.first.places and shard in each.last.places]
        if len(stretches) < 2:
            return None
        now_s = _ledger(stretches[-1].last)
        by_ms = [round((now_s - _ledger(each.last)) * 1000) for each in stretches]
        shifts: list[Shift] = []
        after = (0, 0)
        for at, by in enumerate(by_ms[:-1]):
            edge = stretches[at + 1].first if by > by_ms[at + 1] else stretches[at].last
            up_to = edge.places[shard].cursor
            if abs(by) > TOLERANCE_S * 1000 and up_to > after:
                shifts.append(Shift(after, up_to, by))
            after = max(after, up_to)
        return Step(before=stretches[0].last.places[shard], total_ms=by_ms[0], shifts=tuple(shifts))

    @property
    def step_s(self) -> float:
        """How far the ledger's clock is from where it was trusted last."""
        if len(self._stretches) < 2:
            return 0.0
        return _ledger(self._stretches[-1].last) - _ledger(self._stretches[0].last)

    def accept(self, reading: Reading) -> None:
        """The servers' time is believed from here on, with the deadlines as they were moved; `reading` is a fresh one
        of both."""
        self._base, self._trusted, self._stretches, self._agree, self.reason = reading, True, [], None, ""

    def _doubt(self, reading: Reading) -> str:
        """Why a reading is not believed beside the last trusted one; empty when it is."""
        if reading.valkey_s is not None and reading.ledger_s is not None and abs(self.skew_s) > TOLERANCE_S:
            return "skew"
        base = self._base
        if base is not None:
            if _stepped(base.ledger_s, reading.ledger_s):
                return "step of PostgreSQL"
            if _stepped(base.valkey_s, reading.valkey_s):
                return "step of Valkey"
        return ""

    def _go_on(self, reading: Reading) -> Verdict:
        """A reading that fits. It becomes what the next is compared with, so that a slow drift is no step."""
        base = self._base
        whole = reading.valkey_s is not None and reading.ledger_s is not None
        if base is None:
            if whole:
                self.accept(reading)
        else:
            self._base = Reading(
                at_s=reading.at_s,
                valkey_s=base.valkey_s if reading.valkey_s is None else reading.valkey_s,
                ledger_s=base.ledger_s if reading.ledger_s is None else reading.ledger_s,
                places=reading.places or base.places,
            )
            if whole:
                self._trusted, self.reason = True, ""
        return Verdict.TRUSTED if self._trusted else Verdict.DISTRUSTED

    def _note(self, reading: Reading) -> None:
        """Keeps, while distrusted, what the ledger's clock went through."""
        if reading.ledger_s is None:
            return
        last = self._stretches[-1] if self._stretches else None
        if last is None or _stepped(_ledger(last.last), reading.ledger_s):
            self._stretches.append(_Stretch(reading, reading))
        else:
            last.last = reading

    def _settling(self, reading: Reading) -> Verdict:
        if reading.valkey_s is None or reading.ledger_s is None:
            return Verdict.DISTRUSTED
        agree = self._agree
        if abs(self.skew_s) > TOLERANCE_S:
            self._agree = None
        elif agree is None or _stepped(agree.valkey_s, reading.valkey_s) or _stepped(agree.ledger_s, reading.ledger_s):
            self._agree = reading
        elif reading.at_s - agree.at_s >= AGREE_FOR_S:
            return Verdict.SETTLED
        return Verdict.DISTRUSTED


def _stepped(before_s: float | None, now_s: float | None) -> bool:
    return before_s is not None and now_s is not None and abs(now_s - before_s) > TOLERANCE_S


def _ledger(reading: Reading) -> float:
    """Of a reading that has it."""
    assert reading.ledger_s is not None
    return reading.ledger_s
