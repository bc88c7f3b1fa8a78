"""Whether the ledger's schema is the one this code was written for: asked at every process's start, and all the time.

Code that does not know a migration would read the rows of newer code wrongly, so its process ends.
"""

import asyncio

import structlog

from gateway.errors import LedgerUnavailable, MigrationError
from gateway.ledger.migrate import MIGRATIONS, read_migrations
from gateway.ledger.pool import Ledger

log = structlog.get_logger(__name__)

_EVERY_S = 1.0


def known_version() -> int:
    """The newest migration that this code has."""
    return len(read_migrations(MIGRATIONS))


async def require_schema(ledger: Ledger, known: int) -> None:
    """Raises MigrationError when the ledger is at another version than `known`."""
    version = 0
    if await ledger.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
        version = await _version(ledger)
    if version < known:
        raise MigrationError(
            f"the ledger is at migration {version:04d}, this code needs {known:04d}: run `peakgate migrate`"
        )
    _refuse_newer(version, known)


async def watch_schema(ledger: Ledger, known: int) -> None:
    """Raises MigrationError once the ledger is newer than this code; while it is away nothing is said."""
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            _refuse_newer(await _version(ledger), known)
        except LedgerUnavailable:
            continue
        except MigrationError as error:
            log.critical("ledger_is_newer", error=str(error))
            raise


async def _version(ledger: Ledger) -> int:
    return int(await ledger.fetchval("SELECT coalesce(max(version), 0) FROM schema_migrations"))


def _refuse_newer(version: int, known: int) -> None:
    if version > known:
        raise MigrationError(
            f"the ledger is at migration {version:04d}, this code knows {known:04d}: run a newer version"
        )
