"""The clients of the gateway's HTTP: keys, problems as typed errors, repeats with the same key, listings."""

from typing import Any

import pytest
from aiohttp import web

from gateway import errors
from gateway.client import Host, ViewerHttp
from gateway.client.backoff import Backoff
from tests.support.fake_shop import http_server, problem

QUICK = Backoff(base_s=0.01, cap_s=0.02)
ORDER = {
    "order": "ord_1",
    "sale": "sale_1",
    "sku": "tin",
    "quantity": 2,
    "price_minor": 1900,
    "discount_minor": 0,
    "amount_minor": 3800,
    "currency": "CNY",
    "status": "reserved",
    "a_field_of_tomorrow": {},
}


async def test_an_order_carries_token_key_and_content_and_comes_back_as_an_answer() -> None:
    seen: list[tuple[str, Any, dict[str, str]]] = []

    async def answer(request: web.Request) -> web.Response:
        seen.append((request.path, await request.json(), dict(request.headers)))
        body = {"outcome": "reserved", "order": ORDER}
        return web.json_response(body, status=201, headers={"Idempotent-Replayed": "true"})

    async with http_server(answer) as url, ViewerHttp(url, "token-1") as viewer:
        got = await viewer.place_order(sale="sale_1", sku="tin", quantity=2, key="k1", meta={"a": 1}, wait_s=3)
    assert (got.outcome, got.order, got.amount_minor, got.replayed, got.key) == ("reserved", "ord_1", 3800, True, "k1")
    [(path, body, headers)] = seen
    assert (path, body) == ("/v1/orders", {"sale": "sale_1", "sku": "tin", "quantity": 2, "meta": {"a": 1}})
    assert headers["Authorization"] == "Bearer token-1"
    assert (headers["Idempotency-Key"], headers["Prefer"]) == ("k1", "wait=3")


async def test_a_refusal_is_an_answer_with_what_is_left() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"outcome": "sold_out", "left": 1, "may_return": True})

    async with http_server(answer) as url, ViewerHttp(url, "token") as viewer:
        got = await viewer.place_order(sale="sale_1", sku="tin", quantity=2, key="k1")
    assert (got.outcome, got.is_reserved, got.left, got.may_return) == ("sold_out", False, 1, True)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "bad_request", errors.BadRequest),
        (401, "unauthorized", errors.Unauthorized),
        (403, "forbidden", errors.Forbidden),
        (404, "not_found", errors.NotFound),
        (409, "stock_in_use", errors.StockInUse),
        (422, "invalid", errors.Invalid),
        (422, "key_reused", errors.KeyReused),
        (429, "rate_limited", errors.RateLimited),
        (503, "overloaded", errors.Overloaded),
        (503, "outcome_unknown", errors.OutcomeUnknown),
    ],
)
async def test_a_problem_becomes_the_error_of_its_code(status: int, code: str, kind: type[errors.GatewayError]) -> None:
    async def answer(request: web.Request) -> web.Response:
        return problem(status, code, param="quantity", retry_after_ms=40)

    async with http_server(answer) as url, Host(url, "token") as host:
        with pytest.raises(kind) as raised:
            await host.sale("sale_1")
    assert type(raised.value) is kind
    assert (raised.value.code, raised.value.param, raised.value.retry_after_ms) == (code, "quantity", 40)
    assert f"about {code}" in raised.value.message


async def test_a_code_of_tomorrow_keeps_its_word_and_its_retryable_flag() -> None:
    async def answer(request: web.Request) -> web.Response:
        return problem(409, "sale_frozen", retryable=True)

    async with http_server(answer) as url, Host(url, "token") as host:
        with pytest.raises(errors.GatewayError) as raised:
            await host.pause("sale_1")
    assert (raised.value.code, raised.value.retryable) == ("sale_frozen", True)


async def test_insisting_repeats_with_the_same_key_over_refusals_and_lost_answers() -> None:
    keys: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            return problem(503, "overloaded", retryable=True, retry_after_ms=5)
        if len(keys) == 2:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        return web.json_response({"room": "room_1", "state": "scheduled", "live_url": "ws://x"}, status=201)

    async with http_server(answer) as url, Host(url, "token", insist_s=5.0, backoff=QUICK) as host:
        room = await host.create_room("drop")
    assert (room.room, room.live_url) == ("room_1", "ws://x")
    assert len(keys) == 3 and len(set(keys)) == 1


async def test_what_is_not_retryable_is_not_repeated() -> None:
    asked = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        return problem(422, "invalid", retryable=False)

    async with http_server(answer) as url, Host(url, "token", insist_s=5.0, backoff=QUICK) as host:
        with pytest.raises(errors.Invalid):
            await host.add_stock("sale_1", "tin", -5, reason="broken")
    assert asked == 1


async def test_nobody_listening_is_unavailable_and_a_lost_answer_is_outcome_unknown() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    async with http_server(answer) as url, Host(url, "token") as host:
        with pytest.raises(errors.OutcomeUnknown):
            await host.open_sale("sale_1")
    async with Host(url, "token") as host:
        with pytest.raises(errors.Unavailable):
            await host.open_sale("sale_1")


async def test_a_gateway_error_of_a_proxy_promises_nothing() -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=502, text="<html>bad gateway</html>")

    async with http_server(answer) as url, ViewerHttp(url, "token") as viewer:
        with pytest.raises(errors.OutcomeUnknown):
            await viewer.place_order(sale="sale_1", sku="tin", key="k1")


async def test_by_key_is_none_while_nothing_is_held() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.path == "/v1/orders/by-key/k1" and request.query["sale"] == "sale_1":
            return web.json_response({**ORDER, "status": "confirmed"})
        return problem(404, "not_found")

    async with http_server(answer) as url, ViewerHttp(url, "token") as viewer:
        held = await viewer.by_key("k1", sale="sale_1")
        assert held is not None and held.status == "confirmed"
        assert await viewer.by_key("k2", sale="sale_1") is None


async def test_a_listing_is_read_to_its_last_page() -> None:
    async def answer(request: web.Request) -> web.Response:
        assert request.query["status"] == "confirmed"
        start = int(request.query.get("after", "0"))
        items = [{**ORDER, "order": f"ord_{number}"} for number in range(start, min(start + 2, 5))]
        return web.json_response({"items": items, "next": str(start + 2) if start + 2 < 5 else None})

    async with http_server(answer) as url, Host(url, "token") as host:
        orders = await host.orders("sale_1", status="confirmed")
    assert [order.order for order in orders] == [f"ord_{number}" for number in range(5)]
