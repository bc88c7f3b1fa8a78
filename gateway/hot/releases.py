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
    sale_no: int
    item_no: int
    viewer: str
    key: str
    epoch: int
    seq: int
    quantity: int
    kind: str


class HotReleases:
    def __init__(self, *, shard: HotShard, scripts: Scripts) -> None:
        self._shard = shard
        self._release = scripts.named("release_orders")

    async def apply(self, rows: Sequence[Release]) -> int:
        """Applies `rows` (by number, without a gap); answers the number up to which rows may be deleted."""
        keys = self._shard.keys
        names = [keys.shard]
        places: dict[int, int] = {}
        for row in rows:
            if row.sale_no not in places:
                places[row.sale_no] = len(names) + 1
                names += [keys.sale(row.sale_no), keys.answers(row.sale_no), keys.units(row.sale_no)]
        packed = _pack(
            [
                (
                    row.no,
                    places[row.sale_no],
                    row.item_no,
                    row.viewer,
                    row.key,
                    row.epoch,
                    row.seq,
                    row.quantity,
                    row.kind,
                )
                for row in rows
            ]
        )
        points.reach("release.script.before")
        word, released = await self._release(names, [self._shard.epoch, packed])
        points.reach("release.script.after")
        if word == b"released":
            return int(released)
        raise ShardClosed(f"shard {self._shard.shard}: release answered {word.decode()} at {released}")
