"""The pages for people as they are served: by what headers, to whom, for how long, and who is signed in by a name."""

import base64
import gzip
import hashlib
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from gateway.api.pages_files import STATIC
from gateway.ledger.shops import Shops
from tests.support.api import Api, api_of
from tests.support.gateway import Gateway, running_gateway
from tests.support.raw_wire import raw_wire, request, said

STREAM = "https://cdn.example.com:8443/live/show.m3u8"
YEAR = "public, max-age=31536000, immutable"


@dataclass
class Got:
    status: int
    headers: Mapping[str, str]
    body: bytes
    """As it came, packed or not."""

    @property
    def text(self) -> str:
        return (gzip.decompress(self.body) if self.headers.get("Content-Encoding") == "gzip" else self.body).decode()

    @property
    def policy(self) -> dict[str, list[str]]:
        return {
            name: values
            for name, *values in (each.split() for each in self.headers["Content-Security-Policy"].split(";"))
        }

    @property
    def tag(self) -> str:
        found = re.search(r"/static/([0-9a-f]{12})/", self.text)
        assert found is not None
        return found[1]


async def get(url: str, *, method: str = "GET", host: str | None = None, **headers: str) -> Got:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    sent.setdefault("Accept-Encoding", "identity")
    if host is not None:
        sent["Host"] = host
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.request(method, url, headers=sent, allow_redirects=False) as answer,
    ):
        return Got(answer.status, answer.headers, await answer.read())


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def room(api: Api) -> str:
    return str((await api.room(stream_url=STREAM))["room"])


# The shells.


@pytest.mark.parametrize("page", ["room", "host"])
async def test_a_page_comes_with_a_policy_that_holds_its_import_map_and_nothing_that_is_not_ours(
    gateway: Gateway, room: str, page: str
) -> None:
    got = await get(f"{gateway.url}/host" if page == "host" else f"{gateway.url}/r/{room}")
    assert (got.status, got.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    (names,) = re.findall(r'<script type="importmap">(.*?)</script>', got.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(names.encode()).digest()).decode()
    assert got.policy["script-src"] == ["'self'", f"'sha256-{digest}'"]
    assert got.policy["default-src"] == got.policy["base-uri"] == got.policy["form-action"] == ["'none'"]
    live = str(gateway.ready["live_url"])
    stream = ["https://cdn.example.com:8443"] if page == "room" else []
    assert got.policy["connect-src"] == ["'self'", live, *stream]
    assert got.policy["media-src"] == ["'self'", "blob:", *stream]
    assert got.policy["frame-ancestors"] == (["'self'"] if page == "room" else ["'none'"])
    assert got.headers["Referrer-Policy"] == "no-referrer"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert got.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert "camera=()" in got.headers["Permissions-Policy"]
    assert "Set-Cookie" not in got.headers
    # Everything it asks for is there, is ours, and may be kept.
    for path in {*re.findall(r'(?:src|href)="([^"]+)"', got.text), *json.loads(names)["imports"].values()}:
        assert path.startswith(f"/static/{got.tag}/")
        file = await get(gateway.url + path)
        assert (file.status, file.headers["Cache-Control"]) == (200, YEAR), path


async def test_a_room_is_framed_by_the_pages_of_its_shop(gateway: Gateway, api: Api) -> None:
    shop = f"framing-{uuid.uuid4().hex[:8]}"
    async with Shops.connect(gateway.servers()["database_url"]) as shops:
        await shops.create(shop, origins=["https://shop.example", "https://app.example:8443"])
    host = gateway.token("host", "host", shop=shop)
    room = (await api.call("POST", "/v1/rooms", {"title": "Show"}, token=host)).json["room"]

    async def framed() -> list[str]:
        return (await get(f"{gateway.url}/r/{room}")).policy["frame-ancestors"]

    gateway.command("shop", "origins", shop, "--set", "https://shop.example", "--set", "https://app.example:8443")
    assert await framed() == ["'self'", "https://app.example:8443", "https://shop.example"]
    assert (await get(f"{gateway.url}/r/{room}")).policy["connect-src"] == ["'self'", str(gateway.ready["live_url"])]


async def test_where_a_stream_is_cannot_be_more_than_an_origin(gateway: Gateway, api: Api) -> None:
    for told in ("https://a.example;script-src/x", "https://a.example'unsafe-inline'/x", "rtmp://a.example/x"):
        room = (await api.room(stream_url=told))["room"]
        got = await get(f"{gateway.url}/r/{room}")
        assert got.status == 200
        assert "a.example" not in got.headers["Content-Security-Policy"]
        assert got.policy["script-src"][0] == "'self'" and len(got.policy["script-src"]) == 2


@pytest.mark.parametrize("room", ["room_0000", "nothing", "room%00", "a" * 300, "<script>"])
async def test_of_a_room_that_is_not_there_a_page_says_so(gateway: Gateway, room: str) -> None:
    got = await get(f"{gateway.url}/r/{room}", Accept_Encoding="gzip")
    assert (got.status, got.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "There is no such room" in got.text and "没有这个直播间" in got.text
    assert "<script" not in got.text
    assert got.policy["default-src"] == got.policy["frame-ancestors"] == ["'none'"]


async def test_a_page_that_is_known_is_not_sent_again_until_it_or_its_policy_changes(
    gateway: Gateway, api: Api, room: str
) -> None:
    url = f"{gateway.url}/r/{room}"
    first = await get(url)
    assert first.headers["Cache-Control"] == "no-cache"
    again = await get(url, If_None_Match=first.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert again.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
    assert (await get(url, If_None_Match=f'"other", W/{first.headers["ETag"]}')).status == 304
    other = (await api.room(stream_url="https://other.example/x.m3u8"))["room"]
    assert (await get(f"{gateway.url}/r/{other}", If_None_Match=first.headers["ETag"])).status == 200
    packed = await get(url, Accept_Encoding="gzip")
    assert packed.headers["ETag"] != first.headers["ETag"]
    assert packed.text == first.text


async def test_who_asks_for_the_head_gets_no_body(gateway: Gateway, room: str) -> None:
    tag = (await get(f"{gateway.url}/host")).tag
    for path in (f"/r/{room}", "/host", "/static/peakgate.js", f"/static/{tag}/ui/ui.js"):
        whole, head = await get(gateway.url + path), await get(gateway.url + path, method="HEAD")
        assert (head.status, head.body) == (200, b""), path
        for name in ("ETag", "Content-Type", "Content-Length", "Cache-Control"):
            assert head.headers[name] == whole.headers[name], (path, name)


# The files.


async def test_a_file_is_kept_under_its_tag_asked_for_under_another_and_soon_forgotten_without(
    gateway: Gateway,
) -> None:
    tag = (await get(f"{gateway.url}/host")).tag
    body = (STATIC / "peakgate.js").read_bytes()
    for path, keep in (
        (f"/static/{tag}/peakgate.js", YEAR),
        ("/static/000000000000/peakgate.js", "no-cache"),
        ("/static/peakgate.js", "public, max-age=300"),
    ):
        got = await get(gateway.url + path)
        assert (got.status, got.body, got.headers["Cache-Control"]) == (200, body, keep)
        assert got.headers["Content-Type"] == "text/javascript; charset=utf-8"
        again = await get(gateway.url + path, If_None_Match=got.headers["ETag"])
        assert (again.status, again.body, again.headers["Cache-Control"]) == (304, b"", keep)
    deep = await get(f"{gateway.url}/static/{tag}/vendor/preact.js")
    assert deep.body == (STATIC / "vendor" / "preact.js").read_bytes()


async def test_files_are_packed_for_whoever_takes_it(gateway: Gateway) -> None:
    url, plain = f"{gateway.url}/static/peakgate.js", (STATIC / "peakgate.js").read_bytes()
    for takes in ("gzip", "br, gzip;q=0.5", "GZIP", "deflate,gzip"):
        got = await get(url, Accept_Encoding=takes)
        assert got.headers["Content-Encoding"] == "gzip" and gzip.decompress(got.body) == plain
        assert got.headers["Vary"] == "Accept-Encoding"
        assert (await get(url, Accept_Encoding=takes, If_None_Match=got.headers["ETag"])).status == 304
    for takes in ("identity", "br", "gzip;q=0", "gzip; q=0.0", "xgzip", ""):
        got = await get(url, Accept_Encoding=takes)
        assert "Content-Encoding" not in got.headers and got.body == plain


async def test_others_pages_may_use_the_files_whoever_they_are(gateway: Gateway) -> None:
    got = await get(f"{gateway.url}/static/peakgate.js", Origin="https://nobody.example")
    assert got.headers["Access-Control-Allow-Origin"] == "*"
    assert got.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert (await get(f"{gateway.url}/host", Origin="https://nobody.example")).headers.get(
        "Access-Control-Allow-Origin"
    ) is None


@pytest.mark.parametrize(
    "path",
    [
        "no.js",
        "room.html",
        "vendor",
        "x/room.html",
        "x/../peakgate.js/..",
        "..%2fserver.py",
        "x/..%2f..%2fserver.py",
        "x/%2e%2e/server.py",
        "x/%2e%2e/%2e%2e/server.py",
        "x//etc/passwd",
        "x/ui/../../server.py",
        "peakgate.js%00",
        "x/vendor/..",
        "x/y/vendor/preact.js",
    ],
)
async def test_what_is_no_file_of_the_list_is_not_there(gateway: Gateway, path: str) -> None:
    url = f"{gateway.url}/static/{path}"
    parts = gateway.url.removeprefix("http://").split(":")
    async with raw_wire(gateway.url) as wire:
        wire.send(f"GET {url.removeprefix(gateway.url)} HTTP/1.1\r\nHost: {':'.join(parts)}\r\n\r\n".encode())
        assert (await wire.answer()).status in (400, 404)


# The sign-in of development.


async def signs(url: str, body: Any, *, status: int = 201, **headers: str) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"{url}/dev/tokens",
            data=json.dumps(body),
            headers={"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
        ) as answer,
    ):
        assert answer.status == status, await answer.text()
        assert "Access-Control-Allow-Origin" not in answer.headers
        return await answer.json()


async def test_in_development_a_name_is_a_person(gateway: Gateway, api: Api) -> None:
    shop = f"named-{uuid.uuid4().hex[:8]}"
    ours = gateway.url
    told = await signs(ours, {"role": "host", "name": "Ann", "shop": shop}, Origin=ours)
    assert told["shop"] == shop and set(told) == {"token", "shop", "sub", "expires_at"}
    made = await api.call("POST", "/v1/rooms", {"title": "Show"}, token=told["token"])
    assert made.status == 201, made.text
    viewer = await signs(ours, {"role": "viewer", "name": "Bo", "room": made.json["room"]})
    assert viewer["shop"] == shop
    seen = await api.call("GET", f"/v1/rooms/{made.json['room']}", token=viewer["token"])
    assert seen.status == 200
    again = await signs(ours, {"role": "viewer", "name": " bo", "room": made.json["room"]})
    assert again["sub"] == viewer["sub"] != told["sub"]
    assert (await api.call("POST", "/v1/rooms", {"title": "Show"}, token=viewer["token"])).code == "forbidden"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"role": "viewer", "name": "Bo"}, 422),
        ({"role": "viewer", "name": "Bo", "room": "room_none"}, 404),
        ({"role": "service", "name": "Bo"}, 422),
        ({"role": "host", "name": ""}, 422),
        ({"role": "host", "name": "x" * 33}, 422),
        ({"role": "host", "name": "Bo", "shop": "No Shop"}, 422),
        ({"role": "host"}, 422),
        ([], 400),
    ],
)
async def test_a_sign_in_says_who_and_where(gateway: Gateway, body: Any, status: int) -> None:
    await signs(gateway.url, body, status=status)


async def test_a_page_of_somebody_else_signs_nobody_in(gateway: Gateway) -> None:
    """Listed by a shop or not, and also where a name of theirs points at our address."""
    port = gateway.url.rsplit(":", 1)[1]
    body = {"role": "host", "name": "Ann"}
    shop = f"listed-{uuid.uuid4().hex[:8]}"
    async with Shops.connect(gateway.servers()["database_url"]) as shops:
        await shops.create(shop, origins=["https://listed.example"])
    gateway.command("shop", "origins", shop, "--set", "https://listed.example")
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "https://listed.example"},
        {"Origin": "null"},
        {"Origin": f"http://evil.example:{port}", "Host": f"evil.example:{port}"},
        {"Host": f"evil.example:{port}"},
    ):
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{gateway.url}/dev/tokens", json=body, headers=headers) as answer,
        ):
            assert answer.status == 403, headers
            assert "token" not in await answer.json()
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        await signs(gateway.url, body, status=415, Content_Type=content_type)


@pytest.fixture(scope="module")
def plain() -> Iterator[Gateway]:
    """As in production: not of development, and each surface could be alone."""
    with running_gateway(dev=False) as started:
        yield started


async def test_without_development_nobody_is_signed_in_by_a_name(plain: Gateway) -> None:
    await signs(plain.url, {"role": "host", "name": "Ann"}, status=404)
    async with aiohttp.ClientSession() as session, session.get(f"{plain.url}/openapi.json") as answer:
        assert "/dev/tokens" not in (await answer.json())["paths"]
    got = await get(f"{plain.url}/host")
    assert "peakgate-dev" not in got.text
    assert "http:" not in got.policy["img-src"]


@pytest.mark.parametrize(("surface", "room", "host"), [("public", 404, 404), ("control", 404, 200)])
async def test_each_surface_has_the_page_of_those_it_is_for(surface: str, room: int, host: int) -> None:
    with running_gateway(PEAKGATE_SURFACE=surface) as started:
        got = await get(f"{started.url}/r/room_none")
        is_page = got.headers["Content-Type"].startswith("text/html")
        assert (got.status, is_page) == (room, surface == "public")
        assert (await get(f"{started.url}/host")).status == host
        assert (await get(f"{started.url}/static/peakgate.js")).status == 200


# Sockets of the pages.


async def knocks(gateway: Gateway, path: str, origin: str, host: str) -> int | str:
    """The status of a refusal, or what the first frame is."""
    token = gateway.token("host", "host", shop="tins")
    async with raw_wire(str(gateway.ready["live_url"])) as wire:
        wire.send(request(path, f"Origin: {origin}", f"Host: {host}"))
        answer = await wire.answer()
        if answer.status != 101:
            return answer.status
        wire.send(said({"t": "hello", "token": token}))
        _, payload = await wire.frame()
        told = json.loads(payload)
        return str(told["t"]) if told["t"] != "bye" else int(told["code"])


async def test_a_page_of_the_gateway_opens_a_socket_though_no_shop_lists_it_and_no_other_page_does(
    gateway: Gateway, room: str
) -> None:
    path = f"/v1/rooms/{room}/live"
    page, live = gateway.url, str(gateway.ready["live_url"]).removeprefix("ws://")
    port = page.rsplit(":", 1)[1]
    live_port = live.rsplit(":", 1)[1]
    assert await knocks(gateway, path, page, live) == "welcome"
    assert await knocks(gateway, path, f"http://localhost:{port}", f"localhost:{live_port}") == "welcome"
    assert await knocks(gateway, path, "https://live.example.com", "live.example.com") == "welcome"
    refused = {403, 4507}
    assert await knocks(gateway, path, "https://evil.example", live) in refused
    assert await knocks(gateway, path, "https://evil.example", "live.example.com") in refused
    assert await knocks(gateway, path, f"http://evil.example:{port}", live) in refused
    assert await knocks(gateway, path, page.replace("http:", "https:"), live) in refused
    assert await knocks(gateway, path, f"http://127.0.0.1:{int(port) - 1}", live) in refused
    assert await knocks(gateway, path, "null", live) in refused


async def test_pages_that_have_a_name_of_their_own_are_let_in_at_sockets_that_have_another() -> None:
    with running_gateway(PEAKGATE_PUBLIC_URL="https://shop.example.com") as named:
        async with api_of(named) as api:
            path = f"/v1/rooms/{(await api.room())['room']}/live"
            live = str(named.ready["live_url"]).removeprefix("ws://")
            assert await knocks(named, path, "https://shop.example.com", live) == "welcome"
            assert await knocks(named, path, named.url, live) in (403, 4507)
