"""What a room is told by those who hold no sockets: hosts' acts, and what a sale became.

What it is told waits in Valkey for the room's next tick, which this process sees to. A room that Valkey does not have,
perhaps because it lost it a moment ago, is made from the ledger before it is told anything.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.live import RoomChange
from gateway.domain.room import Room
from gateway.domain.sale import Sale, SaleState
from gateway.errors import GatewayError, HotUnavailable, LedgerUnavailable

log = structlog.get_logger(__name__)

KEEP_S = 30.0
"""What a room could not be told is told for so long; who comes later is shown all as it is anyway."""
KEPT_MAX = 1000
"""Events that wait to be told; past it the oldest is dropped."""
_AGAIN_S = 1.0


class Hot(Protocol):
    async def change(self, room_no: int, change: RoomChange) -> bool: ...


class Calls(Protocol):
    """`gateway.rooms.calls.RoomCalls`."""

    def cut(self, room_no: int, *, at_once: bool = False) -> None: ...


class OpenRoom(Protocol):
    """`gateway.rooms.opening.open_room`."""

    async def __call__(self, room_no: int, /) -> None: ...


class Find(Protocol):
    """As the ledger has the sale now."""

    async def __call__(self, sale_no: int, /) -> Sale | None: ...


class ReadRoom(Protocol):
    def __call__(self, room: str, /) -> int | None: ...


class _Untold(NamedTuple):
    room_no: int
    event: Mapping[str, Any]
    sale_no: int | None
    until_s: float


class RoomNews:
    def __init__(
        self, *, hot: Hot, calls: Calls, open_room: OpenRoom, find: Find, read_room: ReadRoom, clock: Clock
    ) -> None:
        self._hot = hot
        self._calls = calls
        self._open_room = open_room
        self._find = find
        self._read_room = read_room
        self._clock = clock
        self._untold: OrderedDict[tuple[Any, ...], _Untold] = OrderedDict()
        """By what it is about: of two the newer one."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_AGAIN_S)
            await self.tell_again()

    async def change(self, room: Room, change: RoomChange) -> None:
        """Raises HotUnavailable when it may not have happened; asking again does no harm."""
        await self._change(room.room_no, change)

    async def tell(self, room: str, events: Sequence[Mapping[str, Any]], *, at_once: bool = False) -> None:
        """Best effort: what happened has happened. A room that cannot be told now is told within `KEEP_S`, or not."""
        await self._tell_or_keep(room, events, at_once=at_once)

    async def prices(self, sale: Sale, prices: Sequence[tuple[str, int]]) -> None:
        """(sku, price in minor units) of each item that has another price now. As `tell`."""
        if sale.room is not None:
            await self._tell_or_keep(sale.room, price_events(sale, prices), at_once=True, sale_no=sale.sale_no)

    async def state(self, sale: Sale, state: SaleState) -> None:
        """As `tell`."""
        if sale.room is not None:
            await self._tell_or_keep(sale.room, [sale_event(sale, state)], at_once=True, sale_no=sale.sale_no)

    async def try_prices(self, sale: Sale, prices: Sequence[tuple[str, int]]) -> bool:
        """As `try_state`."""
        room_no = None if sale.room is None else self._read_room(sale.room)
        return room_no is None or await self._is_told(room_no, price_events(sale, prices), at_once=True)

    async def try_state(self, sale: Sale, state: SaleState) -> bool:
        """False: the room may not have been told, and whoever asks is to ask again."""
        room_no = None if sale.room is None else self._read_room(sale.room)
        return room_no is None or await self._is_told(room_no, [sale_event(sale, state)], at_once=True)

    async def tell_again(self) -> None:
        """Tells what could not be told, as it is by now; up to the first that cannot be told now either."""
        for about, untold in list(self._untold.items()):
            if self._untold.get(about) is not untold:
                continue  # something newer was told meanwhile
            if self._clock.monotonic() > untold.until_s:
                log.warning("room_never_told", room_no=untold.room_no, about=untold.event["k"])
                del self._untold[about]
                continue
            try:
                event = await self._by_now(untold)
                await self._change(untold.room_no, RoomChange(events=[event], at_once=True))
            except GatewayError:
                if self._untold.get(about) is untold:
                    self._untold.move_to_end(about)
                return
            if self._untold.get(about) is untold:
                del self._untold[about]

    async def _tell_or_keep(
        self, room: str, events: Sequence[Mapping[str, Any]], *, at_once: bool, sale_no: int | None = None
    ) -> None:
        room_no = self._read_room(room)
        if room_no is None or not events:
            return
        about = {
            (room_no, event["k"], event.get("sale"), event.get("sku"), event.get("coupon")): event for event in events
        }
        for each in about:
            self._untold.pop(each, None)
        if await self._is_told(room_no, events, at_once=at_once):
            return
        until_s = self._clock.monotonic() + KEEP_S
        self._untold.update({each: _Untold(room_no, event, sale_no, until_s) for each, event in about.items()})
        while len(self._untold) > KEPT_MAX:
            self._untold.popitem(last=False)

    async def _is_told(self, room_no: int, events: Sequence[Mapping[str, Any]], *, at_once: bool) -> bool:
        try:
            await self._change(room_no, RoomChange(events=[dict(event) for event in events], at_once=at_once))
        except GatewayError as error:
            log.warning("room_not_told", room_no=room_no, error=str(error))
            return False
        return True

    async def _change(self, room_no: int, change: RoomChange) -> None:
        is_there = await self._hot.change(room_no, change)
        if not is_there and change.events:
            # Its viewers may not have found out yet that Valkey lost it.
            try:
                await self._open_room(room_no)
            except LedgerUnavailable as error:
                raise HotUnavailable("the room is not in Valkey and cannot be made") from error
            is_there = await self._hot.change(room_no, change)
            if not is_there:
                raise HotUnavailable("the room was lost again")
        if is_there and (change.events or change.at_once):
            self._calls.cut(room_no, at_once=change.at_once)

    async def _by_now(self, untold: _Untold) -> dict[str, Any]:
        """Another process may have told of a later act meanwhile, so a sale is read anew."""
        sale = None if untold.sale_no is None else await self._find(untold.sale_no)
        if sale is None:
            return dict(untold.event)
        if untold.event["k"] == "sale":
            return sale_event(sale, sale.state_at(self._clock.now_ms()))
        now_ms = self._clock.now_ms()
        prices = {item.sku: item.price_at(now_ms) for item in sale.items}
        return {**untold.event, "price_minor": prices[untold.event["sku"]]}


def price_events(sale: Sale, prices: Sequence[tuple[str, int]]) -> list[dict[str, Any]]:
    return [{"k": "price", "sale": sale.sale, "sku": sku, "price_minor": price} for sku, price in prices]


def sale_event(sale: Sale, state: SaleState) -> dict[str, Any]:
    return {
        "k": "sale",
        "sale": sale.sale,
        "state": str(state),
        "opens_at_ms": sale.opens_at_ms,
        "closes_at_ms": sale.closes_at_ms,
    }
