"""Echo servers for the suite: ours on the gateway's own socket and doors, and aiohttp's as it comes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from aiohttp import WSMsgType, web

from gateway.admission.addresses import Addresses
from gateway.live.doors import Accepted, Doors, Guest
from gateway.live.handshake import Answer, Request
from gateway.live.socket import Socket
from gateway.live.switchboard import Switchboard
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
    server = await asyncio.get_running_loop().create_server(runner.server, HOST, 0)
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
    "aiohttp": aiohttp_echo,
}
