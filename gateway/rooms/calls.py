"""The call of a room: what arrived for it since the last one goes to Valkey as one script call, a tick's time apart.

Whoever brings something to a room sees to it that it is told, also after the last viewer left: a call that came too
early for a tick is followed by another one, unless a tick was heard meanwhile, which then carried it all. So is one
that left something over: stock beyond what one tick tells, likes that are not archived yet.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.comment import CommentAnswer, CommentOutcome, CommentRequest
from gateway.domain.live import RoomChange, RoomStanding
from gateway.errors import GatewayError, OutcomeUnknown, Overloaded, Unavailable
from gateway.metrics import COMMENTS, ROOM_CALL_SECONDS
from gateway.rooms.desk import Desk
from gateway.rooms.opening import open_room

log = structlog.get_logger(__name__)

# The script looks every comment up in a few commands of all; this many take it about a millisecond.
COMMENTS_A_CALL = 200
WAITING_MAX = 2_000
# Readings of stock: a few commands each, and a tick tells no more.
STOCK_A_CALL = 200
# Rooms of which something is remembered here; beyond it those go of which nothing has to be.
DESKS_MAX = 10_000
_LOOKED_AT = 16
# A comment is decided within this time or not at all; the contract's.
DECIDE_WITHIN_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0
_FOR_GOOD_MS = 365 * 86_400_000


class Ticked(Protocol):
    @property
    def word(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def wait_ms(self) -> int: ...
    @property
    def answers(self) -> list[list[Any]]: ...


class Hot(Protocol):
    async def tick(
        self,
        room_no: int,
        *,
        interval_ms: int,
        at_once: bool,
        taps_epoch: int,
        taps: int,
        comments: Sequence[CommentRequest],
        stock: Mapping[str, tuple[int, dict[str, Any]]],
    ) -> Ticked: ...
    async def open(self, room_no: int, standing: RoomStanding, *, not_before: tuple[int, int] = (0, 0)) -> int: ...
    async def change(self, room_no: int, change: RoomChange) -> bool: ...


class RoomCalls:
    """Bounded: at most `WAITING_MAX` comments of a room wait; a further one is refused as overloaded. A comment whose
    reply was lost is asked again under its own id until its time is over."""

    def __init__(
        self,
        *,
        hot: Hot,
        standing: Callable[[int], Awaitable[RoomStanding]],
        interval_ms: Callable[[int], int],
        mint: Callable[[int, int, int, int], str],
        clock: Clock,
    ) -> None:
        """`standing` reads what the ledger knows of a room that Valkey lacks; `interval_ms` how far apart this process
        wants the ticks of a room."""
        self._hot = hot
        self._standing = standing
        self._interval_ms = interval_ms
        self._mint = mint
        self._clock = clock
        self._desks: dict[int, Desk] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._working = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Owns the calls; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    def comment(self, room_no: int, request: CommentRequest) -> None:
        """Its `answer` is called later. Raises Overloaded, Unavailable."""
        desk = self._desk(room_no)
        if len(desk.comments) >= WAITING_MAX:
            raise Overloaded(retry_after_ms=random.randint(500, 2000))
        waited = desk.has_work
        desk.comments.append(request)
        self._work_on(desk, is_sooner=not waited or len(desk.comments) == COMMENTS_A_CALL)

    def like(self, room_no: int, taps: int) -> None:
        desk = self._desk(room_no)
        waited = desk.has_work
        desk.taps += taps
        self._work_on(desk, is_sooner=not waited)

    def stock(self, room_no: int, field: str, version: int, event: dict[str, Any]) -> None:
        """The newest reading of what is left of an item; told in the next tick."""
        desk = self._desk(room_no)
        waited = desk.has_work
        had = desk.stock.get(field)
        if had is None or had[0] < version:
            desk.stock[field] = (version, event)
        self._work_on(desk, is_sooner=not waited)

    def cut(self, room_no: int, *, at_once: bool = False) -> None:
        """Something waits in Valkey for the room's next tick; `at_once`: and that tick is now."""
        desk = self._desk(room_no)
        waited = desk.has_work
        desk.wants_cut = True
        desk.at_once = desk.at_once or at_once
        self._work_on(desk, is_sooner=at_once or not waited)

    def heard(self, room_no: int, epoch: int, seq: int) -> None:
        """A tick of the room came: what this process had brought before is told."""
        desk = self._desks.get(room_no)
        if desk is not None and desk.recall_s is not None and (epoch, seq) > (desk.epoch, desk.seq):
            desk.recall_s = None
            desk.wake.set()

    async def drained(self) -> None:
        """Returns when everything that was brought is told."""
        await self._idle.wait()

    def _desk(self, room_no: int) -> Desk:
        if self._tasks is None:
            raise Unavailable
        desk = self._desks.get(room_no)
        if desk is None:
            if len(self._desks) >= DESKS_MAX:
                self._forget_some()
            desk = self._desks[room_no] = Desk(room_no)
        return desk

    def _forget_some(self) -> None:
        """Of the rooms looked at longest ago those that are idle; one with taps stays: its total is counted here."""
        for room_no in list(islice(self._desks, _LOOKED_AT)):
            desk = self._desks.pop(room_no)
            if desk.working or desk.taps:
                self._desks[room_no] = desk

    def _work_on(self, desk: Desk, *, is_sooner: bool) -> None:
        """`is_sooner`: the next call may be due before it was; most of what comes waits for one that is due anyway."""
        assert self._tasks is not None
        if desk.working:
            if is_sooner:
                desk.wake.set()
            return
        desk.working = True
        self._working += 1
        self._idle.clear()
        self._tasks.create_task(self._work(desk))

    async def _work(self, desk: Desk) -> None:
        try:
            while (due_s := self._due_s(desk)) is not None:
                pause_s = due_s - self._clock.monotonic()
                if pause_s > 0:
                    desk.wake.clear()
                    try:
                        async with asyncio.timeout(pause_s):
                            await desk.wake.wait()
                    except TimeoutError:
                        pass
                    continue
                await self._call(desk)
        except asyncio.CancelledError:
            self._refuse(desk.comments, OutcomeUnknown())
            raise
        finally:
            desk.working = False
            self._working -= 1
            if self._working == 0:
                self._idle.set()

    def _due_s(self, desk: Desk) -> float | None:
        """When the next call is due on this process's clock; None: nothing is left to do."""
        if desk.failures:
            pause_s = min(_FIRST_PAUSE_S * 2 ** min(desk.failures, 10), _LONGEST_PAUSE_S)
            return desk.called_s + pause_s if desk.has_work or desk.recall_s is not None else None
        if desk.at_once or len(desk.comments) >= COMMENTS_A_CALL:
            return 0.0
        if desk.has_work:
            return desk.called_s + self._interval_ms(desk.room_no) / 1000
        return desk.recall_s

    async def _call(self, desk: Desk) -> None:
        self._give_up(desk)
        comments = [desk.comments.popleft() for _ in range(min(len(desk.comments), COMMENTS_A_CALL))]
        for request in comments:
            request.was_sent = True
        stock = {field: desk.stock.pop(field) for field in list(islice(desk.stock, STOCK_A_CALL))}
        at_once, desk.at_once = desk.at_once, False
        desk.wants_cut, desk.recall_s, taps = False, None, desk.taps
        desk.called_s = self._clock.monotonic()
        try:
            told = await self._hot.tick(
                desk.room_no,
                interval_ms=self._interval_ms(desk.room_no),
                at_once=at_once,
                taps_epoch=desk.epoch,
                taps=taps,
                comments=comments,
                stock=stock,
            )
            ROOM_CALL_SECONDS.observe(self._clock.monotonic() - desk.called_s)
            if told.word == "unknown":
                await open_room(self._hot, self._standing, desk.room_no)
        except asyncio.CancelledError:
            self._refuse(comments, OutcomeUnknown())
            raise
        except Exception as error:
            if isinstance(error, GatewayError):
                log.warning("room_call_lost", room_no=desk.room_no, comments=len(comments), error=str(error))
            else:
                log.exception("room_call_failed", room_no=desk.room_no, comments=len(comments))
            desk.failures += 1
            desk.put_back(comments, stock, at_once)
            self._give_up(desk)
            return
        desk.failures = 0
        if told.word == "unknown":
            desk.put_back(comments, stock, at_once)
            return
        if told.epoch == desk.epoch:
            desk.taps_told = taps
        else:
            # Not counted: in the room's new epoch this process begins at what was not told in the old one.
            desk.taps -= desk.taps_told
            desk.epoch, desk.taps_told = told.epoch, 0
        desk.seq = told.seq
        if told.wait_ms >= 0:
            # Later by up to a tenth, so that not all processes that were early come back together.
            wait_ms = told.wait_ms + random.uniform(1, 1 + self._interval_ms(desk.room_no) / 10)
            desk.recall_s = self._clock.monotonic() + wait_ms / 1000
        for request, answer in zip(comments, told.answers, strict=True):
            self._answer(desk, request, answer)

    def _answer(self, desk: Desk, request: CommentRequest, answer: list[Any]) -> None:
        word = answer[0]
        if word in ("posted", "replayed"):
            _, n, at_ms = answer
            COMMENTS.labels(word).inc()
            request.answer(
                CommentAnswer(
                    CommentOutcome.POSTED,
                    comment=self._mint(at_ms, desk.room_no, desk.epoch, n),
                    at_ms=at_ms,
                    replayed=word == "replayed",
                )
            )
        elif word == "overloaded":
            request.answer(Overloaded(retry_after_ms=random.randint(1000, 5000)))
        else:
            COMMENTS.labels(word).inc()
            wait_ms = answer[1] if len(answer) > 1 else None
            # Who is banned is muted for good; there is no time to name.
            known_ms = wait_ms if wait_ms is not None and wait_ms < _FOR_GOOD_MS else None
            request.answer(CommentAnswer(CommentOutcome(word), retry_after_ms=known_ms))

    def _give_up(self, desk: Desk) -> None:
        """Comments whose time is over; whether they were posted is not known once Valkey was asked."""
        oldest_s = self._clock.monotonic() - DECIDE_WITHIN_S
        while desk.comments and desk.comments[0].arrived_s < oldest_s:
            late = desk.comments.popleft()
            late.answer(OutcomeUnknown() if late.was_sent else Unavailable())

    def _refuse(self, comments: Iterable[CommentRequest], error: GatewayError) -> None:
        for request in comments:
            request.answer(error)
