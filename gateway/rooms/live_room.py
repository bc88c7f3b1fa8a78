"""A room with viewers in this process: its picture, its members, and what they are yet to be told."""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

from gateway.domain.room import Room
from gateway.rooms.picture import NO_EPOCH, RoomPicture, ShownTick, Variant
from gateway.wire import frames
from gateway.wire.codec import Codec

# The tick before the first: a member who waits for a snapshot is told nothing before it.
NOT_YET = -1
# About twenty seconds of a room in which people talk as fast as others can read; what is longer than that costs a crowd
# that comes back more than the room as it is.
RESUME_BYTES_MAX = 64 * 1024
_JOINS_KEPT = 32


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

    __slots__ = (
        "_joined_at",
        "_joins",
        "counted",
        "entering",
        "members",
        "owes_snapshot",
        "picture",
        "room",
        "spoken_s",
        "starter",
        "took_s",
        "untold",
    )

    def __init__(self, room: Room, picture: RoomPicture) -> None:
        self.room = room
        self.picture = picture
        self.members: list[Member] = []
        self.entering = 0
        """Who was handed the room and is not a member yet."""
        self._joined_at: tuple[RoomPicture, int] | None = None
        self._joins: dict[tuple[str, int], bytes] = {}
        """Ticks up to that one, joined by codec and where they begin."""
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

    def resumed(self, codec: Codec, epoch: int, seq: int) -> bytes | None:
        """What who left at that tick has missed; the same bytes for all of a crowd that left together. None where a
        snapshot tells it better, because not all is here or because it is longer."""
        missed = self.picture.missed(epoch, seq)
        if missed is None:
            return None
        data = self._joined(codec, missed)
        return data if len(data) <= RESUME_BYTES_MAX else None

    def goes_on_from(self, snapshot: SharedSnapshot) -> bool:
        """Whether what happened since the snapshot is all here."""
        seen, now = snapshot.frame, self.picture
        return (seen.epoch == now.epoch == NO_EPOCH) or now.missed(seen.epoch, seen.seq) is not None

    def catch_up(self, member: Member, missed: Sequence[ShownTick]) -> None:
        """The ticks a member was not told yet."""
        if missed:
            member.give(self._joined(member.codec, missed))
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

    def _joined(self, codec: Codec, missed: Sequence[ShownTick]) -> bytes:
        if not missed:
            return b""
        at = (self.picture, missed[-1].seq)
        if self._joined_at != at:
            self._joined_at, self._joins = at, {}
        data = self._joins.get((codec.name, missed[0].seq))
        if data is None:
            data = b"".join(tick.encoded(codec, Variant.WHOLE) for tick in missed)
            if len(self._joins) < _JOINS_KEPT:
                self._joins[codec.name, missed[0].seq] = data
        return data
