"""Rooms hear of sales that open and close by the clock: a real ledger, and a clock that a test moves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from gateway.domain.drafts import Effect, ItemDraft, RoomDraft, SaleDraft
from gateway.domain.ids import IdMint
from gateway.domain.room import Room
from gateway.domain.sale import PriceStep, Sale, SaleState
from gateway.errors import LedgerUnavailable
from gateway.keeper.windows import BEHIND_MS, Windows
from gateway.ledger.pool import Ledger
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.sales import LedgerSales
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops
from gateway.ledger.windows import LedgerWindows, WindowEdge

NOON_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


class Valkey:
    """Its clock. Who sleeps wakes a little early, as timers may."""

    def __init__(self) -> None:
        self.now_ms = float(NOON_MS)
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    def monotonic(self) -> float:
        return self.now_ms / 1000

    async def time_s(self) -> float:
        return self.now_ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.now_ms += max(0.3, seconds * 1000 - 2)
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            await happens()


class Trust:
    trusted = True


class HeardNews:
    """Telling takes a moment."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self.told: list[tuple[float, Sale, SaleState]] = []
        self.priced: list[tuple[float, str, int]] = []
        """(when, sku, price)."""
        self.deaf: set[str] = set()
        """Sales whose room cannot be told."""
        self.meanwhile: Callable[[], Awaitable[None]] | None = None

    async def try_state(self, sale: Sale, state: SaleState) -> bool:
        if sale.sale in self.deaf:
            return False
        self.told.append((self._valkey.now_ms, sale, state))
        self._valkey.now_ms += 3
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            await happens()
        return True

    async def try_prices(self, sale: Sale, prices: Sequence[tuple[str, int]]) -> bool:
        if sale.sale in self.deaf:
            return False
        self.priced += [(self._valkey.now_ms, sku, price) for sku, price in prices]
        self._valkey.now_ms += 3
        return True

    def states(self) -> list[tuple[str, str]]:
        return [(sale.sale, state) for _, sale, state in self.told]


class LedgerAway:
    """Is away for so many looks."""

    def __init__(self, real: LedgerWindows) -> None:
        self._real = real
        self.looks = 0

    async def edges(self, from_ms: int, to_ms: int) -> list[WindowEdge]:
        if self.looks:
            self.looks -= 1
            raise LedgerUnavailable("away")
        return await self._real.edges(from_ms, to_ms)


class World:
    def __init__(self, ledger: Ledger, mint: IdMint, room: Room) -> None:
        self.ledger = ledger
        self.room = room
        self.sales = LedgerSales(ledger, mint)
        self.edges = LedgerWindows(ledger)
        self.valkey = Valkey()
        self.trust = Trust()
        self.news = HeardNews(self.valkey)
        self.windows = self.keeper()

    def keeper(self, **more: Any) -> Windows:
        parts: dict[str, Any] = {
            "ledger": self.edges,
            "sales": self.sales,
            "server": self.valkey,
            "clocks": self.trust,
            "news": self.news,
            "clock": self.valkey,
            "sleep": self.valkey.sleep,
        }
        return Windows(**{**parts, **more})

    async def sale(
        self,
        *,
        opens_in_ms: int,
        closes_in_ms: int = HOUR_MS,
        in_room: bool = True,
        steps: Sequence[tuple[int, int]] = (),
    ) -> Sale:
        """`steps`: (from in ms, price) of its item."""
        prices = tuple(PriceStep(NOON_MS + from_ms, price) for from_ms, price in steps)
        draft = SaleDraft(
            title="Tins",
            currency="EUR",
            opens_at_ms=NOON_MS + opens_in_ms,
            closes_at_ms=NOON_MS + closes_in_ms,
            items=(ItemDraft(sku="tin", title="Tin", price_minor=1900, stock=10, limit_per_viewer=2, prices=prices),),
            room=self.room.room if in_room else None,
        )
        effect = Effect("host_1", "sale", f"{opens_in_ms}.{closes_in_ms}.{in_room}.{steps}", "f")
        return (await self.sales.create("tins", draft, effect)).sale

    async def hold(self, sale: Sale, hold: str) -> None:
        await self.ledger.execute("UPDATE sales SET hold = $2 WHERE sale_no = $1", sale.sale_no, hold)

    async def until(self, ms: int) -> None:
        """A keeper at work until that time."""

        async def sleep(seconds: float) -> None:
            if self.valkey.now_ms >= NOON_MS + ms:
                raise asyncio.CancelledError
            await self.valkey.sleep(seconds)

        self.windows._sleep = sleep
        with pytest.raises(asyncio.CancelledError):
            await self.windows.run()


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    ledger = await Ledger.connect(database_url, size=4)
    await LedgerShards(ledger).ensure(1)
    async with Shops.connect(database_url) as shops:
        await shops.create("tins")
    mint = IdMint(await LedgerShards(ledger).id_key())
    room = (await LedgerRooms(ledger, mint).create("tins", RoomDraft(title="Tins"), Effect("h", "room", "k", "f"))).room
    yield World(ledger, mint, room)
    await ledger.close()


async def test_a_room_hears_of_an_opening_and_a_closing_once_and_at_its_time(world: World) -> None:
    sale = await world.sale(opens_in_ms=4321, closes_in_ms=20_017)
    await world.until(40_000)
    [(opened_ms, told, _), (closed_ms, _, _)] = world.news.told
    assert told == sale
    assert world.news.states() == [(sale.sale, "open"), (sale.sale, "closed")]
    assert 0 <= opened_ms - sale.opens_at_ms < 50
    assert 0 <= closed_ms - sale.closes_at_ms < 50


@pytest.mark.parametrize("in_ms", [1, 999, 1000, 1001, 1499, 1500, 1501, 1999, 2000, 2001, 3500])
async def test_no_time_between_two_looks_is_missed(world: World, in_ms: int) -> None:
    sale = await world.sale(opens_in_ms=in_ms)
    await world.until(6000)
    [(at_ms, _, _)] = world.news.told
    assert 0 <= at_ms - sale.opens_at_ms < 50


async def test_sales_a_moment_apart_are_each_told_at_their_time(world: World) -> None:
    sales = [await world.sale(opens_in_ms=900 + at) for at in (0, 1, 30, 200, 700)]
    await world.until(3000)
    for sale, (at_ms, told, _) in zip(sales, world.news.told, strict=True):
        assert told == sale
        assert 0 <= at_ms - sale.opens_at_ms < 50


async def test_a_sale_that_was_set_to_open_at_once_is_told_at_the_next_look(world: World) -> None:
    await world.windows.step()
    sale = await world.sale(opens_in_ms=-800)
    await world.windows.step()
    await world.windows.step()
    assert world.news.states() == [(sale.sale, "open")]


async def test_a_keeper_that_starts_tells_only_what_is_new(world: World) -> None:
    await world.sale(opens_in_ms=-BEHIND_MS - 1)
    recent = await world.sale(opens_in_ms=-BEHIND_MS + 1)
    await world.windows.step()
    assert world.news.states() == [(recent.sale, "open")]


async def test_a_sale_in_no_room_and_one_that_a_host_closed_are_not_told(world: World) -> None:
    await world.sale(opens_in_ms=500, in_room=False)
    await world.hold(await world.sale(opens_in_ms=600, closes_in_ms=1500), "closed")
    await world.until(4000)
    assert world.news.told == []


async def test_a_paused_sale_is_told_as_what_it_is(world: World) -> None:
    sale = await world.sale(opens_in_ms=500, closes_in_ms=3000)
    await world.hold(sale, "paused")
    await world.until(6000)
    assert world.news.states() == [(sale.sale, "paused"), (sale.sale, "closed")]


async def test_what_a_host_does_before_the_time_comes_counts(world: World) -> None:
    sale = await world.sale(opens_in_ms=900)
    world.valkey.meanwhile = lambda: world.hold(sale, "paused")
    await world.windows.step()
    assert world.news.states() == [(sale.sale, "paused")]


async def test_a_sale_that_was_put_off_is_told_at_its_later_time(world: World) -> None:
    sale = await world.sale(opens_in_ms=5000)
    await world.until(2000)
    await world.ledger.execute("UPDATE sales SET opens_at_ms = opens_at_ms + 4000")
    await world.until(12_000)
    [(at_ms, _, state)] = world.news.told
    assert state == "open"
    assert 0 <= at_ms - (sale.opens_at_ms + 4000) < 50


async def test_a_host_who_acts_while_it_is_told_has_the_last_word(world: World) -> None:
    sale = await world.sale(opens_in_ms=500)
    world.news.meanwhile = lambda: world.hold(sale, "paused")
    await world.windows.step()
    assert world.news.states() == [(sale.sale, "open"), (sale.sale, "paused")]


async def test_what_was_missed_while_the_ledger_was_away_is_told_afterwards(world: World) -> None:
    sale = await world.sale(opens_in_ms=5000)
    away = LedgerAway(world.edges)
    windows = world.keeper(ledger=away)
    await windows.step()
    away.looks = 20
    for _ in range(20):
        world.valkey.now_ms += 1000
        with pytest.raises(LedgerUnavailable):
            await windows.step()
    assert world.news.told == []
    await windows.step()
    await windows.step()
    assert world.news.states() == [(sale.sale, "open")]


async def test_a_room_that_could_not_be_told_is_told_when_it_can_be_however_late_and_once(world: World) -> None:
    deaf, heard = await world.sale(opens_in_ms=500, closes_in_ms=40_000), await world.sale(opens_in_ms=600)
    world.news.deaf = {deaf.sale}
    await world.until(20_000)
    assert world.news.states() == [(heard.sale, "open")]
    world.news.deaf = set()
    await world.until(25_000)
    assert world.news.states() == [(heard.sale, "open"), (deaf.sale, "open")]


async def test_a_room_that_is_told_in_the_same_look_what_a_host_did_meanwhile_is_not_told_again(world: World) -> None:
    deaf, heard = await world.sale(opens_in_ms=500), await world.sale(opens_in_ms=501)
    world.news.deaf = {deaf.sale}
    world.valkey.now_ms = float(heard.opens_at_ms)

    async def pauses() -> None:
        await world.hold(deaf, "paused")
        world.news.deaf = set()

    world.news.meanwhile = pauses
    await world.until(6000)
    assert world.news.states() == [(heard.sale, "open"), (deaf.sale, "paused")]


async def test_while_the_clocks_are_not_trusted_a_closing_is_told_and_an_opening_waits(world: World) -> None:
    opens = await world.sale(opens_in_ms=500)
    closes = await world.sale(opens_in_ms=-HOUR_MS, closes_in_ms=600)
    world.trust.trusted = False
    await world.until(20_000)
    assert world.news.states() == [(closes.sale, "closed")]
    world.trust.trusted = True
    await world.until(23_000)
    assert world.news.states() == [(closes.sale, "closed"), (opens.sale, "open")]


async def test_what_was_told_is_forgotten_when_it_is_not_looked_for_any_more(world: World) -> None:
    for at in range(10):
        await world.sale(opens_in_ms=500 + at)
    await world.until(2000)
    assert len(world.news.told) == 10
    await world.until(20_000)
    assert world.windows._told == set()
    assert len(world.news.told) == 10


async def test_a_clock_that_was_set_back_lets_the_room_hear_of_the_opening_again(world: World) -> None:
    sale = await world.sale(opens_in_ms=500)
    await world.until(1500)
    world.valkey.now_ms = float(NOON_MS - 3000)
    await world.until(2000)
    assert world.news.states() == [(sale.sale, "open")] * 2
    assert world.news.told[1][0] >= sale.opens_at_ms


async def test_a_clock_that_is_set_back_while_a_time_is_waited_for_holds_nobody_up(world: World) -> None:
    sale = await world.sale(opens_in_ms=900)

    async def goes_back() -> None:
        world.valkey.now_ms -= HOUR_MS

    world.valkey.meanwhile = goes_back
    await world.windows.step()
    assert world.news.told == []
    world.valkey.now_ms = float(sale.opens_at_ms - 200)
    await world.windows.step()
    assert world.news.states() == [(sale.sale, "open")]


async def test_a_second_keeper_repeats_what_the_first_told(world: World) -> None:
    sale = await world.sale(opens_in_ms=500)
    await world.windows.step()
    await world.keeper().step()
    assert world.news.states() == [(sale.sale, "open")] * 2


async def test_each_step_of_a_price_is_told_once_and_at_its_time(world: World) -> None:
    steps = [(1234, 1500), (1236, 1400), (9000, 1200)]
    await world.sale(opens_in_ms=-HOUR_MS, steps=steps)
    await world.until(30_000)
    told: dict[int, float] = {}
    for at_ms, _, price in world.news.priced:
        told.setdefault(price, at_ms)
    # Who is told of the first two in one breath may hear the second one twice.
    assert list(told) == [1500, 1400, 1200] and len(world.news.priced) <= 4
    for from_ms, price in steps:
        assert 0 <= told[price] - (NOON_MS + from_ms) < 50
    assert world.news.told == []


async def test_an_opening_and_a_price_of_the_same_moment_are_both_told(world: World) -> None:
    sale = await world.sale(opens_in_ms=700, steps=[(700, 1500)])
    await world.until(3000)
    assert world.news.states() == [(sale.sale, "open")]
    assert [price for _, _, price in world.news.priced] == [1500]


async def test_a_keeper_that_starts_again_tells_the_step_it_missed(world: World) -> None:
    await world.sale(opens_in_ms=-HOUR_MS, steps=[(-HOUR_MS, 1800), (2000, 1500)])
    await world.windows.step()
    world.valkey.now_ms += 4000
    world.windows = world.keeper()
    await world.until(8000)
    assert [price for _, _, price in world.news.priced] == [1500]


async def test_a_price_that_a_host_sets_meanwhile_is_the_one_that_is_told(world: World) -> None:
    await world.sale(opens_in_ms=-HOUR_MS, steps=[(900, 1500)])

    async def sets() -> None:
        await world.ledger.execute("UPDATE sale_items SET price_minor = 1700, prices = NULL")

    world.valkey.meanwhile = sets
    await world.windows.step()
    assert [price for _, _, price in world.news.priced] == [1700]


async def test_a_room_that_could_not_be_told_a_price_is_told_when_it_can_be(world: World) -> None:
    sale = await world.sale(opens_in_ms=-HOUR_MS, steps=[(500, 1500)])
    world.news.deaf = {sale.sale}
    await world.until(12_000)
    assert world.news.priced == []
    world.news.deaf = set()
    await world.until(15_000)
    assert [price for _, _, price in world.news.priced] == [1500]


async def test_prices_of_a_sale_in_no_room_or_that_a_host_closed_are_not_told(world: World) -> None:
    await world.sale(opens_in_ms=-HOUR_MS, in_room=False, steps=[(500, 1500)])
    await world.hold(await world.sale(opens_in_ms=-HOUR_MS, steps=[(500, 1500)]), "closed")
    await world.until(4000)
    assert world.news.priced == []
