"""Bookings in a real ledger: made while a room is scheduled, told once when it starts, whoever dies in between."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.domain.drafts import Effect, RoomDraft, fingerprint
from gateway.domain.ids import IdMint
from gateway.domain.room import Room, RoomState
from gateway.errors import GatewayError, LedgerUnavailable
from gateway.keeper.bookings import AT_ONCE, Bookings
from gateway.ledger.bookings import LedgerBookings
from gateway.ledger.pool import Ledger
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops

# Of one real show.
SHOW = 4212


@dataclass
class House:
    ledger: Ledger
    rooms: LedgerRooms
    bookings: LedgerBookings

    async def room(self, title: str = "Show", *, shop: str = "tins") -> Room:
        draft = RoomDraft(title=title)
        return (await self.rooms.create(shop, draft, Effect("host", "room", title, fingerprint(draft)))).room

    async def start(self, room: Room) -> None:
        await self.rooms.set_state(room.room_no, RoomState.LIVE, actor="host")

    async def end(self, room: Room) -> None:
        await self.rooms.set_state(room.room_no, RoomState.ENDED, actor="host")

    async def fill(self, room: Room, bookings: int) -> None:
        await self.ledger.execute(
            "INSERT INTO bookings (room_no, viewer) SELECT $1, 'viewer-' || n FROM generate_series(1, $2) n",
            room.room_no,
            bookings,
        )

    async def listen(self, shop: str = "tins", *, to: str = "booking.due") -> None:
        await self.ledger.execute(
            "INSERT INTO webhooks (shop_no, url, events, secret) "
            "SELECT shop_no, 'https://shop.example/hook', ARRAY[$2], 'whsec_AAAA' FROM shops WHERE shop = $1",
            shop,
            to,
        )

    async def queued(self, room: Room) -> list[dict[str, Any]]:
        """What the shop's webhook is to be sent of the room's bookings."""
        rows = await self.ledger.fetch(
            "SELECT body FROM deliveries WHERE type = 'booking.due' AND object LIKE $1 ORDER BY object",
            f"{room.room}/%",
        )
        return [json.loads(row["body"]) for row in rows]

    async def told(self, room: Room) -> tuple[int, bool] | None:
        """(bookings told, all of them), or None where nobody is to be told."""
        row = await self.ledger.fetchrow("SELECT told, told_at FROM booking_calls WHERE room_no = $1", room.room_no)
        return None if row is None else (row["told"], row["told_at"] is not None)


@pytest.fixture
async def house(database_url: str) -> AsyncIterator[House]:
    ledger = await Ledger.connect(database_url, size=8)
    try:
        await LedgerShards(ledger).ensure(1)
        async with Shops.connect(database_url) as shops:
            for shop in ("tins", "cups"):
                await shops.create(shop)
        mint = IdMint(await LedgerShards(ledger).id_key())
        yield House(ledger, LedgerRooms(ledger, mint), LedgerBookings(ledger))
    finally:
        await ledger.close()


async def test_a_viewer_books_once_and_finds_it_again(house: House) -> None:
    room = await house.room()
    first = await house.bookings.book(room.room_no, "ann")
    assert first is not None and not first.already
    again = await house.bookings.book(room.room_no, "ann")
    assert again is not None and (again.at_ms, again.already) == (first.at_ms, True)
    await house.bookings.book(room.room_no, "ben")
    assert await house.bookings.count(room.room_no) == 2
    assert await house.bookings.find(room.room_no, "ann") == first.at_ms
    await house.bookings.cancel(room.room_no, "ann")
    await house.bookings.cancel(room.room_no, "ann")
    assert await house.bookings.find(room.room_no, "ann") is None
    assert await house.bookings.count(room.room_no) == 1


async def test_who_comes_after_the_start_books_nothing_and_takes_nothing_back(house: House) -> None:
    room = await house.room()
    await house.bookings.book(room.room_no, "ann")
    await house.start(room)
    assert await house.bookings.book(room.room_no, "ben") is None
    # A repeat is told of the booking there is.
    again = await house.bookings.book(room.room_no, "ann")
    assert again is not None and again.already
    await house.bookings.cancel(room.room_no, "ann")
    assert await house.bookings.count(room.room_no) == 1


async def test_every_booking_of_a_show_is_told_once_within_seconds(house: House) -> None:
    await house.listen()
    await house.listen("cups")
    room, other = await house.room(), await house.room("Other")
    await house.fill(room, SHOW)
    await house.fill(other, 10)
    assert await Bookings(ledger=house.bookings).step() == 0
    await house.start(room)
    began_s = time.monotonic()
    # Two keepers at once, as after a slow one was replaced.
    told = await asyncio.gather(*(Bookings(ledger=house.bookings).step() for _ in range(2)))
    assert time.monotonic() - began_s < 10
    while await Bookings(ledger=house.bookings).step():
        pass
    assert sum(told) <= SHOW
    events = await house.queued(room)
    assert len(events) == SHOW == len({event["data"]["sub"] for event in events})
    assert await house.told(room) == (SHOW, True)
    assert (await house.queued(other), await house.told(other)) == ([], None)
    assert await house.ledger.fetchval("SELECT count(*) FROM deliveries WHERE type = 'booking.due'") == SHOW


async def test_the_last_bookings_of_a_great_show_cost_no_more_than_the_first(house: House) -> None:
    await house.listen()
    room = await house.room()
    await house.fill(room, 20_000)
    await house.start(room)
    # Were each looked for among all that wait, a slice would take longer than the ledger is waited for.
    assert await Bookings(ledger=house.bookings).step() == 20_000
    assert await house.ledger.fetchval("SELECT count(DISTINCT object) FROM deliveries") == 20_000


async def test_what_is_told_is_the_booking(house: House) -> None:
    await house.listen()
    room = await house.room()
    sub = 'a "quoted" \\ viewer 茶'
    booked = await house.bookings.book(room.room_no, sub)
    assert booked is not None
    await house.start(room)
    assert await Bookings(ledger=house.bookings).step() == 1
    (event,) = await house.queued(room)
    assert event["type"] == "booking.due" and event["timestamp"].endswith("Z")
    assert event["data"]["room"] == room.room and event["data"]["sub"] == sub
    expected = await house.ledger.fetchval(
        "SELECT to_char(to_timestamp($1::bigint / 1000.0) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
        booked.at_ms,
    )
    assert event["data"] == {"room": room.room, "sub": sub, "booked_at": expected}


class Dying:
    """A ledger whose keeper dies after so many slices, the last of them rolled back with it."""

    def __init__(self, house: House, slices: int) -> None:
        self._house = house
        self._slices = slices

    async def calls(self, *, most: int) -> list[int]:
        return await self._house.bookings.calls(most=most)

    async def tell(self, room_no: int, *, most: int) -> int | None:
        if self._slices:
            self._slices -= 1
            return await self._house.bookings.tell(room_no, most=most)
        async with self._house.ledger.transaction() as connection:
            assert await connection.fetchval("SELECT tell_bookings($1, $2)", room_no, most) == most
            raise LedgerUnavailable("killed before the commit")


async def test_a_keeper_that_dies_in_between_leaves_the_rest_to_the_next(house: House) -> None:
    await house.listen()
    room = await house.room()
    await house.fill(room, SHOW)
    await house.start(room)
    with pytest.raises(GatewayError, match="killed"):
        await Bookings(ledger=Dying(house, 1)).step()
    assert len(await house.queued(room)) == AT_ONCE
    assert await house.told(room) == (AT_ONCE, False)
    # What is delivered meanwhile leaves the queue; its booking is told no second time all the same.
    await house.ledger.execute("DELETE FROM deliveries")
    assert await Bookings(ledger=house.bookings).step() == SHOW - AT_ONCE
    assert len(await house.queued(room)) == SHOW - AT_ONCE
    assert await house.told(room) == (SHOW, True)
    assert await Bookings(ledger=house.bookings).step() == 0


async def test_a_room_that_cannot_be_told_keeps_no_other_waiting(house: House) -> None:
    await house.listen()
    rooms = [await house.room(title) for title in ("One", "Two")]
    for room in rooms:
        await house.fill(room, 3)
        await house.start(room)

    class Failing(Dying):
        async def tell(self, room_no: int, *, most: int) -> int | None:
            if room_no == rooms[0].room_no:
                raise LedgerUnavailable("not this one")
            return await house.bookings.tell(room_no, most=most)

    with pytest.raises(LedgerUnavailable):
        await Bookings(ledger=Failing(house, 0)).step()
    assert [len(await house.queued(room)) for room in rooms] == [0, 3]


async def test_whoever_books_while_the_room_starts_is_told_or_hears_that_it_started(house: House) -> None:
    await house.listen()
    room = await house.room()

    async def book(number: int) -> bool:
        await asyncio.sleep(number / 20_000)
        return await house.bookings.book(room.room_no, f"viewer-{number}") is not None

    async def start() -> None:
        await asyncio.sleep(0.01)
        await house.start(room)
        await Bookings(ledger=house.bookings).step()

    *booked, _ = await asyncio.gather(*(book(number) for number in range(400)), start())
    assert 0 < booked.count(True) < 400
    assert len(await house.queued(room)) == booked.count(True)


async def test_a_show_that_ends_without_a_start_is_told_to_nobody(house: House) -> None:
    await house.listen()
    room = await house.room()
    await house.fill(room, 5)
    await house.end(room)
    assert await Bookings(ledger=house.bookings).step() == 0
    assert (await house.queued(room), await house.told(room)) == ([], None)


@pytest.mark.parametrize("listens_to", [None, "room.started"])
async def test_a_shop_that_does_not_listen_is_done_with(house: House, listens_to: str | None) -> None:
    if listens_to is not None:
        await house.listen(to=listens_to)
    room = await house.room()
    await house.fill(room, 5)
    await house.start(room)
    assert await Bookings(ledger=house.bookings).step() == 5
    assert (await house.queued(room), await house.told(room)) == ([], (5, True))
