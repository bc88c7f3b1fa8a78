"""A whole gateway as a user starts it: `peakgate up` on a folder of its own, real processes, real sockets."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PEAKGATE = str(Path(sys.executable).parent / "peakgate")
READY_WITHIN_S = 60.0


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on."""
    while True:
        with ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for offset in range(1, count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except (OSError, OverflowError):
                continue
            return port


@dataclass
class Gateway:
    """One `peakgate up`. `stop` ends it as a user would; `kill_all` as a power cut of its processes would."""

    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    workers: int = 1
    port: int = field(default_factory=lambda: free_ports(3))
    process: subprocess.Popen[str] | None = None
    ready: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        argv = [PEAKGATE, "up", "--data", str(self.data), "--port", str(self.port), "--workers", str(self.workers)]
        argv.append("--dev")
        log = (self.data.parent / "log").open("a")
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **self.environment}
        )
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"peakgate up ended with {self.process.wait()}: {self.log()[-2000:]}"
        self.ready = json.loads(line)

    def log(self) -> str:
        return (self.data.parent / "log").read_text()

    @property
    def url(self) -> str:
        return str(self.ready["url"])

    def live_url(self, room: str) -> str:
        return f"{self.ready['live_url']}/v1/rooms/{room}/live"

    @property
    def admin_url(self) -> str:
        return str(self.ready["admin_url"])

    def command(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PEAKGATE, *argv, "--data", str(self.data)],
            capture_output=True,
            text=True,
            check=check,
            timeout=60,
            env={**os.environ, **self.environment},
        )

    def token(self, sub: str, role: str = "viewer", *, shop: str = "shop", ttl: int = 3600) -> str:
        argv = ("token", "--shop", shop, "--sub", sub, "--role", role, "--ttl", str(ttl))
        return self.command(*argv).stdout.strip()

    def tokens(self, sub: str, count: int, *, shop: str = "shop") -> list[str]:
        argv = ("token", "--shop", shop, "--sub", sub, "--role", "viewer", "--count", str(count))
        return self.command(*argv).stdout.split()

    def servers(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.data / "servers.json").read_text())
        return found

    def pids(self, title: str) -> list[int]:
        """Processes of this gateway whose title begins so, such as `peakgate live`."""
        assert self.process is not None
        listed = subprocess.run(["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()]
        children: dict[int, list[int]] = {}
        args: dict[int, str] = {}
        for pid, parent, *rest in rows:
            children.setdefault(int(parent), []).append(int(pid))
            args[int(pid)] = rest[0] if rest else ""
        found, queue = [], [self.process.pid]
        while queue:
            pid = queue.pop()
            queue += children.get(pid, [])
            if args.get(pid, "").startswith(title):
                found.append(pid)
        return found

    def stop(self, *, within_s: float = 20.0) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def kill_all(self) -> None:
        """kill -9 of everything at once, the embedded servers too."""
        assert self.process is not None
        pids = self.pids("")
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait(10)
        deadline = time.monotonic() + 10
        while any(_alive(pid) for pid in pids):
            assert time.monotonic() < deadline, "a killed process lives on"
            time.sleep(0.01)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def running_gateway(*, workers: int = 1, **environment: str) -> Iterator[Gateway]:
    """A gateway in a temporary folder; whatever a test did to it, nothing of it is left behind."""
    folder = Path(tempfile.mkdtemp(prefix="peakgate-e2e-"))
    gateway = Gateway(data=folder / "data", environment=environment, workers=workers)
    try:
        gateway.start()
        yield gateway
    finally:
        if gateway.process is not None:
            if gateway.process.poll() is None:
                gateway.kill_all()
            assert gateway.process.stdout is not None
            gateway.process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)
