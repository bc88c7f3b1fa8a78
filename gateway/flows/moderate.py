"""A host's acts on viewers and on what they say: mutes, bans, banned words, and comments taken back.

As in steer_room.py the ledger has an act before the room is told.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from gateway.domain.caller import Caller
from gateway.domain.ids import CommentPlace, IdMint
from gateway.domain.live import RoomChange, RoomStanding
from gateway.domain.room import Room
from gateway.errors import Forbidden, Invalid
from gateway.flows.room_telling import RoomTelling, comment_place, kept, shown_pin


class BannedWord(Protocol):
    @property
    def word_no(self) -> int: ...
    @property
    def word(self) -> str: ...
    @property
    def shop_wide(self) -> bool: ...


class Muted(Protocol):
    @property
    def no(self) -> int: ...
    @property
    def viewer(self) -> str: ...
    @property
    def until_ms(self) -> int: ...
    @property
    def name(self) -> str | None: ...


class Banned(Protocol):
    @property
    def no(self) -> int: ...
    @property
    def room(self) -> str: ...
    @property
    def viewer(self) -> str: ...
    @property
    def shop_wide(self) -> bool: ...
    @property
    def name(self) -> str | None: ...


class Ledger(Protocol):
    """`gateway.ledger.moderation.LedgerModeration`. Bans and words return whether the shop's rules are others now,
    retractions whether the pin went with what was taken back."""

    async def mute(self, room_no: int, viewer: str, *, for_s: int, actor: str) -> int: ...
    async def unmute(self, room_no: int, viewer: str, *, actor: str) -> None: ...
    async def ban(self, room_no: int, viewer: str, *, shop_wide: bool, actor: str, shop_too: bool) -> bool: ...
    async def unban(self, room_no: int, viewer: str, *, actor: str, shop_too: bool) -> bool: ...
    async def mutes(self, room_no: int, *, limit: int, after: int | None = None) -> Sequence[Muted]: ...
    async def bans(self, room_no: int, *, limit: int, after: int | None = None, shop_too: bool) -> Sequence[Banned]: ...
    async def ban_word(self, room_no: int, word: str, *, shop_wide: bool, actor: str) -> None: ...
    async def allow_word(self, room_no: int, word: str, *, actor: str, shop_too: bool) -> bool: ...
    async def words(self, room_no: int, *, limit: int, after: int | None = None) -> Sequence[BannedWord]: ...
    async def retract(self, room_no: int, comment: str, place: CommentPlace, *, actor: str) -> bool: ...
    async def retract_all(self, room_no: int, viewer: str, *, actor: str) -> bool: ...


N = TypeVar("N", Muted, Banned)


class Rooms(Protocol):
    """`gateway.flows.rooms.Rooms`."""

    async def own(self, caller: Caller, room_id: str) -> Room: ...


class Moderate:
    """Raises NotFound for a room of another shop, Forbidden for who is no host of it, OutcomeUnknown where an act may
    be kept and not told."""

    def __init__(self, *, ledger: Ledger, rooms: Rooms, telling: RoomTelling, mint: IdMint) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._telling = telling
        self._mint = mint

    async def mute(self, caller: Caller, room_id: str, viewer: str, *, for_s: int) -> int:
        """Until when, in ms."""
        room = await self._rooms.own(caller, room_id)
        until_ms = await kept(self._ledger.mute(room.room_no, viewer, for_s=for_s, actor=caller.sub))
        await self._telling.tell_standing(room, _shown_mute(viewer))
        return until_ms

    async def unmute(self, caller: Caller, room_id: str, viewer: str) -> None:
        room = await self._rooms.own(caller, room_id)
        await kept(self._ledger.unmute(room.room_no, viewer, actor=caller.sub))
        await self._telling.tell_standing(room, _shown_mute(viewer))

    async def ban(self, caller: Caller, room_id: str, viewer: str, *, shop_wide: bool) -> None:
        """Who is banned is also mute: whoever still holds a socket says nothing."""
        room = await self._rooms.own(caller, room_id)
        may = _may_change_shop(caller)
        if shop_wide and not may:
            raise Forbidden("A token limited to rooms changes nothing of the whole shop.")
        was_wide = await kept(
            self._ledger.ban(room.room_no, viewer, shop_wide=shop_wide, actor=caller.sub, shop_too=may)
        )
        await self._telling.tell_standing(room, _shown_mute(viewer, rules_changed=True))
        await self._telling.tell_shop(room, shop_wide or was_wide)

    async def unban(self, caller: Caller, room_id: str, viewer: str) -> None:
        room = await self._rooms.own(caller, room_id)
        may = _may_change_shop(caller)
        was_wide = await kept(self._ledger.unban(room.room_no, viewer, actor=caller.sub, shop_too=may))
        await self._telling.tell_standing(room, _shown_mute(viewer, rules_changed=True))
        await self._telling.tell_shop(room, was_wide)

    async def mutes(
        self, caller: Caller, room_id: str, *, limit: int, after: str | None
    ) -> tuple[Sequence[Muted], str | None]:
        """Who may not speak just now, newest first, and the cursor of the next page."""
        room = await self._rooms.own(caller, room_id)
        return _page(await self._ledger.mutes(room.room_no, limit=limit + 1, after=_number(after)), limit)

    async def bans(
        self, caller: Caller, room_id: str, *, limit: int, after: str | None
    ) -> tuple[Sequence[Banned], str | None]:
        """The same of bans; those of the whole shop that were spoken in other rooms are for hosts of all of it."""
        room = await self._rooms.own(caller, room_id)
        found = await self._ledger.bans(
            room.room_no, limit=limit + 1, after=_number(after), shop_too=_may_change_shop(caller)
        )
        return _page(found, limit)

    async def ban_word(self, caller: Caller, room_id: str, word: str, *, shop_wide: bool) -> None:
        room = await self._rooms.own(caller, room_id)
        if shop_wide and not _may_change_shop(caller):
            raise Forbidden("A token limited to rooms changes nothing of the whole shop.")
        await kept(self._ledger.ban_word(room.room_no, word, shop_wide=shop_wide, actor=caller.sub))
        await self._telling.tell(room, RoomChange(rules_changed=True))
        await self._telling.tell_shop(room, shop_wide)

    async def allow_word(self, caller: Caller, room_id: str, word: str) -> None:
        """In this room: the word leaves its list, and that of the shop if it is there."""
        room = await self._rooms.own(caller, room_id)
        may = _may_change_shop(caller)
        was_wide = await kept(self._ledger.allow_word(room.room_no, word, actor=caller.sub, shop_too=may))
        await self._telling.tell(room, RoomChange(rules_changed=True))
        await self._telling.tell_shop(room, was_wide)

    async def words(
        self, caller: Caller, room_id: str, *, limit: int, after: str | None
    ) -> tuple[Sequence[BannedWord], str | None]:
        """Newest first, the room's and the shop's, and the cursor of the next page."""
        room = await self._rooms.own(caller, room_id)
        words = await self._ledger.words(room.room_no, limit=limit + 1, after=_number(after))
        return words[:limit], str(words[limit - 1].word_no) if len(words) > limit else None

    async def retract(self, caller: Caller, room_id: str, comment_id: str) -> None:
        """Nobody is shown the comment any more, also not as the pin."""
        room = await self._rooms.own(caller, room_id)
        place = comment_place(self._mint, room, comment_id)
        unpinned = await kept(self._ledger.retract(room.room_no, comment_id, place, actor=caller.sub))
        event = {"k": "comment_gone", "comment": comment_id}
        await self._telling.tell(
            room, RoomChange(events=[event], gone_comment=place.n, gone_epoch=place.epoch, actor=caller.sub)
        )
        if unpinned:
            await self._telling.tell_standing(room, shown_pin)

    async def retract_all(self, caller: Caller, room_id: str, viewer: str) -> None:
        """Everything the viewer has said so far."""
        room = await self._rooms.own(caller, room_id)
        unpinned = await kept(self._ledger.retract_all(room.room_no, viewer, actor=caller.sub))
        event = {"k": "comment_gone", "viewer": viewer}
        await self._telling.tell(room, RoomChange(events=[event], gone_viewer=viewer, actor=caller.sub))
        if unpinned:
            await self._telling.tell_standing(room, shown_pin)


def _shown_mute(viewer: str, *, rules_changed: bool = False) -> Callable[[RoomStanding], RoomChange]:
    def shown(standing: RoomStanding) -> RoomChange:
        return RoomChange(mutes={viewer: standing.mutes.get(viewer, 0)}, rules_changed=rules_changed)

    return shown


def _number(after: str | None) -> int | None:
    if after is not None and not (after.isascii() and after.isdigit() and len(after) <= 18):
        raise Invalid("That is no cursor of this list.", param="after")
    return None if after is None else int(after)


def _page(found: Sequence[N], limit: int) -> tuple[Sequence[N], str | None]:
    return found[:limit], str(found[limit - 1].no) if len(found) > limit else None


def _may_change_shop(caller: Caller) -> bool:
    return caller.rooms is None
