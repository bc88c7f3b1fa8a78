"""A sale: a timed offer of items, each with its price, stock and limit a viewer."""

from collections.abc import Sequence
from enum import StrEnum

import msgspec

from gateway.domain.ids import RoomId, SaleId, Sku

MAX_ITEMS = 200
MAX_STOCK = 100_000_000
MAX_PRICE_MINOR = 9 * 10**12  # times the largest quantity it stays below 2^53, where Lua's numbers end
MAX_PRICE_STEPS = 50  # of one item; the script reads them all at each call
PAY_WITHIN_S = 300
MIN_PAY_WITHIN_S, MIN_PAY_WITHIN_DEV_S, MAX_PAY_WITHIN_S = 60, 5, 86_400


class SaleHold(StrEnum):
    """What hosts did to a sale; the state viewers see follows from it and the time."""

    ACTIVE = "active"
    PAUSED = "paused"
    CLOSED = "closed"


class SaleState(StrEnum):
    SCHEDULED = "scheduled"
    OPEN = "open"
    PAUSED = "paused"
    CLOSED = "closed"


class StockDisplay(StrEnum):
    EXACT = "exact"
    LOW = "low"
    HIDDEN = "hidden"


class PriceStep(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """From this instant on an item has this price."""

    from_ms: int
    price_minor: int


class Item(msgspec.Struct, frozen=True, gc=False):
    item_no: int
    sku: Sku
    title: str
    price_minor: int
    stock: int
    limit_per_viewer: int
    list_price_minor: int | None = None
    floor_minor: int | None = None
    image_url: str | None = None
    prices: tuple[PriceStep, ...] = ()
    """The plan of its price, ascending; before the first step it is `price_minor`."""

    def price_at(self, now_ms: int) -> int:
        """The price in force at an instant of Valkey's clock, as the scripts judge it too."""
        price_minor = self.price_minor
        for step in self.prices:
            if step.from_ms > now_ms:
                break
            price_minor = step.price_minor
        return price_minor


def plan_text(prices: Sequence[PriceStep]) -> str:
    """A plan as the scripts spell it; empty for none."""
    return ";".join(f"{step.from_ms}:{step.price_minor}" for step in prices)


class Sale(msgspec.Struct, frozen=True):
    """The facts of a sale that change only by acts of its host; counters live in Valkey and in the ledger."""

    sale: SaleId
    sale_no: int
    shop: str
    shard: int
    room: RoomId | None
    title: str
    currency: str
    hold: SaleHold
    opens_at_ms: int
    closes_at_ms: int
    pay_within_s: int
    stock_display: StockDisplay
    created_at_ms: int
    items: tuple[Item, ...]
    retired: bool = False
    """It ended long ago, and the ledger alone answers for it."""

    def state_at(self, now_ms: int) -> SaleState:
        """The state by the time of Valkey, which is also what the scripts judge by."""
        if self.retired or self.hold is SaleHold.CLOSED or now_ms >= self.closes_at_ms:
            return SaleState.CLOSED
        if self.hold is SaleHold.PAUSED:
            return SaleState.PAUSED
        return SaleState.OPEN if now_ms >= self.opens_at_ms else SaleState.SCHEDULED


class ItemCounts(msgspec.Struct, frozen=True, gc=False):
    """The counters of one item, from Valkey: `left` to sell, `held` reserved or confirmed but unpaid."""

    item_no: int
    stock: int
    left: int
    held: int


LOW_SHARE, LOW_UNITS = 0.1, 10


def left_for_viewers(sale: Sale, counts: ItemCounts | None) -> dict[str, int | bool]:
    """What a sale lets viewers know of the units left of an item."""
    if counts is None or sale.stock_display is StockDisplay.HIDDEN:
        return {}
    if sale.stock_display is StockDisplay.EXACT:
        return {"left": counts.left}
    return {"low": counts.left <= max(LOW_UNITS, counts.stock * LOW_SHARE)}
