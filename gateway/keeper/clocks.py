"""Compares the clocks of Valkey, of PostgreSQL and of this process each second, and acts when they cannot be believed.

While they are not trusted no further sale opens (a field in Valkey that the script of orders reads) and no order
expires (`trusted`, which the sweep of deadlines asks). When PostgreSQL's clock was set and both servers have agreed on
the new time for a while, deadlines are moved so that everybody keeps the time they had left. A difference between the
servers stays distrusted until it is gone.

Here: reading, saying so, pausing, moving. Not here: the judgement (`clock_rule.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.keeper.clock_rule import TOLERANCE_S, ClockRule, Place, Reading, Step, Verdict
from gateway.metrics import CLOCK_SKEW_SECONDS, CLOCK_TRUSTED

log = structlog.get_logger(__name__)

EVERY_S = 1.0
# The server read its clock somewhere within the call: a slower one says too little beside a tolerance of 2 s.
SLOWEST_S = 0.5
# A comparison older than this says nothing about now: this process may have been stopped, or the ledger be too slow.
FRESH_S = 5.0
# How often what is trusted is written down for the next process of this machine.
NOTE_EVERY_S = 10.0
# How often openings are let go again that nobody pauses any more.
RESUME_EVERY_S = 5.0
# What was written down longer ago is not compared with: over days even good clocks drift.
NOTE_KEPT_S = 86_400.0


class Hot(Protocol):
    async def time_s(self) -> float: ...


class Opening(Protocol):
    async def pause(self, shard: int, *, up_to_ms: int) -> bool: ...
    async def resume(self, shard: int) -> None: ...


class Ledger(Protocol):
    async def time_s(self) -> tuple[float, Mapping[int, tuple[int, int, int, int]]]:
        """Its clock, and by shard (epoch, last sequence number, times deadlines were moved, by how many ms in all)."""
        ...

    async def move_deadlines(
        self,
        shard: int,
        *,
        steps: int,
        shift_ms: int,
        base: tuple[int, int],
        total_ms: int,
        shifts: Sequence[tuple[tuple[int, int], tuple[int, int], int]],
    ) -> int:
        """How many orders have another deadline now."""
        ...

    async def note(
        self,
        machine: str,
        *,
        at_s: float,
        valkey_s: float,
        ledger_s: float,
        places: Mapping[int, tuple[int, int, int, int]],
    ) -> None: ...

    async def noted(self, machine: str) -> tuple[float, float, float, Mapping[int, tuple[int, int, int, int]]] | None:
        """(at, Valkey's and the ledger's distance from the monotonic clock, places), or None."""
        ...


class Clocks:
    """`trusted` until a comparison says otherwise; not before the first good one. Two of these do no harm: what one
    moved, the other finds moved.

    A machine that was suspended without its servers sees that as a step of both: holds then live longer by that time,
    never shorter."""

    def __init__(
        self, *, hot: Hot, opening: Opening, ledger: Ledger, shards: Sequence[int], clock: Clock, machine: str = ""
    ) -> None:
        self._hot = hot
        self._opening = opening
        self._ledger = ledger
        self._shards = shards
        self._clock = clock
        self._machine = machine
        self._rule: ClockRule | None = None
        self._ledger_read_s = float("-inf")
        self._noted_s = float("-inf")
        self._up_to_ms: int | None = None
        """The last trusted time by Valkey's clock, while distrusted."""
        self._resumed_s = float("-inf")

    @property
    def trusted(self) -> bool:
        rule = self._rule
        return rule is not None and rule.trusted and self._clock.monotonic() - self._ledger_read_s <= FRESH_S

    @property
    def not_after(self) -> datetime:
        """The latest that PostgreSQL's clock may show within the next seconds, if it was not set since it was trusted
        last. So nothing is judged by a clock that was set since the last look."""
        base = None if self._rule is None else self._rule.base
        if base is None or base.ledger_s is None:
            return datetime.min.replace(tzinfo=UTC)
        return datetime.fromtimestamp(base.ledger_s + self._clock.monotonic() + TOLERANCE_S, UTC)

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except GatewayError as error:
                log.warning("clocks_wait", error=str(error))
            await asyncio.sleep(EVERY_S)

    async def step(self) -> None:
        """One comparison and what follows from it. Raises GatewayError when what follows could not be done; the next
        step does it."""
        if self._rule is None:
            self._rule = ClockRule(await self._before())
        rule = self._rule
        reading = await self._read()
        was_trusted, had_begun = rule.trusted, self._up_to_ms is not None
        verdict = rule.look(reading)
        CLOCK_SKEW_SECONDS.set(rule.skew_s)
        CLOCK_TRUSTED.set(1 if self.trusted else 0)
        match verdict:
            case Verdict.TRUSTED:
                await self._trust(reading)
            case Verdict.DISTRUSTED if rule.reason and (was_trusted or had_begun or _whole(reading)):
                await self._distrust(rule, reading)
            case Verdict.DISTRUSTED:
                pass  # nothing was compared yet
            case Verdict.SETTLED:
                # Opening stays paused until the deadlines are moved, whoever has to do it in the end.
                await self._distrust(rule, reading)
                await self._settle(rule, reading)

    async def _distrust(self, rule: ClockRule, reading: Reading) -> None:
        if self._up_to_ms is None:
            # Where nothing was trusted yet, what is open by Valkey's clock now is what stays open.
            base = reading if rule.base is None else rule.base
            self._up_to_ms = int(((base.valkey_s or 0.0) + self._clock.monotonic()) * 1000)
            log.critical(
                "clocks_not_trusted",
                reason=rule.reason,
                skew_s=round(rule.skew_s, 3),
                ledger_step_s=round(rule.step_s, 3),
                opens_up_to_ms=self._up_to_ms,
            )
        for shard in self._shards:
            await self._opening.pause(shard, up_to_ms=self._up_to_ms)

    async def _settle(self, rule: ClockRule, reading: Reading) -> None:
        """The new time is believed once every shard's deadlines were moved onto it."""
        moved = 0
        for shard in self._shards:
            step = rule.step(shard)
            if step is not None:
                moved += await self._move(shard, step)
        log.warning("clocks_trusted_again", ledger_step_s=round(rule.step_s, 3), deadlines_moved=moved)
        # What is compared with the next time must know what was moved just now.
        _, places = await self._ledger.time_s()
        rule.accept(replace(reading, places=_places(places)))
        self._noted_s = float("-inf")
        CLOCK_TRUSTED.set(1)
        await self._resume()

    async def _move(self, shard: int, step: Step) -> int:
        return await self._ledger.move_deadlines(
            shard,
            steps=step.before.steps,
            shift_ms=step.before.shift_ms,
            base=step.before.cursor,
            total_ms=step.total_ms,
            shifts=step.shifts,
        )

    async def _trust(self, reading: Reading) -> None:
        await self._resume()
        now_s = self._clock.monotonic()
        if not self._machine or reading.valkey_s is None or reading.ledger_s is None:
            return
        if now_s - self._noted_s >= NOTE_EVERY_S:
            await self._ledger.note(
                self._machine,
                at_s=reading.at_s,
                valkey_s=reading.valkey_s,
                ledger_s=reading.ledger_s,
                places=reading.places,
            )
            self._noted_s = now_s

    async def _resume(self) -> None:
        """Also what another keeper left paused, or an older file of Valkey brought back."""
        now_s = self._clock.monotonic()
        if self._up_to_ms is not None or now_s - self._resumed_s >= RESUME_EVERY_S:
            try:
                for shard in self._shards:
                    await self._opening.resume(shard)
            except GatewayError:
                if self._up_to_ms is not None:
                    raise  # ours to let go
            self._up_to_ms, self._resumed_s = None, now_s

    async def _before(self) -> Reading | None:
        """What an earlier keeper of this machine trusted last: its monotonic clock was the same."""
        noted = await self._ledger.noted(self._machine) if self._machine else None
        if noted is None or not 0 <= self._clock.monotonic() - noted[0] <= NOTE_KEPT_S:
            return None
        at_s, valkey_s, ledger_s, places = noted
        return Reading(at_s=at_s, valkey_s=valkey_s, ledger_s=ledger_s, places=_places(places))

    async def _read(self) -> Reading:
        valkey_s, _ = await self._distance(self._hot.time_s)
        places: Mapping[int, Place] = {}

        async def ask_ledger() -> float:
            nonlocal places
            time_s, found = await self._ledger.time_s()
            places = _places(found)
            return time_s

        ledger_s, at_s = await self._distance(ask_ledger)
        if ledger_s is not None:
            self._ledger_read_s = at_s
        return Reading(at_s=at_s, valkey_s=valkey_s, ledger_s=ledger_s, places=places)

    async def _distance(self, ask: Callable[[], Awaitable[float]]) -> tuple[float | None, float]:
        """How far a server's time is from ours, taken at the middle of the call, and when that was."""
        sent_s = self._clock.monotonic()
        try:
            time_s = await ask()
        except GatewayError as error:
            log.debug("clock_not_read", error=str(error))
            return None, sent_s
        took_s = self._clock.monotonic() - sent_s
        return None if took_s > SLOWEST_S else time_s - sent_s - took_s / 2, sent_s + took_s / 2


def this_machine() -> str:
    """Names what the monotonic clock belongs to: this boot of this machine, seen from this time namespace. Empty where
    the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
    try:
        offsets = " ".join(Path("/proc/self/timens_offsets").read_text().split())
    except OSError:
        offsets = ""
    return f"{boot} {offsets}".strip()


def _whole(reading: Reading) -> bool:
    return reading.valkey_s is not None and reading.ledger_s is not None


def _places(found: Mapping[int, tuple[int, int, int, int]]) -> dict[int, Place]:
    return {shard: Place(*place) for shard, place in found.items()}
