"""One live socket: connect, frames out, frames in, and how it ended. No reconnect, no task or timer a message.

Generators of load use this layer directly; `Viewer` adds what a person's client needs.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from picows import WSCloseCode, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from gateway.client.codec import Codec, ToViewer
from gateway.client.errors import HandshakeRefused
from gateway.errors import Unsupported
from gateway.wire.close_codes import CloseCode
from gateway.wire.codec import JSON_PROTOCOL

# An adapter instead of a name: from a name picows makes a child logger a connection.
_LOGGER = logging.LoggerAdapter(logging.getLogger("peakgate.client.socket"), {})
# The smallest buffer picows takes; it grows for the rare large frame (a snapshot).
_READ_BUFFER_BYTES = 2048

OnFrame = Callable[["Connection", ToViewer, bytes], None]
OnClose = Callable[["Connection", int, str], None]


class Connection(WSListener):
    """An open socket of one viewer.

    `on_frame` gets every data frame in order with its payload; `on_close` is called exactly once, also after `abort`,
    and nothing is called after it. Sending on a closed connection does nothing: the answer is missing, and what was
    asked is asked again with the same key on the next one.
    """

    __slots__ = ("_closing", "_hello", "_on_close", "_on_frame", "_reason", "_transport", "codec")

    def __init__(self, codec: Codec, on_frame: OnFrame, on_close: OnClose, hello: bytes) -> None:
        self.codec = codec
        self._on_frame = on_frame
        self._on_close = on_close
        self._hello = hello
        self._transport: WSTransport | None = None
        self._closing: int = CloseCode.ABNORMAL
        self._reason = ""

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def send(self, frame: Mapping[str, object]) -> None:
        self.send_encoded(self.codec.encode(frame))

    def send_encoded(self, payload: bytes) -> None:
        if self._transport is not None:
            self._transport.send(self.codec.message_type, payload)

    def order(
        self,
        key: str,
        sale: str,
        sku: str,
        quantity: int = 1,
        *,
        expect_amount_minor: int | None = None,
        meta: object = None,
    ) -> None:
        self.send(order_frame(key, sale, sku, quantity, expect_amount_minor=expect_amount_minor, meta=meta))

    def close(self, code: int = CloseCode.NORMAL) -> None:
        """Say goodbye and hang up; what was already sent still leaves."""
        if self._transport is not None:
            self._closing = code
            self._transport.send_close(WSCloseCode(code))
            self._transport.disconnect()

    def abort(self) -> None:
        """Cut the TCP connection, as a phone in a tunnel does: no close frame, unread answers are lost."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    # What picows calls.

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        # Sent in the pass of the handshake's answer: connecting costs no further turn of the loop.
        transport.send(self.codec.message_type, self._hello)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        kind = frame.msg_type
        if kind is self.codec.message_type:
            payload = frame.get_payload_as_bytes()
            try:
                told = self.codec.read(payload)
            except (msgspec.MsgspecError, ValueError) as error:
                self._fail(CloseCode.INVALID_TEXT, f"unreadable frame: {error}")
                return
            self._on_frame(self, told, payload)
        elif kind is WSMsgType.CLOSE:
            payload = frame.get_payload_as_bytes()
            self._closing = int.from_bytes(payload[:2], "big") if payload else CloseCode.NO_STATUS
            self._reason = payload[2:].decode(errors="replace")
            transport.send_close(frame.get_close_code() if payload else WSCloseCode.OK)
            transport.disconnect()
        elif kind is not WSMsgType.PONG:
            self._fail(CloseCode.UNSUPPORTED_DATA, f"a {kind.name} frame where {self.codec.subprotocol} was agreed")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        self._on_close(self, self._closing, self._reason)

    def _fail(self, code: CloseCode, reason: str) -> None:
        self.close(code)
        self._reason = reason


def order_frame(
    key: str,
    sale: str,
    sku: str,
    quantity: int,
    *,
    expect_amount_minor: int | None = None,
    meta: object = None,
    coupon_claim: str | None = None,
    ref: str | None = None,
    pickup: bool | str | None = None,
) -> dict[str, object]:
    frame: dict[str, object] = {"t": "order", "id": key, "sale": sale, "sku": sku, "quantity": quantity}
    if expect_amount_minor is not None:
        frame["expect_amount_minor"] = expect_amount_minor
    if meta is not None:
        frame["meta"] = meta
    if coupon_claim is not None:
        frame["coupon_claim"] = coupon_claim
    if ref is not None:
        frame["ref"] = ref
    if pickup is not None:
        frame["pickup"] = pickup
    return frame


async def connect(
    live_url: str,
    token: str,
    codec: Codec,
    *,
    on_frame: OnFrame,
    on_close: OnClose,
    pending: Sequence[Mapping[str, str]] = (),
    resume: Mapping[str, object] | None = None,
    within_s: float = 10.0,
    ping_idle_s: float | None = None,
) -> Connection:
    """An open connection whose `hello` is sent; the `welcome` comes as its first frame.

    Raises `HandshakeRefused` when the gateway answers with a status, `OSError` when nobody answers, `TimeoutError` past
    `within_s`. With `ping_idle_s` a socket that stays silent that long twice counts as cut.
    """
    hello: dict[str, Any] = {"t": "hello"}
    if pending:
        hello["pending"] = pending
    if resume is not None:
        hello["resume"] = resume
    attempt = _Attempt(codec, on_frame, on_close, codec.encode(hello))
    try:
        async with asyncio.timeout(within_s):
            transport, listener = await ws_connect(
                attempt.connection,
                live_url.replace("http", "ws", 1) if live_url.startswith("http") else live_url,
                extra_headers={"Sec-WebSocket-Protocol": codec.subprotocol, "Authorization": f"Bearer {token}"},
                websocket_handshake_timeout=within_s,
                logger_name=_LOGGER,
                enable_auto_ping=ping_idle_s is not None,
                auto_ping_idle_timeout=ping_idle_s or 10,
                auto_ping_reply_timeout=ping_idle_s or 10,
                read_buffer_init_size=_READ_BUFFER_BYTES,
                max_redirects=0,
                # The loop's own transport: 5 KB less a socket than the library's, at the same speed.
                use_aiofastnet=False,
            )
    except BaseException as error:
        attempt.is_over = True
        if not isinstance(error, WSHandshakeError):
            raise
        if error.response is None:
            raise ConnectionError(f"The gateway's answer to the upgrade is unreadable: {error}") from error
        raise HandshakeRefused(
            int(error.response.status), retry_after_s=_seconds(error.response.headers.get("Retry-After"))
        ) from error
    if listener is None:
        raise ConnectionResetError("The connection was closed before the upgrade was answered.")
    assert isinstance(listener, Connection)
    agreed = transport.response.headers.get("Sec-WebSocket-Protocol", JSON_PROTOCOL)
    if agreed != codec.subprotocol:
        listener.close(CloseCode.UNSUPPORTED_DATA)
        raise Unsupported(f"Asked for {codec.subprotocol}, the gateway speaks {agreed}.")
    return listener


class _Attempt:
    """One try to connect. An upgrade that is answered after its caller gave up is cut, and tells nobody."""

    __slots__ = ("_arguments", "is_over")

    def __init__(self, codec: Codec, on_frame: OnFrame, on_close: OnClose, hello: bytes) -> None:
        self._arguments = (codec, on_frame, on_close, hello)
        self.is_over = False

    def connection(self) -> WSListener:
        return _Nobody() if self.is_over else Connection(*self._arguments)


class _Nobody(WSListener):
    def on_ws_connected(self, transport: WSTransport) -> None:
        transport.disconnect(graceful=False)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        pass

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        pass


def _seconds(retry_after: str | None) -> float | None:
    """`Retry-After` in seconds; its other form, a date, is not worth a parser to a client that backs off anyway."""
    try:
        return None if retry_after is None else max(0.0, float(retry_after))
    except ValueError:
        return None
