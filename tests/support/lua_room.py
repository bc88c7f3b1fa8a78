"""One room on a real Valkey as the scripts see it: comments, taps, stock and acts in, and what the keys hold."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgpack
import redis

from gateway.hot.keys import PROCESSES, RoomKeys
from gateway.hot.rooms import Ticked
from gateway.hot.scripts import find_lua_folder
from gateway.wire.ticks import CutTick, SaidComment, read_tick

PERIOD_MS = 300_000
YOUNG_MS = 3_000
ARCHIVE_MAX = 50_000
HOUR_MS = 3_600_000


class Answer(NamedTuple):
    """What a call did, told by the first words of its answers too."""

    told: Ticked

    @property
    def words(self) -> list[str]:
        return [answer[0] for answer in self.told.answers]


def say(
    viewer: str = "vw_1", id: str = "c1", text: str = "hello", *, staff: bool = False, banned: bool = False
) -> list[Any]:
    return [viewer, f"sub of {viewer}", id, f"name of {viewer}", text, int(staff), int(banned)]


def chatter(count: int, *, begin: int = 0) -> list[list[Any]]:
    """So many comments, each of another viewer."""
    return [say(f"vw_{at}", "c1", f"text {at}") for at in range(begin, begin + count)]


class LuaRoom:
    """Calls the scripts as any client may, over one connection and with nothing of the gateway between."""

    def __init__(self, valkey_url: str, *, room_no: int = 5, rate: float = 20.0) -> None:
        self.valkey = redis.Redis.from_url(valkey_url)
        self.valkey_url = valkey_url
        self.room_no = room_no
        self.rate = rate
        self.keys = RoomKeys(room_no)
        self._scripts: dict[str, Any] = {}

    def close(self) -> None:
        self.valkey.close()

    def call(self, name: str, keys: list[str], args: list[Any]) -> Any:
        script = self._scripts.get(name)
        if script is None:
            text = (find_lua_folder() / f"{name}.lua").read_text(encoding="utf-8")
            script = self._scripts[name] = self.valkey.register_script(text)
        return script(keys=keys, args=args)

    def now_ms(self) -> int:
        seconds, micros = self.valkey.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # The scripts.

    def open(
        self,
        *,
        slow_mode_s: int = 0,
        comments: bool = True,
        pin: bytes = b"",
        likes: int = 0,
        not_before: tuple[int, int] = (0, 0),
        mutes: Iterable[tuple[str, int]] = (),
    ) -> tuple[str, int]:
        keys = self.keys
        names = [keys.room, keys.mutes, *(key for key in keys.all if key not in (keys.room, keys.mutes))]
        muted = [part for mute in mutes for part in mute]
        word, epoch = self.call("open_room", names, [slow_mode_s, int(comments), pin, likes, *not_before, *muted])
        return word.decode(), epoch

    def tick(
        self,
        *comments: list[Any],
        process: str = "p1",
        interval_ms: int = 100,
        at_once: bool = False,
        rate: float | None = None,
        taps: int = 0,
        taps_epoch: int | None = None,
        archive_max: int = ARCHIVE_MAX,
        stock: Sequence[tuple[str, int, dict[str, Any]]] = (),
    ) -> Answer:
        """`stock`: (sale|sku, version, event); `taps` are of the room's present epoch unless it is said."""
        keys = self.keys
        brought = [
            self.room_no,
            process,
            interval_ms,
            int(at_once),
            self.rate if rate is None else rate,
            self.epoch if taps_epoch is None else taps_epoch,
            taps,
            archive_max,
            comments,
            [(field, version) for field, version, _ in stock],
        ]
        reply = self.call(
            "tick_room",
            [
                *(keys.room, keys.pending, keys.ticks, keys.crowd, keys.mutes, keys.spoke, keys.stock),
                *(*keys.said, keys.archive, keys.untold, keys.archive_size),
            ],
            [
                msgpack.packb(brought, use_bin_type=False),
                keys.channel,
                *(msgpack.packb(event) for _, _, event in stock),
            ],
        )
        word, epoch, seq, now_ms, wait_ms, answers = msgpack.unpackb(reply)
        return Answer(Ticked(word, epoch, seq, now_ms, wait_ms, answers))

    def later(self, *comments: list[Any], **brought: Any) -> Answer:
        """A call that comes too early for a tick, whatever it brings."""
        self.set(cut_at=self.now_ms())
        return self.tick(*comments, **{"interval_ms": HOUR_MS, **brought})

    def cut(self, *comments: list[Any], **brought: Any) -> CutTick:
        """The tick that a call cuts."""
        answer = self.tick(*comments, **{"at_once": True, **brought})
        assert answer.told.word == "cut", answer
        return self.ticks()[-1]

    def change(
        self,
        *events: dict[str, Any],
        slow_mode_s: str | int = "",
        comments: str | int = "",
        pin: bytes = b"",
        mutes: Sequence[tuple[str, int]] = (),
        gone: int = 0,
        gone_epoch: int | None = None,
        viewer: str = "",
        actor: str = "host_1",
        rules: bool = False,
    ) -> tuple[str, int]:
        keys = self.keys
        said_in = self.epoch % 65_536 if gone_epoch is None else gone_epoch
        brought = msgpack.packb([self.room_no, mutes, gone, said_in, viewer, actor, int(rules)], use_bin_type=False)
        word, epoch = self.call(
            "change_room",
            [keys.room, keys.pending, keys.mutes, keys.archive],
            [brought, slow_mode_s, comments, pin, *map(msgpack.packb, events)],
        )
        return word.decode(), epoch

    def beat(self, process: str, holds_ms: int) -> list[str]:
        return [name.decode() for name in self.call("beat_process", [PROCESSES], [process, holds_ms])]

    def where(self, *room_nos: int) -> list[int]:
        found: list[int] = self.call("where_rooms", [RoomKeys(room_no).room for room_no in room_nos], [])
        return found

    # What the keys hold.

    def set(self, **facts: Any) -> None:
        self.valkey.hset(self.keys.room, mapping=facts)

    @property
    def facts(self) -> dict[str, str]:
        return self.hash(self.keys.room)

    @property
    def epoch(self) -> int:
        return int(self.valkey.hget(self.keys.room, "epoch") or 0)

    def hash(self, name: str) -> dict[str, str]:
        # A pin is msgpack; every other value is text.
        return {field.decode(): value.decode("latin-1") for field, value in self.valkey.hgetall(name).items()}

    def everything(self) -> dict[bytes, bytes | None]:
        """Every key of the server with its content, byte by byte."""
        return {name: self.valkey.dump(name) for name in self.valkey.keys("*")}

    def packed_ticks(self) -> dict[str, bytes]:
        """By id, oldest first."""
        return {id.decode(): fields[b"t"] for id, fields in self.valkey.xrange(self.keys.ticks)}

    def ticks(self) -> list[CutTick]:
        return [read_tick(packed) for packed in self.packed_ticks().values()]

    def archive(self) -> list[Any]:
        """The entries of the room's shard: [room no, epoch, items]."""
        return [msgpack.unpackb(fields[b"e"]) for _, fields in self.valkey.xrange(self.keys.archive)]


def numbers(tick: CutTick) -> list[int]:
    """Of the comments it shows."""
    return [event.n for event in tick.ev if isinstance(event, SaidComment)]
