"""Goes through every state of a small world, breadth first, so that what it finds is found on a shortest way."""

from array import array
from collections import deque
from dataclasses import dataclass, field

from tests.properties.small_steps import PROGRESS, steps_of, take
from tests.properties.small_world import STATUS, Broken, Plan, State, Step, World, check, check_rest


@dataclass(slots=True)
class Explored:
    plan: Plan
    states: int = 0
    transitions: int = 0
    at_rest: int = 0
    depth: int = 0
    edges: dict[tuple[str, ...], tuple[State, Step]] = field(default_factory=dict)
    """By what kind of step in what situation: the first one seen, and where it begins."""
    came_from: dict[State, tuple[State | None, Step]] = field(default_factory=dict)

    def way_to(self, state: State) -> list[Step]:
        way: list[Step] = []
        while True:
            before, step = self.came_from[state]
            if before is None:
                return way[::-1]
            way.append(step)
            state = before


class BrokenOnTheWay(AssertionError):
    """A promise that is not kept, and a shortest way to where it is not."""

    def __init__(self, plan: Plan, why: str, way: list[Step]) -> None:
        world, told = World(plan), [f"{plan.name}: {why}"]
        for step in way:
            told.append(" ".join(map(str, step)))
            if step[0] == "rebuild":
                told[-1] += f": {world.slots[step[1]][0]}"
            try:
                take(world, step)
            except Broken:
                break
        super().__init__("\n  ".join(told))
        self.why = why
        self.way = way


def explore(plan: Plan, *, most: int = 10_000_000) -> Explored:
    """Raises BrokenOnTheWay where a promise is not kept."""
    found = Explored(plan)
    first = World(plan)
    root = first.pack()
    found.came_from[root] = (None, ())
    numbers = {root: 0}
    rests: list[int] = []
    progress_from, progress_to = array("i"), array("i")
    queue = deque([(first, root, 0)])
    while queue:
        world, state, depth = queue.popleft()
        number = numbers[state]
        found.depth = max(found.depth, depth)
        goes_on = False
        after = world.copy()
        for step in steps_of(world):
            try:
                word = take(after, step)
                if word is None:
                    continue
                then = after.pack()
                if then == state:
                    after = world.copy()
                    continue
                if then not in numbers:
                    check(after)
            except Broken as error:
                raise BrokenOnTheWay(plan, str(error), [*found.way_to(state), step]) from None
            found.transitions += 1
            kind = kind_of(world, step, word)
            if kind not in found.edges:
                found.edges[kind] = (state, step)
            if then not in numbers:
                numbers[then] = len(numbers)
                found.came_from[then] = (state, step)
                queue.append((after, then, depth + 1))
                if len(numbers) > most:
                    raise AssertionError(f"{plan.name}: more than {most} states")
            if step[0] in PROGRESS:
                goes_on = True
                progress_from.append(number)
                progress_to.append(numbers[then])
            after = world.copy()
        if not goes_on:
            try:
                check_rest(world)
            except Broken as error:
                raise BrokenOnTheWay(plan, str(error), found.way_to(state)) from None
            rests.append(number)
    found.states, found.at_rest = len(numbers), len(rests)
    stuck = _never_rests(len(numbers), progress_from, progress_to, rests)
    if stuck is not None:
        state = next(each for each, number in numbers.items() if number == stuck)
        raise BrokenOnTheWay(plan, "it never comes to rest", found.way_to(state))
    return found


def kind_of(world: World, step: Step, word: str) -> tuple[str, ...]:
    """What the step is, in which situation; ways that pass all kinds pass all that the code does."""
    name, *where = step
    if name in ("rebuild", "give_up", "look"):
        slot = world.slots[where[0]]
        return name, word, str(slot[0]) if slot else "", world.reopen
    if name == "commit":
        kind, tap = world.stream[0]
        return name, word, kind, STATUS[world.status[tap]], str(world.kept() > 0)
    if word == "told":
        return name, word
    if name == "release":
        kind, tap = world.rows[world.released - world.forgotten]
        return name, kind, STATUS[world.status[tap]]
    if where:
        tap = where[0]
        return name, word, STATUS[world.status[tap]], str(world.money[tap]), str(world.decides)
    return name, word, str(world.there), str(world.open)


def _never_rests(states: int, sources: "array[int]", targets: "array[int]", rests: list[int]) -> int | None:
    """A state from which the processes by themselves never come to rest; None: there is none."""
    before: list[list[int]] = [[] for _ in range(states)]
    for source, target in zip(sources, targets, strict=True):
        before[target].append(source)
    reached = bytearray(states)
    todo = list(rests)
    for each in todo:
        reached[each] = 1
    while todo:
        for source in before[todo.pop()]:
            if not reached[source]:
                reached[source] = 1
                todo.append(source)
    return None if all(reached) else reached.index(0)
