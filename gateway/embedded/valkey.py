"""The two private Valkeys: what each is told, and when it is ready.

`orders` answers a write only after its file is on the disk; `rooms` keeps nothing. They listen on a Unix socket only.
"""

import signal
import socket
from pathlib import Path
from typing import Final
from urllib.parse import quote

from gateway.embedded.binaries import find_valkey_server
from gateway.embedded.process import ServerProcess, end_orphans

# Loading an append-only file of a long sale takes its time; it is answered with LOADING until it is done.
_READY_WITHIN_S: Final = 120.0
_PROBE_S: Final = 0.2

_COMMON: Final = (
    *("--port", "0"),
    *("--daemonize", "no"),
    *("--save", ""),
    *("--maxmemory-policy", "noeviction"),
    *("--unixsocketperm", "700"),
)
ORDERS: Final = (
    *("--appendonly", "yes"),
    *("--appendfsync", "always"),
    # The keeper rewrites the file in quiet times, never the server by itself in the peak.
    *("--auto-aof-rewrite-percentage", "0"),
    # What a power cut tore off the end was not answered yet: nothing is answered before it is on the disk.
    *("--aof-load-truncated", "yes"),
)
ROOMS: Final = ("--appendonly", "no")


class ValkeyServer:
    """One Valkey on `folder`; after every start it is the same address and, for `orders`, the same content."""

    def __init__(self, *, role: str, options: tuple[str, ...], folder: Path, sockets: Path, logs: Path) -> None:
        self.name = f"valkey {role}"
        self._role = role
        self._options = options
        self._folder = folder
        self._socket = sockets / f"{role}.sock"
        self._process = ServerProcess(self.name, logs / f"valkey-{role}.log")

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int | None:
        return self._process.pid

    async def start(self) -> None:
        await end_orphans(self._folder, "valkey-server")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        _remove_torn_rewrites(self._folder)
        argv = [
            str(find_valkey_server()),
            *_COMMON,
            *("--dir", str(self._folder)),
            *("--unixsocket", str(self._socket)),
            *("--proc-title-template", f"peakgate {self.name}"),
            *self._options,
        ]
        # SIGTERM also for a death of ours: it writes out what it has and goes at once.
        await self._process.spawn(argv, cwd=self._folder, death_signal=signal.SIGTERM, leave_root=False)
        await self._process.wait_ready(self._answers, timeout_s=_READY_WITHIN_S)

    async def wait_ended(self) -> int | None:
        return await self._process.wait_ended()

    async def stop(self, *, within_s: float) -> None:
        await self._process.end([(signal.SIGTERM, within_s)])

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(_PROBE_S)
            try:
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(64).startswith(b"+PONG")
            except OSError:
                return False


def _remove_torn_rewrites(folder: Path) -> None:
    """A rewrite cut short by a crash leaves its half file behind; the server never looks at it again."""
    for torn in folder.glob("temp-rewriteaof-*.aof"):
        torn.unlink(missing_ok=True)
