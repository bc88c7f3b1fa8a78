"""When sales of rooms open and close by the clock, when their prices change, and when their coupons open."""

from typing import NamedTuple

from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("windows.sql")


class WindowEdge(NamedTuple):
    sale_no: int
    at_ms: int
    """The sale opens or closes then, or an item's price is another one from then on."""
    item_no: int = 0
    """The item; 0: the sale opens or closes."""


class CouponOpening(NamedTuple):
    coupon_no: int
    at_ms: int


class LedgerWindows:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def edges(self, from_ms: int, to_ms: int) -> list[WindowEdge]:
        """In the order of their time; without those of sales that a host has closed."""
        rows = await self._ledger.fetch(_QUERIES["between"], from_ms, to_ms)
        return [WindowEdge(row["sale_no"], row["at_ms"], row["item_no"]) for row in rows]

    async def coupon_openings(self, from_ms: int, to_ms: int) -> list[CouponOpening]:
        """Of coupons made for a room, in the order of their time."""
        return [CouponOpening(*row) for row in await self._ledger.fetch(_QUERIES["coupons_between"], from_ms, to_ms)]
