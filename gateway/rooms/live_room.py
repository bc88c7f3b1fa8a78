"""A room with viewers in this process: its picture, its members, and what they are yet to be told."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from gateway.domain.room import Room
from gateway.rooms.picture import RoomPicture, ShownTick, Variant
from gateway.wire import frames
from gateway.wire.codec import Codec

# The tick before the first: a member who waits for a snapshot is told nothing before it.
NOT_YET = -1


class Member(Protocol):
    """A viewer's socket, as its room sees it."""

    codec: Codec
    variant: Variant
    at_seq: int
    """The last tick it was told; `NOT_YET` until its snapshot."""
    slot: int
    """Its place among the members; the room's own."""

    def give(self, data: bytes) -> None:
        """Whole WebSocket frames, the same bytes for everybody."""
        ...


class SharedSnapshot:
    """A snapshot as it is sent: encoded once a codec."""

    __slots__ = ("_encoded", "frame")

    def __init__(self, frame: frames.Snapshot) -> None:
        self.frame = frame
        self._encoded: dict[str, bytes] = {}

    def encoded(self, codec: Codec) -> bytes:
        known = self._encoded.get(codec.name)
        if known is None:
            known = self._encoded[codec.name] = codec.framed(self.frame)
        return known


class LiveRoom:
    """Members in no order; leaving costs the same whatever their number."""

    __slots__ = ("counted", "members", "owes_snapshot", "picture", "room", "spoken_s", "starter", "took_s", "untold")

    def __init__(self, room: Room, picture: RoomPicture) -> None:
        self.room = room
        self.picture = picture
        self.members: list[Member] = []
        self.untold: deque[ShownTick | SharedSnapshot] = deque()
        self.owes_snapshot = False
        """Whether members wait for one, because the room began anew."""
        self.took_s = 0.0
        """How long it took to tell everybody the last time."""
        self.starter = 0
        """Who is told first; another one each time."""
        self.counted = 0
        """Members as the room was last told of this process."""
        self.spoken_s = 0.0
        """When a member last came or left."""

    def add(self, member: Member) -> None:
        member.slot = len(self.members)
        self.members.append(member)

    def remove(self, member: Member) -> None:
        last = self.members.pop()
        if last is not member:
            self.members[member.slot] = last
            last.slot = member.slot

    def begin_anew(self, picture: RoomPicture) -> None:
        """Another epoch, or ticks that are gone for good: nobody is told more until their snapshot."""
        self.picture = picture
        self.counted = 0
        self.untold.clear()
        for member in self.members:
            member.at_seq = NOT_YET

    def catch_up(self, member: Member, missed: Sequence[ShownTick]) -> None:
        """The ticks a member who came back has missed."""
        if missed:
            member.give(b"".join(tick.encoded(member.codec, Variant.WHOLE) for tick in missed))
        member.at_seq = self.picture.seq

    def show(self, member: Member, snapshot: SharedSnapshot) -> None:
        """The room as it was at the snapshot's tick, and what happened since."""
        member.give(snapshot.encoded(member.codec))
        since = self.picture.missed(snapshot.frame.epoch, snapshot.frame.seq)
        if since is None:
            # Another epoch began meanwhile: its snapshot is on its way to everybody.
            member.at_seq = NOT_YET
        else:
            self.catch_up(member, since)
