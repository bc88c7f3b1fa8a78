"""All steps of a small world by their names."""

from collections.abc import Iterator
from typing import Any

from tests.properties.small_orders import (
    ask,
    cancel,
    commit,
    empty,
    expire,
    forget,
    older,
    pay,
    refund,
    release,
    restart,
    revive,
    save,
    say_no,
)
from tests.properties.small_rebuild import give_up, look, rebuild
from tests.properties.small_world import Step, World

STEPS: dict[str, Any] = {
    each.__name__: each
    for each in (
        *(ask, commit, pay, expire, cancel, refund, release, forget, revive, say_no),
        *(empty, restart, save, older, look, give_up, rebuild),
    )
}
PROGRESS = frozenset({"commit", "release", "forget", "revive", "say_no", "look", "rebuild"})
"""Steps that some process takes sooner or later by itself, if it can. Without any of them left the world is at rest."""


def steps_of(w: World) -> Iterator[Step]:
    """All that could come next; some of it has no effect."""
    yield ("commit",)
    yield ("release",)
    yield ("forget",)
    for tap in range(len(w.status)):
        yield "ask", tap
        for name in w.plan.does:
            yield name, tap
        if w.was_late[tap]:
            yield "revive", tap
            yield "say_no", tap
    for fault in w.faults:
        yield (fault,)
    for slot in range(len(w.slots)):
        if w.slots[slot]:
            yield "rebuild", slot
            yield "give_up", slot
        else:
            yield "look", slot


def take(w: World, step: Step) -> str | None:
    name, *where = step
    word: str | None = STEPS[name](w, *where)
    return word
