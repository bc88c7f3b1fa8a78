"""The entries of a shard's stream, as the scripts write them with cmsgpack and the writer reads them.

Strings of a script arrive as MessagePack strings; integers stay under 2^53. One entry carries a whole group of orders.
"""

import msgspec
from msgspec import Struct


class EntryOrder(Struct, array_like=True, gc=False):
    viewer: str
    key: str
    fingerprint: str
    item_no: int
    quantity: int
    price_minor: int
    extra: str
    discount_minor: int = 0
    coupon_no: int = 0
    claim: str = ""
    """The claim that it redeems, `epoch|seq`."""

    @property
    def claim_place(self) -> tuple[int, int]:
        """(epoch, sequence number) of the claim; of what names none a place where no claim ever stands."""
        epoch, _, seq = self.claim.partition("|")
        return (int(epoch), int(seq)) if epoch.isdecimal() and seq.isdecimal() else (0, 0)


class OrdersEntry(Struct, tag="orders", array_like=True, gc=False):
    """Orders `first` to `first + len(orders) - 1` of one sale, decided at `at_ms`."""

    sale_no: int
    at_ms: int
    first: int
    orders: list[EntryOrder]

    @property
    def last(self) -> int:
        return self.first + len(self.orders) - 1


class ActEntry(Struct, tag="act", array_like=True, gc=False):
    sale_no: int
    at_ms: int
    seq: int
    act: str
    item_no: int
    value: int
    actor: str
    kind: str
    key: str
    fingerprint: str
    reason: str = ""
    text: str = ""
    """Of a plan its steps, `from ms:price;from ms:price`; of a window when it closes."""

    @property
    def first(self) -> int:
        return self.seq

    @property
    def last(self) -> int:
        return self.seq


class LateEntry(Struct, tag="late", array_like=True, gc=False):
    """Units were taken for an expired order whose money came late."""

    sale_no: int
    at_ms: int
    seq: int
    payment_no: int
    item_no: int
    viewer: str
    quantity: int
    order_id: str

    @property
    def first(self) -> int:
        return self.seq

    @property
    def last(self) -> int:
        return self.seq


class EntryClaim(Struct, array_like=True, gc=False):
    viewer: str
    key: str
    value_minor: int


class ClaimsEntry(Struct, tag="claims", array_like=True, gc=False):
    """Claims `first` to `first + len(claims) - 1` of one coupon, decided at `at_ms`."""

    coupon_no: int
    at_ms: int
    first: int
    claims: list[EntryClaim]

    @property
    def last(self) -> int:
        return self.first + len(self.claims) - 1


class CouponActEntry(Struct, tag="coupon_act", array_like=True, gc=False):
    """A drop opened a coupon, at `at_ms` until `claim_until_ms`, in a room (0: in none)."""

    coupon_no: int
    at_ms: int
    seq: int
    act: str
    room_no: int
    claim_until_ms: int
    actor: str
    kind: str
    key: str
    fingerprint: str

    @property
    def first(self) -> int:
        return self.seq

    @property
    def last(self) -> int:
        return self.seq


Entry = OrdersEntry | ActEntry | LateEntry | ClaimsEntry | CouponActEntry

decode = msgspec.msgpack.Decoder(Entry).decode
