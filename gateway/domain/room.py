"""A room: one live stream and the viewers watching it."""

from enum import StrEnum

import msgspec

from gateway.domain.ids import RoomId


class RoomState(StrEnum):
    SCHEDULED = "scheduled"
    LIVE = "live"
    ENDED = "ended"


class Room(msgspec.Struct, frozen=True):
    room: RoomId
    room_no: int
    shop: str
    title: str
    state: RoomState
    created_at_ms: int
    starts_at_ms: int | None = None
    started_at_ms: int | None = None
    ended_at_ms: int | None = None
    stream_url: str | None = None
    notice: str | None = None
