"""The two ways a process of ours is started, and what its supervisor sees of it.

An interpreter that reads all our code takes a second of a processor for each process. `Forked` has one process read it,
the spawner, which then forks one child for each order: they start at once, and share the memory that the code takes.
Here: our side of it. Not here: the spawner's (`spawner.py`); when a child is started, and what it does.
"""

import asyncio
import itertools
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final, Protocol, Self

import msgspec
import structlog

from gateway.embedded.process import die_with_parent
from gateway.spawner import MAX_ORDER_BYTES, Order, Word

log = structlog.get_logger(__name__)

# A ready line is short; a longer line on a child's stdout is not ours.
MAX_LINE_BYTES: Final = 65_536
_SPAWNER_ENDS_S: Final = 5.0
# The spawner reads its code before it reads orders. Some dozens fit into the socket meanwhile; then we wait.
_FULL_PAUSE_S: Final = 0.02


class Child(Protocol):
    """As `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    stdout: asyncio.StreamReader | None

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


class Starts(Protocol):
    async def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> Child:
        """A child with `environment` on top of ours. It dies when we do, whatever kills us; ^C does not reach it."""


class Executed:
    """An interpreter for each child; `argv` is what comes after it."""

    def __init__(self, interpreter: Sequence[str] = (sys.executable, "-P")) -> None:
        self._interpreter = interpreter

    async def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> Child:
        return await asyncio.create_subprocess_exec(
            *self._interpreter,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            limit=MAX_LINE_BYTES,
            env={**os.environ, **environment},
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGKILL),
        )


class Forked:
    """Children of a spawner, which runs `spawner` with the number of a descriptor behind it and there calls `serve`.

    A spawner that dies takes its children along; the next start brings up another one.
    """

    def __init__(self, spawner: Sequence[str]) -> None:
        self._argv = spawner
        self._process: asyncio.subprocess.Process | None = None
        self._socket: socket.socket | None = None
        self._preparing = asyncio.Lock()
        self._children: dict[int, _ForkedChild] = {}
        self._numbers = itertools.count(1)

    async def __aenter__(self) -> Self:
        """The spawner reads its code while we do something else."""
        await self._prepare()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._socket is not None:
            self._let_go(self._socket)
        if self._process is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SPAWNER_ENDS_S):
                    await self._process.wait()
                return
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def start(self, argv: Sequence[str], environment: Mapping[str, str]) -> Child:
        child = _ForkedChild(await self._stdout())
        number = next(self._numbers)
        order = msgspec.json.encode(Order(number, list(argv), dict(environment)))
        try:
            while True:
                spawner = await self._prepare()
                self._children[number] = child
                try:
                    socket.send_fds(spawner, [order], [child.theirs])
                    break
                except BlockingIOError:
                    await asyncio.sleep(_FULL_PAUSE_S)
                except OSError:
                    # It died just now, which its end of the socket is about to tell.
                    self._lose(spawner)
                    break
        finally:
            os.close(child.theirs)
        await child.begun.wait()
        return child

    async def _prepare(self) -> socket.socket:
        async with self._preparing:
            if self._socket is not None:
                return self._socket
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *self._argv,
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    # Its words go where our logs go; our stdout carries one line.
                    stdout=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    preexec_fn=die_with_parent(signal.SIGKILL),
                )
            ours.setblocking(False)
            self._socket = ours
            asyncio.get_running_loop().add_reader(ours, self._hear, ours)
            return ours

    async def _stdout(self) -> "_Pipe":
        read, write = os.pipe()
        stream = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(read, "rb", 0)
        )
        return _Pipe(stream, write)

    def _hear(self, spawner: socket.socket) -> None:
        while True:
            try:
                said = spawner.recv(MAX_ORDER_BYTES)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                self._lose(spawner)
                return
            word = msgspec.json.decode(said, type=Word)
            if word.status is None:
                self._children[word.number].begin(word.pid)
            else:
                self._children.pop(word.number).end(word.status)

    def _lose(self, spawner: socket.socket) -> None:
        if spawner is self._socket:
            log.error("spawner_died", children=len(self._children))
            self._let_go(spawner)

    def _let_go(self, spawner: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(spawner)
        spawner.close()
        self._socket = None
        # The kernel kills them with it.
        for child in self._children.values():
            child.end(-signal.SIGKILL)
        self._children.clear()


class _Pipe(msgspec.Struct):
    stream: asyncio.StreamReader
    write: int


class _ForkedChild:
    def __init__(self, pipe: _Pipe) -> None:
        self.stdout: asyncio.StreamReader | None = pipe.stream
        self.theirs = pipe.write
        self.pid = 0
        self.returncode: int | None = None
        self.begun = asyncio.Event()
        self._ended = asyncio.Event()

    def begin(self, pid: int) -> None:
        self.pid = pid
        self.begun.set()

    def end(self, status: int) -> None:
        self.returncode = status
        self.begun.set()
        self._ended.set()

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode
