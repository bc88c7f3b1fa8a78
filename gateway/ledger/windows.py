"""When sales of rooms open and close by the clock."""

from typing import NamedTuple

from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("windows.sql")


class WindowEdge(NamedTuple):
    sale_no: int
    at_ms: int
    """The sale opens or closes then."""


class LedgerWindows:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def edges(self, from_ms: int, to_ms: int) -> list[WindowEdge]:
        """In the order of their time; without those of sales that a host has closed."""
        rows = await self._ledger.fetch(_QUERIES["between"], from_ms, to_ms)
        return [WindowEdge(row["sale_no"], row["at_ms"]) for row in rows]
