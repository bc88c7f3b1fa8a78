"""Which sales and coupons are over and settled, and how far each is on its way out of Valkey."""

from typing import NamedTuple

from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("retire.sql")
AT_ONCE = 100  # a look takes the next ones the next time


class EndedSale(NamedTuple):
    sale_no: int
    sold: tuple[tuple[int, int], ...]
    """(item number, units sold)"""


class LedgerRetirement:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def settle(self, shard: int) -> None:
        """Notes which ended sales are settled from now on, and which are not any more."""
        await self._ledger.execute(_QUERIES["settle"], shard)

    async def settled(self, shard: int, *, for_s: float) -> list[EndedSale]:
        return await self._ended("settled", shard, for_s)

    async def retired(self, shard: int, *, for_s: float) -> list[EndedSale]:
        """Those that are still in Valkey."""
        return await self._ended("retired", shard, for_s)

    async def mark_retired(self, sale_no: int) -> None:
        await self._ledger.execute(_QUERIES["mark_retired"], sale_no)

    async def mark_dropped(self, sale_no: int) -> None:
        await self._ledger.execute(_QUERIES["mark_dropped"], sale_no)

    async def ended_coupons(self, shard: int, *, for_s: float) -> list[int]:
        """Those that have not been valid for so long, with no order of theirs unsettled."""
        return [row["coupon_no"] for row in await self._ledger.fetch(_QUERIES["ended_coupons"], shard, for_s, AT_ONCE)]

    async def retired_coupons(self, shard: int, *, for_s: float) -> list[int]:
        """Those that are still in Valkey."""
        rows = await self._ledger.fetch(_QUERIES["retired_coupons"], shard, for_s, AT_ONCE)
        return [row["coupon_no"] for row in rows]

    async def mark_coupon_retired(self, coupon_no: int) -> None:
        await self._ledger.execute(_QUERIES["mark_coupon_retired"], coupon_no)

    async def mark_coupon_forgotten(self, coupon_no: int) -> None:
        await self._ledger.execute(_QUERIES["mark_coupon_forgotten"], coupon_no)

    async def _ended(self, query: str, shard: int, for_s: float) -> list[EndedSale]:
        rows = await self._ledger.fetch(_QUERIES[query], shard, for_s, AT_ONCE)
        return [
            EndedSale(row["sale_no"], tuple(zip(row["item_nos"] or (), row["sold"] or (), strict=True))) for row in rows
        ]
