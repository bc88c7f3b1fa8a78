"""What processes tell each other over pub/sub: at most once, so each message is only ever a shortcut to the truth."""

from collections.abc import Iterable

import msgspec
from msgspec import Struct


class LaterState(Struct, array_like=True, gc=False):
    """An order of `viewer` took a later state."""

    viewer: str
    order: str
    status: str
    pay_by_ms: int = 0
    reason: str = ""


class LaterClaim(Struct, array_like=True, gc=False):
    """A claim of `viewer` took a later state."""

    viewer: str
    claim: str
    state: str
    reason: str = ""


class ShopOrders(Struct, array_like=True, gc=False):
    """What of one shop has a later state."""

    shop: str
    orders: list[LaterState]
    claims: list[LaterClaim] = []


class Applied(Struct, tag="applied", array_like=True, gc=False):
    """The ledger of `shard` stands at `seq` of `epoch`; `shops` are the orders with a new state, packed: a process
    where nobody waits for any does not read them."""

    shard: int
    epoch: int
    seq: int
    shops: msgspec.Raw


class LaterStates(Struct, tag="later", array_like=True, gc=False):
    """Orders took a later state without the stream: paid, cancelled, expired, refunded. `shops` is packed as in
    `Applied`."""

    shops: msgspec.Raw


class SaleChanged(Struct, tag="sale", array_like=True, gc=False):
    sale_no: int


class CouponChanged(Struct, tag="coupon", array_like=True, gc=False):
    coupon_no: int


class RoomChanged(Struct, tag="room", array_like=True, gc=False):
    room: str


class ShopChanged(Struct, tag="shop", array_like=True, gc=False):
    shop: str


Message = Applied | LaterStates | SaleChanged | CouponChanged | RoomChanged | ShopChanged

encode_shops = msgspec.msgpack.Encoder().encode
decode_shops = msgspec.msgpack.Decoder(list[ShopOrders]).decode
encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Message).decode


def encode_later(states: Iterable[tuple[str, LaterState | LaterClaim]]) -> bytes:
    """`LaterStates` of (shop, state), in their order."""
    shops: dict[str, ShopOrders] = {}
    for shop, state in states:
        group = shops.setdefault(shop, ShopOrders(shop, []))
        if isinstance(state, LaterClaim):
            group.claims.append(state)
        else:
            group.orders.append(state)
    return encode(LaterStates(msgspec.Raw(encode_shops(list(shops.values())))))
