"""How many may enter a second: a short queue, and an appointment for who does not fit in it.

Those who are turned away come back one by one at the rate they will be let in, instead of all together again and again.
"""

import random
from dataclasses import dataclass

# Nobody waits at an open door for longer than people wait for a page.
_WAIT_MAX_S = 2.0
_LATEST_RETURN_S = 30.0


@dataclass(frozen=True, slots=True)
class Turn:
    wait_s: float = 0.0
    """Until the caller may go on."""
    retry_after_ms: int | None = None
    """The caller may not, and comes back after this."""


class Pace:
    def __init__(self, *, rate: float) -> None:
        self._interval_s = 1 / rate
        self._next_s = 0.0
        self._return_s = 0.0

    def take(self, now_s: float) -> Turn:
        wait_s = max(0.0, self._next_s - now_s)
        if wait_s <= _WAIT_MAX_S:
            self._next_s = max(now_s, self._next_s) + self._interval_s
            return Turn(wait_s=wait_s)
        self._return_s = max(self._return_s, self._next_s) + self._interval_s
        away_s = min(self._return_s - now_s, _LATEST_RETURN_S)
        return Turn(retry_after_ms=int(away_s * random.uniform(800, 1200)))
