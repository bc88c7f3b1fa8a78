"""The third show in numbers, and who does what in it: books, watches, buys, pays and collects. Arithmetic and dice.

The figures are published ones of shows that took place. Where none is published, a comment says what stands in for it.
"""

import math
import random
from dataclasses import dataclass
from typing import Final

from loadtests.profiles import ENTER_SHARE

# One show: 4,212 booked, 1,363 at once at most, 28 % there to the end, 1,553 comments in an hour, 48.5 % of those who
# opened the bag ordered.
BOOKINGS: Final = 4_212
PEAK: Final = 1_363
STAY_SHARE: Final = 0.28
COMMENTS: Final = 1_553
SHOW_S: Final = 3_600.0
ORDER_SHARE: Final = 0.485
# Of other shows: a drop of 10,000; 88 % paid, after 125 s on average; 84 % of what was sold was collected.
UNITS: Final = 10_000
PAID_SHARE: Final = 0.88
ORDER_TIME_S: Final = 125.0
COLLECTED_SHARE: Final = 0.84
# The hold of the contract, which such a mean asks for.
PAY_WITHIN_S: Final = 300.0
LEAST_PAY_WITHIN_S: Final = 5

# Nobody tells these. One in twenty does not want to be called after all; a message takes one in four of those who stay
# out of the room and they come back; the others come twice; half of the orders are to be collected; and the coupon has
# copies for a third of the room, so that it is fought over.
CANCEL_SHARE: Final = 0.05
AWAY_SHARE: Final = 0.25
VISITS: Final = 2
PICKUP_SHARE: Final = 0.5
COPIES_SHARE: Final = 0.3
MOST_AN_ORDER: Final = 10
"""Units; also what a viewer may have."""
GRAB_SHARE: Final = 0.9

# When, as parts of the show. What a crowd does at once it does in seconds that no speed shortens.
FILLED_AT: Final = 0.08
DROP_AT: Final = 0.2
OPENS_AT: Final = 0.35
TAP_WITHIN_S: Final = 3.0


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay in the room; seconds since the start of the show."""

    at_s: float
    until_s: float | None
    """None: to the end."""
    enters: bool = False
    orders: bool = False


@dataclass(frozen=True, slots=True)
class Person:
    sub: str
    cancels: bool
    """The booking."""
    visits: tuple[Visit, ...]
    grabs: bool
    """Taps on a coupon that is dropped."""

    @property
    def stays(self) -> bool:
        return self.visits[-1].until_s is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """The show scaled by one factor and compressed in time."""

    people: tuple[Person, ...]
    show_s: float
    units: int
    copies: int
    comments: int
    pay_within_s: int
    order_time_s: float

    @classmethod
    def of(cls, *, scale: float, speed: float, dice: random.Random) -> "Show":
        if not (0 < scale <= 10 and 1 <= speed <= 1000):
            raise ValueError(f"The scale is above 0 to 10 and the speed 1 to 1000, not {scale:g} and {speed:g}.")
        people, peak, show_s = (max(4, round(BOOKINGS * scale)), max(2, round(PEAK * scale)), SHOW_S / speed)
        staying = round(people * STAY_SHARE)
        return cls(
            people=tuple(
                Person(
                    sub=f"viewer-{number}",
                    cancels=dice.random() < CANCEL_SHARE,
                    visits=(
                        _staying(show_s, dice)
                        if number <= staying
                        else _passing(show_s, dice, stay_s=_seat_s(people - staying, peak - staying, show_s))
                    ),
                    grabs=dice.random() < GRAB_SHARE,
                )
                for number in range(1, people + 1)
            ),
            show_s=show_s,
            units=max(10, round(UNITS * scale)),
            copies=max(1, round(peak * COPIES_SHARE)),
            comments=max(5, round(COMMENTS * scale)),
            pay_within_s=max(LEAST_PAY_WITHIN_S, math.ceil(PAY_WITHIN_S / speed)),
            order_time_s=ORDER_TIME_S / speed,
        )

    def pays_after_s(self, dice: random.Random) -> float | None:
        """None for who never does. Drawn around the mean, and in time with some to spare."""
        if dice.random() >= PAID_SHARE:
            return None
        return min(dice.expovariate(1 / self.order_time_s), 0.6 * self.pay_within_s)


def _seat_s(people: int, seats: int, show_s: float) -> float:
    """How long a visit may last for so many to take turns on the seats that are left, full from `FILLED_AT` on."""
    return max(1, seats) * show_s * (1 - FILLED_AT) / (people * VISITS)


def _staying(show_s: float, dice: random.Random) -> tuple[Visit, ...]:
    """There from the first minutes to the end; the bag is opened when the sale opens."""
    came_s = dice.uniform(0, show_s * FILLED_AT)
    if dice.random() >= AWAY_SHARE:
        return (Visit(came_s, None),)
    # Out for a moment, and never when everybody taps.
    away_s = dice.uniform(0.55, 0.9) * show_s
    return (Visit(came_s, away_s), Visit(away_s + show_s * 0.02, None))


def _passing(show_s: float, dice: random.Random, *, stay_s: float) -> tuple[Visit, ...]:
    times_s = sorted(dice.uniform(0, show_s - stay_s) for _ in range(VISITS))
    visits, free_s = [], 0.0
    for at_s in times_s:
        enters = dice.random() < ENTER_SHARE
        came_s = max(at_s, free_s)
        visits.append(Visit(came_s, came_s + stay_s, enters, enters and dice.random() < ORDER_SHARE))
        free_s = came_s + stay_s + 0.5
    return tuple(visits)
