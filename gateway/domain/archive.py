"""What goes from the rooms Valkey into the archive: entries of its streams, and what one transaction takes down."""

from dataclasses import dataclass, field
from typing import NamedTuple

from gateway.domain.live import ArchivedComment


class SaidEntry(NamedTuple):
    """As it lies in the stream of a room shard."""

    room_shard: int
    id: bytes
    body: bytes


class Retraction(NamedTuple):
    """One comment is taken back, or all that a viewer had said in the room by then."""

    room_no: int
    epoch: int
    n: int
    """Of the comment; with a viewer, the last number there was."""
    viewer: str | None
    actor: str


@dataclass(frozen=True, slots=True)
class SaidBatch:
    """`retractions` are about what stands before them, so they come behind the comments, in their order."""

    comments: list[ArchivedComment] = field(default_factory=list)
    retractions: list[Retraction] = field(default_factory=list)
    likes: dict[int, int] = field(default_factory=dict)
    """By room, the most that was heard."""
