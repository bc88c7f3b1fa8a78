"""The room of a show, its sale and its coupon, and the order of events in it: what hosts, till and clerks do."""

import asyncio
import json
import math
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from gateway.cli.chat_file import read_chat, shipped_chat
from gateway.client import Backend, Clerk, Host, ViewerHttp
from gateway.errors import AlreadyRedeemed
from loadtests.show_check import Found
from loadtests.show_journal import Journal
from loadtests.show_people import OFF_MINOR, PRICE_MINOR, SKU, THRESHOLD_MINOR, Crowd
from loadtests.show_plan import COLLECTED_SHARE, DROP_AT, MOST_AN_ORDER, OPENS_AT, TAP_WITHIN_S, Show
from loadtests.surge import Peakgate

AT_ONCE = 32
# A clerk hands over five orders a second at most.
UNITS_A_CLERK = 500
INSIST_S = 30.0
# Units that nobody paid for come back some seconds later, and with each time fewer are left.
SOLD_WITHIN_S = 300.0
COUNTED_WITHIN_S = 60.0
TOLD_WITHIN_S = 120.0


class Stage:
    """The room, its sale and its coupon, and everybody who has something to do with them."""

    def __init__(self, show: Show, peakgate: Peakgate, *, shop: str, dice: random.Random) -> None:
        self.show = show
        self.journal = Journal()
        self._peakgate = peakgate
        self._shop = shop
        self._dice = dice
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._url = ""
        self._tokens: list[str] = []
        self._host: Host
        self._backend: Backend
        self._clerks: list[Clerk]
        self._http: aiohttp.ClientSession
        self._room = self._sale = self._coupon = ""
        self._crowd: Crowd

    @classmethod
    async def set_up(
        cls,
        stack: AsyncExitStack,
        show: Show,
        url: str,
        peakgate: Peakgate,
        *,
        shop: str,
        codec: str,
        dice: random.Random,
    ) -> "Stage":
        self = cls(show, peakgate, shop=shop, dice=dice)
        say("preparing the shop, the room, the sale and the coupon")
        self._url = url
        [host], [service] = await self._ask_tokens("host", 1), await self._ask_tokens("service", 1)
        self._tokens = await self._ask_tokens("viewer", len(show.people))
        clerks = await self._ask_tokens("clerk", math.ceil(show.units / UNITS_A_CLERK))
        self._host = await stack.enter_async_context(Host(url, host, insist_s=INSIST_S))
        self._backend = await stack.enter_async_context(Backend(url, service, insist_s=INSIST_S))
        self._http = await stack.enter_async_context(aiohttp.ClientSession())
        self._clerks = [Clerk(url, clerk, session=self._http, insist_s=INSIST_S) for clerk in clerks]
        await stack.enter_async_context(_hearing(self.journal, self._backend))
        room = await self._host.create_room("A whole show")
        self._room = room.room
        await self._make_sale()
        self._crowd = Crowd(
            show,
            self.journal,
            live_url=room.live_url,
            sale=self._sale,
            codec=codec,
            till=self._backend,
            tokens=self._tokens,
            dice=dice,
        )
        return self

    async def _ask_tokens(self, role: str, count: int) -> list[str]:
        asked = ("token", "--shop", self._shop, "--sub", role, "--role", role, "--count", str(count))
        return (await self._peakgate(*asked)).out.split()

    async def _make_sale(self) -> None:
        now = datetime.now(UTC)
        until = (now + timedelta(hours=6)).isoformat()
        sale = await self._host.create_sale(
            title="The drop",
            room=self._room,
            currency="CNY",
            opens_at=(now + timedelta(hours=3)).isoformat(),
            closes_at=until,
            pay_within_s=self.show.pay_within_s,
            items=[
                {
                    "sku": SKU,
                    "title": "Tin",
                    "price_minor": PRICE_MINOR,
                    "stock": self.show.units,
                    "limit_per_viewer": MOST_AN_ORDER,
                }
            ],
        )
        self._sale = sale.sale
        coupon = await self._host.create_coupon(
            title="A little off",
            kind="amount",
            value_minor=OFF_MINOR,
            threshold_minor=THRESHOLD_MINOR,
            copies=self.show.copies,
            limit_per_viewer=1,
            valid_until=until,
            room=self._room,
            sales=[self._sale],
        )
        self._coupon = coupon.coupon

    async def play(self) -> Found:
        """What the gateway says of it, after everything."""
        await self._book()
        say("the show begins")
        await self._host.start_room(self._room)
        self.journal.started_s = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for guest in self._crowd.guests:
                group.create_task(guest.run())
            group.create_task(self._crowd.talk(self._lines()))
            await self._until(DROP_AT)
            say(f"a coupon of {self.show.copies} copies is dropped among {len(self._crowd.present)}")
            for_s = math.ceil(2 * TAP_WITHIN_S)
            await self._host.drop(self._coupon, room=self._room, for_s=for_s)
            await self._all(guest.grab(self._coupon) for guest in self._crowd.present if guest.person.grabs)
            await self._until(OPENS_AT)
            say(f"{self.show.units:,} units are for sale, {len(self._crowd.present)} tap")
            await self._host.open_sale(self._sale)
            self._crowd.is_open.set()
            await self._all(guest.tap() for guest in self._crowd.present)
            await self._until(1.0)
            say("what was not paid for is sold again")
            await self._sell_out()
            await self._host.end_room(self._room)
            self.journal.length_s = self.journal.now_s()
            self._crowd.is_over.set()
        await self._crowd.paid()
        await self._collect()
        say("reading the report")
        return await self._found()

    async def _book(self) -> None:
        people = self.show.people
        say(f"{len(people):,} book")

        async def book(sub: str, token: str, *, cancels: bool) -> None:
            async with self._gate:
                viewer = ViewerHttp(self._url, token, session=self._http, insist_s=INSIST_S)
                await viewer.book(self._room)
                if cancels:
                    await viewer.cancel_booking(self._room)
                else:
                    self.journal.booked.add(sub)

        await self._all(
            book(person.sub, token, cancels=person.cancels) for person, token in zip(people, self._tokens, strict=True)
        )

    def _lines(self) -> list[tuple[float, str]]:
        """As recorded, over and over until there are so many, spread over the show."""
        recorded = read_chat(shipped_chat())
        length_s, count = recorded[-1].offset_s + 1, self.show.comments
        rounds = math.ceil(count / len(recorded))
        times = [(line.offset_s + turn * length_s, line.text) for turn in range(rounds) for line in recorded][:count]
        return [(at_s / (times[-1][0] + 1) * self.show.show_s, text) for at_s, text in times]

    async def _sell_out(self) -> None:
        """Units that come back go to whoever is there and may have more, until all are paid for."""
        async with asyncio.timeout(SOLD_WITHIN_S):
            while True:
                (item,) = (await self._host.sale(self._sale)).items
                if item.paid == self.show.units:
                    return
                left = item.left or 0
                buying: list[Coroutine[Any, Any, None]] = []
                for guest in sorted(self._crowd.present, key=lambda guest: guest.units):
                    most = min(left, MOST_AN_ORDER - guest.units)
                    if most > 0:
                        buying.append(guest.buy(most))
                        left -= most
                await self._all(buying)
                await asyncio.sleep(0.3)

    async def _collect(self) -> None:
        """So many come for what they paid for, and show their code; some show it twice."""
        orders = [order for order in await self._host.orders(self._sale, status="paid") if order.pickup is not None]
        say(f"{COLLECTED_SHARE:.0%} of {len(orders):,} orders are collected")

        async def redeem(order: str, code: str, clerk: Clerk) -> None:
            async with self._gate:
                await clerk.redeem_pickup(code)
                self.journal.collected.add(order)
                if self._dice.random() < 0.05:
                    try:
                        await clerk.redeem_pickup(code)
                    except AlreadyRedeemed:
                        return
                    self.journal.wrong.append(f"{order} was collected twice")

        await self._all(
            redeem(order.order, order.pickup.code, self._clerks[number % len(self._clerks)])
            for number, order in enumerate(orders)
            if order.pickup is not None and order.pickup.code and self._dice.random() < COLLECTED_SHARE
        )

    async def _found(self) -> Found:
        """Once what counts with a delay is counted, and the shop has heard of everything."""
        await _once(self._is_counted, COUNTED_WITHIN_S)
        await _once(self._is_told, TOLD_WITHIN_S)
        (item,) = (await self._host.sale(self._sale)).items
        [coupon] = [each for each in await self._host.coupons() if each.coupon == self._coupon]
        return Found(
            orders=await self._host.orders(self._sale),
            coupon=coupon,
            left=item.left if item.left is not None else -1,
            report=await self._report(),
        )

    async def _report(self) -> Any:
        return (await self._host.call("GET", f"/v1/rooms/{self._room}/report")).json()

    async def _is_counted(self) -> bool:
        figures, journal = (await self._report())["figures"], self.journal
        return (
            figures["visits"] >= journal.visits
            and figures["shop_entries"] >= sum(journal.entries.values())
            and figures["comments"] >= journal.comments
            and figures["likes"] >= journal.likes
            and figures["watch_avg_s"] * figures["viewers"] >= 0.95 * sum(journal.watched_s.values())
            and figures.get("new_customer_share") is not None
        )

    async def _is_told(self) -> bool:
        journal = self.journal
        due = {data["sub"] for _, kind, data in journal.heard if kind == "booking.due"}
        paid = {data["order"] for _, kind, data in journal.heard if kind == "order.paid"}
        return due >= journal.booked and paid >= {
            order.order for order in journal.orders.values() if order.told == "paid"
        }

    async def _until(self, share: float) -> None:
        await asyncio.sleep(max(0.0, share * self.show.show_s - self.journal.now_s()))

    async def _all(self, works: Iterable[Coroutine[Any, Any, None]]) -> None:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)


@asynccontextmanager
async def _hearing(journal: Journal, backend: Backend) -> AsyncIterator[None]:
    """The shop's own server, which takes every event that is signed by its secret."""
    secret = ""

    async def take(request: web.Request) -> web.Response:
        body = (await request.read()).decode()
        Webhook(secret).verify(body, dict(request.headers))
        event = json.loads(body)
        journal.heard.append((request.headers["webhook-id"], event["type"], event["data"]))
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/events", take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/events"
        await backend.call("PUT", "/v1/webhook", {"url": url, "events": ["booking.due", "order.paid"]})
        # Only the first time a shop names a webhook is its secret told; a shop of an earlier show gets another one.
        secret = (await backend.call("POST", "/v1/webhook/rotate")).json()["secret"]
        yield
    finally:
        await runner.cleanup()


async def _once(holds: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Waits until it holds; when it never does, the check says what is missing."""
    deadline = time.monotonic() + within_s
    while not await holds() and time.monotonic() < deadline:  # noqa: ASYNC110 - it is another process
        await asyncio.sleep(0.5)


def say(what: str) -> None:
    print(f"show: {what} ...", file=sys.stderr, flush=True)
