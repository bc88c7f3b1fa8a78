"""A database that others are copies of: what it holds, and how a copy that was used becomes like it again."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Self

import asyncpg

# Whatever changes a table, an index, a constraint, a trigger or a function writes a row of these; no data does.
_CATALOGS = (
    "pg_class",
    "pg_attribute",
    "pg_attrdef",
    "pg_constraint",
    "pg_index",
    "pg_trigger",
    "pg_proc",
    "pg_type",
    "pg_rewrite",
    "pg_namespace",
    "pg_db_role_setting",
)
_SHAPE = "SELECT array_agg(each ORDER BY each) FROM ({}) AS catalogs (each)".format(
    " UNION ALL ".join(
        f"SELECT '{name} ' || count(*) || ' ' || coalesce(max(xmin::text::bigint), 0) FROM {name}" for name in _CATALOGS
    )
)
_WRITTEN = """
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND pg_relation_size(c.oid) > 0
"""
_COUNTERS = """
SELECT format('%I.%I', schemaname, sequencename) AS name, start_value, last_value FROM pg_sequences
"""
_CUT_OFF = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass
class Original:
    shape: list[str]
    rows: dict[str, bytes]
    """By table, as COPY writes them."""
    counters: dict[str, tuple[int, bool]]
    given_back: list[str] = field(default_factory=list)
    """Copies that nobody uses any more, in whatever state."""

    @classmethod
    async def of(cls, url: str) -> Self:
        connection = await asyncpg.connect(url)
        try:
            rows = {}
            for table in await _written(connection):
                await connection.copy_from_table(table, output=(held := BytesIO()), format="binary")
                rows[table] = held.getvalue()
            return cls(await connection.fetchval(_SHAPE), rows, await _counters(connection))
        finally:
            await connection.close()

    async def restore(self, url: str) -> bool:
        """Whether this copy is like the original again; one whose schema was changed is not."""
        connection = await asyncpg.connect(url)
        try:
            await connection.execute(_CUT_OFF)
            if await connection.fetchval(_SHAPE) != self.shape:
                return False
            async with connection.transaction():
                # No trigger fires and no reference is checked: all of it is as it was in the original.
                await connection.execute("SET LOCAL session_replication_role = replica")
                written = await _written(connection)
                await connection.execute("".join(f"DELETE FROM {table};" for table in written))
                for name, (value, is_used) in self._moved(await _counters(connection)):
                    await connection.execute("SELECT setval($1::text::regclass, $2, $3)", name, value, is_used)
            if written:
                # No page is left of what was deleted, so a test never meets the rows of another in its plans.
                await connection.execute(f"VACUUM (INDEX_CLEANUP on, SKIP_DATABASE_STATS) {', '.join(written)}")
            async with connection.transaction():
                await connection.execute("SET LOCAL session_replication_role = replica")
                for table, held in self.rows.items():
                    await connection.copy_to_table(table, source=BytesIO(held), format="binary")
            return True
        finally:
            await connection.close()

    def _moved(self, counters: dict[str, tuple[int, bool]]) -> list[tuple[str, tuple[int, bool]]]:
        return [(name, was) for name, was in self.counters.items() if counters[name] != was]


async def _written(connection: Any) -> list[str]:
    return [row["name"] for row in await connection.fetch(_WRITTEN)]


async def _counters(connection: Any) -> dict[str, tuple[int, bool]]:
    """By sequence its value, and whether that was given to somebody."""
    return {
        row["name"]: (row["start_value"], False) if row["last_value"] is None else (row["last_value"], True)
        for row in await connection.fetch(_COUNTERS)
    }
