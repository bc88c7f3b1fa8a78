"""What the ledger has of something that is asked for all the time, or what it had when it answered last."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from gateway.clock import Clock
from gateway.errors import LedgerUnavailable

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

# How long who asks waits for a ledger that does not answer, when something older is known.
_WAIT_S = 0.5
# And for how long nobody waits for it again.
_KEEP_S = 5.0


@dataclass(slots=True)
class _Held(Generic[V]):
    value: V
    fresh_until_s: float


class LastKnown(Generic[K, V]):
    """A bounded cache that reads each key once at a time, however many ask for it. While the ledger does not answer,
    the last known value holds. What is not there (None) is not kept."""

    def __init__(self, *, read: Callable[[K], Awaitable[V | None]], fresh_s: float, most: int, clock: Clock) -> None:
        """With `fresh_s` 0 every value is read anew but while the ledger is away."""
        self._ask = read
        self._fresh_s = fresh_s
        self._most = most
        self._clock = clock
        self._held: OrderedDict[K, _Held[V]] = OrderedDict()
        self._reading: dict[K, asyncio.Task[V | None]] = {}

    async def get(self, key: K) -> V | None:
        """Raises LedgerUnavailable for what was never read before."""
        held = self._held.get(key)
        if held is not None and self._clock.monotonic() < held.fresh_until_s:
            return held.value
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.ensure_future(self._read(key))
            reading.add_done_callback(_retrieved)
        if held is not None:
            await asyncio.wait({reading}, timeout=_WAIT_S)
            if not reading.done() or isinstance(_retrieved(reading), LedgerUnavailable):
                # The others do not wait as well.
                held.fresh_until_s = self._clock.monotonic() + _KEEP_S
                return held.value
        # Whoever leaves while it is read must not take it from the others.
        return await asyncio.shield(reading)

    def forget(self, key: K) -> None:
        """The next who asks is told what the ledger has from now on, not what somebody began to read before."""
        self._held.pop(key, None)
        self._reading.pop(key, None)

    async def _read(self, key: K) -> V | None:
        began_s = self._clock.monotonic()
        try:
            value = await self._ask(key)
            if self._reading.get(key) is asyncio.current_task():
                self._keep(key, value, began_s + self._fresh_s)
            return value
        finally:
            if self._reading.get(key) is asyncio.current_task():
                del self._reading[key]

    def _keep(self, key: K, value: V | None, fresh_until_s: float) -> None:
        if value is None:
            self._held.pop(key, None)
            return
        self._held[key] = _Held(value, fresh_until_s)
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)


def _retrieved(reading: "asyncio.Task[V]") -> BaseException | None:
    """Its error, if it has one; perhaps everyone who waited has left by then."""
    return None if reading.cancelled() else reading.exception()
