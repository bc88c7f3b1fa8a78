"""A crowd in a room, as the parts of the bench use it: started, told what to do, and what the server spent meanwhile.

CPU is the kernel's own count of a process, in nanoseconds (`CLOCK_PROCESS_CPUTIME_ID` of that process: user and system,
all its threads), because the ten milliseconds of `/proc/<pid>/stat` are longer than a quiet run.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping

import msgspec
import psutil

from .drive import DriveError, read_line, running
from .room_messages import Act, Arrived, Crowd, Heard
from .servers import Servers, postgres_processes, python_module, valkey_process

ARRIVES_WITHIN_S = 120.0
SERVER_CPU, OTHERS_CPU = 0, 1
"""The measured process has a core of its own; readers, databases and everybody else share the other."""
SETTLE_S = 0.3
QUIET_SHARE = 0.15
"""Of one core, of all others together: what a machine uses by itself."""
PATIENCE_S = 20.0

_WORDS = (
    "look at that one",
    "does it come in blue",
    "how long is shipping to Graz",
    "bought it last time and loved it",
    "is that the big tin or the small",
    "hello from Lisbon",
    "when does the next sale start please",
)


class CrowdProcess:
    """All readers, present."""

    def __init__(self, process: asyncio.subprocess.Process, arrived: Arrived) -> None:
        self._process = process
        self.arrived = arrived
        self.pid = process.pid

    async def begin(self, act: Act) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(act) + b"\n")
        await self._process.stdin.drain()

    async def heard(self) -> Heard:
        return msgspec.json.decode(await read_line(self._process, "the crowd"), type=Heard)


@contextlib.asynccontextmanager
async def crowd_in(crowd: Crowd) -> AsyncIterator[CrowdProcess]:
    """Everybody of `crowd` is in the room; raises `DriveError` when somebody is not."""
    async with running(python_module("room_crowd"), crowd) as process:
        async with asyncio.timeout(ARRIVES_WITHIN_S + crowd.viewers / crowd.join_rate):
            arrived = msgspec.json.decode(await read_line(process, "the crowd"), type=Arrived)
        if arrived.welcomed < crowd.viewers:
            raise DriveError(f"{arrived.welcomed:,} of {crowd.viewers:,} viewers came in; {arrived.refused:,} refusals")
        yield CrowdProcess(process, arrived)


class Spending:
    """CPU seconds by role from now on."""

    def __init__(self, pids: Mapping[str, Iterable[int]]) -> None:
        self._pids = {role: list(of_role) for role, of_role in pids.items()}
        self._before = {role: self._read(role) for role in self._pids}

    def _read(self, role: str) -> float:
        return sum(cpu_s(pid) for pid in self._pids[role])

    def spent_s(self) -> dict[str, float]:
        return {role: self._read(role) - before for role, before in self._before.items()}


def cpu_s(pid: int) -> float:
    """What the process has used until now; 0 for one that has ended."""
    try:
        # The kernel's clock of another process: its id inverted, then the kind of clock.
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


class Others:
    """CPU seconds of everything on this machine that the bench did not start, from now on."""

    def __init__(self) -> None:
        self._before = self._read()

    @staticmethod
    def _read() -> float:
        times = psutil.cpu_times()
        # What a virtual machine's host took from it is nobody's work here.
        busy_s = times.user + times.nice + times.system + times.irq + times.softirq
        this = psutil.Process()
        return busy_s - sum(cpu_s(process.pid) for process in (this, *this.children(recursive=True)))

    def spent_s(self) -> float:
        return max(0.0, self._read() - self._before)


async def quiet() -> None:
    """Returns once nobody else uses this machine, or after a while all the same: `others_share` then says so."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        others = Others()
        await asyncio.sleep(1.0)
        if others.spent_s() < QUIET_SHARE:
            return


async def play(crowd: CrowdProcess, act: Act, pids: Mapping[str, Iterable[int]]) -> tuple[Heard, dict[str, float]]:
    """One act and the CPU seconds by role that it took, without the time in which only stragglers are waited for.

    The role `others` is everybody whom the bench did not start.
    """
    spending, others = Spending(pids), Others()
    await crowd.begin(act)
    await asyncio.sleep(act.for_s + min(SETTLE_S, act.drain_s / 2))
    spent = spending.spent_s() | {"others": others.spent_s()}
    return await crowd.heard(), spent


def steady(rate: float, for_s: float) -> list[tuple[float, str]]:
    """Comments at a fixed rate, each of the length that people write."""
    chosen = random.Random(1)
    count = max(1, round(rate * for_s))
    # Not in step with any server's own beat: else each would wait equally long for its tick.
    return [
        ((number + chosen.random()) / rate, f"{chosen.choice(_WORDS)} {chosen.choice(_WORDS)}"[:60])
        for number in range(count)
    ]


def pin(processes: Callable[[], Mapping[str, list[psutil.Process]]], measured: str) -> None:
    """The role `measured` on the one core, all others on the other."""
    for role, of_role in processes().items():
        for process in of_role:
            with contextlib.suppress(psutil.NoSuchProcess):
                pin_process(process.pid, SERVER_CPU if role == measured else OTHERS_CPU)


async def pin_everybody_else(servers: Servers) -> None:
    """The servers that all ways share, off the measured core."""
    valkeys = [await valkey_process(url) for url in (servers.valkey_url, servers.rooms_valkey_url)]
    for process in (*valkeys, *await postgres_processes(servers.rivals_url)):
        with contextlib.suppress(psutil.NoSuchProcess):
            pin_process(process.pid, OTHERS_CPU)


def pin_process(pid: int, cpu: int) -> None:
    """All threads it has; those it starts later are where the one was that starts them."""
    for thread in psutil.Process(pid).threads():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(thread.id, {cpu})


@contextlib.contextmanager
def this_process_on(cpu: int) -> Iterator[None]:
    """This process, and what it starts meanwhile, on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
