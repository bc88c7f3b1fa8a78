"""The limits of shops, as every process that enforces them reads them."""

from collections.abc import Mapping
from typing import Any, Final

from gateway.domain.limits import ShopLimits
from gateway.ledger.pool import Ledger

COLUMNS: Final = "rooms_a_day, viewers, comments_per_s"
# Rooms a day are counted where a room is made; what a process has to know beforehand is the rest.
_ALL: Final = """
SELECT h.shop, l.rooms_a_day, l.viewers, l.comments_per_s FROM shop_limits l JOIN shops h USING (shop_no)
 WHERE l.viewers IS NOT NULL OR l.comments_per_s IS NOT NULL
"""


class LedgerLimits:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def limits(self) -> Mapping[str, ShopLimits]:
        """By shop, of those whose viewers or comments are limited."""
        return {row["shop"]: limits_of(row) for row in await self._ledger.fetch(_ALL)}


def limits_of(row: Any) -> ShopLimits:
    return ShopLimits(rooms_a_day=row["rooms_a_day"], viewers=row["viewers"], comments_per_s=row["comments_per_s"])
