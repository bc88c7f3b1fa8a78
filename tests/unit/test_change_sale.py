"""What a host changes of a sale: checked as a whole, then done act by act, then told."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.domain.acts import Act
from gateway.domain.caller import Caller, Role
from gateway.domain.drafts import SaleChanges
from gateway.domain.ids import RoomId, SaleId, Sku
from gateway.domain.sale import Item, PriceStep, Sale, SaleHold, SaleState, StockDisplay
from gateway.errors import Conflict, Forbidden, Invalid, LedgerUnavailable, OutcomeUnknown, Unavailable
from gateway.flows.change_sale import ChangeSale
from gateway.flows.sales import SaleReading

HOST = Caller(shop="tins", sub="host-1", role=Role.HOST, expires_at_s=0)
NOW_MS = 5_000
SALE = Sale(
    sale=SaleId("sale_7"),
    sale_no=7,
    shop="tins",
    shard=0,
    room=RoomId("room_1"),
    title="Tins",
    currency="CNY",
    hold=SaleHold.ACTIVE,
    opens_at_ms=1_000,
    closes_at_ms=9_000,
    pay_within_s=300,
    stock_display=StockDisplay.EXACT,
    created_at_ms=0,
    items=(
        Item(
            item_no=1,
            sku=Sku("tin"),
            title="A tin",
            price_minor=1900,
            stock=10,
            limit_per_viewer=2,
            floor_minor=1000,
        ),
        Item(item_no=2, sku=Sku("cup"), title="A cup", price_minor=500, stock=10, limit_per_viewer=2),
    ),
)


class Desk:
    """Everything that a change goes through. The sale becomes what its acts say."""

    def __init__(self) -> None:
        self.sale = SALE
        self.acts: list[tuple[Act, int, int, str]] = []
        self.errors: dict[int, Exception] = {}
        """By the place of the act that fails."""
        self.ledger_error: Exception | None = None
        self.prices_told: list[tuple[str, int]] = []
        self.told: list[Mapping[str, Any]] = []
        self.restocked: list[int] = []
        pretending: Any = self
        self.flow = ChangeSale(
            sales=pretending, control=pretending, ledger=pretending, news=pretending, moved=self.moved
        )

    async def find(self, caller: Caller, sale_id: str) -> Sale:
        return self.sale

    async def now_ms(self, shard: int) -> int:
        return NOW_MS

    async def keep(self, sale: Sale, act: Act, *, actor: str, item_no: int, value: int, text: str) -> None:
        if (error := self.errors.get(len(self.acts))) is not None:
            raise error
        self.acts.append((act, item_no, value, text))
        match act:
            case Act.WINDOW:
                self.sale = replace(self.sale, opens_at_ms=value, closes_at_ms=int(text))
            case Act.PRICE:
                self._item(item_no, price_minor=value, prices=())
            case Act.PLAN:
                steps = [step.split(":") for step in text.split(";") if step]
                self._item(item_no, prices=tuple(PriceStep(int(at), int(price)) for at, price in steps))

    def _item(self, item_no: int, **facts: Any) -> None:
        items = (replace(item, **facts) if item.item_no == item_no else item for item in self.sale.items)
        self.sale = replace(self.sale, items=tuple(items))

    async def change(self, sale_no: int, *, title: str | None, stock_display: StockDisplay | None, actor: str) -> None:
        if self.ledger_error is not None:
            raise self.ledger_error
        self.sale = replace(
            self.sale, title=title or self.sale.title, stock_display=stock_display or self.sale.stock_display
        )

    async def afterwards(self, caller: Caller, sale: Sale) -> SaleReading:
        return SaleReading(self.sale, SaleState.OPEN)

    async def prices(self, sale: Sale, prices: Sequence[tuple[str, int]]) -> None:
        self.prices_told += prices

    async def tell(self, room: str, events: Sequence[Mapping[str, Any]], *, at_once: bool) -> None:
        self.told += events

    def moved(self, sales: Iterable[int]) -> None:
        self.restocked += sales

    async def asked(self, **changes: Any) -> SaleReading:
        for at, sku in enumerate([*changes.get("prices", ()), *changes.get("plans", ())]):
            changes.setdefault("places", {}).setdefault(sku, at)
        return await self.flow.change(HOST, "sale_7", SaleChanges(**changes))


async def test_window_prices_and_plans_are_acts_in_that_order_and_what_is_in_force_is_told() -> None:
    desk = Desk()
    plan = (PriceStep(4_000, 1500), PriceStep(6_000, 1200))
    await desk.asked(closes_at_ms=8_000, prices={"tin": 1800, "cup": 400}, plans={"tin": plan})
    assert desk.acts == [
        (Act.WINDOW, 0, 1_000, "8000"),
        (Act.PRICE, 1, 1800, ""),
        (Act.PLAN, 1, 0, "4000:1500;6000:1200"),
        (Act.PRICE, 2, 400, ""),
    ]
    assert desk.prices_told == [("tin", 1500), ("cup", 400)], "the plan's step of a second ago is in force"
    [event] = desk.told
    assert (event["k"], event["closes_at_ms"], event["title"]) == ("sale", 8_000, "Tins")


async def test_title_and_display_go_straight_to_the_ledger_and_what_is_left_is_shown_anew() -> None:
    desk = Desk()
    reading = await desk.asked(title="Tins and cups", stock_display=StockDisplay.LOW)
    assert (reading.sale.title, reading.sale.stock_display) == ("Tins and cups", StockDisplay.LOW)
    assert desk.acts == desk.prices_told == []
    assert [event["title"] for event in desk.told] == ["Tins and cups"]
    assert desk.restocked == [7]


async def test_a_plan_that_changes_nothing_now_tells_nothing_now() -> None:
    desk = Desk()
    await desk.asked(plans={"tin": (PriceStep(6_000, 1200),)})
    assert desk.acts == [(Act.PLAN, 1, 0, "6000:1200")]
    assert desk.prices_told == desk.told == []
    await desk.asked(plans={"tin": ()})
    assert desk.acts[1:] == [(Act.PLAN, 1, 0, "")]


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prices": {"bowl": 1}}, "items[0].sku"),
        ({"prices": {"tin": 999}}, "items[0].price_minor"),
        ({"prices": {"cup": 1, "tin": 999}}, "items[1].price_minor"),
        ({"plans": {"tin": (PriceStep(4_000, 999),)}}, "items[0].prices[0].price_minor"),
        ({"plans": {"tin": (PriceStep(999, 1500),)}}, "items[0].prices[0].from"),
        ({"plans": {"tin": (PriceStep(9_000, 1500),)}}, "items[0].prices[0].from"),
        ({"plans": {"tin": (PriceStep(4_000, 1500), PriceStep(4_000, 1400))}}, "items[0].prices[1].from"),
        ({"closes_at_ms": 7_000, "plans": {"tin": (PriceStep(8_000, 1500),)}}, "items[0].prices[0].from"),
        ({"closes_at_ms": 1_000}, "closes_at"),
        ({"opens_at_ms": 9_000}, "opens_at"),
        ({"opens_at_ms": 2_000, "closes_at_ms": 2_000}, "opens_at"),
    ],
)
async def test_a_change_that_is_wrong_anywhere_does_nothing(changes: dict[str, Any], param: str) -> None:
    desk = Desk()
    with pytest.raises(Invalid) as refused:
        await desk.asked(title="New", **changes)
    assert refused.value.param == param
    assert desk.acts == []
    assert desk.sale == SALE


async def test_a_first_act_that_is_refused_means_that_nothing_happened_and_a_later_one_does_not() -> None:
    desk = Desk()
    desk.errors = {0: Conflict()}
    with pytest.raises(Conflict):
        await desk.asked(prices={"tin": 1800, "cup": 400})
    desk.errors = {1: Unavailable()}
    with pytest.raises(OutcomeUnknown):
        await desk.asked(prices={"tin": 1800, "cup": 400})
    assert desk.prices_told == []


async def test_a_ledger_that_is_away_leaves_the_outcome_unknown() -> None:
    desk = Desk()
    desk.ledger_error = LedgerUnavailable()
    with pytest.raises(OutcomeUnknown):
        await desk.asked(title="New")


async def test_only_a_host_changes_a_sale() -> None:
    desk = Desk()
    clerk = Caller(shop="tins", sub="clerk-1", role=Role.CLERK, expires_at_s=0)
    with pytest.raises(Forbidden):
        await desk.flow.change(clerk, "sale_7", SaleChanges(title="New"))
    assert desk.sale == SALE
