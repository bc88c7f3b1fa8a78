"""How long a client waits before it tries again: full jitter, so that a crowd cut at once does not return at once."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """A random time up to `base_s` doubled a failure, at most `cap_s`; a wait the gateway asked for is added in front.

    The jitter also follows an asked wait: everybody who was told the same second would else come in the same one.
    """

    base_s: float = 0.25
    cap_s: float = 10.0

    def delay_s(self, failures: int, *, asked_s: float = 0.0) -> float:
        # 2**16 is past any cap; the bound keeps the power an ordinary number after days of trying.
        return asked_s + random.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(failures, 16)))
