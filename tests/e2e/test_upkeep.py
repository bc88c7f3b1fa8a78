"""What the keeper of a running gateway does beside selling: clocks are compared, ended sales leave Valkey."""

import uuid

import aiohttp
import redis

from gateway.client.host import Host
from gateway.client.http import ViewerHttp
from tests.e2e.conftest import make_show
from tests.support.gateway import Gateway
from tests.support.servers import eventually


async def metric(gateway: Gateway, name: str) -> float | None:
    async with aiohttp.ClientSession() as session, session.get(f"{gateway.admin_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    found = [float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))]
    return max(found, default=None)


async def test_an_ended_sale_leaves_valkey_and_is_still_answered(rough_gateway: Gateway) -> None:
    gateway = rough_gateway

    async def clocks_are_trusted() -> bool:
        return await metric(gateway, "peakgate_clock_trusted") == 1

    await eventually(clocks_are_trusted, within_s=20)
    key = uuid.uuid4().hex
    async with (
        Host(gateway.url, gateway.token("host", "host")) as host,
        ViewerHttp(gateway.url, gateway.token("ann")) as viewer,
    ):
        client = redis.Redis.from_url(gateway.servers()["valkey_url"])
        others = set(client.scan_iter("*:sale:*"))
        show = await make_show(gateway, host)
        placed = await viewer.place_order(sale=show.sale, sku="tin", key=key, wait_s=5)
        assert placed.is_reserved and placed.order is not None
        await host.close_sale(show.sale)
        await viewer.cancel(placed.order)
        try:

            async def left() -> bool:
                return not set(client.scan_iter("*:sale:*")) - others

            assert not await left()
            await eventually(left, within_s=60)
        finally:
            client.close()
        again = await viewer.place_order(sale=show.sale, sku="tin", key=key)
        assert (again.is_reserved, again.replayed, again.order) == (True, True, placed.order)
        other = await viewer.place_order(sale=show.sale, sku="tin", key=uuid.uuid4().hex)
        assert other.outcome == "ended"
        [item] = (await host.sale(show.sale)).items
        assert (item.stock, item.left, item.held) == (100, 100, 0)
    assert gateway.command("audit", check=False).returncode == 0
