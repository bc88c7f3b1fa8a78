"""Rooms: hosts make, start, end and change them; everyone of the shop reads them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.drafts import Effect, RoomChanges, RoomDraft, fingerprint
from gateway.domain.ids import IdMint
from gateway.domain.room import Room, RoomState
from gateway.domain.sale import Sale, SaleState
from gateway.errors import Conflict, Forbidden, HotUnavailable, Invalid, LedgerUnavailable, NotFound, OutcomeUnknown
from gateway.flows.access import require_host, require_room
from gateway.flows.recent import Recent
from gateway.flows.room_book import RoomBook
from gateway.wire import bus

KIND = "room"
# What viewers see of it.
_CHANGEABLE = ("title", "starts_at_ms", "stream_url", "notice")
# What viewers read may be this old; their pages come in crowds.
_SALES_FRESH_S = 1.0
# A shop shows a handful at a time. Processes learn of an act on all rooms within seconds also where they are not told.
_NOT_ENDED_MOST = 500


class Ledger(Protocol):
    async def create(self, shop: str, draft: RoomDraft, effect: Effect) -> tuple[Room, bool]: ...
    async def find(self, room_no: int) -> Room | None: ...
    async def of_shop(
        self, shop: str, *, limit: int, after: int | None = None, only: Collection[str] | None = None
    ) -> list[Room]: ...
    async def not_ended_of(self, shop: str, *, limit: int) -> list[Room]: ...
    async def set_state(self, room_no: int, state: RoomState, *, actor: str) -> Room: ...
    async def change(self, room_no: int, changes: RoomChanges, *, actor: str) -> Room: ...


class RoomSales(Protocol):
    async def of_room(self, room_no: int) -> list[Sale]: ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class News(Protocol):
    async def tell(self, room: str, events: Sequence[Mapping[str, Any]], *, at_once: bool = False) -> None: ...


class Crowd(Protocol):
    async def viewers(self, room_no: int) -> int: ...


class RoomReading(Struct, frozen=True):
    room: Room
    sales: Sequence[tuple[Sale, SaleState]]
    """Newest first, each with its state by this machine's clock; a sale by itself is shown by Valkey's."""
    viewers: int | None = None
    """Open connections in all processes; None while it cannot be read."""


class Rooms:
    """Every change is in the ledger before it is answered; processes are told over the bus."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sales: RoomSales,
        book: RoomBook,
        publisher: Publisher,
        news: News,
        crowd: Crowd,
        mint: IdMint,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._sales = sales
        self._book = book
        self._publisher = publisher
        self._news = news
        self._crowd = crowd
        self._mint = mint
        self._clock = clock
        self._recent_sales: Recent[int, list[Sale]] = Recent(keep_s=_SALES_FRESH_S, clock=clock)
        self._recent_viewers: Recent[int, int] = Recent(keep_s=_SALES_FRESH_S, clock=clock)

    async def create(self, caller: Caller, draft: RoomDraft, key: str) -> tuple[Room, bool]:
        """The room, and whether the key had made it before."""
        require_host(caller)
        if caller.rooms is not None:
            raise Forbidden("A token limited to rooms makes no new ones.")
        effect = Effect(caller.sub, KIND, key, fingerprint(draft))
        try:
            return await self._ledger.create(caller.shop, draft, effect)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error

    async def read(self, caller: Caller, room_id: str) -> RoomReading:
        room = await self._find(caller, room_id)
        require_room(caller, room.room)
        if caller.is_staff:
            sales = await self._sales.of_room(room.room_no)
        else:
            sales = await self._recent_sales.get(room.room_no, lambda: self._sales.of_room(room.room_no))
        try:
            viewers = await self._recent_viewers.get(room.room_no, lambda: self._crowd.viewers(room.room_no))
        except HotUnavailable:
            viewers = None
        now_ms = self._clock.now_ms()
        return RoomReading(room, [(sale, sale.state_at(now_ms)) for sale in sales], viewers)

    async def of_shop(self, caller: Caller, *, limit: int, after: str | None) -> tuple[list[Room], str | None]:
        """Newest first, and the cursor of the next page."""
        number = None if after is None else self._mint.read_room(after)
        if after is not None and number is None:
            raise Invalid("That is no cursor of this list.", param="after")
        rooms = await self._ledger.of_shop(caller.shop, limit=limit + 1, after=number, only=caller.rooms)
        return rooms[:limit], rooms[limit - 1].room if len(rooms) > limit else None

    async def start(self, caller: Caller, room_id: str) -> Room:
        return await self._set_state(caller, room_id, RoomState.LIVE)

    async def end(self, caller: Caller, room_id: str) -> Room:
        return await self._set_state(caller, room_id, RoomState.ENDED)

    async def change(self, caller: Caller, room_id: str, changes: RoomChanges) -> Room:
        before = await self.own(caller, room_id)
        try:
            room = await self._ledger.change(before.room_no, changes, actor=caller.sub)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error
        changed = {name: getattr(room, name) for name in _CHANGEABLE if getattr(room, name) != getattr(before, name)}
        if changed and room.state is not RoomState.ENDED:
            await self._news.tell(room.room, [{"k": "room", "state": str(room.state), **changed}])
        return await self._told(room)

    async def _set_state(self, caller: Caller, room_id: str, state: RoomState) -> Room:
        before = await self.own(caller, room_id)
        try:
            room = await self._ledger.set_state(before.room_no, state, actor=caller.sub)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error
        if room.state is not state:
            raise Conflict("The room has ended; ended is final.")
        # First, while everybody is there: processes show their viewers out of a room that has ended.
        await self._news.tell(room.room, [{"k": "room", "state": str(state)}], at_once=True)
        return await self._told(room)

    async def _told(self, room: Room) -> Room:
        self._book.forget(room.room)
        await self._publisher.publish(bus.encode(bus.RoomChanged(room.room)))
        return room

    async def beside(self, room: Room) -> Sequence[Room]:
        """The other rooms of the shop that have not ended; of very many, those that are live and the newest ones."""
        rooms = await self._ledger.not_ended_of(room.shop, limit=_NOT_ENDED_MOST)
        return [other for other in rooms if other.room_no != room.room_no]

    async def own(self, caller: Caller, room_id: str) -> Room:
        """A room the caller is a host of."""
        require_host(caller)
        room = await self._find(caller, room_id)
        require_room(caller, room.room)
        return room

    async def _find(self, caller: Caller, room_id: str) -> Room:
        """Staff read the ledger, so that they see what they just did from any process; viewers the book."""
        if not caller.is_staff:
            room: Room | None = await self._book.get(room_id)
        else:
            number = self._mint.read_room(room_id)
            room = None if number is None else await self._ledger.find(number)
        if room is None or room.shop != caller.shop or room.room != room_id:
            raise NotFound("There is no such room in this shop.")
        return room
