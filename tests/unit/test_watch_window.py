"""The room and its sales as who enters is shown them, while one store or the other is away."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from gateway.domain.coupon import Coupon
from gateway.domain.ids import IdMint, RoomId, SaleId, Sku
from gateway.domain.room import Room
from gateway.domain.sale import Item, ItemCounts, PriceStep, Sale, SaleHold, StockDisplay
from gateway.errors import HotUnavailable, LedgerUnavailable
from gateway.flows import last_known
from gateway.flows.room_book import RoomBook
from gateway.flows.watch import WatchRoom
from tests.support.coupons import coupon
from tests.support.fake_clock import FakeClock
from tests.support.members import ROOM

MINT = IdMint(bytes(32))
SHOWN = replace(ROOM, room=MINT.room(0, ROOM.room_no))


def sale(sale_no: int, *, retired: bool = False) -> Sale:
    return Sale(
        sale=SaleId(f"sale_{sale_no}"),
        sale_no=sale_no,
        shop="tins",
        shard=sale_no % 2,
        room=RoomId(SHOWN.room),
        title="Tins",
        currency="CNY",
        hold=SaleHold.ACTIVE,
        opens_at_ms=10,
        closes_at_ms=20,
        pay_within_s=300,
        stock_display=StockDisplay.EXACT,
        created_at_ms=0,
        items=(Item(item_no=1, sku=Sku("tin"), title="Tin", price_minor=1, stock=100, limit_per_viewer=1),),
        retired=retired,
    )


class Shelf:
    """Coupons of the room, and the copies left of each on either shard."""

    def __init__(self) -> None:
        self.coupons: list[Coupon] = []
        self.copies: dict[int, int | None] = {}
        self.away = False

    async def of_room(self, room_no: int) -> list[Coupon]:
        return self.coupons

    async def left(self, coupon_nos: Sequence[int]) -> list[int | None]:
        if self.away:
            raise HotUnavailable
        return [self.copies.get(coupon_no) for coupon_no in coupon_nos]


class Stores:
    """The ledger, and both shards on Valkey: `left` by sale number. A ledger that hangs answers once it may."""

    def __init__(self) -> None:
        self.sales = [sale(1), sale(2), sale(3), sale(4)]
        self.left = {1: 11, 2: 12, 3: 13, 4: 14, 5: 15}
        self.ledger_away = False
        self.valkey_away = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.calls: list[list[int]] = []
        self.clock = FakeClock()
        rest = cast(Any, None)
        self.shelf = Shelf()
        self.watch = WatchRoom(
            rooms=RoomBook(rooms=self, mint=MINT, clock=self.clock),
            sales=self,
            book=rest,
            counters={0: self, 1: self},
            hot={0: self, 1: self},
            reader=rest,
            coupons=self.shelf,
            coupon_book=rest,
            copies={0: self.shelf, 1: self.shelf},
            claims=rest,
            watch=rest,
            mint=MINT,
            id_key=bytes(32),
            clock=self.clock,
        )

    async def find(self, room_no: int) -> Room | None:
        await self._answers()
        return SHOWN

    async def of_room(self, room_no: int, *, limit: int) -> list[Sale]:
        await self._answers()
        return self.sales

    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None:
        assert sale.retired
        await self._answers()
        return self._counts(sale)

    async def counts_of(self, sales: Sequence[Sale]) -> list[dict[int, ItemCounts] | None]:
        self.calls.append([sale.sale_no for sale in sales])
        if self.valkey_away:
            raise HotUnavailable
        return [self._counts(sale) for sale in sales]

    async def _answers(self) -> None:
        await self.may_answer.wait()
        if self.ledger_away:
            raise LedgerUnavailable("away")

    def _counts(self, sale: Sale) -> dict[int, ItemCounts]:
        return {1: ItemCounts(1, 100, self.left[sale.sale_no], 0)}

    async def window(self) -> list[tuple[str, int | None]]:
        """Of each sale what is left."""
        async with asyncio.timeout(2):
            _, sales, _ = await self.watch.window(SHOWN)
        return [(sale["sale"], sale["items"][0].get("left")) for sale in sales]


@pytest.fixture
async def stores() -> Stores:
    return Stores()


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(last_known, "_WAIT_S", 0.02)
    yield


async def test_what_is_left_of_all_sales_is_read_in_one_call_a_shard(stores: Stores) -> None:
    assert await stores.window() == [("sale_1", 11), ("sale_2", 12), ("sale_3", 13), ("sale_4", 14)]
    assert stores.calls == [[1, 3], [2, 4]]


async def test_of_a_sale_that_left_valkey_the_ledger_is_asked(stores: Stores) -> None:
    stores.sales = [sale(5, retired=True), sale(1)]
    assert await stores.window() == [("sale_5", 15), ("sale_1", 11)]
    assert stores.calls == [[1]]


async def test_a_valkey_that_does_not_answer_is_waited_for_once(stores: Stores) -> None:
    stores.valkey_away = True
    assert await stores.window() == [("sale_1", None), ("sale_2", None), ("sale_3", None), ("sale_4", None)]
    assert len(stores.calls) == 1


async def test_each_look_at_a_room_is_of_its_sales_as_they_are(stores: Stores) -> None:
    await stores.window()
    stores.sales = [sale(2)]
    assert await stores.window() == [("sale_2", 12)]


@pytest.mark.usefixtures("short_wait")
async def test_while_the_ledger_hangs_a_room_that_was_shown_is_shown_as_it_was(stores: Stores) -> None:
    before = await stores.window()
    stores.clock.advance(6)
    stores.may_answer.clear()
    stores.left[1] = 7
    assert await stores.window() == [("sale_1", 7), *before[1:]]
    last_known._WAIT_S = 3600
    assert await stores.window() == [("sale_1", 7), *before[1:]], "nobody waits again at once"
    stores.may_answer.set()


async def test_while_the_ledger_is_away_a_room_that_was_never_shown_has_no_sales(stores: Stores) -> None:
    stores.ledger_away = True
    assert await stores.window() == []
    stores.ledger_away = False
    assert len(await stores.window()) == 4


async def test_of_the_coupons_those_that_can_be_claimed_now_are_shown_with_what_is_left(stores: Stores) -> None:
    now_ms = stores.clock.now_ms()
    open_from = {"claim_from_ms": now_ms - 1, "claim_until_ms": now_ms + 1000, "valid_until_ms": now_ms + 2000}
    stores.shelf.coupons = [
        coupon(coupon_no=1, coupon="cpn_1", shard=0, **open_from),
        coupon(coupon_no=2, coupon="cpn_2", shard=1, **open_from),
        coupon(coupon_no=3, coupon="cpn_gone", shard=1, **open_from),
        coupon(coupon_no=4, coupon="cpn_unknown", shard=1, **open_from),
        coupon(coupon_no=5, coupon="cpn_later", shard=1, **{**open_from, "claim_from_ms": now_ms + 500}),
        coupon(coupon_no=6, coupon="cpn_by_a_drop", shard=1, **{**open_from, "claim_from_ms": None}),
        coupon(coupon_no=7, coupon="cpn_over", shard=1, **{**open_from, "claim_until_ms": now_ms}),
    ]
    stores.shelf.copies = {1: 7, 2: 1, 3: 0, 4: None, 5: 5, 6: 5, 7: 5}
    window = await stores.watch.window(SHOWN)
    assert [(each["coupon"], each["left"]) for each in window.coupons] == [("cpn_1", 7), ("cpn_2", 1)]
    assert window.coupons[0]["claim_until_ms"] == now_ms + 1000
    stores.shelf.away = True
    assert (await stores.watch.window(SHOWN)).coupons == []


async def test_an_item_is_shown_at_the_price_that_is_in_force(stores: Stores) -> None:
    now_ms = stores.clock.now_ms()
    plan = (PriceStep(now_ms - 10, 900), PriceStep(now_ms, 800), PriceStep(now_ms + 1, 700))
    stores.sales = [replace(sale(1), items=(replace(sale(1).items[0], prices=plan),))]
    [shown] = (await stores.watch.window(SHOWN)).sales
    assert shown["items"][0]["price_minor"] == 800
