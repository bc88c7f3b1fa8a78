"""What is asked badly gets the contract's clear error, changes nothing, and leaves no trace that it should not."""

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from gateway.ledger.shops import Shops, Signs
from tests.support.api import ITEM, Api, api_of, sale_body
from tests.support.gateway import Gateway
from tests.support.servers import eventually, eventually_now


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


async def raw(gateway: Gateway, request: bytes, *, within_s: float = 10.0) -> bytes:
    """Sends bytes and reads until the server has said all it has to say."""
    parts = urlsplit(gateway.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        async with asyncio.timeout(within_s):
            return await reader.read()
    finally:
        writer.close()


def tokens_that_are_none(api: Api) -> dict[str, str]:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    good = api.token()
    head, body, seal = good.split(".")
    return {
        "none": "",
        "garbage": "garbage",
        "forged": f"{head}.{body}.{seal[::-1]}",
        "alg none": f"{part({'alg': 'none', 'kid': api.shops['tins'].keys[0].kid})}.{body}.",
        "expired": api.token(exp=1_700_000_000),
        "for ever": api.token(exp=4_000_000_000),
        "viewer key that signs a host": api.token(signs=Signs.VIEWER),
        "another audience": api.token(aud="elsewhere"),
        "another shop": api.token(shop="cups").replace("cups", "tins") + "x",
    }


async def test_a_bad_token_is_refused_everywhere(api: Api) -> None:
    before = (await api.call("GET", "/v1/rooms?limit=1")).json
    for name, token in tokens_that_are_none(api).items():
        header = {"Authorization": f"Bearer {token}" if token else ""}
        for method, path, body in (
            ("GET", "/v1/rooms", None),
            ("POST", "/v1/rooms", {"title": "Mine"}),
            ("POST", "/v1/orders", {"sale": "sale_1", "sku": "tin", "quantity": 1}),
        ):
            answer = await api.call(method, path, body, headers=header)
            assert (answer.status, answer.code) == (401, "unauthorized"), (name, answer.text)
            assert answer.headers["WWW-Authenticate"] == "Bearer"
    basic = await api.call("GET", "/v1/rooms", headers={"Authorization": "Basic YTpi"})
    assert basic.code == "unauthorized"
    assert (await api.call("GET", "/v1/rooms?limit=1")).json == before


@pytest.mark.parametrize(
    ("data", "headers", "status", "code"),
    [
        (b"{", {}, 400, "bad_request"),
        (b"", {}, 400, "bad_request"),
        (b"[]", {}, 400, "bad_request"),
        (b'{"title": "\xff"}', {}, 400, "bad_request"),
        (b'{"title": NaN}', {}, 400, "bad_request"),
        (b'{"title": "Show"}', {"Content-Type": "text/plain"}, 415, "unsupported"),
        (b'{"title": "Show"}', {"Content-Type": "application/json; charset=latin-1"}, 415, "unsupported"),
        (b'{"title": "Show"}', {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported"),
        (b'{"title": "Show"}', {"Content-Encoding": "br"}, 415, "unsupported"),
        (b'{"title": 7}', {}, 422, "invalid"),
        (b'{"title": "a\\u0000b"}', {}, 422, "invalid"),
        (b'{"title": "' + b"t" * 70_000 + b'"}', {}, 413, "too_large"),
    ],
)
async def test_a_body_that_is_none(api: Api, data: bytes, headers: dict[str, str], status: int, code: str) -> None:
    answer = await api.call("POST", "/v1/rooms", data=data, headers=headers)
    assert (answer.status, answer.code) == (status, code)


async def test_a_body_over_the_limit_in_chunks_is_cut(api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b'{"sale": "'
        for _ in range(100):
            yield b"s" * 100

    answer = await api.call("POST", "/v1/orders", data=endless(), token=api.viewer())
    assert (answer.status, answer.code) == (413, "too_large")


async def test_a_body_that_never_ends_is_given_up(api: Api, gateway: Gateway) -> None:
    head = (
        f"POST /v1/orders HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.viewer()}\r\nIdempotency-Key: k1\r\n"
        "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    )
    answer = await raw(gateway, head.encode() + b'{"sale": ')
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"code":"bad_request"' in answer


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"quantity": 0}, 422, "invalid", "quantity"),
        ({"quantity": -1}, 422, "invalid", "quantity"),
        ({"quantity": 10**9}, 422, "invalid", "quantity"),
        ({"quantity": "2"}, 422, "invalid", "quantity"),
        ({"amount_minor": 1}, 422, "invalid", "amount_minor"),
        ({"viewer": "bob"}, 422, "invalid", "viewer"),
        ({"meta": "m" * 700}, 422, "invalid", "meta"),
        ({"sku": "cup"}, 404, "not_found", "sku"),
        ({"sale": "sale_0"}, 404, "not_found", None),
        ({"sale": "\u0000"}, 404, "not_found", None),
    ],
)
async def test_a_bad_order_changes_nothing(
    api: Api, changes: dict[str, Any], status: int, code: str, param: str | None
) -> None:
    sale, viewer = (await api.sale())["sale"], api.viewer()
    body = {"sale": sale, "sku": "tin", "quantity": 1, **changes}
    answer = await api.call("POST", "/v1/orders", body, token=viewer, key="k1")
    assert (answer.status, answer.code, answer.json.get("param")) == (status, code, param)
    item = (await api.call("GET", f"/v1/sales/{sale}")).json["items"][0]
    assert (item["left"], item["held"]) == (10, 0)
    assert (await api.call("GET", f"/v1/orders/by-key/k1?sale={sale}", token=viewer)).status == 404


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (sale_body(opens_in_s=60, closes_in_s=0), "closes_at"),
        (sale_body(items=[{**ITEM, "price_minor": -1}]), "items[0].price_minor"),
        (sale_body(items=[{**ITEM, "sku": f"sku-{n}"} for n in range(201)]), "items"),
        (sale_body(items=[ITEM, ITEM]), "items[1].sku"),
        (sale_body(items=[{**ITEM, "floor_minor": 1901}]), "items[0].floor_minor"),
        (sale_body(pay_within_s=4), "pay_within_s"),
        (sale_body(currency="yuan"), "currency"),
        (sale_body(stock_display="all"), "stock_display"),
    ],
)
async def test_a_bad_sale_is_not_made(api: Api, body: dict[str, Any], param: str) -> None:
    answer = await api.call("POST", "/v1/sales", body, key="never-taken")
    assert (answer.status, answer.code, answer.json["param"]) == (422, "invalid", param)


async def test_an_act_without_its_key_or_with_one_that_is_none(api: Api) -> None:
    sale = (await api.sale())["sale"]
    asked = [
        ("/v1/rooms", {"title": "Show"}, api.token()),
        ("/v1/sales", sale_body(), api.token()),
        (f"/v1/sales/{sale}/items/tin/stock", {"add": 1, "reason": "x"}, api.token()),
        ("/v1/orders", {"sale": sale, "sku": "tin", "quantity": 1}, api.viewer()),
    ]
    for path, body, token in asked:
        for key in ("-", "a b", "k" * 65):
            answer = await api.call("POST", path, body, token=token, key=key)
            assert (answer.status, answer.code, answer.json["param"]) == (400, "bad_request", "Idempotency-Key")
    answer = await api.call("GET", f"/v1/orders/by-key/a%20b?sale={sale}", token=api.viewer())
    assert answer.code == "bad_request"
    assert (await api.call("GET", "/v1/orders/by-key/k1", token=api.viewer())).code == "invalid"


async def test_addresses_and_methods_that_are_none(api: Api) -> None:
    for path in ("/", "/v1", "/v1/nothing", "/v1/rooms/", "/v1/rooms/a/b/c", "/metrics", "/v1/sales//open"):
        answer = await api.call("GET", path)
        assert (answer.status, answer.code) == (404, "not_found"), path
    for method, path, allowed in (
        ("DELETE", "/v1/rooms", "GET,HEAD,POST"),
        ("PUT", "/v1/orders", "GET,HEAD,POST"),
        ("GET", "/v1/sales/x/open", "POST"),
        ("TRACE", "/v1/sales", "GET,HEAD,POST"),
    ):
        answer = await api.call(method, path)
        assert (answer.status, answer.code, answer.headers["Allow"]) == (405, "method_not_allowed", allowed)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"h" * 9000 + b"\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
async def test_bytes_that_are_no_request_end_the_connection(gateway: Gateway, request_bytes: bytes) -> None:
    answer = await raw(gateway, request_bytes)
    assert answer.split(b"\r\n")[0].endswith(b"400 Bad Request")
    assert b"Traceback" not in answer


async def test_the_request_id_is_echoed_or_made(api: Api) -> None:
    answer = await api.call("GET", "/v1/nothing", headers={"X-Request-Id": "trace-7"})
    assert (answer.headers["X-Request-Id"], answer.json["request_id"]) == ("trace-7", "trace-7")
    made = (await api.call("GET", "/v1/nothing", headers={"X-Request-Id": "a b"})).headers["X-Request-Id"]
    assert len(made) == 32


async def test_pages_of_the_shops_origins_may_call(api: Api, gateway: Gateway) -> None:
    name = f"shop-{uuid.uuid4().hex[:8]}"
    async with Shops.connect(gateway.servers()["database_url"]) as shops:
        api.shops[name] = await shops.create(name, origins=["https://tins.example"])

    async def asked(origin: str, **headers: str) -> aiohttp.typedefs.LooseHeaders:
        sent = {"Origin": origin, "Authorization": f"Bearer {api.viewer(shop=name)}", **headers}
        return (await api.call("OPTIONS" if headers else "GET", "/v1/sales", headers=sent)).headers

    # The list is read anew within seconds.
    async def listed() -> bool:
        return "Access-Control-Allow-Origin" in await asked("https://tins.example")

    await eventually(listed, within_s=30)
    allowed: Any = await asked("https://tins.example")
    assert allowed["Access-Control-Allow-Origin"] == "https://tins.example"
    assert "Idempotent-Replayed" in allowed["Access-Control-Expose-Headers"]
    assert "Access-Control-Allow-Origin" not in await asked("https://evil.example")
    preflight: Any = await asked("https://tins.example", **{"Access-Control-Request-Method": "POST"})
    assert preflight["Access-Control-Allow-Methods"] == "GET, HEAD, POST"
    assert "Idempotency-Key" in preflight["Access-Control-Allow-Headers"]
    refused: Any = await asked("https://evil.example", **{"Access-Control-Request-Method": "POST"})
    assert "Access-Control-Allow-Methods" not in refused
    # Another shop's page is not this shop's.
    other = await api.call("GET", "/v1/sales", headers={"Origin": "https://tins.example"}, token=api.viewer())
    assert "Access-Control-Allow-Origin" not in other.headers


async def test_the_log_names_requests_and_no_persons(api: Api, gateway: Gateway) -> None:
    sub, secret = f"viewer-{uuid.uuid4().hex}", f"canary-{uuid.uuid4().hex}"
    token, trace = api.viewer(sub), uuid.uuid4().hex
    await api.order((await api.sale())["sale"], token, meta=secret, pickup=secret, headers={"X-Request-Id": trace})
    await api.call("POST", "/v1/orders", {"sale": secret}, token=token)
    eventually_now(lambda: trace in gateway.log())
    log = gateway.log()
    line = next(json.loads(line) for line in log.splitlines() if trace in line)
    assert (line["route"], line["status"], line["request_id"]) == ("/v1/orders", 201, trace)
    assert line["ms"] > 0
    for canary in (sub, secret, token, token.split(".")[2]):
        assert canary not in log


async def test_health_needs_no_token(api: Api) -> None:
    for path, body in (("/livez", {"alive": True}), ("/readyz", {"ready": True})):
        answer = await api.call("GET", path, headers={"Authorization": ""})
        assert (answer.status, answer.json) == (200, body)
