"""The rooms with viewers in this process: opened with the first viewer, told their ticks, closed after the last.

Publishing reaches a process at most once, so it asks every two seconds where its rooms stand, in one call, and repairs
what it was not told from the history. What is not in the history any more, or in another epoch, becomes a snapshot for
everybody: never a silent hole.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
import structlog

from gateway.clock import Clock
from gateway.domain.live import RoomChange, RoomStanding
from gateway.domain.room import Room
from gateway.errors import GatewayError, HotUnavailable
from gateway.metrics import ROOM_REPAIRS, ROOMS
from gateway.rooms.fanout import FanOut
from gateway.rooms.live_room import LiveRoom, Member
from gateway.rooms.opening import open_room
from gateway.rooms.picture import MintComment, RoomPicture
from gateway.rooms.snapshots import Snapshots
from gateway.wire.ticks import RULES_CHANGED, CutTick, RoomFacts, read_tick

log = structlog.get_logger(__name__)

COMPARE_EVERY_S = 2.0
# A publish that is on its way meanwhile is not missing.
_ON_ITS_WAY_S = 0.2
# Who reloads the page leaves and comes back; opening a room costs two calls.
EMPTY_FOR_S = 10.0
LONGEST_INTERVAL_MS = 1000
# Ticks are so many times as far apart as telling everybody takes. With 10,000 viewers 99 of 100 comments were read
# within 384 ms and orders answered within 30; at 3 it was 639 and 33. What is left beside a pass is enough for orders.
INTERVAL_BY_PASS = 2
# A crowd that enters must not wait one after the other for a server that hangs; who entered is mended by the compare.
_AWAY_S = 1.0
# A room that was lost is found out within some seconds: so many ticks.
_FIRST_TICKS = 50
# No room reaches it: an epoch that has to be behind it begins anew.
_ALL_TICKS = 2**53
_NOTHING_KNOWN = RoomFacts(epoch=0, seq=0, likes=0, viewers=0, slow_mode_s=0, comments=True, pin=None, rules=0)


class Where(Protocol):
    @property
    def epoch(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def rules(self) -> int: ...


class Hot(Protocol):
    async def open(self, room_no: int, standing: RoomStanding, *, not_before: tuple[int, int] = (0, 0)) -> int: ...
    async def change(self, room_no: int, change: RoomChange) -> bool: ...
    async def read(self, room_no: int, *, after: int = 0) -> tuple[RoomFacts | None, list[bytes]]: ...
    async def where(self, room_nos: Sequence[int]) -> Mapping[int, Where]: ...


class Feed(Protocol):
    """Ticks as they are published."""

    async def follow(self, room_no: int) -> None: ...
    async def unfollow(self, room_no: int) -> None: ...


class Calls(Protocol):
    def heard(self, room_no: int, epoch: int, seq: int) -> None: ...


class Hub:
    """`on_rules` is called when the bans or banned words of a room may be others than before."""

    def __init__(
        self,
        *,
        hot: Hot,
        feed: Feed,
        calls: Calls,
        standing: Callable[[int], Awaitable[RoomStanding]],
        snapshots: Snapshots,
        mint: MintComment,
        clock: Clock,
        tick_ms: int,
        on_rules: Callable[[Room], None] = lambda room: None,
    ) -> None:
        self._hot = hot
        self._feed = feed
        self._calls = calls
        self._standing = standing
        self._snapshots = snapshots
        self._mint = mint
        self._clock = clock
        self._tick_ms = tick_ms
        self.on_rules = on_rules
        self.fanout = FanOut(clock.monotonic)
        self.rooms: dict[int, LiveRoom] = {}
        self._rules: dict[int, int] = {}
        self._opening: dict[int, asyncio.Task[LiveRoom]] = {}
        self._early: dict[int, list[CutTick]] = {}
        """Ticks of rooms that are being opened."""
        self._away_until_s = 0.0
        """Until when a server that did not answer is not waited for again."""
        self._mending: dict[int, bool] = {}
        """By room whether it was found behind once more meanwhile."""
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Compares and closes; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                await asyncio.sleep(COMPARE_EVERY_S)
                try:
                    await self.compare()
                    await self._close_empty()
                except GatewayError as error:
                    log.warning("rooms_not_compared", error=str(error))

    def interval_ms(self, room_no: int) -> int:
        """How far apart the ticks of a room shall be: telling everybody takes half of the time at most."""
        live = self.rooms.get(room_no)
        took_ms = 0 if live is None else int(live.took_s * 1000 * INTERVAL_BY_PASS)
        return max(self._tick_ms, min(took_ms, LONGEST_INTERVAL_MS))

    async def enter(self, room: Room) -> LiveRoom:
        """The room, opened for its first viewer, and there until the caller joins it or gives up. While the rooms
        Valkey is away it is shown without its chat."""
        live = self.rooms.get(room.room_no)
        if live is not None:
            live.room = room
            live.entering += 1
            return live
        opening = self._opening.get(room.room_no)
        if opening is None:
            opening = self._opening[room.room_no] = asyncio.ensure_future(self._open(room))
            opening.add_done_callback(lambda _: self._opening.pop(room.room_no, None))
        live = await asyncio.shield(opening)
        live.entering += 1
        return live

    def join(self, live: LiveRoom, member: Member) -> None:
        self.give_up(live)
        live.add(member)
        live.spoken_s = self._clock.monotonic()

    def give_up(self, live: LiveRoom) -> None:
        """Who entered does not join."""
        live.entering -= 1

    def leave(self, live: LiveRoom, member: Member) -> None:
        live.remove(member)
        live.spoken_s = self._clock.monotonic()

    def heard(self, room_no: int, payload: bytes) -> None:
        """A tick was published, or that the rules are others."""
        if payload == RULES_CHANGED:
            if (ruled := self.rooms.get(room_no)) is not None:
                self.on_rules(ruled.room)
            return
        try:
            tick = read_tick(payload)
        except msgspec.MsgspecError as error:
            log.warning("tick_not_read", room_no=room_no, error=str(error))
            return
        self._calls.heard(room_no, tick.epoch, tick.seq)
        live = self.rooms.get(room_no)
        if live is None:
            early = self._early.get(room_no)
            if early is not None:
                early.append(tick)
        elif tick.epoch == live.picture.epoch and tick.seq == live.picture.seq + 1:
            self.fanout.tell(live, live.picture.apply(tick))
        elif tick.epoch != live.picture.epoch or tick.seq > live.picture.seq or live.picture.is_other(tick):
            self._mend_soon(live)

    async def compare(self) -> None:
        """Finds rooms that were told less than happened."""
        if not self.rooms:
            return
        for owing in [live for live in self.rooms.values() if live.owes_snapshot]:
            try:
                await self._show_all(owing)
            except GatewayError as error:
                # What one room waits for must not keep the others from being mended.
                log.warning("room_not_shown", room_no=owing.room.room_no, error=str(error))
        found = await self._hot.where(list(self.rooms))
        behind = []
        for room_no, where in found.items():
            live = self.rooms.get(room_no)
            if live is None:
                continue
            self._rules_at(live, where.rules)
            # A room that Valkey does not have is made anew for those who are in it.
            if where.epoch == 0 or (where.epoch, where.seq) != (live.picture.epoch, live.picture.seq):
                behind.append((live, where))
        if not behind:
            return
        await asyncio.sleep(_ON_ITS_WAY_S)
        for live, where in behind:
            picture = live.picture
            if (
                where.epoch == 0
                or where.epoch != picture.epoch
                or where.seq > picture.seq
                or await self._went_back(live)
            ):
                self._mend_soon(live)

    async def _went_back(self, live: LiveRoom) -> bool:
        """Whether Valkey itself has forgotten ticks, rather than that one was cut after it was asked."""
        where = (await self._hot.where([live.room.room_no]))[live.room.room_no]
        return bool(where.epoch == live.picture.epoch and where.seq < live.picture.seq)

    def _rules_at(self, live: LiveRoom, rules: int) -> None:
        if self._rules.get(live.room.room_no) != rules:
            self._rules[live.room.room_no] = rules
            self.on_rules(live.room)

    # Opening and closing.

    async def _open(self, room: Room) -> LiveRoom:
        self._early[room.room_no] = []
        try:
            await self._feed.follow(room.room_no)
            picture = await self._picture_or_away(room.room_no)
        except GatewayError as error:
            log.warning("room_without_chat", room_no=room.room_no, error=str(error))
            picture = RoomPicture(room.room_no, _NOTHING_KNOWN, mint=self._mint)
        except BaseException:
            self._early.pop(room.room_no, None)
            raise
        live = self.rooms[room.room_no] = LiveRoom(room, picture)
        live.spoken_s = self._clock.monotonic()
        ROOMS.set(len(self.rooms))
        for tick in self._early.pop(room.room_no):
            if tick.epoch == picture.epoch and tick.seq == picture.seq + 1:
                picture.apply(tick)
            elif tick.epoch != picture.epoch or tick.seq > picture.seq:
                self._mend_soon(live)
        return live

    async def _picture_or_away(self, room_no: int) -> RoomPicture:
        if self._clock.monotonic() < self._away_until_s:
            raise HotUnavailable("the rooms Valkey did not answer a moment ago")
        try:
            return await self._picture(room_no)
        except HotUnavailable:
            self._away_until_s = self._clock.monotonic() + _AWAY_S
            raise

    async def _picture(self, room_no: int, *, not_before: tuple[int, int] = (0, 0)) -> RoomPicture:
        """The room as Valkey has it; one that it lacks, or has lost ticks of, is made anew from the ledger."""
        facts, packed = await self._hot.read(room_no)
        if facts is None or (facts.epoch == not_before[0] and facts.seq < not_before[1]):
            await open_room(self._hot, self._standing, room_no, not_before=not_before)
            facts, packed = await self._hot.read(room_no)
        picture = RoomPicture(room_no, facts or _NOTHING_KNOWN, mint=self._mint)
        picture.remember(map(read_tick, packed))
        self._rules[room_no] = 0 if facts is None else facts.rules
        return picture

    async def _close_empty(self) -> None:
        for live in [live for live in self.rooms.values() if self._is_left(live)]:
            if not self._is_left(live):
                continue  # somebody came while another room was closed
            del self.rooms[live.room.room_no]
            self._rules.pop(live.room.room_no, None)
            await self._feed.unfollow(live.room.room_no)
        ROOMS.set(len(self.rooms))

    def _is_left(self, live: LiveRoom) -> bool:
        idle = not live.members and live.entering == 0 and live.counted == 0
        return idle and self._clock.monotonic() - live.spoken_s > EMPTY_FOR_S

    # Mending.

    def _mend_soon(self, live: LiveRoom) -> None:
        if live.room.room_no in self._mending:
            self._mending[live.room.room_no] = True
        elif self._tasks is not None:
            self._mending[live.room.room_no] = True
            self._tasks.create_task(self._mend(live))

    async def _mend(self, live: LiveRoom) -> None:
        try:
            # A tick that is heard after the reading and before the mending is in neither.
            while self._mending[live.room.room_no]:
                self._mending[live.room.room_no] = False
                await self._mend_from_history(live)
        except GatewayError as error:
            log.warning("room_not_mended", room_no=live.room.room_no, error=str(error))
        except Exception:
            log.exception("room_mending_broke", room_no=live.room.room_no)
        finally:
            del self._mending[live.room.room_no]

    async def _mend_from_history(self, live: LiveRoom) -> None:
        before = live.picture
        # With the last tick that is known here: where it is another one, the server had forgotten what it had told.
        facts, packed = await self._hot.read(live.room.room_no, after=before.seq - 1)
        if live.picture is not before:
            return
        read = list(map(read_tick, packed))
        went_back = any(map(before.is_other, read))
        if facts is not None and facts.epoch == before.epoch and facts.seq >= before.seq and not went_back:
            ticks = [tick for tick in read if tick.seq > live.picture.seq]
            if not ticks and facts.seq <= live.picture.seq:
                return
            if ticks and ticks[0].seq == live.picture.seq + 1:
                for tick in ticks:
                    self.fanout.tell(live, live.picture.apply(tick))
                self._calls.heard(live.room.room_no, before.epoch, before.seq)
                ROOM_REPAIRS.labels("history").inc()
                return
        not_before = (before.epoch, _ALL_TICKS if went_back else before.seq)
        picture = await self._picture(live.room.room_no, not_before=not_before)
        if picture.epoch != before.epoch and 0 < picture.seq <= _FIRST_TICKS:
            # What a room that was lost has told since, an announcement say, is in no snapshot: it is told behind it.
            picture.go_back()
            self._mending[live.room.room_no] = True
        live.begin_anew(picture)
        ROOM_REPAIRS.labels("snapshot").inc()
        self.on_rules(live.room)
        await self._show_all(live)

    async def _show_all(self, live: LiveRoom) -> None:
        """Who was welcomed before the room began anew is shown what it is now."""
        live.owes_snapshot = True
        picture = live.picture
        snapshot = await self._snapshots.of(live)
        if live.picture is picture:
            live.owes_snapshot = False
            self.fanout.tell(live, snapshot)
