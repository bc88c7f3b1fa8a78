"""Who is in the rooms of this process, counted here and told to the ledger in small portions.

A visit and an entry to the shop reach the ledger within some seconds, watch time when its viewer leaves and every half
minute. Orders come first: while any wait here, nothing of this is told, and what would be told is kept.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.attendance import FLUSH_EVERY_S, WATCH_EVERY_S, Attended, StillOpen
from gateway.errors import GatewayError, LedgerRejected
from gateway.metrics import ATTENDANCE_MISSED, ATTENDANCE_WAITING

log = structlog.get_logger(__name__)

# Viewers in one statement: some 20 ms of a connection that others wait for as well.
ROWS_AT_ONCE = 1_000
_PAUSE_S = 0.05
_ORDERS_PAUSE_S = 0.02
# A second tap on the bag within this is the same one, so that nobody is counted by the speed of their thumb.
SAME_ENTRY_S = 1.0


class Ledger(Protocol):
    """`gateway.ledger.attendance.LedgerAttendance`."""

    async def count(
        self,
        process: str,
        flush_no: int,
        *,
        attended: Sequence[Attended],
        still_open: Sequence[StillOpen],
        now_s: float,
    ) -> bool: ...


class _Presence:
    """A viewer in a room: since when they watch, and what the ledger was not told of them."""

    __slots__ = (
        "entered_s",
        "entries",
        "entry_s",
        "from_s",
        "is_sitting",
        "since_s",
        "sockets",
        "to_s",
        "visits",
        "watch_s",
    )

    def __init__(self, now_s: float) -> None:
        self.sockets = 0
        self.is_sitting = False
        """Whether it stands among those to be told of in half a minute."""
        self.since_s = now_s
        """While there are sockets: up to when watch time was added."""
        self.visits = 0
        self.entries = 0
        self.from_s: float | None = None
        """When what was not told began."""
        self.to_s = now_s
        self.watch_s = 0.0
        self.entry_s: float | None = None
        self.entered_s = -SAME_ENTRY_S
        """The last entry."""

    def watched(self, now_s: float) -> None:
        """Adds the time since it was added last; several sockets of a viewer watch once."""
        if self.sockets:
            if self.from_s is None:
                self.from_s = self.since_s
            self.watch_s += now_s - self.since_s
            self.since_s = self.to_s = now_s


_Key = tuple[int, str]


class Attendance:
    """`process` is another name at each start. Bounded: at most `most` viewers are held, those who are there and those
    the ledger was not told of; the visit of a further one counts as missed, which the figures tell as their error. A
    flush whose answer was lost is repeated as it was, under its number, and counts once."""

    def __init__(
        self, *, ledger: Ledger, process: str, clock: Clock, orders_wait: Callable[[], bool], most: int
    ) -> None:
        self._ledger = ledger
        self._process = process
        self._clock = clock
        self._orders_wait = orders_wait
        self._most = most
        self._held: dict[_Key, _Presence] = {}
        self._untold: dict[_Key, None] = {}
        """Of whom there is something to tell, in the order in which it happened."""
        self._sitting: deque[tuple[float, _Key]] = deque()
        """Who watched at that time, in its order; each once while the ledger is not told of them."""
        self._open: dict[int, int] = {}
        self._missed: dict[int, int] = {}
        self._open_changed: dict[int, None] = {}
        self._told_s = clock.monotonic()
        self._flush_no = 0
        self._unsure: tuple[list[Attended], list[StillOpen]] | None = None
        """The flush that was sent and not answered."""
        self._flushing = asyncio.Lock()

    # What happens in rooms.

    def joined(self, room_no: int, viewer: str) -> None:
        now_s = self._clock.monotonic()
        key = (room_no, viewer)
        presence = self._held.get(key)
        if presence is None:
            if len(self._held) >= self._most:
                self._missed[room_no] = self._missed.get(room_no, 0) + 1
                self._open_changed[room_no] = None
                ATTENDANCE_MISSED.inc()
                return
            presence = self._held[key] = _Presence(now_s)
        if presence.sockets == 0:
            presence.since_s = presence.to_s = now_s
            self._sits(key, presence, now_s)
        if presence.from_s is None:
            presence.from_s = presence.since_s
        presence.sockets += 1
        presence.visits += 1
        self._untold[key] = None
        self._count_open(room_no, 1)

    def left(self, room_no: int, viewer: str) -> None:
        key = (room_no, viewer)
        presence = self._held.get(key)
        if presence is None or presence.sockets == 0:
            return  # it found no place when it came
        presence.watched(self._clock.monotonic())
        presence.sockets -= 1
        self._untold[key] = None
        self._count_open(room_no, -1)

    def entered(self, room_no: int, viewer: str) -> None:
        """The viewer opened the product bag."""
        now_s = self._clock.monotonic()
        presence = self._held.get((room_no, viewer))
        if presence is None or now_s - presence.entered_s < SAME_ENTRY_S:
            return
        presence.entered_s = now_s
        presence.entries += 1
        if presence.entry_s is None:
            presence.entry_s = now_s
        self._untold[room_no, viewer] = None

    def _count_open(self, room_no: int, by: int) -> None:
        self._open[room_no] = self._open.get(room_no, 0) + by
        if not self._open[room_no]:
            del self._open[room_no]
        self._open_changed[room_no] = None

    # What the ledger is told.

    async def run(self) -> None:
        """Tells the ledger until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_EVERY_S * random.uniform(0.9, 1.0))
            try:
                await self.flush()
            except GatewayError as error:
                log.warning("attendance_not_told", error=str(error))
            ATTENDANCE_WAITING.set(len(self._untold))

    async def drain(self, within_s: float) -> None:
        """Tells all there is, who still sits included; nobody waits behind orders any more. A ledger that hangs is left
        to itself: its driver may take longer to let go than there is time."""
        self._orders_wait = _nobody_waits
        self._untold.update(dict.fromkeys(self._held))
        flushing = asyncio.ensure_future(self.flush())
        flushing.add_done_callback(_told_or_not)
        done, _ = await asyncio.wait([flushing], timeout=within_s)
        if not done:
            flushing.cancel()
            log.warning("attendance_not_told", error="no answer in time")

    async def flush(self) -> None:
        """Raises LedgerUnavailable; what was not told then is told the next time."""
        async with self._flushing:
            if self._unsure is not None:
                await self._tell()
            self._sat(self._clock.monotonic() - WATCH_EVERY_S)
            left = len(self._untold)
            while left > 0 or self._open_changed or self._is_silent():
                while self._orders_wait():  # noqa: ASYNC110 - of many groups, none of which says when it is done
                    await asyncio.sleep(_ORDERS_PAUSE_S)
                # What comes meanwhile is for the next time.
                self._unsure = self._take(min(left, ROWS_AT_ONCE))
                left -= len(self._unsure[0])
                self._flush_no += 1
                await self._tell()
                if left > 0:
                    await asyncio.sleep(_PAUSE_S)
                else:
                    break

    def _sits(self, key: _Key, presence: _Presence, now_s: float) -> None:
        if not presence.is_sitting:
            presence.is_sitting = True
            self._sitting.append((now_s, key))

    def _sat(self, since_s: float) -> None:
        """Has told of who sits since then."""
        while self._sitting and self._sitting[0][0] <= since_s:
            presence = self._held.get(key := self._sitting.popleft()[1])
            if presence is not None:
                presence.is_sitting = False
                if presence.sockets:
                    self._untold[key] = None

    def _is_silent(self) -> bool:
        """The ledger takes a process with open sockets that says nothing for one that was killed."""
        return bool(self._open) and self._clock.monotonic() - self._told_s > FLUSH_EVERY_S

    def _take(self, count: int) -> tuple[list[Attended], list[StillOpen]]:
        now_s = self._clock.monotonic()
        attended = []
        for _ in range(count):
            key = next(iter(self._untold))
            del self._untold[key]
            presence = self._held[key]
            presence.watched(now_s)
            if presence.sockets:
                self._sits(key, presence, now_s)
            else:
                del self._held[key]
            from_s = presence.since_s if presence.from_s is None else presence.from_s
            attended.append(
                Attended(
                    room_no=key[0],
                    viewer=key[1],
                    visits=presence.visits,
                    from_s=from_s,
                    to_s=presence.to_s,
                    watch_s=presence.watch_s,
                    entries=presence.entries,
                    entry_s=presence.entry_s,
                )
            )
            presence.visits = presence.entries = 0
            presence.from_s = presence.entry_s = None
            presence.watch_s = 0.0
        rooms = list(self._open_changed)[:ROWS_AT_ONCE]
        for room_no in rooms:
            del self._open_changed[room_no]
        return attended, [StillOpen(no, self._open.get(no, 0), self._missed.get(no, 0)) for no in rooms]

    async def _tell(self) -> None:
        assert self._unsure is not None
        attended, still_open = self._unsure
        now_s = self._clock.monotonic()
        try:
            await self._ledger.count(
                self._process, self._flush_no, attended=attended, still_open=still_open, now_s=now_s
            )
        except LedgerRejected as error:
            # Repeating does not help, and those behind it must not wait for ever.
            log.warning("attendance_rejected", rows=len(attended), error=str(error))
            for each in attended:
                self._missed[each.room_no] = self._missed.get(each.room_no, 0) + each.visits
            self._open_changed.update(dict.fromkeys(each.room_no for each in attended))
            self._open_changed.update(dict.fromkeys(each.room_no for each in still_open))
            ATTENDANCE_MISSED.inc(sum(each.visits for each in attended))
        self._unsure = None
        self._told_s = now_s


def _nobody_waits() -> bool:
    return False


def _told_or_not(flushing: "asyncio.Task[None]") -> None:
    if not flushing.cancelled() and (error := flushing.exception()) is not None:
        log.warning("attendance_not_told", error=str(error))
