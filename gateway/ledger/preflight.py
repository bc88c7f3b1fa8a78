"""What a pre-flight reads of the ledger and of its server. Nothing is written."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from gateway.domain.preflight_servers import LedgerFacts
from gateway.errors import LedgerUnavailable
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("preflight.sql")
# PostgreSQL's own, where it does not tell.
_LOG_MOST_BYTES = 1024**3


class BoundCoupon(NamedTuple):
    coupon_no: int
    claimed: int
    spent_minor: int
    in_valkey: bool


class LedgerPreflight:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def time_s(self) -> float:
        now_s: float = await self._ledger.fetchval("SELECT extract(epoch FROM clock_timestamp())::float8")
        return now_s

    async def coupons(self, sale_no: int) -> list[BoundCoupon]:
        """The newest fifty that orders of the sale may redeem."""
        return [BoundCoupon(*row) for row in await self._ledger.fetch(_QUERIES["coupons"], sale_no)]

    async def server(self, shard: int) -> LedgerFacts:
        row = await self._ledger.fetchrow(_QUERIES["shard"], shard)
        places = await self._ledger.fetchrow(_QUERIES["places"])
        checkpoint = await self._checkpoint()
        return LedgerFacts(
            epoch=row["epoch"],
            last_seq=row["last_seq"],
            has_writer=row["has_writer"],
            wants=row["wants"],
            log_bytes=None if checkpoint is None else checkpoint["log_bytes"],
            log_most_bytes=places["log_most_bytes"] or _LOG_MOST_BYTES,
            checkpoint_s=None if checkpoint is None else checkpoint["ago_s"],
            disk_free_bytes=_free(places["folder"]),
        )

    async def _checkpoint(self) -> Any:
        """None where the role may not ask, as with managed servers."""
        try:
            return await self._ledger.fetchrow(_QUERIES["checkpoint"])
        except LedgerUnavailable as error:
            if "permission denied" in str(error):
                return None
            raise


def _free(folder: str | None) -> int | None:
    """Of PostgreSQL's folder, where it lies on this machine."""
    if folder is None or not Path(folder).is_dir():
        return None
    free = os.statvfs(folder)
    return free.f_bavail * free.f_frsize
