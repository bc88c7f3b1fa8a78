"""What hosts set in a room: the chat, the pin, mutes, bans and banned words; each act in one transaction with its line
in the log. An act that finds the room as it wants it writes nothing."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import msgspec

from gateway.domain.acts import RoomAct
from gateway.domain.drafts import Effect
from gateway.domain.ids import CommentPlace
from gateway.domain.live import FOREVER_MS, RoomRules, RoomStanding
from gateway.domain.room import RoomState
from gateway.errors import Conflict, Forbidden, NotFound
from gateway.ledger.effects import take_key
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries
from gateway.ledger.room_acts import QUERIES as ACTS
from gateway.ledger.room_acts import jsonb, note_act

_QUERIES = load_queries("moderation.sql")
_read_mutes = msgspec.json.Decoder(dict[str, int]).decode
_read_shop_bans = msgspec.json.Decoder(dict[str, frozenset[str]]).decode
_read_pin = msgspec.json.Decoder(dict[str, Any]).decode

# A room that Valkey lost is opened with all its mutes and bans in one call.
MAX_MUTES = 1_000
MAX_BANS = 2_000
# Of a room, and once more of its shop.
MAX_WORDS = 10_000
# A mute asked for again within this time is the same one: its answer was lost.
_SAME_MUTE_MS = 10_000


class RulesNo(NamedTuple):
    """Both grow with every change, so that what was read before is known to be old."""

    room: int
    shop: int


class RoomSeen(NamedTuple):
    """What of a room may have changed without those who hold it being told."""

    room_no: int
    state: RoomState
    rules: RulesNo


class Announced(NamedTuple):
    act_no: int
    at_ms: int
    told: bool
    """Whether the room was told of it; only a repeat can find that."""
    replayed: bool


class BannedWord(NamedTuple):
    word_no: int
    word: str
    shop_wide: bool


class Muted(NamedTuple):
    no: int
    viewer: str
    until_ms: int
    name: str | None
    """As the archive has it; None for who never spoke."""


class Banned(NamedTuple):
    no: int
    room: str
    """Where it was spoken: there the viewer is called so."""
    viewer: str
    shop_wide: bool
    name: str | None


class LedgerModeration:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def standing(self, room_no: int) -> RoomStanding:
        """As a room is opened in Valkey; of one nobody acted on that is nothing special."""
        row = await self._ledger.fetchrow(_QUERIES["standing"], room_no, FOREVER_MS)
        if row is None:
            return RoomStanding()
        mutes = {} if row["mutes"] is None else _read_mutes(row["mutes"])
        if row["slow_mode_s"] is None:
            return RoomStanding(mutes=mutes)
        return RoomStanding(
            slow_mode_s=row["slow_mode_s"],
            comments=row["comments"],
            pin=_pin(row),
            mutes=mutes,
            likes=row["likes"],
        )

    async def rules_no(self, room_no: int) -> RulesNo:
        row = await self._ledger.fetchrow(_QUERIES["rules_no"], room_no)
        return RulesNo(0, 0) if row is None else RulesNo(row["room"], row["shop"])

    async def look(self, room_nos: Sequence[int]) -> list[RoomSeen]:
        """Many rooms in one query; those that do not exist are left out."""
        rows = await self._ledger.fetch(_QUERIES["look"], list(room_nos))
        return [RoomSeen(row["room_no"], RoomState(row["state"]), RulesNo(row["room"], row["shop"])) for row in rows]

    async def rules(self, room_no: int) -> RoomRules:
        row = await self._ledger.fetchrow(_QUERIES["rules"], room_no)
        if row is None:
            return RoomRules()
        return RoomRules(
            bans=frozenset(row["bans"]),
            shop_bans={} if row["shop_bans"] is None else _read_shop_bans(row["shop_bans"]),
            words=frozenset(row["words"]),
        )

    async def announce(self, room_no: int, text: str, effect: Effect) -> Announced:
        """Once a key. Raises KeyReused; Conflict in a room that has ended."""
        async with self._ledger.transaction() as connection:
            room = await connection.fetchrow(_QUERIES["place"], room_no)
            act_no: int = await connection.fetchval(ACTS["next_no"])
            held = await take_key(connection, shop_no=room["shop_no"], effect=effect, object_id=str(act_no))
            if held is not None:
                act_no = int(held)
            elif room["state"] == RoomState.ENDED:
                raise Conflict("The room has ended; nobody hears announcements any more.")
            else:
                await connection.execute(ACTS["announce"], act_no, room_no, effect.caller, jsonb({"text": text}))
            row = await connection.fetchrow(ACTS["announced"], act_no)
        return Announced(act_no, row["at_ms"], row["told"], held is not None)

    async def mark_told(self, act_no: int) -> None:
        await self._ledger.execute(ACTS["told"], act_no)

    async def set_pin(self, room_no: int, pin: dict[str, Any] | None, *, actor: str) -> None:
        async with self._locked(room_no) as (connection, room):
            was = _pin(room)
            if was != pin:
                await connection.execute(_QUERIES["set_pin"], room_no, jsonb(pin))
                act = RoomAct.UNPIN if pin is None else RoomAct.PIN
                await note_act(connection, room_no, act, actor=actor, before=was, after=pin)

    async def set_chat(self, room_no: int, *, slow_mode_s: int | None, comments: bool | None, actor: str) -> None:
        """What is None stays."""
        async with self._locked(room_no) as (connection, room):
            was = (room["slow_mode_s"], room["comments"])
            now = (was[0] if slow_mode_s is None else slow_mode_s, was[1] if comments is None else comments)
            if was != now:
                await connection.execute(_QUERIES["set_chat"], room_no, *now)
                await note_act(connection, room_no, RoomAct.CHAT, actor=actor, before=_chat(*was), after=_chat(*now))

    async def mute(self, room_no: int, viewer: str, *, for_s: int, actor: str) -> int:
        """Until when. Asked again at once, it is not prolonged by the moment between."""
        async with self._locked(room_no) as (connection, room):
            now_ms: int = room["now_ms"]
            was: int | None = await connection.fetchval(_QUERIES["muted_until"], room_no, viewer, now_ms)
            until_ms = now_ms + for_s * 1000
            if was is not None and 0 <= until_ms - was < min(_SAME_MUTE_MS, for_s * 500):
                return was
            await connection.execute(_QUERIES["forget_mutes"], room_no, now_ms)
            if was is None and await connection.fetchval(_QUERIES["count_mutes"], room_no) >= MAX_MUTES:
                raise Conflict(f"A room mutes at most {MAX_MUTES} viewers at a time.")
            await connection.execute(_QUERIES["mute"], room_no, viewer, until_ms)
            await note_act(
                connection,
                room_no,
                RoomAct.MUTE,
                actor=actor,
                before=None if was is None else {"viewer": viewer, "until_ms": was},
                after={"viewer": viewer, "until_ms": until_ms},
            )
        return until_ms

    async def unmute(self, room_no: int, viewer: str, *, actor: str) -> None:
        async with self._locked(room_no) as (connection, room):
            was = await connection.fetchval(_QUERIES["muted_until"], room_no, viewer, room["now_ms"])
            if was is not None:
                await connection.execute(_QUERIES["unmute"], room_no, viewer)
                before = {"viewer": viewer, "until_ms": was}
                await note_act(connection, room_no, RoomAct.UNMUTE, actor=actor, before=before, after=None)

    async def ban(self, room_no: int, viewer: str, *, shop_wide: bool, actor: str, shop_too: bool) -> bool:
        """Whether the shop's rules are others now. Raises Forbidden for a ban of the whole shop without `shop_too`."""
        async with self._locked(room_no) as (connection, room):
            was: bool | None = await connection.fetchval(_QUERIES["banned"], room_no, viewer)
            if was == shop_wide:
                return False
            _require_shop(shop_too, needed=shop_wide or bool(was))
            if was is None and await connection.fetchval(_QUERIES["count_bans"], room_no) >= MAX_BANS:
                raise Conflict(f"A room bans at most {MAX_BANS} viewers.")
            await connection.execute(_QUERIES["ban"], room_no, viewer, room["shop_no"], shop_wide)
            before, after = _banned(viewer, was), _banned(viewer, shop_wide)
            await note_act(connection, room_no, RoomAct.BAN, actor=actor, before=before, after=after)
            await _rules_changed(connection, room_no, room["shop_no"], shop_too=shop_wide or bool(was))
        return shop_wide or bool(was)

    async def unban(self, room_no: int, viewer: str, *, actor: str, shop_too: bool) -> bool:
        """As `ban`."""
        async with self._locked(room_no) as (connection, room):
            was: bool | None = await connection.fetchval(_QUERIES["banned"], room_no, viewer)
            if was is None:
                return False
            _require_shop(shop_too, needed=was)
            await connection.execute(_QUERIES["unban"], room_no, viewer)
            before = _banned(viewer, was)
            await note_act(connection, room_no, RoomAct.UNBAN, actor=actor, before=before, after=None)
            await _rules_changed(connection, room_no, room["shop_no"], shop_too=was)
        return was

    async def mutes(self, room_no: int, *, limit: int, after: int | None = None) -> list[Muted]:
        """Newest first, behind the mute of that number."""
        rows = await self._ledger.fetch(_QUERIES["mutes"], room_no, after, limit)
        return [Muted(row["no"], row["viewer"], row["until_ms"], row["name"]) for row in rows]

    async def bans(self, room_no: int, *, limit: int, after: int | None = None, shop_too: bool) -> list[Banned]:
        """The room's and, with `shop_too`, those of the whole shop that were spoken elsewhere; as `mutes`."""
        rows = await self._ledger.fetch(_QUERIES["bans"], room_no, after, limit, shop_too)
        return [Banned(row["no"], row["room"], row["viewer"], row["shop_wide"], row["name"]) for row in rows]

    async def ban_word(self, room_no: int, word: str, *, shop_wide: bool, actor: str) -> None:
        """The room's list and the shop's do not know of each other; a word may stand in both."""
        async with self._locked(room_no) as (connection, room):
            shop_no, of_room = room["shop_no"], None if shop_wide else room_no
            if await connection.fetchval(_QUERIES["ban_word"], shop_no, of_room, word) is None:
                return
            if await connection.fetchval(_QUERIES["count_words"], shop_no, of_room) > MAX_WORDS:
                raise Conflict(f"A room bans at most {MAX_WORDS} words, and its shop as many.")
            after = {"word": word, "shop_wide": shop_wide}
            await note_act(connection, room_no, RoomAct.BAN_WORD, actor=actor, before=None, after=after)
            await _rules_changed(connection, room_no, shop_no, shop_too=shop_wide)

    async def allow_word(self, room_no: int, word: str, *, actor: str, shop_too: bool) -> bool:
        """The word is in neither list afterwards. As `ban`."""
        async with self._locked(room_no) as (connection, room):
            scopes = [
                row["shop_wide"] for row in await connection.fetch(_QUERIES["word_scopes"], *_of(room, room_no), word)
            ]
            if not scopes:
                return False
            _require_shop(shop_too, needed=any(scopes))
            await connection.execute(_QUERIES["allow_word"], *_of(room, room_no), word)
            for shop_wide in scopes:
                before = {"word": word, "shop_wide": shop_wide}
                await note_act(connection, room_no, RoomAct.ALLOW_WORD, actor=actor, before=before, after=None)
            await _rules_changed(connection, room_no, room["shop_no"], shop_too=any(scopes))
        return any(scopes)

    async def words(self, room_no: int, *, limit: int, after: int | None = None) -> list[BannedWord]:
        """The room's and the shop's, newest first, behind the word of that number."""
        rows = await self._ledger.fetch(_QUERIES["words"], room_no, after, limit)
        return [BannedWord(row["word_no"], row["word"], row["shop_wide"]) for row in rows]

    async def retract(self, room_no: int, comment: str, place: CommentPlace, *, actor: str) -> bool:
        """Takes a comment back, once. Whether the pin went with it, also when that was done before."""
        async with self._locked(room_no) as (connection, room):
            at = (place.at_ms, place.n, place.epoch)
            await connection.execute(_QUERIES["comment_gone"], room_no, *at, actor)
            known = await connection.fetchrow(ACTS["retracted"], room_no, comment)
            if known is not None:
                return bool(known["unpinned"])
            return await _retract(connection, room_no, _pin(room), RoomAct.RETRACT, actor, comment=comment)

    async def retract_all(self, room_no: int, viewer: str, *, actor: str) -> bool:
        """Everything the viewer has said so far; an act of its own each time, for they may have gone on."""
        async with self._locked(room_no) as (connection, room):
            await connection.execute(_QUERIES["viewer_gone"], room_no, viewer, actor)
            unpinned = await connection.fetchval(ACTS["unpinned"], room_no, viewer)
            return (
                await _retract(connection, room_no, _pin(room), RoomAct.RETRACT_ALL, actor, viewer=viewer) or unpinned
            )

    @asynccontextmanager
    async def _locked(self, room_no: int) -> AsyncIterator[tuple[Any, Any]]:
        """A transaction that acts on a room alone, and what the room was."""
        async with self._ledger.transaction() as connection:
            await connection.execute(_QUERIES["make"], room_no)
            room = await connection.fetchrow(_QUERIES["lock"], room_no)
            if room is None:
                raise NotFound("There is no such room.")
            yield connection, room


async def _retract(
    connection: Any, room_no: int, pin: dict[str, Any] | None, act: RoomAct, actor: str, **of: str
) -> bool:
    """Notes the act; takes the pin away if it shows what is taken back, and says so."""
    shows = pin is not None and all(pin.get(name) == value for name, value in of.items())
    if shows:
        await connection.execute(_QUERIES["set_pin"], room_no, None)
    await note_act(connection, room_no, act, actor=actor, before=None, after={**of, "unpinned": shows})
    return shows


async def _rules_changed(connection: Any, room_no: int, shop_no: int, *, shop_too: bool) -> None:
    await connection.execute(_QUERIES["room_rules_changed"], room_no)
    if shop_too:
        await connection.execute(_QUERIES["shop_rules_changed"], shop_no)


def _require_shop(allowed: bool, *, needed: bool) -> None:
    if needed and not allowed:
        raise Forbidden("A token limited to rooms changes nothing of the whole shop.")


def _of(room: Any, room_no: int) -> tuple[int, int]:
    return room["shop_no"], room_no


def _pin(row: Any) -> dict[str, Any] | None:
    return None if row["pin"] is None else _read_pin(row["pin"])


def _chat(slow_mode_s: int, comments: bool) -> dict[str, Any]:
    return {"slow_mode_s": slow_mode_s, "comments": "on" if comments else "off"}


def _banned(viewer: str, shop_wide: bool | None) -> dict[str, Any] | None:
    return None if shop_wide is None else {"viewer": viewer, "shop_wide": shop_wide}
