"""The bytes of a room's readers: upgrades, frames, and what is written to each kind of server.

Readers look at the headers of what comes and at nothing else. Each comment carries a mark and the instant it was due,
so that it is found in the bytes of any server, alone or merged with others, in JSON and in MessagePack alike.
"""

import re
import time
from typing import Literal

import msgspec

Dialect = Literal["peakgate", "nchan", "nats"]

MARK = b"@@"
STAMP = re.compile(rb"@@(\d{16})")
"""The mark and microseconds of the machine's monotonic clock, the same in every process."""
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
# Any key may be drawn, also this one, which leaves the payload as it is: the load's cost is not what is measured.
_NO_MASK = b"\0\0\0\0"


def stamped(text: str, due_us: int) -> str:
    return f"@@{due_us:016d} {text.replace('@@', '@')}"


def frame(opcode: int, payload: bytes) -> bytes:
    """One whole frame of a client."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, 0x80 | size)) + _NO_MASK + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2, "big") + _NO_MASK + payload
    raise ValueError(f"{size} bytes are no frame of a viewer")


def upgrade(path: str, *, subprotocol: str | None, token: str | None) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: cmVhZHMgYSByb29tIG9mIA==",
    ]
    if subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {subprotocol}")
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join((*lines, "", "")).encode()


def first_frames(dialect: Dialect, subprotocol: str | None, resume: tuple[int, int] | None = None) -> bytes:
    """What a reader says once it is connected."""
    match dialect:
        case "peakgate":
            hello: dict[str, object] = {"t": "hello"}
            if resume is not None:
                hello["resume"] = {"epoch": resume[0], "seq": resume[1]}
            return _frame_of(hello, subprotocol)
        case "nchan":
            return b""
        case "nats":
            return frame(BINARY, b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB room 1\r\nPING\r\n')


WELCOMED: dict[Dialect, bytes] = {"peakgate": b"welcome", "nchan": b"", "nats": b"PONG"}
"""What tells a reader that it is in the room."""


def comment_frame(id: str, text: str, subprotocol: str | None) -> bytes:
    return _frame_of({"t": "comment", "id": id, "text": text}, subprotocol)


def like_frame(taps: int, subprotocol: str | None) -> bytes:
    return _frame_of({"t": "like", "n": taps}, subprotocol)


def _frame_of(fields: dict[str, object], subprotocol: str | None) -> bytes:
    if subprotocol == "peakgate.v1.msgpack":
        return frame(BINARY, msgspec.msgpack.encode(fields))
    return frame(TEXT, msgspec.json.encode(fields))


def event(number: int, text: str) -> dict[str, object]:
    """A comment as it stands in a tick of Peakgate, for servers that pass on what they are given."""
    return {
        "k": "comment",
        "comment": f"cmt_{number:024x}",
        "viewer": f"vw_{number % 999:018x}",
        "name": f"Viewer {number % 999}",
        "text": text,
        "at_ms": time.time_ns() // 1_000_000,
    }


def tick(number: int, events: list[dict[str, object]]) -> dict[str, object]:
    return {"t": "tick", "seq": number, "now_ms": time.time_ns() // 1_000_000, "ev": events}


def publication(dialect: Dialect, path: str, payload: bytes) -> bytes:
    """The bytes that put `payload` into the room of a peer."""
    if dialect == "nats":
        return b"PUB room %d\r\n%b\r\n" % (len(payload), payload)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(payload)}"
    )
    return head.encode() + b"\r\n\r\n" + payload
