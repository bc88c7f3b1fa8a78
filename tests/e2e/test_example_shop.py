"""The example backend of deploy/example-shop, as a shop would run it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from gateway.client import ViewerHttp
from gateway.client.host import Host
from gateway.webhooks.events import event_body
from gateway.webhooks.signing import signed
from tests.e2e.conftest import make_show
from tests.support.gateway import Gateway, free_ports
from tests.support.servers import eventually

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy" / "example-shop"


@asynccontextmanager
async def example_shop(gateway: Gateway, folder: Path, name: str) -> AsyncIterator[str]:
    """The URL of the example at work for a shop of that name, which is made."""
    made = json.loads(gateway.command("shop", "create", name, "--json").stdout)
    keys = {key["signs"]: f"{key['kid']}:{key['secret_hex']}" for key in made["keys"]}
    port = free_ports(1)
    environment = {
        "PEAKGATE_URL": gateway.url,
        "SHOP": name,
        "VIEWER_KEY": keys["viewer"],
        "STAFF_KEY": keys["staff"],
        "PORT": str(port),
    }
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, EXAMPLE / "shop.py", cwd=folder, stdout=log, stderr=log, env={**os.environ, **environment}
        )
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session:

            async def listens() -> bool:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    async with session.get(url):
                        return True
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(listens)
        yield url
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), 10)


async def test_the_example_lets_a_customer_in_hears_of_the_order_and_reports_it_paid(
    gateway: Gateway, tmp_path: Path
) -> None:
    name = f"example-{os.getpid()}"
    async with example_shop(gateway, tmp_path, name) as shop, aiohttp.ClientSession() as session:
        async with session.post(f"{shop}/login", json={"user": "ada"}) as answer:
            token = (await answer.json())["token"]
        async with Host(gateway.url, gateway.token("host", "host", shop=name)) as host:
            show = await make_show(gateway, host, stock=1)
        async with ViewerHttp(gateway.url, token) as ada:
            placed = await ada.place_order(sale=show.sale, sku="tin", key="tap-1", wait_s=10)
            assert placed.outcome == "reserved" and placed.order is not None
            order = placed.order

            async def paid() -> bool:
                return (await ada.order(order)).status == "paid"

            await eventually(paid, within_s=30)  # a keeper that was killed before holds the sending for 12 s

        async def heard() -> bool:
            return f"order.paid {order}" in (tmp_path / "log").read_text()

        await eventually(heard)
        secret = (tmp_path / "webhook.secret").read_text()
        assert await comes_again(gateway, session, f"{shop}/hooks", secret=secret, order=order) == 204
        # It was stored for the next start, and nobody else may read it.
        assert (tmp_path / "webhook.secret").stat().st_mode & 0o077 == 0
        async with session.post(f"{shop}/hooks", json={"type": "order.confirmed", "data": {"order": order}}) as forged:
            assert forged.status == 401
        triggered = json.loads(gateway.command("webhook", "trigger", name, "--json").stdout)
        assert (triggered["ok"], triggered["status"]) == (True, 204)


async def comes_again(gateway: Gateway, session: aiohttp.ClientSession, url: str, *, secret: str, order: str) -> int:
    """The event that the order was confirmed comes once more, as every event may; how it is answered."""
    connection = await asyncpg.connect(gateway.servers()["database_url"])
    at_ms = await connection.fetchval(
        "SELECT (extract(epoch FROM n.at) * 1000)::bigint FROM order_news n"
        " WHERE n.status = 'confirmed' AND $1 BETWEEN n.first_id AND n.last_id",
        order,
    )
    await connection.close()
    body = event_body("order.confirmed", {"order": order, "amount_minor": 1900}, at_ms=at_ms)
    headers = signed([secret], msg_id="msg_again", at=datetime.now(UTC), body=body)
    async with session.post(url, data=body.encode(), headers=headers) as answer:
        return answer.status


def test_the_example_is_short_enough_to_be_read() -> None:
    assert len((EXAMPLE / "shop.py").read_text().splitlines()) < 100


@pytest.mark.parametrize("name", ["SHOP", "VIEWER_KEY", "STAFF_KEY", "HOOK_URL"])
def test_what_it_is_told_by_its_environment_stands_on_its_page_or_in_its_head(name: str) -> None:
    assert name in (EXAMPLE / "README.md").read_text() and name in (EXAMPLE / "shop.py").read_text()
