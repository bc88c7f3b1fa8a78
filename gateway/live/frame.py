"""Frames of RFC 6455, 5.2: what a client's header may say, and the server's own headers."""

from enum import IntEnum

from gateway.wire.close_codes import CloseCode


class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


FIN, RESERVED, OPCODE, MASKED, SIZE = 0x80, 0x70, 0x0F, 0x80, 0x7F
MAX_CONTROL_BYTES = 125
# The first two bytes of a frame of ours, whose payload is not masked.
PING = bytes((FIN | Opcode.PING, 0))
_KNOWN = frozenset(Opcode)
# What a peer may say in its close frame; 1005, 1006 and 1015 are never on the wire (7.4).
_SAYABLE = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014})


class Broken(Exception):
    """What the peer sent ends the socket with this code."""

    def __init__(self, code: CloseCode, why: str) -> None:
        super().__init__(why)
        self.code = code


def check(first: int, second: int) -> None:
    """The first two bytes of a client's frame. Raises Broken."""
    opcode = first & OPCODE
    if first & RESERVED:
        raise Broken(CloseCode.PROTOCOL_ERROR, "reserved bits without an extension")
    if opcode not in _KNOWN:
        raise Broken(CloseCode.PROTOCOL_ERROR, "unknown opcode")
    if not second & MASKED:
        raise Broken(CloseCode.PROTOCOL_ERROR, "not masked")
    if opcode >= Opcode.CLOSE:
        if not first & FIN:
            raise Broken(CloseCode.PROTOCOL_ERROR, "a control frame in parts")
        if second & SIZE > MAX_CONTROL_BYTES:
            raise Broken(CloseCode.PROTOCOL_ERROR, "a large control frame")


def unmask(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


def close_frame(code: int, reason: bytes) -> bytes:
    payload = code.to_bytes(2, "big") + reason[: MAX_CONTROL_BYTES - 2]
    return bytes((FIN | Opcode.CLOSE, len(payload))) + payload


def answer_to_close(payload: bytes) -> int:
    """The code to answer a peer's close frame with: its own where it is one. Raises Broken."""
    if not payload:
        return CloseCode.NORMAL
    code = int.from_bytes(payload[:2], "big")
    if len(payload) == 1 or not (code in _SAYABLE or 3000 <= code < 5000):
        raise Broken(CloseCode.PROTOCOL_ERROR, "no close code")
    try:
        payload[2:].decode()
    except UnicodeDecodeError:
        raise Broken(CloseCode.INVALID_TEXT, "not UTF-8") from None
    return code
