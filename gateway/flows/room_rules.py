"""Who may not enter a room and what may not be said in it, as this process knows it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakValueDictionary

import structlog

from gateway.clock import Clock
from gateway.domain.live import RoomRules
from gateway.domain.room import Room
from gateway.domain.words import WordFilter
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

FRESH_S = 5.0
"""A process that was told nothing of a change knows of it after this time."""
_ROOMS_MAX = 10_000
# How long who asks waits for a ledger that does not answer, when something older is known.
_WAIT_S = 0.5
# A filter of so many words is built in some ms; of more, beside the loop.
_AT_ONCE = 500

Pseudonym = Callable[[str, str], str]


class Ledger(Protocol):
    """`gateway.ledger.moderation.LedgerModeration`."""

    async def rules_no(self, room_no: int) -> Any:
        """Another value whenever the rules are others."""
        ...

    async def rules(self, room_no: int) -> RoomRules: ...


class Rules:
    """The rules of one room. They never change; others come in another object."""

    __slots__ = ("_filter", "_pseudonym", "_room", "_rules")

    def __init__(self, room: str, rules: RoomRules, words: WordFilter, pseudonym: Pseudonym) -> None:
        self._room = room
        self._rules = rules
        self._filter = words
        self._pseudonym = pseudonym

    def banned(self, sub: str) -> bool:
        """Takes a microsecond for each room of the shop in which somebody was banned from all of them."""
        rules, pseudonym = self._rules, self._pseudonym
        if rules.bans and pseudonym(self._room, sub) in rules.bans:
            return True
        return any(pseudonym(room, sub) in viewers for room, viewers in rules.shop_bans.items())

    def refuses(self, text: str) -> bool:
        """Whether a banned word stands in it."""
        return bool(self._rules.words) and self._filter.matches(text)


@dataclass(slots=True)
class _Held:
    room: Room
    rules: Rules
    no: Any
    fresh_until_s: float


class RuleBook:
    """A bounded cache of the rules of rooms, at most `FRESH_S` old while the ledger answers; while it does not, the
    last known ones hold. Rooms that ban the same words share one filter, built beside the loop when it is large."""

    def __init__(self, *, rules: Ledger, pseudonym: Pseudonym, clock: Clock) -> None:
        self._ledger = rules
        self._pseudonym = pseudonym
        self._clock = clock
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._reading: dict[int, asyncio.Task[Rules]] = {}
        self._filters: WeakValueDictionary[frozenset[str], WordFilter] = WeakValueDictionary()
        self._building: dict[frozenset[str], asyncio.Task[WordFilter]] = {}

    async def get(self, room: Room) -> Rules:
        """Raises LedgerUnavailable for a room never read before."""
        held = self._held.get(room.room_no)
        if held is not None and self._clock.monotonic() < held.fresh_until_s:
            return held.rules
        reading = self._read(room)
        if held is None:
            # Whoever leaves while it is read must not take it from the others.
            return await asyncio.shield(reading)
        await asyncio.wait({reading}, timeout=_WAIT_S)
        if not reading.done():
            # The others do not wait as well.
            self._keep(held)
        return self._held.get(room.room_no, held).rules

    def known(self, room_no: int) -> Rules | None:
        """As last read; waits for nobody, and has what is old read anew for whoever asks next."""
        held = self._held.get(room_no)
        if held is None:
            return None
        if self._clock.monotonic() >= held.fresh_until_s:
            self._read(held.room)
        return held.rules

    async def read_anew(self, room: Room) -> Rules:
        """As they are from now on, not as somebody began to read them before. Raises LedgerUnavailable."""
        self._reading.pop(room.room_no, None)
        return await asyncio.shield(self._read(room))

    def _read(self, room: Room) -> asyncio.Task[Rules]:
        reading = self._reading.get(room.room_no)
        if reading is None:
            reading = self._reading[room.room_no] = asyncio.ensure_future(self._ask(room))
            reading.add_done_callback(lambda done: self._was_read(room, done))
        return reading

    async def _ask(self, room: Room) -> Rules:
        # The number first: what changes in between is seen the next time.
        no = await self._ledger.rules_no(room.room_no)
        held = self._held.get(room.room_no)
        if held is None or held.no != no:
            read = await self._ledger.rules(room.room_no)
            rules = Rules(room.room, read, await self._filter(read.words), self._pseudonym)
            held = _Held(room, rules, no, 0.0)
        if self._reading.get(room.room_no) is asyncio.current_task():
            held.room = room
            self._held[room.room_no] = held
            self._keep(held)
            self._held.move_to_end(room.room_no)
            if len(self._held) > _ROOMS_MAX:
                self._held.popitem(last=False)
        return held.rules

    def _was_read(self, room: Room, reading: asyncio.Task[Rules]) -> None:
        if self._reading.get(room.room_no) is reading:
            del self._reading[room.room_no]
        if reading.cancelled():
            return
        error = reading.exception()
        held = self._held.get(room.room_no)
        if error is not None and held is not None:
            self._keep(held)
        if error is not None:
            trace = None if isinstance(error, GatewayError) else error
            log.warning("room_rules_not_read", room_no=room.room_no, error=str(error), exc_info=trace)

    def _keep(self, held: _Held) -> None:
        held.fresh_until_s = self._clock.monotonic() + FRESH_S

    async def _filter(self, words: frozenset[str]) -> WordFilter:
        found = self._filters.get(words)
        if found is None:
            if len(words) <= _AT_ONCE:
                found = self._filters[words] = WordFilter(words)
            else:
                building = self._building.get(words)
                if building is None:
                    building = self._building[words] = asyncio.ensure_future(asyncio.to_thread(WordFilter, words))
                    building.add_done_callback(lambda _: self._building.pop(words, None))
                found = self._filters[words] = await asyncio.shield(building)
        return found
