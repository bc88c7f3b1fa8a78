"""How many people there are over time: `PROFILE` brings a show's own curve, `GATEWAY_SHAPE` chooses one for shoppers,
else locust's own options do."""

from collections.abc import Sequence
from typing import ClassVar

from locust import LoadTestShape

from loadtests.profiles import Load

# (until this second of the test, so many shoppers, coming at this rate a second)
Step = tuple[float, int, float]


class _Steps(LoadTestShape):
    abstract = True
    steps: Sequence[Step] = ()

    def tick(self) -> tuple[int, float] | None:
        run_s = self.get_run_time()
        for until_s, users, rate in self.steps:
            if run_s < until_s:
                return users, rate
        return None


class DoorsOpen(_Steps):
    """A few early ones, then everybody at once, then the half that stays."""

    steps = ((10, 50, 10), (40, 1000, 200), (70, 500, 100))


class Steady(_Steps):
    """The same crowd for two minutes."""

    steps = ((120, 500, 50),)


class Soak(_Steps):
    """A small crowd for an hour: what grows must be retired."""

    steps = ((3600, 200, 20),)


class Show(LoadTestShape):
    """The seats of a show that are taken; who sits in them comes and goes by itself."""

    abstract = True
    load: ClassVar[Load]

    def tick(self) -> tuple[int, float] | None:
        viewers = self.load.viewers_at(self.get_run_time())
        # Always as many as the curve says: who is to come comes within the second.
        return None if viewers is None else (viewers, max(1.0, self.load.peak))


SHAPES: dict[str, type[LoadTestShape]] = {"doors": DoorsOpen, "steady": Steady, "soak": Soak}
