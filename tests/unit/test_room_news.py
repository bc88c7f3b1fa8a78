"""What rooms are told by those who hold no sockets: what is left, and what a sale became."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.domain.ids import RoomId, SaleId, Sku
from gateway.domain.live import RoomChange
from gateway.domain.sale import Item, ItemCounts, Sale, SaleHold, SaleState, StockDisplay
from gateway.errors import HotUnavailable, LedgerUnavailable
from gateway.flows.room_news import KEEP_S, KEPT_MAX, RoomNews
from gateway.flows.stock_news import StockNews
from tests.support.fake_clock import FakeClock
from tests.support.members import ROOM


def sale(sale_no: int = 1, *, room: str | None = "room_1", display: StockDisplay = StockDisplay.EXACT) -> Sale:
    return Sale(
        sale=SaleId(f"sale_{sale_no}"),
        sale_no=sale_no,
        shop="tins",
        shard=sale_no % 2,
        room=None if room is None else RoomId(room),
        title="Tins",
        currency="CNY",
        hold=SaleHold.ACTIVE,
        opens_at_ms=10,
        closes_at_ms=20,
        pay_within_s=300,
        stock_display=display,
        created_at_ms=0,
        items=tuple(
            Item(item_no=no, sku=Sku(sku), title=sku, price_minor=1, stock=100, limit_per_viewer=1)
            for no, sku in ((1, "tin"), (2, "cup"))
        ),
    )


def read_room(room: str) -> int | None:
    return int(room.removeprefix("room_")) if room.startswith("room_") else None


class Stock:
    """Sales, what is left of them, and what rooms were brought."""

    def __init__(self, *sales: Sale) -> None:
        self.sales = {each.sale_no: each for each in sales}
        self.left: Mapping[int, int] | None = {1: 50, 2: 3}
        self.broken: set[int] = set()
        self.read: list[int] = []
        self.brought: list[tuple[int, str, int, dict[str, Any]]] = []
        self.news = StockNews(find=self.find, counters={0: self, 1: self}, rooms=self, read_room=read_room)

    async def find(self, sale_no: int, /) -> Sale | None:
        return self.sales.get(sale_no)

    async def counts_at(self, sale: Sale) -> tuple[int, dict[int, ItemCounts] | None]:
        self.read.append(sale.sale_no)
        if sale.sale_no in self.broken:
            raise HotUnavailable
        if self.left is None:
            return 77, None
        return 77, {no: ItemCounts(no, 100, left, 0) for no, left in self.left.items()}

    def stock(self, room_no: int, field: str, version: int, event: dict[str, Any]) -> None:
        self.brought.append((room_no, field, version, event))


def event(sku: str, **left: Any) -> tuple[int, str, int, dict[str, Any]]:
    return 1, f"sale_1|{sku}", 77, {"k": "stock", "sale": "sale_1", "sku": sku, **left}


async def test_of_a_sale_whose_units_moved_all_items_are_brought_with_the_time_of_their_reading() -> None:
    stock = Stock(sale())
    stock.news.note([1])
    await stock.news.tell()
    assert stock.brought == [event("tin", left=50), event("cup", left=3)]
    await stock.news.tell()
    assert stock.read == [1], "what did not move since is not read"


async def test_of_an_item_that_was_sold_only_that_one_is_brought() -> None:
    stock = Stock(sale())
    for _ in range(100):
        stock.news.sold(1, 2)
    await stock.news.tell()
    assert (stock.read, stock.brought) == ([1], [event("cup", left=3)])


@pytest.mark.parametrize("noted_first", [True, False])
async def test_any_item_of_a_sale_is_more_than_one_of_them(noted_first: bool) -> None:
    stock = Stock(sale())
    if noted_first:
        stock.news.note([1])
    stock.news.sold(1, 2)
    if not noted_first:
        stock.news.note([1])
    await stock.news.tell()
    assert len(stock.brought) == 2


async def test_a_room_is_told_what_the_sale_lets_viewers_know() -> None:
    low = Stock(sale(display=StockDisplay.LOW))
    low.news.note([1])
    await low.news.tell()
    assert low.brought == [event("tin", low=False), event("cup", low=True)]
    hidden = Stock(sale(display=StockDisplay.HIDDEN))
    hidden.news.note([1])
    await hidden.news.tell()
    assert hidden.brought == []


async def test_what_nobody_watches_or_knows_is_passed_over() -> None:
    stock = Stock(sale(1, room=None), sale(2, room="elsewhere"), sale(3))
    stock.left = None
    stock.news.note([1, 2, 3, 4])
    await stock.news.tell()
    assert (stock.read, stock.brought) == ([3], [])


async def test_a_sale_that_cannot_be_read_keeps_no_other_from_being_told_and_is_read_again() -> None:
    stock = Stock(sale(1), sale(2))
    stock.broken = {1}
    stock.news.note([2])
    stock.news.sold(1, 2)
    await stock.news.tell()
    assert [field for _, field, _, _ in stock.brought] == ["sale_2|tin", "sale_2|cup"]
    assert sorted(stock.read) == [1, 2]
    stock.brought.clear()
    stock.broken.clear()
    await stock.news.tell()
    assert stock.brought == [event("cup", left=3)], "only what moved"


async def test_of_a_sale_that_moves_on_while_it_cannot_be_read_all_that_moved_is_brought() -> None:
    stock = Stock(sale(1))
    stock.broken = {1}
    stock.news.note([1])
    telling = asyncio.ensure_future(stock.news.tell())
    stock.news.sold(1, 2)
    await telling
    stock.broken.clear()
    await stock.news.tell()
    assert stock.brought == [event("tin", left=50), event("cup", left=3)]


class Valkey:
    """`sales` is what the ledger has of them by now."""

    def __init__(self, *, has_room: bool = True, error: Exception | None = None) -> None:
        self.has_room = has_room
        self.error = error
        self.open_error: Exception | None = None
        self.opened: list[int] = []
        self.sales: dict[int, Sale] = {}
        self.changes: list[tuple[int, RoomChange]] = []
        self.cuts: list[tuple[int, bool]] = []
        self.clock = FakeClock(now_ms=15)
        self.news = RoomNews(
            hot=self, calls=self, open_room=self.open_room, find=self.find, read_room=read_room, clock=self.clock
        )

    async def change(self, room_no: int, change: RoomChange) -> bool:
        if self.error is not None:
            raise self.error
        if self.has_room:
            self.changes.append((room_no, change))
        return self.has_room

    async def open_room(self, room_no: int, /) -> None:
        self.opened.append(room_no)
        if self.open_error is not None:
            raise self.open_error
        self.has_room = True

    async def find(self, sale_no: int, /) -> Sale | None:
        return self.sales.get(sale_no)

    def cut(self, room_no: int, *, at_once: bool = False) -> None:
        self.cuts.append((room_no, at_once))

    @property
    def told(self) -> list[dict[str, Any]]:
        return [event for _, change in self.changes for event in change.events]


async def test_an_act_is_told_in_a_tick_that_this_process_sees_to() -> None:
    valkey, events = Valkey(), [{"k": "announce"}]
    change = RoomChange(events=events, at_once=True)
    await valkey.news.change(ROOM, change)
    await valkey.news.tell("room_7", events)
    assert valkey.changes == [(ROOM.room_no, change), (7, RoomChange(events=events))]
    assert valkey.cuts == [(ROOM.room_no, True), (7, False)]


async def test_what_tells_nothing_asks_for_no_tick() -> None:
    valkey = Valkey()
    await valkey.news.change(ROOM, RoomChange(mutes={"vw_1": 5}))
    await valkey.news.tell("room_7", [])
    assert (len(valkey.changes), valkey.cuts) == (1, [])


async def test_a_room_that_valkey_lacks_is_made_before_it_is_told_anything() -> None:
    valkey = Valkey(has_room=False)
    change = RoomChange(events=[{"k": "announce"}], at_once=True)
    await valkey.news.change(ROOM, change)
    assert valkey.opened == [ROOM.room_no]
    assert valkey.changes == [(ROOM.room_no, change)]
    assert valkey.cuts == [(ROOM.room_no, True)]


async def test_what_tells_nothing_makes_no_room() -> None:
    valkey = Valkey(has_room=False)
    await valkey.news.change(ROOM, RoomChange(rules_changed=True))
    assert (valkey.opened, valkey.cuts) == ([], [])


async def test_a_room_that_cannot_be_made_may_not_have_been_told() -> None:
    valkey = Valkey(has_room=False)
    valkey.open_error = LedgerUnavailable()
    with pytest.raises(HotUnavailable):
        await valkey.news.change(ROOM, RoomChange(events=[{"k": "announce"}]))
    valkey = Valkey(has_room=False)

    async def opens_in_vain(room_no: int, /) -> None:
        pass

    valkey.news._open_room = opens_in_vain
    with pytest.raises(HotUnavailable):
        await valkey.news.change(ROOM, RoomChange(events=[{"k": "announce"}]))


async def test_an_act_that_may_not_have_happened_is_an_error_and_news_of_what_happened_are_not() -> None:
    valkey = Valkey(error=HotUnavailable())
    with pytest.raises(HotUnavailable):
        await valkey.news.change(ROOM, RoomChange(slow_mode_s=5))
    await valkey.news.tell("room_7", [{"k": "announce"}])
    await valkey.news.tell("elsewhere", [{"k": "announce"}])
    assert valkey.cuts == []


async def test_a_sales_room_hears_of_its_prices_and_states_at_once() -> None:
    valkey = Valkey()
    await valkey.news.prices(sale(), [("tin", 900), ("cup", 5)])
    await valkey.news.state(sale(), SaleState.PAUSED)
    for told in (valkey.news.prices(sale(room=None), [("tin", 1)]), valkey.news.state(sale(room=None), SaleState.OPEN)):
        await told
    of_sale = {"sale": "sale_1"}
    assert [list(change.events) for _, change in valkey.changes] == [
        [
            {"k": "price", **of_sale, "sku": "tin", "price_minor": 900},
            {"k": "price", **of_sale, "sku": "cup", "price_minor": 5},
        ],
        [{"k": "sale", **of_sale, "state": "paused", "opens_at_ms": 10, "closes_at_ms": 20}],
    ]
    assert valkey.cuts == [(1, True), (1, True)]


async def test_what_a_room_could_not_be_told_it_is_told_later_once_and_as_it_is_by_then() -> None:
    valkey = Valkey(error=HotUnavailable())
    await valkey.news.state(sale(), SaleState.PAUSED)
    await valkey.news.prices(sale(), [("tin", 900)])
    await valkey.news.tell("room_7", [{"k": "room", "state": "live"}], at_once=True)
    await valkey.news.tell("room_7", [{"k": "room", "state": "ended"}], at_once=True)
    now = replace(sale(), items=(replace(sale().items[0], price_minor=800), sale().items[1]))
    valkey.error, valkey.sales = None, {1: now}
    await valkey.news.tell_again()
    of_sale = {"sale": "sale_1"}
    assert valkey.told == [
        {"k": "sale", **of_sale, "state": "open", "opens_at_ms": 10, "closes_at_ms": 20},
        {"k": "price", **of_sale, "sku": "tin", "price_minor": 800},
        {"k": "room", "state": "ended"},
    ]
    assert all(at_once for _, at_once in valkey.cuts)
    await valkey.news.tell_again()
    assert len(valkey.told) == 3


async def test_what_was_told_newly_is_not_followed_by_what_could_not_be_told_before() -> None:
    valkey = Valkey(error=HotUnavailable())
    await valkey.news.tell("room_7", [{"k": "room", "state": "live"}])
    valkey.error = None
    await valkey.news.tell("room_7", [{"k": "room", "state": "ended"}])
    await valkey.news.tell_again()
    assert valkey.told == [{"k": "room", "state": "ended"}]


async def test_what_could_not_be_told_is_kept_for_a_while_and_bounded() -> None:
    valkey = Valkey(error=HotUnavailable())
    for room_no in range(KEPT_MAX + 10):
        await valkey.news.tell(f"room_{room_no}", [{"k": "room", "state": "live"}])
    valkey.error = None
    await valkey.news.tell_again()
    assert [room_no for room_no, _ in valkey.changes] == list(range(10, KEPT_MAX + 10))
    valkey.changes.clear()
    valkey.error = HotUnavailable()
    await valkey.news.tell("room_1", [{"k": "room", "state": "live"}])
    valkey.clock.advance(KEEP_S + 1)
    valkey.error = None
    await valkey.news.tell_again()
    assert valkey.changes == []


async def test_one_room_that_cannot_be_told_keeps_others_waiting_for_one_turn() -> None:
    valkey = Valkey(error=HotUnavailable())
    for room_no in (1, 2):
        await valkey.news.tell(f"room_{room_no}", [{"k": "room", "state": "live"}])
    valkey.error, valkey.has_room, valkey.open_error = None, False, LedgerUnavailable()
    await valkey.news.tell_again()
    assert valkey.opened[-1] == 1
    await valkey.news.tell_again()
    assert valkey.opened[-1] == 2


async def test_who_tells_again_by_itself_learns_whether_the_room_was_told() -> None:
    valkey = Valkey(error=HotUnavailable())
    assert not await valkey.news.try_state(sale(), SaleState.OPEN)
    assert await valkey.news.try_state(sale(room=None), SaleState.OPEN)
    valkey.error = None
    await valkey.news.tell_again()
    assert valkey.told == [], "nothing is kept for who does"
    assert await valkey.news.try_state(sale(), SaleState.OPEN)
    assert [event["state"] for event in valkey.told] == ["open"]
