"""Links in a real ledger: each content once, however often and by however many it is asked for, and who is credited."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from gateway.admission.limiter import Limiter
from gateway.clock import SystemClock
from gateway.domain.caller import Caller, Role
from gateway.domain.links import Link, LinkSeal
from gateway.domain.order import OrderStatus
from gateway.errors import Conflict, Forbidden, KeyReused, NotFound, RateLimited
from gateway.flows.bookings import Bookings
from gateway.flows.links import Links
from gateway.flows.order_people import OrderPeople
from gateway.flows.room_book import RoomBook
from gateway.ledger.bookings import LedgerBookings
from gateway.ledger.customers import LedgerCustomers
from gateway.ledger.links import LedgerLinks
from gateway.ledger.orders import LedgerOrders
from gateway.ledger.pickups import LedgerPickups
from gateway.ledger.shards import LedgerShards
from tests.support.moderating import HOST, Floor, moderating
from tests.support.shop_floor import ShopFloor, shop_floor

BACKEND = Caller(shop="tins", sub="backend", role=Role.SERVICE, expires_at_s=0)
ANN = Caller(shop="tins", sub="ann", role=Role.VIEWER, expires_at_s=0)


@dataclass
class Desk:
    floor: Floor
    seal: LinkSeal
    ledger: LedgerLinks
    links: Links

    async def make(self, caller: Caller = HOST, *, key: str = "k1", room: str = "", **said: Any) -> Any:
        content = {"source": "live", "referrer": None, "guide": None, **said}
        return await self.links.make(caller, room or self.floor.room.room, **content, key=key)

    async def count(self, table: str = "links") -> int:
        return int(await self.floor.ledger.fetchval(f"SELECT count(*) FROM {table}"))


@pytest.fixture
async def desk(database_url: str) -> AsyncIterator[Desk]:
    async with moderating(database_url) as floor:
        seal = LinkSeal(await LedgerShards(floor.ledger).id_key())
        ledger = LedgerLinks(floor.ledger, seal)
        book = RoomBook(rooms=floor.ledger_rooms, mint=floor.mint, clock=SystemClock())
        yield Desk(floor, seal, ledger, Links(ledger=ledger, rooms=book))


async def test_a_link_is_made_once_and_read_by_its_reference(desk: Desk) -> None:
    made = await desk.make(source="article", referrer="ann", guide="g-7")
    assert not made.replayed and desk.seal.is_of("tins", made.ref)
    assert await desk.ledger.by_ref([made.ref, "ref_unknown"]) == {
        made.ref: Link(ref=made.ref, source="article", referrer="ann", guide="g-7")
    }
    again = await desk.make(source="article", referrer="ann", guide="g-7")
    assert (again.ref, again.replayed) == (made.ref, True)
    with pytest.raises(KeyReused):
        await desk.make(source="article", referrer="ben", guide="g-7")
    assert await desk.count() == 1


async def test_the_same_content_is_the_same_link_under_whatever_key_and_each_other_content_another(desk: Desk) -> None:
    room = await desk.floor.make_room("Second")
    contents: list[dict[str, Any]] = [
        {},
        {"source": "group"},
        {"referrer": "ann"},
        {"guide": "ann"},
        {"referrer": "ann", "guide": "ann"},
        {"room": room.room},
    ]
    refs = [(await desk.make(key=f"a{number}", **said)).ref for number, said in enumerate(contents)]
    assert len(set(refs)) == len(contents)
    effects = await desk.count("effects")
    again = [await desk.make(BACKEND, key=f"b{number}", **said) for number, said in enumerate(contents)]
    assert [made.ref for made in again] == refs
    assert not any(made.replayed for made in again)
    assert (await desk.count(), await desk.count("effects")) == (len(contents), effects), "what was there costs no row"


async def test_many_who_ask_for_the_same_at_once_are_given_one_link(desk: Desk) -> None:
    made = await asyncio.gather(*(desk.make(BACKEND, key=f"k{number}", referrer="ann") for number in range(30)))
    assert len({each.ref for each in made}) == 1
    assert await desk.count() == 1


async def test_a_backend_makes_a_link_for_each_of_its_viewers(desk: Desk) -> None:
    gate = asyncio.Semaphore(8)

    async def make(number: int) -> str:
        async with gate:
            return str((await desk.make(BACKEND, key=f"k{number}", referrer=f"viewer-{number}")).ref)

    refs = await asyncio.gather(*(make(number) for number in range(300)))
    assert len(set(refs)) == 300
    assert await desk.ledger.by_ref(refs[7:8]) == {refs[7]: Link(ref=refs[7], source="live", referrer="viewer-7")}


async def test_the_log_names_the_links_that_hosts_made_once_each(desk: Desk) -> None:
    made = await desk.make(guide="g-7")
    await desk.make(guide="g-7", key="k2")
    await desk.make(BACKEND, referrer="ann")
    assert await desk.floor.log() == [("link", None, {"ref": made.ref, "source": "live", "guide": "g-7"})]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.CLERK])
async def test_only_hosts_and_backends_make_links(desk: Desk, role: Role) -> None:
    with pytest.raises(Forbidden):
        await desk.make(Caller(shop="tins", sub="x", role=role, expires_at_s=0))
    with pytest.raises(Forbidden):
        await desk.make(Caller(shop="tins", sub="x", role=Role.SERVICE, expires_at_s=0, rooms=frozenset()))
    with pytest.raises(NotFound):
        await desk.make(Caller(shop="cups", sub="x", role=Role.SERVICE, expires_at_s=0))
    assert await desk.count() == 0


# What orders say of them.


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url) as floor:
        yield floor


async def test_orders_are_credited_to_their_links_and_nobody_refers_themselves(floor: ShopFloor) -> None:
    rows = {"ref_1": ("article", "ann", "g-7"), "ref_2": ("group", None, None)}
    room_no = await floor.ledger.fetchval(
        "INSERT INTO rooms (room, shop_no, title, created_at_ms) VALUES ('room_1', 1, 'Show', 0) RETURNING room_no"
    )
    for ref, said in rows.items():
        await floor.ledger.execute(
            "INSERT INTO links (ref, room_no, source, referrer, guide, made_by) VALUES ($1, $2, $3, $4, $5, 'host')",
            *(ref, room_no, *said),
        )
    extras = {
        "ann": json.dumps({"ref": "ref_1"}),
        "ben": r'{"meta":"\u0000","ref":"ref_1"}',
        "eve": '{"meta":"x","ref":"ref_2"}',
        "gus": '{"meta":{"ref":"ref_2"}}',
        "joe": '{"ref":"ref_3"}',
        "kim": "",
    }
    orders = await floor.reserve(*(floor.request(viewer, extra=extra) for viewer, extra in extras.items()))
    await floor.written()
    found = await floor.ledger.fetch("SELECT * FROM attributions($1) ORDER BY order_id", [floor.sale.sale_no])
    assert [(row["order_id"], row["source"], row["referrer"], row["guide"]) for row in found] == [
        (orders[0], "article", None, "g-7"),
        (orders[1], "article", "ann", "g-7"),
        (orders[2], "group", None, None),
    ]
    assert await floor.ledger.fetch("SELECT FROM attributions($1)", [floor.sale.sale_no + 1]) == []

    class Counting(LedgerLinks):
        asked = 0

        async def by_ref(self, refs: Any) -> Any:
            self.asked += 1
            return await super().by_ref(refs)

    links = Counting(floor.ledger, LinkSeal(b"k" * 32))
    people = OrderPeople(links=links, pickups=LedgerPickups(floor.ledger), customers=LedgerCustomers(floor.ledger))
    places = [(floor.sale.sale_no, order) for order in orders]
    placed = list((await LedgerOrders(floor.ledger).by_place(places)).values())
    for _ in range(2):
        shown = await people.of(placed, to_staff=True)
        by_viewer = {order.viewer: order.link.ref if order.link else None for order in shown}
        assert by_viewer == {**dict.fromkeys(extras), "ann": "ref_1", "ben": "ref_1", "eve": "ref_2"}
    assert links.asked == 2, "the one that is not there is asked for again, the others are remembered"
    assert not any(order.link for order in await people.of(placed, to_staff=False))
    assert {order.status for order in placed} == {OrderStatus.CONFIRMED}


# Bookings as viewers make them.


async def test_a_viewer_books_and_sees_it_on_the_page_of_the_room(desk: Desk) -> None:
    book = RoomBook(rooms=desk.floor.ledger_rooms, mint=desk.floor.mint, clock=SystemClock())
    ledger = LedgerBookings(desk.floor.ledger)
    bookings = Bookings(ledger=ledger, rooms=book, limiter=Limiter(rate=0.01, burst=5), clock=SystemClock())
    room = desk.floor.room
    assert (await bookings.reading(ANN, room)).booked is False
    _, booked = await bookings.book(ANN, room.room)
    assert not booked.already and (await bookings.book(ANN, room.room))[1].already
    reading = await bookings.reading(ANN, room)
    assert reading.booked is True
    assert await bookings.reading(HOST, room) == type(reading)(bookings=1)
    await bookings.cancel(ANN, room.room)
    assert (await bookings.reading(HOST, room)).bookings == 0
    await desk.floor.rooms.start(HOST, room.room)
    with pytest.raises(Conflict):
        await bookings.book(ANN, room.room)
    live = await desk.floor.ledger_rooms.find(room.room_no)
    assert live is not None and (await bookings.reading(ANN, live)).booked is None
    for caller, error in (
        (HOST, Forbidden),
        (Caller(shop="cups", sub="ann", role=Role.VIEWER, expires_at_s=0), NotFound),
        (Caller(shop="tins", sub="eve", role=Role.VIEWER, expires_at_s=0, rooms=frozenset()), Forbidden),
    ):
        with pytest.raises(error):
            await bookings.book(caller, room.room)
    await bookings.cancel(ANN, room.room)
    with pytest.raises(RateLimited):
        await bookings.cancel(ANN, room.room)
