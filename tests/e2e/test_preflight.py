"""A sale is looked at before it opens, on a whole gateway, by its host and by who runs it."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.ledger.shops import Shops
from tests.support.api import ITEM, Api, api_of
from tests.support.gateway import Gateway

CHECKS = {
    "window",
    "stock",
    "prices",
    "coupons",
    "room",
    "limits",
    "clocks",
    "writer",
    "valkey memory",
    "valkey file",
    "valkey disk",
    "scripts",
    "checkpoint",
    "postgresql disk",
    "live processes",
    "file descriptors",
    "memory",
    "audit",
}


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


def by_check(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {line["check"]: line for line in report["lines"]}


async def look(api: Api, sale: str, query: str = "", *, token: str | None = None) -> Any:
    return await api.call("GET", f"/v1/sales/{sale}/preflight{query}", token=token)


async def test_a_sale_in_good_order_has_no_line_that_fails(api: Api) -> None:
    room = await api.room()
    sale = await api.sale(room=room["room"], opens_in_s=600)
    answer = await look(api, sale["sale"], "?expected_viewers=100&expected_orders=10")
    assert answer.status == 200, answer.text
    report = answer.json
    lines = by_check(report)
    assert lines.keys() >= CHECKS
    assert [line["message"] for line in report["lines"] if line["level"] == "fail"] == []
    assert (report["sale"], report["expected_viewers"], report["expected_orders"]) == (sale["sale"], 100, 10)
    # Embedded servers stand on this machine, so what they need of it is seen.
    sure = ("window", "stock", "prices", "room", "clocks", "writer", "live processes", "audit", "valkey disk")
    assert {name: lines[name]["level"] for name in sure} == dict.fromkeys(sure, "ok")
    assert "10 units" in lines["stock"]["message"]
    assert all(line["todo"] for line in report["lines"] if line["level"] != "ok")


async def test_what_stands_in_the_way_is_told_with_what_to_do(api: Api) -> None:
    room = await api.room()
    items = [
        {**ITEM, "sku": "free", "price_minor": 0},
        {**ITEM, "sku": "dear", "list_price_minor": 1000},
        {**ITEM, "sku": "none", "stock": 0},
    ]
    sale = await api.sale(room=room["room"], items=items, opens_in_s=600)
    assert (await api.call("POST", f"/v1/rooms/{room['room']}/end", key="-")).status == 200
    report = (await look(api, sale["sale"], "?expected_viewers=100000000")).json
    assert report["level"] == "fail"
    failed = {line["check"]: line for line in report["lines"] if line["level"] == "fail"}
    assert "free" in failed["prices"]["message"]
    assert "ended" in failed["room"]["message"]
    assert failed["live processes"]["todo"] and failed["file descriptors"]["todo"]
    warned = [line["message"] for line in report["lines"] if line["level"] == "warn"]
    assert any("none" in message for message in warned) and any("dear" in message for message in warned)


async def test_coupons_and_the_webhook_of_the_shop_are_looked_at(api: Api, gateway: Gateway) -> None:
    shop = f"shop-{uuid.uuid4().hex[:12]}"
    async with Shops.connect(gateway.servers()["database_url"]) as shops:
        api.shops[shop] = await shops.get_or_create(shop)
    host, sale = api.token(shop=shop), await api.sale(shop=shop, opens_in_s=600)
    soon, late = (datetime.now(UTC) + timedelta(minutes=minutes) for minutes in (30, 600))
    coupon = {"title": "Off", "kind": "amount", "value_minor": 100, "copies": 9, "limit_per_viewer": 1}
    before = datetime.now(UTC) + timedelta(minutes=5)
    for title, until, sales, currency in (
        ("Short", soon, [sale["sale"]], "CNY"),
        ("Long", late, [], "CNY"),
        ("Of other sales", late, [], "EUR"),
        ("Over by then", before, [], "CNY"),
    ):
        body = {**coupon, "title": title, "valid_until": until.isoformat(), "sales": sales, "currency": currency}
        made = await api.call("POST", "/v1/coupons", body, token=host)
        assert made.status == 201, made.text
    webhook = {"url": "http://127.0.0.1:1025/nobody", "events": []}
    assert (await api.call("PUT", "/v1/webhook", webhook, token=api.token("s", "service", shop=shop))).status == 201
    lines = (await look(api, sale["sale"], token=host)).json["lines"]
    coupons = {line["level"]: line["message"] for line in lines if line["check"] == "coupons"}
    assert coupons.keys() == {"warn", "ok"}, "nobody expects of the others that they are of use here"
    assert "Short" in coupons["warn"] and "before the sale" in coupons["warn"]
    assert "Long" in coupons["ok"] and "9 copies left" in coupons["ok"]
    assert [line["level"] for line in lines if line["check"] == "webhook"] == ["fail"]


async def test_only_a_host_of_the_shop_may_look_and_says_sensible_numbers(api: Api) -> None:
    sale = (await api.sale())["sale"]
    assert (await look(api, sale, token=api.viewer())).code == "forbidden"
    assert (await look(api, sale, token=api.token("s", "service"))).code == "forbidden"
    assert (await look(api, sale, token=api.token(shop="cups"))).code == "not_found"
    assert (await look(api, "sale_nothing")).code == "not_found"
    for query in ("expected_viewers=0", "expected_viewers=x", "expected_orders=-1", "expected_orders=100000001"):
        answer = await look(api, sale, f"?{query}")
        assert (answer.code, answer.json["param"]) == ("invalid", query.partition("=")[0])


async def test_the_command_says_the_same_and_its_code_whether_anything_stands_in_the_way(
    api: Api, gateway: Gateway
) -> None:
    sale = (await api.sale(opens_in_s=600))["sale"]
    small = ("--expected-viewers", "100", "--expected-orders", "10")
    told = await asyncio.to_thread(gateway.command, "preflight", sale, *small)
    assert told.returncode == 0 and "every invariant" in told.stdout.lower()
    assert (await api.call("POST", f"/v1/sales/{sale}/close", key="-")).status == 200
    failed = await asyncio.to_thread(gateway.command, "preflight", sale, "--json", check=False)
    assert failed.returncode == 1
    assert by_check(json.loads(failed.stdout))["window"]["level"] == "fail"
    nothing = await asyncio.to_thread(gateway.command, "preflight", "sale_nothing", check=False)
    assert (nothing.returncode, nothing.stdout) == (1, "")


async def test_the_contract_is_served_once_made_and_kept_by_its_tag(api: Api) -> None:
    for path, kind in (("/openapi.json", "json"), ("/asyncapi.json", "json"), ("/docs", "html")):
        async with api.session.get(api.gateway.url + path) as answer:
            assert answer.status == 200 and kind in answer.headers["Content-Type"]
            tag, body = answer.headers["ETag"], await answer.text()
        assert len(body) > 5_000
        async with api.session.get(api.gateway.url + path, headers={"If-None-Match": tag}) as again:
            assert (again.status, await again.read()) == (304, b"")
        async with api.session.head(api.gateway.url + path) as head:
            assert (head.status, head.headers["ETag"]) == (200, tag)
    assert "default-src 'none'" in again.headers["Content-Security-Policy"]
