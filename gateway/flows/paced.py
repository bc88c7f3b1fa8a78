"""A reading that costs something, made no more often than it is worth: its pace follows from what it cost."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from gateway.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

SHORTEST_S = 1.0
# Of one reading, a twentieth of the time at most.
_REST = 20
# Of all readings of a process, a quarter of one connection's time.
_REST_OF_ALL = 4
_AT_ONCE = 2
# What nobody has asked for so long does not count among what is asked for.
_ASKED_S = 60.0


class _Held(Generic[V]):
    __slots__ = ("asked_s", "due_s", "reading", "value")

    def __init__(self) -> None:
        self.value: V | None = None
        self.due_s = 0.0
        self.asked_s = 0.0
        self.reading: asyncio.Task[V] | None = None


class Paced(Generic[K, V]):
    """The value of a key, as it was read last; read anew when somebody asks and the time it cost, many times over, has
    passed. Who asks while it is read waits for that reading.

    Bounded: past `most` keys the one that nobody has asked for longest is forgotten. A reading that fails is told to
    who waited for it, and made anew for the next."""

    def __init__(self, *, read: Callable[[K], Awaitable[V]], clock: Clock, most: int = 1_000) -> None:
        self._read = read
        self._clock = clock
        self._most = most
        self._held: dict[K, _Held[V]] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def get(self, key: K) -> V:
        now_s = self._clock.monotonic()
        held = self._held.pop(key, None) or _Held()
        # Back to the end: the first is the one asked for longest ago.
        self._held[key] = held
        held.asked_s = now_s
        if len(self._held) > self._most:
            del self._held[next(iter(self._held))]
        if held.reading is None:
            if held.value is not None and now_s < held.due_s:
                return held.value
            held.reading = asyncio.ensure_future(self._make(key, held))
            held.reading.add_done_callback(lambda task: _over(held, task))
        # Whoever leaves while it is read must not take it from the others.
        return await asyncio.shield(held.reading)

    async def _make(self, key: K, held: _Held[V]) -> V:
        async with self._turns:
            began_s = self._clock.monotonic()
            value = await self._read(key)
            now_s = self._clock.monotonic()
        asked = sum(now_s - each.asked_s < _ASKED_S for each in self._held.values())
        took_s = now_s - began_s
        held.due_s = now_s + max(SHORTEST_S, _REST * took_s, _REST_OF_ALL * took_s * asked)
        held.value = value
        return value


def _over(held: _Held[V], task: "asyncio.Task[V]") -> None:
    held.reading = None
    if not task.cancelled():
        # Retrieved here: perhaps everyone who waited has left by then.
        task.exception()
