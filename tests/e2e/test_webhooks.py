"""A shop's webhook over HTTP and by hand, and its events through a keeper that is killed."""

import asyncio
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from gateway.domain.webhook import EventType
from tests.support.api import Api, api_of
from tests.support.gateway import PEAKGATE, Gateway, free_ports
from tests.support.servers import eventually
from tests.support.shop_backend import ShopBackend, shop_backend

ORDER_EVENTS = [str(kind) for kind in EventType if kind.startswith("order.")]


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def rough_api(rough_gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(rough_gateway) as api:
        yield api


@pytest.fixture
async def backend() -> AsyncIterator[ShopBackend]:
    async with shop_backend() as backend:
        yield backend


async def put(api: Api, url: str, events: Any = ORDER_EVENTS, **more: Any) -> Any:
    token = more.pop("token", None) or api.token("backend", "service", **more)
    return await api.call("PUT", "/v1/webhook", {"url": url, "events": events}, token=token)


async def test_a_shop_sets_its_webhook_is_shown_the_secret_once_and_rotates_it(api: Api, backend: ShopBackend) -> None:
    service = api.token("backend", "service", shop="cups")
    assert (await api.call("GET", "/v1/webhook", token=service)).code == "not_found"
    assert (await api.call("POST", "/v1/webhook/rotate", token=service)).code == "not_found"
    made = await put(api, backend.url, ["order.paid", "order.paid"], token=service)
    assert made.status == 201 and made.json["secret"].startswith("whsec_")
    assert made.json["events"] == ["order.paid"] and made.json["waiting"] == made.json["dead"] == 0
    changed = await put(api, backend.url, ["room.started", "order.paid"], token=service)
    assert changed.status == 200 and "secret" not in changed.json
    shown = await api.call("GET", "/v1/webhook", token=service)
    assert shown.json == changed.json and shown.json["url"] == backend.url
    rotated = await api.call("POST", "/v1/webhook/rotate", token=service)
    assert rotated.status == 200 and rotated.json["secret"] != made.json["secret"] and rotated.json["rotating_until"]
    assert (await api.call("GET", "/v1/webhook/dead", token=service)).json == {"items": [], "next": None}
    assert (await api.call("POST", "/v1/webhook/msg_none/replay", token=service)).code == "not_found"
    assert (await api.call("POST", "/v1/webhook/dead/replay", token=service)).json == {"replayed": 0}
    assert (await api.call("GET", "/v1/webhook/dead?after=x", token=service)).json["param"] == "after"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"url": "https://shop.example.com/"}, "events"),
        ({"events": []}, "url"),
        ({"url": "https://shop.example.com/", "events": ["order.lost"]}, "events[0]"),
        ({"url": "http://shop.example.com/", "events": []}, "url"),
        ({"url": "https://169.254.169.254/", "events": []}, "url"),
        ({"url": "https://a:b@shop.example.com/", "events": []}, "url"),
        ({"url": "", "events": []}, "url"),
    ],
)
async def test_a_webhook_that_cannot_be_is_refused_and_changes_nothing(api: Api, body: Any, param: str) -> None:
    token = api.token("backend", "service")
    before = (await api.call("GET", "/v1/webhook", token=token)).text
    refused = await api.call("PUT", "/v1/webhook", body, token=token)
    assert (refused.status, refused.code, refused.json["param"]) == (422, "invalid", param)
    after = (await api.call("GET", "/v1/webhook", token=token)).text
    assert _without_request(after) == _without_request(before)


def _without_request(text: str) -> Any:
    return {name: value for name, value in json.loads(text).items() if name != "request_id"}


async def test_only_the_shops_backend_sees_its_webhook_and_no_token_for_single_rooms_does(api: Api) -> None:
    for role in ("viewer", "host", "clerk"):
        for method, path in (("GET", "/v1/webhook"), ("POST", "/v1/webhook/rotate"), ("GET", "/v1/webhook/dead")):
            assert (await api.call(method, path, token=api.token("x", role))).code == "forbidden"
    for_rooms = api.token("backend", "service", rooms=["room_x"])
    assert (await put(api, "https://shop.example.com/", token=for_rooms)).code == "forbidden"


async def test_an_order_shows_staff_whether_it_is_the_viewers_first_and_tells_the_shop(
    api: Api, backend: ShopBackend
) -> None:
    made = await put(api, backend.url, [*ORDER_EVENTS, "sale.opened", "room.started"])
    backend.secrets = [made.json["secret"]] if made.status == 201 else []
    room = await api.room()
    await api.call("POST", f"/v1/rooms/{room['room']}/start")
    sale = await api.sale(room=room["room"])
    viewer = api.viewer()
    orders = [(await api.order(sale["sale"], viewer, key=f"k{n}")).json["order"]["order"] for n in range(2)]

    async def told() -> bool:
        return all(backend.types().get(order) == ["order.confirmed"] for order in orders)

    await eventually(told)
    firsts = {each.data["order"]: each.data["first_order"] for each in backend.taken() if "order" in each.data}
    assert [firsts[order] for order in orders] == [True, False]
    by_id = [(await api.call("GET", f"/v1/orders/{order}")).json for order in orders]
    assert [order["first_order"] for order in by_id] == [True, False]
    listed = (await api.call("GET", f"/v1/sales/{sale['sale']}/orders")).json["items"]
    assert [order["first_order"] for order in listed] == [True, False]
    assert "first_order" not in (await api.call("GET", f"/v1/orders/{orders[0]}", token=viewer)).json
    # The event is the order as staff read it, but for what is only shown of one order by its id.
    [event] = [each.data for each in backend.taken() if each.data.get("order") == orders[0]]
    assert event == listed[0]

    async def others_told() -> bool:
        return {"sale.opened", "room.started"} <= {each.type for each in backend.taken()}

    await eventually(others_told)
    [opened] = [each.data for each in backend.taken() if each.type == "sale.opened"]
    assert opened["sale"] == sale["sale"] and opened["state"] == "open"


async def test_every_event_arrives_once_or_more_with_one_id_though_the_keeper_is_killed(
    rough_gateway: Gateway, rough_api: Api, backend: ShopBackend
) -> None:
    api = rough_api
    backend.takes_s = 0.02
    assert (await put(api, backend.url)).status == 201
    sale = await api.sale(
        items=[{"sku": "tin", "title": "T", "price_minor": 1900, "stock": 500, "limit_per_viewer": 2}]
    )
    orders: list[str] = []
    for kill in (True, True, False):
        viewers = [api.viewer() for _ in range(40)]
        placed = await asyncio.gather(*(api.order(sale["sale"], viewer) for viewer in viewers))
        orders += [answer.json["order"]["order"] for answer in placed]
        heard = len(backend.heard)

        async def some_heard(least: int = heard + 5) -> bool:
            return len(backend.heard) >= least

        await eventually(some_heard, within_s=30)
        if kill:
            for pid in rough_gateway.pids("peakgate keeper"):
                os.kill(pid, signal.SIGKILL)
            # The lease of a keeper that was killed ends by itself; here it is not waited for.
            connection = await asyncpg.connect(rough_gateway.servers()["database_url"])
            await connection.execute("UPDATE keeper_leases SET until = clock_timestamp()")
            await connection.close()
    pay = {"provider": "bank", "amount_minor": 1900, "paid_at": "2026-01-01T12:00:00Z"}
    service = api.token("backend", "service")
    for order in orders[::4]:
        answer = await api.call("POST", f"/v1/orders/{order}/payments", {**pay, "txn": f"t-{order}"}, token=service)
        assert answer.status == 200, answer.text
    paid = set(orders[::4])

    async def all_heard() -> bool:
        types = backend.types()
        return all(types.get(each) == ["order.confirmed", *(["order.paid"] * (each in paid))] for each in orders)

    await eventually(all_heard, within_s=60)
    ids: dict[tuple[str, str], set[str]] = {}
    for each in backend.heard:
        ids.setdefault((each.type, each.data["order"]), set()).add(each.msg_id)
    assert all(len(found) == 1 for found in ids.values()) and len(ids) == len(orders) + len(paid)


async def test_dead_events_are_listed_and_replayed_by_hand(gateway: Gateway, api: Api, backend: ShopBackend) -> None:
    await put(api, backend.url)
    connection = await asyncpg.connect(gateway.servers()["database_url"])
    thing = f"ord_{uuid.uuid4().hex}"
    body = json.dumps({"type": "order.paid", "timestamp": "2026-01-01T00:00:00Z", "data": {"order": thing}})
    shop_no = api.shops["tins"].shop_no
    msg_id = await connection.fetchval(
        "INSERT INTO deliveries (shop_no, msg_id, type, object, body, state, attempts, next_at, last_at, last_error)"
        " VALUES ($1, 'msg_' || $2, 'order.paid', $2, $3, 'dead', 9, now(), now(), 'answered 500') RETURNING msg_id",
        shop_no,
        thing,
        body,
    )
    await connection.close()
    service = api.token("backend", "service")
    [letter] = (await api.call("GET", "/v1/webhook/dead", token=service)).json["items"]
    assert (letter["id"], letter["attempts"], letter["last_error"]) == (msg_id, 9, "answered 500")
    assert letter["event"]["data"] == {"order": thing}
    assert msg_id in gateway.command("webhook", "list", "tins").stdout
    refused = gateway.command("webhook", "replay", "tins", "msg_none", check=False)
    assert refused.returncode == 1 and "no dead event" in refused.stderr
    assert gateway.command("webhook", "replay", "tins", check=False).returncode == 2
    for verb in (("list", "nobody"), ("replay", "nobody", "--all"), ("trigger", "nobody")):
        mistyped = gateway.command("webhook", *verb, check=False)
        assert mistyped.returncode == 1 and "has no webhook" in mistyped.stderr
    gateway.command("webhook", "replay", "tins", msg_id)

    async def heard() -> bool:
        return any(each.msg_id == msg_id for each in backend.taken())

    await eventually(heard)
    assert json.loads(gateway.command("webhook", "replay", "tins", "--all", "--json").stdout)["replayed"] == 0


async def test_events_are_heard_checked_and_forwarded_on_this_machine(
    gateway: Gateway, api: Api, backend: ShopBackend
) -> None:
    port = free_ports(1)
    made = await put(api, f"http://127.0.0.1:{port}/", [])
    secret = (await api.call("POST", "/v1/webhook/rotate", token=api.token("b", "service"))).json["secret"]
    assert made.status in (200, 201)
    process = await asyncio.create_subprocess_exec(
        PEAKGATE,
        *("webhook", "listen", "--port", str(port), "--secret", "-", "--forward-to", backend.url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(f"{secret}\n".encode())
        await process.stdin.drain()
        assert json.loads(await asyncio.wait_for(process.stdout.readline(), 20))["ready"]
        backend.secrets = [secret]
        backend.answer = lambda event: 202 if event["type"] == "room.started" else 500
        done = await asyncio.to_thread(gateway.command, "webhook", "trigger", "tins", "room.started", "--json")
        triggered = json.loads(done.stdout)
        assert triggered["ok"] and triggered["status"] == 202
        line = json.loads(await asyncio.wait_for(process.stdout.readline(), 10))
        assert (line["id"], line["checked"], line["answered"]) == (triggered["msg_id"], True, 202)
        assert line["event"]["data"]["state"] == "live"
        failed = await asyncio.to_thread(
            lambda: gateway.command("webhook", "trigger", "tins", "order.paid", check=False)
        )
        assert failed.returncode == 1 and "answered 500" in failed.stderr
        assert (await api.session.post(f"http://127.0.0.1:{port}/", json={})).status == 401
    finally:
        process.terminate()
        assert await process.wait() == 0
