"""What is shown beside an order of the people around it: who brought its viewer, whether it is the viewer's first, and
the code it is collected with."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

from gateway.domain.links import Link
from gateway.domain.order import Order, OrderStatus
from gateway.domain.pickup import Pickup

# A show has a handful of links; a shop that makes one for each of its viewers asks again for those that fell out.
_LINKS_MOST: Final = 20_000
_NEVER_CONFIRMED: Final = frozenset({OrderStatus.RESERVED, OrderStatus.REFUSED})
_WITH_CODE: Final = frozenset({OrderStatus.PAID, OrderStatus.REFUND_DUE, OrderStatus.REFUNDED})


class Links(Protocol):
    """`gateway.ledger.links.LedgerLinks`."""

    async def by_ref(self, refs: Sequence[str]) -> Mapping[str, Link]: ...


class Pickups(Protocol):
    """`gateway.ledger.pickups.LedgerPickups`."""

    async def by_order(self, orders: Sequence[tuple[int, str]]) -> Mapping[str, Pickup]: ...


class Customers(Protocol):
    """`gateway.ledger.customers.LedgerCustomers`."""

    async def first_orders(self, orders: Sequence[Order]) -> Mapping[str, bool]:
        """By order id, of those of which it is decided, whether it is its viewer's first in the shop."""
        ...


class _Extra(msgspec.Struct):
    ref: str | None = None
    pickup: bool | str = False


_read_extra: Final = msgspec.json.Decoder(_Extra).decode


class OrderPeople:
    """At most three questions to the ledger for any number of orders, and none for a viewer's that are not collected.
    Links never change, so they are remembered, up to a bound."""

    def __init__(self, *, links: Links, pickups: Pickups, customers: Customers) -> None:
        self._links = links
        self._pickups = pickups
        self._customers = customers
        self._known: OrderedDict[str, Link] = OrderedDict()

    async def of(self, orders: Sequence[Order], *, to_staff: bool) -> list[Order]:
        """The orders with their pickups and, for staff, their links and whether they are firsts. Raises
        LedgerUnavailable."""
        if to_staff:
            orders = await self._with_firsts(orders)
        extras = {order.order: _read_extra(order.extra) for order in orders if order.extra}
        if not extras:
            return list(orders)
        collected = [
            (order.sale_no, str(order.order))
            for order in orders
            if order.status in _WITH_CODE and order.order in extras and extras[order.order].pickup
        ]
        pickups = await self._pickups.by_order(collected) if collected else {}
        # What is only reserved is shown while the ledger is away as well, and so without its link.
        refs = {
            ref
            for order in orders
            if to_staff and order.status is not OrderStatus.RESERVED and order.order in extras
            if (ref := extras[order.order].ref) is not None
        }
        links = await self._linked(refs) if refs else {}
        return [
            msgspec.structs.replace(order, link=links.get(extra.ref or ""), pickup=pickups.get(order.order))
            if (extra := extras.get(order.order)) is not None
            else order
            for order in orders
        ]

    async def _with_firsts(self, orders: Sequence[Order]) -> Sequence[Order]:
        confirmed = [order for order in orders if order.status not in _NEVER_CONFIRMED]
        firsts = await self._customers.first_orders(confirmed) if confirmed else {}
        return [
            order if (first := firsts.get(order.order)) is None else msgspec.structs.replace(order, first_order=first)
            for order in orders
        ]

    async def _linked(self, refs: set[str]) -> Mapping[str, Link]:
        known = {ref: link for ref in refs if (link := self._known.get(ref)) is not None}
        missing = [ref for ref in refs if ref not in known]
        if missing:
            found = await self._links.by_ref(missing)
            known.update(found)
            self._known.update(found)
            while len(self._known) > _LINKS_MOST:
                self._known.popitem(last=False)
        return known
