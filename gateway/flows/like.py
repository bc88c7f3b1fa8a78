"""Likes: taps are added up and told as a running total, so they may be many and cost little."""

from typing import Protocol

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.metrics import LIKES, SHED_LIKES


class Rooms(Protocol):
    """`gateway.rooms.calls.RoomCalls`."""

    def like(self, room_no: int, taps: int) -> None: ...


class Limiter(Protocol):
    def wait_s(self, who: str, now_s: float) -> float: ...


class Like:
    """A viewer's frames beyond the limit are not counted, and nobody is told: a tap is no promise."""

    def __init__(self, *, rooms: Rooms, limiter: Limiter, clock: Clock) -> None:
        self._rooms = rooms
        self._limiter = limiter
        self._clock = clock

    def like(self, caller: Caller, room_no: int, taps: int) -> None:
        if self._limiter.wait_s(f"{caller.shop}|{caller.sub}", self._clock.monotonic()) > 0:
            SHED_LIKES.add(taps)
            return
        LIKES.add(taps)
        self._rooms.like(room_no, taps)
