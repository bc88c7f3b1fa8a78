"""A live socket that does what a test tells it: real sockets, real frames, answers by script.

It speaks both codecs by the gateway's own table of protocols, so that a client meets the other side's reading.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import picows

from gateway.wire.codec import BY_PROTOCOL, JSON_PROTOCOL


class ScriptedSocket(picows.WSListener):
    """One accepted socket: what it was told, and the means to answer or to cut it."""

    def __init__(self, server: "ScriptedServer", token: str, protocol: str) -> None:
        self.server = server
        self.token = token
        self.protocol = protocol
        self.received: list[dict[str, Any]] = []
        self.closed = asyncio.Event()
        self.transport: picows.WSTransport

    @property
    def hello(self) -> dict[str, Any]:
        return self.received[0]

    def orders(self) -> list[dict[str, Any]]:
        return [frame for frame in self.received if frame["t"] == "order"]

    def send(self, frame: dict[str, Any]) -> None:
        codec = BY_PROTOCOL[self.protocol]
        encode = msgspec.json.encode if codec.is_text else msgspec.msgpack.encode
        self.transport.send(picows.WSMsgType.TEXT if codec.is_text else picows.WSMsgType.BINARY, encode(frame))

    def welcome(self, **fields: Any) -> None:
        self.send({"t": "welcome", "you": "vw_1", "epoch": 1, "seq": 0, "now_ms": 0, "recovered": False, **fields})

    def reserved(self, key: str, order: str, **fields: Any) -> None:
        self.send({"t": "reply", "id": key, "outcome": "reserved", "order": order, "amount_minor": 1900, **fields})

    def close(self, code: int, reason: str = "") -> None:
        self.transport.send_close(picows.WSCloseCode(code), reason.encode())
        self.transport.disconnect()

    def cut(self) -> None:
        self.transport.disconnect(graceful=False)

    # What picows calls.

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        if frame.msg_type is picows.WSMsgType.CLOSE:
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        decode = msgspec.json.decode if BY_PROTOCOL[self.protocol].is_text else msgspec.msgpack.decode
        told = decode(payload)
        assert len(payload) <= 4096, "a viewer's frames are at most 4 KiB"
        self.received.append(told)
        self.server.frames.put_nowait((self, told))
        self.server.script(self, told)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        self.closed.set()


Script = Callable[[ScriptedSocket, dict[str, Any]], None]


def welcoming(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
    """Answers every `hello` and nothing else."""
    if frame["t"] == "hello":
        socket.welcome()


class ScriptedServer:
    """`refusals` are answered to the next upgrades, one each; then sockets are accepted and run `script`."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.refusals: list[tuple[int, dict[str, str]]] = []
        self.upgrades: list[float] = []
        self.sockets: list[ScriptedSocket] = []
        self.frames: asyncio.Queue[tuple[ScriptedSocket, dict[str, Any]]] = asyncio.Queue()
        self.url = ""

    def accept(self, request: picows.WSUpgradeRequest) -> picows.WSUpgradeResponseWithListener:
        self.upgrades.append(asyncio.get_running_loop().time())
        if self.refusals:
            status, headers = self.refusals.pop(0)
            return picows.WSUpgradeResponseWithListener(
                picows.WSUpgradeResponse.create_error_response(status, b"{}", headers), None
            )
        protocol = request.headers.get("Sec-WebSocket-Protocol", JSON_PROTOCOL)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        socket = ScriptedSocket(self, token, protocol)
        self.sockets.append(socket)
        response = picows.WSUpgradeResponse.create_101_response({"Sec-WebSocket-Protocol": protocol})
        return picows.WSUpgradeResponseWithListener(response, socket)

    async def next_frame(self, kind: str, *, within_s: float = 5.0) -> tuple[ScriptedSocket, dict[str, Any]]:
        """The next frame of this kind that any socket receives; frames of other kinds before it are passed over."""
        async with asyncio.timeout(within_s):
            while True:
                socket, frame = await self.frames.get()
                if frame["t"] == kind:
                    return socket, frame


@asynccontextmanager
async def scripted_server(script: Script = welcoming) -> AsyncIterator[ScriptedServer]:
    server = ScriptedServer(script)
    listening = await picows.ws_create_server(server.accept, "127.0.0.1", 0, use_aiofastnet=False)
    server.url = f"ws://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/rooms/room_1/live"
    try:
        yield server
    finally:
        for socket in server.sockets:
            socket.cut()
        listening.close()
        await listening.wait_closed()
