"""A WebSocket below the contract: what leaves it, what it waits for, and how it ends."""

import asyncio
import math
import os
import random
from typing import ClassVar, Protocol

from gateway.live.frame import FIN, PING, Opcode, answer_to_close, close_frame
from gateway.live.incoming import Incoming
from gateway.live.switchboard import Switchboard
from gateway.metrics import CLOSED
from gateway.wire.close_codes import CloseCode

# Whoever is silent is pinged, and still silent it is gone: found within a minute, wherever the connection broke.
PING_AFTER_S, GONE_AFTER_S = 25.0, 55.0
# So that a crowd that entered in one second is not pinged in one second ever after.
_PING_SPREAD_S = 5.0
# How long a closed socket may still be read to its end; the peer's own close ends it sooner.
LINGER_S = 0.5
# How long the last bytes may then wait for a peer that does not read.
_PARTING_S = 5.0


class Counted(Protocol):
    """What the doors know of a connection."""

    def vouched(self) -> None: ...


class Socket(Incoming):
    """From the upgrade to the end. It never awaits. A subclass says what a message means: `opened`, `received`,
    `closed`, and `timed` for what it has to do at a time."""

    __slots__ = ("_board", "_fd", "_guest", "_spare", "_unsent", "behind", "placed", "transport")

    max_unread_bytes: ClassVar[int] = 64 * 1024
    """What may wait for a phone that does not read: answers to orders are small, so this is hundreds of them."""

    def __init__(self, board: Switchboard, guest: Counted | None = None) -> None:
        super().__init__()
        self._board = board
        self._guest = guest
        self.transport: asyncio.Transport | None = None
        self.placed = 0
        self.behind = False
        """Whether something waits here because the peer does not read as fast as it is told."""
        self._fd = -1
        self._spare = 0
        """What may wait beyond the limits: the largest piece it was given since it read everything. A room may be
        larger than a phone can take at once, and to be shown it is no slowness."""
        self._unsent: list[bytes] = []

    # What a subclass says.

    def opened(self) -> None:
        raise NotImplementedError

    def closed(self) -> None:
        """The connection is gone. Called once, after `opened`."""
        raise NotImplementedError

    def timed(self, now_s: float) -> float:
        """Does what is due by the contract and says when there is more, in seconds of the same clock."""
        return math.inf

    def lags(self, unread_bytes: int) -> None:
        """So much waits for a peer that reads too slowly; 0: it has caught up."""

    # What the transport and the doors say.

    def begin(self, transport: asyncio.Transport, first: bytes) -> None:
        """The upgrade is answered; `first` came behind its request."""
        self.transport = transport
        transport.set_protocol(self)
        self._fd = transport.get_extra_info("socket").fileno()
        self.heard_s = self._board.now_s()
        self.opened()
        self.look_again()
        if first:
            self.data_received(first)

    def connection_lost(self, error: Exception | None) -> None:
        self.closing = True
        self.transport = None
        self.deafen()
        self._unsent = []
        self._board.wheel.remove(self)
        self.vouched()
        self.closed()

    def vouched(self) -> None:
        """Its token was good, or it is gone: the doors count it no more."""
        guest, self._guest = self._guest, None
        if guest is not None:
            guest.vouched()

    # What comes in and concerns no contract.

    def now_s(self) -> float:
        return self._board.now_s()

    def pinged(self, payload: bytes) -> None:
        self.put(bytes((FIN | Opcode.PONG, len(payload))), payload)

    def peer_closed(self, payload: bytes) -> None:
        transport = self.transport
        if transport is None:
            return
        if not self.closing:
            code = answer_to_close(payload)
            self.flush()
            self.closing = True
            transport.write(close_frame(code, b""))
        # Both have said close. What is unsent may still go, but not for ever.
        transport.close()
        self._board.wheel.place(self, self._board.now_s() + _PARTING_S)

    def broken(self, code: CloseCode, why: str) -> None:
        self.close(code, why)

    def flooded(self) -> None:
        self.close(CloseCode.TOO_MANY_FRAMES, "too many frames")

    # Frames out.

    def put(self, header: bytes, payload: bytes) -> None:
        """A frame; it leaves with all others of this moment."""
        if not self._unsent:
            self._board.flush_soon(self)
        self._unsent.append(header)
        self._unsent.append(payload)

    def flush(self) -> None:
        """Writes what was put since the last flush at once: a call into the kernel costs more than the frames did."""
        transport = self.transport
        if transport is None or self.closing or not self._unsent:
            return
        unsent, self._unsent = self._unsent, []
        transport.write(b"".join(unsent))
        unread_bytes = transport.get_write_buffer_size()
        was_behind, self.behind = self.behind, unread_bytes > 0
        if not self.behind:
            self._spare = 0
            if was_behind:
                # What a crowd is given does not ask any more once nothing waits.
                self.lags(0)
        if unread_bytes > self.max_unread_bytes + self._spare:
            # Its buffer is full, so no bye would arrive.
            self._give_up(transport, CloseCode.SLOW)

    def give(self, data: bytes) -> None:
        """Whole frames that a crowd is given, in their order among what is put.

        Written to the socket itself, past the transport, as long as nothing waits in that: a fifth of what such a write
        costs is saved, and in a crowd it is what everything costs.
        """
        transport = self.transport
        if transport is None or self.closing:
            return
        if self._unsent:
            self._unsent.append(data)
            self._spare = max(self._spare, len(data))
            return
        if not self.behind:
            try:
                sent = os.write(self._fd, data)
            except BlockingIOError:
                sent = 0
            except OSError:
                return  # the reading side hears of it
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)
        unread_bytes = transport.get_write_buffer_size()
        self.behind = unread_bytes > 0
        self._spare = max(self._spare, len(data)) if self.behind else 0
        self.lags(max(1, unread_bytes - self._spare) if self.behind else 0)

    # Time, and how it ends.

    def look_again(self) -> None:
        """What `timed` waits for has changed."""
        if self.transport is not None and not self.closing:
            again_s = self.look(self._board.now_s())
            if again_s is not None:
                self._board.wheel.place(self, again_s)

    def look(self, now_s: float) -> float | None:
        """The wheel's question."""
        transport = self.transport
        if transport is None:
            return None
        if self.closing:
            if transport.is_closing():
                transport.abort()
                return None
            transport.close()
            return now_s + _PARTING_S
        due_s = self.timed(now_s)
        if self.closing:
            return now_s + LINGER_S
        return min(due_s, self._prove_life(transport, now_s))

    def _prove_life(self, transport: asyncio.Transport, now_s: float) -> float:
        silent_s = now_s - self.heard_s
        if silent_s >= GONE_AFTER_S:
            self._give_up(transport, CloseCode.ABNORMAL)
            return math.inf
        sooner_s = random.random() * _PING_SPREAD_S
        if silent_s < PING_AFTER_S - _PING_SPREAD_S:
            return self.heard_s + PING_AFTER_S - sooner_s
        self.put(PING, b"")
        return min(now_s + PING_AFTER_S - sooner_s, self.heard_s + GONE_AFTER_S)

    def close(self, code: CloseCode, reason: str) -> None:
        transport = self.transport
        if transport is None or self.closing:
            return
        self.flush()
        if self.closing:
            return
        self.closing = True
        CLOSED.labels(int(code)).inc()
        transport.write(close_frame(int(code), reason.encode()))
        # Closed at once with frames unread, the kernel would reset the connection and the close frame be lost.
        self._board.wheel.place(self, self._board.now_s() + LINGER_S)

    def _give_up(self, transport: asyncio.Transport, code: CloseCode) -> None:
        """Without a word, which would not arrive."""
        self.closing = True
        CLOSED.labels(int(code)).inc()
        transport.abort()
