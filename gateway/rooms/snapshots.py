"""Snapshots of rooms: everyone who enters within a moment is shown the same one, built and encoded once."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from gateway.clock import Clock
from gateway.domain.room import Room
from gateway.rooms.live_room import LiveRoom, SharedSnapshot
from gateway.rooms.picture import RoomPicture
from gateway.wire import frames

# A reconnecting room costs one read; what happened since the snapshot follows it as ticks.
FRESH_S: Final = 0.25

Shown = dict[str, Any]


class _Built(NamedTuple):
    at_s: float
    picture: RoomPicture
    task: "asyncio.Future[SharedSnapshot]"


class Snapshots:
    def __init__(
        self, *, window: Callable[[Room], Awaitable[tuple[Shown, list[Shown], list[Shown]]]], clock: Clock
    ) -> None:
        """`window` reads the room itself, its sales and its coupons as viewers are shown them."""
        self._window = window
        self._clock = clock
        self._built: dict[int, _Built] = {}

    async def of(self, live: LiveRoom) -> SharedSnapshot:
        """At most `FRESH_S` old and of the room's present epoch."""
        now_s = self._clock.monotonic()
        known = self._built.get(live.room.room_no)
        stale = known is None or known.picture is not live.picture or now_s - known.at_s > FRESH_S
        if known is None or stale or known.task.cancelled():
            self._built = {at: built for at, built in self._built.items() if now_s - built.at_s <= FRESH_S}
            known = _Built(now_s, live.picture, asyncio.ensure_future(self._build(live)))
            self._built[live.room.room_no] = known
        # Whoever leaves while it is built must not take it from the others.
        return await asyncio.shield(known.task)

    async def _build(self, live: LiveRoom) -> SharedSnapshot:
        picture = live.picture
        # Taken before the sales are read: what happens meanwhile is told once more rather than not at all.
        seq, likes, viewers = picture.seq, picture.likes, picture.viewers
        pin, chat, recent = picture.pin, picture.chat, list(picture.recent)
        room, sales, coupons = await self._window(live.room)
        return SharedSnapshot(
            frames.Snapshot(
                room=room,
                epoch=picture.epoch,
                seq=seq,
                viewers=viewers,
                likes=likes,
                sales=sales,
                coupons=coupons,
                pin=pin,
                recent=recent,
                chat=chat,
            )
        )
