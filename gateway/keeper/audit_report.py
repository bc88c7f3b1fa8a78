"""What an audit says: its rules, the verdict on each, the figures."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

LISTED = 20


class Rule(StrEnum):
    """What is checked; the number is that of the invariant."""

    WITHIN_STOCK = "1 live orders stay within the stock"
    COUNTERS = "1 held and sold are the sums of the orders"
    CONSERVATION = "1 stock is left, live, waiting and releasing units"
    STOCK = "1 the stock in Valkey is the ledger's"
    HELD = "1 the held units in Valkey are the ledger's"
    NEGATIVE = "1 no counter is negative"
    HOLDINGS = "2 holdings are the sums of the live orders"
    LIMITS = "2 no viewer holds more than the limit"
    UNITS = "2 units by viewer in Valkey are the holdings"
    ANSWERED = "3 every answered key is an order"
    ANSWERS = "3 every live order is answered by its key"
    KEYS = "4 a key holds one order"
    AMOUNTS = "6 amounts are price times quantity less discount"
    PRICES = "6 orders are at the price of their item"
    NUMBERS = "8 every sequence number stands in the ledger once"
    STREAM = "8 the stream behind the cursor has no gap"
    DRAINED = "8 the ledger is at the end of the stream"
    EPOCH = "9 Valkey and the ledger are in one epoch"
    AHEAD = "9 Valkey is not behind the ledger"
    TRIM = "9 the stream is not trimmed past the cursor"


# What can only be judged on a cut of both stores.
ON_THE_CUT = (Rule.CONSERVATION, Rule.STOCK, Rule.HELD, Rule.STREAM, Rule.TRIM)
BY_NAME = (Rule.UNITS, Rule.ANSWERED, Rule.ANSWERS)
OF_SHARDS = (Rule.NUMBERS, Rule.STREAM, Rule.DRAINED, Rule.EPOCH, Rule.AHEAD, Rule.TRIM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`violations` are the first of them. A check that could not be made does not hold and may have none; `detail` says
    why."""

    name: str
    holds: bool
    detail: str
    violations: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Exact numbers of the audited sales on the cut: stock = left + held + sold + waiting + releasing."""

    sales: int
    orders: dict[str, int]
    """By status."""
    units: dict[str, int]
    """By status."""
    stock: int
    left: int
    held: int
    """Units of orders confirmed and not paid."""
    sold: int
    """Units of orders paid."""
    waiting: int
    """Units of orders that stand in the stream behind the cursor."""
    releasing: int
    """Units that the ledger ended and Valkey has yet to be told."""
    backlog: int
    """Sequence numbers behind the cursor, over the audited shards."""
    parked: int
    parked_entries: list[str]
    """The newest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    holds: bool
    checks: list[Check]
    figures: Figures

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
