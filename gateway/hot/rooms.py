"""Rooms on the rooms Valkey: their ticks, their comments, their counts. Nothing in it needs to survive; a room that is
not there is made anew from the ledger, in an epoch of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.domain.comment import CommentRequest
from gateway.domain.live import RoomChange, RoomStanding
from gateway.hot.connect import Client, hot_errors
from gateway.hot.keys import PROCESSES, ROOM_SHARDS, RoomKeys
from gateway.hot.scripts import Scripts
from gateway.wire.ticks import RULES_CHANGED, RoomFacts

_pack = msgspec.msgpack.Encoder().encode
_read_ticked = msgspec.msgpack.Decoder(tuple[str, int, int, int, int, list[list[Any]]]).decode
_read_pin = msgspec.msgpack.Decoder(dict[str, Any]).decode
# Keys in one call that compares rooms: some hundred take well under a millisecond of the server.
_WHERE_AT_ONCE = 500
_CROWD_FACTS = ("epoch", "slot", "peak", "peak_was")
_FACTS = ("epoch", "seq", "likes", "viewers", "slow_mode_s", "comments", "pin", "rules")


class Ticked(NamedTuple):
    """What one call did; `wait_ms`: after which the caller sees to what still waits, -1 when nothing does."""

    word: str
    epoch: int
    seq: int
    now_ms: int
    wait_ms: int
    answers: list[list[Any]]


class Counted(NamedTuple):
    word: str
    epoch: int
    seq: int
    viewers: int
    is_news: bool
    """Whether the number is another one than the room was shown."""
    rules: int


class Where(NamedTuple):
    epoch: int
    seq: int
    rules: int


class Crowded(NamedTuple):
    """What an interval of samples was like."""

    viewers: int
    """Sockets in the processes that live."""
    peak: int
    """The most in the interval that ended last."""


class HotRooms:
    """What one process does with rooms. `process` is its name, another one at each start."""

    def __init__(
        self, *, client: Client, scripts: Scripts, process: str, reading_rate: float, archive_max: int
    ) -> None:
        self._client = client
        self.process = process
        self._reading_rate = reading_rate
        self._archive_max = archive_max
        self._open = scripts.named("open_room")
        self._tick = scripts.named("tick_room")
        self._change = scripts.named("change_room")
        self._count = scripts.named("count_crowd")
        self._where = scripts.named("where_rooms")
        self._seats = scripts.named("take_seats")
        self._beat = scripts.named("beat_process")

    async def open(self, room_no: int, standing: RoomStanding, *, not_before: tuple[int, int] = (0, 0)) -> int:
        """The room's epoch; one that is there is left as it is, unless it is in the epoch `not_before` and behind its
        tick: then Valkey came back with less than was told, and the room begins anew."""
        keys = RoomKeys(room_no)
        mutes = [part for mute in standing.mutes.items() for part in mute]
        pin = b"" if standing.pin is None else _pack(standing.pin)
        others = [key for key in keys.all if key not in (keys.room, keys.mutes)]
        _, epoch = await self._open(
            [keys.room, keys.mutes, *others],
            [standing.slow_mode_s, int(standing.comments), pin, standing.likes, *not_before, *mutes],
        )
        return int(epoch)

    async def tick(
        self,
        room_no: int,
        *,
        interval_ms: int,
        at_once: bool = False,
        taps_epoch: int = 0,
        taps: int = 0,
        comments: Sequence[CommentRequest] = (),
        stock: Mapping[str, tuple[int, dict[str, Any]]] | None = None,
    ) -> Ticked:
        """`taps` is the total of this process in the epoch `taps_epoch`; `stock` by sale and sku the version of a
        reading and the event it makes. Asking again with the same comments answers the same."""
        keys = RoomKeys(room_no)
        news = stock or {}
        brought = (
            room_no,
            self.process,
            interval_ms,
            int(at_once),
            self._reading_rate,
            taps_epoch,
            taps,
            self._archive_max,
            [
                (each.viewer, each.sub, each.id, each.name, each.text, int(each.is_staff), int(each.is_banned))
                for each in comments
            ],
            [(field, version) for field, (version, _) in news.items()],
        )
        reply = await self._tick(
            [
                keys.room,
                keys.pending,
                keys.ticks,
                keys.crowd,
                keys.mutes,
                keys.spoke,
                keys.stock,
                *keys.said,
                keys.archive,
                keys.untold,
                keys.archive_size,
            ],
            [_pack(brought), keys.channel, *(_pack(event) for _, event in news.values())],
        )
        return Ticked(*_read_ticked(reply))

    async def change(self, room_no: int, change: RoomChange) -> bool:
        """False: Valkey does not have the room."""
        keys = RoomKeys(room_no)
        brought = (
            room_no,
            list(change.mutes.items()),
            change.gone_comment or 0,
            change.gone_epoch,
            change.gone_viewer or "",
            change.actor,
            int(change.rules_changed),
        )
        word, _ = await self._change(
            [keys.room, keys.pending, keys.mutes, keys.archive],
            [
                _pack(brought),
                "" if change.slow_mode_s is None else change.slow_mode_s,
                "" if change.comments is None else int(change.comments),
                _pin(change),
                *map(_pack, change.events),
            ],
        )
        if word == b"changed" and change.rules_changed:
            # Who does not hear it finds it out within seconds; who acted is told that it may not be in force yet.
            with hot_errors():
                await self._client.publish(keys.channel, RULES_CHANGED)
        return bool(word == b"changed")

    async def count(
        self, room_no: int, *, sockets: int, interval_ms: int, alive: Sequence[str], young_ms: int
    ) -> Counted:
        keys = RoomKeys(room_no)
        reply = await self._count([keys.room, keys.crowd], [self.process, sockets, interval_ms, young_ms, *alive])
        word, epoch, seq, viewers, is_news, rules = reply
        return Counted(str(word, "ascii"), epoch, seq, viewers, bool(is_news), rules)

    async def viewers(self, room_no: int) -> int:
        """Sockets in the processes that live, as each told them last."""
        with hot_errors():
            seconds, micros = await self._client.time()
            alive: list[Any] = await self._client.zrangebyscore(PROCESSES, seconds * 1000 + micros // 1000, "+inf")
            if not alive:
                return 0
            fields = [f"c:{name.decode()}" for name in alive]
            told: list[Any] = await self._client.hmget(RoomKeys(room_no).crowd, fields)
        return sum(int(count.split(b"|")[0]) for count in told if count is not None)

    async def crowds(self, room_nos: Sequence[int], *, interval_ms: int) -> tuple[int, dict[int, Crowded]]:
        """When the interval that ended last began, and what it was like in each room; those Valkey lacks are left
        out."""
        with hot_errors():
            seconds, micros = await self._client.time()
            now_ms = seconds * 1000 + micros // 1000
            names: list[Any] = await self._client.zrangebyscore(PROCESSES, now_ms, "+inf")
            fields = [f"c:{name.decode()}" for name in names]
            pipe = self._client.pipeline(transaction=False)
            for room_no in room_nos:
                pipe.hmget(RoomKeys(room_no).room, _CROWD_FACTS)
                # Without a process that lives there is nobody to ask for.
                pipe.hmget(RoomKeys(room_no).crowd, fields or ["c:"])
            replies: list[list[Any]] = await pipe.execute()
        slot = now_ms // interval_ms
        found: dict[int, Crowded] = {}
        for room_no, facts, told in zip(room_nos, replies[::2], replies[1::2], strict=True):
            if facts[0] is None:
                continue
            viewers = sum(int(count.split(b"|")[0]) for count in told if count is not None)
            counted_in, peak, peak_was = (int(fact or 0) for fact in facts[1:])
            # Nobody counted since the interval began: it was all the time as it is now.
            most = {slot: peak_was, slot - 1: peak}.get(counted_in, viewers)
            found[room_no] = Crowded(viewers, most)
        return (slot - 1) * interval_ms, found

    async def seats(
        self, room_no: int, *, alive: Sequence[str], most: int, left: Sequence[str], asking: Sequence[str]
    ) -> list[bool]:
        """Gives back the seats of who left, and says of each who asks whether one was taken."""
        brought = (self.process, list(alive), most, list(left), list(asking))
        return [bool(taken) for taken in await self._seats([RoomKeys(room_no).seats], [_pack(brought)])]

    async def where(self, room_nos: Sequence[int]) -> dict[int, Where]:
        """Where rooms stand; the epoch of one that Valkey does not have is 0."""
        found: dict[int, Where] = {}
        shards: dict[int, list[int]] = {}
        for room_no in room_nos:
            shards.setdefault(room_no % ROOM_SHARDS, []).append(room_no)
        for of_shard in shards.values():
            for at in range(0, len(of_shard), _WHERE_AT_ONCE):
                asked = of_shard[at : at + _WHERE_AT_ONCE]
                flat = await self._where([RoomKeys(room_no).room for room_no in asked], [])
                for i, room_no in enumerate(asked):
                    found[room_no] = Where(*flat[3 * i : 3 * i + 3])
        return found

    async def beat(self, lives_ms: int) -> list[str]:
        """Says that this process lives for a while longer (0: no more); who else does."""
        return [str(name, "ascii") for name in await self._beat([PROCESSES], [self.process, lives_ms])]

    async def read(self, room_no: int, *, after: int = 0) -> tuple[RoomFacts | None, list[bytes]]:
        """The room as it stands at one moment, with the packed ticks it still has behind the tick `after`."""
        keys = RoomKeys(room_no)
        with hot_errors():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hmget(keys.room, _FACTS)
                pipe.xrange(keys.ticks, min=f"{after + 1}-0")
                values, entries = await pipe.execute()
        if values[0] is None:
            return None, []
        epoch, seq, likes, viewers, slow_mode_s, comments, pin, rules = values
        facts = RoomFacts(
            epoch=int(epoch),
            seq=int(seq or 0),
            likes=int(likes or 0),
            viewers=int(viewers or 0),
            slow_mode_s=int(slow_mode_s or 0),
            comments=comments != b"0",
            pin=None if not pin else _read_pin(pin),
            rules=int(rules or 0),
        )
        return facts, [fields[b"t"] for _, fields in entries]


def _pin(change: RoomChange) -> bytes:
    """As the script reads it: as it was, none, or another one."""
    if change.pin is msgspec.UNSET:
        return b""
    return b"-" if change.pin is None else b"+" + _pack(change.pin)
