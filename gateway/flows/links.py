"""Links: the shop says where its viewers come from, and gets a reference that no viewer can make up."""

from typing import Protocol

from gateway.domain.caller import Caller, Role
from gateway.domain.drafts import Effect, fingerprint
from gateway.domain.links import LinkDraft
from gateway.domain.room import Room
from gateway.errors import Forbidden, LedgerUnavailable, NotFound, OutcomeUnknown
from gateway.flows.access import require_room

KIND = "link"


class Made(Protocol):
    @property
    def ref(self) -> str: ...
    @property
    def replayed(self) -> bool: ...


class Ledger(Protocol):
    """`gateway.ledger.links.LedgerLinks`."""

    async def make(self, shop: str, draft: LinkDraft, effect: Effect, *, in_acts: bool) -> Made: ...


class Rooms(Protocol):
    async def get(self, room_id: str) -> Room: ...


class Links:
    """The same content is the same link, whoever asks and however often."""

    def __init__(self, *, ledger: Ledger, rooms: Rooms) -> None:
        self._ledger = ledger
        self._rooms = rooms

    async def make(
        self, caller: Caller, room_id: str, *, source: str, referrer: str | None, guide: str | None, key: str
    ) -> Made:
        if caller.role not in (Role.HOST, Role.SERVICE):
            raise Forbidden("Only a host or the shop's backend may do this.")
        room = await self._rooms.get(room_id)
        if room.shop != caller.shop:
            raise NotFound("There is no such room in this shop.")
        require_room(caller, room.room)
        draft = LinkDraft(room_no=room.room_no, source=source, referrer=referrer, guide=guide)
        effect = Effect(caller.sub, KIND, key, fingerprint(draft))
        try:
            # The log is of what hosts do; a backend may make a link for each of its viewers.
            return await self._ledger.make(caller.shop, draft, effect, in_acts=caller.role is Role.HOST)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error
