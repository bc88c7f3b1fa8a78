import asyncio
import socket
import threading
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.domain.webhook import Endpoint
from gateway.errors import Invalid
from gateway.webhooks.addresses import AddressRefused, allows, checked_url, guarded
from gateway.webhooks.post import poster
from gateway.webhooks.signing import new_secret
from tests.support.servers import eventually

PUBLIC = ("1.1.1.1", "93.184.216.34", "172.15.255.255", "172.32.0.1", "192.169.0.1", "2606:4700:4700::1111")
PRIVATE = (
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "::1",
    "fc00::1",
    "fd12:3456:789a::1",
    "::ffff:10.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:c0a8:0101",
    "::10.0.0.1",
    "::ffff:0:10.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:0a00:0001::1",
    "2002:7f00:0001::",
)
NOWHERE = (
    "0.0.0.0",
    "0.1.2.3",
    "169.254.169.254",
    "169.254.0.1",
    "192.0.0.8",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.7",
    "203.0.113.9",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "64:ff9b:1::1",
    "4000::1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "not an address",
    "",
)


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_allowed(address: str) -> None:
    assert allows(address, private=False) and allows(address, private=True)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_a_private_network_is_refused_unless_a_setting_says_otherwise(address: str) -> None:
    assert not allows(address, private=False)
    assert allows(address, private=True)


@pytest.mark.parametrize("address", NOWHERE)
def test_an_address_that_is_no_servers_is_refused_whatever_the_setting_says(address: str) -> None:
    assert not allows(address, private=False) and not allows(address, private=True)


@pytest.mark.parametrize(
    "url",
    [
        "https://shop.example.com/hooks",
        "https://shop.example.com:8443/hooks?a=1",
        "https://1.1.1.1/",
        "https://[2606:4700:4700::1111]:9000/",
    ],
)
def test_an_address_of_a_shop_on_the_internet_is_taken(url: str) -> None:
    assert checked_url(url, dev=False, private=False) == url


@pytest.mark.parametrize(
    "url",
    [
        "http://shop.example.com/",
        "ftp://shop.example.com/",
        "shop.example.com",
        "https://",
        "https:///path",
        "https://user@shop.example.com/",
        "https://user:secret@shop.example.com/",
        "https://shop.example.com@10.0.0.1/",
        "https://shop.example.com:22/",
        "https://shop.example.com:25/",
        "https://shop.example.com:99999/",
        "https://shop.example.com/#fragment",
        "https://localhost/",
        "https://localhost./",
        "https://metadata.google.internal/",
        "https://printer.local/",
        "https://shop/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://sh\u00f6p.example.com/",
        "https://shop.example.com/a b",
        "https://shop.example.com/\r\nX: y",
        "https://shop.example.com/" + "a" * 2000,
        "https://[shop/",
    ],
)
def test_an_address_that_no_event_would_be_sent_to_is_refused_by_its_field(url: str) -> None:
    with pytest.raises(Invalid) as error:
        checked_url(url, dev=False, private=False)
    assert error.value.param == "url"


def test_without_tls_only_this_machine_is_spoken_to_and_only_in_development() -> None:
    assert checked_url("http://127.0.0.1:9000/", dev=True, private=True)
    assert checked_url("http://localhost:9000/", dev=True, private=True)
    for url, dev in (
        ("http://127.0.0.1:9000/", False),
        ("http://10.0.0.1:9000/", True),
        ("http://shop.example.com/", True),
    ):
        with pytest.raises(Invalid):
            checked_url(url, dev=dev, private=True)


def test_a_private_network_is_allowed_where_the_setting_says_so_but_never_the_metadata_of_a_cloud() -> None:
    assert checked_url("https://10.1.2.3/", dev=False, private=True)
    assert checked_url("https://shop.internal/", dev=False, private=True)
    for host in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "[fd00:ec2::254]", "[fd20:ce::254]"):
        with pytest.raises(Invalid):
            checked_url(f"https://{host}/", dev=False, private=True)
    assert checked_url("https://100.100.100.201/", dev=False, private=True)


def test_a_socket_is_made_for_an_allowed_address_alone() -> None:
    make = guarded(lambda address: allows(address, private=False))
    with pytest.raises(AddressRefused):
        make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("10.0.0.1", 443)))
    with make((socket.AF_INET, socket.SOCK_STREAM, 0, "", ("1.1.1.1", 443))) as made:
        assert made.family == socket.AF_INET


class Listener:
    """Counts who connects."""

    def __init__(self) -> None:
        self.connections = 0

    async def __aenter__(self) -> "Listener":
        self._server = await asyncio.start_server(self._taken, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"])
async def test_no_spelling_of_an_inner_address_is_connected_to(host: str) -> None:
    async with Listener() as listener, poster(clock=SystemClock(), private=False, dev=False) as post:
        sent = await post.post(
            Endpoint(1, "tins", f"https://{host}:{listener.port}/", (new_secret(),)), msg_id="msg_1", body="{}"
        )
        assert listener.connections == 0
    assert sent.status is None and sent.error


async def test_a_name_that_leads_inside_is_refused_though_it_led_outside_when_it_was_looked_up_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answers of DNS are another one's; what is connected to is what the guard sees."""
    looked_up: list[str] = []

    def resolve(host: str, port: int, **more: Any) -> list[Any]:
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with Listener() as listener, poster(clock=SystemClock(), private=False, dev=False) as post:
        url = checked_url(f"https://rebinding.example.com:{listener.port}/", dev=False, private=False)
        sent = await post.post(Endpoint(1, "tins", url, (new_secret(),)), msg_id="msg_1", body="{}")
        assert listener.connections == 0
    assert looked_up == ["rebinding.example.com"]
    assert sent.error == "the name leads to an address that events may not go to"


async def test_plain_http_reaches_this_machine_alone_whatever_the_name_leads_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def resolve(host: str, port: int, **more: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.9.9.9", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with poster(clock=SystemClock(), private=True, dev=True) as post:
        sent = await post.post(Endpoint(1, "tins", "http://localhost:9000/", (new_secret(),)), msg_id="m", body="{}")
    assert sent.error == "the name leads to an address that events may not go to"


async def test_name_servers_that_never_answer_keep_no_other_name_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    stuck: list[str] = []

    def resolve(host: str, port: int, **more: Any) -> list[Any]:
        if host.startswith("silent"):
            stuck.append(host)
            over.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    async with Listener() as listener, poster(clock=SystemClock(), private=True, dev=False) as post:

        def sent(name: str) -> "asyncio.Task[Any]":
            url = f"https://{name}.example.com:{listener.port}/"
            return asyncio.create_task(post.post(Endpoint(1, name, url, (new_secret(),)), msg_id="msg_1", body="{}"))

        async def all_wait() -> bool:
            return len(stuck) == 40

        # Several events of each wait for the same look-up.
        silent = [sent(f"silent{n % 40}") for n in range(160)]
        try:
            await eventually(all_wait)
            async with asyncio.timeout(5):
                await sent("quick")
            assert listener.connections == 1 and len(stuck) == 40
        finally:
            over.set()
            await asyncio.wait(silent)
