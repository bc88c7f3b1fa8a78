"""Which pages may open a socket: at the door what is known without asking, in the greeting whose page it is."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest
import redis

from gateway.hot.keys import BUS_CHANNEL
from gateway.ledger.shops import Shops
from gateway.wire.bus import ShopChanged, encode
from tests.support.api import Api, api_of
from tests.support.gateway import Gateway, running_gateway
from tests.support.raw_wire import BINARY, Answered, RawWire, frame, raw_wire, request, said
from tests.support.seat import JSON, MSGPACK
from tests.support.servers import eventually

TINS, CUPS, EVIL = "https://tins.example", "https://cups.example:8443", "https://evil.example"
NOT_ALLOWED = 4507
# Where the token is, and what the frames are.
WAYS = [(where, codec) for where in ("header", "hello") for codec in (JSON, MSGPACK)]
each_way = pytest.mark.parametrize(("where", "codec"), WAYS)


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    """One live process, so that what it has read is what the next socket meets."""
    with running_gateway() as started:
        yield started


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with Shops.connect(gateway.servers()["database_url"]) as shops:
        for shop, origin in (("tins", TINS), ("cups", CUPS)):
            await shops.get_or_create(shop)
            await shops.set_origins(shop, [origin])
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def path(api: Api) -> str:
    return f"/v1/rooms/{(await api.room())['room']}/live"


class Page:
    """A viewer's page of some origin. Origins are listed as a browser writes them: scheme, host, port."""

    def __init__(self, api: Api, path: str, *origin_lines: str, where: str = "header", codec: str = JSON) -> None:
        self._url, self._path, self._codec = str(api.gateway.ready["live_url"]), path, codec
        self._token = api.viewer()
        self._lines = [*origin_lines, f"Sec-WebSocket-Protocol: {codec}"]
        self._in_header = where == "header"
        if self._in_header:
            self._lines.append(f"Authorization: Bearer {self._token}")

    @asynccontextmanager
    async def knocks(self) -> AsyncIterator[tuple[RawWire, Answered]]:
        async with raw_wire(self._url) as wire:
            wire.send(request(self._path, *self._lines))
            yield wire, await wire.answer()

    async def status(self) -> int:
        async with self.knocks() as (wire, answer):
            if answer.status != 101:
                assert "sec-websocket-accept" not in answer.headers
                assert await wire.rest() == b"", "and then it is closed"
            return answer.status

    async def is_told(self) -> dict[str, Any]:
        """The first frame after the hello; a socket that is told bye is closed with its code."""
        async with self.knocks() as (wire, answer):
            assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, self._codec)
            hello = {"t": "hello"} if self._in_header else {"t": "hello", "token": self._token}
            wire.send(said(hello) if self._codec == JSON else frame(BINARY, msgpack.packb(hello)))
            opcode, payload = await wire.frame()
            told: dict[str, Any] = msgpack.unpackb(payload) if opcode == BINARY else json.loads(payload)
            if told["t"] == "bye":
                assert await wire.close_code() == told["code"]
            return told


@pytest.fixture
async def lists_are_read(api: Api, path: str) -> None:
    """From here on for some seconds; who is welcomed from a page had them read."""
    await forgets(api, path)
    assert (await Page(api, path, f"Origin: {TINS}").is_told())["t"] == "welcome"


async def forgets(api: Api, path: str) -> None:
    """The process heard that a shop has changed, so that it knows no list until somebody is greeted."""
    with redis.Redis.from_url(api.gateway.servers()["rooms_valkey_url"]) as valkey:
        # Once: a second word would come when the lists may have been read again.
        valkey.publish(BUS_CHANNEL, encode(ShopChanged("tins")))

    async def forgot() -> bool:
        return await Page(api, path, f"Origin: {EVIL}").status() == 101

    await eventually(forgot, within_s=20)


@each_way
async def test_a_page_of_the_shop_is_let_in(api: Api, path: str, lists_are_read: None, where: str, codec: str) -> None:
    assert (await Page(api, path, f"Origin: {TINS}", where=where, codec=codec).is_told())["t"] == "welcome"


@each_way
async def test_who_is_no_browser_is_let_in_without_one(
    api: Api, path: str, lists_are_read: None, where: str, codec: str
) -> None:
    assert (await Page(api, path, where=where, codec=codec).is_told())["t"] == "welcome"


@each_way
async def test_a_page_that_no_shop_lists_is_refused_before_the_upgrade(
    api: Api, path: str, lists_are_read: None, where: str, codec: str
) -> None:
    assert await Page(api, path, f"Origin: {EVIL}", where=where, codec=codec).status() == 403


@each_way
async def test_a_page_of_another_shop_is_told_so_when_it_is_known_whose_viewer_it_is(
    api: Api, path: str, lists_are_read: None, where: str, codec: str
) -> None:
    told = await Page(api, path, f"Origin: {CUPS}", where=where, codec=codec).is_told()
    assert (told["t"], told["code"]) == ("bye", NOT_ALLOWED)


@each_way
async def test_a_page_that_comes_before_the_lists_were_read_is_refused_by_its_greeting(
    api: Api, path: str, where: str, codec: str
) -> None:
    await forgets(api, path)
    page = Page(api, path, f"Origin: {EVIL}", where=where, codec=codec)
    told = await page.is_told()
    assert (told["t"], told["code"]) == ("bye", NOT_ALLOWED)
    assert await page.status() == 403, "now they are known at the door"


@pytest.mark.parametrize(
    "lines",
    [
        (f"Origin: {TINS}/",),
        (f"Origin: {TINS}:443",),
        (f"Origin: {TINS}.evil.example",),
        ("Origin: http://tins.example",),
        ("Origin: https://cups.example",),
        ("Origin: null",),
        ("Origin:",),
        (f"Origin: {TINS}, {EVIL}",),
        (f"Origin: {TINS}", f"Origin: {EVIL}"),
        (f"Origin: {TINS}", f"Origin: {TINS}"),
    ],
    ids=lambda lines: " and ".join(lines),
)
async def test_what_is_only_like_a_listed_origin_is_none(
    api: Api, path: str, lists_are_read: None, lines: tuple[str, ...]
) -> None:
    assert await Page(api, path, *lines).status() == 403


@pytest.mark.parametrize("line", [f"origin: {TINS}", f"ORIGIN:{TINS}", f"Origin: \t{TINS} "])
async def test_the_header_may_be_written_in_any_way(api: Api, path: str, lists_are_read: None, line: str) -> None:
    assert (await Page(api, path, line).is_told())["t"] == "welcome"


async def test_a_refused_page_learns_nothing_of_tokens(api: Api, path: str, lists_are_read: None) -> None:
    assert await Page(api, path, f"Origin: {EVIL}", "Authorization: Bearer forged", where="hello").status() == 403
    assert await Page(api, path, f"Origin: {TINS}", "Authorization: Bearer forged", where="hello").status() == 401
