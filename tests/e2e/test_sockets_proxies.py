"""The gateway behind the proxies of `deploy/proxies`, each run as it is written there; only ports differ.

Skipped, and said so aloud, where a proxy is not installed. `make proxies` installs both on Debian and wants both, which
it says by PEAKGATE_PROXIES_WANTED.
"""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
import pytest

from tests.support.api import Api, api_of
from tests.support.gateway import Gateway, free_ports, running_gateway
from tests.support.raw_wire import PING, PONG, Answered, RawWire, frame, raw_wire, request, said
from tests.support.servers import eventually_now

FOLDER = Path(__file__).parents[2] / "deploy" / "proxies"
PER_ADDRESS = 2
# Read before the tests begin, which are kept from all settings of whoever runs them.
WANTED = bool(os.environ.get("PEAKGATE_PROXIES_WANTED"))
# Only this machine's limits on files are lower than a production one's.
FEWER = {
    "nginx.conf": ("worker_rlimit_nofile 200000;", "worker_connections 100000;"),
    "haproxy.cfg": ("maxconn 100000",),
}
ARGV = {
    "nginx": ("nginx.conf", ["-p", ".", "-e", "stderr", "-g", "daemon off; pid nginx.pid;", "-c"]),
    "haproxy": ("haproxy.cfg", ["-W", "-f"]),
}
LISTENS = {"nginx.conf": "listen 80 ", "haproxy.cfg": "bind :80 "}


@dataclass
class Proxied:
    name: str
    url: str
    gateway: Gateway


@pytest.fixture(scope="module")
def behind() -> Iterator[Gateway]:
    with running_gateway(
        workers=2,
        PEAKGATE_TRUSTED_PROXIES="127.0.0.1",
        PEAKGATE_SOCKETS_PER_ADDRESS=str(PER_ADDRESS),
    ) as started:
        yield started


@pytest.fixture(scope="module", params=list(ARGV))
def proxied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxied]:
    name = str(request.param)
    binary = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if binary is None:
        _not_tried(request.config, f"{name} is not installed: deploy/proxies was not tried with it (`make proxies`)")
    behind: Gateway = request.getfixturevalue("behind")
    file, argv = ARGV[name]
    port = free_ports(1)
    folder = tmp_path_factory.mktemp(name)
    (folder / file).write_text(_on_ports(file, port, behind))
    log = (folder / "log").open("w")
    process = subprocess.Popen([binary, *argv, file], cwd=folder, stdout=log, stderr=log)
    try:
        eventually_now(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, (folder / "log").read_text()
        yield Proxied(name, f"http://127.0.0.1:{port}", behind)
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def _not_tried(config: pytest.Config, why: str) -> NoReturn:
    if WANTED:
        pytest.fail(why)
    # Where the test would have run too: a skip is one letter among thousands.
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    capturing: Any = config.pluginmanager.get_plugin("capturemanager")
    with capturing.global_and_fixture_disabled():
        terminal.ensure_newline()
        terminal.write_line(f"NOT TESTED: {why}", red=True, bold=True)
    pytest.skip(why)


def _on_ports(file: str, port: int, gateway: Gateway) -> str:
    text = (FOLDER / file).read_text()
    changes = {
        LISTENS[file]: LISTENS[file].replace("80", f"127.0.0.1:{port}").replace(":127.0.0.1", "127.0.0.1"),
        "127.0.0.1:8080": gateway.url.removeprefix("http://"),
        "127.0.0.1:8081": str(gateway.ready["live_url"]).removeprefix("ws://"),
        **{limit: limit.replace("00000", "000") for limit in FEWER[file]},
    }
    for written, here in changes.items():
        assert written in text, f"{file} has no {written!r}"
        text = text.replace(written, here)
    return text


def _listens(port: int) -> bool:
    with socket.socket() as end:
        return end.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
async def api(behind: Gateway) -> AsyncIterator[Api]:
    async with api_of(behind) as api:
        yield api


@pytest.fixture
async def path(api: Api) -> str:
    return f"/v1/rooms/{(await api.room())['room']}/live"


async def test_the_api_answers_under_the_one_name(proxied: Proxied, api: Api) -> None:
    key, token = uuid.uuid4().hex, f"Bearer {api.token()}"
    async with aiohttp.ClientSession(proxied.url, headers={"Authorization": token}) as session:
        async with session.get("/readyz") as answer:
            assert answer.status == 200
        async with session.post("/v1/rooms", json={"title": "Show"}, headers={"Idempotency-Key": key}) as answer:
            assert answer.status == 201
            room = (await answer.json())["room"]
        # What only begins or ends like a live path is the API's.
        async with session.get(f"/v1/rooms/{room}") as answer:
            assert (answer.status, (await answer.json())["room"]) == (200, room)
        async with session.get(f"/v1/rooms/{room}/live/more") as answer:
            assert (answer.status, answer.content_type) == (404, "application/problem+json")


async def test_a_page_of_the_gateway_opens_its_socket_under_the_one_name(proxied: Proxied, api: Api, path: str) -> None:
    host = proxied.url.removeprefix("http://")
    async with aiohttp.ClientSession(proxied.url) as session, session.get("/host") as page:
        assert (page.status, page.content_type) == (200, "text/html")
    for origin, welcome in ((proxied.url, True), (f"https://{host}", True), ("https://evil.example", False)):
        async with raw_wire(proxied.url) as wire:
            wire.send(request(path, f"Host: {host}", f"Origin: {origin}"))
            if (await wire.answer()).status == 101:
                wire.send(said({"t": "hello", "token": api.viewer()}))
                _, payload = await wire.frame()
                assert (b'"welcome"' in payload) is welcome
            else:
                assert not welcome


async def test_a_socket_lives_under_the_one_name(proxied: Proxied, api: Api, path: str) -> None:
    async with raw_wire(proxied.url) as wire:
        wire.send(request(path, f"Authorization: Bearer {api.viewer()}", "Sec-WebSocket-Protocol: peakgate.v1.json"))
        answer = await wire.answer()
        assert (answer.status, answer.headers["sec-websocket-protocol"]) == (101, "peakgate.v1.json")
        wire.send(said({"t": "hello"}))
        await wire.told("snapshot")
        wire.send(said({"t": "ping", "id": "through"}))
        assert (await wire.told("pong"))["id"] == "through"
        # Frames of the protocol's own pass too, and the close with its code.
        wire.send(frame(PING, b"raw"))
        while (heard := await wire.frame())[0] != PONG:
            pass
        assert heard == (PONG, b"raw")
        wire.send(frame(0x3, b""))
        assert await wire.close_code() == 1002


async def test_the_gateways_own_refusals_pass_as_they_are(proxied: Proxied, path: str) -> None:
    async def knocks(*lines: str, at: str = path) -> Answered:
        async with raw_wire(proxied.url) as wire:
            wire.send(request(at, *lines))
            return await wire.answer()

    assert (await knocks("Authorization: Bearer forged")).status == 401
    assert (await knocks(at="/v1/rooms/room_nowhere/live")).status == 404


async def test_the_address_behind_the_proxy_is_the_one_that_counts(proxied: Proxied, path: str) -> None:
    """This machine's own address is a trusted proxy's, so what stands left of it is believed too."""
    async with AsyncExitStack() as kept:

        async def knocks(address: str) -> Answered:
            wire: RawWire = await kept.enter_async_context(raw_wire(proxied.url))
            wire.send(request(path, f"X-Forwarded-For: {address}"))
            return await wire.answer()

        # Two processes share the port, and each counts for itself.
        answers = [await knocks("192.0.2.1") for _ in range(12)]
        let_in = sum(answer.status == 101 for answer in answers)
        assert PER_ADDRESS <= let_in <= 2 * PER_ADDRESS
        refused = next(answer for answer in answers if answer.status != 101)
        assert refused.status == 429 and int(refused.headers["retry-after"]) >= 1
        assert (await knocks("192.0.2.2")).status == 101
