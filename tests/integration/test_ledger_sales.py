import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from msgspec.structs import replace

from gateway.domain.drafts import Effect, ItemDraft, RoomChanges, RoomDraft, SaleDraft, fingerprint
from gateway.domain.ids import IdMint
from gateway.domain.room import RoomState
from gateway.domain.sale import StockDisplay
from gateway.errors import KeyReused, LedgerRejected, NotFound
from gateway.ledger.effects import LedgerEffects
from gateway.ledger.keys import LedgerKeys
from gateway.ledger.pool import Ledger
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.sales import LedgerSales
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops, Signs

LONG_AGO_MS, FAR_AHEAD_MS = 1_500_000_000_000, 4_000_000_000_000
DRAFT = SaleDraft(
    title="Tins",
    currency="CNY",
    opens_at_ms=LONG_AGO_MS,
    closes_at_ms=FAR_AHEAD_MS,
    items=(
        ItemDraft(sku="tin", title="A tin", price_minor=1900, stock=100, limit_per_viewer=2),
        ItemDraft(
            sku="big tin",
            title="A big tin",
            price_minor=9 * 10**12,
            stock=10**8,
            limit_per_viewer=10**8,
            list_price_minor=9 * 10**12,
            floor_minor=0,
            image_url="https://x.example/tin.png",
        ),
    ),
    stock_display=StockDisplay.LOW,
    pay_within_s=60,
)


def asked(key: str, content: object = DRAFT, *, caller: str = "host-1", kind: str = "sale") -> Effect:
    return Effect(caller, kind, key, fingerprint(content))


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    ledger = await Ledger.connect(database_url, size=8)
    await LedgerShards(ledger).ensure(1)
    async with Shops.connect(database_url) as shops:
        await shops.create("tins", origins=["https://tins.example"])
        await shops.create("cups")
    yield ledger
    await ledger.close()


@pytest.fixture
async def mint(ledger: Ledger) -> IdMint:
    return IdMint(await LedgerShards(ledger).id_key())


@pytest.fixture
def sales(ledger: Ledger, mint: IdMint) -> LedgerSales:
    return LedgerSales(ledger, mint)


@pytest.fixture
def rooms(ledger: Ledger, mint: IdMint) -> LedgerRooms:
    return LedgerRooms(ledger, mint)


async def test_a_sale_comes_back_as_it_was_asked_for(sales: LedgerSales, mint: IdMint) -> None:
    sale, replayed, loaded = await sales.create("tins", DRAFT, asked("k"))
    assert (replayed, loaded) == (False, False)
    assert (sale.shop, sale.title, sale.currency, sale.hold) == ("tins", "Tins", "CNY", "active")
    assert (sale.opens_at_ms, sale.closes_at_ms, sale.pay_within_s) == (LONG_AGO_MS, FAR_AHEAD_MS, 60)
    assert (sale.room, sale.stock_display) == (None, StockDisplay.LOW)
    assert [(item.item_no, item.sku, item.stock, item.limit_per_viewer) for item in sale.items] == [
        (1, "tin", 100, 2),
        (2, "big tin", 10**8, 10**8),
    ]
    big = sale.items[1]
    assert (big.price_minor, big.list_price_minor, big.floor_minor) == (9 * 10**12, 9 * 10**12, 0)
    assert sale.items[0].floor_minor is None
    assert mint.read_sale(sale.sale) == sale.sale_no
    assert await sales.find(sale.sale_no) == sale
    assert await sales.counts(sale.sale_no) == {1: (100, 0, 0), 2: (10**8, 0, 0)}
    assert await sales.acts(sale.sale_no) == []


async def test_the_same_key_gives_the_same_sale_and_other_content_is_refused(sales: LedgerSales) -> None:
    first = await sales.create("tins", DRAFT, asked("k"))
    again = await sales.create("tins", DRAFT, asked("k"))
    assert (again.sale, again.replayed) == (first.sale, True)
    other = replace(DRAFT, title="Cans")
    with pytest.raises(KeyReused):
        await sales.create("tins", other, asked("k", other))
    assert [sale.sale for sale in await sales.of_shop("tins", limit=10)] == [first.sale.sale]


async def test_a_key_is_its_callers_and_its_shops_own(sales: LedgerSales) -> None:
    made = [
        await sales.create("tins", DRAFT, asked("k")),
        await sales.create("tins", DRAFT, asked("k", caller="host-2")),
        await sales.create("cups", DRAFT, asked("k")),
    ]
    assert len({each.sale.sale for each in made}) == 3
    assert not any(each.replayed for each in made)


async def test_twenty_at_once_with_one_key_make_one_sale(sales: LedgerSales) -> None:
    made = await asyncio.gather(*(sales.create("tins", DRAFT, asked("k")) for _ in range(20)))
    assert len({each.sale.sale for each in made}) == 1
    assert sum(not each.replayed for each in made) == 1
    assert len(await sales.of_shop("tins", limit=50)) == 1


async def test_what_is_refused_leaves_nothing_behind_and_its_key_free(sales: LedgerSales, rooms: LedgerRooms) -> None:
    room, _ = await rooms.create("cups", RoomDraft(title="Show"), asked("k", kind="room"))
    in_room = replace(DRAFT, room=room.room)
    with pytest.raises(NotFound):
        await sales.create("tins", in_room, asked("k", in_room))
    with pytest.raises(NotFound):
        await sales.create("nobody", DRAFT, asked("k"))
    twice = replace(DRAFT, items=(DRAFT.items[0], DRAFT.items[0]))
    with pytest.raises(LedgerRejected):
        await sales.create("tins", twice, asked("k", twice))
    assert await sales.of_shop("tins", limit=10) == []
    assert not (await sales.create("tins", DRAFT, asked("k"))).replayed


async def test_a_sale_knows_its_room(sales: LedgerSales, rooms: LedgerRooms) -> None:
    room, _ = await rooms.create("tins", RoomDraft(title="Show"), asked("k", kind="room"))
    sale = (await sales.create("tins", replace(DRAFT, room=room.room), asked("k"))).sale
    assert sale.room == room.room
    assert await sales.of_room(room.room_no) == [sale]
    elsewhere = (await sales.create("tins", DRAFT, asked("k2"))).sale
    assert await sales.of_shop("tins", limit=10, only_rooms={room.room}) == [sale]
    assert await sales.of_shop("tins", limit=10) == [elsewhere, sale]


async def test_lists_go_on_behind_a_cursor(sales: LedgerSales) -> None:
    made = [(await sales.create("tins", DRAFT, asked(f"k{n}"))).sale for n in range(5)]
    newest_first = made[::-1]
    assert await sales.of_shop("tins", limit=2) == newest_first[:2]
    assert await sales.of_shop("tins", limit=9, after=newest_first[1].sale_no) == newest_first[2:]
    numbers = [made[3].sale_no, 10**9, made[0].sale_no]
    assert await sales.find_many(numbers) == [made[3], made[0]]
    assert await sales.find(10**9) is None


async def test_valkey_is_given_each_sale_once(sales: LedgerSales) -> None:
    first = (await sales.create("tins", DRAFT, asked("k1"))).sale
    second = (await sales.create("tins", DRAFT, asked("k2"))).sale
    over = replace(DRAFT, closes_at_ms=LONG_AGO_MS + 1)
    await sales.create("tins", over, asked("k3", over))
    assert await sales.unloaded(first.shard, 1) == [first, second]
    assert await sales.unloaded(first.shard + 1, 1) == []
    await sales.mark_loaded(first.sale_no, 1)
    assert await sales.unloaded(first.shard, 1) == [second]
    # A later epoch recounts what an earlier one had; it is not loaded as if nothing had been sold.
    assert await sales.unloaded(first.shard, 2) == [second]
    assert await sales.is_loaded(first.sale_no)
    assert not await sales.is_loaded(second.sale_no)
    assert (await sales.create("tins", DRAFT, asked("k1"))).loaded


async def test_a_room_goes_forward_and_never_back(rooms: LedgerRooms, mint: IdMint) -> None:
    draft = RoomDraft(title="Show", starts_at_ms=1000, stream_url="https://x.example/1", notice="Welcome")
    room, replayed = await rooms.create("tins", draft, asked("k", draft, kind="room"))
    assert (room.state, room.started_at_ms, replayed) == (RoomState.SCHEDULED, None, False)
    assert mint.read_room(room.room) == room.room_no
    assert (await rooms.create("tins", draft, asked("k", draft, kind="room"))).replayed
    live = await rooms.set_state(room.room_no, RoomState.LIVE, actor="host")
    assert live.started_at_ms is not None
    assert await rooms.set_state(room.room_no, RoomState.LIVE, actor="host") == live
    ended = await rooms.set_state(room.room_no, RoomState.ENDED, actor="host")
    assert (ended.started_at_ms, ended.state) == (live.started_at_ms, RoomState.ENDED)
    assert ended.ended_at_ms is not None
    assert await rooms.set_state(room.room_no, RoomState.LIVE, actor="host") == ended
    with pytest.raises(NotFound):
        await rooms.set_state(10**9, RoomState.LIVE, actor="host")


async def test_a_room_changes_in_what_is_named(rooms: LedgerRooms) -> None:
    draft = RoomDraft(title="Show", starts_at_ms=1000, stream_url="https://x.example/1", notice="Welcome")
    room, _ = await rooms.create("tins", draft, asked("k", draft, kind="room"))
    changed = await rooms.change(room.room_no, RoomChanges(title="Late show", notice=None), actor="host")
    assert changed == replace(room, title="Late show", notice=None)
    assert await rooms.change(room.room_no, RoomChanges(), actor="host") == changed
    assert await rooms.find(room.room_no) == changed


async def test_rooms_are_listed_newest_first(rooms: LedgerRooms) -> None:
    made = [
        (await rooms.create("tins", RoomDraft(title=f"{n}"), asked(f"k{n}", n, kind="room"))).room for n in range(3)
    ]
    await rooms.create("cups", RoomDraft(title="other"), asked("k", kind="room"))
    assert await rooms.of_shop("tins", limit=2) == [made[2], made[1]]
    assert await rooms.of_shop("tins", limit=2, after=made[1].room_no) == [made[0]]
    assert await rooms.of_shop("tins", limit=9, only=[made[1].room, "room_other"]) == [made[1]]


async def test_an_effect_is_found_by_its_key(sales: LedgerSales, ledger: Ledger) -> None:
    effects = LedgerEffects(ledger)
    assert await effects.find("tins", asked("k")) is None
    sale = (await sales.create("tins", DRAFT, asked("k"))).sale
    assert await effects.find("tins", asked("k")) == sale.sale
    assert await effects.find("cups", asked("k")) is None
    with pytest.raises(KeyReused):
        await effects.find("tins", asked("k", "other"))


async def test_keys_are_found_until_they_retire(ledger: Ledger, database_url: str) -> None:
    keys = LedgerKeys(ledger)
    async with Shops.connect(database_url) as shops:
        old = (await shops.get("tins")).key_for(Signs.VIEWER)
        found = await keys.find_key(old.kid)
        assert found is not None
        assert (found.shop, found.signs, found.alg, found.secret) == ("tins", "viewer", "HS256", old.secret)
        assert found.retires_at_ms is None
        new = await shops.rotate_key("tins", Signs.VIEWER, overlap_s=0)
    assert await keys.find_key(old.kid) is None
    assert await keys.find_key(new.kid) is not None
    assert await keys.find_key("nobody") is None
    assert await keys.origins() == {"tins": frozenset({"https://tins.example"})}


async def test_a_secret_is_in_no_trace(ledger: Ledger, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    kid = await connection.fetchval("SELECT kid FROM shop_keys LIMIT 1")
    await connection.close()
    found = await LedgerKeys(ledger).find_key(kid)
    assert found is not None
    assert "secret" not in repr(found)
    assert repr(found.secret) not in repr(found)
