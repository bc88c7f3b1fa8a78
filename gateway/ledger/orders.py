"""Orders as the ledger has them: look-ups of many at once, a viewer's own, a sale's."""

from collections.abc import Sequence
from typing import Any

from gateway.domain.ids import OrderId
from gateway.domain.order import Order, OrderStatus
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("orders.sql")


class LedgerOrders:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Order]:
        """Orders by (sale number, order id); those the ledger does not have are left out."""
        rows = await self._ledger.fetch(_QUERIES["by_place"], [at[0] for at in places], [at[1] for at in places])
        return {row["order_id"]: _order(row) for row in rows}

    async def by_keys(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], Order]:
        """Orders by (viewer, sale number, key)."""
        rows = await self._ledger.fetch(
            _QUERIES["by_keys"], [at[0] for at in keys], [at[1] for at in keys], [at[2] for at in keys]
        )
        return {(row["viewer"], row["sale_no"], row["key"]): _order(row) for row in rows}

    async def own(self, *, shop: str, viewer: str, limit: int, after: str | None) -> list[Order]:
        return [_order(row) for row in await self._ledger.fetch(_QUERIES["own"], viewer, shop, after, limit)]

    async def of_sale(self, sale_no: int, *, status: str | None, limit: int, after: str | None) -> list[Order]:
        return [_order(row) for row in await self._ledger.fetch(_QUERIES["of_sale"], sale_no, after, status, limit)]


def _order(row: Any) -> Order:
    return Order(
        order=OrderId(row["order_id"]),
        sale_no=row["sale_no"],
        item_no=row["item_no"],
        viewer=row["viewer"],
        key=row["key"],
        quantity=row["quantity"],
        price_minor=row["price_minor"],
        discount_minor=row["discount_minor"],
        amount_minor=row["amount_minor"],
        status=OrderStatus(row["status"]),
        # The ledger keeps which of its judgements it was, for people; to viewers all of them are one.
        reason=None if row["reason"] is None else "lost" if row["reason"] == "lost" else "ledger",
        created_at_ms=row["created_at_ms"],
        pay_by_ms=row["pay_by_ms"],
        extra=row["extra"] or "",
    )
