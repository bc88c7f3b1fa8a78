"""Public ids: opaque strings with a prefix that sort by time.

An id is `prefix_` and the base64 of big-endian fields with an alphabet in ASCII order, so that ids sort as their
bytes do (in PostgreSQL under `COLLATE "C"`). The last two bytes are a keyed check: an id that carries it was made by
this installation, so that asking for an order that Valkey lost can be told apart from asking for one that never was.

  order  time ms 6 | sale number 4 | epoch 2 | sequence number 4 | check 2   -> 24 characters
  sale   time ms 6 | sale number 4 | check 2                                -> 16 characters
  room   time ms 6 | room number 4 | check 2                                -> 16 characters
  coupon time ms 6 | coupon number 4 | check 2                              -> 16 characters
  claim  time ms 6 | coupon number 4 | epoch 2 | sequence number 4 | check 2  -> 24 characters
  comment  time ms 6 | room number 4 | room epoch 2 | number 4 | check 2    -> 24 characters

An order id says where in the shard's stream its order stands, so it can be found there before the ledger has it; so
does the id of a claim.
"""

from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple, NewType

RoomId = NewType("RoomId", str)
SaleId = NewType("SaleId", str)
OrderId = NewType("OrderId", str)
CouponId = NewType("CouponId", str)
ClaimId = NewType("ClaimId", str)
Sku = NewType("Sku", str)
# A viewer is the `sub` of a token: opaque, unique in its shop only.
Viewer = NewType("Viewer", str)

_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SORTED = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~"
_TO_SORTED = bytes.maketrans(_STANDARD, _SORTED)
_TO_STANDARD = bytes.maketrans(_SORTED, _STANDARD)

_ORDER = Struct(">HIIHI")  # the upper 16 and lower 32 bits of the time, then the fields
_NUMBERED = Struct(">HII")
_CHECK_BYTES = 2
_ORDER_CHARACTERS = 24
_NUMBERED_CHARACTERS = 16


class OrderPlace(NamedTuple):
    """What an order id says: when, in which sale, and where in the stream of the sale's shard."""

    at_ms: int
    sale_no: int
    epoch: int
    seq: int


class ClaimPlace(NamedTuple):
    """What a claim id says: when, of which coupon, and where in the stream of its shard."""

    at_ms: int
    coupon_no: int
    epoch: int
    seq: int


class CommentPlace(NamedTuple):
    """What a comment id says; of the room's epoch only the last 16 bits, which tell neighbours apart."""

    at_ms: int
    room_no: int
    epoch: int
    n: int


def sortable(raw: bytes) -> str:
    """Whole groups of three bytes as text that sorts as they do."""
    return b2a_base64(raw, newline=False).translate(_TO_SORTED).decode("ascii")


def read_sortable(text: str) -> bytes | None:
    """What `sortable` made of it, or None when that is none of its text."""
    try:
        encoded = text.encode("ascii")
        if encoded.translate(None, delete=_SORTED):
            return None
        return a2b_base64(encoded.translate(_TO_STANDARD))
    except (UnicodeEncodeError, BinasciiError):
        return None


def order_floor(at_ms: int) -> str:
    """What is not above any order id of that moment or later, and above all of the time before."""
    return "ord_" + sortable(at_ms.to_bytes(6, "big"))


class IdMint:
    """Makes ids and reads them back; all processes of an installation share the key."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key[:64]

    def _seal(self, body: bytes) -> str:
        check = blake2b(body, digest_size=_CHECK_BYTES, key=self._key).digest()
        return sortable(body + check)

    def _open(self, text: str, prefix: str, characters: int) -> bytes | None:
        if len(text) != len(prefix) + characters or not text.startswith(prefix):
            return None
        raw = read_sortable(text[len(prefix) :])
        if raw is None:
            return None
        body = raw[:-_CHECK_BYTES]
        if blake2b(body, digest_size=_CHECK_BYTES, key=self._key).digest() != raw[-_CHECK_BYTES:]:
            return None
        return body

    def order(self, at_ms: int, sale_no: int, epoch: int, seq: int) -> OrderId:
        return OrderId("ord_" + self._seal(_ORDER.pack(at_ms >> 32, at_ms & 0xFFFFFFFF, sale_no, epoch, seq)))

    def read_order(self, order_id: str) -> OrderPlace | None:
        """The place an order id names, or None when the id is not one of ours."""
        body = self._open(order_id, "ord_", _ORDER_CHARACTERS)
        if body is None:
            return None
        high, low, sale_no, epoch, seq = _ORDER.unpack(body)
        return OrderPlace((high << 32) | low, sale_no, epoch, seq)

    def sale(self, at_ms: int, sale_no: int) -> SaleId:
        return SaleId("sale_" + self._seal(_NUMBERED.pack(at_ms >> 32, at_ms & 0xFFFFFFFF, sale_no)))

    def read_sale(self, sale_id: str) -> int | None:
        """The sale's number, or None when the id is not one of ours."""
        return self._number(sale_id, "sale_")

    def room(self, at_ms: int, room_no: int) -> RoomId:
        return RoomId("room_" + self._seal(_NUMBERED.pack(at_ms >> 32, at_ms & 0xFFFFFFFF, room_no)))

    def read_room(self, room_id: str) -> int | None:
        """The room's number, or None when the id is not one of ours."""
        return self._number(room_id, "room_")

    def coupon(self, at_ms: int, coupon_no: int) -> CouponId:
        return CouponId("cpn_" + self._seal(_NUMBERED.pack(at_ms >> 32, at_ms & 0xFFFFFFFF, coupon_no)))

    def read_coupon(self, coupon_id: str) -> int | None:
        """The coupon's number, or None when the id is not one of ours."""
        return self._number(coupon_id, "cpn_")

    def claim(self, at_ms: int, coupon_no: int, epoch: int, seq: int) -> ClaimId:
        return ClaimId("clm_" + self._seal(_ORDER.pack(at_ms >> 32, at_ms & 0xFFFFFFFF, coupon_no, epoch, seq)))

    def read_claim(self, claim_id: str) -> ClaimPlace | None:
        """The place a claim id names, or None when the id is not one of ours."""
        body = self._open(claim_id, "clm_", _ORDER_CHARACTERS)
        if body is None:
            return None
        high, low, coupon_no, epoch, seq = _ORDER.unpack(body)
        return ClaimPlace((high << 32) | low, coupon_no, epoch, seq)

    def comment(self, at_ms: int, room_no: int, epoch: int, n: int) -> str:
        return "cmt_" + self._seal(_ORDER.pack(at_ms >> 32, at_ms & 0xFFFFFFFF, room_no, epoch & 0xFFFF, n))

    def read_comment(self, comment_id: str) -> CommentPlace | None:
        """The place a comment id names, or None when the id is not one of ours."""
        body = self._open(comment_id, "cmt_", _ORDER_CHARACTERS)
        if body is None:
            return None
        high, low, room_no, epoch, n = _ORDER.unpack(body)
        return CommentPlace((high << 32) | low, room_no, epoch, n)

    def _number(self, text: str, prefix: str) -> int | None:
        body = self._open(text, prefix, _NUMBERED_CHARACTERS)
        if body is None:
            return None
        number: int = _NUMBERED.unpack(body)[2]
        return number
