"""When an event that was not taken is sent again."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

FIRST_S: Final = 1.0
# A shop that was away for long is asked about twice an hour, and what it asks for is believed as far.
LONGEST_S: Final = 3600.0


def ceiling_s(attempts: int) -> float:
    """The longest pause behind so many failed attempts: one second, twice as long each time, an hour at most."""
    return min(LONGEST_S, FIRST_S * 2.0 ** min(attempts - 1, 32))


def pause_s(attempts: int, *, retry_after_s: float = 0.0) -> float:
    """Full jitter: anywhere up to the ceiling, so that what failed together does not come back together. What the shop
    asks for is waited for, and then some, up to the longest pause."""
    pause = random.uniform(0.0, ceiling_s(attempts))
    if retry_after_s <= 0:
        return pause
    return min(retry_after_s, LONGEST_S) + random.uniform(0.0, min(pause, FIRST_S))


def read_retry_after(value: str | None, *, now: datetime) -> float:
    """Seconds, or a date; 0 for what says nothing."""
    if value is None:
        return 0.0
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(min(int(value[:9]), LONGEST_S))
    try:
        until = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # a year or an offset of thirty digits
        return 0.0
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return min(max(0.0, (until - now).total_seconds()), LONGEST_S)
