"""The show that the demo goes on with: everything in it happens, and it ends with its room."""

import asyncio
import random
import uuid
from typing import Any

from gateway.cli.chat_file import read_chat, shipped_chat
from gateway.cli.demo_pace import Pace
from gateway.cli.demo_show import DemoShow
from gateway.client import Host
from tests.support.gateway import Gateway

QUICK = Pace(
    sale_s=4.0,
    between_sales_s=0.2,
    looks_every_s=0.2,
    order_every_s=0.02,
    pays_after_s=(0.0, 0.1),
    collects_after_s=(0.0, 0.1),
    price_step_s=0.5,
    pin_every_s=0.5,
    coupon_every_s=0.5,
    announces_every_s=0.5,
    comes_within_s=0.2,
    stay_s=(2.0, 4.0),
    away_s=0.3,
)


async def test_a_show_has_people_talk_sales_coupons_and_acts_and_ends_with_its_room(
    gateway: Gateway, host: Host
) -> None:
    room = await host.create_room("The demo's show", key=uuid.uuid4().hex)
    await host.start_room(room.room)

    async def sign_in(name: str) -> str:
        return gateway.token(f"guest-{name}")

    async def staff_token(role: str) -> str:
        return gateway.token(role, role)

    show = DemoShow(
        url=gateway.url,
        live_url=gateway.live_url(room.room),
        room=room.room,
        lines=read_chat(shipped_chat()),
        sign_in=sign_in,
        staff_token=staff_token,
        people=20,
        pace=QUICK,
        dice=random.Random(7),
    )
    playing = asyncio.create_task(show.run())
    try:
        async with asyncio.timeout(40):
            while not await _has_it_all(host, room.room):
                assert not playing.done(), await playing
                await asyncio.sleep(0.2)
        await host.end_room(room.room)
        async with asyncio.timeout(20):
            await playing
    finally:
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)


async def _has_it_all(host: Host, room: str) -> bool:
    report: dict[str, Any] = (await host.call("GET", f"/v1/rooms/{room}/report")).json()
    figures = report["figures"]
    done = {act.act for act in await host.acts(room)}
    sales = {sku["sale"] for sku in report["skus"]}
    return (
        len(sales) >= 2
        and all(figures[name] > 0 for name in ("comments", "likes", "shop_entries", "orders_paid", "coupons_claimed"))
        and figures["coupons_redeemed"] > 0
        and {"pin", "announce", "stock", "drop", "redeem"} <= done
    )
