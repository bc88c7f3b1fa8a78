"""What hosts are told on their sockets: only hosts, only what changed, and never more than they read."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from gateway.domain.caller import Caller, Role
from gateway.domain.figures import AudienceError, Cursor, Figures, FiguresReading
from gateway.domain.ids import IdMint
from gateway.domain.room import Room
from gateway.errors import LedgerUnavailable
from gateway.ledger.figures import FedOrder
from gateway.live import host_desk
from gateway.live.host_desk import FEED_ORDERS, HostDesk
from gateway.rooms.picture import Variant
from gateway.wire import bus, frames
from tests.support.members import ROOM

OTHER = msgspec.structs.replace(ROOM, room="room_2", room_no=6)
SALE, SALE_OF_OTHER, SALE_OF_NONE = 1, 2, 3
MINT = IdMint(b"k" * 32)


def reading(placed: int = 0) -> FiguresReading:
    counts = {name: 0 for name in Figures.__struct_fields__ if name not in ("viewers_now", "viewers_peak")}
    return FiguresReading(
        at_ms=1_000 + placed,
        cursor=Cursor(shard=0, epoch=1, seq=placed),
        started_at_ms=0,
        ended_at_ms=None,
        currency="CNY",
        figures=Figures(**{**counts, "orders_placed": placed}),
        money=(),
        ordering_viewers=0,
        error=AudienceError(visits_lag_s=5, watch_lag_s=30, cut_sockets=0, missed_visits=0),
    )


class Socket:
    """A host's, as the desk sees it; `told` is what it was sent."""

    def __init__(self, role: Role = Role.HOST, *, room: Room = ROOM) -> None:
        self.caller = Caller(shop=room.shop, sub="anna", role=role, expires_at_s=0)
        self.live = SimpleNamespace(room=room)
        self.behind = False
        self.variant = Variant.WHOLE
        self.told: list[Any] = []

    def send(self, frame: Any) -> None:
        self.told.append(frame)

    @property
    def figures(self) -> list[int]:
        return [frame.orders_placed for frame in self.told if isinstance(frame, frames.ShowFigures)]

    @property
    def fed(self) -> list[tuple[int, int]]:
        """Of each feed, (how many orders, how many more there were)."""
        return [(len(frame.orders), frame.more) for frame in self.told if isinstance(frame, frames.Feed)]


class Show:
    """Figures and orders as the ledger has them."""

    def __init__(self) -> None:
        self.placed = 0
        self.away = False
        self.asked: list[Sequence[tuple[int, str]]] = []
        self.newest: list[str] = []
        """The room's orders, the newest last."""
        self.newest_asked = 0
        self.sales_asked: list[int] = []
        self.desk = HostDesk(
            figures=self,
            orders=self,
            find_sale=self.find_sale,
            pseudonym=lambda room, sub: f"vw of {sub} in {room}",
            mint=MINT,
        )

    async def now(self, room_no: int) -> FiguresReading:
        return reading(self.placed)

    async def orders(self, room_no: int, places: Sequence[tuple[int, str]]) -> list[FedOrder]:
        if self.away:
            raise LedgerUnavailable
        self.asked.append(places)
        return [FedOrder(order, "sale_1", "tin", 1, 1900, "CNY", "confirmed", None, "ann", 5) for _, order in places]

    async def newest_orders(self, room_no: int, most: int) -> list[FedOrder]:
        if self.away:
            raise LedgerUnavailable
        self.newest_asked += 1
        return [
            FedOrder(order, "sale_1", "tin", 1, 1900, "CNY", "paid", None, "ann", 5) for order in self.newest[-most:]
        ]

    async def find_sale(self, sale_no: int) -> Any:
        self.sales_asked.append(sale_no)
        room = {SALE: ROOM.room, SALE_OF_OTHER: OTHER.room}.get(sale_no)
        return SimpleNamespace(room=room)

    def join(self, socket: Socket) -> Socket:
        self.desk.joined(socket)  # type: ignore[arg-type]
        return socket

    def hear(self, *orders: tuple[int, int], shop: str = ROOM.shop) -> None:
        """Orders by (sale number, sequence number)."""
        states = [bus.LaterState("ann", MINT.order(1, sale_no, 1, seq), "confirmed") for sale_no, seq in orders]
        packed = msgspec.Raw(bus.encode_shops([bus.ShopOrders(shop, states)]))
        self.desk.heard(bus.Applied(0, 1, 1, packed))

    async def tell(self) -> None:
        """One turn of the desk."""
        if self.desk._unknown:
            await self.desk._place_unknown()
        for desk in list(self.desk._desks.values()):
            await self.desk._tell(desk)


@pytest.fixture
def show() -> Show:
    return Show()


async def test_hosts_are_told_and_nobody_else_is(show: Show) -> None:
    host = show.join(Socket())
    others = [show.join(Socket(role)) for role in (Role.VIEWER, Role.CLERK, Role.SERVICE)]
    await show.tell()
    show.hear((SALE, 1))
    await show.tell()
    assert (host.figures, host.fed) == ([0], [(1, 0)])
    assert [other.told for other in others] == [[], [], []]


async def test_figures_are_told_when_they_changed_and_to_who_comes_later(show: Show) -> None:
    first = show.join(Socket())
    for _ in range(3):
        await show.tell()
    second = show.join(Socket())
    await show.tell()
    show.placed = 4
    await show.tell()
    assert (first.figures, second.figures) == ([0, 4], [0, 4])


async def test_a_feed_has_the_newest_orders_and_says_how_many_more_changed(show: Show) -> None:
    host = show.join(Socket())
    await show.tell()
    show.hear((SALE, 1))
    await show.tell()
    show.hear(*((SALE, seq) for seq in range(2, 2 + FEED_ORDERS + 30)))
    show.hear((SALE, 2 + FEED_ORDERS))
    await show.tell()
    assert host.fed == [(1, 0), (FEED_ORDERS, 30)]
    newest = host.told[-1].orders[-1].order
    assert newest == MINT.order(1, SALE, 1, 2 + FEED_ORDERS), "one that changed again is the newest, and stands once"


async def test_an_order_is_shown_with_who_it_is_in_the_room(show: Show) -> None:
    host = show.join(Socket())
    await show.tell()
    show.hear((SALE, 1))
    await show.tell()
    (order,) = next(frame for frame in host.told if isinstance(frame, frames.Feed)).orders
    assert (order.viewer, order.sub) == ("vw of ann in room_1", "ann")
    assert msgspec.json.decode(msgspec.json.encode(order)) == {
        "order": MINT.order(1, SALE, 1, 1),
        "sale": "sale_1",
        "sku": "tin",
        "quantity": 1,
        "amount_minor": 1900,
        "currency": "CNY",
        "status": "confirmed",
        "created_at_ms": 5,
        "viewer": "vw of ann in room_1",
        "sub": "ann",
    }


async def test_orders_of_other_rooms_and_shops_are_told_to_nobody_here(show: Show) -> None:
    host = show.join(Socket())
    show.hear((SALE_OF_OTHER, 1), (SALE_OF_NONE, 2))
    show.hear((SALE, 3), shop="cups")
    await show.tell()
    show.hear((SALE_OF_OTHER, 4))
    await show.tell()
    assert host.fed == [] and show.asked == []
    assert sorted(show.sales_asked) == [SALE_OF_OTHER, SALE_OF_NONE], "a sale's room is asked for once"


async def test_a_host_who_reads_slowly_has_nothing_waiting_and_hears_how_much_was_left_out(show: Show) -> None:
    slow, quick = show.join(Socket()), show.join(Socket())
    await show.tell()
    for host in (slow, quick):
        host.told.clear()
    slow.behind = True
    for seq in range(3):
        show.placed += 1
        show.hear((SALE, seq + 1))
        await show.tell()
    assert slow.told == []
    assert (quick.figures, quick.fed) == ([1, 2, 3], [(1, 0)] * 3)
    slow.behind, slow.variant = False, Variant.NO_COMMENTS
    await show.tell()
    assert slow.told == []
    slow.variant = Variant.WHOLE
    show.hear((SALE, 9))
    await show.tell()
    assert (slow.figures, slow.fed) == ([3], [(1, 3)])


async def test_what_a_ledger_that_was_away_could_not_say_is_told_afterwards(show: Show) -> None:
    host = show.join(Socket())
    await show.tell()
    host.told.clear()
    show.away = True
    show.hear((SALE, 1), (SALE, 2))
    await show.tell()
    show.hear((SALE, 3))
    await show.tell()
    assert host.told == []
    show.away = False
    await show.tell()
    assert host.fed == [(3, 0)]
    assert [place[0] for place in show.asked[0]] == [SALE] * 3


async def test_without_hosts_nothing_is_kept_and_nothing_asked(show: Show) -> None:
    host = show.join(Socket())
    show.desk.left(ROOM, host)  # type: ignore[arg-type]
    show.desk.left(ROOM, host)  # type: ignore[arg-type]
    show.hear((SALE, 1))
    await show.tell()
    assert host.told == [] and show.sales_asked == [] and not show.desk._unknown and not show.desk._desks


async def test_it_tells_at_most_once_a_second_by_itself(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_desk, "TELL_EVERY_S", 0.05)
    host = show.join(Socket())
    running = asyncio.create_task(show.desk.run())
    while len(host.figures) < 3:
        show.placed += 1
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert host.figures[2] - host.figures[0] >= 5, "what came between was told at once"


async def test_who_joins_is_first_shown_the_newest_orders_as_they_are_now(show: Show) -> None:
    show.newest = [f"ord_{at}" for at in range(FEED_ORDERS + 9)]
    first = show.join(Socket())
    await show.tell()
    (feed,) = (frame for frame in first.told if isinstance(frame, frames.Feed))
    assert [order.order for order in feed.orders] == show.newest[-FEED_ORDERS:]
    assert (feed.more, feed.orders[-1].status) == (0, "paid")
    second = show.join(Socket())
    show.hear((SALE, 1))
    await show.tell()
    await show.tell()
    assert first.fed == [(FEED_ORDERS, 0), (1, 0)], "and then only what changed"
    assert second.fed == [(FEED_ORDERS, 0)], "what changed before is in it"


async def test_a_room_without_orders_has_no_first_feed(show: Show) -> None:
    host = show.join(Socket())
    await show.tell()
    await show.tell()
    assert host.fed == [] and show.newest_asked == 1


async def test_many_who_join_at_once_share_one_question(show: Show) -> None:
    show.newest = ["ord_1"]
    hosts = [show.join(Socket()) for _ in range(20)]
    for host in hosts[10:15]:
        show.desk.left(ROOM, host)  # type: ignore[arg-type]
    await show.tell()
    await show.tell()
    assert show.newest_asked == 1
    assert [len(host.fed) for host in hosts] == [1] * 10 + [0] * 5 + [1] * 5


async def test_the_first_feed_waits_for_a_slow_reader_and_for_a_ledger_that_is_away(show: Show) -> None:
    show.newest = ["ord_1"]
    slow, host = show.join(Socket()), show.join(Socket())
    slow.behind = show.away = True
    await show.tell()
    assert host.fed == slow.fed == []
    show.away = False
    show.hear((SALE, 1))
    await show.tell()
    assert (host.fed, slow.fed) == ([(1, 0)], [])
    slow.behind = False
    await show.tell()
    assert (host.fed, slow.fed) == ([(1, 0)], [(1, 0)]), "nothing was missed: it is all in the first feed"
