"""The show that goes on after the sell-out of `peakgate demo --keep`, for people to look at: talk, orders, payments,
coupons, prices and stock that move. It runs for hours and keeps no more than it began with."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from gateway.cli.chat_file import ChatLine
from gateway.cli.demo_goods import Language
from gateway.cli.demo_pace import Pace
from gateway.cli.demo_people import Crowd, SignIn
from gateway.cli.demo_sale import PAID_SHARE, DemoSale, even_so, take_money
from gateway.client import Backend, Host
from gateway.client.http import each_order
from gateway.domain.room import RoomState
from gateway.errors import GatewayError

PEOPLE: Final = 120
INSIST_S: Final = 10.0
# To be read: no line sooner after the last one, and no longer silence.
LINE_AFTER_S: Final = (0.3, 5.0)
LIKE_EVERY_S: Final = 0.7
MOST_TAPS: Final = 6

StaffToken = Callable[[str], Awaitable[str]]
"""A fresh token of that role, good for an hour."""


class DemoShow:
    """A live room with people, and one sale after the other. Ends by itself when somebody ends the room."""

    def __init__(
        self,
        *,
        url: str,
        live_url: str,
        room: str,
        lines: Sequence[ChatLine],
        sign_in: SignIn,
        staff_token: StaffToken,
        people: int = PEOPLE,
        pace: Pace | None = None,
        dice: random.Random | None = None,
        language: Language = "en",
    ) -> None:
        self._url = url
        self._room = room
        self._lines = lines
        self._staff_token = staff_token
        self._pace = pace or Pace()
        self._dice = dice or random.Random()
        self._language: Language = language
        self._crowd = Crowd(people, live_url=live_url, sign_in=sign_in, pace=self._pace, dice=self._dice)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (self._crowd.come_and_go(), self._talk(), self._like())]
            await self._sell_on()
            for task in tasks:
                task.cancel()

    async def pay_for(self, sale: str, *, orders_per_s: float) -> None:
        """Takes the money for most orders of a sale that has sold out, one after the other."""
        try:
            async with await self._host() as host, await self._till() as till:
                async for order in each_order(host, f"/v1/sales/{sale}/orders", {"status": "confirmed"}):
                    if self._dice.random() < PAID_SHARE:
                        await even_so(take_money(till, order.order, order.amount_minor))
                    await asyncio.sleep(1 / orders_per_s)
        except GatewayError:
            # What is left unpaid expires, as orders do.
            return

    async def _sell_on(self) -> None:
        while True:
            try:
                async with await self._host() as host, await self._till() as till:
                    if (await host.room(self._room)).state == RoomState.ENDED:
                        return
                    await self._one_sale(host, till).run()
            except GatewayError:
                pass  # a part of the gateway may be away, or was killed to see what happens: it comes back
            await asyncio.sleep(self._pace.between_sales_s)

    def _one_sale(self, host: Host, till: Backend) -> DemoSale:
        return DemoSale(
            url=self._url,
            room=self._room,
            host=host,
            till=till,
            crowd=self._crowd,
            pace=self._pace,
            dice=self._dice,
            language=self._language,
        )

    async def _talk(self) -> None:
        """The recorded chat over and over, an author the same guest while that one is here."""
        for line, following in itertools.pairwise(itertools.cycle(self._lines)):
            guest = self._crowd.seat_of(line.viewer) or self._crowd.someone()
            if guest is not None:
                await guest.say(line.text)
            shortest_s, longest_s = LINE_AFTER_S
            await asyncio.sleep(min(longest_s, max(shortest_s, following.offset_s - line.offset_s)))

    async def _like(self) -> None:
        while True:
            await asyncio.sleep(LIKE_EVERY_S * self._dice.uniform(0.5, 1.5))
            guest = self._crowd.someone()
            if guest is not None:
                guest.like(self._dice.randint(1, MOST_TAPS))

    async def _host(self) -> Host:
        return Host(self._url, await self._staff_token("host"), insist_s=INSIST_S)

    async def _till(self) -> Backend:
        return Backend(self._url, await self._staff_token("service"), insist_s=INSIST_S)
