"""The process that hosts one rival behind WebSockets, on picows and the same event loop as Peakgate's own.

Frames are JSON: `{t:"order", id, sale, sku, quantity}` in, `{t:"reply", id, outcome, order}` back once the order is
committed. The last part of the socket's path is the viewer. There is no login, no room, no tick and no other frame:
what is measured is the way of an order, not the rest of a gateway.

It reads one JSON `Hosting` from its first line of input, prints `{"ready": true, "port": P}`, and ends with SIGTERM.
"""

import asyncio
import gc
import signal
import sys
from typing import Literal, assert_never

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from .one_transaction import OneTransaction
from .queue_unnest import QueueUnnest
from .rivals import LIMIT_PER_VIEWER, Order, Reply, Rival
from .script_and_insert import ScriptAndInsert

RivalName = Literal[
    "one_transaction", "one_statement", "script_and_insert", "queue_unnest_bare", "queue_unnest_guarded"
]


class Hosting(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which rival, and where its servers are."""

    rival: RivalName
    database_url: str
    valkey_url: str
    worker: int = 0
    port: int = 0


_decode = msgspec.json.Decoder(Order).decode
_encode = msgspec.json.Encoder().encode


class ViewerSocket(WSListener):
    """One viewer. Answers to a socket that is gone are dropped: the ledger has them."""

    def __init__(self, name: str, rival: Rival) -> None:
        self.name = name
        self._rival = rival
        self._transport: WSTransport | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is WSMsgType.TEXT:
            self._rival.take(_decode(frame.get_payload_as_memoryview()), self)
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None

    def answer(self, reply: Reply) -> None:
        if self._transport is not None:
            self._transport.send(WSMsgType.TEXT, _encode(reply))


def build(hosting: Hosting) -> Rival:
    match hosting.rival:
        case "one_transaction" | "one_statement":
            return OneTransaction(
                database_url=hosting.database_url,
                worker=hosting.worker,
                one_statement=hosting.rival == "one_statement",
            )
        case "script_and_insert":
            return ScriptAndInsert(
                database_url=hosting.database_url,
                valkey_url=hosting.valkey_url,
                worker=hosting.worker,
                limit_per_viewer=LIMIT_PER_VIEWER,
            )
        case "queue_unnest_bare" | "queue_unnest_guarded":
            return QueueUnnest(
                database_url=hosting.database_url,
                worker=hosting.worker,
                guarded=hosting.rival == "queue_unnest_guarded",
            )
        case _:
            assert_never(hosting.rival)


async def serve(hosting: Hosting) -> None:
    rival = build(hosting)
    await rival.start()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)

    def admit(request: WSUpgradeRequest) -> ViewerSocket:
        return ViewerSocket(request.path.rsplit(b"/", 1)[-1].decode(), rival)

    server = await ws_create_server(admit, "127.0.0.1", hosting.port, backlog=1024)
    gc.collect()
    gc.freeze()
    port = server.sockets[0].getsockname()[1]
    print(msgspec.json.encode({"ready": True, "port": port}).decode(), flush=True)
    await stopped.wait()
    server.close()
    await rival.stop()


def main() -> None:
    hosting = msgspec.json.decode(sys.stdin.readline(), type=Hosting)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(hosting))


if __name__ == "__main__":
    main()
