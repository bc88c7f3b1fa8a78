"""The figures of a show for its hosts: as they are now, as a report, and the orders that changed just now."""

from typing import Protocol, TypeVar

import msgspec
import structlog

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.figures import FiguresReading, Report
from gateway.domain.room import Room
from gateway.errors import HotUnavailable, NotFound
from gateway.flows.paced import Paced

log = structlog.get_logger(__name__)

R = TypeVar("R", FiguresReading, Report)


class Ledger(Protocol):
    """`gateway.ledger.figures.LedgerFigures`."""

    async def read(self, room_no: int) -> FiguresReading | None: ...
    async def report(self, room_no: int) -> Report | None: ...


class Crowd(Protocol):
    """`gateway.hot.rooms.HotRooms`."""

    async def viewers(self, room_no: int) -> int: ...


class Rooms(Protocol):
    async def own(self, caller: Caller, room_id: str) -> Room:
        """A room the caller is a host of."""
        ...


class ShowFigures:
    """Computed only while somebody asks, and shared by all who do: `at_ms` says how old they are."""

    def __init__(self, *, ledger: Ledger, crowd: Crowd, clock: Clock) -> None:
        self._ledger = ledger
        self._crowd = crowd
        self._readings: Paced[int, FiguresReading] = Paced(read=self._read, clock=clock)
        self._reports: Paced[int, Report] = Paced(read=self._report, clock=clock, most=20)

    async def now(self, room_no: int) -> FiguresReading:
        """Raises NotFound for a room that is none, LedgerUnavailable."""
        return await self._readings.get(room_no)

    async def report(self, room_no: int) -> Report:
        return await self._reports.get(room_no)

    async def _read(self, room_no: int) -> FiguresReading:
        return await self._with_crowd(room_no, _there(await self._ledger.read(room_no)))

    async def _report(self, room_no: int) -> Report:
        report = _there(await self._ledger.report(room_no))
        return msgspec.structs.replace(report, reading=await self._with_crowd(room_no, report.reading))

    async def _with_crowd(self, room_no: int, reading: FiguresReading) -> FiguresReading:
        """How many watch is known of the rooms Valkey alone; without it the rest is told."""
        try:
            now = await self._crowd.viewers(room_no)
        except HotUnavailable as error:
            log.warning("figures_without_crowd", room_no=room_no, error=str(error))
            return reading
        peak = reading.figures.viewers_peak
        if not reading.is_final:
            # The last samples are still to come.
            peak = max(peak or 0, now)
        figures = msgspec.structs.replace(reading.figures, viewers_now=now, viewers_peak=peak)
        return msgspec.structs.replace(reading, figures=figures)


class HostFigures:
    """The same over HTTP: for hosts of the room only."""

    def __init__(self, *, figures: ShowFigures, rooms: Rooms) -> None:
        self._figures = figures
        self._rooms = rooms

    async def metrics(self, caller: Caller, room_id: str) -> tuple[Room, FiguresReading]:
        room = await self._rooms.own(caller, room_id)
        return room, await self._figures.now(room.room_no)

    async def report(self, caller: Caller, room_id: str) -> Report:
        room = await self._rooms.own(caller, room_id)
        return await self._figures.report(room.room_no)


def _there(found: R | None) -> R:
    if found is None:
        raise NotFound("There is no such room.")
    return found
