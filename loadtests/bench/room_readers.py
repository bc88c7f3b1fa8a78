"""Many raw sockets in one process: how they come in, read, end and come back."""

import contextlib
import errno
import heapq
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from gateway.client.backoff import Backoff

from .room_messages import Arrived, Crowd
from .room_tally import Tally
from .room_wire import CLOSE, MARK, PING, PONG, WELCOMED, first_frames, frame, upgrade

SAMPLED = 64
"""Viewers of whom every frame is read for its latency: enough for a 99th percentile of each of them together."""
BUFFER_BYTES = 1 << 18
ARRIVING_AT_ONCE = 256
STALLED_RECEIVE_BYTES = 4096
"""Of a viewer who never reads: the kernel's default would hide the stall for megabytes."""

_ASKED_S, _ASKED_MS = re.compile(rb"(?i)retry-after: *(\d+)"), re.compile(rb'"retry_after_ms":(\d+)')
_SEQ, _EPOCH = re.compile(rb'"seq":(\d+)'), re.compile(rb'"epoch":(\d+)')

AWAY, CONNECTING, UPGRADING, GREETING, PRESENT = range(5)


class Viewer:
    """One socket and what is known of it."""

    __slots__ = (
        "asked",
        "at",
        "comments",
        "cut_at",
        "failures",
        "head",
        "number",
        "rest",
        "sampled",
        "sock",
        "stalled",
        "state",
    )

    def __init__(self, number: int, *, stalled: bool) -> None:
        self.number = number
        self.stalled = stalled
        self.sampled = False
        self.sock: socket.socket | None = None
        self.state = AWAY
        self.rest = b""
        self.comments = 0
        self.asked = 0
        """Comments sent from here whose answer has not come; only then is a frame searched for one."""
        self.failures = 0
        self.cut_at = 0.0
        self.head = b""
        """The beginning of the last frame with a number, which is where to resume."""
        self.at: tuple[int, int] | None = None


class Readers:
    """All viewers of this process. Each round of `turn` serves whatever is ready, and asks nobody to wait."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._tokens: list[str] = []
        if crowd.tokens is not None:
            lines = Path(crowd.tokens).read_text().splitlines()
            self._tokens = lines[crowd.tokens_from : crowd.tokens_from + crowd.viewers]
        self._paths = Path(crowd.paths).read_text().splitlines() if crowd.paths is not None else [crowd.path]
        self.viewers = [Viewer(number, stalled=number < crowd.stalled) for number in range(crowd.viewers)]
        healthy = self.viewers[crowd.stalled :]
        for viewer in healthy[:: max(1, len(healthy) // SAMPLED)]:
            viewer.sampled = True
        self.present = 0
        self.tally = Tally()
        self._epoll = select.epoll()
        self._by_fd: dict[int, Viewer] = {}
        self._others: dict[int, Callable[[], None]] = {}
        self._buffer = bytearray(BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self._backoff = Backoff(cap_s=5.0)
        self._coming: deque[Viewer] = deque(self.viewers)
        self._waiting: list[tuple[float, int]] = []
        self._arriving = 0
        self._next_arrival = 0.0

    def count_anew(self) -> None:
        self.tally = Tally()
        for viewer in self.viewers:
            viewer.comments = 0

    def also(self, fd: int, ready: Callable[[], None]) -> None:
        """Serve another file with the same `epoll`."""
        self._others[fd] = ready
        self._epoll.register(fd, select.EPOLLIN)

    def no_longer(self, fd: int) -> None:
        del self._others[fd]
        self._epoll.unregister(fd)

    # Coming in.

    def arrive(self) -> Arrived:
        started = time.monotonic()
        self._next_arrival = started
        while self.present < self._crowd.viewers:
            self.turn(0.05)
            if time.monotonic() - started > 60 + self._crowd.viewers / 200:
                break
        return Arrived(welcomed=self.present, took_s=time.monotonic() - started, refused=self.tally.refused)

    def _let_in(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            # Whoever comes back has waited its own time: nobody paces a crowd that was thrown out.
            self._connect(self.viewers[heapq.heappop(self._waiting)[1]])
        step = 1 / self._crowd.join_rate
        if self._next_arrival < now - 0.2:
            self._next_arrival = now
        while self._coming and self._arriving < ARRIVING_AT_ONCE and self._next_arrival <= now:
            self._next_arrival += step
            self._connect(self._coming.popleft())

    def _connect(self, viewer: Viewer) -> None:
        sock = socket.socket()
        sock.setblocking(False)
        if viewer.stalled:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, STALLED_RECEIVE_BYTES)
        if self._crowd.addresses > 1:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((f"127.0.0.{2 + viewer.number % self._crowd.addresses}", 0))
        viewer.sock, viewer.state, viewer.rest = sock, CONNECTING, b""
        self._arriving += 1
        code = sock.connect_ex(("127.0.0.1", self._crowd.port))
        if code not in (0, errno.EINPROGRESS):
            self.end(viewer)
            return
        self._by_fd[sock.fileno()] = viewer
        self._epoll.register(sock.fileno(), select.EPOLLOUT)

    def _ask(self, viewer: Viewer) -> None:
        """Connected: ask for the upgrade."""
        crowd = self._crowd
        token = self._tokens[viewer.number] if self._tokens else None
        path = self._paths[viewer.number % len(self._paths)]
        if self._send(viewer, upgrade(path, subprotocol=crowd.subprotocol, token=token)):
            viewer.state = UPGRADING
            self._epoll.modify(viewer.sock.fileno(), select.EPOLLIN)  # type: ignore[union-attr]

    def _upgraded(self, viewer: Viewer, data: bytes) -> None:
        viewer.rest += data
        head, end, rest = viewer.rest.partition(b"\r\n\r\n")
        if not end:
            return
        if b" 101 " not in head.partition(b"\r\n")[0]:
            self.tally.refused += 1
            asked = _ASKED_S.search(head)
            self.end(viewer, asked_s=float(asked[1]) if asked else 0.0)
            return
        viewer.rest, viewer.state = b"", GREETING
        if self._send(viewer, first_frames(self._crowd.dialect, self._crowd.subprotocol, viewer.at)):
            self._greeted(viewer, rest)

    def _send(self, viewer: Viewer, data: bytes) -> bool:
        try:
            viewer.sock.sendall(data)  # type: ignore[union-attr]
        except OSError:
            self.end(viewer)
            return False
        return True

    def _greeted(self, viewer: Viewer, data: bytes) -> None:
        viewer.rest += data
        sign = WELCOMED[self._crowd.dialect]
        if sign not in viewer.rest:
            if b'"bye"' in viewer.rest:
                self.tally.refused += 1
                asked = _ASKED_MS.search(viewer.rest)
                self.end(viewer, asked_s=int(asked[1]) / 1000 if asked else 0.0)
            return
        assert viewer.sock is not None
        if found := _EPOCH.search(viewer.rest):
            viewer.at = (int(found[1]), 0)
        if viewer.cut_at:
            self.tally.back_us.append(int((time.monotonic() - viewer.cut_at) * 1e6))
            if b'"recovered":true' in viewer.rest:
                self.tally.recovered += 1
            else:
                self.tally.anew += 1
            viewer.cut_at = 0.0
        viewer.state, viewer.failures = PRESENT, 0
        self.present += 1
        self._arriving -= 1
        if viewer.stalled:
            self._epoll.modify(viewer.sock.fileno(), select.EPOLLRDHUP)
            return
        data, viewer.rest = viewer.rest, b""
        self._read_frames(viewer, data, len(data))

    def end(self, viewer: Viewer, *, asked_s: float = 0.0) -> None:
        """The socket is gone; who insists comes back after a while, and not before the time it was asked to wait."""
        sock = viewer.sock
        if sock is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(sock.fileno())
            self._by_fd.pop(sock.fileno(), None)
            sock.close()
            viewer.sock = None
        if viewer.state == PRESENT:
            self.present -= 1
            viewer.cut_at = time.monotonic()
            if not viewer.stalled:
                self.tally.lost += 1
        elif viewer.state != AWAY:
            self._arriving -= 1
        was_present = viewer.state == PRESENT
        viewer.state = AWAY
        if viewer.at is not None and (found := _SEQ.search(viewer.head)):
            viewer.at = (viewer.at[0], int(found[1]))
        if self._crowd.insist or viewer.stalled or not was_present:
            delay_s = self._backoff.delay_s(viewer.failures, asked_s=asked_s)
            viewer.failures += 1
            heapq.heappush(self._waiting, (time.monotonic() + delay_s, viewer.number))

    # Reading.

    def turn(self, timeout_s: float) -> None:
        """One round of what has come."""
        now = time.monotonic()
        if self._coming or self._waiting:
            self._let_in(now)
            if self._coming:
                timeout_s = min(timeout_s, 0.002)
            elif self._waiting:
                timeout_s = min(timeout_s, self._waiting[0][0] - now)
        by_fd = self._by_fd
        for fd, what in self._epoll.poll(max(0.0, timeout_s), 1024):
            viewer = by_fd.get(fd)
            if viewer is None:
                if fd in self._others:
                    self._others[fd]()
            elif viewer.state == PRESENT:
                if viewer.stalled:
                    self.end(viewer)
                else:
                    self._read(viewer)
            elif viewer.state == CONNECTING:
                if what & (select.EPOLLERR | select.EPOLLHUP):
                    self.end(viewer)
                else:
                    self._ask(viewer)
            else:
                self._read_greeting(viewer)

    def _read_greeting(self, viewer: Viewer) -> None:
        assert viewer.sock is not None
        try:
            data = viewer.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end(viewer)
        elif viewer.state == UPGRADING:
            self._upgraded(viewer, data)
        else:
            self._greeted(viewer, data)

    def _read(self, viewer: Viewer) -> None:
        try:
            got = viewer.sock.recv_into(self._buffer)  # type: ignore[union-attr]
        except BlockingIOError:
            return
        except OSError:
            got = 0
        if not got:
            self.end(viewer)
            return
        self.tally.bytes += got
        if viewer.rest:
            data = viewer.rest + bytes(self._view[:got])
            viewer.rest = b""
            self._read_frames(viewer, data, len(data))
        else:
            self._read_frames(viewer, self._buffer, got)

    def _read_frames(self, viewer: Viewer, data: bytes | bytearray, end: int) -> None:
        at = last = frames = 0
        while end - at >= 2:
            length, head = data[at + 1], 2
            if length == 126:
                length, head = (data[at + 2] << 8 | data[at + 3] if end - at >= 4 else end), 4
            elif length == 127:
                length, head = (int.from_bytes(data[at + 2 : at + 10], "big") if end - at >= 10 else end), 10
            beyond = at + head + length
            if beyond > end:
                break
            opcode = data[at] & 15
            if opcode <= 2:
                frames += 1
                last = at
            elif opcode == PING:
                self._pong(viewer, bytes(data[at + head : beyond]))
            elif opcode == CLOSE:
                asked = _ASKED_MS.search(bytes(data[:at]))
                self.end(viewer, asked_s=int(asked[1]) / 1000 if asked else 0.0)
                return
            at = beyond
        if at < end:
            viewer.rest = bytes(data[at:end])
        self.tally.frames += frames
        if frames and self._crowd.insist and data.find(b'"seq":', last, last + 96) > 0:
            viewer.head = bytes(data[last : last + 128])
        comments = data.count(MARK, 0, at)
        if comments:
            viewer.comments += comments
            self.tally.comments += comments
        if viewer.sampled:
            self.tally.look_at(bytes(data[:at]))
            if viewer.number == self._crowd.stalled:
                self.tally.look_for_skipped(bytes(data[:at]))
        if viewer.asked:
            viewer.asked -= self.tally.answers(bytes(data[:at]))

    def _pong(self, viewer: Viewer, payload: bytes) -> None:
        with contextlib.suppress(OSError):
            viewer.sock.send(frame(PONG, payload))  # type: ignore[union-attr]
