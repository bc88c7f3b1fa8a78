import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from gateway.errors import LedgerUnavailable, MigrationError
from gateway.ledger.migrate import MIGRATIONS, migrate, status
from gateway.ledger.pool import Ledger
from gateway.ledger.schema import known_version, require_schema
from tests.support.gateway import PEAKGATE, free_ports
from tests.support.servers import SessionServers


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first (n int);")
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE second (n int);\nINSERT INTO second VALUES (2);")
    return tmp_path


async def value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def test_files_are_applied_in_order_and_only_once(empty_database_url: str, files: Path) -> None:
    applied = await migrate(empty_database_url, folder=files)
    assert [migration.name for migration in applied] == ["first", "second"]
    assert await migrate(empty_database_url, folder=files) == []
    assert await value(empty_database_url, "SELECT count(*) FROM second") == 1


async def test_two_runners_at_once_apply_each_file_once(empty_database_url: str, files: Path) -> None:
    results = await asyncio.gather(*(migrate(empty_database_url, folder=files) for _ in range(4)))
    assert sorted(len(applied) for applied in results) == [0, 0, 0, 2]
    assert await value(empty_database_url, "SELECT count(*) FROM second") == 1


async def test_a_failing_file_is_rolled_back_whole_and_the_ones_before_stay(
    empty_database_url: str, files: Path
) -> None:
    (files / "0003_broken.sql").write_text("CREATE TABLE third (n int); SELECT 1/0;")
    with pytest.raises(MigrationError, match="0003_broken"):
        await migrate(empty_database_url, folder=files)
    assert await value(empty_database_url, "SELECT to_regclass('third')") is None
    assert [each.state for each in await status(empty_database_url, folder=files)] == ["applied", "applied", "pending"]


async def test_an_applied_file_that_was_changed_is_refused_and_nothing_is_applied(
    empty_database_url: str, files: Path
) -> None:
    await migrate(empty_database_url, folder=files)
    (files / "0001_first.sql").write_text("CREATE TABLE first (n bigint);")
    (files / "0003_third.sql").write_text("CREATE TABLE third (n int);")
    with pytest.raises(MigrationError, match=r"0001_first\.sql was changed"):
        await migrate(empty_database_url, folder=files)
    assert await value(empty_database_url, "SELECT to_regclass('third')") is None
    assert [each.state for each in await status(empty_database_url, folder=files)] == ["changed", "applied", "pending"]


async def test_a_database_newer_than_the_code_is_refused(empty_database_url: str, files: Path) -> None:
    await migrate(empty_database_url, folder=files)
    (files / "0002_second.sql").unlink()
    with pytest.raises(MigrationError, match="run a newer version"):
        await migrate(empty_database_url, folder=files)
    assert [each.state for each in await status(empty_database_url, folder=files)] == ["applied", "unknown"]


@pytest.mark.parametrize("name", ["2_short.sql", "0004_gap.sql", "0002_twice.sql", "0003-Dash.sql"])
async def test_a_stray_name_a_gap_or_a_repeated_number_is_an_error(
    empty_database_url: str, files: Path, name: str
) -> None:
    (files / name).write_text("SELECT 1;")
    with pytest.raises(MigrationError):
        await migrate(empty_database_url, folder=files)
    assert await value(empty_database_url, "SELECT to_regclass('first')") is None


async def test_status_changes_nothing(empty_database_url: str, files: Path) -> None:
    assert [each.state for each in await status(empty_database_url, folder=files)] == ["pending", "pending"]
    assert await value(empty_database_url, "SELECT to_regclass('schema_migrations')") is None


async def test_our_own_files_leave_nothing_pending(database_url: str) -> None:
    assert {each.state for each in await status(database_url, folder=MIGRATIONS)} == {"applied"}


async def test_a_database_that_is_away_is_said_to_be_away(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable):
        await migrate(f"postgresql://nobody@/nothing?host={tmp_path}")


# Processes and the version of the ledger.


async def at_version(url: str, version: int) -> None:
    """As newer code would have left the ledger."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("INSERT INTO schema_migrations VALUES ($1, 'later', 'checksum')", version)
    finally:
        await connection.close()


@asynccontextmanager
async def writer_process(database_url: str, servers: SessionServers) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        PEAKGATE,
        "writer",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            **os.environ,
            "DATABASE_URL": database_url,
            "VALKEY_URL": servers.urls.valkey_url,
            "ROOMS_VALKEY_URL": servers.urls.rooms_valkey_url,
            "PEAKGATE_ADMIN_PORT": str(free_ports(1)),
        },
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_code_starts_only_on_the_schema_it_was_written_for(database_url: str, empty_database_url: str) -> None:
    known = known_version()
    ledger = await Ledger.connect(database_url, size=1)
    empty = await Ledger.connect(empty_database_url, size=1)
    try:
        await require_schema(ledger, known)
        with pytest.raises(MigrationError, match="run a newer version"):
            await require_schema(ledger, known - 1)
        for older in (ledger, empty):
            with pytest.raises(MigrationError, match="run `peakgate migrate`"):
                await require_schema(older, known + 1)
    finally:
        await ledger.close()
        await empty.close()


async def test_a_process_ends_when_the_ledger_becomes_newer_and_does_not_start_again(
    database_url: str, servers: SessionServers
) -> None:
    async with writer_process(database_url, servers) as running:
        assert running.stdout is not None
        assert b'"ready": true' in await asyncio.wait_for(running.stdout.readline(), 30)
        await at_version(database_url, known_version() + 1)
        _, said = await asyncio.wait_for(running.communicate(), 15)
    assert running.returncode == 1
    assert b"ledger_is_newer" in said
    assert b"Traceback" not in said
    async with writer_process(database_url, servers) as refused:
        told, said = await asyncio.wait_for(refused.communicate(), 15)
    assert (refused.returncode, told) == (1, b"")
    assert b"run a newer version" in said
