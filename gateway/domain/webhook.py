"""A shop's outgoing webhook: what it may hear of, and how an event is on its way."""

from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

import msgspec

# What an event says of itself at most, so that any receiver can take it whole.
MAX_EVENT_BYTES = 20_480
# A delivery is given up this long after its first attempt.
RETRY_FOR_S = 24 * 3600.0
# How long what was signed with the secret before is valid as well.
OVERLAP_S = 24 * 3600.0


class EventType(StrEnum):
    ORDER_CONFIRMED = "order.confirmed"
    ORDER_PAID = "order.paid"
    ORDER_EXPIRED = "order.expired"
    ORDER_CANCELLED = "order.cancelled"
    ORDER_REFUSED = "order.refused"
    ORDER_REFUND_DUE = "order.refund_due"
    ORDER_REFUNDED = "order.refunded"
    ROOM_STARTED = "room.started"
    ROOM_ENDED = "room.ended"
    BOOKING_DUE = "booking.due"
    SALE_OPENED = "sale.opened"
    SALE_CLOSED = "sale.closed"


class Endpoint(NamedTuple):
    """Where a shop's events go, and with what they are signed: the newest secret first."""

    shop_no: int
    shop: str
    url: str
    secrets: tuple[str, ...]


class Webhook(msgspec.Struct, frozen=True, kw_only=True):
    """A shop's endpoint as it stands."""

    url: str
    events: tuple[str, ...]
    created_at_ms: int
    rotating_until_ms: int | None
    """Until then the secret before is signed with as well."""
    last_success_at_ms: int | None
    last_failure_at_ms: int | None
    last_error: str | None
    failures: int
    """Attempts that failed since the last one that did not."""
    waiting: int
    dead: int


class Due(NamedTuple):
    """An event that is to be sent now."""

    delivery_no: int
    msg_id: str
    type: str
    object: str
    body: str
    attempts: int


class Failure(NamedTuple):
    """An attempt that failed, and in how many seconds the next one may be made."""

    delivery_no: int
    attempts: int
    status: int | None
    error: str
    again_in_s: float


class DeadLetter(NamedTuple):
    """An event that was given up."""

    delivery_no: int
    shop: str
    msg_id: str
    type: str
    object: str
    body: str
    attempts: int
    queued_at: datetime
    last_at: datetime | None
    last_status: int | None
    last_error: str | None


class Event(NamedTuple):
    """Something to be told of: `nonce` tells events of one type and object apart, where there are several."""

    shop_no: int
    type: str
    object: str
    body: str
    nonce: str = ""


class NewsRow(NamedTuple):
    """Orders of a sale that were given one status, and whether their shop wants to hear of it."""

    no: int
    shop_no: int
    sale_no: int
    status: str
    at_ms: int
    wanted: bool


class NewsBatch(NamedTuple):
    """News of a shard behind one number and up to another."""

    after: int
    up_to: int
    rows: tuple[NewsRow, ...]


class ObjectNews(NamedTuple):
    """What befell a room or a sale."""

    no: int
    shop_no: int
    type: EventType
    object_no: int
    at_ms: int
    wanted: bool
