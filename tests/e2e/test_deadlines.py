"""An order nobody pays for, as everybody in the room sees it end: its viewer, its units, the next viewer."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from gateway.client.host import Host
from gateway.client.viewer import Viewer
from tests.support.gateway import Gateway


async def test_a_unit_nobody_paid_for_returns_to_the_room_and_the_next_viewer_gets_it(
    gateway: Gateway, host: Host
) -> None:
    """Both ways at once: the shortest deadline is five seconds."""
    await asyncio.gather(*(returns(gateway, host, codec) for codec in ("json", "msgpack")))


async def returns(gateway: Gateway, host: Host, codec: str) -> None:
    room = await host.create_room("Show", key=f"deadline-room-{codec}")
    await host.start_room(room.room)
    now = datetime.now(UTC)
    sale = await host.create_sale(
        key=f"deadline-sale-{codec}",
        title="One left",
        currency="CNY",
        room=room.room,
        opens_at=(now - timedelta(minutes=1)).isoformat(),
        closes_at=(now + timedelta(hours=1)).isoformat(),
        pay_within_s=5,
        items=[{"sku": "tin", "title": "Tin", "price_minor": 1900, "stock": 1, "limit_per_viewer": 1}],
    )
    live_url = gateway.live_url(room.room)
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    states: asyncio.Queue[str] = asyncio.Queue()
    first, second = gateway.tokens(f"deadline-{codec}", 2)
    async with (
        Viewer(live_url, first, codec=codec, on_order=lambda known: states.put_nowait(str(known.status))) as holder,
        Viewer(live_url, second, codec=codec, on_event=events.put_nowait) as other,
    ):
        held = await holder.order(sale=sale.sale, sku="tin", key="k1")
        assert held.is_reserved
        gone = await other.order(sale=sale.sale, sku="tin", key="k2")
        assert (gone.outcome, gone.may_return) == ("sold_out", True)
        async with asyncio.timeout(30):
            while await states.get() != "expired":
                pass
            # The room was told when it was sold, and is told when it came back.
            told = [await events.get()]
            while told[-1].get("left") != 1:
                told.append(await events.get())
        stock = {"k": "stock", "sale": sale.sale, "sku": "tin"}
        assert [event for event in told if event["k"] == "stock"] == [{**stock, "left": 0}, {**stock, "left": 1}]
        assert (await other.order(sale=sale.sale, sku="tin", key="k2")).is_reserved
        again = await holder.order(sale=sale.sale, sku="tin", key="k1")
        assert again.is_reserved and again.order == held.order and again.replayed
