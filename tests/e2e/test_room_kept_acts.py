"""What the ledger keeps of a room reaches its sockets, also when nobody was told of it. Real processes."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from gateway.domain.ids import IdMint
from gateway.domain.room import RoomState
from gateway.ledger.moderation import LedgerModeration
from gateway.ledger.pool import Ledger
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.shards import LedgerShards
from tests.support.api import Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import showing

UNTOLD_WITHIN_S = 8.0


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def ledger(gateway: Gateway) -> AsyncIterator[Ledger]:
    ledger = await Ledger.connect(gateway.servers()["database_url"], size=1)
    yield ledger
    await ledger.close()


async def ended_untold(ledger: Ledger, room_no: int) -> None:
    rooms = LedgerRooms(ledger, IdMint(await LedgerShards(ledger).id_key()))
    await rooms.set_state(room_no, RoomState.ENDED, actor="host")


async def test_a_room_that_ended_untold_ends_for_its_sockets_and_no_other_room_does(api: Api, ledger: Ledger) -> None:
    async with showing(api) as show, showing(api) as other:
        first, second = api.gateway.pids("peakgate live")
        here, there, stays = await show.enter(on=first), await show.enter(on=second), await other.enter(on=first)
        await ended_untold(ledger, await show.room_no())
        for seat in (here, there):
            assert (await seat.bye(within_s=UNTOLD_WITHIN_S))["code"] == 4504
        assert (await stays.comment("still here"))["outcome"] == "posted"


async def test_nobody_says_anything_between_an_end_that_was_found_and_the_bye(api: Api, ledger: Ledger) -> None:
    async with showing(api) as show:
        host = await show.enter("host", host=True)
        await ended_untold(ledger, await show.room_no())
        with suppress(ConnectionError):
            async with asyncio.timeout(UNTOLD_WITHIN_S):
                while host.code is None:
                    await host.say({"t": "comment", "id": uuid.uuid4().hex, "text": "anyone?"})
                    await asyncio.sleep(0.02)  # as fast as somebody could type, and then some
        outcomes = [frame["outcome"] for frame in host.frames if "outcome" in frame]
        assert set(outcomes) == {"posted", "comments_off"}
        assert outcomes[-1] == "comments_off", "those said before are answered with their tick"
        assert (await host.bye())["code"] == 4504


async def test_who_was_banned_untold_has_to_leave_every_room_of_the_shop(api: Api, ledger: Ledger) -> None:
    async with showing(api) as show, showing(api, live=False) as scheduled:
        here, there, stays = (
            await show.enter("mallory-7"),
            await scheduled.enter("mallory-7"),
            await scheduled.enter("ann-7"),
        )
        await LedgerModeration(ledger).ban(await show.room_no(), here.you, shop_wide=True, actor="host", shop_too=True)
        byes = await asyncio.gather(*(seat.bye(within_s=UNTOLD_WITHIN_S) for seat in (here, there)))
        assert [bye["code"] for bye in byes] == [4503, 4503]
        assert stays.code is None


async def test_a_ban_of_the_whole_shop_is_told_to_rooms_that_are_not_live_yet(api: Api) -> None:
    async with showing(api) as show, showing(api, live=False) as scheduled:
        here, there = await show.enter("mallory-8"), await scheduled.enter("mallory-8")
        await show.act("PUT", f"bans/{here.you}", {"shop_wide": True})
        assert (await there.bye(within_s=1.0))["code"] == 4503
