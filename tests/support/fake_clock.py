"""A clock that stands still until a test moves it."""


class FakeClock:
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
