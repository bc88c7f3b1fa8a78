"""What a shop may use of an installation that it shares with others."""

from typing import Final

from msgspec import Struct

ROOMS_A_DAY: Final = 50
"""Of a shop that nobody has given another limit; a busy one shows as often."""
MAX_ROOMS_A_DAY: Final = 1_000_000
MAX_VIEWERS: Final = 100_000_000
MAX_COMMENTS_PER_S: Final = 1_000_000


class ShopLimits(Struct, frozen=True, kw_only=True):
    """None is no limit."""

    rooms_a_day: int = ROOMS_A_DAY
    """New rooms a day of UTC."""
    viewers: int | None = None
    """Open sockets of viewers in all rooms."""
    comments_per_s: int | None = None
    """Comments of viewers in all rooms."""


DEFAULT: Final = ShopLimits()
