"""Frames in (RFC 6455): read from bytes, judged, and put together to messages.

In Python; README.md says what that costs beside a library, and what it is worth. A socket has no buffers of its own
while it is idle, and a wrong frame cannot overtake the right one before it, which it could when the library looked
ahead.
"""

import asyncio
from typing import ClassVar

import structlog

from gateway.live.frame import FIN, OPCODE, SIZE, Broken, Opcode, check, unmask
from gateway.live.message import PartialMessage
from gateway.wire.close_codes import CloseCode

log = structlog.get_logger(__name__)

# A viewer's taps, likes and pings stay far below; above it somebody counts on us being slower than they are.
FRAMES_PER_S, FRAMES_BURST = 200.0, 400.0
# What nearly every frame begins with needs no second look: whole or in parts, text or binary, masked.
_USUAL = frozenset({0x00, 0x01, 0x02, 0x80, 0x81, 0x82})
_LAST = FIN | Opcode.CLOSE
_CONTINUATION, _TEXT, _CLOSE, _PING = map(int, (Opcode.CONTINUATION, Opcode.TEXT, Opcode.CLOSE, Opcode.PING))


class Incoming(asyncio.Protocol):
    __slots__ = ("_credit", "_partial", "_rest", "closing", "heard_s")

    max_message_bytes: ClassVar[int]
    """Of a whole message, however many frames it comes in."""

    def __init__(self) -> None:
        self.closing = False
        """A close frame was sent, or the connection given up: what still comes is only read for the peer's own."""
        self.heard_s = 0.0
        """When bytes came last."""
        self._credit = FRAMES_BURST
        self._rest: bytes | None = b""
        """The beginning of a frame. None: whatever comes is not looked at any more."""
        self._partial: PartialMessage | None = None

    # What is made of it.

    def now_s(self) -> float:
        raise NotImplementedError

    def received(self, payload: bytes, is_text: bool) -> None:
        """A whole message; text is UTF-8."""
        raise NotImplementedError

    def pinged(self, payload: bytes) -> None:
        raise NotImplementedError

    def peer_closed(self, payload: bytes) -> None:
        """Its close frame. May raise Broken."""
        raise NotImplementedError

    def broken(self, code: CloseCode, why: str) -> None:
        """It broke the protocol, or we broke on it; nothing more is read."""
        raise NotImplementedError

    def flooded(self) -> None:
        """It sent frames faster than anybody may; nothing more is read."""
        raise NotImplementedError

    # The reading.

    def data_received(self, data: bytes) -> None:
        rest = self._rest
        if rest is None:
            # Frames can no longer be told apart, but the answer to our own close frame comes by itself.
            if data[0] == _LAST:
                self.peer_closed(b"")
            return
        now_s = self.now_s()
        self._credit = min(FRAMES_BURST, self._credit + (now_s - self.heard_s) * FRAMES_PER_S)
        self.heard_s = now_s
        if rest:
            data = rest + data
        try:
            at = self._read(data)
        except Broken as error:
            self.deafen()
            self.broken(error.code, str(error))
            return
        except Exception:
            log.exception("frame_broke")
            self.deafen()
            self.broken(CloseCode.INTERNAL_ERROR, "internal")
            return
        if self._rest is not None:
            self._rest = data[at:]

    def deafen(self) -> None:
        self._rest = self._partial = None

    def _read(self, data: bytes) -> int:
        """Acts on whole frames and says where the first that is not whole begins."""
        at, end = 0, len(data)
        while end - at >= 2:
            first, second = data[at], data[at + 1]
            if first not in _USUAL or second < 0x80:
                check(first, second)
            size, mask_at = second & SIZE, at + 2
            if size == 126:
                if end < at + 4:
                    break
                size, mask_at = data[at + 2] << 8 | data[at + 3], at + 4
                if size < 126:
                    raise Broken(CloseCode.PROTOCOL_ERROR, "a length longer than it needs to be")
            elif size == 127:
                if end < at + 10:
                    break
                size, mask_at = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
                if size < 0x1_0000 or size >> 63:
                    raise Broken(CloseCode.PROTOCOL_ERROR, "a length longer than it needs to be")
            if size > self.max_message_bytes:
                raise Broken(CloseCode.MESSAGE_TOO_BIG, "frame too large")
            payload_at = mask_at + 4
            after = payload_at + size
            if after > end:
                if end > payload_at:
                    self._foresee(first, unmask(data[mask_at:payload_at], data[payload_at:end]))
                break
            self._frame(first, unmask(data[mask_at:payload_at], data[payload_at:after]))
            at = after
            if self._rest is None:
                break
        return at

    def _frame(self, first: int, payload: bytes) -> None:
        opcode = first & OPCODE
        self._credit -= 1
        if opcode == _CLOSE:
            self._rest = None
            self.peer_closed(payload)
        elif self._credit < 0:
            self.deafen()
            self.flooded()
        elif self.closing:
            pass
        elif opcode > _CLOSE:
            if opcode == _PING:
                self.pinged(payload)
        elif opcode == _CONTINUATION or not first & FIN or self._partial is not None:
            self._add(opcode, payload, final=bool(first & FIN))
        elif opcode == _TEXT:
            try:
                payload.decode()
            except UnicodeDecodeError:
                raise _not_utf8() from None
            self.received(payload, True)
        else:
            self.received(payload, False)

    def _add(self, opcode: int, payload: bytes, *, final: bool) -> None:
        partial = self._partial_for(opcode)
        if len(partial) + len(payload) > self.max_message_bytes:
            raise Broken(CloseCode.MESSAGE_TOO_BIG, "message too large")
        try:
            partial.add(payload, final=final)
        except UnicodeDecodeError:
            raise _not_utf8() from None
        self._partial = None if final else partial
        if final:
            self.received(partial.whole(), partial.is_text)

    def _foresee(self, first: int, payload: bytes) -> None:
        """The beginning of a frame: text that is none already is not waited for."""
        opcode = first & OPCODE
        if opcode < _CLOSE and not self.closing:
            try:
                self._partial_for(opcode).foresee(payload)
            except UnicodeDecodeError:
                raise _not_utf8() from None

    def _partial_for(self, opcode: int) -> PartialMessage:
        partial = self._partial
        if opcode != _CONTINUATION:
            if partial is not None:
                raise Broken(CloseCode.PROTOCOL_ERROR, "a new message inside another")
            return PartialMessage(is_text=opcode == _TEXT)
        if partial is None:
            raise Broken(CloseCode.PROTOCOL_ERROR, "a continuation of nothing")
        return partial


def _not_utf8() -> Broken:
    return Broken(CloseCode.INVALID_TEXT, "not UTF-8")
