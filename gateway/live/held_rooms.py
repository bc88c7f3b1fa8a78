"""What became of the rooms held here: asked of the ledger, so that no lost message leaves one behind for good."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import msgspec
import structlog

from gateway.domain.room import Room, RoomState
from gateway.errors import GatewayError
from gateway.rooms.live_room import LiveRoom

log = structlog.get_logger(__name__)

LOOK_EVERY_S = 3.0
# Rooms in one query: it takes some ms.
_AT_ONCE = 1_000


class Seen(Protocol):
    """`gateway.ledger.moderation.RoomSeen`."""

    @property
    def room_no(self) -> int: ...
    @property
    def state(self) -> RoomState: ...
    @property
    def rules(self) -> Any: ...


class Ledger(Protocol):
    """`gateway.ledger.moderation.LedgerModeration`."""

    async def look(self, room_nos: Sequence[int]) -> Sequence[Seen]: ...


class RuleBook(Protocol):
    """`gateway.flows.room_rules.RuleBook`."""

    async def seen(self, room: Room, no: Any) -> None: ...


class HeldRooms:
    """`on_ended` hears of a room that has ended at every look, for as long as it is held."""

    def __init__(
        self, *, rooms: Mapping[int, LiveRoom], ledger: Ledger, rules: RuleBook, on_ended: Callable[[Room], None]
    ) -> None:
        self._rooms = rooms
        self._ledger = ledger
        self._rules = rules
        self._on_ended = on_ended
        self._is_due = asyncio.Event()

    def look_soon(self) -> None:
        """Something may have been missed."""
        self._is_due.set()

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._is_due.wait()
            self._is_due.clear()
            try:
                await self.look()
            except GatewayError as error:
                log.warning("held_rooms_not_seen", error=str(error))
            except Exception:
                log.exception("held_rooms_not_seen")

    async def look(self) -> None:
        """Raises LedgerUnavailable."""
        held = list(self._rooms)
        for at in range(0, len(held), _AT_ONCE):
            seen = await self._ledger.look(held[at : at + _AT_ONCE])
            # What ended first: it waits for no reading of rules.
            for each in seen:
                live = self._rooms.get(each.room_no)
                if live is not None and each.state is RoomState.ENDED:
                    live.room = msgspec.structs.replace(live.room, state=RoomState.ENDED)
                    self._on_ended(live.room)
            for each in seen:
                live = self._rooms.get(each.room_no)
                if live is not None and each.state is not RoomState.ENDED:
                    await self._rules.seen(live.room, each.rules)
