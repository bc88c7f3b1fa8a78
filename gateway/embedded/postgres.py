"""The private PostgreSQL: made once, started on a Unix socket only, durable as a real one.

It refuses to run as root; then it runs in a user namespace where it is an ordinary user (`process.die_with_parent`).
"""

import os
import shutil
import signal
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.embedded.binaries import find_postgres_binaries
from gateway.embedded.process import ServerProcess, end_orphans, run_tool
from gateway.errors import EmbeddedServerError

USER: Final = "peakgate"
DATABASE: Final = "peakgate"
_SOCKET_NAME: Final = ".s.PGSQL.5432"
# A start after a kill replays at most `max_wal_size` of log.
_READY_WITHIN_S: Final = 120.0

# Trust is safe here: the only way in is a socket in a folder that only its owner may enter.
_INITDB: Final = (
    *("--username", USER),
    *("--encoding", "UTF8"),
    *("--locale", "C"),
    *("--locale-provider", "builtin"),
    *("--builtin-locale", "C.UTF-8"),
    *("--auth-local", "trust"),
    *("--auth-host", "reject"),
    "--no-instructions",
)
_SETTINGS: Final = {
    "listen_addresses": "",
    "cluster_name": "peakgate",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "100",
    "shared_buffers": "256MB",
    # A checkpoint in the peak second costs latency: far apart, and spread out.
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    # These binaries carry neither lz4 nor zstd.
    "wal_compression": "pglz",
    # The statements are short; compiling them costs more than it gives.
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer:
    """One PostgreSQL on `folder` with the database `peakgate`; survives `kill -9` of itself and of everything."""

    name = "postgres"

    def __init__(self, *, folder: Path, sockets: Path, logs: Path) -> None:
        self._folder = folder
        self._sockets = sockets
        self._process = ServerProcess(self.name, logs / "postgres.log")

    @property
    def url(self) -> str:
        return f"postgresql://{USER}@/{DATABASE}?host={quote(str(self._sockets))}"

    @property
    def pid(self) -> int | None:
        return self._process.pid

    async def start(self) -> None:
        binaries = find_postgres_binaries()
        await end_orphans(self._folder, "postgres")
        if not self._folder.exists():
            await self._make(binaries)
        self._remove_stale_locks()
        argv = [str(binaries / "postgres"), "-D", str(self._folder), "-k", str(self._sockets)]
        for name, value in _SETTINGS.items():
            argv += ["-c", f"{name}={value}"]
        # On our death SIGQUIT: gone at once, so that the next start need not wait; the log brings everything back.
        await self._process.spawn(argv, cwd=self._folder, death_signal=signal.SIGQUIT, leave_root=True)
        await self._process.wait_ready(self._says_ready, timeout_s=_READY_WITHIN_S)

    async def wait_ended(self) -> int | None:
        return await self._process.wait_ended()

    async def stop(self, *, within_s: float) -> None:
        """Fast shutdown writes a checkpoint; when that takes too long, an immediate one loses nothing either."""
        await self._process.end([(signal.SIGINT, within_s), (signal.SIGQUIT, 0.5)])
        # A postmaster that had to be killed leaves children that hang as it did.
        await end_orphans(self._folder, "postgres", patience_s=0.2)

    async def _make(self, binaries: Path) -> None:
        """Made beside its place and moved there whole, so that a kill in the middle leaves nothing half made."""
        making = self._folder.with_name(f"{self._folder.name}.making")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        try:
            await run_tool("initdb", [str(binaries / "initdb"), "-D", str(making), *_INITDB], cwd=making)
            single = [str(binaries / "postgres"), "--single", "-D", str(making), "postgres"]
            await run_tool("postgres --single", single, cwd=making, stdin=f"CREATE DATABASE {DATABASE}\n".encode())
        except EmbeddedServerError as error:
            if os.geteuid() != 0:
                raise
            raise EmbeddedServerError(
                f"{error.message}\n(As root PostgreSQL runs in a user namespace. If the machine forbids those, or a "
                "parent folder of the data folder belongs to another user and is private: run peakgate as an ordinary "
                "user, choose another --data, or set DATABASE_URL, VALKEY_URL and ROOMS_VALKEY_URL.)"
            ) from error
        os.rename(making, self._folder)

    def _remove_stale_locks(self) -> None:
        """Of a killed server. A zombie's pid still looks alive to PostgreSQL, so it would refuse to start by itself.

        Safe because the data folder's lock is ours and no living process works in the folder.
        """
        (self._folder / "postmaster.pid").unlink(missing_ok=True)
        for name in (_SOCKET_NAME, f"{_SOCKET_NAME}.lock"):
            (self._sockets / name).unlink(missing_ok=True)

    def _says_ready(self) -> bool:
        """The eighth line of `postmaster.pid` is the state, and the first one whose it is."""
        try:
            lines = (self._folder / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self._process.pid) and lines[7].strip() == "ready"
