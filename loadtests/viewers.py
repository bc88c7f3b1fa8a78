"""Viewers of a show for locust: they come, talk, like, open the bag, order and leave, and others take their seats.

A comment has two latencies: to its reply, and to the tick in which its author sees it. What the room skips, to stay
readable, has only the first.
"""

import random
import time
from collections import deque
from typing import Any, ClassVar
from uuid import uuid4

import gevent
import websocket
from locust import task

from loadtests.profiles import MOST_TAPS, Deed, Load
from loadtests.shoppers import SocketShopper

WORDS = ("hello", "which size is it?", "多少钱", "got one!", "wie viele noch?", "すごい", "thanks for the show")
# A comment that no tick brought within this time was skipped.
SHOWN_WITHIN_S = 5.0
# Ticks of the last seconds, for a comment that is in a tick before its reply is here.
TICKS_KEPT = 50
COME_AGAIN_AFTER_S = 1.0


class RoomViewer(SocketShopper):
    """A seat in the room. Whoever sits there leaves after a while, and the next one comes in under another token."""

    abstract = True
    load: ClassVar[Load]

    def on_start(self) -> None:
        self._dice = random.Random()
        self._said: dict[str, tuple[float, dict[str, Any]]] = {}
        self._unseen: dict[str, float] = {}
        self._ticks: deque[tuple[float, str]] = deque(maxlen=TICKS_KEPT)

    @task
    def visit(self) -> None:
        visit = self.load.visit(self._dice)
        try:
            self.come()
        except (OSError, websocket.WebSocketException):
            gevent.sleep(COME_AGAIN_AFTER_S)  # counted as a failed `connect`
            return
        came_s = time.perf_counter()
        for at_s, deed in visit.deeds:
            _until(came_s + at_s)
            match deed:
                case Deed.COMMENT:
                    self.comment()
                case Deed.LIKE:
                    self._send({"t": "like", "n": self._dice.randint(1, MOST_TAPS)})
                case Deed.ENTER:
                    self._send({"t": "enter", "sale": self.sale})
                case Deed.ORDER:
                    self.buy()
        _until(came_s + visit.stay_s)
        self.leave()

    def comment(self) -> None:
        id = uuid4().hex
        frame = {"t": "comment", "id": id, "text": self._dice.choice(WORDS)}
        self._said[id] = (time.perf_counter(), frame)
        self._send(frame)

    def leave(self) -> None:
        super().leave()
        # An answer that is not here when somebody leaves is nobody's; the seat's next one begins anew.
        self._said.clear()
        self._unseen.clear()
        self._ticks.clear()

    # The socket.

    def _unanswered(self) -> list[dict[str, Any]]:
        return [*super()._unanswered(), *(frame for _, frame in self._said.values())]

    def _tick(self, text: str) -> None:
        now_s = time.perf_counter()
        if self._said:
            self._ticks.append((now_s, text))
        for comment, sent_s in tuple(self._unseen.items()):
            if comment in text:
                self._seen(comment, sent_s, now_s)
            elif now_s - sent_s > SHOWN_WITHIN_S:
                del self._unseen[comment]

    def _hear(self, told: dict[str, Any]) -> None:
        said = self._said.pop(str(told.get("id")), None) if told["t"] in ("reply", "error") else None
        if said is None:
            super()._hear(told)
            return
        sent_s, _ = said
        if told["t"] == "error":
            self._fire("comment posted", sent_s, RuntimeError(told["code"]))
            return
        # A refusal is an answer like any other, with a line of its own.
        self._fire(f"comment {told['outcome']}", sent_s)
        comment = told.get("comment")
        if comment is None:
            return
        self._unseen[comment] = sent_s
        for seen_s, text in self._ticks:
            if comment in text:
                self._seen(comment, sent_s, seen_s)
                break

    def _seen(self, comment: str, sent_s: float, seen_s: float) -> None:
        del self._unseen[comment]
        self._fire("comment shown", sent_s, until_s=seen_s)


def _until(when_s: float) -> None:
    gevent.sleep(max(0.0, when_s - time.perf_counter()))
