"""At most so many sockets a viewer and room, over all processes: asked in groups, one call a room and moment.

Where the rooms Valkey does not answer, only the sockets of this process count: it keeps nobody from ordering. Who is
let in then is not counted, and who leaves then is given back once it answers: it may count too few, and keeps nobody
out for what they no longer hold. What a killed process held counts no more once the others know that it is gone.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

_AT_ONCE = 500
_AWAY_S = 1.0
# Of a room, who left while Valkey was away; whoever is beyond it stays counted until this process ends.
_LEFT_MAX = 50_000


class Hot(Protocol):
    async def seats(
        self, room_no: int, *, alive: Sequence[str], most: int, left: Sequence[str], asking: Sequence[str]
    ) -> list[bool]: ...


class _Row:
    """Who asks for a seat of one room, and who gave one back."""

    __slots__ = ("asking", "calling", "is_due", "left")

    def __init__(self) -> None:
        self.asking: list[tuple[str, asyncio.Future[bool]]] = []
        self.left: list[str] = []
        self.calling = False
        self.is_due = False
        """Whether who left is tried again by itself."""


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
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await asyncio.Event().wait()
        finally:
            # Sockets that end later are given back by the end of this process.
            self._tasks = None

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
        if len(row.left) < _LEFT_MAX:
            row.left.append(viewer)
        self._work_on(room_no, row)

    def _work_on(self, room_no: int, row: _Row) -> None:
        if self._tasks is not None and not row.calling:
            row.calling = True
            self._tasks.create_task(self._call(room_no, row))

    async def _call(self, room_no: int, row: _Row) -> None:
        try:
            while row.asking or row.left:
                if self._now_s() < self._away_until_s:
                    # Nobody waits again for a server that did not answer a moment ago.
                    asking, row.asking = row.asking, []
                    _let_in(asking)
                    self._try_later(room_no, row)
                    break
                asking, row.asking = row.asking[:_AT_ONCE], row.asking[_AT_ONCE:]
                left, row.left = row.left[:_AT_ONCE], row.left[_AT_ONCE:]
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
                    _let_in(asking)
                    row.left += left
                else:
                    _answer(row, asking, taken)
        finally:
            row.calling = False
            if not row.asking and not row.left:
                self._rows.pop(room_no, None)

    def _try_later(self, room_no: int, row: _Row) -> None:
        def again() -> None:
            row.is_due = False
            if row.left:
                self._work_on(room_no, row)

        if row.left and not row.is_due:
            row.is_due = True
            asyncio.get_running_loop().call_later(_AWAY_S, again)


def _let_in(asking: Sequence[tuple[str, asyncio.Future[bool]]]) -> None:
    for _, waiting in asking:
        if not waiting.done():
            waiting.set_result(True)


def _answer(row: _Row, asking: Sequence[tuple[str, asyncio.Future[bool]]], taken: Sequence[bool]) -> None:
    for (viewer, waiting), is_taken in zip(asking, taken, strict=True):
        if not waiting.done():
            waiting.set_result(is_taken)
        elif is_taken:
            # Whoever asked is gone.
            row.left.append(viewer)
