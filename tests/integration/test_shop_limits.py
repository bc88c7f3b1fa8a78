"""What a shop may use: set, read by processes, and counted where rooms are made."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from gateway.domain.drafts import Effect, RoomDraft, fingerprint
from gateway.domain.ids import IdMint
from gateway.domain.limits import ROOMS_A_DAY, ShopLimits
from gateway.errors import NotFound, RateLimited
from gateway.ledger.limits import LedgerLimits
from gateway.ledger.pool import Ledger
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops

DRAFT = RoomDraft(title="Show")
DAY_MS = 86_400_000


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    ledger = await Ledger.connect(database_url, size=8)
    await LedgerShards(ledger).ensure(1)
    async with Shops.connect(database_url) as shops:
        await shops.create("tins")
        await shops.create("cups")
    yield ledger
    await ledger.close()


@pytest.fixture
async def rooms(ledger: Ledger) -> LedgerRooms:
    return LedgerRooms(ledger, IdMint(await LedgerShards(ledger).id_key()))


@pytest.fixture
async def shops(database_url: str, ledger: Ledger) -> AsyncIterator[Shops]:
    async with Shops.connect(database_url) as shops:
        yield shops


async def make(rooms: LedgerRooms, key: str, *, shop: str = "tins") -> bool:
    """Whether it was a replay."""
    return (await rooms.create(shop, DRAFT, Effect("host", "room", key, fingerprint(DRAFT)))).replayed


async def test_limits_are_the_defaults_until_they_are_set(shops: Shops, ledger: Ledger) -> None:
    assert await shops.limits("tins") == ShopLimits(rooms_a_day=ROOMS_A_DAY)
    assert await LedgerLimits(ledger).limits() == {}
    limits = ShopLimits(rooms_a_day=3, viewers=1000, comments_per_s=20)
    await shops.set_limits("tins", ShopLimits(viewers=5))
    await shops.set_limits("tins", limits)
    assert await shops.limits("tins") == limits
    assert await LedgerLimits(ledger).limits() == {"tins": limits}
    assert await shops.limits("cups") == ShopLimits()
    with pytest.raises(NotFound):
        await shops.set_limits("nobody", limits)


async def test_rooms_that_are_made_at_once_never_pass_the_limit_of_the_day(rooms: LedgerRooms, shops: Shops) -> None:
    await shops.set_limits("tins", ShopLimits(rooms_a_day=3))
    answers = await asyncio.gather(*(make(rooms, f"k{n}") for n in range(10)), return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, RateLimited)]
    assert answers.count(False) == 3 and len(refused) == 7
    assert all(0 < (error.retry_after_ms or 0) <= DAY_MS for error in refused)
    assert len(await rooms.of_shop("tins", limit=20)) == 3
    # Another shop has a day of its own.
    assert await make(rooms, "k0", shop="cups") is False


async def test_a_room_that_was_refused_holds_no_key_and_one_that_was_made_is_there_however_often_it_is_asked_for(
    rooms: LedgerRooms, shops: Shops
) -> None:
    await shops.set_limits("tins", ShopLimits(rooms_a_day=1))
    assert await make(rooms, "first") is False
    with pytest.raises(RateLimited):
        await make(rooms, "second")
    assert await make(rooms, "first") is True
    await shops.set_limits("tins", ShopLimits(rooms_a_day=2))
    assert await make(rooms, "second") is False


async def test_rooms_of_yesterday_do_not_count_and_none_may_be_none_at_all(
    rooms: LedgerRooms, shops: Shops, database_url: str
) -> None:
    await shops.set_limits("tins", ShopLimits(rooms_a_day=1))
    await make(rooms, "yesterday")
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute("UPDATE rooms SET created_at_ms = created_at_ms - $1", DAY_MS)
    finally:
        await connection.close()
    assert await make(rooms, "today") is False
    with pytest.raises(RateLimited):
        await make(rooms, "also today")
    await shops.set_limits("cups", ShopLimits(rooms_a_day=0))
    with pytest.raises(RateLimited):
        await make(rooms, "first", shop="cups")


@pytest.mark.parametrize("limits", [ShopLimits(rooms_a_day=-1), ShopLimits(viewers=-1), ShopLimits(comments_per_s=0)])
async def test_the_schema_itself_refuses_a_limit_that_is_none(shops: Shops, limits: ShopLimits) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await shops.set_limits("tins", limits)
