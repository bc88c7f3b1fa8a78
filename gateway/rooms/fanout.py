"""Fan-out: what a room is told goes to all its members of this process, in slices between which orders have their turn.

It never awaits and never waits for anybody. What is told is encoded once a codec and variant; to every member it is one
write of the same bytes. Ticks that came while the last ones were on their way are written together.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import structlog

from gateway.metrics import FANOUT_SECONDS, FRAMES_SHARED
from gateway.rooms.live_room import NOT_YET, LiveRoom, Member, SharedSnapshot
from gateway.rooms.picture import ShownTick, Variant

log = structlog.get_logger(__name__)

SLICE_S = 0.002
# A write costs some microseconds, so the clock is read every tenth of a millisecond or so.
_BETWEEN_LOOKS = 16


class _Ticks:
    """Some ticks in a row, for whoever was told the one before them."""

    __slots__ = ("_encoded", "_ticks", "first", "last")

    def __init__(self, ticks: Sequence[ShownTick]) -> None:
        self._ticks = ticks
        self.first = ticks[0].seq
        self.last = ticks[-1].seq
        self._encoded: dict[tuple[str, Variant, int], bytes] = {}

    def behind(self, member: Member) -> bytes:
        """What `member` has not been told of them."""
        at = max(self.first, member.at_seq + 1)
        key = (member.codec.name, member.variant, at)
        data = self._encoded.get(key)
        if data is None:
            parts = [tick.encoded(member.codec, member.variant) for tick in self._ticks if tick.seq >= at]
            data = self._encoded[key] = b"".join(parts)
        return data


class _Pass:
    """One time round the members of a room."""

    __slots__ = ("_at", "_members", "_picture", "_snapshot", "_ticks", "_took_s", "room")

    def __init__(self, room: LiveRoom) -> None:
        self.room = room
        self._picture = room.picture
        members = room.members
        # Rotated, so that nobody is always the last.
        room.starter = starter = (room.starter + 1) % len(members) if members else 0
        self._members = members[starter:] + members[:starter]
        self._at = 0
        self._took_s = 0.0
        self._snapshot: SharedSnapshot | None = None
        self._ticks: _Ticks | None = None
        first = room.untold.popleft()
        if isinstance(first, SharedSnapshot):
            self._snapshot = first
            return
        ticks = [first]
        while room.untold and isinstance(following := room.untold[0], ShownTick):
            ticks.append(following)
            room.untold.popleft()
        self._ticks = _Ticks(ticks)

    def go_on(self, until_s: float, now_s: Callable[[], float]) -> bool:
        """Tells members until then; whether all are told."""
        members, end = self._members, len(self._members)
        if self.room.picture is not self._picture:
            # The room began anew: these are numbers of an epoch that nobody is in any more.
            return True
        began_s = reached_s = now_s()
        while self._at < end:
            upto = min(end, self._at + _BETWEEN_LOOKS)
            if self._ticks is not None:
                self._tell(self._ticks, members[self._at : upto])
            else:
                assert self._snapshot is not None
                for member in members[self._at : upto]:
                    self.room.show(member, self._snapshot)
            self._at = upto
            reached_s = now_s()
            if reached_s >= until_s:
                break
        # Its own time, without what had its turn between the slices.
        self._took_s += reached_s - began_s
        if self._at < end:
            return False
        self.room.took_s = self._took_s
        FANOUT_SECONDS.observe(self._took_s)
        return True

    def _tell(self, ticks: _Ticks, members: list[Member]) -> None:
        before, last = ticks.first - 1, ticks.last
        told = 0
        usual: dict[tuple[str, Variant], bytes] = {}
        for member in members:
            at_seq = member.at_seq
            if at_seq == before:
                key = (member.codec.name, member.variant)
                data = usual.get(key)
                if data is None:
                    data = usual[key] = ticks.behind(member)
            elif at_seq == NOT_YET or at_seq >= last:
                continue
            else:
                data = ticks.behind(member)
            member.at_seq = last
            if member.variant is Variant.AND_TOTALS:
                member.variant = Variant.WHOLE
            member.give(data)
            told += 1
        FRAMES_SHARED.add(told)


class FanOut:
    """All rooms of a process share its slices, in turn; a room has one pass at a time."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._passes: deque[_Pass] = deque()
        self._rooms: set[LiveRoom] = set()
        self._scheduled = False

    def tell(self, room: LiveRoom, news: ShownTick | SharedSnapshot) -> None:
        room.untold.append(news)
        if room not in self._rooms:
            self._rooms.add(room)
            self._passes.append(_Pass(room))
            if not self._scheduled:
                self._scheduled = True
                asyncio.get_running_loop().call_soon(self._slice)

    def _slice(self) -> None:
        until_s = self._now_s() + SLICE_S
        while self._passes:
            current = self._passes.popleft()
            room = current.room
            try:
                is_done = current.go_on(until_s, self._now_s)
            except Exception:
                # One room's fault is not every room's; who was not told is repaired by what is compared.
                log.exception("fanout_broke", room_no=room.room.room_no)
                is_done = True
            if is_done:
                if room.untold:
                    self._passes.append(_Pass(room))
                else:
                    self._rooms.discard(room)
            else:
                self._passes.append(current)
            if self._now_s() >= until_s:
                break
        if self._passes:
            asyncio.get_running_loop().call_soon(self._slice)
        else:
            self._scheduled = False
