"""A room's ticks as they travel between processes and stand in the history, and what a room is between two of them."""

from typing import Any

import msgspec
from msgspec import Struct


class SaidComment(Struct, array_like=True, frozen=True, gc=False):
    n: int
    at_ms: int
    viewer: str
    name: str
    text: str


class CutTick(Struct, array_like=True, frozen=True, gc=False):
    """What happened in a room since the tick before, numbered for all processes alike. `viewers` and `likes` are there
    when they changed; an event that is no comment is as on the wire."""

    epoch: int
    seq: int
    now_ms: int
    viewers: int | None
    likes: int | None
    skipped: int
    ev: list[SaidComment | dict[str, Any]]


class RoomFacts(Struct, frozen=True, kw_only=True):
    """A room as Valkey has it at one moment."""

    epoch: int
    seq: int
    likes: int
    viewers: int
    slow_mode_s: int
    comments: bool
    pin: dict[str, Any] | None
    rules: int
    """Grows whenever bans or banned words change."""


RULES_CHANGED = b""
"""In place of a tick: the bans or banned words of the room are others now. No tick is empty."""

read_tick = msgspec.msgpack.Decoder(CutTick).decode
