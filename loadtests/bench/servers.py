"""The Valkey and PostgreSQL servers that every part of the bench shares, and what is done to them on purpose.

All ways that are compared use the same two processes with their files on the same disk: Valkey with an append-only
file and `appendfsync always`, PostgreSQL with `fsync` and `synchronous_commit` on. `require_durable` asks the running
servers themselves and stops the bench when either answers otherwise.

What is done to PostgreSQL (`frozen`, `checkpoint`) needs only a database URL and a server on this machine.
"""

import asyncio
import contextlib
import os
import platform
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import psutil
import redis.asyncio

from gateway.embedded import DataFolder, EmbeddedServers

RIVALS_DATABASE = "bench_rivals"
GATEWAY_DATABASE = "bench_gateway"
_PAGE_BYTES = 4096


class NotDurable(RuntimeError):
    """A server of the bench would lose committed work, so its figures would compare nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Where the shared servers are: what `peakgate` and the rivals are both given."""

    valkey_url: str
    rooms_valkey_url: str
    database_url: str
    """Of the database `bench_gateway`."""
    rivals_url: str
    """A database of its own on the same PostgreSQL server, so that a rival's tables never meet the ledger's."""
    started_by: str


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on right now."""
    for _ in range(50):
        with contextlib.ExitStack() as held:
            first = held.enter_context(socket.socket())
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            try:
                for offset in range(1, count):
                    held.enter_context(socket.socket()).bind(("127.0.0.1", port + offset))
            except (OSError, OverflowError):
                continue
            return port
    raise RuntimeError(f"no {count} neighbouring free ports")


async def ensure_database(url: str, name: str) -> str:
    """Create the database `name` beside that of `url` if it is missing; return its URL."""
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
            await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    head, _, query = url.partition("?")
    return head.rsplit("/", 1)[0] + "/" + name + ("?" + query if query else "")


@contextlib.asynccontextmanager
async def shared_servers() -> AsyncIterator[Servers]:
    """The servers of one run: those named in the environment, else embedded ones in a temporary folder.

    `BENCH_VALKEY_URL`, `BENCH_ROOMS_VALKEY_URL` and `BENCH_DATABASE_URL` point the bench at servers that already run;
    all three are needed. The bench erases everything in those Valkeys; in PostgreSQL it touches only its own two
    databases. `BENCH_DATA` says in which folder, and so on which disk, the embedded servers keep their files.
    """
    urls = [os.environ.get(name) for name in ("BENCH_VALKEY_URL", "BENCH_ROOMS_VALKEY_URL", "BENCH_DATABASE_URL")]
    if all(urls):
        valkey_url, rooms_valkey_url, database_url = (str(url) for url in urls)
        yield Servers(
            valkey_url=valkey_url,
            rooms_valkey_url=rooms_valkey_url,
            database_url=await ensure_database(database_url, GATEWAY_DATABASE),
            rivals_url=await ensure_database(database_url, RIVALS_DATABASE),
            started_by="somebody else (URLs from the environment)",
        )
        return
    folder = Path(tempfile.mkdtemp(prefix="peakgate-bench-", dir=os.environ.get("BENCH_DATA")))
    embedded = EmbeddedServers(DataFolder(folder))
    try:
        urls_of = await embedded.start()
        try:
            yield Servers(
                valkey_url=urls_of.valkey_url,
                rooms_valkey_url=urls_of.rooms_valkey_url,
                database_url=await ensure_database(urls_of.database_url, GATEWAY_DATABASE),
                rivals_url=await ensure_database(urls_of.database_url, RIVALS_DATABASE),
                started_by="the bench, embedded, on Unix sockets",
            )
        finally:
            await embedded.stop(within_s=15)
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def empty(servers: Servers) -> None:
    """Make the gateway's database anew and erase both Valkeys, so that each run starts on the same nothing."""
    connection = await asyncpg.connect(servers.rivals_url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{GATEWAY_DATABASE}" WITH (FORCE)')
        await connection.execute(f'CREATE DATABASE "{GATEWAY_DATABASE}"')
    finally:
        await connection.close()
    for url in (servers.valkey_url, servers.rooms_valkey_url):
        client = redis.asyncio.Redis.from_url(url)
        try:
            await client.flushall()
        finally:
            await client.aclose()


async def require_durable(servers: Servers) -> dict[str, str]:
    """Ask both servers for the settings that make a commit a commit; raise `NotDurable` when one is off."""
    connection = await asyncpg.connect(servers.rivals_url)
    try:
        names = ("fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "max_wal_size", "wal_sync_method")
        found = {f"postgresql.{name}": str(await connection.fetchval(f"SHOW {name}")) for name in names}
    finally:
        await connection.close()
    client = redis.asyncio.Redis.from_url(servers.valkey_url, decode_responses=True)
    try:
        for name in ("appendonly", "appendfsync"):
            found[f"valkey.{name}"] = str((await client.config_get(name))[name])
    finally:
        await client.aclose()
    wanted = {
        "postgresql.fsync": "on",
        "postgresql.synchronous_commit": "on",
        "valkey.appendonly": "yes",
        "valkey.appendfsync": "always",
    }
    for name, value in wanted.items():
        if found[name] != value:
            raise NotDurable(f"{name} is {found[name]!r}; the bench compares nothing unless it is {value!r}")
    return found


async def versions(servers: Servers) -> dict[str, str]:
    """What ran: interpreter, servers and the libraries on the way of an order."""
    from importlib.metadata import version

    connection = await asyncpg.connect(servers.rivals_url)
    try:
        postgres = str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()
    client = redis.asyncio.Redis.from_url(servers.valkey_url, decode_responses=True)
    try:
        told = await client.info("server")
    finally:
        await client.aclose()
    valkey = str(told.get("valkey_version") or told.get("redis_version"))
    libraries = {name: version(name) for name in ("asyncpg", "redis", "picows", "uvloop", "msgspec")}
    return {
        "python": platform.python_version(),
        "postgresql": postgres,
        "valkey": valkey,
        "system": f"{platform.system()} {platform.release()}",
        **libraries,
    }


async def postgres_processes(database_url: str) -> list[psutil.Process]:
    """The postmaster and all its children, found through the server's own data directory."""
    connection = await asyncpg.connect(database_url)
    try:
        folder = str(await connection.fetchval("SHOW data_directory"))
    finally:
        await connection.close()
    pid = int((await asyncio.to_thread((Path(folder) / "postmaster.pid").read_text)).split()[0])
    postmaster = psutil.Process(pid)
    return [postmaster, *postmaster.children(recursive=True)]


async def valkey_process(url: str) -> psutil.Process:
    client = redis.asyncio.Redis.from_url(url, decode_responses=True)
    try:
        return psutil.Process(int((await client.info("server"))["process_id"]))
    finally:
        await client.aclose()


async def frozen(database_url: str, *, for_s: float) -> None:
    """PostgreSQL does not answer for `for_s` seconds: every process of it is stopped, then goes on.

    To the clients this is what a hung disk or a cut network looks like: connections stay, nothing comes back.
    """
    processes = await postgres_processes(database_url)
    try:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(for_s)
    finally:
        for process in reversed(processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


async def backends_killed(database_url: str) -> int:
    """Every client's connection ends at once, as in a restart of the server; returns how many there were."""
    connection = await asyncpg.connect(database_url)
    try:
        query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
        return int(await connection.fetchval(query + "AND backend_type = 'client backend'"))
    finally:
        await connection.close()


async def checkpoint(database_url: str) -> float:
    """Force a checkpoint; returns how many seconds it took."""
    connection = await asyncpg.connect(database_url)
    try:
        started = time.perf_counter()
        await connection.execute("CHECKPOINT")
        return time.perf_counter() - started
    finally:
        await connection.close()


def kernel_tcp_bytes() -> int:
    """Pages that the kernel holds for TCP buffers, both ends of all connections of this machine."""
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        words = line.split()
        if words[0] == "TCP:":
            return int(words[words.index("mem") + 1]) * _PAGE_BYTES
    return 0


def python_module(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"loadtests.bench.{name}", *arguments]
