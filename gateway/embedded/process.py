"""One server process: how it is started so that it never outlives us, how it ends, and who still lives in its folder.

Here: what the kernel offers for that (parent death signal, user namespace, /proc). Not here: what a server needs to
be told.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from gateway.errors import EmbeddedServerError

_PR_SET_PDEATHSIG: Final = 1
_CLONE_NEWUSER: Final = 0x10000000
# PostgreSQL only asks not to be user 0; inside the namespace it is this one, outside it stays who we are.
_UNPRIVILEGED_ID: Final = 1000
_LINUX: Final = sys.platform == "linux"
# Loaded before any fork: between fork and exec nothing may be imported.
_LIBC: Final = ctypes.CDLL(None, use_errno=True) if _LINUX else None

# What orphans get to end by themselves, after a death signal or a lost postmaster; then they are ended.
_ORPHANS_END_S: Final = 5.0
_POLL_S: Final = 0.01
# Server logs are for people; two files of this size a server are kept.
_MAX_LOG_BYTES: Final = 8_000_000


def die_with_parent(death_signal: signal.Signals, *, leave_root: bool = False) -> Callable[[], None]:
    """What a child runs between fork and exec: it gets `death_signal` when the thread that started it ends.

    With `leave_root` and as root it also enters a user namespace where it is an ordinary user. The files it makes still
    belong to us, private parent folders stay reachable, and no system user is made.
    """
    parent = os.getpid()
    enter_namespace = leave_root and _LINUX and os.geteuid() == 0
    uid, gid = os.geteuid(), os.getegid()

    def prepare() -> None:
        if _LIBC is None:
            return
        if enter_namespace:
            if _LIBC.unshare(_CLONE_NEWUSER) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{_UNPRIVILEGED_ID} {uid} 1")
            _write("/proc/self/gid_map", f"{_UNPRIVILEGED_ID} {gid} 1")
        # After the namespace: changing credentials clears the death signal.
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:
            # The parent died before it could be noticed.
            os._exit(1)

    return prepare


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)


def clean_environment() -> dict[str, str]:
    """Nothing of ours: PGDATA, PGPORT, a locale or a preload of the caller must not reach a private server."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


class ServerProcess:
    """A started server; its output goes to `log`, it is in a session of its own so that a terminal's ^C misses it."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self._log = log
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def spawn(self, argv: Sequence[str], *, cwd: Path, death_signal: signal.Signals, leave_root: bool) -> None:
        with _open_log(self._log) as log:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=cwd,
                    env=clean_environment(),
                    start_new_session=True,
                    preexec_fn=die_with_parent(death_signal, leave_root=leave_root),
                )
            except OSError as error:
                raise EmbeddedServerError(f"{self.name} cannot be started: {error}") from error

    async def wait_ended(self) -> int | None:
        return await self._process.wait() if self._process else None

    async def wait_ready(self, is_ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Polls, because neither server tells its parent; a process that ends first is an error with its last words."""
        try:
            async with asyncio.timeout(timeout_s):
                while not is_ready():
                    if not self.alive:
                        raise EmbeddedServerError(f"{self.name} ended while it started:\n{last_words(self._log)}")
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise EmbeddedServerError(
                f"{self.name} was not ready within {timeout_s:g} s:\n{last_words(self._log)}"
            ) from None

    async def end(self, signals: Sequence[tuple[signal.Signals, float]]) -> None:
        """Each signal in turn with the time it is given; SIGKILL after the last one."""
        process = self._process
        if process is None:
            return
        for number, patience_s in [*signals, (signal.SIGKILL, 5.0)]:
            if process.returncode is not None:
                return
            with suppress(ProcessLookupError):
                process.send_signal(number)
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    await process.wait()


async def run_tool(
    name: str, argv: Sequence[str], *, cwd: Path, stdin: bytes = b"", environment: Mapping[str, str] | None = None
) -> None:
    """A short program such as `initdb`, in the same surroundings as the server it prepares."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd=cwd,
            env={**clean_environment(), **(environment or {})},
            start_new_session=True,
            preexec_fn=die_with_parent(signal.SIGKILL, leave_root=True),
        )
    except (OSError, ValueError) as error:
        raise EmbeddedServerError(f"{name} cannot be started: {error}") from error
    output, _ = await process.communicate(stdin)
    if process.returncode != 0:
        raise EmbeddedServerError(f"{name} failed ({process.returncode}):\n{output.decode(errors='replace')[-2000:]}")


async def end_orphans(folder: Path, executable: str, *, patience_s: float = _ORPHANS_END_S) -> None:
    """Return when no living process of a former owner works in `folder`, killing those left after `patience_s`.

    The caller holds the data folder's lock.

    Only processes of that executable count, so that a shell somebody left in the folder is never touched.
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    while living := _living_in(folder, executable):
        if loop.time() - began > patience_s:
            for pid in living:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if loop.time() - began > patience_s + _ORPHANS_END_S:
            raise EmbeddedServerError(f"processes {living} of an earlier {executable} still use {folder}")
        await asyncio.sleep(_POLL_S)


def _living_in(folder: Path, executable: str) -> list[int]:
    """A zombie has no working directory any more, so it does not count. Without /proc nobody is found."""
    wanted = os.path.realpath(folder)
    found = []
    with suppress(FileNotFoundError):
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                if os.readlink(f"{entry.path}/cwd") != wanted:
                    continue
                program = os.path.basename(os.readlink(f"{entry.path}/exe")).removesuffix(" (deleted)")
                if program == executable:
                    found.append(int(entry.name))
    return found


def last_words(log: Path) -> str:
    with suppress(OSError):
        return log.read_bytes()[-2000:].decode(errors="replace").strip()
    return "(no output)"


def _open_log(path: Path) -> "_OpenLog":
    return _OpenLog(path)


class _OpenLog:
    """The log file for a child's output, turned over once it is large."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> int:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):
            if self._path.stat().st_size > _MAX_LOG_BYTES:
                os.replace(self._path, self._path.with_suffix(".log.old"))
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
