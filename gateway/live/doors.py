"""The doors of a live process: every connection from its first byte until somebody has vouched for it.

Whoever has no token yet costs nothing but a connection, so these are counted: by address and in all. A connection
counts from the moment it is made, a request that never ends too, until its token was good or it is gone.
"""

import asyncio
import random
import socket
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast

import structlog

from gateway.admission.addresses import Addresses
from gateway.live.handshake import MAX_HEAD_BYTES, Answer, Refused, Request, read_request, switching
from gateway.live.socket import Socket
from gateway.live.switchboard import Switchboard
from gateway.metrics import GUESTS, TURNED_AWAY

log = structlog.get_logger(__name__)

# The contract's: no request within this time, no socket.
REQUEST_WITHIN_S = 5.0
# How long who was refused may take to read why.
_LINGER_S = 1.0
# What the kernel holds for a phone that does not read, and doubles. A stalled phone is seen after some 100 KB; the
# kernel's own idea let it take 3.9 MB, which is a minute of a busy room, and gigabytes for a thousand of them.
SEND_BUFFER_BYTES = 32 * 1024
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Accepted:
    socket: Socket
    protocol: str | None
    """The subprotocol that was chosen, if one was offered."""


class Doors:
    """`answer` is asked once a request is read, and decides without awaiting."""

    def __init__(
        self,
        *,
        answer: Callable[[Request, "Guest"], Answer | Accepted],
        board: Switchboard,
        addresses: Addresses,
        per_address: int,
        in_all: int,
    ) -> None:
        self.answer = answer
        self.board = board
        self.addresses = addresses
        self._per_address = per_address
        self._in_all = in_all
        self._by_address: dict[str, int] = {}
        self._count = 0

    async def open(self, host: str, port: int, *, shared: bool) -> asyncio.Server:
        """`shared`: several processes listen on one port, and the kernel spreads the connections over them."""
        server = await asyncio.get_running_loop().create_server(
            lambda: Guest(self), host, port, reuse_port=shared or None, backlog=4096
        )
        for listening in server.sockets:
            # Every connection made here inherits it.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        return server

    # What guests tell.

    def met(self) -> bool:
        """False when there are so many that it cannot even be asked what it wants."""
        self._count += 1
        GUESTS.inc()
        if self._count > 2 * self._in_all:
            TURNED_AWAY.labels("unasked").inc()
        return self._count <= 2 * self._in_all

    def comes_from(self, address: str) -> None:
        self._by_address[address] = self._by_address.get(address, 0) + 1

    def vouched(self, address: str | None) -> None:
        self._count -= 1
        GUESTS.dec()
        if address is not None:
            left = self._by_address.pop(address) - 1
            if left:
                self._by_address[address] = left

    def crowded(self, address: str | None) -> Answer | None:
        """With a time after which those who are here now are vouched for or gone."""
        if address is not None and self._by_address[address] > self._per_address:
            TURNED_AWAY.labels("address").inc()
            return Answer(HTTPStatus.TOO_MANY_REQUESTS, b"too many from this address", retry_after(2, 6))
        if self._count > self._in_all:
            TURNED_AWAY.labels("all").inc()
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many at once", retry_after(2, 6))
        return None


class Guest(asyncio.Protocol):
    """A connection until it has a socket, and what counts of it until that was vouched for."""

    __slots__ = ("_answered", "_doors", "_head", "_transport", "address", "counted", "placed")

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._head = bytearray()
        self._transport: asyncio.Transport | None = None
        self._answered = False
        self.counted = False
        self.address: str | None = None
        """Where it counts; behind a trusted proxy nowhere before its request was read."""
        self.placed = 0

    def vouched(self) -> None:
        """It has shown a good token, or is gone: it counts no more."""
        if self.counted:
            self.counted = False
            self._doors.vouched(self.address)

    def crowded(self) -> Answer | None:
        """Why it gets no socket although nothing is wrong with it."""
        return self._doors.crowded(self.address) if self.counted else None

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        doors, self._transport, self.counted = self._doors, cast(asyncio.Transport, transport), True
        if not doors.met():
            self._transport.abort()
            return
        peer = _peer(self._transport)
        if not doors.addresses.trusts(peer):
            self._counts_at(doors.addresses.of(peer, ()))
        doors.board.wheel.place(self, doors.board.now_s() + REQUEST_WITHIN_S)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._doors.board.wheel.remove(self)
        self.vouched()

    def data_received(self, data: bytes) -> None:
        transport, head = self._transport, self._head
        if transport is None or self._answered:
            return
        seen = max(0, len(head) - len(_HEAD_END) + 1)
        head += data
        end = head.find(_HEAD_END, seen)
        if end > MAX_HEAD_BYTES or (end < 0 and len(head) > MAX_HEAD_BYTES):
            self._dismiss(transport, Answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, b"too large"))
        elif end >= 0:
            self._head = bytearray()
            self._asks(transport, bytes(head[:end]), bytes(head[end + len(_HEAD_END) :]))

    def look(self, now_s: float) -> None:
        """The request took too long, however busily it trickled; or the refusal was not read."""
        if self._transport is not None:
            self._transport.abort()

    # The request.

    def _asks(self, transport: asyncio.Transport, head: bytes, behind: bytes) -> None:
        try:
            request = read_request(head)
            if self.address is None:
                self._counts_at(self._doors.addresses.of(_peer(transport), request.lines("x-forwarded-for")))
            answer = self._doors.answer(request, self)
            if isinstance(answer, Answer):
                self._dismiss(transport, answer)
                return
            word = request.accept()
        except Refused as error:
            self._dismiss(transport, error.answer)
            return
        except Exception:
            log.exception("door_broke")
            self._dismiss(transport, Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"internal"))
            return
        self._answered, self._transport = True, None
        self._doors.board.wheel.remove(self)
        transport.write(switching(word, answer.protocol))
        answer.socket.begin(transport, behind)

    def _dismiss(self, transport: asyncio.Transport, answer: Answer) -> None:
        """Not closed at once: with anything unread the kernel would reset the connection, and the answer be lost."""
        self._answered = True
        self._head = bytearray()
        transport.write(answer.encode())
        transport.write_eof()
        self._doors.board.wheel.place(self, self._doors.board.now_s() + _LINGER_S)

    def _counts_at(self, address: str) -> None:
        self.address = address
        self._doors.comes_from(address)


def _peer(transport: asyncio.Transport) -> str:
    """Empty of a Unix socket."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""


def retry_after(least_s: int, most_s: int) -> tuple[tuple[str, str], ...]:
    """Not all at once."""
    return (("Retry-After", str(random.randint(least_s, most_s))),)
