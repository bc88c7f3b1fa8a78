"""The keeper's samples of how many watch, from a real rooms Valkey into a real ledger."""

from collections.abc import AsyncIterator

import pytest

from gateway.domain.attendance import SAMPLE_MS
from gateway.domain.live import RoomStanding
from gateway.hot.connect import connect
from gateway.hot.keys import RoomKeys
from gateway.hot.rooms import HotRooms
from gateway.hot.scripts import Scripts
from gateway.keeper import samples as samples_module
from gateway.keeper.samples import RoomSamples
from gateway.ledger.attendance import LedgerAttendance
from gateway.ledger.pool import Ledger
from gateway.ledger.shops import Shops
from tests.support.fake_clock import ShiftedClock


class Watched:
    """Live rooms, one process that counts their sockets, and a keeper that looks when it is told to."""

    def __init__(self, ledger: Ledger, hot: HotRooms) -> None:
        self.ledger = ledger
        self.hot = hot
        self.samples = RoomSamples(hot=hot, ledger=LedgerAttendance(ledger), clock=ShiftedClock())
        self.rooms: list[int] = []

    async def room(self, state: str = "live") -> int:
        room_no: int = await self.ledger.fetchval(
            "INSERT INTO rooms (shop_no, title, created_at_ms, state) SELECT shop_no, 'R', 1, $1 FROM shops"
            " RETURNING room_no",
            state,
        )
        await self.hot.open(room_no, RoomStanding())
        return room_no

    async def count(self, room_no: int, sockets: int) -> None:
        await self.hot.beat(60_000)
        counted = await self.hot.count(room_no, sockets=sockets, interval_ms=100, alive=["p1"], young_ms=10)
        assert counted.word == "counted"

    async def long_ago(self, room_no: int) -> None:
        """Nobody has counted the room since before the interval that ended last."""
        await self.hot._client.hset(RoomKeys(room_no).room, "slot", 1)

    async def taken(self, room_no: int) -> list[tuple[int, int]]:
        rows = await self.ledger.fetch(
            "SELECT viewers, peak, at_ms FROM room_samples WHERE room_no = $1 ORDER BY at_ms", room_no
        )
        assert all(row["at_ms"] % SAMPLE_MS == 0 for row in rows)
        return [(row["viewers"], row["peak"]) for row in rows]

    async def forget_times(self) -> None:
        """As if what was taken had been taken long ago: a later look is of the same interval otherwise."""
        await self.ledger.execute(f"UPDATE room_samples SET at_ms = at_ms - {SAMPLE_MS * 1000}")


@pytest.fixture
async def watched(database_url: str, rooms_valkey_url: str) -> AsyncIterator[Watched]:
    async with Shops.connect(database_url) as shops:
        await shops.create("tins")
    ledger = await Ledger.connect(database_url, size=2)
    client = connect(rooms_valkey_url, max_connections=2)
    try:
        yield Watched(
            ledger,
            HotRooms(client=client, scripts=Scripts(client), process="p1", reading_rate=0.0, archive_max=10),
        )
    finally:
        await client.aclose()
        await ledger.close()


async def test_live_rooms_with_viewers_are_sampled_and_no_others(watched: Watched) -> None:
    busy, empty, scheduled = await watched.room(), await watched.room(), await watched.room("scheduled")
    for room_no in (busy, scheduled):
        await watched.count(room_no, 7)
        await watched.long_ago(room_no)
    await watched.samples.look()
    assert await watched.taken(busy) == [(7, 7)]
    assert await watched.taken(empty) == await watched.taken(scheduled) == []


async def test_a_room_that_all_have_left_is_sampled_once_more(watched: Watched) -> None:
    room_no = await watched.room()
    await watched.count(room_no, 7)
    await watched.long_ago(room_no)
    await watched.samples.look()
    await watched.forget_times()
    await watched.count(room_no, 0)
    for _ in range(3):
        await watched.long_ago(room_no)
        await watched.samples.look()
        await watched.forget_times()
    assert await watched.taken(room_no) == [(7, 7), (0, 0)]


async def test_many_rooms_are_looked_at_in_portions(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples_module, "ROOMS_AT_ONCE", 2)
    rooms = [await watched.room() for _ in range(5)]
    for at, room_no in enumerate(rooms):
        await watched.count(room_no, at + 1)
        await watched.long_ago(room_no)
    await watched.samples.look()
    assert [await watched.taken(room_no) for room_no in rooms] == [[(at + 1, at + 1)] for at in range(5)]
