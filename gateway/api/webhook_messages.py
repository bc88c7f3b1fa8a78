"""What a shop's backend sends about its webhook."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.domain.webhook import EventType


class NewWebhook(Struct, kw_only=True):
    url: Annotated[str, Meta(min_length=1, max_length=2000)]
    """With https://; http:// only to this machine, in development."""
    events: Annotated[list[EventType], Meta(max_length=len(EventType))]
    """What the shop wants to hear; nothing: it is told nothing more."""
