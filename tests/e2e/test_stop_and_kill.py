"""What an operator and a bad day do to a gateway: stopped, drained, killed, started again."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
import psutil
import pytest
import redis

from gateway.client.host import Host
from gateway.client.orders import OrderAnswer
from gateway.client.viewer import Viewer
from gateway.errors import GatewayError
from tests.e2e.conftest import Show, make_show
from tests.support.api import Api, api_of
from tests.support.gateway import PEAKGATE, Gateway, running_gateway
from tests.support.servers import eventually

# After the drain the embedded servers are ended; on a machine that others use too this takes its time.
ENDS_AFTER_S = 5
DRAIN_S = 4.0


@asynccontextmanager
async def hosting(gateway: Gateway) -> AsyncIterator[tuple[Host, Api]]:
    """A host who insists, and who mints tokens."""
    async with api_of(gateway) as api, Host(gateway.url, api.token(), insist_s=20) as host:
        yield host, api


@dataclass
class Crowd:
    """Insisting viewers who each place their orders one after the other; every answer is written down."""

    gateway: Gateway
    show: Show
    tokens: list[str]
    name: str
    orders_each: int
    answers: dict[tuple[str, str], OrderAnswer] = field(default_factory=dict)
    answered: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def buy(self) -> None:
        async with asyncio.TaskGroup() as group:
            for number, token in enumerate(self.tokens, start=1):
                group.create_task(self._buy(f"{self.name}-{number}", token))

    async def some_answers(self, count: int) -> None:
        async with self.answered:
            await self.answered.wait_for(lambda: len(self.answers) >= count)

    async def _buy(self, sub: str, token: str) -> None:
        async with Viewer(self.show.live_url, token) as viewer:
            for number in range(self.orders_each):
                key = f"key-{number}"
                answer = await viewer.order(sale=self.show.sale, sku="tin", key=key, insist=True, within_s=60)
                async with self.answered:
                    self.answers[sub, key] = answer
                    self.answered.notify_all()

    @property
    def promised(self) -> set[tuple[str, str]]:
        """Who was promised which order."""
        return {(sub, str(answer.order)) for (sub, _), answer in self.answers.items() if answer.is_reserved}


async def gather_crowd(
    gateway: Gateway, host: Host, api: Api, *, viewers: int = 15, orders_each: int = 6, stock: int = 60
) -> Crowd:
    show = await make_show(gateway, host, stock=stock, limit=orders_each)
    name = f"crowd-{uuid.uuid4().hex[:8]}"
    tokens = [api.viewer(f"{name}-{number}") for number in range(1, viewers + 1)]
    return Crowd(gateway, show, tokens, name, orders_each)


async def all_true(crowd: Crowd, host: Host, *, stock: int = 60) -> None:
    """Every answer was true, none is missing, the stock went out exactly, and the ledger says the same."""
    assert len(crowd.answers) == len(crowd.tokens) * crowd.orders_each
    assert {answer.outcome for answer in crowd.answers.values()} == {"reserved", "sold_out"}
    assert len(crowd.promised) == stock

    async def ledger_agrees() -> bool:
        orders = await host.orders(crowd.show.sale)
        return {(str(order.sub), order.order) for order in orders if order.status == "confirmed"} == crowd.promised

    await eventually(ledger_agrees, within_s=20)
    assert {order.status for order in await host.orders(crowd.show.sale)} == {"confirmed"}

    async def counted_out() -> bool:
        # Whoever has not asked Valkey since it was started again finds a cut connection first, and shows no `left`.
        (item,) = (await host.sale(crowd.show.sale)).items
        return (item.stock, item.left, item.held) == (stock, 0, stock)

    await eventually(counted_out)
    await books_balance(crowd.gateway)


async def books_balance(gateway: Gateway) -> None:
    """By the ledger's own rows: each sequence number is one order or act, and the counters are the orders' sums."""
    connection = await asyncpg.connect(gateway.servers()["database_url"])
    try:
        numbers = await connection.fetch(
            "SELECT s.last_seq, (SELECT count(*) FROM orders WHERE epoch = s.epoch)"
            " + (SELECT count(*) FROM acts WHERE epoch = s.epoch AND shard = s.shard) AS rows FROM shards s"
        )
        assert [row["rows"] for row in numbers] == [row["last_seq"] for row in numbers]
        assert await connection.fetchval("SELECT count(*) FROM parked") == 0
        off = await connection.fetch(
            "SELECT i.sale_no, i.item_no, i.held, coalesce(sum(o.quantity), 0) AS units FROM sale_items i"
            " LEFT JOIN orders o ON (o.sale_no, o.item_no, o.status) = (i.sale_no, i.item_no, 'confirmed')"
            " GROUP BY i.sale_no, i.item_no HAVING i.held <> coalesce(sum(o.quantity), 0)"
        )
        assert off == []
    finally:
        await connection.close()


def audit_holds(gateway: Gateway) -> None:
    audited = gateway.command("audit", "--json", check=False)
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert json.loads(audited.stdout)


def postgres_pids(gateway: Gateway) -> list[int]:
    """The postmaster first, then whatever it started."""
    (postmaster,) = (
        child for child in psutil.Process(gateway.pids("peakgate up")[0]).children() if child.name() == "postgres"
    )
    return [postmaster.pid, *(child.pid for child in postmaster.children(recursive=True))]


@contextlib.contextmanager
def stopped(pids: list[int]) -> Iterator[None]:
    """Processes that hang; whoever is left afterwards goes on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def status_of(url: str) -> int:
    """0 when nobody answers."""
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session, session.get(url) as answer:
            return answer.status
    except (aiohttp.ClientError, TimeoutError):
        return 0


async def exits_clean(gateway: Gateway, *, within_s: float) -> None:
    """With status 0, in time, and with nobody killed on the way."""
    assert gateway.process is not None
    try:
        status = await asyncio.to_thread(gateway.process.wait, within_s)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"it still runs after {within_s:.1f} s: {gateway.log()[-2000:]}") from None
    assert (status, "child_killed" in gateway.log()) == (0, False), gateway.log()[-2000:]


# A gateway that is there for all of these.


@pytest.fixture(scope="module")
def busy() -> Iterator[Gateway]:
    with running_gateway(workers=2, first_start=True) as gateway:
        yield gateway


async def test_processes_say_in_ps_what_they_are(busy: Gateway) -> None:
    titles = ("up", "spawner", "live 1", "live 2", "api", "writer", "keeper", "valkey orders", "valkey rooms")
    assert {title: len(busy.pids(f"peakgate {title}")) for title in titles} == dict.fromkeys(titles, 1)


async def test_the_ready_line_is_all_that_is_ever_said_on_stdout(busy: Gateway) -> None:
    assert busy.ready["ready"] is True
    assert {"url", "live_url", "admin_url"} <= busy.ready.keys()
    assert busy.process is not None and busy.process.stdout is not None
    stdout = busy.process.stdout.fileno()
    os.set_blocking(stdout, False)
    try:
        with pytest.raises(BlockingIOError):
            os.read(stdout, 1)
    finally:
        os.set_blocking(stdout, True)


async def test_the_admin_port_has_the_metrics_of_each_process_and_says_who_is_ready(busy: Gateway) -> None:
    names = {"live 1", "live 2", "api", "writer", "keeper"}
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{busy.admin_url}/metrics") as answer:
            assert answer.status == 200
            lines = (await answer.text()).splitlines()
        async with session.get(f"{busy.admin_url}/readyz") as answer:
            assert (answer.status, (await answer.json())["processes"]) == (200, dict.fromkeys(names, "ready"))
    samples = [line for line in lines if line and not line.startswith("#")]
    assert all('process="' in line for line in samples)
    assert {line.partition('process="')[2].partition('"')[0] for line in samples} == names
    for port in (busy.url, busy.ready["live_url"].replace("ws", "http", 1)):
        assert await status_of(f"{port}/metrics") == 404


async def test_a_second_gateway_on_the_folder_is_refused_and_harms_nothing(busy: Gateway) -> None:
    before = {title: busy.pids(f"peakgate {title}") for title in ("live", "api", "writer", "keeper", "valkey")}
    argv = [PEAKGATE, "up", "--data", str(busy.data), "--port", str(busy.port + 100)]
    second = await asyncio.to_thread(subprocess.run, argv, capture_output=True, text=True, timeout=30)
    assert (second.returncode, second.stdout) == (4, "")
    assert str(busy.data) in second.stderr and "Traceback" not in second.stderr
    assert {title: busy.pids(f"peakgate {title}") for title in before} == before
    async with hosting(busy) as (host, api):
        crowd = await gather_crowd(busy, host, api, viewers=1, orders_each=2, stock=1)
        await crowd.buy()
        await all_true(crowd, host, stock=1)


KILLED: dict[str, Callable[[Gateway], int]] = {
    # With all that it started.
    "spawner": lambda gateway: gateway.pids("peakgate spawner")[0],
    "live": lambda gateway: gateway.pids("peakgate live 1")[0],
    "writer": lambda gateway: gateway.pids("peakgate writer")[0],
    "api": lambda gateway: gateway.pids("peakgate api")[0],
    "keeper": lambda gateway: gateway.pids("peakgate keeper")[0],
    "orders Valkey": lambda gateway: gateway.pids("peakgate valkey orders")[0],
    "rooms Valkey": lambda gateway: gateway.pids("peakgate valkey rooms")[0],
    "PostgreSQL": lambda gateway: postgres_pids(gateway)[0],
}


@pytest.mark.parametrize("victim", KILLED)
async def test_a_killed_process_is_started_again_and_no_answer_is_lost(busy: Gateway, victim: str) -> None:
    async with hosting(busy) as (host, api):
        crowd = await gather_crowd(busy, host, api)
        async with asyncio.TaskGroup() as group:
            group.create_task(crowd.buy())
            await crowd.some_answers(10)
            pid = KILLED[victim](busy)
            os.kill(pid, signal.SIGKILL)

        async def is_back() -> bool:
            try:
                again = KILLED[victim](busy)
            except (IndexError, ValueError, psutil.NoSuchProcess):
                return False
            if again == pid or await status_of(f"{busy.admin_url}/readyz") != 200:
                return False
            try:
                await (await asyncpg.connect(busy.servers()["database_url"])).close()
            except (OSError, asyncpg.PostgresError):
                return False  # a killed PostgreSQL recovers for a moment
            return True

        await eventually(is_back, within_s=30)
        await all_true(crowd, host)
    audit_holds(busy)


async def test_reserved_is_answered_while_the_ledger_hangs_and_confirmed_when_it_goes_on(busy: Gateway) -> None:
    async with hosting(busy) as (host, api):
        show = await make_show(busy, host, stock=20, limit=20)
        async with Viewer(show.live_url, api.viewer()) as viewer:
            first = await viewer.order(sale=show.sale, sku="tin", key="before")
            assert (await viewer.confirmed(str(first.order))).status == "confirmed"
            with stopped(postgres_pids(busy)):
                answers = []
                for number in range(10):
                    answer = await viewer.order(sale=show.sale, sku="tin", key=f"k{number}", within_s=5)
                    assert answer.is_reserved and answer.order is not None
                    answers.append(answer)
                again = await viewer.order(sale=show.sale, sku="tin", key="k0", within_s=5)
                assert (again.order, again.replayed) == (answers[0].order, True)
                assert all(viewer.orders[str(answer.order)].status == "reserved" for answer in answers)
            for answer in answers:
                assert (await viewer.confirmed(str(answer.order))).status == "confirmed"
        ledger = {order.order for order in await host.orders(show.sale) if order.status == "confirmed"}
        assert ledger == {first.order, *(answer.order for answer in answers)}
        await books_balance(busy)


# Stopping.


@dataclass
class Watcher:
    """A socket that only listens until it is closed."""

    ws: aiohttp.ClientWebSocketResponse
    said: list[Any] = field(default_factory=list)

    async def end(self) -> tuple[Any, Any]:
        """The last frame, and the code of the close frame; None when there was none."""
        while (message := await self.ws.receive(timeout=2 * DRAIN_S)).type is aiohttp.WSMsgType.TEXT:
            self.said.append(json.loads(message.data))
        return self.said[-1], message.data if message.type is aiohttp.WSMsgType.CLOSE else None


async def test_a_stop_tells_every_socket_keeps_every_promise_and_ends_in_time() -> None:
    with running_gateway(workers=2, PEAKGATE_DRAIN_S=str(DRAIN_S), PEAKGATE_MAX_SOCKETS="6") as gateway:
        async with hosting(gateway) as (host, api), aiohttp.ClientSession() as session:
            show = await make_show(gateway, host, stock=100, limit=1)
            watchers: list[Watcher] = []
            promised: dict[str, str] = {}
            # Sockets until both processes are full: then the door says when to come back.
            full = 0
            while full < 5:
                headers = {"Authorization": f"Bearer {api.viewer()}"}
                try:
                    ws = await session.ws_connect(show.live_url, headers=headers)
                except aiohttp.WSServerHandshakeError as error:
                    assert error.status == 503 and error.headers is not None
                    assert int(error.headers["Retry-After"]) > 0
                    full += 1
                    continue
                full = 0
                await ws.send_json({"t": "hello"})
                assert [(await ws.receive_json(timeout=10))["t"] for _ in range(2)] == ["welcome", "snapshot"]
                watchers.append(Watcher(ws))
            assert 6 < len(watchers) <= 12
            # Promises of the last moment: the stop comes with the replies.
            for number, watcher in enumerate(watchers):
                frame = {"t": "order", "id": f"k{number}", "sale": show.sale, "sku": "tin", "quantity": 1}
                await watcher.ws.send_json(frame)
            for number, watcher in enumerate(watchers):
                # A tick of the orders before may come first.
                while (reply := await watcher.ws.receive_json(timeout=10))["t"] != "reply":
                    watcher.said.append(reply)
                assert reply["outcome"] == "reserved"
                promised[f"k{number}"] = reply["order"]
            assert gateway.process is not None
            began = time.monotonic()
            gateway.process.send_signal(signal.SIGTERM)
            statuses: set[int] = set()

            async def says_it_is_going() -> bool:
                statuses.add(await status_of(f"{gateway.admin_url}/readyz"))
                return 503 in statuses

            await eventually(says_it_is_going, within_s=DRAIN_S)
            ends = await asyncio.gather(*(watcher.end() for watcher in watchers))
            assert {code for _, code in ends} == {1012}
            assert {(bye["t"], bye["code"]) for bye, _ in ends} == {("bye", 1012)}
            assert all(bye["retry_after_ms"] > 0 for bye, _ in ends)
            await exits_clean(gateway, within_s=DRAIN_S + ENDS_AFTER_S - (time.monotonic() - began))
            assert gateway.process.stdout is not None
            assert gateway.process.stdout.read() == ""
            gateway.process.stdout.close()
        # What was promised is in the ledger, and its keys hold it after the start as before the stop.
        gateway.start()
        async with hosting(gateway) as (host, api):
            orders = {order.order: order.status for order in await host.orders(show.sale)}
            assert orders == dict.fromkeys(promised.values(), "confirmed")
            await books_balance(gateway)


@pytest.mark.parametrize("way", ["hangs", "was killed"])
async def test_a_stop_ends_in_time_also_when_the_ledger(way: str) -> None:
    drain_s = 2.0  # all of it is used while the ledger hangs
    with running_gateway(PEAKGATE_DRAIN_S=str(drain_s)) as gateway:
        async with hosting(gateway) as (host, api):
            crowd = await gather_crowd(gateway, host, api, viewers=3, orders_each=2, stock=6)
            await crowd.buy()
        postgres = postgres_pids(gateway)
        assert gateway.process is not None
        try:
            for pid in postgres:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP if way == "hangs" else signal.SIGKILL)
            gateway.process.send_signal(signal.SIGTERM)
            await exits_clean(gateway, within_s=drain_s + ENDS_AFTER_S)
            assert [pid for pid in postgres if _lives(pid)] == []
        finally:
            for pid in postgres:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def shard_epoch(gateway: Gateway) -> int:
    with contextlib.closing(redis.Redis.from_url(gateway.servers()["valkey_url"])) as valkey:
        return int(valkey.hget("{s0}:shard", "epoch"))


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_after_a_kill_of_everything_the_same_folder_goes_on_selling_with_the_same_keys() -> None:
    with running_gateway(workers=2) as gateway:
        async with hosting(gateway) as (host, api):
            crowd = await gather_crowd(gateway, host, api)
            buying = asyncio.ensure_future(crowd.buy())
            await crowd.some_answers(25)
            await asyncio.to_thread(gateway.kill_all)
            before = dict(crowd.answers)
            # The power is back before the viewers have given up.
            assert gateway.process is not None and gateway.process.stdout is not None
            gateway.process.stdout.close()
            await asyncio.to_thread(gateway.start)
            await buying
            assert {at: crowd.answers[at] for at in before} == before
            await all_true(crowd, host)
            assert shard_epoch(gateway) == 2, "what the Valkey of before said last may be lost"
            async with Viewer(crowd.show.live_url, crowd.tokens[0]) as viewer:
                for (sub, key), answer in crowd.answers.items():
                    if sub == f"{crowd.name}-1" and answer.is_reserved:
                        again = await viewer.order(sale=crowd.show.sale, sku="tin", key=key, insist=True)
                        assert (again.order, again.replayed) == (answer.order, True)
            with pytest.raises(GatewayError, match="other content"):
                async with Viewer(crowd.show.live_url, crowd.tokens[0]) as viewer:
                    held = next(key for (sub, key), answer in before.items() if answer.is_reserved)
                    await viewer.order(sale=crowd.show.sale, sku="tin", key=held, quantity=2)
        audit_holds(gateway)
