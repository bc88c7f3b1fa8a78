import asyncio
import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis

from gateway.embedded import DataFolder, EmbeddedServers, RunningGateway, ServerUrls
from gateway.embedded.folder import MAX_SOCKET_PATH_BYTES
from gateway.errors import DataFolderInUse, EmbeddedServerError, SettingsError
from tests.support.servers import SessionServers, eventually

# An owner that stores something, says where, and waits to be killed.
OWNER = """
import asyncio, json, sys, redis, asyncpg
from dataclasses import asdict
from pathlib import Path
from gateway.embedded import DataFolder, EmbeddedServers

async def main():
    servers = EmbeddedServers(DataFolder(Path(sys.argv[1])))
    urls = await servers.start()
    redis.Redis.from_url(urls.valkey_url).set("answered", "yes")
    connection = await asyncpg.connect(urls.database_url)
    await connection.execute("CREATE TABLE IF NOT EXISTS kept (n int)")
    await connection.execute("INSERT INTO kept VALUES (1)")
    print(json.dumps({"urls": asdict(urls), "pids": servers.pids}), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@contextlib.contextmanager
def owner_process(data: Path) -> Iterator[tuple[subprocess.Popen[str], dict[str, dict[str, str]]]]:
    with subprocess.Popen([sys.executable, "-c", OWNER, str(data)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@contextlib.asynccontextmanager
async def started(data: Path) -> AsyncIterator[tuple[EmbeddedServers, ServerUrls]]:
    servers = EmbeddedServers(DataFolder(data))
    urls = await servers.start()
    try:
        yield servers, urls
    finally:
        await servers.stop()


async def kept_rows(urls: ServerUrls) -> int:
    connection = await asyncpg.connect(urls.database_url)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM kept"))
    finally:
        await connection.close()


def alive(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def test_orders_are_on_the_disk_before_they_are_answered_and_rooms_are_not(servers: SessionServers) -> None:
    with redis.Redis.from_url(servers.urls.valkey_url, decode_responses=True) as orders:
        told = orders.config_get("*")
        assert (told["appendonly"], told["appendfsync"], told["maxmemory-policy"]) == ("yes", "always", "noeviction")
        assert (told["auto-aof-rewrite-percentage"], told["save"], told["port"]) == ("0", "", "0")
    with redis.Redis.from_url(servers.urls.rooms_valkey_url, decode_responses=True) as rooms:
        told = rooms.config_get("*")
        assert (told["appendonly"], told["save"], told["port"]) == ("no", "", "0")


async def test_postgres_commits_durably_and_listens_on_nothing_but_its_socket(servers: SessionServers) -> None:
    connection = await asyncpg.connect(servers.urls.database_url)
    try:
        for name, value in {"fsync": "on", "synchronous_commit": "on", "listen_addresses": "", "jit": "off"}.items():
            assert await connection.fetchval("SELECT current_setting($1)", name) == value
        assert await connection.fetchval("SELECT current_database()") == "peakgate"
    finally:
        await connection.close()


async def test_what_was_stored_is_there_after_kill_9_of_everything(tmp_path: Path) -> None:
    for round_number in (1, 2):
        with owner_process(tmp_path / "data") as (owner, told):
            family = psutil.Process(owner.pid).children(recursive=True)
            for process in [owner.pid, *(child.pid for child in family)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            owner.wait()
        # Nothing is waited for in between: whoever comes next copes with what is still dying.
        async with started(tmp_path / "data") as (_, urls):
            with redis.Redis.from_url(urls.valkey_url, decode_responses=True) as orders:
                assert orders.get("answered") == "yes"
            assert await kept_rows(urls) == round_number
            assert told["urls"]["valkey_url"] == urls.valkey_url


async def test_servers_die_with_their_owner_and_the_next_one_starts_at_once(tmp_path: Path) -> None:
    with owner_process(tmp_path / "data") as (owner, told):
        owner.kill()
        owner.wait()

        async def gone() -> bool:
            return not any(alive(int(pid)) for pid in told["pids"].values())

        await eventually(gone)
    async with started(tmp_path / "data") as (_, urls):
        assert await kept_rows(urls) == 1


async def test_a_second_owner_is_told_who_the_first_is_and_harms_nothing(tmp_path: Path) -> None:
    with owner_process(tmp_path / "data") as (owner, told):
        second = EmbeddedServers(DataFolder(tmp_path / "data"))
        with pytest.raises(DataFolderInUse, match=str(owner.pid)):
            await second.start()
        assert all(alive(int(pid)) for pid in told["pids"].values())
        assert await kept_rows(ServerUrls(**told["urls"])) == 1


async def test_a_server_that_dies_is_started_again_with_its_content(tmp_path: Path) -> None:
    async with started(tmp_path / "data") as (servers, urls):
        keeping = asyncio.create_task(servers.keep_running())
        with redis.Redis.from_url(urls.valkey_url) as orders:
            orders.set("answered", "yes")
        connection = await asyncpg.connect(urls.database_url)
        await connection.execute("CREATE TABLE kept (n int)")
        await connection.close()
        before = servers.pids
        for pid in before.values():
            assert pid is not None
            os.kill(pid, signal.SIGKILL)

        async def back() -> bool:
            with (
                contextlib.suppress(redis.RedisError, OSError, asyncpg.PostgresError),
                redis.Redis.from_url(urls.valkey_url) as orders,
                redis.Redis.from_url(urls.rooms_valkey_url) as rooms,
            ):
                return orders.get("answered") == b"yes" and bool(rooms.ping()) and await kept_rows(urls) == 0
            return False

        await eventually(back)
        assert all(servers.pids[name] != pid for name, pid in before.items())
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping


async def test_a_path_too_long_for_sockets_is_no_hindrance(tmp_path: Path) -> None:
    data = tmp_path / ("long" * 25) / "data"
    async with started(data) as (_, urls):
        sockets = Path(urls.valkey_url.removeprefix("unix://")).parent
        assert len(os.fsencode(sockets / ".s.PGSQL.5432.lock")) <= MAX_SOCKET_PATH_BYTES
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        with redis.Redis.from_url(urls.valkey_url) as orders:
            assert orders.ping()
    assert not sockets.exists()


async def test_everything_is_private(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "data")
    await folder.acquire()
    assert folder.secret("log") == folder.secret("log") and len(folder.secret("log")) == 32
    folder.announce(RunningGateway(pid=1, valkey_url="a", rooms_valkey_url="b", database_url="c", embedded=True))
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.path.iterdir()} == {0o600}
    folder.release()


async def test_a_running_gateway_is_found_only_while_it_holds_the_folder(tmp_path: Path) -> None:
    running = RunningGateway(pid=1, valkey_url="a", rooms_valkey_url="b", database_url="c", embedded=True)
    asking = DataFolder(tmp_path / "data")
    assert asking.find_running() is None
    folder = DataFolder(tmp_path / "data")
    await folder.acquire()
    assert asking.find_running() is None
    folder.announce(running)
    assert asking.find_running() == running
    folder.release()
    assert asking.find_running() is None


def test_somebodys_own_folder_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("dear")
    tmp_path.chmod(0o755)
    with pytest.raises(SettingsError, match="is not empty"):
        asyncio.run(EmbeddedServers(DataFolder(tmp_path)).start())
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_server_that_cannot_start_says_why_and_frees_the_folder(tmp_path: Path) -> None:
    async def start_on_broken_files() -> None:
        async with started(tmp_path / "data"):
            pass
        (tmp_path / "data" / "postgres" / "PG_VERSION").unlink()
        with pytest.raises(EmbeddedServerError, match="postgres ended while it started"):
            await EmbeddedServers(DataFolder(tmp_path / "data")).start()
        folder = DataFolder(tmp_path / "data")
        await folder.acquire()
        folder.release()

    asyncio.run(start_on_broken_files())
