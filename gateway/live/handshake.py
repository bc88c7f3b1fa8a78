"""The request for a socket and its answer (RFC 9112 as far as it is needed, RFC 6455, chapter 4).

A request is one GET without a body, and the connection serves no second one.
"""

import binascii
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha1
from http import HTTPStatus

MAX_HEAD_BYTES = 16 * 1024
_MAX_HEADERS = 100
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_TARGET = re.compile(rb"/[\x21-\x7e]*")
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no socket."""

    status: HTTPStatus
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status.value} {self.status.phrase}",
            "Content-Type: text/plain; charset=utf-8",
            f"Content-Length: {len(self.body)}",
            "Connection: close",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + self.body


class Refused(Exception):
    """What came is no request that could be answered otherwise."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status.phrase)
        self.answer = answer


class Request:
    __slots__ = ("_headers", "path", "version")

    def __init__(self, path: str, version: bytes, headers: dict[str, list[str]]) -> None:
        self.path = path
        """Without its query."""
        self.version = version
        self._headers = headers

    def header(self, name: str) -> str | None:
        """Several lines of one name are one list (RFC 9110, 5.3). `name` is in lower case."""
        values = self._headers.get(name)
        return None if values is None else ", ".join(values)

    def lines(self, name: str) -> list[str]:
        return self._headers.get(name, [])

    def accept(self) -> bytes:
        """The word that proves that the request was understood. Raises Refused when it asks for no socket."""
        if not self._lists("upgrade", "websocket") or not self._lists("connection", "upgrade"):
            wanted = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
            raise Refused(Answer(HTTPStatus.UPGRADE_REQUIRED, b"a websocket is wanted here", wanted))
        if self.lines("sec-websocket-version") != [_VERSION]:
            raise Refused(Answer(HTTPStatus.UPGRADE_REQUIRED, b"version", (("Sec-WebSocket-Version", _VERSION),)))
        key = self.lines("sec-websocket-key")
        try:
            if self.version == b"HTTP/1.1" and len(key) == 1 and len(b64decode(key[0], validate=True)) == 16:
                return b64encode(sha1(key[0].encode() + _GUID).digest())
        except (binascii.Error, ValueError):
            pass
        raise Refused(Answer(HTTPStatus.BAD_REQUEST, b"no websocket key"))

    def _lists(self, name: str, word: str) -> bool:
        """Firefox writes `Connection: keep-alive, Upgrade`."""
        return any(part.strip().lower() == word for line in self.lines(name) for part in line.split(","))


def read_request(head: bytes) -> Request:
    """`head` ends before the empty line. Raises Refused."""
    first, *lines = head.split(b"\r\n")
    words = first.split(b" ")
    if len(words) != 3 or words[2] not in (b"HTTP/1.1", b"HTTP/1.0") or _TARGET.fullmatch(words[1]) is None:
        raise _bad(b"no HTTP request")
    if words[0] != b"GET":
        raise Refused(Answer(HTTPStatus.METHOD_NOT_ALLOWED, b"GET only", (("Allow", "GET"),)))
    if len(lines) > _MAX_HEADERS:
        raise Refused(Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"too many headers"))
    headers: dict[str, list[str]] = {}
    for line in lines:
        header = _LINE.fullmatch(line)
        if header is None:
            raise _bad(b"malformed header")
        headers.setdefault(header[1].decode().lower(), []).append(header[2].decode("latin-1"))
    if words[2] == b"HTTP/1.1" and len(headers.get("host", ())) != 1:
        raise _bad(b"one Host header is wanted")
    if "transfer-encoding" in headers or any(length.strip("0") for length in headers.get("content-length", ())):
        raise _bad(b"a body is not wanted")
    return Request(words[1].decode().partition("?")[0], words[2], headers)


def switching(accept: bytes, protocol: str | None) -> bytes:
    chosen = b"" if protocol is None else b"Sec-WebSocket-Protocol: " + protocol.encode() + b"\r\n"
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n" + chosen + b"\r\n"
    )


def _bad(why: bytes) -> Refused:
    return Refused(Answer(HTTPStatus.BAD_REQUEST, why))
