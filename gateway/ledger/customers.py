"""Whose first order in a shop an order is. Decided by the follower of the news, once a viewer."""

from collections.abc import Mapping, Sequence

from gateway.domain.order import Order
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("customers.sql")


class LedgerCustomers:
    """Of an order that was just confirmed nothing is decided yet: about a second later it is."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def first_orders(self, orders: Sequence[Order]) -> Mapping[str, bool]:
        """By order id, of those of which it is decided."""
        rows = await self._ledger.fetch(
            _QUERIES["first_orders"],
            [order.sale_no for order in orders],
            [order.viewer for order in orders],
            [str(order.order) for order in orders],
        )
        return {row["order_id"]: row["first"] for row in rows}

    async def new_of_sales(self, sale_nos: Sequence[int]) -> Mapping[int, int]:
        """By sale number, of how many viewers the first confirmed order in the shop is one of the sale."""
        rows = await self._ledger.fetch(_QUERIES["new_of_sales"], sale_nos)
        return {row["sale_no"]: row["customers"] for row in rows}
