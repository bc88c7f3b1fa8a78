"""Who was in a room, as a live process tells the ledger."""

from typing import Final, NamedTuple

# What a killed process takes with it: of visits and entries so much,
FLUSH_EVERY_S: Final = 5.0
# and so much of the watch time of those who just sit: a row a viewer every five seconds were the ledger's main work.
WATCH_EVERY_S: Final = 30.0
# A process that has sockets and says nothing for so long is taken for dead.
SILENT_S: Final = 15.0
SAMPLE_MS: Final = 5_000
"""An interval of samples; `lua/count_crowd.lua` has the same number."""


class Attended(NamedTuple):
    """What a viewer added in a room since it was told last; instants on the clock of the process, in seconds."""

    room_no: int
    viewer: str
    visits: int
    from_s: float
    to_s: float
    watch_s: float
    """Between the two; with pauses it is less than they are apart."""
    entries: int
    entry_s: float | None
    """Of the first of these entries."""


class StillOpen(NamedTuple):
    """What a process has not told of a room: totals, so that a repeat says the same."""

    room_no: int
    open: int
    """Sockets of viewers."""
    missed: int
    """Visits that found no place to be counted in."""


class RoomSample(NamedTuple):
    room_no: int
    at_ms: int
    """When the interval began."""
    viewers: int
    """Open sockets at its end."""
    peak: int
    """The most of them in it."""
