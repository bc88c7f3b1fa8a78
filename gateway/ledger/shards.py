"""Shards in the ledger: where each one's cursor stands, and the id key of the installation."""

from typing import NamedTuple

from gateway.ledger.pool import Ledger


class ShardRow(NamedTuple):
    shard: int
    epoch: int
    last_seq: int
    outbox_no: int
    opened: bool
    """Valkey was given it once."""


class LedgerShards:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def id_key(self) -> bytes:
        key: bytes = await self._ledger.fetchval("SELECT id_key FROM installation")
        return key

    async def ensure(self, count: int) -> None:
        """Makes rows for shards 0 to count - 1. Shards are only ever added: a shop's shard never changes."""
        await self._ledger.execute(
            "INSERT INTO shards (shard) SELECT generate_series(0, $1::int - 1) ON CONFLICT DO NOTHING", count
        )

    async def all(self) -> list[ShardRow]:
        rows = await self._ledger.fetch("SELECT shard, epoch, last_seq, outbox_no, opened FROM shards ORDER BY shard")
        return [ShardRow(*row) for row in rows]

    async def cursor(self, shard: int) -> tuple[int, int]:
        """(epoch, last sequence number applied)."""
        row = await self._ledger.fetchrow("SELECT epoch, last_seq FROM shards WHERE shard = $1", shard)
        return row["epoch"], row["last_seq"]

    async def mark_opened(self, shard: int) -> None:
        await self._ledger.execute("UPDATE shards SET opened = true WHERE shard = $1", shard)
