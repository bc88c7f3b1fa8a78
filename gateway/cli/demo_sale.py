"""One sale of the show that `peakgate demo --keep` goes on with: orders, payments, stock, coupons, and the pin."""

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from gateway.cli.demo_goods import (
    ANNOUNCEMENTS,
    CURRENCY,
    DISCOUNTS,
    GOODS,
    SALE_TITLE,
    Discount,
    Language,
    Storeroom,
    items_of_a_sale,
)
from gateway.cli.demo_pace import Pace
from gateway.cli.demo_people import Crowd, Guest
from gateway.client import Backend, Host
from gateway.domain.room import RoomState
from gateway.domain.sale import SaleState
from gateway.errors import GatewayError

PAID_SHARE: Final = 0.88
PICKUP_SHARE: Final = 0.15
COLLECTED_SHARE: Final = 0.7
GRABBING_SHARE: Final = 0.35
# So many times as often is ordered what the host shows.
PINNED_WEIGHS: Final = 2.0
TILL: Final = "till"


class DemoSale:
    """From its opening until it closes, by its time or by somebody's act; everything it began ends with it."""

    def __init__(
        self,
        *,
        url: str,
        room: str,
        host: Host,
        till: Backend,
        crowd: Crowd,
        pace: Pace,
        dice: random.Random,
        language: Language,
    ) -> None:
        self._url = url
        self._room = room
        self._host = host
        self._till = till
        self._crowd = crowd
        self._pace = pace
        self._dice = dice
        self._language: Language = language
        self._sale = ""
        self._pinned = ""

    async def run(self) -> None:
        opens_at = datetime.now(UTC)
        closes_at = opens_at + timedelta(seconds=self._pace.sale_s)
        sale = await self._host.create_sale(
            title=SALE_TITLE[self._language],
            room=self._room,
            currency=CURRENCY,
            opens_at=opens_at.isoformat(),
            closes_at=closes_at.isoformat(),
            pay_within_s=self._pace.pay_within_s,
            items=items_of_a_sale(
                opens_at, closes_at, timedelta(seconds=self._pace.price_step_s), self._language, url=self._url
            ),
        )
        self._sale = sale.sale
        async with asyncio.TaskGroup() as group:
            works = (self._take_orders(), self._show_items(), self._drop_coupons(), self._announce())
            tasks = [group.create_task(work) for work in works]
            await self._stand_by()
            for task in tasks:
                task.cancel()

    async def _stand_by(self) -> None:
        """Brings boxes of what runs low until the sale or the room is over."""
        storeroom = Storeroom(opened_s=time.monotonic())
        while True:
            await asyncio.sleep(self._pace.looks_every_s)
            try:
                sale, room = await self._host.sale(self._sale), await self._host.room(self._room)
                if sale.state == SaleState.CLOSED or room.state == RoomState.ENDED:
                    return
                for item in sale.items:
                    box = storeroom.box_for(item.sku, item.left or 0, time.monotonic())
                    if box:
                        await self._host.add_stock(self._sale, item.sku, box, reason="another box from the storeroom")
            except GatewayError:
                continue

    async def _take_orders(self) -> None:
        skus = [good.sku for good in GOODS]
        async with asyncio.TaskGroup() as buying:
            while True:
                await asyncio.sleep(self._pace.order_every_s * self._dice.uniform(0.3, 1.7))
                guest = self._crowd.someone()
                weights = [good.wanted * (PINNED_WEIGHS if good.sku == self._pinned else 1.0) for good in GOODS]
                (sku,) = self._dice.choices(skus, weights)
                if guest is not None:
                    buying.create_task(self._buy(guest, sku))

    async def _buy(self, guest: Guest, sku: str) -> None:
        """Most pay, after a while; some of those who come for it themselves are given it."""
        order = await guest.buy(self._sale, sku, pickup=self._dice.random() < PICKUP_SHARE)
        if order is None or order.order is None or order.amount_minor is None or self._dice.random() > PAID_SHARE:
            return
        await asyncio.sleep(self._dice.uniform(*self._pace.pays_after_s))
        try:
            code = await take_money(self._till, order.order, order.amount_minor)
            if code is not None and self._dice.random() < COLLECTED_SHARE:
                await asyncio.sleep(self._dice.uniform(*self._pace.collects_after_s))
                await self._host.redeem_pickup(code)
        except GatewayError:
            return

    async def _show_items(self) -> None:
        for good in itertools.cycle(GOODS):
            self._pinned = good.sku
            await even_so(self._host.pin_item(self._room, sale=self._sale, sku=good.sku))
            await asyncio.sleep(self._pace.pin_every_s)

    async def _drop_coupons(self) -> None:
        async with asyncio.TaskGroup() as grabbing:
            for discount in itertools.cycle(DISCOUNTS):
                await asyncio.sleep(self._pace.coupon_every_s * self._dice.uniform(0.8, 1.2))
                try:
                    coupon = await self._drop(discount)
                except GatewayError:
                    continue
                for guest in self._crowd.here():
                    if self._dice.random() < GRABBING_SHARE:
                        grabbing.create_task(guest.grab(coupon, valid_s=self._pace.coupon_valid_s))

    async def _drop(self, discount: Discount) -> str:
        valid_until = datetime.now(UTC) + timedelta(seconds=self._pace.coupon_valid_s)
        coupon = await self._host.create_coupon(
            limit_per_viewer=1,
            valid_until=valid_until.isoformat(),
            currency=CURRENCY,
            room=self._room,
            **discount.fields(self._language),
        )
        await self._host.drop(coupon.coupon, room=self._room, for_s=self._pace.coupon_for_s)
        return coupon.coupon

    async def _announce(self) -> None:
        for text in itertools.cycle(ANNOUNCEMENTS[self._language]):
            await even_so(self._host.announce(self._room, text))
            await asyncio.sleep(self._pace.announces_every_s)


async def take_money(till: Backend, order: str, amount_minor: int) -> str | None:
    """The code to collect it by, where it is to be collected."""
    paid = await till.report_payment(
        order,
        provider=TILL,
        txn=order,
        amount_minor=amount_minor,
        paid_at=datetime.now(UTC).isoformat(),
        key=f"pay-{order}",
    )
    return None if paid.pickup is None else paid.pickup.code


async def even_so(act: Awaitable[Any]) -> None:
    """People who look on may have paused, closed or banned what it needs: then the show goes on without it."""
    try:
        await act
    except GatewayError:
        pass
