"""What a host says and shows in a room: announcements, the pin, the rules of its chat.

The ledger has an act before the room is told, so that a room that Valkey lost comes back as its hosts left it. Asked
again, an act that is there already writes nothing and is told once more: that mends one whose telling was lost.
"""

import asyncio
from typing import Any, NamedTuple, Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.drafts import Effect, fingerprint
from gateway.domain.ids import CommentPlace, IdMint
from gateway.domain.live import ArchivedComment, RoomChange, RoomStanding
from gateway.domain.room import Room
from gateway.domain.sale import Sale
from gateway.errors import Forbidden, LedgerUnavailable, NotFound, Unavailable
from gateway.flows.room_telling import RoomTelling, comment_place, kept, shown_pin

log = structlog.get_logger(__name__)

KIND = "announcement"
# A comment is in the archive within a second of being said.
_ARCHIVED_WITHIN_MS, _ARCHIVE_PAUSE_S, _ARCHIVE_TRIES = 10_000, 0.25, 8


class Announced(Protocol):
    @property
    def act_no(self) -> int: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def told(self) -> bool: ...
    @property
    def replayed(self) -> bool: ...


class Ledger(Protocol):
    """`gateway.ledger.moderation.LedgerModeration`."""

    async def announce(self, room_no: int, text: str, effect: Effect) -> Announced: ...
    async def mark_told(self, act_no: int) -> None: ...
    async def set_pin(self, room_no: int, pin: dict[str, Any] | None, *, actor: str) -> None: ...
    async def set_chat(self, room_no: int, *, slow_mode_s: int | None, comments: bool | None, actor: str) -> None: ...


class Rooms(Protocol):
    """`gateway.flows.rooms.Rooms`."""

    async def own(self, caller: Caller, room_id: str) -> Room: ...


class Sales(Protocol):
    async def find(self, caller: Caller, sale_id: str) -> Sale: ...


class Comments(Protocol):
    """The archive."""

    async def find(self, place: CommentPlace) -> ArchivedComment | None: ...


class Announcement(NamedTuple):
    text: str
    at_ms: int
    replayed: bool


class SteerRoom:
    """Raises NotFound for a room of another shop, Forbidden for who is no host of it, OutcomeUnknown where an act may
    be kept and not told."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        rooms: Rooms,
        sales: Sales,
        comments: Comments,
        telling: RoomTelling,
        mint: IdMint,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._rooms = rooms
        self._sales = sales
        self._comments = comments
        self._telling = telling
        self._mint = mint
        self._clock = clock

    async def announce(self, caller: Caller, room_id: str, text: str, *, key: str) -> Announcement:
        """Told once a key, but for a process that dies between telling and noting it."""
        room = await self._rooms.own(caller, room_id)
        effect = Effect(caller.sub, KIND, key, fingerprint(room.room, text))
        done = await kept(self._ledger.announce(room.room_no, text, effect))
        if not done.told:
            await self._telling.tell(room, RoomChange(events=[{"k": "announce", "text": text}]))
            try:
                await self._ledger.mark_told(done.act_no)
            except LedgerUnavailable as error:
                log.warning("announcement_not_marked_told", room_no=room.room_no, error=str(error))
        return Announcement(text, done.at_ms, done.replayed)

    async def pin_item(self, caller: Caller, room_id: str, *, sale_id: str, sku: str) -> dict[str, Any]:
        """The pin as the room is shown it."""
        room = await self._rooms.own(caller, room_id)
        try:
            sale = await self._sales.find(caller, sale_id)
        except (NotFound, Forbidden):
            sale = None
        if sale is None or sale.room != room.room:
            raise NotFound("There is no such sale in this room.", param="sale")
        for item in sale.items:
            if item.sku == sku:
                return await self._pin(room, {"sale": sale.sale, "sku": item.sku, "title": item.title}, caller)
        raise NotFound("There is no such sku in this sale.", param="sku")

    async def pin_comment(self, caller: Caller, room_id: str, *, comment_id: str) -> dict[str, Any]:
        room = await self._rooms.own(caller, room_id)
        said = await self._find_comment(comment_place(self._mint, room, comment_id, param="comment"))
        pin = {"comment": comment_id, "viewer": said.viewer, "name": said.name, "text": said.text}
        return await self._pin(room, pin, caller)

    async def unpin(self, caller: Caller, room_id: str) -> None:
        await self._pin(await self._rooms.own(caller, room_id), None, caller)

    async def set_chat(
        self, caller: Caller, room_id: str, *, slow_mode_s: int | None, comments: bool | None
    ) -> RoomStanding:
        """What is None stays. The room as it stands afterwards."""
        room = await self._rooms.own(caller, room_id)
        await kept(self._ledger.set_chat(room.room_no, slow_mode_s=slow_mode_s, comments=comments, actor=caller.sub))
        return await self._telling.tell_standing(room, _shown_chat)

    async def _pin(self, room: Room, pin: dict[str, Any] | None, caller: Caller) -> dict[str, Any]:
        await kept(self._ledger.set_pin(room.room_no, pin, actor=caller.sub))
        await self._telling.tell_standing(room, shown_pin)
        return pin or {}

    async def _find_comment(self, place: CommentPlace) -> ArchivedComment:
        """As the archive has it, which it does a moment after the comment is shown."""
        is_new = self._clock.now_ms() - place.at_ms < _ARCHIVED_WITHIN_MS
        for left in reversed(range(_ARCHIVE_TRIES if is_new else 1)):
            said = await self._comments.find(place)
            if said is not None:
                return said
            if left:
                await asyncio.sleep(_ARCHIVE_PAUSE_S)
        if is_new:
            raise Unavailable("The comment was taken back, or is not in the archive yet; repeat in a moment.")
        raise NotFound("There is no such comment in this room.", param="comment")


def _shown_chat(standing: RoomStanding) -> RoomChange:
    slow_mode_s, comments = standing.slow_mode_s, standing.comments
    event = {"k": "chat", "slow_mode_s": slow_mode_s, "comments": "on" if comments else "off"}
    return RoomChange(events=[event], slow_mode_s=slow_mode_s, comments=comments)
