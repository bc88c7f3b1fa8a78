"""At most so many sockets a viewer and room, over all processes: asked in groups, one call a room and moment.

Where the rooms Valkey does not answer, only the sockets of this process count: it keeps nobody from ordering. What a
killed process held counts no more once the others know that it is gone.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

_AT_ONCE = 500
_AWAY_S = 1.0


class Hot(Protocol):
    async def seats(
        self, room_no: int, *, alive: Sequence[str], most: int, left: Sequence[str], asking: Sequence[str]
    ) -> list[bool]: ...


class _Row:
    """Who asks for a seat of one room, and who gave one back."""

    __slots__ = ("asking", "calling", "left")

    def __init__(self) -> None:
        self.asking: list[tuple[str, asyncio.Future[bool]]] = []
        self.left: list[str] = []
        self.calling = False


class Seats:
    def __init__(self, *, hot: Hot, alive: Callable[[], Sequence[str]], most: int, now_s: Callable[[], float]) -> None:
        self._hot = hot
        self._alive = alive
        self._most = most
        self._now_s = now_s
        self._away_until_s = 0.0
        self._rows: dict[int, _Row] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Owns the calls; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    async def take(self, room_no: int, viewer: str) -> bool:
        """Whether the viewer may have one more socket; then it is taken, and has to be given back."""
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        row = self._rows.setdefault(room_no, _Row())
        row.asking.append((viewer, waiting))
        self._work_on(room_no, row)
        try:
            return await waiting
        except asyncio.CancelledError:
            if waiting.done() and not waiting.cancelled() and waiting.result():
                self.give_back(room_no, viewer)
            raise

    def give_back(self, room_no: int, viewer: str) -> None:
        row = self._rows.setdefault(room_no, _Row())
        row.left.append(viewer)
        self._work_on(room_no, row)

    def _work_on(self, room_no: int, row: _Row) -> None:
        if self._tasks is not None and not row.calling:
            row.calling = True
            self._tasks.create_task(self._call(room_no, row))

    async def _call(self, room_no: int, row: _Row) -> None:
        try:
            while row.asking or row.left:
                asking, row.asking = row.asking[:_AT_ONCE], row.asking[_AT_ONCE:]
                left, row.left = row.left[:_AT_ONCE], row.left[_AT_ONCE:]
                taken = [True] * len(asking)
                if self._now_s() < self._away_until_s:
                    # Nobody waits again for a server that did not answer a moment ago.
                    self._answer(row, asking, taken)
                    continue
                try:
                    taken = await self._hot.seats(
                        room_no,
                        alive=self._alive(),
                        most=self._most,
                        left=left,
                        asking=[viewer for viewer, _ in asking],
                    )
                except GatewayError as error:
                    log.warning("seats_not_counted", room_no=room_no, error=str(error))
                    self._away_until_s = self._now_s() + _AWAY_S
                self._answer(row, asking, taken)
        finally:
            row.calling = False
            if not row.asking and not row.left:
                self._rows.pop(room_no, None)

    def _answer(self, row: _Row, asking: Sequence[tuple[str, asyncio.Future[bool]]], taken: Sequence[bool]) -> None:
        for (viewer, waiting), is_taken in zip(asking, taken, strict=True):
            if not waiting.done():
                waiting.set_result(is_taken)
            elif is_taken:
                # Whoever asked is gone.
                row.left.append(viewer)
