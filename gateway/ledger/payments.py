"""Payments as people read them, and those begun at a provider. What money does to an order is in settlement.py."""

from collections.abc import Collection
from typing import NamedTuple

from gateway.domain.payment import OwedPayment, Payment
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("payments.sql")


class CheckoutRow(NamedTuple):
    """A payment begun at a provider, and how its order stands."""

    shop: str
    order_id: str
    sale_title: str
    item_title: str
    quantity: int
    amount_minor: int
    currency: str
    status: str
    payment: str | None
    """The state of the provider's first payment; None while it told of none."""


class RefundDue(NamedTuple):
    shop: str
    order_id: str
    txn: str
    amount_minor: int
    currency: str


class LedgerPayments:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def of_order(self, shop: str, order_id: str) -> list[Payment]:
        """Oldest first."""
        rows = await self._ledger.fetch(_QUERIES["of_order"], shop, order_id)
        return [Payment(**row) for row in rows]

    async def owed(self, shop: str, *, only_rooms: Collection[str] | None, limit: int, after: int) -> list[OwedPayment]:
        """Payments in the state refund_due behind a payment number, in the order of theirs."""
        rooms = None if only_rooms is None else list(only_rooms)
        rows = await self._ledger.fetch(_QUERIES["owed"], shop, after, rooms, limit)
        return [
            OwedPayment(payment_no=number, order=order, currency=currency, payment=Payment(**payment))
            for number, order, currency, payment in (
                (row.pop("payment_no"), row.pop("order_id"), row.pop("currency"), row) for row in map(dict, rows)
            )
        ]

    async def begin(
        self, *, sale_no: int, order_id: str, shop_no: int, provider: str, checkout: str
    ) -> tuple[str, str]:
        """(provider, checkout) of the order: this one, or the one that runs already."""
        await self._ledger.execute(_QUERIES["begin"], sale_no, order_id, shop_no, provider, checkout)
        row = await self._ledger.fetchrow(_QUERIES["running"], sale_no, order_id)
        return row["provider"], row["checkout"]

    async def running(self, *, sale_no: int, order_id: str) -> tuple[str, str] | None:
        row = await self._ledger.fetchrow(_QUERIES["running"], sale_no, order_id)
        return None if row is None else (row["provider"], row["checkout"])

    async def checkout(self, checkout: str, *, provider: str) -> CheckoutRow | None:
        row = await self._ledger.fetchrow(_QUERIES["checkout"], checkout, provider)
        return None if row is None else CheckoutRow(*row)

    async def unpaid(self, provider: str, *, limit: int) -> list[str]:
        """Checkouts of orders that wait for their payment, oldest first."""
        return [row["checkout"] for row in await self._ledger.fetch(_QUERIES["unpaid"], provider, limit)]

    async def refund_due(self, provider: str, *, limit: int) -> list[RefundDue]:
        return [RefundDue(*row) for row in await self._ledger.fetch(_QUERIES["refund_due"], provider, limit)]
