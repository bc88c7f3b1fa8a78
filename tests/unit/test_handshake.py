"""The request for a socket; RFC 6455 has the example."""

from http import HTTPStatus

import pytest

from gateway.live.handshake import Answer, Refused, read_request, switching

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
USUAL = {
    "Host": "live.test",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def head(first: str = "GET /v1/rooms/room_1/live HTTP/1.1", **changes: str | None) -> bytes:
    """`changes` by header, with `_` for `-`; None leaves it out."""
    headers: dict[str, str | None] = {**USUAL, **{name.replace("_", "-"): value for name, value in changes.items()}}
    lines = [first, *(f"{name}: {value}" for name, value in headers.items() if value is not None)]
    return "\r\n".join(lines).encode("latin-1")


def status_of(refused: pytest.ExceptionInfo[Refused]) -> HTTPStatus:
    return refused.value.answer.status


def test_the_example_of_the_rfc_is_accepted() -> None:
    assert read_request(head()).accept() == ACCEPT


@pytest.mark.parametrize("connection", ["keep-alive, Upgrade", "upgrade", "Upgrade , keep-alive"])
def test_connection_is_a_list_and_names_know_no_case(connection: str) -> None:
    assert read_request(head(Connection=connection, Upgrade="WebSocket")).accept() == ACCEPT


@pytest.mark.parametrize(
    "wrong", [{"Upgrade": None}, {"Upgrade": "h2c"}, {"Connection": None}, {"Connection": "close"}]
)
def test_what_asks_for_no_socket_is_told_that_one_is_wanted(wrong: dict[str, str | None]) -> None:
    with pytest.raises(Refused) as refused:
        read_request(head(**wrong)).accept()
    assert status_of(refused) == 426
    assert ("Upgrade", "websocket") in refused.value.answer.headers


@pytest.mark.parametrize("version", [None, "8", "7", "13, 8", "14"])
def test_another_version_is_told_the_one_that_is_spoken(version: str | None) -> None:
    with pytest.raises(Refused) as refused:
        read_request(head(Sec_WebSocket_Version=version)).accept()
    assert status_of(refused) == 426
    assert refused.value.answer.headers == (("Sec-WebSocket-Version", "13"),)


@pytest.mark.parametrize("key", [None, "", "c2hvcnQ=", "no base64 at all!", KEY + KEY, KEY[:-1]])
def test_a_key_that_is_none_is_refused(key: str | None) -> None:
    with pytest.raises(Refused) as refused:
        read_request(head(Sec_WebSocket_Key=key)).accept()
    assert status_of(refused) == 400


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (b"", 400),
        (b"GET", 400),
        (b"GET /", 400),
        (b"GET / HTTP/2.0\r\nHost: a", 400),
        (b"GET  / HTTP/1.1\r\nHost: a", 400),
        (b"GET http://a/ HTTP/1.1\r\nHost: a", 400),
        (b"GET /\x01 HTTP/1.1\r\nHost: a", 400),
        (b"GET / HTTP/1.1", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nName : spaced", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n folded", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nName", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nName: a\nOther: b", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nName: a\x00", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 4", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked", 400),
        (b"POST / HTTP/1.1\r\nHost: a", 405),
        (b"GET / HTTP/1.1\r\nHost: a" + b"\r\nA: b" * 100, 431),
    ],
)
def test_what_is_no_plain_request_is_refused(wrong: bytes, status: int) -> None:
    with pytest.raises(Refused) as refused:
        read_request(wrong)
    assert status_of(refused) == status


def test_a_health_check_of_an_old_proxy_is_read_and_gets_no_socket() -> None:
    request = read_request(b"GET /livez HTTP/1.0")
    assert request.path == "/livez"
    with pytest.raises(Refused):
        read_request(head("GET / HTTP/1.0")).accept()


def test_the_query_is_no_part_of_the_path_and_lines_of_one_name_are_one_list() -> None:
    request = read_request(b"GET /a/b?c=d HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nX-FORWARDED-FOR: 2, 3")
    assert request.path == "/a/b"
    assert request.header("x-forwarded-for") == "1, 2, 3"
    assert request.lines("x-forwarded-for") == ["1", "2, 3"]
    assert request.header("origin") is None and request.lines("origin") == []


def test_the_answers_are_http() -> None:
    assert switching(ACCEPT, "chat").split(b"\r\n") == [
        b"HTTP/1.1 101 Switching Protocols",
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Accept: " + ACCEPT,
        b"Sec-WebSocket-Protocol: chat",
        b"",
        b"",
    ]
    assert b"Protocol:" not in switching(ACCEPT, None)
    answer = Answer(HTTPStatus.TOO_MANY_REQUESTS, b"later", (("Retry-After", "3"),)).encode()
    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
    assert b"\r\nRetry-After: 3\r\n" in answer and b"\r\nContent-Length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\nlater")
