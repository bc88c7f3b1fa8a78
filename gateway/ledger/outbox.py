"""The outbox: what the ledger ended and Valkey has yet to be told, by number a shard without a gap."""

from typing import NamedTuple

from gateway import points
from gateway.ledger.pool import Ledger


class OutboxRow(NamedTuple):
    no: int
    sale_no: int | None
    item_no: int
    viewer: str
    key: str
    epoch: int
    seq: int
    quantity: int
    kind: str
    coupon_no: int | None
    claim_epoch: int | None
    claim_seq: int | None


class LedgerOutbox:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def pending(self, shard: int, *, limit: int, after: int = 0) -> list[OutboxRow]:
        """Rows by number, behind the number `after`."""
        rows = await self._ledger.fetch(
            "SELECT no, sale_no, item_no, viewer, coalesce(key, ''), epoch, seq, quantity, kind,"
            " coupon_no, claim_epoch, claim_seq"
            " FROM outbox WHERE shard = $1 AND no > $3 ORDER BY no LIMIT $2",
            shard,
            limit,
            after,
        )
        return [OutboxRow(*row) for row in rows]

    async def forget(self, shard: int, up_to: int) -> None:
        """Rows up to this number are applied in Valkey."""
        await self._ledger.execute("DELETE FROM outbox WHERE shard = $1 AND no <= $2", shard, up_to)
        points.reach("release.forget.after")
