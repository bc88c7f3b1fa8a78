"""What a round is about, for all who take part in it."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field

from tests.faults.journal import Ask, Journal
from tests.faults.world import EDGES

APIS = tuple(edge for edge in EDGES if edge.startswith("api"))
LIVES = tuple(edge for edge in EDGES if edge.startswith("live"))
# A round's scarce item, which all want, and one that never ends, by which it is seen when the shop sells again.
SCARCE, PLENTY = "tin", "cup"
PRICES = {SCARCE: 1900, PLENTY: 500}
LIMITS = {SCARCE: 2, PLENTY: 10_000}
# The shortest term there is.
PAY_WITHIN_S = 5
ANSWER_WITHIN_S = 2.5
INSIST_S = 60.0


@dataclass
class Round:
    """What the crowd is about in one round."""

    number: int
    sale: str
    journal: Journal
    rng: random.Random
    stock: int
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    added: dict[str, int] = field(default_factory=dict)
    """Units the host was told were added, by key."""


@dataclass(frozen=True, slots=True)
class Placed:
    ask: Ask
    order: str
    at_s: float


async def pause(round: Round, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(round.stopping.wait(), seconds)
