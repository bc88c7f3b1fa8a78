"""What a shop sends about the people around its orders: bodies as in messages.py."""

from typing import Annotated

from msgspec import Meta, Struct

from gateway.domain.links import MAX_PERSON_CHARS, SOURCE_PATTERN
from gateway.domain.pickup import PLACE_PATTERN

Source = Annotated[str, Meta(pattern=SOURCE_PATTERN)]
# Ids of the shop's own, such as the `sub` of a viewer; nothing is made of them but their equality.
Person = Annotated[str, Meta(min_length=1, max_length=MAX_PERSON_CHARS, pattern=PLACE_PATTERN)]


class NewLink(Struct, kw_only=True):
    source: Source
    referrer: Person | None = None
    guide: Person | None = None
