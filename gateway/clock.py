"""Time as an object, so that a test can give it.

Durations come from the monotonic clock in seconds; instants on the wire and in Lua are integer milliseconds of Unix
time. What decides about stock, money or a deadline is the servers' time, never this one.
"""

import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never go back; only differences mean something."""

    def now_ms(self) -> int:
        """Unix time in milliseconds; may step."""


class SystemClock:
    """The clocks of this machine."""

    __slots__ = ()

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000
