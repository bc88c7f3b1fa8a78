"""What clients asked and were told, each word with its time: the only witness of what was promised.

Kept in memory for the judge and, line by line, in a file that survives the run.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TextIO

from tests.faults.zeros import Wrong, Zero


def now_ms() -> int:
    """Wall time: one machine, so it can be held against the servers' own."""
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class Attempt:
    """One time an ask was sent somewhere. `word` is an outcome, or `error:<code>`, or None while nothing came back."""

    where: str
    sent_ms: int
    word: str | None = None
    order: str | None = None
    amount_minor: int | None = None
    answered_ms: int = 0
    replayed: bool = False


@dataclass(slots=True)
class Ask:
    """One wish of one viewer under one key, with the attempts to get an answer."""

    sale: str
    viewer: str
    key: str
    sku: str
    quantity: int
    price_minor: int
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def name(self) -> tuple[str, str, str]:
        return self.sale, self.viewer, self.key

    @property
    def first_sent_ms(self) -> int:
        return self.attempts[0].sent_ms

    def reserved(self) -> Iterator[Attempt]:
        return (attempt for attempt in self.attempts if attempt.word == "reserved")


@dataclass(slots=True)
class Told:
    """A state of an order that somebody was told; `how` names the way it came."""

    order: str
    status: str
    at_ms: int
    how: str
    reason: str | None = None
    pay_by_ms: int | None = None
    amount_minor: int | None = None


@dataclass(slots=True)
class Money:
    """A payment the shop's backend reported, and a refund of it."""

    order: str
    txn: str
    amount_minor: int
    is_right: bool
    """Whether it is what the order costs; a report of another amount is to be turned down."""
    states: list[str] = field(default_factory=list)
    """Of the payment, as they were told, the latest last."""
    error: str | None = None
    """The code with which the report was turned down for good."""


class Journal:
    """Of one round: asks by name, states by order. All rounds write to one `file`."""

    def __init__(self, file: TextIO) -> None:
        self.asks: dict[tuple[str, str, str], Ask] = {}
        self.told: dict[str, list[Told]] = {}
        self.wrong: list[Wrong] = []
        """What was wrong by itself, when it was heard."""
        self._file = file

    def write(self, kind: str, **facts: Any) -> None:
        self._file.write(json.dumps({"kind": kind, "at_ms": now_ms(), **facts}) + "\n")

    def add_wrong(self, zero: Zero, sentence: str) -> None:
        self.wrong.append(Wrong(zero, sentence))

    def ask(self, ask: Ask) -> Ask:
        assert ask.name not in self.asks
        self.asks[ask.name] = ask
        return ask

    def sent(self, ask: Ask, where: str) -> Attempt:
        attempt = Attempt(where, now_ms())
        ask.attempts.append(attempt)
        self.write("sent", ask=ask.name, where=where, sku=ask.sku, quantity=ask.quantity)
        return attempt

    def answered(self, ask: Ask, attempt: Attempt, word: str, **facts: Any) -> None:
        attempt.word, attempt.answered_ms = word, now_ms()
        attempt.order = facts.get("order")
        attempt.amount_minor = facts.get("amount_minor")
        attempt.replayed = bool(facts.get("replayed"))
        self.write("answered", ask=ask.name, where=attempt.where, word=word, **facts)
        if word == "reserved" and attempt.order is not None:
            self.state(attempt.order, "reserved", f"answer of {attempt.where}", amount_minor=attempt.amount_minor)

    def state(self, order: str, status: str, how: str, **facts: Any) -> None:
        self.told.setdefault(order, []).append(Told(order, status, now_ms(), how, **facts))
        self.write("told", order=order, status=status, how=how, **facts)

    # What the report asks for.

    def first_reserved_ms(self, since_ms: int) -> int | None:
        """When the first order was answered `reserved` that was asked for after `since_ms`."""
        return min(
            (
                attempt.answered_ms
                for ask in self.asks.values()
                if ask.first_sent_ms >= since_ms
                for attempt in ask.reserved()
            ),
            default=None,
        )

    def first_confirmed_ms(self, since_ms: int) -> int | None:
        """When the first order was told `confirmed` (or a later state) that was asked for after `since_ms`."""
        orders = {
            attempt.order for ask in self.asks.values() if ask.first_sent_ms >= since_ms for attempt in ask.reserved()
        }
        return min(
            (
                told.at_ms
                for order in orders
                if order is not None
                for told in self.told.get(order, ())
                if told.status not in ("reserved", "refused")
            ),
            default=None,
        )
