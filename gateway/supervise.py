"""The processes of `peakgate up`: started, kept running, drained in order.

Here: when a child is started again, when all are ready, and in which order and how fast they go. Not here: what a child
does, and which children there are (the command says so).
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, Never, Protocol

import structlog

from gateway.children import Child, Executed, Starts
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 10.0
# A child that ran this long died of something new: the next pause is short again.
_STABLE_AFTER_S: Final = 30.0
# Before everything was ready once, a child that cannot start is a fault of the set-up, and people wait for the answer.
_ATTEMPTS_BEFORE_READY: Final = 3
# The exit status of wrong usage or settings: trying again does not help.
_BAD_SETTINGS_STATUS: Final = 2
# What is left for the embedded servers when everyone before them used their time up.
_LEAST_SERVERS_STOP_S: Final = 1.0


class Stage(IntEnum):
    """The order of the drain. A stage begins when the one before has ended or used its time up."""

    EDGE = 0
    WRITER = 1
    KEEPER = 2


# Up to which part of the whole time a stage may last; the rest is for the embedded servers.
_STAGE_ENDS_AT: Final = {Stage.EDGE: 0.55, Stage.WRITER: 0.85, Stage.KEEPER: 0.92}


def drain_share_s(stage: Stage, drain_s: float) -> float:
    """What a child of that stage may take for its own drain, so that it ends by itself before it is killed."""
    before = _STAGE_ENDS_AT[Stage(stage - 1)] if stage > Stage.EDGE else 0.0
    return round((_STAGE_ENDS_AT[stage] - before) * drain_s * 0.9, 3)


class StartFailed(GatewayError):
    """A process could not be started."""

    code = "start_failed"

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class Servers(Protocol):
    """The embedded servers, as far as they need care."""

    async def keep_running(self) -> Never: ...

    async def stop(self, *, within_s: float) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """A process to keep: `name` as in `ps`, `argv` as whoever starts it takes it."""

    name: str
    argv: Sequence[str]
    stage: Stage
    environment: Mapping[str, str] = field(default_factory=dict)


class Supervisor:
    """Keeps the children running from `run` until a signal, then drains them.

    A child that dies is started again after a growing pause, so that a crash loop costs little. Children die with this
    process whatever kills it. `run` returns 0 after a drain in which nobody had to be killed, else 1.
    """

    def __init__(
        self,
        *,
        children: Sequence[ChildSpec],
        servers: Servers | None,
        drain_s: float,
        on_ready: Callable[[], None],
        starts: Starts | None = None,
    ) -> None:
        starts = starts or Executed()
        self._children = [_Kept(spec, starts) for spec in children]
        self._servers = servers
        self._drain_s = drain_s
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()
        self._drain_began: float | None = None

    def request_stop(self) -> None:
        """The first request drains, a second one kills."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.request_stop)
        clean = False
        try:
            async with asyncio.TaskGroup() as group:
                kept = group.create_task(self._keep_servers(), name="keep servers")
                keepers = [group.create_task(child.keep(self._stop), name=child.spec.name) for child in self._children]
                ready = group.create_task(self._announce(), name="announce")
                await self._stop.wait()
                clean = await self._drain()
                ready.cancel()
                kept.cancel()
                for keeper in keepers:
                    keeper.cancel()
        except BaseExceptionGroup as errors:
            # The group has cancelled everybody; whoever still runs is ended below.
            failed, unexpected = errors.split(StartFailed)
            if failed is None or unexpected is not None:
                raise
            raise _first(failed) from None
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
            for child in self._children:
                await child.kill()
            if self._servers is not None:
                await self._servers.stop(within_s=self._left_for_servers())
        return 0 if clean else 1

    async def _keep_servers(self) -> None:
        if self._servers is not None:
            await self._servers.keep_running()

    async def _announce(self) -> None:
        for child in self._children:
            await child.ready.wait()
        for child in self._children:
            child.settled = True
        log.info("all_ready")
        self._on_ready()

    async def _drain(self) -> bool:
        """True when every child ended by itself, whatever it could not finish: what is reserved is on the disk."""
        loop = asyncio.get_running_loop()
        self._drain_began = loop.time()
        log.info("draining", within_s=self._drain_s)
        clean = True
        for stage in Stage:
            children = [child for child in self._children if child.spec.stage is stage]
            ends_at = self._drain_began + _STAGE_ENDS_AT[stage] * self._drain_s
            clean &= all(await asyncio.gather(*(child.end(ends_at, self._hurry) for child in children)))
        return clean

    def _left_for_servers(self) -> float:
        if self._drain_began is None or self._hurry.is_set():
            return _LEAST_SERVERS_STOP_S
        left = self._drain_began + self._drain_s - asyncio.get_running_loop().time()
        return max(left, _LEAST_SERVERS_STOP_S)


class _Kept:
    """One process at a time, started again when it dies, until stopping."""

    def __init__(self, spec: ChildSpec, starts: Starts) -> None:
        self.spec = spec
        self.ready = asyncio.Event()
        self.settled = False
        self._starts = starts
        self._process: Child | None = None

    async def keep(self, stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        pause_s, attempts = _FIRST_PAUSE_S, 0
        while not stop.is_set():
            began = loop.time()
            status = await self._run_once()
            if stop.is_set():
                return
            attempts += 1
            if not self.settled and (attempts >= _ATTEMPTS_BEFORE_READY or status == _BAD_SETTINGS_STATUS):
                raise StartFailed(f"{self.spec.name} does not start (exit status {status})", status=status)
            if loop.time() - began > _STABLE_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            log.error("child_died", child=self.spec.name, status=status, restart_in_s=pause_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await stop.wait()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def end(self, ends_at: float, hurry: asyncio.Event) -> bool:
        """SIGTERM, then the time until `ends_at` or a second signal, then SIGKILL. True if it was not needed."""
        process = self._process
        if process is None or process.returncode is not None:
            return True
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        ended = asyncio.ensure_future(process.wait())
        hurried = asyncio.ensure_future(hurry.wait())
        patience_s = max(ends_at - asyncio.get_running_loop().time(), 0.0)
        try:
            await asyncio.wait({ended, hurried}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return True
            log.error("child_killed", child=self.spec.name, hurried=hurry.is_set())
            await self.kill()
            return False
        finally:
            ended.cancel()
            hurried.cancel()

    async def kill(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def _run_once(self) -> int:
        # Without us nobody would restart or drain it, and its servers die in the same moment: it dies with us.
        process = await self._starts.start(self.spec.argv, self.spec.environment)
        self._process = process
        log.info("child_started", child=self.spec.name, pid=process.pid)
        await self._read_stdout(process)
        return await process.wait()

    async def _read_stdout(self, process: Child) -> None:
        """The ready line is for us; anything else goes where logs go, because our own stdout carries one line."""
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:
                # Longer than the limit: the reader has dropped it.
                continue
            if not line:
                return
            if _is_ready(line):
                self.ready.set()
            else:
                sys.stderr.write(line.decode(errors="replace"))
                sys.stderr.flush()


def _is_ready(line: bytes) -> bool:
    try:
        said = json.loads(line)
    except ValueError:
        return False
    return isinstance(said, dict) and said.get("ready") is True


def _first(errors: BaseExceptionGroup[StartFailed]) -> StartFailed:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
