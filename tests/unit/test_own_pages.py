"""Which Origins are the gateway's own pages, seen from the Host that was asked."""

import pytest

from gateway.admission.own_pages import OwnPages

HERE = OwnPages(public_url=None, port=8080)
NAMED = OwnPages(public_url="https://live.example.com", port=8080)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8081"),
        ("http://localhost:8080", "localhost:8081"),
        ("http://[::1]:8080", "[::1]:8081"),
        ("http://192.168.1.5:8080", "192.168.1.5:8081"),
        ("https://shop.example", "shop.example"),
        ("https://shop.example", "SHOP.example"),
        ("https://shop.example:8443", "shop.example:8443"),
        ("http://shop.example", "shop.example"),
    ],
)
def test_a_page_of_the_host_that_is_asked_is_ours(origin: str, host: str) -> None:
    assert HERE.include(origin, host=host)


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("https://evil.example", "127.0.0.1:8081"),
        ("http://127.0.0.1:8079", "127.0.0.1:8081"),
        ("http://localhost:8080", "127.0.0.1:8081"),
        ("https://127.0.0.1:8080", "127.0.0.1:8081"),
        ("https://evil.example:8080", "shop.example:8081"),
        ("https://shop.example.evil.example", "shop.example"),
        ("https://evil.example/shop.example", "shop.example"),
        ("https://shop.example, https://evil.example", "shop.example"),
        ("shop.example", "shop.example"),
        ("file://shop.example", "shop.example"),
        ("null", "null"),
        ("", ""),
        ("http://", ""),
        ("https://", ""),
        ("http://:8080", ":8081"),
        ("http://x", None),
        ("http://[:8080", "[:8081"),
    ],
)
def test_any_other_is_not(origin: str, host: str | None) -> None:
    assert not HERE.include(origin, host=host)


def test_where_pages_have_a_name_that_is_theirs() -> None:
    assert NAMED.include("https://live.example.com", host="sockets.example.com")
    assert not NAMED.include("http://live.example.com", host="sockets.example.com")
    assert not NAMED.include("http://10.0.0.1:8080", host="10.0.0.1:8081"), "the port is not guessed any more"
    assert NAMED.include("https://other.example.com", host="other.example.com")


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost", "LOCALHOST:8080", "a.localhost:1", "[::1]:8080", "10.0.0.7"]
)
def test_addresses_and_this_machine_are_nobody_elses_name(host: str) -> None:
    assert HERE.is_ours(host)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8080", "localhost.evil.example", "", None, "[", "a:b"])
def test_a_name_that_may_be_somebody_elses_is_not_ours(host: str | None) -> None:
    assert not HERE.is_ours(host)


def test_the_name_that_was_set_is_ours() -> None:
    assert NAMED.is_ours("live.example.com") and NAMED.is_ours("live.example.com:8443")
    assert not NAMED.is_ours("example.com")
