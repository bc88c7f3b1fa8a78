"""What backup and restore ask the ledger: what it is, whether anybody uses it, what a restored one has to be told."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, NamedTuple

from gateway.errors import GatewayError
from gateway.ledger.migrate import MIGRATIONS, read_migrations
from gateway.ledger.pool import ledger_errors, open_connection
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("backup.sql")
_TIMEOUT_S = 300


class LedgerFacts(NamedTuple):
    """One moment of a ledger. `installation` names it without its secrets."""

    installation: str
    schema: str
    schema_version: int
    shops: int
    sales: int
    orders: int
    made_at: datetime
    server_major: int
    shards: tuple[tuple[int, int, int], ...]
    """(shard, epoch, last sequence number)"""


class LedgerBackup:
    """One connection of its own. Raises LedgerUnavailable when the server is away."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str) -> AsyncIterator["LedgerBackup"]:
        connection = await open_connection(url)
        try:
            yield cls(connection)
        finally:
            connection.terminate()

    async def server_major(self) -> int:
        with ledger_errors():
            return int(self._connection.get_server_version().major)

    async def facts(self) -> LedgerFacts | None:
        """None when the database has no ledger."""
        with ledger_errors():
            if not await self._connection.fetchval(_QUERIES["is_there"]):
                return None
            row = await self._connection.fetchrow(_QUERIES["facts"], timeout=_TIMEOUT_S)
            shards = await self._connection.fetch(_QUERIES["shards"])
        return None if row is None else LedgerFacts(**dict(row), shards=tuple(tuple(shard) for shard in shards))

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[tuple[str, LedgerFacts]]:
        """The name of one moment, by which `pg_dump` can read the same, and what the ledger is in it."""
        transaction = self._connection.transaction(isolation="repeatable_read", readonly=True)
        with ledger_errors():
            await transaction.start()
            # Nothing is asked while the dump runs.
            await self._connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            name: str = await self._connection.fetchval("SELECT pg_export_snapshot()")
        facts = await self.facts()
        if facts is None:
            raise GatewayError("this database has no ledger; `peakgate migrate` makes one")
        yield name, facts

    async def strange_tables(self) -> list[str]:
        """Tables in the ledger's schema that no version of the ledger has."""
        known = {"schema_migrations"}
        for migration in read_migrations(MIGRATIONS):
            known.update(re.findall(r"^CREATE TABLE (\w+)", migration.sql, re.MULTILINE))
        with ledger_errors():
            rows = await self._connection.fetch(_QUERIES["tables"])
        return [row["name"] for row in rows if row["name"] not in known]

    async def users(self) -> int:
        """Processes of a gateway that are connected, or hold a lease, as of now."""
        with ledger_errors():
            connected: int = await self._connection.fetchval(_QUERIES["connected"])
            there = await self._connection.fetchval(_QUERIES["is_there"])
            leased: int = await self._connection.fetchval(_QUERIES["leased"]) if there else 0
        return connected or leased

    async def end_users(self) -> None:
        """Ends the connections of a gateway's processes; those that still run will come back."""
        with ledger_errors():
            await self._connection.execute(_QUERIES["end_others"])

    async def schema(self) -> str:
        with ledger_errors():
            name: str = await self._connection.fetchval("SELECT quote_ident(current_schema())")
        return name


def restore_begins(schema: str) -> str:
    """What psql is told before the dump: all or nothing, into a schema with nothing in it."""
    settings = f"SET LOCAL search_path = {schema};\nSET LOCAL lock_timeout = '10s';\nSET client_min_messages = warning;"
    return f"BEGIN;\n{settings}\n{_QUERIES['wipe']};\n"


def restore_ends(schema: str, *, grace_s: int) -> str:
    """And behind it. Only with the last line anything has happened."""
    adopt = _QUERIES["adopt"].replace(":grace_s", str(grace_s))
    return f"\nSET search_path = {schema};\n{adopt};\nCOMMIT;\n"
