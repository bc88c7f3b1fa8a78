"""Echo servers, for the suite and for `loadtests.bench.socket_servers`.

Ours on the gateway's own socket and doors; picows as lean as it is to be had, with what it leaves to its user done
here; aiohttp as it comes, without compression.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import picows
from aiohttp import WSMsgType, web

from gateway.admission.addresses import Addresses
from gateway.live.doors import Accepted, Doors, Guest
from gateway.live.frame import Broken, answer_to_close
from gateway.live.handshake import Answer, Request
from gateway.live.message import PartialMessage
from gateway.live.socket import Socket
from gateway.live.switchboard import Switchboard
from gateway.wire.close_codes import CloseCode
from gateway.wire.codec import JSON, MSGPACK

HOST = "127.0.0.1"
# The suite's largest message outside its chapter on limits has 65,536 bytes.
MAX_MESSAGE_BYTES = 1024 * 1024


class Echo(Socket):
    """The gateway's socket with another meaning of a message."""

    __slots__ = ()

    max_message_bytes = MAX_MESSAGE_BYTES
    max_unread_bytes = 2 * MAX_MESSAGE_BYTES

    def opened(self) -> None:
        self.vouched()

    def closed(self) -> None:
        pass

    def received(self, payload: bytes, is_text: bool) -> None:
        codec = JSON if is_text else MSGPACK
        self.put(codec.header(len(payload)), payload)


@asynccontextmanager
async def peakgate_echo() -> AsyncIterator[int]:
    board = Switchboard(time.monotonic)

    def answer(request: Request, guest: Guest) -> Answer | Accepted:
        return Accepted(Echo(board, guest), protocol=None)

    doors = Doors(answer=answer, board=board, addresses=Addresses(), per_address=1000, in_all=1000)
    server = await doors.open(HOST, 0, shared=False)
    try:
        yield _port(server)
    finally:
        server.close()


class PicowsEcho(picows.WSListener):
    """Messages in parts, UTF-8 and close codes are its user's to judge: by the gateway's own rules here."""

    __slots__ = ("_partial",)

    def __init__(self) -> None:
        self._partial: PartialMessage | None = None

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        kind = frame.msg_type
        if transport.is_close_frame_sent or kind is picows.WSMsgType.PONG:
            return
        payload = frame.get_payload_as_bytes()
        try:
            if frame.rsv1 or frame.rsv2 or frame.rsv3:
                raise Broken(CloseCode.PROTOCOL_ERROR, "reserved bits without an extension")
            if kind is picows.WSMsgType.CLOSE:
                transport.send_close(picows.WSCloseCode(answer_to_close(payload)))
                transport.disconnect()
            elif kind is picows.WSMsgType.CONTINUATION or not frame.fin or self._partial is not None:
                self._add(transport, kind, payload, final=frame.fin)
            else:
                if kind is picows.WSMsgType.TEXT:
                    payload.decode()
                transport.send(kind, payload)
        except (Broken, UnicodeDecodeError) as error:
            code = error.code if isinstance(error, Broken) else CloseCode.INVALID_TEXT
            transport.send_close(picows.WSCloseCode(code))
            transport.disconnect()

    def _add(self, transport: picows.WSTransport, kind: picows.WSMsgType, payload: bytes, *, final: bool) -> None:
        if (kind is picows.WSMsgType.CONTINUATION) != (self._partial is not None):
            raise Broken(CloseCode.PROTOCOL_ERROR, "no part of this message")
        partial = self._partial
        if partial is None:
            partial = PartialMessage(is_text=kind is picows.WSMsgType.TEXT)
        partial.add(payload, final=final)
        self._partial = None if final else partial
        if final:
            transport.send(picows.WSMsgType.TEXT if partial.is_text else picows.WSMsgType.BINARY, partial.whole())


@asynccontextmanager
async def picows_echo() -> AsyncIterator[int]:
    quiet = logging.getLogger("picows.echo")
    quiet.setLevel(logging.CRITICAL)
    server = await picows.ws_create_server(
        lambda request: PicowsEcho(),
        HOST,
        0,
        max_frame_size=MAX_MESSAGE_BYTES,
        # Of what it does by default, a buffer of 16 KB, a logger and a transport of its own cost 15 KB a connection.
        read_buffer_init_size=2048,
        logger_name=logging.LoggerAdapter(quiet),
        use_aiofastnet=False,
        backlog=4096,
    )
    try:
        yield _port(server)
    finally:
        server.close()


@asynccontextmanager
async def aiohttp_echo() -> AsyncIterator[int]:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(compress=False, max_msg_size=MAX_MESSAGE_BYTES)
        await ws.prepare(request)
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(runner.server, HOST, 0, backlog=4096)
    try:
        yield _port(server)
    finally:
        server.close()
        await runner.cleanup()


def _port(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port


SERVERS: dict[str, Callable[[], AbstractAsyncContextManager[int]]] = {
    "peakgate": peakgate_echo,
    "picows": picows_echo,
    "aiohttp": aiohttp_echo,
}
