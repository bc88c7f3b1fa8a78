"""What hosts send about a live room: bodies as in messages.py, and the names that stand in addresses."""

import re
import unicodedata
from typing import Annotated, Final, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.api.messages import Title
from gateway.domain.live import MAX_SLOW_MODE_S
from gateway.domain.words import can_match
from gateway.errors import Invalid, NotFound
from gateway.wire.frames import Identifier

MAX_MUTE_S: Final = 30 * 86_400
MAX_WORD_LENGTH: Final = 50

_VIEWER: Final = re.compile(r"vw_[0-9a-f]{18}")


class NewAnnouncement(Struct, kw_only=True):
    text: Title

    def said(self) -> str:
        return _shown(self.text, param="text")


class PinnedItem(NamedTuple):
    sale: str
    sku: str


class NewPin(Struct, kw_only=True):
    """An item of a sale, or a comment."""

    sale: Identifier | None = None
    sku: Identifier | None = None
    comment: Identifier | None = None

    def what(self) -> PinnedItem | str:
        """The item, or the comment's id."""
        if self.comment is not None:
            if self.sale is not None or self.sku is not None:
                raise Invalid("A pin is an item or a comment, not both.", param="comment")
            return self.comment
        if self.sale is None:
            raise Invalid("A pin is an item (sale and sku) or a comment.", param="sale")
        if self.sku is None:
            raise Invalid("This field is required.", param="sku")
        return PinnedItem(self.sale, self.sku)


class NewMute(Struct, kw_only=True):
    for_s: Annotated[int, Meta(ge=1, le=MAX_MUTE_S)]


class NewBan(Struct, kw_only=True):
    """Of a viewer, or of a word."""

    shop_wide: bool = False


class ChangedChat(Struct, kw_only=True):
    """What is left out stays."""

    slow_mode_s: Annotated[int, Meta(ge=0, le=MAX_SLOW_MODE_S)] | UnsetType = UNSET
    comments: Literal["on", "off"] | UnsetType = UNSET


def viewer_of(name: str) -> str:
    """The pseudonym of a viewer; any of its form may have been in the room."""
    if _VIEWER.fullmatch(name) is None:
        raise NotFound("There is no such viewer in this room.")
    return name


def word_of(text: str) -> str:
    """A word as it is kept and listed."""
    word = _shown(text, param="word")
    if len(word) > MAX_WORD_LENGTH:
        raise Invalid(f"A word has 1 to {MAX_WORD_LENGTH} characters.", param="word")
    if not can_match(word):
        raise Invalid("There is nothing to be seen of this word.", param="word")
    return word


def _shown(text: str, *, param: str) -> str:
    shown = unicodedata.normalize("NFC", text).strip()
    if not shown or any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in shown):
        raise Invalid("This is text of one line.", param=param)
    return shown
