import asyncio
import math
import time

from gateway.live.wheel import TURN_S, Wheel
from tests.support.fake_clock import ShiftedClock


class Asked:
    """Says when it was asked, and answers what it was told to."""

    def __init__(self, clock: ShiftedClock, *answers: float | None) -> None:
        self.placed = 0
        self.at_s: list[float] = []
        self._clock = clock
        self._answers = list(answers)
        self._asked = asyncio.Event()

    def look(self, now_s: float) -> float | None:
        self.at_s.append(self._clock.monotonic())
        self._asked.set()
        return self._answers.pop(0) if self._answers else None

    async def asked(self, times: int) -> None:
        async with asyncio.timeout(10):
            while len(self.at_s) < times:
                self._asked.clear()
                await self._asked.wait()


def made() -> tuple[ShiftedClock, Wheel]:
    clock = ShiftedClock()
    return clock, Wheel(clock.monotonic)


async def test_it_asks_never_early_and_little_late() -> None:
    clock, wheel = made()
    began_s = clock.monotonic()
    asked = [(Asked(clock), began_s + delay_s) for delay_s in (0.0, 0.1, 0.3, 0.75)]
    for timed, at_s in asked:
        wheel.place(timed, at_s)
    for timed, at_s in asked:
        await timed.asked(1)
        # Two turns, and half a second for a machine that is busy with other tests.
        assert at_s <= timed.at_s[0] <= at_s + 2 * TURN_S + 0.5


async def test_who_names_a_time_is_asked_again_and_who_names_none_is_not() -> None:
    clock, wheel = made()
    first_s = clock.monotonic() + 100
    timed = Asked(clock, first_s + 1000)
    wheel.place(timed, first_s)
    clock.advance(101)
    await timed.asked(1)
    assert timed.placed
    clock.advance(1001)
    await timed.asked(2)
    assert not timed.placed


async def test_the_last_place_counts() -> None:
    clock, wheel = made()
    moved, removed, last = Asked(clock), Asked(clock), Asked(clock)
    now_s = clock.monotonic()
    wheel.place(moved, now_s + 1000)
    wheel.place(moved, now_s + 10)
    wheel.place(removed, now_s + 10)
    wheel.remove(removed)
    wheel.place(last, now_s + 20)
    wheel.place(last, math.inf)
    clock.advance(15)
    await moved.asked(1)
    clock.advance(2000)
    sentinel = Asked(clock)
    wheel.place(sentinel, clock.monotonic())
    await sentinel.asked(1)
    assert (len(moved.at_s), removed.at_s, last.at_s) == (1, [], [])


async def test_many_at_once_leave_the_loop_its_turns() -> None:
    clock, wheel = made()
    at_s = clock.monotonic() + 10
    crowd = [Asked(clock) for _ in range(2_000)]
    for timed in crowd:
        wheel.place(timed, at_s)
    between = set[int]()
    clock.advance(11)
    ended_s = time.monotonic() + 10
    while not all(timed.at_s for timed in crowd) and time.monotonic() < ended_s:
        between.add(sum(bool(timed.at_s) for timed in crowd))
        await asyncio.sleep(0)
    assert len(between) >= 4, "they were all asked in one go"
    assert all(timed.at_s for timed in crowd)


async def test_who_is_removed_while_it_waits_for_its_slice_is_not_asked() -> None:
    clock, wheel = made()

    class Selfish(Asked):
        def look(self, now_s: float) -> float | None:
            for other in crowd:
                wheel.remove(other)
            return super().look(now_s)

    crowd = [Selfish(clock) for _ in range(10)]
    for timed in crowd:
        wheel.place(timed, clock.monotonic() + 10)
    clock.advance(11)
    sentinel = Asked(clock)
    wheel.place(sentinel, clock.monotonic())
    await sentinel.asked(1)
    assert sum(len(timed.at_s) for timed in crowd) == 1


async def test_a_wheel_that_nobody_waits_for_stands_still_and_starts_again() -> None:
    clock, wheel = made()
    once = Asked(clock)
    wheel.place(once, clock.monotonic())
    await once.asked(1)
    clock.advance(7 * 86_400)
    again = Asked(clock)
    at_s = clock.monotonic()
    wheel.place(again, at_s)
    await again.asked(1)
    assert again.at_s[0] >= at_s


async def test_one_that_breaks_does_not_stop_the_wheel() -> None:
    clock, wheel = made()

    class Breaking(Asked):
        def look(self, now_s: float) -> float | None:
            super().look(now_s)
            raise ZeroDivisionError

    breaking, sound = Breaking(clock), Asked(clock)
    for timed in (breaking, sound):
        wheel.place(timed, clock.monotonic())
    await sound.asked(1)
    await breaking.asked(1)
    later = Asked(clock)
    wheel.place(later, clock.monotonic())
    await later.asked(1)
