"""What was played in a show: all that the check holds against the ledger and the report."""

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class PlayedOrder:
    """An order that somebody was told `reserved` of, and what became of it by our own hand."""

    order: str
    number: int
    sub: str
    quantity: int
    amount_minor: int
    claim: str | None
    wants_pickup: bool
    pays: bool
    told: str = "reserved"
    """What the till was answered when it reported the money."""


@dataclass(slots=True)
class Journal:
    orders: dict[str, PlayedOrder] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    """To orders, by outcome."""
    claims: dict[str, str] = field(default_factory=dict)
    """By id, whose."""
    claim_answers: Counter[str] = field(default_factory=Counter)
    booked: set[str] = field(default_factory=set)
    heard: list[tuple[str, str, Any]] = field(default_factory=list)
    """Events at the shop's own backend: id, type, data."""
    paid_minor: int = 0
    """What the till took."""
    collected: set[str] = field(default_factory=set)
    visits: int = 0
    came: set[str] = field(default_factory=set)
    entries: Counter[str] = field(default_factory=Counter)
    """Of each viewer."""
    comments: int = 0
    commenters: set[str] = field(default_factory=set)
    likes: int = 0
    reconnects: int = 0
    at_once: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, 0)])
    """How many were there from that second of the show on."""
    watched_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """How long each viewer was there, from the start of the show on."""
    wrong: list[str] = field(default_factory=list)
    """What nobody should ever be told."""
    started_s: float = 0.0
    length_s: float = 0.0
    """Of the show, from its start to its end."""

    def now_s(self) -> float:
        """Since the start of the show."""
        return time.monotonic() - self.started_s

    def most_at_once(self, for_s: float = 0.0) -> int:
        """The most who were there for so long together."""
        most, changes = 0, self.at_once
        for place, (at_s, count) in enumerate(changes):
            fewest, later = count, place + 1
            while fewest > most and later < len(changes) and changes[later][0] < at_s + for_s:
                fewest, later = min(fewest, changes[later][1]), later + 1
            most = max(most, fewest)
        return most

    def one_came(self, sub: str) -> None:
        self.visits += 1
        self.came.add(sub)
        self.at_once.append((self.now_s(), self.at_once[-1][1] + 1))

    def one_left(self, sub: str, *, stayed_s: float, reconnects: int) -> None:
        self.at_once.append((self.now_s(), self.at_once[-1][1] - 1))
        self.watched_s[sub] += stayed_s
        # Each came in as one more visit.
        self.visits += reconnects
        self.reconnects += reconnects
