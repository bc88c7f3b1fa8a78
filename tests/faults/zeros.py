"""What must be none in a run: five zeros by name, and two words beside them for what is wrong without being one."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Zero(StrEnum):
    LOST = "confirmed lost"  # told `confirmed` or later and not in the ledger; also an entry of the stream lost
    OVERSOLD = "oversold"  # more units than there were, than one viewer may have, or than the counters say
    DOUBLE = "double"  # one key with two orders, or another order than was told
    ANSWERS = "wrong answers"  # what somebody was told is not so
    MONEY = "money drift"  # money, or the state it puts an order in, is not what was paid and told
    # Beside the five.
    PROMISES = "reserved lost with no file lost"  # in a round in which Valkey kept its file
    STUCK = "stuck"  # no answer, not quiet or not selling again in time


FIVE = (Zero.LOST, Zero.OVERSOLD, Zero.DOUBLE, Zero.ANSWERS, Zero.MONEY)

# What the audit's rules are of, by the number of their invariant.
_AUDITED = {
    "1": Zero.OVERSOLD,
    "2": Zero.OVERSOLD,
    "3": Zero.ANSWERS,
    "4": Zero.DOUBLE,
    "5": Zero.OVERSOLD,  # copies of a coupon
    "6": Zero.MONEY,
    "8": Zero.LOST,
    "9": Zero.LOST,
}
_OF_MONEY = {"paid", "refund_due", "refunded"}


@dataclass(frozen=True, slots=True)
class Wrong:
    zero: Zero
    sentence: str

    def __str__(self) -> str:
        return f"[{self.zero}] {self.sentence}"


def audited(rule: str) -> Zero:
    return _AUDITED[rule.split()[0]]


def told_but_is(told: str, found: str | None) -> Zero:
    """What it is when an order was told to be in a state that the one found (None: no such order) may not follow."""
    if told != "refused" and found in (None, "refused"):
        return Zero.LOST
    return Zero.MONEY if told in _OF_MONEY else Zero.ANSWERS


def count_zeros(found: Iterable[Wrong]) -> dict[str, int]:
    """Of every name, those with none too."""
    counted = Counter(each.zero for each in found)
    return {str(zero): counted[zero] for zero in Zero}
