"""A ledger is backed up in the middle of a sale and brought back: beside the Valkey that went on, and beside none."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.client.host import Host
from gateway.client.http import ViewerHttp
from gateway.client.viewer import Viewer
from tests.e2e.conftest import Show, make_show
from tests.support.gateway import Gateway, running_gateway
from tests.support.servers import eventually

STOCK = 10


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with running_gateway() as started:
        yield started


@pytest.fixture
def elsewhere() -> Iterator[Gateway]:
    """A data folder with nothing in it; started by the test."""
    folder = Path(tempfile.mkdtemp(prefix="peakgate-e2e-"))
    gateway = Gateway(data=folder / "data")
    try:
        yield gateway
    finally:
        if gateway.process is not None and gateway.process.poll() is None:
            gateway.kill_all()
        if gateway.process is not None and gateway.process.stdout is not None:
            gateway.process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


async def buy(gateway: Gateway, show: Show, *subs: str) -> dict[str, str]:
    """A confirmed order for each viewer, by viewer."""
    orders = {}
    for sub in subs:
        async with Viewer(gateway.live_url(show.room), gateway.token(sub)) as viewer:
            answer = await viewer.order(sale=show.sale, sku="tin", key=f"key-{sub}", insist=True)
            assert answer.is_reserved and answer.order is not None
            await viewer.confirmed(answer.order)
            orders[sub] = str(answer.order)
    return orders


def restored(gateway: Gateway, file: Path, *options: str) -> Any:
    return json.loads(gateway.command("restore", str(file), *options, "--json").stdout)


async def sells(gateway: Gateway, show: Show, orders: dict[str, str], *, host_token: str) -> None:
    """The sale stands as these orders leave it, the books agree, and it goes on selling."""
    async with Host(gateway.url, host_token, insist_s=20) as host:

        async def shows_them() -> bool:
            found = await host.orders(show.sale)
            return {str(order.sub): order.order for order in found if order.status == "confirmed"} == orders

        async def counts_them() -> bool:
            [item] = (await host.sale(show.sale)).items
            return (item.stock, item.left, item.held) == (STOCK, STOCK - len(orders), len(orders))

        await eventually(shows_them, within_s=20)
        await eventually(counts_them, within_s=20)
    audit = gateway.command("audit", "--json", check=False)
    assert audit.returncode == 0, audit.stdout
    more = await buy(gateway, show, "newcomer")
    assert not more.keys() & orders.keys()


async def test_a_ledger_comes_back_with_what_the_stream_still_holds(
    gateway: Gateway, elsewhere: Gateway, tmp_path: Path
) -> None:
    file = tmp_path / "ledger.backup"
    host_token = gateway.token("host", "host")
    async with Host(gateway.url, host_token) as host:
        show = await make_show(gateway, host, stock=STOCK)
    before = await buy(gateway, show, "ann", "ben", "cem")
    manifest = json.loads(gateway.command("backup", str(file), "--json").stdout)
    assert manifest["orders"] == 3
    after = await buy(gateway, show, "dee", "eve")

    # Under a running gateway nothing is replaced.
    refused = gateway.command("restore", str(file), "--replace", "--yes", check=False)
    assert refused.returncode == 1 and "a gateway uses this ledger" in refused.stderr
    assert gateway.stop() == 0
    assert gateway.process is not None and gateway.process.stdout is not None
    gateway.process.stdout.close()

    told = restored(gateway, file, "--replace", "--yes")
    assert told["replaced"]["orders"] == 5 and told["to_do"]
    gateway.start()
    await sells(gateway, show, before | after, host_token=host_token)

    # Without the Valkey that went on, what came after the backup is lost and told so.
    assert restored(elsewhere, file)["replaced"] is None
    elsewhere.start()
    await sells(elsewhere, show, before, host_token=elsewhere.token("host", "host"))
    async with ViewerHttp(elsewhere.url, elsewhere.token("dee")) as viewer:
        order = await viewer.order(after["dee"])
        assert (order.status, order.reason) == ("refused", "lost")


def test_a_folder_without_a_ledger_has_nothing_to_back_up(elsewhere: Gateway, tmp_path: Path) -> None:
    refused = elsewhere.command("backup", str(tmp_path / "file"), check=False)
    assert refused.returncode == 1 and "there is no ledger" in refused.stderr
    assert not elsewhere.data.exists()
