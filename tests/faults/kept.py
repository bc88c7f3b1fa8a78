"""What is started again when it dies, as a supervisor does: servers and the processes of the gateway."""

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from gateway.embedded.binaries import find_valkey_server
from gateway.embedded.postgres import PostgresServer
from gateway.embedded.process import ServerProcess, die_with_parent, end_orphans
from gateway.embedded.valkey import _COMMON, ValkeyServer
from tests.faults.disk import BadDisk

RESTART_PAUSE_S = 0.1
UP_WITHIN_S = 30.0


def send(pids: Sequence[int], number: signal.Signals) -> None:
    """A signal to those that still live."""
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(number)


class BadDiskValkey(ValkeyServer):
    """The orders Valkey of `peakgate up` on a disk that can be made bad."""

    def __init__(self, *, disk: BadDisk | None, **given: Any) -> None:
        super().__init__(**given)
        self._disk = disk

    async def start(self) -> None:
        if self._disk is None:
            await super().start()
            return
        await end_orphans(self._folder, "valkey-server")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        argv = [
            *_preloading(self._disk),
            *(str(find_valkey_server()), *_COMMON, "--dir", str(self._folder), "--unixsocket", str(self._socket)),
            *self._options,
        ]
        await self._process.spawn(argv, cwd=self._folder, death_signal=signal.SIGTERM, leave_root=False)
        await self._process.wait_ready(self._answers, timeout_s=60)


class BadDiskPostgres(PostgresServer):
    """The PostgreSQL of `peakgate up` on a disk that can be made bad, once it is made."""

    def __init__(self, *, disk: BadDisk | None, logs: Path, **given: Any) -> None:
        super().__init__(logs=logs, **given)
        if disk is not None:
            self._process = _Preloaded(self.name, logs / "postgres.log", _preloading(disk))


class _Preloaded(ServerProcess):
    def __init__(self, name: str, log: Path, before: Sequence[str]) -> None:
        super().__init__(name, log)
        self._before = before

    async def spawn(self, argv: Sequence[str], **given: Any) -> None:
        await super().spawn([*self._before, *argv], **given)


def _preloading(disk: BadDisk) -> list[str]:
    """Before a server's command: a private server gets nothing of our own environment."""
    return ["/usr/bin/env", *(f"{name}={value}" for name, value in disk.environment.items())]


class Kept:
    """Something that is started again when it ends, unless it is held down."""

    name: str
    deaths = 0

    def __init__(self) -> None:
        self.held = False
        self.up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        raise NotImplementedError

    async def _start(self) -> None:
        raise NotImplementedError

    async def _ended(self) -> None:
        raise NotImplementedError

    async def start(self) -> None:
        await self._start()
        self.up.set()
        self._task = asyncio.create_task(self._keep(), name=f"keep {self.name}")

    async def let_go(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        while True:
            await self._ended()
            self.up.clear()
            self.deaths += 1
            await asyncio.sleep(RESTART_PAUSE_S)
            while self.held:  # noqa: ASYNC110 - held for seconds by a fault
                await asyncio.sleep(0.02)
            try:
                await self._start()
            except Exception as error:  # a disk that is still full: tried again, as a supervisor would
                print(f"{self.name} does not start: {str(error)[-300:]}", file=sys.stderr)
                await asyncio.sleep(RESTART_PAUSE_S)
            else:
                self.up.set()

    async def is_up(self) -> None:
        async with asyncio.timeout(UP_WITHIN_S):
            await self.up.wait()

    async def died(self, before: int, *, within_s: float = 30.0) -> None:
        """Until it has ended more than `before` times."""
        async with asyncio.timeout(within_s):
            while self.deaths <= before:  # noqa: ASYNC110 - it is another process
                await asyncio.sleep(0.005)

    def pids(self) -> list[int]:
        return [self.pid]


class KeptServer(Kept):
    def __init__(self, name: str, server: ValkeyServer | PostgresServer, folder: Path) -> None:
        super().__init__()
        self.name = name
        self.server = server
        self.folder = folder

    @property
    def pid(self) -> int:
        assert self.server.pid is not None
        return self.server.pid

    def pids(self) -> list[int]:
        """A PostgreSQL is many processes: the first is its own, then its children."""
        with suppress(psutil.NoSuchProcess):
            return [self.pid, *(child.pid for child in psutil.Process(self.pid).children())]
        return [self.pid]

    async def _start(self) -> None:
        await self.server.start()

    async def _ended(self) -> None:
        await self.server.wait_ended()

    async def stop(self) -> None:
        await self.let_go()
        await self.server.stop(within_s=2.0)


class KeptRole(Kept):
    """One process of the gateway, as `peakgate up` or a container would start it."""

    def __init__(self, name: str, environment: dict[str, str], log: Path) -> None:
        super().__init__()
        self.name = name
        self.log = log
        self.starts = 0
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def _start(self) -> None:
        self.ready.clear()
        verb, _, index = self.name.partition(" ")
        argv = ["-m", "gateway", verb, *(["--index", index] if verb == "live" else [])]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", *argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment,
                start_new_session=True,
                preexec_fn=die_with_parent(signal.SIGKILL),
            )
        self.starts += 1
        self._reading = asyncio.create_task(self._read(self._process))

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            with suppress(ValueError):
                if json.loads(line).get("ready"):
                    self.ready.set()

    async def _ended(self) -> None:
        assert self._process is not None
        await self._process.wait()
        self.ready.clear()

    async def stop(self) -> None:
        await self.let_go()
        send(self.pids(), signal.SIGKILL)
        await self._ended()
        if self._reading is not None:
            await asyncio.wait([self._reading])
