"""One viewer's socket: its frames in, its answers out, and how it ends."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

from gateway.domain.caller import Caller
from gateway.domain.order import OrderAnswer, OrderOutcome
from gateway.errors import BadRequest, GatewayError, Invalid, NotFound
from gateway.metrics import CLOSED
from gateway.wire import bus, frames
from gateway.wire.close_codes import CloseCode
from gateway.wire.codec import Codec, NotAllowed, UnknownFrame, Unreadable

HELLO_WITHIN_S = 5.0  # the contract's
BROKEN_FRAMES = 3  # the contract's: the third closes the socket
# A viewer's taps, likes and pings stay far below; above it somebody counts on us being slower than they are.
FRAMES_PER_S, FRAMES_BURST = 200.0, 400.0
# How long a closed socket may still be read to its end; the peer's own close ends it sooner.
LINGER_S = 0.5
_PONG = 0x8A
# What may wait for a phone that does not read: answers to orders are small, so this is hundreds of them.
MAX_UNREAD_BYTES = 64 * 1024


class Orders(Protocol):
    def submit(
        self,
        caller: Caller,
        *,
        sale: str,
        sku: str,
        quantity: int,
        key: str,
        answer: Callable[[OrderAnswer | Exception], None],
        expect_amount_minor: int | None,
        ref: str | None,
        meta: object,
    ) -> None: ...


class Host(Protocol):
    """What a session asks of its server."""

    orders: Orders

    def now_s(self) -> float: ...
    def now_ms(self) -> int: ...
    def connected(self, session: "Session") -> None: ...
    def greet(self, session: "Session", hello: frames.Hello) -> None: ...
    def refresh(self, session: "Session", token: str) -> None: ...
    def left(self, session: "Session") -> None: ...
    def flush_soon(self, session: "Session") -> None: ...


class Session(WSListener):
    """A socket from its upgrade to its end. It never awaits: what takes time is done by the server, which calls
    back."""

    __slots__ = (
        "_broken",
        "_credit",
        "_credit_at_s",
        "_early",
        "_host",
        "_in_flight",
        "_parts",
        "_parts_type",
        "_timers",
        "_unsent",
        "caller",
        "closing",
        "codec",
        "greeted",
        "joined",
        "origin",
        "room",
        "token",
        "transport",
    )

    def __init__(self, *, host: Host, room: str, codec: Codec, token: str | None, origin: str | None = None) -> None:
        self._host = host
        self.room = room
        self.codec = codec
        self.token = token
        """Of the upgrade's Authorization header, if it had one."""
        self.origin = origin
        self.joined: Caller | None = None
        """Who is told of later states through this socket; set while the welcome is still being made."""
        self.caller: Caller | None = None
        """Set once welcomed."""
        self.greeted = False
        self.closing = False
        self.transport: WSTransport | None = None
        self._broken = 0
        self._credit = FRAMES_BURST
        self._credit_at_s = 0.0
        self._in_flight = 0
        self._early: list[bus.LaterState] = []
        self._parts: bytearray | None = None
        self._parts_type = WSMsgType.TEXT
        self._timers: list[asyncio.TimerHandle] = []
        self._unsent: list[bytes] = []

    # The transport's side.

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self._credit_at_s = self._host.now_s()
        self._later(HELLO_WITHIN_S, self._no_hello)
        self._host.connected(self)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.closing = True
        self.transport = None
        self._stop_timers()
        self._host.left(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is WSMsgType.CLOSE:
            if not self.closing:
                self.flush()
                self.closing = True
                transport.send_close(WSCloseCode.OK)
            transport.disconnect()
            return
        if self.closing:
            return
        if not self._within_rate():
            self.bye(CloseCode.TOO_MANY_FRAMES, "too many frames", retry_after_ms=5000)
            return
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.close(CloseCode.PROTOCOL_ERROR, "reserved bits without an extension")
            return
        if kind is WSMsgType.PING:
            # Ours to answer: what the library answers by itself counts neither as a frame nor as unread.
            payload = frame.get_payload_as_bytes()
            self._put(bytes((_PONG, len(payload))), payload)
            return
        if kind is WSMsgType.PONG:
            return
        if kind is WSMsgType.CONTINUATION or not frame.fin or self._parts is not None:
            whole = self._assemble(kind, frame)
            if whole is not None:
                self._read(self._parts_type, whole)
        else:
            self._read(kind, frame.get_payload_as_memoryview())

    def _assemble(self, kind: WSMsgType, frame: WSFrame) -> bytes | None:
        """The whole message once its last part is here; None before, or when it is none."""
        if kind is not WSMsgType.CONTINUATION:
            if self._parts is not None:
                self.close(CloseCode.PROTOCOL_ERROR, "a new message inside another")
                return None
            self._parts, self._parts_type = bytearray(), kind
        elif self._parts is None:
            self.close(CloseCode.PROTOCOL_ERROR, "a continuation of nothing")
            return None
        self._parts += frame.get_payload_as_bytes()
        if len(self._parts) > frames.MAX_FRAME_BYTES:
            self.close(CloseCode.MESSAGE_TOO_BIG, "frame too large")
            return None
        if not frame.fin:
            return None
        whole, self._parts = bytes(self._parts), None
        return whole

    def _within_rate(self) -> bool:
        now_s = self._host.now_s()
        self._credit = min(FRAMES_BURST, self._credit + (now_s - self._credit_at_s) * FRAMES_PER_S) - 1
        self._credit_at_s = now_s
        return self._credit >= 0

    # Frames in.

    def _read(self, kind: WSMsgType, payload: bytes | memoryview) -> None:
        if (kind is WSMsgType.TEXT) is not self.codec.is_text:
            self.close(CloseCode.UNSUPPORTED_DATA, "wrong kind of frame for this subprotocol")
            return
        if not self.greeted:
            self._read_hello(payload)
            return
        try:
            frame = self.codec.decode(payload)
        except NotAllowed as error:
            # The border found it wrong before anybody acted on it: that frame had no effect, the socket stays.
            self.fail(BadRequest(str(error)) if error.lacks_key else Invalid(str(error)), id=error.id)
            return
        except UnknownFrame as error:
            self.fail(NotFound(f"This gateway knows no frame {error.frame!r}."), id=error.id)
            return
        except Unreadable as error:
            self._count_broken(payload, str(error))
            return
        if self.caller is None:
            self.bye(CloseCode.NO_HELLO, "the frame after hello waits for welcome")
            return
        match frame:
            case frames.PlaceOrder():
                self._in_flight += 1
                self._host.orders.submit(
                    self.caller,
                    sale=frame.sale,
                    sku=frame.sku,
                    quantity=frame.quantity,
                    key=frame.id,
                    answer=partial(self._answered, frame.id),
                    expect_amount_minor=frame.expect_amount_minor,
                    ref=frame.ref,
                    meta=frame.meta,
                )
            case frames.Ping():
                self.send(frames.Pong(now_ms=self._host.now_ms(), id=frame.id))
            case frames.FreshToken():
                self._host.refresh(self, frame.token)
            case frames.Claim():
                self.fail(NotFound("There is no such coupon."), id=frame.id)
            case frames.Hello():
                self.fail(Invalid("The socket has said hello already.", param="t"))

    def _read_hello(self, payload: bytes | memoryview) -> None:
        """The first frame is hello; whatever else it is ends the socket."""
        try:
            frame = self.codec.decode(payload)
        except (NotAllowed, UnknownFrame, Unreadable):
            frame = None
        if isinstance(frame, frames.Hello):
            self.greeted = True
            self._host.greet(self, frame)
        elif self.codec.is_text and not _is_utf8(payload):
            self.close(CloseCode.INVALID_TEXT, "not UTF-8")
        else:
            self.bye(CloseCode.NO_HELLO, "the first frame is hello")

    def _count_broken(self, payload: bytes | memoryview, message: str) -> None:
        if self.codec.is_text and not _is_utf8(payload):
            self.close(CloseCode.INVALID_TEXT, "not UTF-8")
            return
        self._broken += 1
        if self._broken >= BROKEN_FRAMES:
            self.bye(CloseCode.BROKEN_FRAMES, "three broken frames")
        else:
            self.send(frames.Error(code="bad_request", message=message, retryable=False))

    # Answers out.

    def _answered(self, id: str, answer: OrderAnswer | Exception) -> None:
        self._in_flight -= 1
        if self.closing:
            return
        if isinstance(answer, OrderAnswer):
            self.send(_reply(id, answer))
        else:
            self.fail(answer, id=id)
        if self._early:
            states, self._early = self._early, []
            for state in states:
                self.order_changed(state, placed_here=True)

    def order_changed(self, state: bus.LaterState, *, placed_here: bool) -> None:
        """A later state of an order of this viewer. One that overtook its own reply (or the welcome) waits for it."""
        if self.caller is None or (not placed_here and self._in_flight > 0):
            self._early.append(state)
            return
        self.send(
            frames.OrderChanged(
                order=state.order,
                status=state.status,
                pay_by_ms=state.pay_by_ms or None,
                reason=state.reason or None,
            )
        )

    def fail(self, error: Exception, *, id: str | None = None) -> None:
        known = error if isinstance(error, GatewayError) else GatewayError()
        self.send(
            frames.Error(
                code=known.code,
                message=known.message,
                retryable=known.retryable,
                id=id,
                param=known.param,
                retry_after_ms=known.retry_after_ms,
            )
        )

    def send(self, frame: frames.ToViewer) -> None:
        self.send_encoded(self.codec.encode(frame))

    def send_encoded(self, payload: bytes) -> None:
        if self.transport is not None and not self.closing:
            self._put(self.codec.header(len(payload)), payload)

    def _put(self, header: bytes, payload: bytes) -> None:
        if not self._unsent:
            self._host.flush_soon(self)
        self._unsent.append(header)
        self._unsent.append(payload)

    def flush(self) -> None:
        """Writes what was sent since the last flush at once: a call into the kernel costs more than the frames did."""
        transport = self.transport
        if transport is None or not self._unsent:
            return
        unsent, self._unsent = self._unsent, []
        wire = transport.underlying_transport
        wire.write(b"".join(unsent))
        if wire.get_write_buffer_size() > MAX_UNREAD_BYTES:
            self.closing = True
            CLOSED.labels(int(CloseCode.SLOW)).inc()
            # Its buffer is full, so no bye would arrive.
            transport.disconnect(graceful=False)

    # How it ends.

    def admit(self, caller: Caller, welcome: frames.Welcome, snapshot: frames.Snapshot) -> None:
        """The greeting is done: from here on the viewer may act."""
        if self.closing:
            return
        self.caller = caller
        self.send(welcome)
        self.send(snapshot)
        states, self._early = self._early, []
        for state in states:
            self.order_changed(state, placed_here=True)

    def time_token(self, *, warn_in_s: float, warn_of_ms: int, end_in_s: float) -> None:
        """Warns before the token ends and closes when it has; a fresh token starts this anew."""
        self._stop_timers()
        self._later(warn_in_s, lambda: self.send(frames.TokenEnding(in_ms=warn_of_ms)))
        self._later(end_in_s, lambda: self.bye(CloseCode.TOKEN_ENDED, "the token has ended"))

    def _later(self, delay_s: float, act: Callable[[], None]) -> None:
        if not self.closing:
            self._timers.append(asyncio.get_running_loop().call_later(delay_s, act))

    def _stop_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _no_hello(self) -> None:
        if not self.greeted:
            self.bye(CloseCode.NO_HELLO, "no hello in time")

    def bye(self, code: CloseCode, reason: str, *, retry_after_ms: int | None = None) -> None:
        """Says why, then closes."""
        if not self.closing:
            self.send(frames.Bye(code=int(code), reason=reason, retry_after_ms=retry_after_ms))
            self.close(code, reason)

    def close(self, code: CloseCode, reason: str) -> None:
        transport = self.transport
        if transport is None or self.closing:
            return
        self.flush()
        self.closing = True
        CLOSED.labels(int(code)).inc()
        transport.send_close(cast(WSCloseCode, int(code)), reason.encode()[:120])
        self._stop_timers()
        # Closed at once with frames unread, the kernel would reset the connection and the close frame be lost.
        self._timers.append(asyncio.get_running_loop().call_later(LINGER_S, transport.disconnect))


def _reply(id: str, answer: OrderAnswer) -> frames.Reply:
    match answer.outcome:
        case OrderOutcome.RESERVED:
            return frames.Reply(
                id=id,
                outcome="reserved",
                order=answer.order,
                amount_minor=answer.amount_minor,
                replayed=answer.replayed,
            )
        case OrderOutcome.SOLD_OUT:
            return frames.Reply(id=id, outcome="sold_out", left=answer.left, may_return=answer.may_return)
        case OrderOutcome.PRICE_CHANGED:
            return frames.Reply(id=id, outcome="price_changed", amount_minor=answer.amount_minor)
        case OrderOutcome.NOT_STARTED:
            return frames.Reply(id=id, outcome="not_started", opens_at_ms=answer.opens_at_ms)
        case OrderOutcome.TOO_FAST:
            return frames.Reply(id=id, outcome="too_fast", retry_after_ms=answer.retry_after_ms)
        case _:
            return frames.Reply(id=id, outcome=str(answer.outcome))


def _is_utf8(payload: bytes | memoryview) -> bool:
    try:
        str(payload, "utf-8")
    except UnicodeDecodeError:
        return False
    return True
