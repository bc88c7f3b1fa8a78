"""Members of a room without sockets: they read the bytes they are given as a viewer would."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from gateway.domain.ids import RoomId
from gateway.domain.room import Room, RoomState
from gateway.rooms.live_room import NOT_YET, LiveRoom, SharedSnapshot
from gateway.rooms.picture import RoomPicture, ShownTick, Variant
from gateway.wire import frames
from gateway.wire.codec import JSON, Codec
from gateway.wire.ticks import CutTick, RoomFacts, SaidComment

ROOM = Room(room=RoomId("room_1"), room_no=5, shop="tins", title="Show", state=RoomState.LIVE, created_at_ms=0)


def mint(at_ms: int, room_no: int, epoch: int, n: int) -> str:
    return f"cmt_{epoch}_{n}"


def facts(*, epoch: int = 1, seq: int = 0, **others: Any) -> RoomFacts:
    defaults = {"likes": 0, "viewers": 0, "slow_mode_s": 0, "comments": True, "pin": None, "rules": 0}
    return RoomFacts(**{"epoch": epoch, "seq": seq, **defaults, **others})


def picture(*, epoch: int = 1, seq: int = 0, **others: Any) -> RoomPicture:
    return RoomPicture(ROOM.room_no, facts(epoch=epoch, seq=seq, **others), mint=mint)


def comment(n: int, viewer: str = "vw_1", *, at_ms: int = 0) -> SaidComment:
    return SaidComment(n, at_ms, viewer, f"name of {viewer}", f"text {n}")


def cut(seq: int, *events: SaidComment | dict[str, Any], epoch: int = 1, **others: Any) -> CutTick:
    defaults = {"now_ms": seq * 100, "viewers": None, "likes": None, "skipped": 0}
    return CutTick(epoch=epoch, seq=seq, ev=list(events), **{**defaults, **others})


def snapshot(of: RoomPicture, *, seq: int | None = None) -> SharedSnapshot:
    return SharedSnapshot(
        frames.Snapshot(
            room={},
            epoch=of.epoch,
            seq=of.seq if seq is None else seq,
            viewers=of.viewers,
            likes=of.likes,
            sales=[],
            coupons=[],
            pin=of.pin,
            recent=list(of.recent),
            chat=of.chat,
        )
    )


def frames_in(data: bytes, codec: Codec = JSON) -> Iterator[dict[str, Any]]:
    """The messages of whole WebSocket frames, as the peer reads them."""
    decode = msgspec.json.decode if codec.is_text else msgspec.msgpack.decode
    at = 0
    while at < len(data):
        assert data[at] == codec.opcode
        size, at = data[at + 1], at + 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        assert at + size <= len(data), "half a frame"
        yield decode(data[at : at + size])
        at += size


class FakeMember:
    """`on_give` is called with each write, before it is read."""

    def __init__(self, name: str = "", *, codec: Codec = JSON, variant: Variant = Variant.WHOLE) -> None:
        self.name = name
        self.codec = codec
        self.variant = variant
        self.at_seq = NOT_YET
        self.slot = -1
        self.writes: list[bytes] = []
        self.on_give: Callable[[FakeMember], None] = lambda member: None

    def give(self, data: bytes) -> None:
        assert data, "a write of nothing"
        self.on_give(self)
        self.writes.append(data)

    @property
    def told(self) -> list[dict[str, Any]]:
        return [frame for data in self.writes for frame in frames_in(data, self.codec)]

    @property
    def seqs(self) -> list[int]:
        """Of the ticks."""
        return [frame["seq"] for frame in self.told if frame["t"] == "tick"]


def live_room(members: Sequence[FakeMember] = (), *, of: RoomPicture | None = None) -> LiveRoom:
    """Everybody in it was told all so far."""
    live = LiveRoom(ROOM, of or picture())
    for member in members:
        live.add(member)
        member.at_seq = live.picture.seq
    return live


def shown(live: LiveRoom, *events: SaidComment | dict[str, Any], **others: Any) -> ShownTick:
    """The room's next tick."""
    return live.picture.apply(cut(live.picture.seq + 1, *events, epoch=live.picture.epoch, **others))
