"""One timer for all sockets of a process: a timer of its own a socket would be its dearest part.

The wheel turns four times a second. What has come due is asked to look after itself and says when to ask again.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)

TURN_S = 0.25
# Thousands come due in the same moment after a crowd has entered; between such slices orders have their turn.
_SLICE = 500


class Timed(Protocol):
    placed: int
    """The turn at which it is asked; the wheel's own. 0: it is not on the wheel."""

    def look(self, now_s: float) -> float | None:
        """Does what is due and says when to be asked again, in seconds of the same clock; None: never."""
        ...


class Wheel:
    """Asks never early, and late by two turns at most while the loop keeps up."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        # By turn, and only turns that somebody waits for: a token's end may be a day away.
        self._turns: dict[int, set[Timed]] = {}
        self._due: deque[Timed] = deque()
        self._done = int(now_s() / TURN_S)
        self._timer: asyncio.Handle | None = None

    def place(self, timed: Timed, at_s: float) -> None:
        """Asked at `at_s` and not before, wherever it stood until now; never, when that is infinite."""
        if at_s == math.inf:
            self.remove(timed)
            return
        if self._timer is None:
            # It stood still while nobody waited.
            self._done = int(self._now_s() / TURN_S)
            self._timer = asyncio.get_running_loop().call_later(TURN_S, self._turn)
        turn = max(self._done, int(at_s / TURN_S)) + 1
        if turn == timed.placed:
            return
        self.remove(timed)
        timed.placed = turn
        self._turns.setdefault(turn, set()).add(timed)

    def remove(self, timed: Timed) -> None:
        if timed.placed:
            turn = self._turns.get(timed.placed)
            if turn is not None:
                turn.discard(timed)
                if not turn:
                    del self._turns[timed.placed]
            timed.placed = 0

    def _ask(self, timed: Timed, now_s: float) -> None:
        try:
            again_s = timed.look(now_s)
        except Exception:
            # One that breaks must not stop the wheel for all others.
            log.exception("look_broke")
            return
        if again_s is not None:
            self.place(timed, again_s)

    def _turn(self) -> None:
        now_s = self._now_s()
        now = int(now_s / TURN_S)
        while self._done < now:
            self._done += 1
            for timed in self._turns.pop(self._done, ()):
                # Whoever is removed or placed anew before its slice comes is no longer meant.
                timed.placed = -1
                self._due.append(timed)
        for _ in range(min(_SLICE, len(self._due))):
            timed = self._due.popleft()
            if timed.placed == -1:
                timed.placed = 0
                self._ask(timed, now_s)
        loop = asyncio.get_running_loop()
        if self._due:
            self._timer = loop.call_soon(self._turn)
        elif self._turns:
            self._timer = loop.call_later(TURN_S, self._turn)
        else:
            self._timer = None
