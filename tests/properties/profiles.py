"""How much is tried: a little in every run of the tests, a lot by night. Both say their seed, and take one."""

import os
import random
from collections import Counter
from dataclasses import dataclass, field

NIGHTLY = os.environ.get("PEAKGATE_PROFILE") == "nightly"
# Read at import: a test itself sees no settings from outside.
_GIVEN = os.environ.get("PEAKGATE_SEED")
SEED = int(_GIVEN) if _GIVEN else random.SystemRandom().randrange(2**31)

OPERATIONS = 100_000 if NIGHTLY else 2_000
"""Operations of the scripts on Valkey, each followed by a comparison of the whole state."""
OPERATIONS_ELSEWHERE = 20_000 if NIGHTLY else 500
"""The same on another server than the one that is shipped."""


@dataclass(slots=True)
class Count:
    operations: int = 0
    calls: int = 0
    words: Counter[str] = field(default_factory=Counter)
    """What the scripts answered, `script word`."""


REPORT: list[str] = []
"""Lines that stand at the end of the run: what it did, also when nothing is wrong."""
