"""The binding of `lua/release_orders.lua`: rows of the ledger's outbox, applied to Valkey exactly once by their
number."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from gateway import points
from gateway.errors import ShardClosed
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard

_pack = msgspec.msgpack.Encoder().encode


class Release(NamedTuple):
    no: int
    sale_no: int | None
    """None where the row is of a claim alone."""
    item_no: int
    viewer: str
    key: str
    epoch: int
    seq: int
    quantity: int
    kind: str
    coupon_no: int | None = None
    """Of the claim that the row names, with its place; None: it names none."""
    claim_epoch: int | None = None
    claim_seq: int | None = None


class HotReleases:
    def __init__(self, *, shard: HotShard, scripts: Scripts) -> None:
        self._shard = shard
        self._release = scripts.named("release_orders")

    async def apply(self, rows: Sequence[Release]) -> int:
        """Applies `rows` (by number, without a gap); answers the number up to which rows may be deleted."""
        keys = self._shard.keys
        names = [keys.shard]
        sales: dict[int, int] = {}
        coupons: dict[int, int] = {}
        packed: list[tuple[str | int, ...]] = []
        for row in rows:
            if row.sale_no is not None and row.sale_no not in sales:
                sales[row.sale_no] = len(names) + 1
                names += [keys.sale(row.sale_no), keys.answers(row.sale_no), keys.units(row.sale_no)]
            place = 0 if row.sale_no is None else sales[row.sale_no]
            told = (
                row.no,
                place,
                row.item_no or 0,
                row.viewer,
                row.key,
                row.epoch,
                row.seq,
                row.quantity or 0,
                row.kind,
            )
            if row.coupon_no is None:
                packed.append(told)
                continue
            if row.coupon_no not in coupons:
                coupons[row.coupon_no] = len(names) + 1
                names += [
                    keys.coupon(row.coupon_no),
                    keys.coupon_answers(row.coupon_no),
                    keys.coupon_viewers(row.coupon_no),
                    keys.coupon_claims(row.coupon_no),
                ]
            packed.append((*told, coupons[row.coupon_no], f"{row.claim_epoch}|{row.claim_seq}"))
        points.reach("release.script.before")
        word, released = await self._release(names, [self._shard.epoch, _pack(packed)])
        points.reach("release.script.after")
        if word == b"released":
            return int(released)
        raise ShardClosed(f"shard {self._shard.shard}: release answered {word.decode()} at {released}")
