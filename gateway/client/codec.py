"""Frames to bytes and back, one codec a subprotocol.

MessagePack goes through the package `msgpack`, on purpose another implementation than the gateway's own: what the two
agree on is the format and not one library's reading of it.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
from picows import WSMsgType

from gateway.wire.codec import JSON_PROTOCOL, MSGPACK_PROTOCOL


class ToViewer(msgspec.Struct, gc=False):
    """What an order or a comment needs of any frame to a viewer: scalars only, read in one pass without a dict.

    Fields of other frames are skipped; a frame that uses one of these names for something else (a snapshot, a welcome)
    comes with `t` alone and is read whole from its payload.
    """

    t: str = ""
    id: str | None = None
    outcome: str | None = None
    order: str | None = None
    amount_minor: int | None = None
    replayed: bool = False
    left: int | None = None
    may_return: bool = False
    opens_at_ms: int | None = None
    status: str | None = None
    reason: str | None = None
    pay_by_ms: int | None = None
    code: str | int | None = None
    message: str | None = None
    param: str | None = None
    retryable: bool | None = None
    retry_after_ms: int | None = None
    in_ms: int | None = None
    seq: int | None = None
    comment: str | None = None
    at_ms: int | None = None
    claim: str | None = None
    value_minor: int | None = None
    state: str | None = None


class _Kind(msgspec.Struct, gc=False):
    t: str = ""


class Codec(Protocol):
    subprotocol: str
    message_type: WSMsgType

    def encode(self, frame: Mapping[str, object], /) -> bytes: ...

    def read(self, payload: bytes, /) -> ToViewer:
        """The scalars of a frame; raises `msgspec.MsgspecError` or `ValueError` on what is no frame."""
        ...

    def read_whole(self, payload: bytes, /) -> dict[str, Any]: ...


class JsonCodec:
    subprotocol = JSON_PROTOCOL
    message_type = WSMsgType.TEXT

    def __init__(self) -> None:
        self.encode = msgspec.json.Encoder().encode
        self._read = msgspec.json.Decoder(ToViewer).decode
        self._read_kind = msgspec.json.Decoder(_Kind).decode
        self.read_whole = msgspec.json.Decoder(dict[str, Any]).decode

    def read(self, payload: bytes, /) -> ToViewer:
        try:
            return self._read(payload)
        except msgspec.ValidationError:
            return ToViewer(t=self._read_kind(payload).t)


class MsgpackCodec:
    subprotocol = MSGPACK_PROTOCOL
    message_type = WSMsgType.BINARY

    def __init__(self) -> None:
        try:
            import msgpack  # type: ignore[import-untyped]
        except ImportError as error:
            raise ImportError("The msgpack codec needs the package msgpack: install peakgate[load].") from error
        self._unpack = msgpack.unpackb
        self.encode = msgpack.Packer().pack

    def read(self, payload: bytes, /) -> ToViewer:
        frame = self._unpack(payload)
        try:
            return msgspec.convert(frame, ToViewer)
        except msgspec.ValidationError:
            return ToViewer(t=msgspec.convert(frame, _Kind).t)

    def read_whole(self, payload: bytes, /) -> dict[str, Any]:
        return msgspec.convert(self._unpack(payload), dict[str, Any])


def codec_named(name: str) -> Codec:
    """`json` or `msgpack`. A codec keeps no state between frames: one serves any number of sockets of a thread."""
    match name:
        case "json":
            return JsonCodec()
        case "msgpack":
            return MsgpackCodec()
    raise ValueError(f"{name!r} is no codec of this client: json, msgpack.")
