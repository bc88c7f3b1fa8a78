"""What a live room is made of beside its ledger row: what hosts set, what was said, and the changes to both."""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET, Struct, UnsetType

MAX_COMMENT_LENGTH = 200  # code points after NFC and trimming; the contract's
MAX_LIKES = 100  # taps in one frame; the contract's
MAX_SLOW_MODE_S = 3600
FOREVER_MS = 2**53 - 1
"""Until when somebody is muted who is banned."""


class RoomStanding(Struct, frozen=True, kw_only=True):
    """What the ledger knows of a room that Valkey does not have (any more)."""

    slow_mode_s: int = 0
    comments: bool = True
    pin: dict[str, Any] | None = None
    mutes: Mapping[str, int] = {}
    """By viewer (their pseudonym in the room), until when, in ms since 1970; only those still in force."""
    likes: int = 0


class RoomChange(Struct, frozen=True, kw_only=True):
    """What an act does to a room in Valkey, in one step; what is not set stays. Repeating it is harmless, but for the
    events, which are told once more."""

    events: Sequence[dict[str, Any]] = ()
    """As on the wire, told in the next tick in their order."""
    at_once: bool = False
    """Whether the tick is cut now rather than at its time."""
    slow_mode_s: int | None = None
    comments: bool | None = None
    pin: dict[str, Any] | UnsetType | None = UNSET
    mutes: Mapping[str, int] = {}
    """By viewer, until when in ms; 0 takes the mute away."""
    gone_comment: int | None = None
    """The number of a comment that nobody shall be shown any more."""
    gone_epoch: int = 0
    """The last 16 bits of the epoch it was said in; in another one the ledger alone has it."""
    gone_viewer: str | None = None
    """A viewer none of whose comments so far shall be shown any more."""
    actor: str = ""
    """Who retracts; for the archive."""
    rules_changed: bool = False
    """Bans or banned words are others now: every process reads them anew, and shows out who is banned."""


class RoomRules(Struct, frozen=True, kw_only=True):
    """Who may not enter a room and what may not be said in it."""

    bans: frozenset[str] = frozenset()
    """Pseudonyms in this room."""
    shop_bans: Mapping[str, frozenset[str]] = {}
    """By room of the shop, pseudonyms in that room; who has one of them enters no room of the shop."""
    words: frozenset[str] = frozenset()
    """As the hosts wrote them; the shop's and the room's together."""


class ArchivedComment(Struct, frozen=True):
    """A comment as the archive keeps it."""

    room_no: int
    epoch: int
    n: int
    at_ms: int
    viewer: str
    sub: str
    name: str
    text: str
