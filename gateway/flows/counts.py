"""The counters of a sale for who reads it: Valkey's, and the ledger's once the sale left Valkey."""

from collections.abc import Mapping
from typing import Protocol

from gateway.domain.sale import ItemCounts, Sale


class Hot(Protocol):
    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None: ...


class Ledger(Protocol):
    async def counts(self, sale_no: int) -> Mapping[int, tuple[int, int, int]]:
        """By item number: stock, held, sold."""
        ...


class SaleCounts:
    """Of the sales of one shard. Raises what the store that is asked raises."""

    def __init__(self, *, hot: Hot, ledger: Ledger) -> None:
        self._hot = hot
        self._ledger = ledger

    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None:
        """By item number; None when Valkey does not have a sale that it should have."""
        if not sale.retired:
            return await self._hot.counts(sale)
        return {
            item_no: ItemCounts(item_no, stock=stock, left=stock - held - sold, held=held)
            for item_no, (stock, held, sold) in (await self._ledger.counts(sale.sale_no)).items()
        }
