"""The sales this process knows, so that the hot path asks no database. Only facts; the scripts judge."""

import asyncio
from collections import OrderedDict
from typing import Protocol

from gateway.clock import Clock
from gateway.domain.ids import IdMint
from gateway.domain.sale import Sale
from gateway.errors import LedgerUnavailable, NotFound

_KNOWN_MAX = 10_000
# What a host changed reaches a process by the bus; where the bus lost it, at the latest after this time.
_FRESH_S = 5.0


class Sales(Protocol):
    async def find(self, sale_no: int) -> Sale | None: ...


class SaleBook:
    """A bounded cache of sales by number. What is shown from it may be seconds old; nothing is decided by it."""

    def __init__(self, *, sales: Sales, mint: IdMint, clock: Clock) -> None:
        self._sales = sales
        self._mint = mint
        self._clock = clock
        self._known: OrderedDict[int, tuple[float, Sale]] = OrderedDict()
        self._numbers: dict[str, int] = {}
        self._finding: dict[int, asyncio.Future[Sale | None]] = {}

    def cached(self, shop: str, sale_id: str) -> Sale | None:
        """The sale when it is known here and of this shop, however old; for the hot path."""
        number = self._numbers.get(sale_id)
        if number is None:
            return None
        sale = self._known[number][1]
        return sale if sale.shop == shop else None

    async def get(self, shop: str, sale_id: str) -> Sale:
        """Raises NotFound for an id that is not a sale of this shop; an id we never made asks no database."""
        number = self._mint.read_sale(sale_id)
        sale = None if number is None else await self.by_no(number)
        if sale is None or sale.shop != shop or sale.sale != sale_id:
            raise NotFound("There is no such sale in this shop.")
        return sale

    async def by_no(self, sale_no: int) -> Sale | None:
        now_s = self._clock.monotonic()
        known = self._known.get(sale_no)
        if known is not None and now_s - known[0] < _FRESH_S:
            return known[1]
        # Thousands may ask for a sale in the moment it opens; one of them asks the ledger.
        finding = self._finding.get(sale_no)
        if finding is None:
            finding = self._finding[sale_no] = asyncio.ensure_future(self._find(sale_no))
        try:
            return await asyncio.shield(finding)
        except LedgerUnavailable:
            # Old facts are better than none: nothing is decided by them.
            if known is None:
                raise
            return known[1]

    async def _find(self, sale_no: int) -> Sale | None:
        now_s = self._clock.monotonic()
        try:
            sale = await self._sales.find(sale_no)
        finally:
            del self._finding[sale_no]
        if sale is not None:
            self._known[sale_no] = (now_s, sale)
            self._known.move_to_end(sale_no)
            self._numbers[sale.sale] = sale_no
            if len(self._known) > _KNOWN_MAX:
                self.forget(next(iter(self._known)))
        return sale

    def forget(self, sale_no: int) -> None:
        known = self._known.pop(sale_no, None)
        if known is not None:
            self._numbers.pop(known[1].sale, None)
