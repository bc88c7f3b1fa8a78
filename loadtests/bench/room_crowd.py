"""The readers of a room: one process, any number of raw sockets, one `epoll`, one buffer.

It reads a JSON `Crowd` from its first line of input, brings all viewers in and prints `Arrived`. Each further line is
an `Act`: comments and likes that leave at fixed instants, whatever came back; when it is done it prints `Heard`. It
shares its machine with the server, so it does as little as it can for a frame: one call into the kernel for whatever
has come, a look at the headers, a count of the marks. Latencies are read from every frame of a sampled few; they count
from the instant a comment was due to the instant its reader was read, so a crowd that falls behind shows in them, and
`cpu_share` says whether it did.

Viewers that are cut come back as the project's own client does, with jittered, growing waits and `resume`, if the
crowd insists.
"""

import contextlib
import gc
import os
import random
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator

import msgspec

from .room_messages import Act, Crowd, Heard
from .room_readers import PRESENT, Readers
from .room_wire import comment_frame, event, like_frame, publication, stamped, tick

MERGE_US = 100_000
DRAIN_AT_MOST_S = 30.0


class Players:
    """What the readers say, and when."""

    def __init__(self, crowd: Crowd, input_fd: int) -> None:
        self._crowd = crowd
        self.readers = Readers(crowd)
        self._publisher: socket.socket | None = None
        self._taps = 0
        self._input = input_fd
        self._unfinished = b""
        self._orders: deque[bytes] = deque()
        self._over = False
        self._run = ""

    # What the bench asks for.

    def orders(self) -> Iterator[bytes]:
        """Each line of input; between two of them the room is read on."""
        self.readers.also(self._input, self._listen)
        while not self._over or self._orders:
            if self._orders:
                yield self._orders.popleft()
            else:
                self.readers.turn(0.1)

    def _listen(self) -> None:
        data = os.read(self._input, 1 << 20)
        if not data:
            self._over = True
            self.readers.no_longer(self._input)
        *lines, self._unfinished = (self._unfinished + data).split(b"\n")
        self._orders.extend(line for line in lines if line)

    # Acting.

    def play(self, act: Act) -> Heard:
        self.readers.count_anew()
        # A comment's id says that it is the same one; no two acts of any crowd may share one.
        self._run = f"{time.time_ns():x}"
        cpu, started = time.process_time(), time.monotonic()
        start_us = time.monotonic_ns() // 1000
        comments = sorted(act.comments)
        due = [(start_us + int(at_s * 1e6), text) for at_s, text in comments]
        if act.merged:
            due = [((-(-(at - start_us) // MERGE_US)) * MERGE_US + start_us, stamped(text, at)) for at, text in due]
        next_comment = likes = 0
        until = started + act.for_s
        like = like_frame(max(1, act.taps), self._crowd.subprotocol)
        to_cut = act.cut
        while (now := time.monotonic()) < until or next_comment < len(due):
            now_us = int(now * 1e6)
            wait_s = min(0.05, max(0.0, until - now))
            if next_comment < len(due):
                next_comment = self._speak(act, due, next_comment, now_us)
            if next_comment < len(due):
                wait_s = min(wait_s, (due[next_comment][0] - now_us) / 1e6)
            if act.likes_per_s:
                while likes < (now - started) * act.likes_per_s:
                    likes += self._tap(like)
                wait_s = min(wait_s, 0.002)
            if to_cut and now - started >= 1.0:
                self._cut(to_cut)
                to_cut = 0
            self.readers.turn(wait_s)
        used_s, took_s = time.process_time() - cpu, time.monotonic() - started
        self._drain_room(act.drain_s)
        readers = self.readers
        return readers.tally.heard(
            sent=next_comment,
            likes_sent=likes * act.taps,
            comments=[v.comments for v in readers.viewers if v.state == PRESENT and not v.stalled],
            present=readers.present,
            cpu_share=used_s / took_s,
        )

    def _drain_room(self, silent_s: float) -> None:
        """Reads on until no comment has come for so long: one that is only late must not look like one that is lost."""
        now = last = time.monotonic()
        latest = now + DRAIN_AT_MOST_S
        while now < min(latest, last + silent_s):
            before = self.readers.tally.comments
            self.readers.turn(0.05)
            now = time.monotonic()
            if self.readers.tally.comments > before:
                last = now

    def _speak(self, act: Act, due: list[tuple[int, str]], at: int, now_us: int) -> int:
        """Sends everything that is due; returns where to go on."""
        crowd = self._crowd
        while at < len(due) and due[at][0] <= now_us:
            due_us, text = due[at]
            self.readers.tally.late_us.append(now_us - due_us)
            if act.merged:
                together = []
                while at < len(due) and due[at][0] == due_us:
                    together.append(event(at, due[at][1]))
                    at += 1
                self._publish(msgspec.json.encode(tick(at, together)))
                continue
            if crowd.dialect == "peakgate":
                self._say(
                    comment_frame(f"{self._run}-{at}", stamped(text, due_us), crowd.subprotocol), at, answered=True
                )
            else:
                self._publish(msgspec.json.encode(event(at, stamped(text, due_us))))
            at += 1
        return at

    def _say(self, data: bytes, turn: int, *, answered: bool) -> bool:
        """From the next viewer who is here and reads."""
        speakers = len(self.readers.viewers) - self._crowd.stalled
        for step in range(speakers):
            # 7919 is a prime: neighbours in time are no neighbours in the room.
            viewer = self.readers.viewers[self._crowd.stalled + (turn + step) * 7919 % speakers]
            if viewer.state == PRESENT and viewer.sock is not None:
                with contextlib.suppress(OSError):
                    viewer.asked += answered
                    return viewer.sock.send(data) == len(data)
        return False

    def _tap(self, like: bytes) -> int:
        self._taps += 1
        return int(self._say(like, self._taps, answered=False))

    def _publish(self, payload: bytes) -> None:
        crowd = self._crowd
        if self._publisher is None:
            self._publisher = socket.create_connection(("127.0.0.1", crowd.publish_port))
            self._publisher.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if crowd.dialect == "nats":
                self._publisher.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n')
            publisher = self._publisher
            self.readers.also(publisher.fileno(), lambda: _drain(publisher))
        self._publisher.sendall(publication(crowd.dialect, crowd.publish_path, payload))

    def _cut(self, count: int) -> None:
        for viewer in random.sample([viewer for viewer in self.readers.viewers if viewer.state == PRESENT], count):
            self.readers.end(viewer)


def _drain(publisher: socket.socket) -> None:
    """What a peer answers to a publication is of no interest."""
    publisher.recv(65536)


def main() -> None:
    # Unbuffered, so that no line hides in a buffer that `epoll` cannot see.
    input_fd = sys.stdin.fileno()
    line = bytearray()
    while not line.endswith(b"\n"):
        line += os.read(input_fd, 1)
    crowd = msgspec.json.decode(line, type=Crowd)
    if crowd.cpu is not None:
        os.sched_setaffinity(0, {crowd.cpu})
    players = Players(crowd, input_fd)
    gc.disable()  # Nothing here makes cycles worth the pauses that a collection puts into the latencies.
    with contextlib.suppress(KeyboardInterrupt):
        print(msgspec.json.encode(players.readers.arrive()).decode(), flush=True)
        for order in players.orders():
            heard = players.play(msgspec.json.decode(order, type=Act))
            print(msgspec.json.encode(heard).decode(), flush=True)


if __name__ == "__main__":
    main()
