"""A comment: what may be said, and what became of it."""

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from gateway.domain.live import MAX_COMMENT_LENGTH
from gateway.errors import Invalid

# Line breaks and other controls would let one comment look like several; a format character may be part of an emoji.
_CONTROL = frozenset({"Cc", "Cs", "Zl", "Zp"})


class CommentOutcome(StrEnum):
    POSTED = "posted"
    MUTED = "muted"
    SLOW_MODE = "slow_mode"
    COMMENTS_OFF = "comments_off"
    REJECTED = "rejected"
    TOO_FAST = "too_fast"


class CommentAnswer(msgspec.Struct, frozen=True, gc=False):
    outcome: CommentOutcome
    comment: str | None = None
    at_ms: int | None = None
    retry_after_ms: int | None = None
    replayed: bool = False


@dataclass(slots=True, eq=False)
class CommentRequest:
    """A comment on its way to the room, and how to answer it."""

    viewer: str
    """The pseudonym of who says it."""
    sub: str
    name: str
    id: str
    text: str
    is_staff: bool
    arrived_s: float
    answer: Callable[[CommentAnswer | Exception], None]
    was_sent: bool = False
    """Valkey was asked, so that it may have been posted although no answer came."""
    is_banned: bool = False
    """It has a banned word; a repeat of one that was posted is answered as it was all the same."""


def normalised(text: str) -> str:
    """The text as it is shown and counted. Raises Invalid (param `text`)."""
    said = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(said) <= MAX_COMMENT_LENGTH:
        raise Invalid(f"A comment has 1 to {MAX_COMMENT_LENGTH} characters.", param="text")
    if not said.isprintable() and any(unicodedata.category(character) in _CONTROL for character in said):
        raise Invalid("A comment has no control characters.", param="text")
    return said
