"""How many watched: each live room is looked at once in five seconds, for the timeline of its report."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.attendance import SAMPLE_MS, RoomSample
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

# The last count of an interval is told up to half a second after it.
_AFTER_S = 0.7
# Rooms in one pipeline and in one statement: some 10 ms of either.
ROOMS_AT_ONCE = 500


class Crowded(Protocol):
    @property
    def viewers(self) -> int: ...
    @property
    def peak(self) -> int: ...


class Hot(Protocol):
    """`gateway.hot.rooms.HotRooms`."""

    async def crowds(self, room_nos: Sequence[int], *, interval_ms: int) -> tuple[int, Mapping[int, Crowded]]: ...


class Ledger(Protocol):
    """`gateway.ledger.attendance.LedgerAttendance`."""

    async def live_rooms(self) -> Sequence[int]: ...
    async def sample(self, samples: Sequence[RoomSample]) -> None: ...


class RoomSamples:
    """A room without viewers costs a question and no row, but for one row when they have left. An interval in which no
    keeper looked stays without a row. Two keepers write the same rows."""

    def __init__(self, *, hot: Hot, ledger: Ledger, clock: Clock) -> None:
        self._hot = hot
        self._ledger = ledger
        self._clock = clock
        self._watched: set[int] = set()
        """Rooms that had viewers when they were looked at last."""

    async def run(self) -> None:
        while True:
            interval_s = SAMPLE_MS / 1000
            await asyncio.sleep(interval_s - (self._clock.now_ms() / 1000 - _AFTER_S) % interval_s)
            try:
                await self.look()
            except GatewayError as error:
                log.warning("rooms_not_sampled", error=str(error))

    async def look(self) -> None:
        """Raises HotUnavailable, LedgerUnavailable."""
        live = await self._ledger.live_rooms()
        self._watched.intersection_update(live)
        for at in range(0, len(live), ROOMS_AT_ONCE):
            at_ms, found = await self._hot.crowds(live[at : at + ROOMS_AT_ONCE], interval_ms=SAMPLE_MS)
            samples = [
                RoomSample(room_no, at_ms, viewers=crowded.viewers, peak=max(crowded.peak, crowded.viewers))
                for room_no, crowded in found.items()
                if crowded.viewers or crowded.peak or room_no in self._watched
            ]
            if samples:
                await self._ledger.sample(samples)
            for sample in samples:
                if sample.viewers:
                    self._watched.add(sample.room_no)
                else:
                    self._watched.discard(sample.room_no)
