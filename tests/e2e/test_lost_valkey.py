"""The orders Valkey on its worst days, under a whole gateway: emptied, killed with its file and without it."""

import asyncio
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
import redis

from gateway.client.host import Host
from gateway.client.viewer import Viewer
from tests.e2e.conftest import Show, make_show
from tests.support.api import Api, api_of
from tests.support.gateway import Gateway, running_gateway
from tests.support.servers import eventually

STOCK = 50


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """Each test leaves it whole, in a later epoch."""
    with running_gateway(workers=2) as gateway:
        yield gateway


@dataclass
class Stage:
    gateway: Gateway
    show: Show
    host: Host
    api: Api

    @asynccontextmanager
    async def viewer(self, sub: str) -> AsyncIterator[Viewer]:
        async with Viewer(self.show.live_url, self.api.viewer(sub)) as viewer:
            yield viewer

    async def buy(self, viewer: Viewer, key: str = "k1", *, within_s: float = 30) -> str:
        answer = await viewer.order(sale=self.show.sale, sku="tin", key=key, insist=True, within_s=within_s)
        assert answer.is_reserved, answer
        return str(answer.order)

    def valkey(self) -> redis.Redis:
        return redis.Redis.from_url(self.gateway.servers()["valkey_url"])

    async def settled(self) -> None:
        """The ledger has what Valkey has, and the books of both agree."""
        valkey = self.valkey()

        async def caught_up() -> bool:
            facts = {name.decode(): value.decode() for name, value in valkey.hgetall("{s0}:shard").items()}
            return facts.get("open") == "1" and facts["seq"] == facts["applied"]

        try:
            await eventually(caught_up, within_s=20)
        finally:
            valkey.close()
        report = await asyncio.to_thread(self.gateway.command, "audit", "--json", check=False)
        assert report.returncode == 0, report.stdout + report.stderr


@pytest.fixture
async def stage(gateway: Gateway) -> AsyncIterator[Stage]:
    async with api_of(gateway) as api, Host(gateway.url, api.token(), insist_s=20) as host:
        yield Stage(gateway, await make_show(gateway, host, stock=STOCK, limit=5), host, api)


def emptied(stage: Stage) -> None:
    valkey = stage.valkey()
    valkey.flushall()
    valkey.close()


def killed(stage: Stage) -> None:
    (pid,) = stage.gateway.pids("peakgate valkey orders")
    os.kill(pid, signal.SIGKILL)


def killed_with_its_file(stage: Stage) -> None:
    (pid,) = stage.gateway.pids("peakgate valkey orders")
    os.kill(pid, signal.SIGSTOP)
    shutil.rmtree(stage.gateway.data / "orders")
    os.kill(pid, signal.SIGKILL)


LOSSES = [emptied, killed, killed_with_its_file]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
async def test_it_sells_again_within_seconds_and_every_confirmed_order_stands(stage: Stage, loss: object) -> None:
    async with stage.viewer("ann") as ann, stage.viewer("bob") as bob:
        orders = {await stage.buy(viewer, f"k{at}") for viewer in (ann, bob) for at in range(3)}
        await stage.settled()
        assert callable(loss)
        loss(stage)
        lost_at_s = time.monotonic()
        new = await stage.buy(ann, "new")
        took_s = time.monotonic() - lost_at_s
        print(f"sold again after {took_s:.2f} s")
        assert took_s < 8, "a machine that others use too is given more than the three seconds that are aimed at"
        # Their keys give what they gave.
        assert {await stage.buy(viewer, f"k{at}") for viewer in (ann, bob) for at in range(3)} == orders
        await stage.settled()
        (item,) = (await stage.host.sale(stage.show.sale)).items
        assert (item.left, item.held) == (STOCK - 7, 7)
        listed = await stage.host.orders(stage.show.sale)
        assert {order.order for order in listed if order.status == "confirmed"} == orders | {new}


async def test_a_loss_closes_the_sale_at_once(stage: Stage) -> None:
    """Nobody is promised anything from the counters that are gone, from the first moment on."""
    async with stage.viewer("cat") as cat:
        await stage.buy(cat)
        await stage.settled()
        emptied(stage)
        answer = await cat.order(sale=stage.show.sale, sku="tin", key="k1", insist=True, within_s=30)
        assert answer.replayed, "the first answer it gives is already one of the recount"
        await stage.settled()


@pytest.mark.parametrize("loss", [emptied, killed_with_its_file], ids=lambda loss: loss.__name__)
async def test_an_order_that_was_lost_is_told_as_refused_and_its_key_is_free(stage: Stage, loss: object) -> None:
    (writer,) = stage.gateway.pids("peakgate writer")
    async with stage.viewer("dan") as dan, aiohttp.ClientSession() as http:
        await stage.buy(dan, "before")
        await stage.settled()
        waits = stage.api.viewer("eve")
        os.kill(writer, signal.SIGSTOP)
        try:
            lost = await stage.buy(dan)

            async def place_and_wait() -> dict[str, object]:
                async with http.post(
                    f"{stage.gateway.url}/v1/orders",
                    json={"sale": stage.show.sale, "sku": "tin", "quantity": 1},
                    headers={
                        "Authorization": f"Bearer {waits}",
                        "Idempotency-Key": uuid.uuid4().hex,
                        "Prefer": "wait=20",
                    },
                ) as reply:
                    assert reply.status == 201
                    body: dict[str, object] = await reply.json()
                    return body

            waiting = asyncio.create_task(place_and_wait())
            valkey = stage.valkey()

            async def both_are_promised() -> bool:
                seq, applied = valkey.hmget("{s0}:shard", "seq", "applied")
                return int(seq or 0) - int(applied or 0) == 2

            await eventually(both_are_promised)
            valkey.close()
            assert callable(loss)
            loss(stage)
            state = await dan.confirmed(lost, within_s=15)
        finally:
            os.kill(writer, signal.SIGCONT)
        assert (state.status, state.reason) == ("refused", "lost")
        body = await asyncio.wait_for(waiting, 20)
        order = body["order"]
        assert isinstance(order, dict)
        assert set(order) == {"order", "sale", "status", "reason", "created_at"}
        assert (order["status"], order["reason"]) == ("refused", "lost")

        token = stage.api.viewer("dan")
        async with http.get(
            f"{stage.gateway.url}/v1/orders/{lost}", headers={"Authorization": f"Bearer {token}"}
        ) as reply:
            asked = await reply.json()
        assert reply.status == 200
        assert (asked["order"], asked["status"], asked["reason"]) == (lost, "refused", "lost")
        again = await stage.buy(dan)
        assert again != lost
        await stage.settled()


async def test_a_rebuild_by_hand_says_what_it_did(stage: Stage) -> None:
    async with stage.viewer("fay") as fay:
        order = await stage.buy(fay)
        await stage.settled()
        done = await asyncio.to_thread(stage.gateway.command, "rebuild", "--json")
        (told,) = json.loads(done.stdout)
        assert (told["shard"], told["why"], told["how"]) == (0, "hand", "recount")
        assert told["orders"] >= 1 and told["epoch"] > told["ended_epoch"]
        assert await stage.buy(fay) == order
        await stage.settled()
    missing = await asyncio.to_thread(stage.gateway.command, "rebuild", "--shard", "7", check=False)
    assert (missing.returncode, missing.stderr.strip()) == (1, "peakgate: There is no such shard.")


def test_a_rebuild_with_nothing_running_says_so(tmp_path: Path) -> None:
    gateway = Gateway(data=tmp_path / "data")
    done = gateway.command("rebuild", check=False)
    assert done.returncode == 3
    assert "no gateway runs on" in done.stderr
