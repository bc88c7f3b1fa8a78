"""Clocks a test can move."""

import time


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self, *, monotonic_s: float = 1_000.0, now_ms: int = 1_800_000_000_000) -> None:
        self._monotonic_s = monotonic_s
        self._now_ms = now_ms

    def monotonic(self) -> float:
        return self._monotonic_s

    def now_ms(self) -> int:
        return self._now_ms

    def advance(self, seconds: float) -> None:
        self._monotonic_s += seconds
        self._now_ms += int(seconds * 1000)


class ShiftedClock:
    """Runs as the machine's, and can be moved on."""

    def __init__(self) -> None:
        self._shift_s = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._shift_s

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000 + int(self._shift_s * 1000)

    def advance(self, seconds: float) -> None:
        self._shift_s += seconds
