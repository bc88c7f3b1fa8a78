"""A sample event, sent to a shop's endpoint at once and outside the queue: does it answer, and does it verify?"""

import ssl
import uuid
from typing import Any, Final, NamedTuple

from gateway.clock import Clock, SystemClock
from gateway.domain.webhook import Endpoint, EventType
from gateway.webhooks.events import event_body
from gateway.webhooks.post import poster
from gateway.wire.objects import instant

PING: Final = "ping"
"""A type that is no event: who gets it answers 2xx and does nothing."""


class PingResult(NamedTuple):
    ok: bool
    status: int | None
    error: str
    """Empty when it is ok."""
    took_s: float
    answer: str
    msg_id: str


async def ping(
    endpoint: Endpoint,
    *,
    private: bool,
    dev: bool,
    kind: str = PING,
    clock: Clock | None = None,
    certificates: ssl.SSLContext | None = None,
) -> PingResult:
    """Sends a signed event and tells how it went; never raises for what the endpoint does. It is sent once."""
    clock = clock or SystemClock()
    # An id of its own: a receiver that remembers ids would take a second trial for a repeat.
    msg_id = f"msg_sample_{uuid.uuid4().hex[:16]}"
    body = event_body(kind, sample(kind, now_ms=clock.now_ms()), at_ms=clock.now_ms())
    async with poster(clock=clock, private=private, dev=dev, certificates=certificates) as post:
        sent = await post.post(endpoint, msg_id=msg_id, body=body)
    return PingResult(not sent.error, sent.status, sent.error, sent.took_s, sent.answer, msg_id)


def sample(kind: str, *, now_ms: int) -> dict[str, Any]:
    """What an event of a type carries, of things that are not there: their ids are none of any installation."""
    at, later = instant(now_ms), instant(now_ms + 300_000)
    about, _, what = kind.partition(".")
    match about:
        case "order":
            order = {
                "order": "ord_sample",
                "sale": "sale_sample",
                "sku": "sample",
                "quantity": 1,
                "price_minor": 1900,
                "discount_minor": 0,
                "amount_minor": 1900,
                "currency": "CNY",
                "status": what,
                "created_at": at,
                "sub": "sample",
            }
            return {**order, "reason": "ledger"} if kind == EventType.ORDER_REFUSED else {**order, "pay_by": later}
        case "sale":
            return {
                "sale": "sale_sample",
                "title": "Sample",
                "state": "open" if what == "opened" else "closed",
                "currency": "CNY",
                "opens_at": at,
                "closes_at": later,
                "pay_within_s": 300,
                "stock_display": "exact",
                "created_at": at,
                "items": [],
            }
        case "room":
            state = "live" if what == "started" else "ended"
            return {"room": "room_sample", "title": "Sample", "state": state, "created_at": at, "live_url": ""}
        case "booking":
            return {"room": "room_sample", "sub": "sample", "booked_at": at}
        case _:
            return {}
