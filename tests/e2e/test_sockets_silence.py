"""Connections that broke without a word, on real TCP; only the clock is moved by hand."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest

from gateway.admission.addresses import Addresses
from gateway.live.doors import Accepted, Doors, Guest
from gateway.live.handshake import Answer, Request
from gateway.live.socket import GONE_AFTER_S, LINGER_S, PING_AFTER_S, Socket
from gateway.live.switchboard import Switchboard
from gateway.wire.close_codes import CloseCode
from gateway.wire.codec import MSGPACK
from tests.support.fake_clock import ShiftedClock
from tests.support.raw_wire import BINARY, CLOSE, PING, PONG, RawWire, frame, raw_wire, request
from tests.support.servers import eventually


class Held(Socket):
    """Echoes, and remembers its end."""

    max_message_bytes = 4096
    has_ended = False

    def opened(self) -> None:
        self.vouched()

    def closed(self) -> None:
        self.has_ended = True

    def received(self, payload: bytes, is_text: bool) -> None:
        self.put(MSGPACK.header(len(payload)), payload)

    async def ended(self) -> bool:
        return self.has_ended


@dataclass
class Place:
    url: str
    clock: ShiftedClock
    sockets: list[Held] = field(default_factory=list)

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[tuple[RawWire, Held]]:
        async with raw_wire(self.url) as wire:
            wire.send(request("/"))
            assert (await wire.answer()).status == 101
            yield wire, self.sockets[-1]


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    clock = ShiftedClock()
    board = Switchboard(clock.monotonic)

    def answer(request: Request, guest: Guest) -> Answer | Accepted:
        place.sockets.append(Held(board, guest))
        return Accepted(place.sockets[-1], protocol=None)

    doors = Doors(answer=answer, board=board, addresses=Addresses(), per_address=1000, in_all=1000)
    server = await doors.open("127.0.0.1", 0, shared=False)
    place = Place(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", clock)
    yield place
    server.close()
    for held in place.sockets:
        if held.transport is not None:
            held.transport.abort()
        await eventually(held.ended)


async def test_who_is_silent_is_pinged_and_gone_within_a_minute(place: Place) -> None:
    async with place.entered() as (wire, held):
        place.clock.advance(PING_AFTER_S + 0.1)
        assert await wire.frame() == (PING, b"")
        assert not held.has_ended
        place.clock.advance(GONE_AFTER_S - PING_AFTER_S)
        await eventually(held.ended)
        # Whoever is not there cannot be told: no close frame.
        assert await wire.rest(2) == b""


async def test_who_answers_stays_however_long(place: Place) -> None:
    async with place.entered() as (wire, held):
        for _ in range(8):
            place.clock.advance(PING_AFTER_S + 0.1)
            assert await wire.frame() == (PING, b"")
            wire.send(frame(PONG, b""), frame(BINARY, b"here"))
            assert await wire.frame() == (BINARY, b"here")
        assert not held.has_ended


async def test_whoever_speaks_is_not_pinged(place: Place) -> None:
    async with place.entered() as (wire, held):
        for at in range(12):
            place.clock.advance(15)
            said = str(at).encode()
            wire.send(frame(BINARY, said))
            assert await wire.frame() == (BINARY, said)
        assert not held.has_ended


async def test_a_crowd_that_came_at_once_is_not_pinged_at_once(place: Place) -> None:
    async with AsyncExitStack() as open_ends:
        for _ in range(60):
            await open_ends.enter_async_context(place.entered())
        assert len({held.placed for held in place.sockets}) > 8


async def test_a_closed_socket_is_not_read_for_ever(place: Place) -> None:
    async with place.entered() as (wire, held):
        held.close(CloseCode.ROOM_ENDED, "over")
        assert await wire.frame() == (CLOSE, (4504).to_bytes(2, "big") + b"over")
        place.clock.advance(LINGER_S + 0.1)
        assert await wire.rest(2) == b""
        await eventually(held.ended)


@pytest.mark.parametrize("says_goodbye", [False, True])
async def test_a_closed_socket_does_not_wait_for_ever_for_who_does_not_read(place: Place, says_goodbye: bool) -> None:
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    end.setblocking(False)
    try:
        loop = asyncio.get_running_loop()
        host, port = place.url.removeprefix("ws://").split(":")
        await loop.sock_connect(end, (host, int(port)))
        await loop.sock_sendall(end, request("/"))

        async def entered() -> bool:
            return bool(place.sockets)

        await eventually(entered)
        held = place.sockets[0]
        while not held.behind:
            held.give(b"x" * 16_384)
        if says_goodbye:
            await loop.sock_sendall(end, frame(CLOSE, b"\x03\xe8"))
        else:
            held.close(CloseCode.ROOM_ENDED, "over")

        async def is_closing() -> bool:
            return held.closing

        await eventually(is_closing)
        # Time for the linger, then for the last bytes; each begins when the wheel has asked.
        place.clock.advance(1)
        await eventually(lambda: _closes(held))
        assert not held.has_ended, "what is unsent may still go"
        place.clock.advance(10)
        await eventually(held.ended)
    finally:
        end.close()


async def _closes(held: Held) -> bool:
    return held.transport is None or held.transport.is_closing()


async def test_who_does_not_read_is_cut_once_too_much_waits(place: Place) -> None:
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
    end.setblocking(False)
    try:
        loop = asyncio.get_running_loop()
        host, port = place.url.removeprefix("ws://").split(":")
        await loop.sock_connect(end, (host, int(port)))
        await loop.sock_sendall(end, request("/"))

        async def entered() -> bool:
            return bool(place.sockets)

        await eventually(entered)
        held, given = place.sockets[0], 0
        while not held.has_ended:
            held.put(MSGPACK.header(4096), b"x" * 4096)
            held.flush()
            given += 4096
            await asyncio.sleep(0)
            assert given < 1_000_000, "both kernels hold a few hundred kilobytes at most"
    finally:
        end.close()
