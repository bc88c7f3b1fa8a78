"""A shop's webhook and its dead events as HTTP shows them."""

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.domain.webhook import DeadLetter, Webhook
from gateway.wire.objects import instant, optional_instant
from gateway.wire.told import Moment


class WebhookReply(Struct, kw_only=True, omit_defaults=True):
    url: str
    events: list[str]
    created_at: Moment
    failures: int
    """Attempts that failed since the last one that did not."""
    waiting: int
    """Events on their way; 100,000: so many or more."""
    dead: int
    """Events that were given up; 100,000: so many or more."""
    secret: str | None = None
    """With what events are signed; shown where it was just made, and never again."""
    rotating_until: Moment | None = None
    """Until then the secret before is signed with as well."""
    last_success_at: Moment | None = None
    last_failure_at: Moment | None = None
    last_error: str | None = None

    # 0 is said, so these have no default to be left out by.


class DeadEventReply(Struct, kw_only=True, omit_defaults=True):
    """An event that was given up, a day after its first attempt."""

    id: str
    """The webhook-id it was and will be sent with."""
    type: str
    event: Any
    """What it says, in full."""
    attempts: int
    queued_at: Moment
    last_at: Moment | None = None
    last_status: int | None = None
    last_error: str | None = None


class ReplayReply(Struct, kw_only=True):
    id: str
    state: Literal["waiting"]


class ReplayedReply(Struct, kw_only=True):
    replayed: int
    """How many events wait now to be sent again, the oldest ones first; ask again while any are left."""


def webhook_reply(webhook: Webhook, *, secret: str | None = None) -> WebhookReply:
    return WebhookReply(
        url=webhook.url,
        events=list(webhook.events),
        created_at=instant(webhook.created_at_ms),
        failures=webhook.failures,
        waiting=webhook.waiting,
        dead=webhook.dead,
        secret=secret,
        rotating_until=optional_instant(webhook.rotating_until_ms),
        last_success_at=optional_instant(webhook.last_success_at_ms),
        last_failure_at=optional_instant(webhook.last_failure_at_ms),
        last_error=webhook.last_error,
    )


def dead_event_reply(letter: DeadLetter) -> DeadEventReply:
    return DeadEventReply(
        id=letter.msg_id,
        type=letter.type,
        event=msgspec.Raw(letter.body.encode()),
        attempts=letter.attempts,
        queued_at=_instant(letter.queued_at),
        last_at=None if letter.last_at is None else _instant(letter.last_at),
        last_status=letter.last_status,
        last_error=letter.last_error,
    )


def _instant(at: datetime) -> str:
    return instant(int(at.timestamp() * 1000))
