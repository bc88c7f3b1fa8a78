"""The runner of the numbered SQL files in `migrations/`: forward only, each once, each in its own transaction.

Here: order, checksums, the lock. Not here: the schema, which is the files themselves. There is no way back: a
later file undoes what an earlier one did wrong.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

import asyncpg

from gateway.errors import LedgerUnavailable, MigrationError

MIGRATIONS: Final = Path(__file__).with_name("migrations")

_FILE_NAME: Final = re.compile(r"(?P<version>\d{4})_(?P<name>[a-z0-9_]+)\.sql")
# An arbitrary number that only migrations of this schema lock.
_LOCK_ID: Final = 0x7065616B67617465
_CONNECT_WITHIN_S: Final = 5.0

_TABLE: Final = """
    CREATE TABLE IF NOT EXISTS schema_migrations (
        version    int PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    )
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A numbered file as the code has it."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationStatus:
    version: int
    name: str
    state: Literal["applied", "pending", "changed", "unknown"]
    applied_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Applied:
    name: str
    checksum: str
    applied_at: datetime


async def migrate(database_url: str, *, folder: Path = MIGRATIONS) -> list[Migration]:
    """Apply what is missing and return it. Whoever comes second waits for the first, then finds nothing to do.

    Raises `MigrationError`, having changed nothing, when an applied file was changed or the database is newer than the
    code. A file that fails is rolled back whole; the ones before it stay applied.
    """
    migrations = read_migrations(folder)
    connection = await _connect(database_url)
    try:
        # Held by the session, so that it spans the transactions of all files.
        await connection.execute("SELECT pg_advisory_lock($1)", _LOCK_ID)
        await connection.execute(_TABLE)
        applied = await _read_applied(connection)
        _refuse_foreign_history(migrations, applied)
        missing = [migration for migration in migrations if migration.version not in applied]
        for migration in missing:
            await _apply(connection, migration)
        return missing
    finally:
        # Closing the session gives the lock back.
        await connection.close()


async def status(database_url: str, *, folder: Path = MIGRATIONS) -> list[MigrationStatus]:
    """Every migration that the code or the database knows, in order; changes nothing."""
    migrations = {migration.version: migration for migration in read_migrations(folder)}
    connection = await _connect(database_url)
    try:
        exists = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
        applied = await _read_applied(connection) if exists else {}
    finally:
        await connection.close()
    return [
        _status(version, migrations.get(version), applied.get(version))
        for version in sorted(migrations.keys() | applied.keys())
    ]


def read_migrations(folder: Path) -> list[Migration]:
    """The files in order; a stray name, a gap or a number used twice is an error, not a guess."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name} is not named NNNN_name.sql")
        migrations.append(
            Migration(version=int(match["version"]), name=match["name"], sql=path.read_text(encoding="utf-8"))
        )
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise MigrationError(f"migration {expected:04d} is missing or there twice ({migration.name} follows)")
    return migrations


async def _connect(database_url: str) -> asyncpg.Connection:
    try:
        return await asyncpg.connect(database_url, timeout=_CONNECT_WITHIN_S)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
        raise LedgerUnavailable(f"PostgreSQL cannot be reached: {error}") from error


async def _read_applied(connection: asyncpg.Connection) -> dict[int, _Applied]:
    rows = await connection.fetch("SELECT version, name, checksum, applied_at FROM schema_migrations")
    return {
        row["version"]: _Applied(name=row["name"], checksum=row["checksum"], applied_at=row["applied_at"])
        for row in rows
    }


def _refuse_foreign_history(migrations: list[Migration], applied: dict[int, _Applied]) -> None:
    newest = len(migrations)
    if applied and max(applied) > newest:
        raise MigrationError(
            f"the database is at migration {max(applied):04d}, this code knows {newest:04d}: run a newer version"
        )
    for migration in migrations:
        row = applied.get(migration.version)
        if row is not None and row.checksum != migration.checksum:
            raise MigrationError(
                f"migration {migration.version:04d}_{migration.name}.sql was changed after it was applied; "
                "put it back as it was and write a new one"
            )
        if row is None and applied and migration.version < max(applied):
            raise MigrationError(f"migration {migration.version:04d} was skipped in this database")


async def _apply(connection: asyncpg.Connection, migration: Migration) -> None:
    try:
        async with connection.transaction():
            await connection.execute(migration.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)",
                migration.version,
                migration.name,
                migration.checksum,
            )
    except asyncpg.PostgresError as error:
        raise MigrationError(f"migration {migration.version:04d}_{migration.name}.sql failed: {error}") from error


def _status(version: int, migration: Migration | None, applied: _Applied | None) -> MigrationStatus:
    match migration, applied:
        case Migration() as known, None:
            return MigrationStatus(version=version, name=known.name, state="pending", applied_at=None)
        case None, _Applied() as row:
            return MigrationStatus(version=version, name=row.name, state="unknown", applied_at=row.applied_at)
        case Migration() as known, _Applied() as row:
            state: Literal["applied", "changed"] = "applied" if row.checksum == known.checksum else "changed"
            return MigrationStatus(version=version, name=known.name, state=state, applied_at=row.applied_at)
        case _:
            raise AssertionError("a version comes from the code or from the database")
