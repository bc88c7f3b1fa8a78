"""How many sockets a room has in all processes.

Each process says twice a second that it lives, in one call whatever the number of its rooms, and tells a room's number
only when it changed. Who falls silent is no longer counted: the others find it out with their next word and count their
rooms anew.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.rooms.hub import Hub
from gateway.rooms.live_room import LiveRoom

log = structlog.get_logger(__name__)

# Twice a second, good for 1.3 s: a room whose process was killed counts right within two seconds.
BEAT_EVERY_S = 0.5
WORD_HOLDS_MS = 1300
# Who counted a room since this process asked who lives may have been born since; a dead one spoke before. The reply
# to that question is as old as this besides.
_ON_ITS_WAY_MS = 250
_COUNTING_AT_ONCE = 8
# An interval that moved by less is not worth a call.
_INTERVAL_STEP = 1.25


class Hot(Protocol):
    async def beat(self, lives_ms: int) -> list[str]: ...
    async def count(
        self, room_no: int, *, sockets: int, interval_ms: int, alive: Sequence[str], young_ms: int
    ) -> Any: ...


class Calls(Protocol):
    def cut(self, room_no: int, *, at_once: bool = False) -> None: ...


class Crowd:
    """Counts the rooms of one process."""

    def __init__(self, *, hub: Hub, hot: Hot, calls: Calls, clock: Clock) -> None:
        self._hub = hub
        self._hot = hot
        self._calls = calls
        self._clock = clock
        self.alive: Sequence[str] = ()
        """The processes that live, as they were last heard."""
        self._anew = False
        self._spoke_s = 0.0
        self._intervals: dict[int, int] = {}

    async def run(self) -> None:
        while True:
            await asyncio.sleep(BEAT_EVERY_S)
            try:
                await self.beat()
            except GatewayError as error:
                log.warning("crowd_not_counted", error=str(error))

    async def beat(self) -> None:
        asked_s = self._clock.monotonic()
        alive = await self._hot.beat(WORD_HOLDS_MS)
        now_s = self._clock.monotonic()
        # Where this process was silent for too long, others have stopped counting it.
        silent = now_s - self._spoke_s > WORD_HOLDS_MS / 1000
        gone = set(self.alive) - set(alive)
        self._anew = self._anew or silent or bool(gone)
        self.alive, self._spoke_s = alive, now_s
        changed = [live for live in self._hub.rooms.values() if self._anew or self._changed(live)]
        counting = asyncio.Semaphore(_COUNTING_AT_ONCE)

        async def count(live: LiveRoom) -> None:
            async with counting:
                young_ms = int((self._clock.monotonic() - asked_s) * 1000) + _ON_ITS_WAY_MS
                await self._count(live, young_ms=young_ms)

        await asyncio.gather(*map(count, changed))
        # Not before: where a count failed, the next word counts all rooms once more; and also where somebody is gone,
        # who may have counted so shortly before that it was taken for born since.
        self._anew = bool(gone)

    async def leave(self) -> None:
        """The process goes away: the others count without it."""
        await self._hot.beat(0)

    def _changed(self, live: LiveRoom) -> bool:
        if live.counted != len(live.members):
            return True
        told, wanted = self._intervals.get(live.room.room_no, 0), self._hub.interval_ms(live.room.room_no)
        return bool(live.members) and not told / _INTERVAL_STEP <= wanted <= told * _INTERVAL_STEP

    async def _count(self, live: LiveRoom, *, young_ms: int) -> None:
        room_no, sockets = live.room.room_no, len(live.members)
        interval_ms = self._hub.interval_ms(room_no)
        counted = await self._hot.count(
            room_no, sockets=sockets, interval_ms=interval_ms, alive=self.alive, young_ms=young_ms
        )
        if counted.word != "counted":
            # Valkey lacks the room; whoever compares makes it anew, and then it is counted.
            return
        live.counted = sockets
        if sockets:
            self._intervals[room_no] = interval_ms
        else:
            self._intervals.pop(room_no, None)
        if counted.is_news:
            self._calls.cut(room_no)
