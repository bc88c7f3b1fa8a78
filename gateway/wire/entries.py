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


Entry = OrdersEntry | ActEntry | LateEntry

decode = msgspec.msgpack.Decoder(Entry).decode
