"""Two real shows in numbers, and what one viewer of such a show does. Arithmetic and dice only; locust is elsewhere.

The figures are published ones of shows that took place. Where none is published, a comment says what stands in for it.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

# Up within the first tenth of the show, full until the last, then people leave: (share of the show, share of the peak).
CURVE = ((0.0, 0.0), (0.1, 1.0), (0.9, 1.0), (1.0, 0.0))
FULLNESS = sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(CURVE))
"""The mean share of the peak over the show."""

# Of a third show, which alone tells both: 6,704 of 11,951 visits went on into the shop.
ENTER_SHARE = 6_704 / 11_951
# No show tells its likes: some taps a minute from everybody, so that the path is under load too.
LIKES_PER_VIEWER_S = 1 / 20
MOST_TAPS = 10
# Whoever opens the bag does it early in the visit; so a visit that the end of the show cuts short has it too.
ENTER_WITHIN = 1 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A show as its figures tell it."""

    people: int
    """Who comes at all, each under an id of their own."""
    joins: int
    """How often somebody comes in; people leave and come again."""
    peak: int
    """At once, at most."""
    show_s: float
    comments: int
    order_share: float
    """Of the visits that opened the bag, how many ordered."""


PROFILES: Mapping[str, Profile] = {
    # 4,212 booked, and each is taken to come once; 48.5 % of those who opened the bag ordered.
    "p1": Profile(people=4_212, joins=4_212, peak=1_363, show_s=3_600, comments=1_553, order_share=0.485),
    # Four shows of 40,000 joins by 15,000 people: 10.7 a person over the four. Two hours, 1,500 items a show; its
    # comments are not told, and taken to be as many a peak viewer and hour as above.
    "p2": Profile(
        people=15_000,
        joins=40_000,
        peak=5_000,
        show_s=7_200,
        comments=round(1_553 / 1_363 * 5_000 * 2),
        order_share=1_500 / (40_000 * ENTER_SHARE),
    ),
}


class Deed(StrEnum):
    COMMENT = "comment"
    LIKE = "like"
    ENTER = "enter"
    ORDER = "order"


@dataclass(frozen=True, slots=True)
class Visit:
    """One stay in the room: how long, and what is done when (seconds since coming in, in order)."""

    stay_s: float
    deeds: list[tuple[float, Deed]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A show scaled by one factor and compressed in time: `scale` times the people, `speed` times as fast."""

    people: int
    peak: int
    show_s: float
    stay_s: float
    """The mean of a visit; stays are drawn exponentially around it."""
    comments_per_viewer_s: float
    likes_per_viewer_s: float
    order_share: float

    @classmethod
    def of(cls, profile: Profile, *, scale: float = 1.0, speed: float = 1.0) -> "Load":
        if not (0 < scale <= 100 and 1 <= speed <= 1000):
            raise ValueError(f"SCALE is above 0 to 100 and SPEED 1 to 1000, not {scale:g} and {speed:g}.")
        # Time spent in the room by all together.
        viewers_s = profile.peak * FULLNESS * profile.show_s
        return cls(
            people=max(1, round(profile.people * scale)),
            peak=max(1, round(profile.peak * scale)),
            show_s=profile.show_s / speed,
            # Each seat is taken at once when the room fills; every later join follows a leave.
            stay_s=viewers_s / (profile.joins - profile.peak) / speed,
            comments_per_viewer_s=profile.comments / viewers_s * speed,
            likes_per_viewer_s=LIKES_PER_VIEWER_S * speed,
            order_share=profile.order_share,
        )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Load | None":
        """`PROFILE` names the show, `SCALE` and `SPEED` are 1 without a word; None without a profile."""
        name = environment.get("PROFILE", "")
        if not name:
            return None
        if name not in PROFILES:
            raise ValueError(f"PROFILE is {name!r}; there are {', '.join(PROFILES)}.")
        scale, speed = (float(environment.get(word) or 1) for word in ("SCALE", "SPEED"))
        return cls.of(PROFILES[name], scale=scale, speed=speed)

    def viewers_at(self, run_s: float) -> int | None:
        """How many are in the room then; None once the show is over."""
        share = run_s / self.show_s
        for (from_, low), (until, high) in pairwise(CURVE):
            if share < until:
                return round(self.peak * (low + (high - low) * (share - from_) / (until - from_)))
        return None

    def visit(self, dice: random.Random) -> Visit:
        """What one viewer does between coming in and leaving."""
        stay_s = dice.expovariate(1 / self.stay_s)
        deeds = [(at_s, Deed.COMMENT) for at_s in _times(dice, self.comments_per_viewer_s, stay_s)]
        deeds += [(at_s, Deed.LIKE) for at_s in _times(dice, self.likes_per_viewer_s, stay_s)]
        if dice.random() < ENTER_SHARE:
            entered_s = dice.uniform(0, stay_s * ENTER_WITHIN)
            deeds.append((entered_s, Deed.ENTER))
            if dice.random() < self.order_share:
                deeds.append((dice.uniform(entered_s, stay_s * ENTER_WITHIN), Deed.ORDER))
        # By time alone: an order at the very moment of entering stays behind it.
        return Visit(stay_s, sorted(deeds, key=lambda deed: deed[0]))


def _times(dice: random.Random, rate: float, within_s: float) -> list[float]:
    """A Poisson stream: everybody acts on their own."""
    times: list[float] = []
    at_s = dice.expovariate(rate)
    while at_s < within_s:
        times.append(at_s)
        at_s += dice.expovariate(rate)
    return times
