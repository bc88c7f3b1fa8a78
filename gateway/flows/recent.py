"""A value shared for a moment: however many viewers ask, the server behind is asked a few times a second."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from gateway.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_MOST = 10_000


class Recent(Generic[K, V]):
    """Keeps what was read for `keep_s`; who asks while it is being read waits for the same read.

    Bounded: past the bound everything is forgotten, which costs one read each. A failed read is kept for nobody.
    """

    def __init__(self, *, keep_s: float, clock: Clock) -> None:
        self._keep_s = keep_s
        self._clock = clock
        self._held: dict[K, tuple[float, asyncio.Task[V]]] = {}

    async def get(self, key: K, read: Callable[[], Awaitable[V]]) -> V:
        now_s = self._clock.monotonic()
        held = self._held.get(key)
        if held is None or now_s - held[0] > self._keep_s or _failed(held[1]):
            if len(self._held) >= _MOST:
                self._held.clear()
            reading: asyncio.Task[V] = asyncio.ensure_future(_read(read))
            # Retrieved here: perhaps everyone who waited has left by then.
            reading.add_done_callback(_failed)
            held = self._held[key] = (now_s, reading)
        # Whoever leaves while it is read must not take it from the others.
        return await asyncio.shield(held[1])

    def forget(self, key: K) -> None:
        self._held.pop(key, None)


async def _read(read: Callable[[], Awaitable[V]]) -> V:
    return await read()


def _failed(task: "asyncio.Task[V]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
