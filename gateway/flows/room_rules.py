"""Who may not enter a room and what may not be said in it, as this process knows it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
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
# Of so many rooms with bans a viewer is looked for anew each time.
_FEW = 8
# Verdicts remembered, of all rooms together: some 15 MB.
_VERDICTS_MAX = 100_000
_NOBODY: frozenset[str] = frozenset()

Pseudonym = Callable[[str, str], str]


class Ledger(Protocol):
    """`gateway.ledger.moderation.LedgerModeration`."""

    async def rules_no(self, room_no: int) -> Any:
        """Another value whenever the rules are others."""
        ...

    async def rules(self, room_no: int) -> RoomRules: ...


class _Verdicts:
    """Whether somebody is among certain bans: of the last so many who were looked for."""

    def __init__(self) -> None:
        self._known: dict[tuple[int, str], bool] = {}
        self._bans = 0

    def next_bans(self) -> int:
        self._bans += 1
        return self._bans

    def get(self, bans: int, sub: str) -> bool | None:
        return self._known.get((bans, sub))

    def keep(self, bans: int, sub: str, verdict: bool) -> None:
        if len(self._known) >= _VERDICTS_MAX:
            del self._known[next(iter(self._known))]
        self._known[bans, sub] = verdict


class _Bans:
    """Who may not enter a room: by room of the shop, pseudonyms in that room.

    To look for somebody costs a microsecond a room, and a shop collects rooms for years. So where they are many a
    verdict is remembered, and of who was not banned before only what was added since is asked.
    """

    __slots__ = ("_added", "_before", "_number", "_pseudonym", "_verdicts", "by_room")

    def __init__(
        self,
        by_room: Mapping[str, frozenset[str]],
        *,
        pseudonym: Pseudonym,
        verdicts: _Verdicts,
        before: "_Bans | None" = None,
    ) -> None:
        self.by_room = by_room
        self._pseudonym = pseudonym
        self._verdicts = verdicts
        self._number = verdicts.next_bans()
        self._before = 0 if before is None else before._number
        had: Mapping[str, frozenset[str]] = {} if before is None else before.by_room
        self._added = {room: new for room, viewers in by_room.items() if (new := viewers - had.get(room, _NOBODY))}

    def hold(self, sub: str) -> bool:
        if len(self.by_room) <= _FEW:
            return self._is_among(self.by_room, sub)
        verdict = self._verdicts.get(self._number, sub)
        if verdict is None:
            was_free = self._verdicts.get(self._before, sub) is False
            verdict = self._is_among(self._added if was_free else self.by_room, sub)
            self._verdicts.keep(self._number, sub, verdict)
        return verdict

    def _is_among(self, by_room: Mapping[str, frozenset[str]], sub: str) -> bool:
        return any(self._pseudonym(room, sub) in viewers for room, viewers in by_room.items())


class Rules:
    """The rules of one room. They never change; others come in another object."""

    __slots__ = ("_filter", "_words", "bans")

    def __init__(self, bans: _Bans, words: frozenset[str], filter: WordFilter) -> None:
        self.bans = bans
        self._words = words
        self._filter = filter

    def banned(self, sub: str) -> bool:
        return self.bans.hold(sub)

    def refuses(self, text: str) -> bool:
        """Whether a banned word stands in it."""
        return bool(self._words) and self._filter.matches(text)


@dataclass(slots=True)
class _Held:
    room: Room
    rules: Rules
    no: Any
    fresh_until_s: float


class RuleBook:
    """A bounded cache of the rules of rooms, at most `FRESH_S` old while the ledger answers; while it does not, the
    last known ones hold. Rooms that ban the same words share one filter, built beside the loop when it is large.
    `on_bans` is called whenever a reading finds others banned than before, whoever asked for it."""

    def __init__(self, *, rules: Ledger, pseudonym: Pseudonym, clock: Clock) -> None:
        self._ledger = rules
        self._pseudonym = pseudonym
        self._clock = clock
        self._held: OrderedDict[int, _Held] = OrderedDict()
        self._reading: dict[int, asyncio.Task[Rules]] = {}
        self._filters: WeakValueDictionary[frozenset[str], WordFilter] = WeakValueDictionary()
        self._building: dict[frozenset[str], asyncio.Task[WordFilter]] = {}
        self._verdicts = _Verdicts()
        self._nobody = _Bans({}, pseudonym=pseudonym, verdicts=self._verdicts)
        self.on_bans: Callable[[Room, Rules], None] = lambda room, rules: None

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

    async def seen(self, room: Room, no: Any) -> None:
        """The ledger has just said the number of the room's rules; they are read if it is another. Raises
        LedgerUnavailable."""
        held = self._held.get(room.room_no)
        if held is not None and held.no == no:
            self._keep(held)
            self._held.move_to_end(room.room_no)
        else:
            await asyncio.shield(self._read(room))

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
        were = self._nobody if held is None else held.rules.bans
        if held is None or held.no != no:
            read = await self._ledger.rules(room.room_no)
            words = await self._filter(read.words)
            # Others may have read it meanwhile.
            held = self._held.get(room.room_no)
            were = self._nobody if held is None else held.rules.bans
            held = _Held(room, Rules(self._bans(room, read, were), read.words, words), no, 0.0)
        if self._reading.get(room.room_no) is asyncio.current_task():
            held.room = room
            self._held[room.room_no] = held
            self._keep(held)
            self._held.move_to_end(room.room_no)
            if len(self._held) > _ROOMS_MAX:
                self._held.popitem(last=False)
            if held.rules.bans is not were:
                self.on_bans(room, held.rules)
        return held.rules

    def _bans(self, room: Room, read: RoomRules, before: _Bans) -> _Bans:
        by_room = dict(read.shop_bans)
        if read.bans:
            by_room[room.room] = read.bans | by_room.get(room.room, _NOBODY)
        if before.by_room == by_room:
            return before
        return _Bans(by_room, pseudonym=self._pseudonym, verdicts=self._verdicts, before=before)

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
