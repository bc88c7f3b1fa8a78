"""The room and its sales as who enters is shown them, while one store or the other is away."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

import pytest
from msgspec.structs import replace

from gateway.domain.ids import IdMint, RoomId, SaleId, Sku
from gateway.domain.room import Room
from gateway.domain.sale import Item, ItemCounts, Sale, SaleHold, StockDisplay
from gateway.errors import HotUnavailable, LedgerUnavailable
from gateway.flows import last_known
from gateway.flows.room_book import RoomBook
from gateway.flows.watch import WatchRoom
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
        self.watch = WatchRoom(
            rooms=RoomBook(rooms=self, mint=MINT, clock=self.clock),
            sales=self,
            book=rest,
            counters={0: self, 1: self},
            hot={0: self, 1: self},
            reader=rest,
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
            _, sales = await self.watch.window(SHOWN)
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
