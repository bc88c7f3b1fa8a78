"""The code a paid order is handed over for: what it looks like, and what people make of it at a counter."""

import re
from typing import Final

from msgspec import Struct

MAX_PLACE_CHARS: Final = 64  # such as a shop's name and street
PLACE_PATTERN: Final = r"^[^\x00-\x1f\x7f]*(?![\s\S])"

# Crockford's base32: what is easily taken for something else (I, L, O) is none of it, nor is U.
_CODE: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{10}")
_MISREAD: Final = str.maketrans("OIL", "011", "- \t")
# A code and all that may stand between its characters.
_LONGEST: Final = 40


class Pickup(Struct, frozen=True, gc=False):
    """Of an order that was paid."""

    code: str
    """Ten characters, as it is kept."""
    redeemed_at_ms: int | None = None
    redeemed_by: str | None = None


def shown_code(code: str) -> str:
    """In two groups of five."""
    return f"{code[:5]}-{code[5:]}"


def read_code(text: str) -> str | None:
    """The code somebody meant, or None. Case, dashes and spaces say nothing; O is 0, I and L are 1."""
    if len(text) > _LONGEST or not text.isascii():
        return None
    code = text.upper().translate(_MISREAD)
    return code if _CODE.fullmatch(code) else None
