"""Shards in the ledger: where each one's cursor stands, in which epoch and on which server, and the id key of the
installation."""

from typing import NamedTuple

from gateway.ledger.pool import Ledger


class ShardRow(NamedTuple):
    shard: int
    epoch: int
    last_seq: int
    outbox_no: int
    opened: bool
    """Valkey was given it once."""
    run_id: str | None
    """The server of the epoch; None while it is not known."""


class Standing(NamedTuple):
    """All that the ledger says of a shard, in one moment."""

    shard: int
    epoch: int
    last_seq: int
    outbox_no: int
    opened: bool
    run_id: str | None
    reopen: str | None
    """The epoch began and Valkey does not sell in it yet: it is to `advance` or to be filled by a `recount`."""
    wants: str | None
    """Why it must be recounted, though Valkey may look well."""
    load_token: int
    forgotten: int
    """Rows of the outbox up to this number are deleted, because Valkey has applied them."""
    ended_epoch: int
    """The epoch before this one and where it ended; 0 when this is the first."""
    ended_seq: int


_STANDING = """
SELECT d.shard, d.epoch, d.last_seq, d.outbox_no, d.opened, d.run_id, d.reopen, d.wants, d.load_token,
       coalesce((SELECT min(no) - 1 FROM outbox o WHERE o.shard = d.shard), d.outbox_no) AS forgotten,
       coalesce(e.epoch, 0) AS ended_epoch, coalesce(e.last_seq, 0) AS ended_seq
  FROM shards d
  LEFT JOIN LATERAL (SELECT epoch, last_seq FROM epochs WHERE shard = d.shard ORDER BY epoch DESC LIMIT 1) e ON true
 WHERE d.shard = $1
"""
# Of an epoch that ended, a number counts that its stream still had when it ended.
_APPLIED = """
SELECT EXISTS (SELECT FROM epochs WHERE shard = $1 AND epoch = $2 AND last_seq >= $3)
   AND NOT EXISTS (SELECT FROM lost_seqs WHERE shard = $1 AND epoch = $2 AND $3 BETWEEN first_seq AND last_seq)
"""


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
        rows = await self._ledger.fetch(
            "SELECT shard, epoch, last_seq, outbox_no, opened, run_id FROM shards ORDER BY shard"
        )
        return [ShardRow(*row) for row in rows]

    async def standing(self, shard: int) -> Standing:
        return Standing(*await self._ledger.fetchrow(_STANDING, shard))

    async def cursor(self, shard: int) -> tuple[int, int]:
        """(epoch, last sequence number applied)."""
        row = await self._ledger.fetchrow("SELECT epoch, last_seq FROM shards WHERE shard = $1", shard)
        return row["epoch"], row["last_seq"]

    async def was_applied(self, shard: int, epoch: int, seq: int) -> bool:
        """Whether the ledger took a sequence number of an epoch that has ended."""
        return bool(await self._ledger.fetchval(_APPLIED, shard, epoch, seq))

    async def adopt(self, shard: int, epoch: int, run_id: str) -> None:
        """The shard sells on this server, and none was known before."""
        await self._ledger.execute(
            "UPDATE shards SET opened = true, run_id = $3 WHERE shard = $1 AND epoch = $2"
            " AND (run_id IS NULL OR NOT opened)",
            shard,
            epoch,
            run_id,
        )

    async def found_behind(self, shard: int, epoch: int) -> None:
        """Valkey has fewer numbers of this epoch than a process has seen."""
        await self._ledger.execute(
            "UPDATE shards SET wants = 'behind' WHERE shard = $1 AND epoch = $2 AND wants IS NULL", shard, epoch
        )

    async def want_recount(self, shard: int | None, why: str) -> list[tuple[int, int]]:
        """Asks for a rebuild of one shard or of all; (shard, epoch that is to end) of each. None: no such shard."""
        rows = await self._ledger.fetch(
            "UPDATE shards SET wants = $2 WHERE $1::int IS NULL OR shard = $1 RETURNING shard, epoch", shard, why
        )
        return sorted((row["shard"], row["epoch"]) for row in rows)
