"""A room that Valkey lacks is made as the ledger has it, also when a host acts in the same moment."""

from collections.abc import AsyncIterator

import pytest

from gateway.domain.live import FOREVER_MS, RoomStanding
from gateway.hot.connect import connect
from gateway.hot.keys import RoomKeys
from gateway.hot.rooms import HotRooms
from gateway.hot.scripts import Scripts
from gateway.rooms.opening import open_room

ROOM_NO = 5


@pytest.fixture
async def hot(rooms_valkey_url: str) -> AsyncIterator[HotRooms]:
    client = connect(rooms_valkey_url, max_connections=2)
    yield HotRooms(client=client, scripts=Scripts(client), process="p", reading_rate=20, archive_max=100)
    await client.aclose()


class Ledger:
    """Says each time it is asked what a host has set by then."""

    def __init__(self, *standings: RoomStanding) -> None:
        self.standings = list(standings)
        self.asked = 0

    async def standing(self, room_no: int) -> RoomStanding:
        self.asked += 1
        return self.standings.pop(0) if len(self.standings) > 1 else self.standings[0]


async def test_what_a_host_sets_while_a_room_is_opened_is_in_force(hot: HotRooms, rooms_valkey_url: str) -> None:
    before = RoomStanding(slow_mode_s=5, mutes={"vw_1": FOREVER_MS}, pin={"sku": "tin"})
    after = RoomStanding(comments=False, mutes={"vw_2": FOREVER_MS})
    ledger = Ledger(before, after)
    await open_room(hot, ledger.standing, ROOM_NO)
    facts, _ = await hot.read(ROOM_NO)
    assert facts is not None
    assert (facts.slow_mode_s, facts.comments, facts.pin) == (0, False, None)
    client = connect(rooms_valkey_url, max_connections=1)
    assert set(await client.hkeys(RoomKeys(ROOM_NO).mutes)) == {b"vw_2"}
    await client.aclose()
    assert ledger.asked == 3, "until it says the same twice"


async def test_likes_that_go_on_are_no_reason_to_ask_again(hot: HotRooms) -> None:
    ledger = Ledger(RoomStanding(likes=5), RoomStanding(likes=9))
    await open_room(hot, ledger.standing, ROOM_NO)
    facts, _ = await hot.read(ROOM_NO)
    assert facts is not None and facts.likes == 5
    assert ledger.asked == 2
