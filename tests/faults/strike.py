"""What a fault is to the harness: a function that does it to the world and says when it began and ended to hurt."""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.faults.journal import now_ms
from tests.faults.world import World

STRUCK_WITHIN_S = 20.0


class NotInjected(Exception):
    """This fault could not be done here; the run counts it as missing and says why."""


@dataclass(frozen=True, slots=True)
class Struck:
    """When a fault began to hurt, what it hit, and when it was over."""

    at_ms: int
    target: str
    over_at_ms: int = field(default_factory=now_ms)
    """What was hit runs again, links are whole, the disk is good. A fault makes this when it is over."""


Inject = Callable[[World, str, random.Random, bool], Awaitable[Struck]]
"""Takes the world, the target, the round's chance, and whether the run is long; returns when it is over."""
