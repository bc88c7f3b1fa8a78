"""A link's reference: who brought the viewer, sealed so that nobody but this gateway can say it.

  ref_  time ms 6 | link number 4 | check 8   -> 24 characters, in the alphabet of the other ids

The check is keyed and taken over the shop's name as well: a reference of another shop is as forged as one that somebody
made up, and no look-up is needed to tell. An id's two bytes only keep typing errors from the ledger; these eight keep
out whoever tries, since money may follow from what a reference says. With its time in it a reference stays the only one
of its kind also where an older ledger was restored, which numbers its links anew.
"""

from hashlib import blake2b
from hmac import compare_digest
from typing import Final, NamedTuple

from msgspec import Struct

from gateway.domain.ids import read_sortable, sortable

SOURCE_PATTERN: Final = r"^[a-z0-9_-]{1,32}(?![\s\S])"
MAX_PERSON_CHARS: Final = 64  # of a referrer or a guide, as of any `sub`

_PREFIX: Final = "ref_"
_TIME_BYTES, _NUMBER_BYTES, _CHECK_BYTES = 6, 4, 8
_BODY_BYTES: Final = _TIME_BYTES + _NUMBER_BYTES
_CHARACTERS: Final = (_BODY_BYTES + _CHECK_BYTES) // 3 * 4
# Under the same key as the ids, whose checks must never be good for a reference.
_PURPOSE: Final = b"link"


class Link(Struct, frozen=True, gc=False):
    """What a link says. Referrer and guide are ids of the shop's own, opaque to us."""

    ref: str
    source: str
    referrer: str | None = None
    guide: str | None = None

    def referrer_of(self, viewer: str) -> str | None:
        """Whom an order of this viewer is credited to: nobody refers themselves."""
        return None if self.referrer == viewer else self.referrer


class LinkDraft(NamedTuple):
    room_no: int
    source: str
    referrer: str | None
    guide: str | None


class LinkSeal:
    """Makes references and reads them back; all processes of an installation share the key."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key[:64]

    def ref(self, shop: str, at_ms: int, link_no: int) -> str:
        body = at_ms.to_bytes(_TIME_BYTES) + link_no.to_bytes(_NUMBER_BYTES)
        return _PREFIX + sortable(body + self._check(shop, body))

    def is_of(self, shop: str, ref: str) -> bool:
        """Whether it is a reference that this gateway gave to this shop."""
        if len(ref) != len(_PREFIX) + _CHARACTERS or not ref.startswith(_PREFIX):
            return False
        raw = read_sortable(ref[len(_PREFIX) :])
        return raw is not None and compare_digest(self._check(shop, raw[:_BODY_BYTES]), raw[_BODY_BYTES:])

    def _check(self, shop: str, body: bytes) -> bytes:
        return blake2b(body + shop.encode(), digest_size=_CHECK_BYTES, key=self._key, person=_PURPOSE).digest()
