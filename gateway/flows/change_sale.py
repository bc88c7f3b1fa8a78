"""What a host changes of a sale that is made: its title, its window, how it shows its stock, and what its items cost.

Windows, prices and plans are acts in the order stream, in force for every order decided after them; what was reserved
before keeps its price. All is checked before the first of them is asked for.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from gateway.domain.acts import Act
from gateway.domain.caller import Caller
from gateway.domain.drafts import SaleChanges, check_plan
from gateway.domain.sale import Item, Sale, StockDisplay, plan_text
from gateway.errors import GatewayError, Invalid, LedgerUnavailable, OutcomeUnknown
from gateway.flows.access import require_host
from gateway.flows.control_sale import ControlSale
from gateway.flows.room_news import sale_event
from gateway.flows.sales import SaleReading, Sales


class Ledger(Protocol):
    async def change(
        self, sale_no: int, *, title: str | None, stock_display: StockDisplay | None, actor: str
    ) -> None: ...


class News(Protocol):
    """What the sale's room is told; best effort."""

    async def prices(self, sale: Sale, prices: Sequence[tuple[str, int]]) -> None: ...
    async def tell(self, room: str, events: Sequence[Mapping[str, Any]], *, at_once: bool) -> None: ...


class ChangeSale:
    """Raises Conflict where the state forbids an act, OutcomeUnknown where some of it may be in force."""

    def __init__(
        self,
        *,
        sales: Sales,
        control: ControlSale,
        ledger: Ledger,
        news: News,
        moved: Callable[[Iterable[int]], None],
    ) -> None:
        """`moved` hears of sales that are to show their stock anew."""
        self._sales = sales
        self._control = control
        self._ledger = ledger
        self._news = news
        self._moved = moved

    async def change(self, caller: Caller, sale_id: str, changes: SaleChanges) -> SaleReading:
        require_host(caller)
        sale = await self._sales.find(caller, sale_id)
        before_ms = await self._sales.now_ms(sale.shard)
        acts = _acts(sale, changes)
        changed = False
        for act, item_no, value, text in acts:
            try:
                await self._control.keep(sale, act, actor=caller.sub, item_no=item_no, value=value, text=text)
            except OutcomeUnknown:
                raise
            except GatewayError as error:
                # Nothing happened is true of this act, and not of those before it.
                raise (OutcomeUnknown("A part is changed; repeat to change all.") if changed else error) from error
            changed = True
        await self._change_facts(caller, sale, changes)
        reading = await self._control.afterwards(caller, sale)
        await self._tell(sale, reading, before_ms)
        return reading

    async def _change_facts(self, caller: Caller, sale: Sale, changes: SaleChanges) -> None:
        title = None if isinstance(changes.title, UnsetType) else changes.title
        shown = None if isinstance(changes.stock_display, UnsetType) else changes.stock_display
        if title is None and shown is None:
            return
        try:
            await self._ledger.change(sale.sale_no, title=title, stock_display=shown, actor=caller.sub)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error

    async def _tell(self, before: Sale, reading: SaleReading, before_ms: int) -> None:
        """What viewers see of the change; what is as it was is not told."""
        sale = reading.sale
        if sale.room is None:
            return
        now_ms = await self._sales.now_ms(sale.shard)
        cost = {item.item_no: item.price_at(before_ms) for item in before.items}
        priced = [(item.sku, item.price_at(now_ms)) for item in sale.items]
        await self._news.prices(
            sale,
            [each for each, item in zip(priced, sale.items, strict=True) if each[1] != cost[item.item_no]],
        )
        if _facts(sale) != _facts(before):
            event = {**sale_event(sale, reading.state), "title": sale.title}
            await self._news.tell(sale.room, [event], at_once=True)
        if sale.stock_display != before.stock_display:
            self._moved([sale.sale_no])


def _facts(sale: Sale) -> tuple[str, int, int]:
    return sale.title, sale.opens_at_ms, sale.closes_at_ms


def _acts(sale: Sale, changes: SaleChanges) -> list[tuple[Act, int, int, str]]:
    """What goes through the stream: (act, item number, value, text). Raises Invalid for the first that is wrong."""
    acts: list[tuple[Act, int, int, str]] = []
    opens_at_ms = sale.opens_at_ms if isinstance(changes.opens_at_ms, UnsetType) else changes.opens_at_ms
    closes_at_ms = sale.closes_at_ms if isinstance(changes.closes_at_ms, UnsetType) else changes.closes_at_ms
    if changes.opens_at_ms is not UNSET or changes.closes_at_ms is not UNSET:
        if opens_at_ms >= closes_at_ms:
            param = "closes_at" if changes.opens_at_ms is UNSET else "opens_at"
            raise Invalid("A sale closes after it opens.", param=param)
        acts.append((Act.WINDOW, 0, opens_at_ms, str(closes_at_ms)))
    items: dict[str, Item] = {item.sku: item for item in sale.items}
    for sku, at in changes.places.items():
        item = items.get(sku)
        if item is None:
            raise Invalid("There is no such sku in this sale.", param=f"items[{at}].sku")
        price_minor = changes.prices.get(sku)
        if price_minor is not None:
            if price_minor < (item.floor_minor or 0):
                raise Invalid(f"The price is at least {item.floor_minor}.", param=f"items[{at}].price_minor")
            acts.append((Act.PRICE, item.item_no, price_minor, ""))
        plan = changes.plans.get(sku)
        if plan is not None:
            check_plan(
                plan,
                opens_at_ms=opens_at_ms,
                closes_at_ms=closes_at_ms,
                floor_minor=item.floor_minor,
                param=f"items[{at}].prices",
            )
            acts.append((Act.PLAN, item.item_no, 0, plan_text(plan)))
    return acts
