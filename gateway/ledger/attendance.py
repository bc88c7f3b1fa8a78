"""Who was in rooms, as live processes and the keeper tell it."""

from collections.abc import Sequence

from gateway.domain.attendance import Attended, RoomSample, StillOpen
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("attendance.sql")


class LedgerAttendance:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def count(
        self,
        process: str,
        flush_no: int,
        *,
        attended: Sequence[Attended],
        still_open: Sequence[StillOpen],
        now_s: float,
    ) -> bool:
        """Counts a flush once, however often it is told; False when it had been counted. `now_s` is on the clock of
        what was attended. Raises LedgerRejected for what it cannot store."""
        rows = sorted(attended, key=lambda each: (each.room_no, each.viewer.encode()))
        counted = await self._ledger.fetchval(
            _QUERIES["count"],
            process,
            flush_no,
            [each.room_no for each in rows],
            [each.viewer for each in rows],
            [each.visits for each in rows],
            [_ms(now_s - each.from_s) for each in rows],
            [_ms(now_s - each.to_s) for each in rows],
            [_ms(each.watch_s) for each in rows],
            [each.entries for each in rows],
            [None if each.entry_s is None else _ms(now_s - each.entry_s) for each in rows],
            [each.room_no for each in still_open],
            [each.open for each in still_open],
            [each.missed for each in still_open],
        )
        return bool(counted)

    async def live_rooms(self) -> list[int]:
        return [row["room_no"] for row in await self._ledger.fetch(_QUERIES["live_rooms"])]

    async def sample(self, samples: Sequence[RoomSample]) -> None:
        columns = (list(column) for column in zip(*samples, strict=True))
        await self._ledger.execute(_QUERIES["sample"], *columns)


def _ms(seconds: float) -> int:
    return max(0, round(seconds * 1000))
