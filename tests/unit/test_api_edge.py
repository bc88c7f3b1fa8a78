"""The middleware and the two servers on real sockets, with flows that do what a test says."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
import structlog
from prometheus_client import CollectorRegistry, Counter

from gateway.admin.server import AdminServer
from gateway.admission.origins import Origins
from gateway.admission.own_pages import OwnPages
from gateway.api import middleware
from gateway.api.pages import Site
from gateway.api.server import ApiServer, Surface, build_app
from gateway.clock import SystemClock
from gateway.domain.caller import Caller, Role
from gateway.errors import HotUnavailable, LedgerUnavailable, NotFound

Answer = Callable[..., Awaitable[Any]]
SITE = Site()


class Pretending:
    """Every flow at once: whatever is asked is answered by `answer`."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def verify(self, token: str) -> Caller:
        return Caller(shop="tins", sub="ann", role=Role(token), expires_at_s=0)

    async def origins(self) -> Mapping[str, frozenset[str]]:
        return {"tins": frozenset({"https://tins.example"})}

    async def read(self, *asked: Any) -> Any:
        return await self.answer()

    act = by_id = own = secrets = read


@asynccontextmanager
async def serving(
    answer: Answer, *, surface: Surface = "all", ready: bool = True
) -> AsyncIterator[tuple[ApiServer, str]]:
    pretending: Any = Pretending(answer)
    app = build_app(
        authenticator=pretending,
        origins=Origins(source=pretending, clock=SystemClock()),
        rooms=pretending,
        steer=pretending,
        moderate=pretending,
        acts=pretending,
        sales=pretending,
        control=pretending,
        changing=pretending,
        coupons=pretending,
        claiming=pretending,
        claims=pretending,
        figures=pretending,
        trends=pretending,
        endpoints=pretending,
        clock=SystemClock(),
        orders=pretending,
        reader=pretending,
        cancelling=pretending,
        pay=pretending,
        payments=pretending,
        links=pretending,
        bookings=pretending,
        redeeming=pretending,
        people=pretending,
        sandbox=None,
        book=pretending,
        preflight=pretending,
        invariant=pretending,
        room_book=pretending,
        site=SITE,
        own=OwnPages(public_url=None, port=8080),
        dev_sign_in=None,
        live_url="ws://x/{room}",
        ready=lambda: ready,
        surface=surface,
    )
    server = ApiServer(app, stop_within_s=1.0)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, f"http://127.0.0.1:{port}"
    finally:
        await server.drain()
        await server.stop()


async def ask(url: str, *, role: str = "viewer", method: str = "GET", **headers: str) -> tuple[int, Any, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, headers={"Authorization": f"Bearer {role}", **headers}) as response,
    ):
        return response.status, await response.json(content_type=None), response.headers


def failing(error: Exception) -> Answer:
    async def fail() -> Any:
        raise error

    return fail


async def test_an_error_of_ours_is_told_without_its_words_and_logged_with_them() -> None:
    with structlog.testing.capture_logs() as lines:
        async with serving(failing(ValueError("the inside of things"))) as (_, url):
            status, body, _ = await ask(f"{url}/v1/sales/sale_1")
    assert (status, body["code"], body["detail"]) == (500, "internal", "The gateway could not do what was asked.")
    assert "inside" not in str(body)
    assert [line["event"] for line in lines] == ["http_failed", "http_request"]
    assert lines[1]["route"] == "/v1/sales/{sale}"


@pytest.mark.parametrize(
    ("error", "method", "path", "code"),
    [
        (HotUnavailable("x"), "GET", "/v1/sales/sale_1", "unavailable"),
        (LedgerUnavailable("x"), "GET", "/v1/orders/ord_1", "unavailable"),
        (LedgerUnavailable("x"), "POST", "/v1/sales/sale_1/pause", "outcome_unknown"),
        (NotFound("There is no such sale."), "GET", "/v1/sales/sale_1", "not_found"),
    ],
)
async def test_servers_that_are_away_are_told_as_what_it_means(
    error: Exception, method: str, path: str, code: str
) -> None:
    async with serving(failing(error)) as (_, url):
        _, body, _ = await ask(url + path, method=method, role="host")
    assert body["code"] == code


async def test_past_the_bound_the_answer_is_an_honest_refusal_and_hosts_have_places_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "VIEWERS_IN_FLIGHT", 2)
    inside, free = asyncio.Semaphore(0), asyncio.Event()

    async def wait() -> Any:
        inside.release()
        await free.wait()
        raise NotFound

    async with serving(wait) as (_, url), asyncio.TaskGroup() as tasks:
        held = [tasks.create_task(ask(f"{url}/v1/sales/sale_1")) for _ in range(2)]
        for _ in held:
            await inside.acquire()
        status, body, headers = await ask(f"{url}/v1/sales/sale_1")
        assert (status, body["code"], body["retryable"], headers["Retry-After"]) == (503, "overloaded", True, "1")
        host = tasks.create_task(ask(f"{url}/v1/sales/sale_1/pause", method="POST", role="host"))
        await inside.acquire()
        free.set()
    assert [task.result()[0] for task in (*held, host)] == [404, 404, 404]


async def test_who_knocks_where_providers_tell_takes_no_hosts_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "PROVIDERS_IN_FLIGHT", 1)
    inside, free = asyncio.Event(), asyncio.Event()

    async def wait() -> Any:
        inside.set()
        await free.wait()
        raise NotFound

    signed = {"webhook-id": "1", "webhook-timestamp": "1", "webhook-signature": "v1,x"}

    async def knock(url: str) -> int:
        address = f"{url}/v1/payments/tins/bank/webhook"
        async with aiohttp.ClientSession() as session, session.post(address, json={}, headers=signed) as response:
            return response.status

    async with serving(wait) as (_, url), asyncio.TaskGroup() as tasks:
        held = tasks.create_task(knock(url))
        await inside.wait()
        assert await knock(url) == 503
        inside.clear()
        host = tasks.create_task(ask(f"{url}/v1/sales/sale_1/pause", method="POST", role="host"))
        await inside.wait()
        free.set()
    assert (held.result(), host.result()[0]) == (404, 404)


async def test_draining_refuses_the_new_and_finishes_the_old() -> None:
    inside, free = asyncio.Event(), asyncio.Event()

    async def wait() -> Any:
        inside.set()
        await free.wait()
        raise NotFound

    async with serving(wait) as (server, url), aiohttp.ClientSession() as session:
        headers = {"Authorization": "Bearer viewer"}
        async with session.get(f"{url}/readyz") as response:  # a connection that stays open
            assert response.status == 200
        old = asyncio.create_task(ask(f"{url}/v1/sales/sale_1"))
        await inside.wait()
        await server.drain()
        async with session.get(f"{url}/v1/sales/sale_1", headers=headers) as response:
            assert (response.status, (await response.json(content_type=None))["code"]) == (503, "unavailable")
            assert response.headers["Connection"] == "close"
        with pytest.raises(aiohttp.ClientConnectorError):
            await ask(f"{url}/v1/sales/sale_1")
        free.set()
        assert (await old)[0] == 404


async def test_not_ready_is_said_and_alive_too() -> None:
    async with serving(failing(NotFound()), ready=False) as (_, url):
        assert (await ask(f"{url}/readyz"))[:2] == (503, {"ready": False})
        assert (await ask(f"{url}/livez"))[:2] == (200, {"alive": True})


@pytest.mark.parametrize(
    ("surface", "method", "path", "served"),
    [
        ("public", "GET", "/v1/sales/sale_1", True),
        ("public", "GET", "/v1/orders/ord_1", True),
        ("public", "POST", "/v1/sales/sale_1/pause", False),
        ("public", "GET", "/v1/sales/sale_1/orders.csv", False),
        ("control", "GET", "/v1/sales/sale_1", True),
        ("control", "GET", "/v1/orders/ord_1", True),
        ("control", "POST", "/v1/sales/sale_1/pause", True),
        ("control", "POST", "/v1/orders", False),
        ("control", "POST", "/v1/orders/ord_1/pay", False),
        ("public", "POST", "/v1/orders/ord_1/payments", False),
        ("public", "GET", "/v1/payments", False),
        ("public", "POST", "/v1/payments/tins/bank/webhook", False),
        ("all", "GET", "/sandbox/chk_1", False),
        ("control", "GET", "/livez", True),
    ],
)
async def test_surfaces_are_apart(surface: Surface, method: str, path: str, served: bool) -> None:
    async with serving(failing(NotFound("There is no such thing here.")), surface=surface) as (_, url):
        status, body, _ = await ask(url + path, method=method, role="host")
    is_there = status == 200 or body["detail"] == "There is no such thing here."
    assert is_there is served
    if not served:
        assert status in (404, 405)


async def test_bytes_that_are_no_request_write_nothing_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(failing(NotFound())) as (_, url):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"nonsense\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.0 400 ")
        writer.close()
    assert caplog.records == []


async def test_the_admin_port_shows_metrics_and_health() -> None:
    registry = CollectorRegistry()
    Counter("peakgate_tested", "Of this test.", registry=registry).inc()
    ready = False
    server = AdminServer(ready=lambda: ready, health=lambda: {"pid": 7}, registry=registry)
    port = await server.start("127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}"
    try:
        async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
            assert "peakgate_tested_total 1.0" in await response.text()
        assert (await ask(f"{url}/readyz"))[:2] == (503, {"ready": False})
        ready = True
        assert (await ask(f"{url}/readyz"))[0] == 200
        assert (await ask(f"{url}/livez"))[0] == 200
        assert (await ask(f"{url}/"))[1] == {"ready": True, "pid": 7}
    finally:
        await server.stop()
