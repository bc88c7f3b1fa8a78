"""Whatever changes an order is told on once, in order, and decides once whose first order it was."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from gateway.domain.acts import Act
from gateway.domain.drafts import Effect, RoomDraft
from gateway.domain.links import LinkSeal
from gateway.domain.room import RoomState
from gateway.domain.settle import SettleAct
from gateway.domain.webhook import Event, EventType, NewsBatch
from gateway.flows.order_people import OrderPeople
from gateway.hot.server_state import ServerState
from gateway.ledger.customers import LedgerCustomers
from gateway.ledger.links import LedgerLinks
from gateway.ledger.news import LedgerNews
from gateway.ledger.pickups import LedgerPickups
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.webhooks import LedgerWebhooks
from gateway.webhooks.follower import Follower
from gateway.webhooks.object_follower import ObjectFollower
from gateway.webhooks.signing import new_secret
from tests.support.shop_floor import HOUR_MS, SHARD, SHOP, ShopFloor, item, make_sale, shop_floor

ORDERS = [kind for kind in EventType if kind.startswith("order.")]


class Told:
    """The floor's news, and what is queued of them."""

    def __init__(self, floor: ShopFloor, news: LedgerNews | None = None) -> None:
        self.floor = floor
        self.news = news or LedgerNews(floor.ledger)
        self.customers = LedgerCustomers(floor.ledger)
        self.woken = 0
        self.follower = Follower(
            news=self.news,
            orders=floor.ledger_orders,
            sales=floor.sales,
            people=OrderPeople(
                links=LedgerLinks(floor.ledger, LinkSeal(b"k" * 32)),
                pickups=LedgerPickups(floor.ledger),
                customers=self.customers,
            ),
            shards=[SHARD],
            wake=self.wake,
            orders_at_once=3,
        )
        self.objects = ObjectFollower(
            news=self.news,
            rooms=LedgerRooms(floor.ledger, floor.mint),
            sales=floor.sales,
            hot={SHARD: floor.hot},
            server=ServerState(floor.client),
            clocks=floor.trust,
            live_url="ws://live/v1/rooms/{room}/live",
            wake=self.wake,
        )

    def wake(self) -> None:
        self.woken += 1

    async def webhook(self, events: Sequence[str] = ORDERS) -> None:
        await LedgerWebhooks(self.floor.ledger).put(
            SHOP, url="https://x.example.com", events=events, secret=new_secret()
        )

    async def follow(self) -> None:
        for shard in await self.news.behind():
            while await self.follower.step(shard):
                pass

    async def queued(self) -> list[tuple[str, str]]:
        """(type, object) in the order in which they go out."""
        rows = await self.floor.ledger.fetch("SELECT type, object FROM deliveries ORDER BY delivery_no")
        return [(row["type"], row["object"]) for row in rows]

    async def bodies(self, kind: str) -> list[dict[str, Any]]:
        rows = await self.floor.ledger.fetch("SELECT body FROM deliveries WHERE type = $1 ORDER BY delivery_no", kind)
        return [msgspec.json.decode(row["body"])["data"] for row in rows]

    async def firsts(self) -> dict[str, str]:
        rows = await self.floor.ledger.fetch("SELECT viewer, order_id FROM customers")
        return {row["viewer"]: row["order_id"] for row in rows}


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url, items=[item(stock=20, limit=5)]) as floor:
        yield floor


async def confirmed(floor: ShopFloor, *viewers: str, key: str = "k1") -> list[str]:
    orders = await floor.reserve(*(floor.request(viewer, key) for viewer in viewers))
    await floor.written()
    return orders


async def settle(floor: ShopFloor, do: str, order: str, **more: Any) -> None:
    act = SettleAct(do=do, shop_no=1, order=order, sale=floor.sale.sale_no, **more)
    assert (await floor.settlement.settle(SHARD, [act]))[0].word == "done"


async def pay(floor: ShopFloor, order: str, txn: str = "t-1") -> None:
    await settle(floor, "pay", order, provider="bank", txn=txn, amount=1900, paid_at_ms=1)


async def test_every_state_of_an_order_is_told_once_and_in_its_order(floor: ShopFloor) -> None:
    told = Told(floor)
    await told.webhook()
    one, two, three = await confirmed(floor, "ada", "bob", "cy")
    await pay(floor, one)
    await settle(floor, "cancel", two, viewer="bob")
    await settle(floor, "pay", two, provider="bank", txn="t-2", amount=1900, paid_at_ms=1)
    await settle(floor, "refund", two, txn="t-2", amount=1900)
    await floor.ledger.execute(
        "UPDATE orders SET confirmed_at = confirmed_at - interval '1 h', pay_by = pay_by - interval '1 h'"
    )
    await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '1 hour'")
    await floor.deadlines.sweep(SHARD)
    await told.follow()
    assert await told.queued() == [
        ("order.confirmed", one),
        ("order.confirmed", two),
        ("order.confirmed", three),
        ("order.paid", one),
        ("order.cancelled", two),
        ("order.refund_due", two),
        ("order.refunded", two),
        ("order.expired", three),
    ]
    assert [body["status"] for body in await told.bodies("order.confirmed")] == ["confirmed"] * 3
    assert {body["sub"] for body in await told.bodies("order.confirmed")} == {"ada", "bob", "cy"}
    assert told.woken > 0
    await told.follow()
    assert len(await told.queued()) == 8


async def test_an_order_that_the_ledger_refuses_is_told_with_those_it_took(floor: ShopFloor) -> None:
    told = Told(floor)
    await told.webhook()
    # What Valkey would not have given: more than the stock.
    await floor.forge_orders([[f"v{n}", "k", "f", 1, 5, 1900, ""] for n in range(6)])
    await floor.written()
    await told.follow()
    assert [kind for kind, _ in await told.queued()].count("order.confirmed") == 4
    refused = await told.bodies("order.refused")
    assert [(body["sub"], body["status"], body["reason"]) for body in refused] == [
        ("v4", "refused", "ledger"),
        ("v5", "refused", "ledger"),
    ]
    assert not any("first_order" in body for body in refused)
    assert set(await told.firsts()) == {"v0", "v1", "v2", "v3"}


async def test_a_first_order_is_decided_once_in_the_order_of_confirmations(floor: ShopFloor) -> None:
    told = Told(floor)
    await told.webhook()
    first = await confirmed(floor, "ada", "bob", key="k1")
    again = await confirmed(floor, "ada", "cy", key="k2")
    other = await make_sale(floor, key="sale_2")
    assert await told.customers.first_orders(await shown(floor, first)) == {}, "nobody has looked yet"
    await told.follow()
    assert await told.firsts() == {"ada": first[0], "bob": first[1], "cy": again[1]}
    assert [body["first_order"] for body in await told.bodies("order.confirmed")] == [True, True, False, True]
    [later] = await floor.orders().decide(other.sale_no, [floor.request("ada", "k3", sale_no=other.sale_no)])
    await floor.written()
    # It is decided already that this is not the first one.
    assert await told.customers.first_orders(await shown(floor, [str(later.order)])) == {str(later.order): False}
    await told.follow()
    assert await told.firsts() == {"ada": first[0], "bob": first[1], "cy": again[1]}
    assert await told.customers.new_of_sales([floor.sale.sale_no, other.sale_no]) == {floor.sale.sale_no: 3}


async def shown(floor: ShopFloor, orders: Sequence[str]) -> list[Any]:
    places = [(at.sale_no, order) for order in orders if (at := floor.mint.read_order(order)) is not None]
    return list((await floor.ledger_orders.by_place(places)).values())


async def test_a_shop_hears_what_it_asked_for_and_one_without_a_webhook_nothing(floor: ShopFloor) -> None:
    told = Told(floor)
    [one] = await confirmed(floor, "ada")
    await told.follow()
    assert await told.queued() == [] and await told.firsts() == {"ada": one}
    await told.webhook([EventType.ORDER_PAID])
    [two] = await confirmed(floor, "bob")
    await pay(floor, two)
    await told.follow()
    assert await told.queued() == [("order.paid", two)]


class Killed(Exception):
    pass


class DyingNews(LedgerNews):
    """The follower's process dies at each step once: before it, and after it was done."""

    def __init__(self, floor: ShopFloor) -> None:
        super().__init__(floor.ledger)
        self.deaths = ["next", "decide", "decide after", "orders", "hand_on", "hand_on after"] * 2

    def _die(self, where: str) -> None:
        if where in self.deaths:
            self.deaths.remove(where)
            raise Killed(where)

    async def next(self, shard: int, *, orders_most: int) -> NewsBatch | None:
        self._die("next")
        return await super().next(shard, orders_most=orders_most)

    async def decide_first_orders(self, shard: int, batch: NewsBatch) -> int:
        self._die("decide")
        decided = await super().decide_first_orders(shard, batch)
        self._die("decide after")
        return decided

    async def orders(self, shard: int, nos: Sequence[int]) -> list[tuple[int, int, str]]:
        self._die("orders")
        return await super().orders(shard, nos)

    async def hand_on(self, shard: int, batch: NewsBatch, events: Sequence[Event]) -> bool:
        self._die("hand_on")
        done = await super().hand_on(shard, batch, events)
        self._die("hand_on after")
        return done


async def test_a_follower_that_dies_between_any_two_steps_tells_everything_once(floor: ShopFloor) -> None:
    news = DyingNews(floor)
    told = Told(floor, news)
    await told.webhook()
    placed: list[str] = []
    for n in range(4):
        placed += await confirmed(floor, "ada", f"v{n}", key=f"k{n}")
        await pay(floor, placed[-1], txn=f"t-{n}")
    deaths = 0
    while True:
        try:
            await told.follow()
            break
        except Killed:
            deaths += 1
    assert deaths == 12
    queued = await told.queued()
    assert sorted(queued) == sorted(
        [*(("order.confirmed", order) for order in placed), *(("order.paid", order) for order in placed[1::2])]
    )
    for order in placed[1::2]:
        assert queued.index(("order.confirmed", order)) < queued.index(("order.paid", order))
    assert (await told.firsts())["ada"] == placed[0]
    assert await told.customers.new_of_sales([floor.sale.sale_no]) == {floor.sale.sale_no: 5}


async def test_of_two_followers_one_hands_on(floor: ShopFloor) -> None:
    told, other = Told(floor), Told(floor)
    await told.webhook()
    await confirmed(floor, "ada", "bob")
    batch = await other.news.next(SHARD, orders_most=100)
    assert batch is not None
    await told.follow()
    assert not await other.news.hand_on(SHARD, batch, [Event(1, "order.paid", "ord_x", "{}")])
    assert [kind for kind, _ in await told.queued()] == ["order.confirmed", "order.confirmed"]


async def test_an_order_with_an_id_out_of_its_time_is_told_once(floor: ShopFloor) -> None:
    """Ids sort by Valkey's time; where that was set back, a later batch stands among the ids of an earlier one."""
    told = Told(floor)
    await told.webhook()
    now_ms = await floor.now_ms()
    for viewer, at_ms in (("ada", now_ms - 3000), ("bob", now_ms - 1000), ("cy", now_ms - 2000)):
        await floor.forge_orders([[viewer, "k", "f", 1, 1, 1900, ""]], at_ms=at_ms)
        if viewer != "ada":
            await floor.written()
    await told.follow()
    assert sorted(body["sub"] for body in await told.bodies("order.confirmed")) == ["ada", "bob", "cy"]


async def test_news_are_kept_for_a_while_behind_the_cursor_and_then_forgotten(floor: ShopFloor) -> None:
    told = Told(floor)
    await confirmed(floor, "ada")
    assert await told.news.forget(SHARD, older_than_s=0, most=10) == 0, "nobody has read them"
    await told.follow()
    assert await told.news.forget(SHARD, older_than_s=600, most=10) == 0
    assert await told.news.forget(SHARD, older_than_s=0, most=10) == 1
    await confirmed(floor, "bob")
    assert await told.news.behind() == [SHARD]


async def test_a_sale_is_told_of_when_it_opens_and_when_it_closes_once_each(floor: ShopFloor) -> None:
    told = Told(floor)
    await told.webhook([EventType.SALE_OPENED, EventType.SALE_CLOSED])
    soon = await make_sale(floor, key="sale_2", opens_in_ms=HOUR_MS, closes_in_ms=2 * HOUR_MS)
    for _ in range(2):
        await told.objects.step()
        assert await told.queued() == [("sale.opened", floor.sale.sale)]
    [body] = await told.bodies("sale.opened")
    assert body["state"] == "open" and body["items"][0]["left"] == 20 and body["items"][0]["paid"] == 0
    # A host opens it early and closes it, all before anybody looks again.
    for act in (Act.OPEN, Act.CLOSE):
        await floor.control.act(soon.sale_no, act, actor="h")
        await floor.written()
    for _ in range(2):
        await told.objects.step()
    assert (await told.queued())[1:] == [("sale.opened", soon.sale), ("sale.closed", soon.sale)]
    assert [body["state"] for body in await told.bodies("sale.closed")] == ["closed"]


async def test_a_sale_that_was_closed_before_it_opened_is_never_told_to_have_opened(floor: ShopFloor) -> None:
    told = Told(floor)
    await told.webhook([EventType.SALE_OPENED, EventType.SALE_CLOSED])
    await floor.ledger.execute(
        "UPDATE sales SET opens_at_ms = opens_at_ms + 7200000, closes_at_ms = closes_at_ms + 7200000"
    )
    await floor.ledger.execute("UPDATE sales SET hold = 'closed'")
    await told.objects.step()
    assert [kind for kind, _ in await told.queued()] == ["sale.closed"]


async def test_a_sale_is_not_told_to_open_while_the_clocks_are_not_trusted_or_it_is_paused(floor: ShopFloor) -> None:
    told = Told(floor)
    await told.webhook([EventType.SALE_OPENED])
    floor.trust.trusted = False
    await told.objects.step()
    floor.trust.trusted = True
    await floor.ledger.execute("UPDATE sales SET hold = 'paused'")
    await told.objects.step()
    assert await told.queued() == []
    await floor.ledger.execute("UPDATE sales SET hold = 'active'")
    await told.objects.step()
    assert await told.queued() == [("sale.opened", floor.sale.sale)]


async def test_a_room_is_told_of_when_it_starts_and_when_it_ends(floor: ShopFloor) -> None:
    told = Told(floor)
    await told.webhook([EventType.ROOM_STARTED, EventType.ROOM_ENDED])
    rooms = LedgerRooms(floor.ledger, floor.mint)
    room = (await rooms.create(SHOP, RoomDraft(title="Show"), Effect("h", "room", "k", "f"))).room
    for state in (RoomState.LIVE, RoomState.LIVE, RoomState.ENDED):
        await rooms.set_state(room.room_no, state, actor="h")
    for _ in range(2):
        await told.objects.step()
    assert await told.queued() == [("room.started", room.room), ("room.ended", room.room)]
    [started] = await told.bodies("room.started")
    assert started["state"] == "live" and started["live_url"] == f"ws://live/v1/rooms/{room.room}/live"


async def test_an_event_of_another_transaction_is_queued_with_it_and_has_the_same_id_whenever_it_is_made(
    floor: ShopFloor,
) -> None:
    told = Told(floor)
    await told.webhook([EventType.BOOKING_DUE])
    ask = "SELECT queue_event(1, 'booking.due', 'room_1:ada', '{\"room\":\"room_1\"}'::json)"
    assert await floor.ledger.fetchval(ask) is True
    first = await floor.ledger.fetchrow("DELETE FROM deliveries RETURNING msg_id, body")
    assert await floor.ledger.fetchval(ask) is True
    assert await floor.ledger.fetchval(ask) is False, "it waits already"
    again = await floor.ledger.fetchrow("SELECT msg_id, body FROM deliveries")
    assert again["msg_id"] == first["msg_id"] and first["msg_id"].startswith("msg_")
    told_of = msgspec.json.decode(first["body"])
    assert told_of["type"] == "booking.due" and told_of["data"] == {"room": "room_1"}
    assert told_of["timestamp"].endswith("Z")
    assert await floor.ledger.fetchval("SELECT queue_event(1, 'room.ended', 'room_1', '{}'::json)") is False
