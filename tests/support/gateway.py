"""A whole gateway as a user starts it: `peakgate up` on a folder of its own, real processes, real sockets."""

import asyncio
import atexit
import functools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.admission.tokens import mint_token
from gateway.domain.caller import Role
from gateway.embedded.postgres import PostgresServer
from gateway.embedded.process import die_with_parent
from gateway.ledger.migrate import migrate
from gateway.ledger.shops import ShopKey, Shops, Signs

PEAKGATE = str(Path(sys.executable).parent / "peakgate")
READY_WITHIN_S = 60.0
_ANYWHERE = random.SystemRandom()


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on; below those that the system gives to whoever
    connects, and anywhere there, so that tests that run side by side find different ones."""
    while True:
        port = _ANYWHERE.randrange(10_000, _first_given_port() - count)
        with ExitStack() as held:
            try:
                for offset in range(count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except OSError:
                continue
            return port


def _first_given_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except OSError:
        return 32_768


@dataclass
class Gateway:
    """One `peakgate up`. `stop` ends it as a user would; `kill_all` as a power cut of its processes would."""

    data: Path
    environment: dict[str, str] = field(default_factory=dict)
    workers: int = 1
    dev: bool = True
    port: int = field(default_factory=lambda: free_ports(3))
    process: subprocess.Popen[str] | None = None
    ready: dict[str, Any] = field(default_factory=dict)
    _keys: dict[tuple[str, Signs], ShopKey] = field(default_factory=dict)

    def start(self) -> None:
        argv = [PEAKGATE, "up", "--data", str(self.data), "--port", str(self.port), "--workers", str(self.workers)]
        if self.dev:
            argv.append("--dev")
        log = (self.data.parent / "log").open("a")
        self.process = subprocess.Popen(
            argv,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, **self.environment},
            # Also when it is the tests that are killed; whatever it started goes with it.
            preexec_fn=die_with_parent(signal.SIGKILL),
        )
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"peakgate up ended with {self.process.wait()}: {self.log()[-2000:]}"
        self.ready = json.loads(line)
        self._keys.clear()

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

    def token(
        self, sub: str, role: str = "viewer", *, shop: str = "shop", ttl: int = 3600, signed_s: int | None = None
    ) -> str:
        """As `peakgate token` signs it, without a process for each; an unknown shop is made."""
        key = self._key(shop, Signs.VIEWER if role == "viewer" else Signs.STAFF)
        return mint_token(
            kid=key.kid, secret=key.secret, shop=shop, sub=sub, role=Role(role), ttl_s=ttl, now_s=signed_s
        )

    def tokens(self, sub: str, count: int, *, shop: str = "shop") -> list[str]:
        return [self.token(f"{sub}-{number}", shop=shop) for number in range(1, count + 1)]

    def _key(self, shop: str, signs: Signs) -> ShopKey:
        if (shop, signs) not in self._keys:

            async def read() -> ShopKey:
                async with Shops.connect(self.servers()["database_url"]) as shops:
                    return (await shops.get_or_create(shop)).key_for(signs)

            # In a thread, because who asks may have a loop that runs.
            with ThreadPoolExecutor(1) as thread:
                self._keys[shop, signs] = thread.submit(asyncio.run, read()).result()
        return self._keys[shop, signs]

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


@functools.cache
def _made_ledger() -> Path:
    """A PostgreSQL's folder with the schema of the ledger and nothing in it."""
    folder = Path(tempfile.mkdtemp(prefix="peakgate-made-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)

    async def make() -> None:
        server = PostgresServer(folder=folder / "postgres", sockets=folder, logs=folder / "logs")
        try:
            await server.start()
            await migrate(server.url)
        finally:
            await server.stop(within_s=10)

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, make()).result()
    return folder / "postgres"


@contextmanager
def running_gateway(
    *, workers: int = 1, first_start: bool = False, dev: bool = True, **environment: str
) -> Iterator[Gateway]:
    """A gateway in a temporary folder; whatever a test did to it, nothing of it is left behind.

    Its ledger is a copy of one that was made before, unless it is to be a `first_start`, as of an empty folder.
    """
    folder = Path(tempfile.mkdtemp(prefix="peakgate-e2e-"))
    gateway = Gateway(data=folder / "data", environment=environment, workers=workers, dev=dev)
    try:
        if not first_start:
            gateway.data.mkdir(mode=0o700)
            # What tells a gateway that the folder is one of its own.
            (gateway.data / "lock").touch(mode=0o600)
            copy = ["cp", "-a", "--reflink=auto", _made_ledger(), gateway.data / "postgres"]
            subprocess.run(copy, check=True)
        gateway.start()
        yield gateway
    finally:
        if gateway.process is not None:
            if gateway.process.poll() is None:
                gateway.kill_all()
            assert gateway.process.stdout is not None
            gateway.process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)
