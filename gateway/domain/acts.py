"""The acts of hosts on sales and rooms, and the log of them."""

from enum import StrEnum
from typing import Any, NamedTuple

from msgspec import Struct


class Act(StrEnum):
    """The acts of hosts on a sale; the words are those of `lua/control_sale.lua`."""

    OPEN = "open"
    PAUSE = "pause"
    RESUME = "resume"
    CLOSE = "close"
    STOCK = "stock"
    PRICE = "price"
    PLAN = "plan"
    WINDOW = "window"


class RoomAct(StrEnum):
    """The acts of hosts on a room; the words are those of the ledger's room_acts."""

    START = "start"
    END = "end"
    CHANGE = "change"
    ANNOUNCE = "announce"
    PIN = "pin"
    UNPIN = "unpin"
    MUTE = "mute"
    UNMUTE = "unmute"
    BAN = "ban"
    UNBAN = "unban"
    CHAT = "chat"
    BAN_WORD = "ban_word"
    ALLOW_WORD = "allow_word"
    RETRACT = "retract"
    RETRACT_ALL = "retract_all"
    LINK = "link"
    REDEEM = "redeem"


class ActPlace(NamedTuple):
    """Where an act stands in the log of a room; later acts compare as larger."""

    at_ms: int
    of_room: int
    """1 for an act on the room itself, 0 for one on a sale of it."""
    epoch: int
    no: int


class ActDone(Struct, frozen=True, kw_only=True):
    """An act of a room's log."""

    place: ActPlace
    act: str
    actor: str
    sale: str | None = None
    """The sale it was done to; without one, and without a coupon, the room."""
    coupon: str | None = None
    """The coupon that was dropped."""
    before: Any = None
    after: Any = None
    """None also for an act on a sale that had no effect."""
    reason: str | None = None
