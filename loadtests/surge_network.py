"""Time and network of a simulated crowd: many calls at given times, and what lies between client and gateway."""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TICK_S = 0.001


class Agenda:
    """Calls at given times of the loop's clock, one heap and one timer for all; late by about a millisecond."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._entries: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        return self._loop.time()

    def at(self, when_s: float, call: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._entries, (when_s, next(self._order), call, arguments))
        if self._timer is None:
            self._timer = self._loop.call_later(TICK_S, self._run)

    def _run(self) -> None:
        entries = self._entries
        now = self._loop.time()
        while entries and entries[0][0] <= now:
            _, _, call, arguments = heapq.heappop(entries)
            call(*arguments)
        self._timer = self._loop.call_later(TICK_S, self._run) if entries else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What lies between a viewer and the gateway."""

    least_delay_s: float
    most_delay_s: float
    cut_share: float

    def delay_s(self) -> float:
        return random.uniform(self.least_delay_s, self.most_delay_s)
