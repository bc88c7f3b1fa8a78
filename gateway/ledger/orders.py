"""Orders as the ledger has them: look-ups of many at once, a viewer's own, a sale's."""

from collections.abc import Collection, Sequence
from typing import Any

from gateway.domain.ids import ClaimId, OrderId, OrderPlace
from gateway.domain.order import HeldKey, Order, OrderStatus
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

    async def lost(self, places: Sequence[OrderPlace], order_ids: Sequence[str]) -> set[str]:
        """Of orders by place and, beside it, id: those that the ledger does not have and never will, because its cursor
        is past them. One statement, so that the cursor and the orders are of one moment."""
        rows = await self._ledger.fetch(
            _QUERIES["lost"],
            [at.sale_no for at in places],
            list(order_ids),
            [at.epoch for at in places],
            [at.seq for at in places],
        )
        return {row["order_id"] for row in rows}

    async def by_keys(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], Order]:
        """Orders by (viewer, sale number, key)."""
        rows = await self._ledger.fetch(
            _QUERIES["by_keys"], [at[0] for at in keys], [at[1] for at in keys], [at[2] for at in keys]
        )
        return {(row["viewer"], row["sale_no"], row["key"]): _order(row) for row in rows}

    async def held_keys(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], HeldKey]:
        """What (viewer, sale number, key) holds, as the scripts remember it while a sale is in Valkey."""
        rows = await self._ledger.fetch(
            _QUERIES["held_keys"], [at[0] for at in keys], [at[1] for at in keys], [at[2] for at in keys]
        )
        return {
            (row["viewer"], row["sale_no"], row["key"]): HeldKey(
                OrderId(row["order_id"]),
                row["fingerprint"],
                row["price_minor"],
                row["created_at_ms"],
                row["discount_minor"],
            )
            for row in rows
        }

    async def own(self, *, shop: str, viewer: str, limit: int, after: str | None) -> list[Order]:
        return [_order(row) for row in await self._ledger.fetch(_QUERIES["own"], viewer, shop, after, limit)]

    async def of_shop(
        self, shop: str, *, only_rooms: Collection[str] | None, limit: int, after: str | None
    ) -> list[Order]:
        rooms = None if only_rooms is None else list(only_rooms)
        return [_order(row) for row in await self._ledger.fetch(_QUERIES["of_shop"], shop, after, rooms, limit)]

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
        claim=None if row["claim"] is None else ClaimId(row["claim"]),
    )
