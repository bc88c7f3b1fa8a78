"""What an event says: its type, when it happened, and the object as HTTP shows it to the shop."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from gateway.domain.order import Order, OrderStatus
from gateway.domain.room import Room, RoomState
from gateway.domain.sale import ItemCounts, Sale, SaleState
from gateway.domain.webhook import MAX_EVENT_BYTES, EventType
from gateway.wire.objects import instant, order_reply, room_reply, sale_object

_ROOM_STATES: Final = {EventType.ROOM_STARTED: RoomState.LIVE, EventType.ROOM_ENDED: RoomState.ENDED}
_SALE_STATES: Final = {EventType.SALE_OPENED: SaleState.OPEN, EventType.SALE_CLOSED: SaleState.CLOSED}


class _Event(Struct):
    type: str
    timestamp: str
    data: Any


def event_body(kind: str, data: Any, *, at_ms: int) -> str:
    return msgspec.json.encode(_Event(kind, instant(at_ms), data)).decode()


def order_event(order: Order, sale: Sale, *, status: OrderStatus, at_ms: int) -> str:
    """The order in the status that the event tells of, whatever it is by now."""
    told = msgspec.structs.replace(order, status=status)
    return event_body(f"order.{status}", order_reply(told, sale, to_staff=True), at_ms=at_ms)


def room_event(kind: EventType, room: Room, *, live_url: str, at_ms: int) -> str:
    told = msgspec.structs.replace(room, state=_ROOM_STATES[kind])
    return event_body(kind, room_reply(told, live_url=live_url), at_ms=at_ms)


def sale_event(
    kind: EventType,
    sale: Sale,
    *,
    counts: Mapping[int, ItemCounts] | None,
    ledger: Mapping[int, tuple[int, int, int]] | None,
    at_ms: int,
) -> str:
    """Without its items where it would be too long with them."""
    told = sale_object(sale, _SALE_STATES[kind], to_staff=True, counts=counts, ledger=ledger)
    body = event_body(kind, told, at_ms=at_ms)
    if len(body.encode()) > MAX_EVENT_BYTES:
        told.items_left_out, told.items = len(told.items), []
        body = event_body(kind, told, at_ms=at_ms)
    return body
