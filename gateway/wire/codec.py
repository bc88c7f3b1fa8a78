"""The two codecs of the live socket: JSON in text frames, MessagePack in binary frames.

msgspec decodes and validates a frame in one step. A frame that cannot be read (`Unreadable`) is told apart from one
that reads but is not allowed (`NotAllowed`), because only the first counts towards closing the socket.
"""

from collections.abc import Callable
from enum import StrEnum
from struct import Struct
from typing import Any

import msgspec

from gateway.wire.frames import FromViewer, ToViewer

_MIDDLE_HEADER, _LONG_HEADER = Struct(">BBH"), Struct(">BBQ")

JSON_PROTOCOL = "peakgate.v1.json"
MSGPACK_PROTOCOL = "peakgate.v1.msgpack"


class Unreadable(Exception):
    """Not a frame: no map, no type, or not the codec's syntax."""


class NotAllowed(Exception):
    """A frame whose value breaks the contract. `id` is the frame's own, where it had a readable one; `lacks_key`: it
    had none where it is the idempotency key."""

    def __init__(self, message: str, *, frame: str, id: str | None, lacks_key: bool) -> None:
        super().__init__(message)
        self.frame = frame
        self.id = id
        self.lacks_key = lacks_key


class UnknownFrame(Exception):
    """A type of frame this version does not know."""

    def __init__(self, frame: str, *, id: str | None) -> None:
        super().__init__(frame)
        self.frame = frame
        self.id = id


class _Head(msgspec.Struct):
    t: str
    id: Any = None


class CodecName(StrEnum):
    JSON = "json"
    MSGPACK = "msgpack"


_KEYED = frozenset({"order", "claim", "comment"})
_TYPES = frozenset({"hello", "token", "order", "comment", "like", "claim", "enter", "ping"})


class Codec:
    """One of the two; `is_text` says in which kind of WebSocket frame its messages travel."""

    __slots__ = ("_decode", "_decode_head", "_short_headers", "encode", "is_text", "name", "opcode", "protocol")

    def __init__(self, name: CodecName) -> None:
        self.name = name
        self.is_text = name is CodecName.JSON
        self.opcode = 0x81 if self.is_text else 0x82  # text or binary, the only frame of its message
        self._short_headers = tuple(bytes((self.opcode, size)) for size in range(126))
        self.protocol = JSON_PROTOCOL if self.is_text else MSGPACK_PROTOCOL
        module = msgspec.json if self.is_text else msgspec.msgpack
        self.encode: Callable[[ToViewer], bytes] = module.Encoder().encode
        self._decode = module.Decoder(FromViewer).decode
        self._decode_head = module.Decoder(_Head).decode

    def header(self, size: int) -> bytes:
        """The WebSocket header of a server's whole, uncompressed message of `size` bytes (RFC 6455, 5.2)."""
        if size < 126:
            return self._short_headers[size]
        if size < 65_536:
            return _MIDDLE_HEADER.pack(self.opcode, 126, size)
        return _LONG_HEADER.pack(self.opcode, 127, size)

    def framed(self, frame: ToViewer) -> bytes:
        """The frame with its WebSocket header: what goes on the wire, for however many viewers."""
        payload = self.encode(frame)
        return self.header(len(payload)) + payload

    def decode(self, payload: bytes | memoryview) -> FromViewer:
        try:
            frame: FromViewer = self._decode(payload)
        except msgspec.ValidationError as error:
            raise self._blame(payload, str(error)) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable(str(error)) from None
        return frame

    def _blame(self, payload: bytes | memoryview, message: str) -> Exception:
        """Which kind of wrong it is; read again only on this rare path."""
        try:
            head: _Head = self._decode_head(payload)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Unreadable(message)
        id = head.id if isinstance(head.id, str) and len(head.id) <= 64 else None
        if head.t not in _TYPES:
            return UnknownFrame(head.t[:32], id=id)
        return NotAllowed(message, frame=head.t, id=id, lacks_key=head.t in _KEYED and head.id is None)


JSON = Codec(CodecName.JSON)
MSGPACK = Codec(CodecName.MSGPACK)
BY_PROTOCOL = {JSON_PROTOCOL: JSON, MSGPACK_PROTOCOL: MSGPACK}
