"""Which faults a run does, in which order: the same for the same seed."""

import random
from collections.abc import Sequence

from tests.faults.kinds import Kind

Planned = tuple[Kind, str]


def all_targets(kinds: Sequence[Kind]) -> list[Planned]:
    return [(kind, target) for kind in kinds if not kind.many for target in kind.targets]


def make_plan(kinds: Sequence[Kind], *, seed: int, rounds: int) -> list[Planned]:
    """Every kind once, then every target of every kind as far as the rounds reach, then any of them, half of them two
    at once; all shuffled."""
    rng = random.Random(seed)
    # A sale takes half a minute to leave Valkey: not what a short run waits for.
    first = [(kind, rng.choice([each for each in kind.targets if not each.startswith("retire.")])) for kind in kinds]
    rest = [each for each in all_targets(kinds) if each not in first]
    rng.shuffle(rest)
    plan = (first + rest)[: max(rounds, len(first))]
    while len(plan) < rounds:
        kind = rng.choice([each for each in kinds if each.many == (len(plan) % 2 == 0)] or list(kinds))
        plan.append((kind, rng.choice(list(kind.targets))))
    rng.shuffle(plan)
    return plan
