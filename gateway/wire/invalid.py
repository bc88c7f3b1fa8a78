"""What is wrong with a message, in the words of the contract: `invalid`, with the place of the value as `param`."""

import re
from typing import Final

from gateway.errors import Invalid

_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_MISSING: Final = re.compile(r"^Object missing required field `([^`]+)`")


def invalid(message: str) -> Invalid:
    """Of msgspec's own words; the place is such as `items[3].price_minor`."""
    place = _PLACE.match(message)
    what, path = (message, "") if place is None else (place["what"], place["path"] or "")
    param = path.removeprefix("$").removeprefix(".")
    missing = _MISSING.match(what)
    if missing is not None:
        param = f"{param}.{missing[1]}" if param else missing[1]
        what = "This field is required"
    elif what.startswith("Object contains unknown field"):
        unknown = what.split("`")[1]
        param = f"{param}.{unknown}" if param else unknown
        what = "This field cannot be changed"
    elif what.startswith("Expected `null`"):
        what = "This field is not taken here"
    return Invalid(f"{what}.", param=param or None)
