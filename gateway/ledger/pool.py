"""Connections to PostgreSQL with explicit bounds, and the one place where its driver's errors become ours."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from gateway.errors import LeaseLost, LedgerRejected, LedgerUnavailable

# A connection whose transaction hangs must not hold the rows others wait for: a writer that was stopped and goes on is
# cut off by the server (its cursor check would refuse it as well).
_SESSION = {
    "application_name": "peakgate",
    "idle_in_transaction_session_timeout": "5000",
    "lock_timeout": "5000",
    "statement_timeout": "30000",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "jit": "off",
}
LEASE_LOST = "PG001"


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Data the ledger refuses is `LedgerRejected`; all else that goes wrong is `LedgerUnavailable`, the effect
    unknown."""
    try:
        yield
    except asyncpg.PostgresError as error:
        state = error.sqlstate or ""
        if state == LEASE_LOST:
            raise LeaseLost(str(error)) from error
        if state[:2] in {"22", "23"}:
            # Not the error's own text: its detail shows the row, with who ordered what.
            where = error.constraint_name or error.column_name or error.table_name or ""
            raise LedgerRejected(f"{state} {where}".strip()) from error
        raise LedgerUnavailable(f"PostgreSQL: {error}") from error
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError) as error:
        raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error


async def open_connection(url: str, *, answers_within_s: float = 30.0) -> Any:
    """One connection of its own, for who must not wait for a pool."""
    with ledger_errors():
        return await asyncpg.connect(url, server_settings=_SESSION, timeout=5, command_timeout=answers_within_s)


class Ledger:
    """A pool of at most `size` connections; a caller waits `wait_s` for one, then fails as unavailable. What was asked
    is answered within `answers_within_s`, or the connection counts as dead."""

    def __init__(self, pool: Any, wait_s: float) -> None:
        self.pool = pool
        self._wait_s = wait_s

    @classmethod
    async def connect(cls, url: str, *, size: int = 8, wait_s: float = 2.0, answers_within_s: float = 5.0) -> "Ledger":
        with ledger_errors():
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=size,
                server_settings=_SESSION,
                timeout=5,
                command_timeout=answers_within_s,
            )
        return cls(pool, wait_s)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        with ledger_errors():
            async with self.pool.acquire(timeout=self._wait_s) as connection, self._dead_when_silent(connection):
                yield connection

    @asynccontextmanager
    async def transaction(self, **options: Any) -> AsyncIterator[Any]:
        async with (
            self.connection() as connection,
            connection.transaction(**options),
            # Before the transaction ends: its rollback would wait for a dead connection once more.
            self._dead_when_silent(connection),
        ):
            yield connection

    @asynccontextmanager
    async def _dead_when_silent(self, connection: Any) -> AsyncIterator[None]:
        try:
            yield
        except TimeoutError:
            # The server, or the way to it, went without a word. The driver would wait for the cancelled query on this
            # connection, and each of the others would take its own time to be found dead.
            connection.terminate()
            await self.pool.expire_connections()
            raise

    async def fetch(self, query: str, *values: object) -> list[Any]:
        async with self.connection() as connection:
            rows: list[Any] = await connection.fetch(query, *values)
            return rows

    async def fetchrow(self, query: str, *values: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchrow(query, *values)

    async def fetchval(self, query: str, *values: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(query, *values)

    async def execute(self, query: str, *values: object) -> None:
        async with self.connection() as connection:
            await connection.execute(query, *values)

    async def close(self) -> None:
        self.pool.terminate()
