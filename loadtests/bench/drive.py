"""One run: a way that is up, the generator beside it, and the CPU that each process spent on it."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from gateway.client.host import Host

from .generator import Fate, Load, Outcome
from .servers import Servers, postgres_processes, python_module, valkey_process

READY_TIMEOUT_S = 60.0
_MAX_LINE_BYTES = 1 << 24


class DriveError(RuntimeError):
    """A process of the bench ended or stayed silent instead of doing its part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A way to take orders that is up and has an open sale."""

    urls: list[str]
    dialect: Literal["rival", "peakgate"]
    sale: str
    sku: str
    processes: Callable[[], dict[str, list[psutil.Process]]]
    """The way's own processes by role, as they are now."""
    check: Callable[[Outcome, list[Fate]], Awaitable[list[str]]]
    """Compares what the generator was told with what the ledger holds; returns every difference."""
    tokens: Path | None = None
    amount_minor: int | None = None
    host: Host | None = None
    """Who may act on the room and the sale; Peakgate only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run gave."""

    outcome: Outcome
    cpu_us: dict[str, float]
    """CPU an order, in microseconds, by role; the servers' background work is in it."""
    fates: list[Fate] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)


class GeneratorProcess:
    """The generator, started and connected; `go` lets it send."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        await self._process.stdin.drain()

    async def outcome(self) -> Outcome:
        return msgspec.json.decode(await read_line(self._process, "the generator"), type=Outcome)


async def read_line(process: asyncio.subprocess.Process, who: str) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise DriveError(f"{who} ended with {await process.wait()} before it answered")
    return line


@contextlib.asynccontextmanager
async def running(
    command: list[str], first_line: object | None, **kwargs: object
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child process that is ended, by its own id, with the block."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_MAX_LINE_BYTES,
        **kwargs,  # type: ignore[arg-type]
    )
    try:
        assert process.stdin is not None
        if first_line is not None:
            process.stdin.write(msgspec.json.encode(first_line) + b"\n")
            await process.stdin.drain()
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(20):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


@contextlib.asynccontextmanager
async def generator(load: Load) -> AsyncIterator[GeneratorProcess]:
    """The generator with all its sockets connected."""
    async with running(python_module("generator"), load) as process:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await read_line(process, "the generator")
        yield GeneratorProcess(process)


class Cpu:
    """CPU seconds by role, from now on. A process that starts later counts from its start."""

    def __init__(self, processes: Callable[[], dict[str, list[psutil.Process]]]) -> None:
        self._processes = processes
        self._before = self._read()

    def _read(self) -> dict[str, dict[int, float]]:
        read: dict[str, dict[int, float]] = {}
        for role, processes in self._processes().items():
            spent = read.setdefault(role, {})
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    times = process.cpu_times()
                    spent[process.pid] = times.user + times.system
        return read

    def spent_s(self) -> dict[str, float]:
        return {
            role: sum(now - self._before.get(role, {}).get(pid, 0.0) for pid, now in spent.items())
            for role, spent in self._read().items()
        }


async def drive(
    target: Target,
    servers: Servers,
    scratch: Path,
    *,
    sockets: int = 500,
    in_flight: int = 1,
    rate: float | None = None,
    warm_up_s: float,
    measure_s: float,
    drain_s: float = 15.0,
    journal: bool = False,
    during: Callable[[], Awaitable[None]] | None = None,
) -> Run:
    """Drive one load at `target`; `during` runs beside it from the instant the generator starts to send."""
    journal_path = scratch / f"journal-{time.monotonic_ns()}" if journal else None
    load = Load(
        urls=target.urls,
        dialect=target.dialect,
        sale=target.sale,
        sku=target.sku,
        run=f"b{time.time_ns():x}",
        sockets=sockets,
        in_flight=in_flight,
        rate=rate,
        warm_up_s=warm_up_s,
        measure_s=measure_s,
        drain_s=drain_s,
        amount_minor=target.amount_minor,
        tokens=str(target.tokens) if target.tokens else None,
        journal=str(journal_path) if journal_path else None,
    )
    valkey = await valkey_process(servers.valkey_url)
    async with generator(load) as process:
        postmaster = (await postgres_processes(servers.rivals_url))[0]

        def everybody() -> dict[str, list[psutil.Process]]:
            return {
                **target.processes(),
                "postgresql": [postmaster, *postmaster.children(recursive=True)],
                "valkey": [valkey],
            }

        cpu = Cpu(everybody)
        await process.go()
        async with asyncio.TaskGroup() as group:
            answer = group.create_task(process.outcome())
            if during is not None:
                group.create_task(_awaiting(during))
        outcome = answer.result()
        spent = cpu.spent_s()
    orders = max(outcome.confirmed_total, 1)
    fates: list[Fate] = []
    if journal_path is not None:
        fates = await asyncio.to_thread(_read_journal, journal_path)
    return Run(
        outcome=outcome,
        cpu_us={
            **{role: seconds * 1e6 / orders for role, seconds in spent.items()},
            # Its own figure leaves out the sums it makes when the load is over.
            "generator": outcome.cpu_us_per_order,
        },
        fates=fates,
        differences=await target.check(outcome, fates),
    )


async def _awaiting(act: Callable[[], Awaitable[None]]) -> None:
    await act()


def _read_journal(path: Path) -> list[Fate]:
    decode = msgspec.json.Decoder(Fate).decode
    with path.open("rb") as file:
        fates = [decode(line) for line in file]
    path.unlink()
    return fates
