"""The bindings of `lua/retire_sale.lua` and `lua/retire_coupon.lua`, and what Valkey remembers of hosts' acts
beyond its need."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

import msgspec

from gateway.hot.connect import Client, hot_errors
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard

_pack = msgspec.msgpack.Encoder().encode
_SCAN_COUNT = 1000


class Retiring(StrEnum):
    """The words of the scripts; that of coupons has no `settled` and no `busy`."""

    SETTLED = "settled"
    DROPPED = "dropped"
    GONE = "gone"
    BUSY = "busy"
    RUNNING = "running"
    EPOCH = "epoch"


class HotRetirement:
    def __init__(self, *, shard: HotShard, client: Client, scripts: Scripts) -> None:
        self._shard = shard
        self._client = client
        self._retire = scripts.named("retire_sale")
        self._retire_coupon = scripts.named("retire_coupon")

    async def look(self, sale_no: int, sold: Sequence[tuple[int, int]]) -> Retiring:
        """Whether the sale may leave Valkey; `sold` are the ledger's units of every item."""
        return await self._call(sale_no, "look", sold)

    async def drop(self, sale_no: int, sold: Sequence[tuple[int, int]]) -> Retiring:
        """Forgets the sale if it may; a repeat finds it gone."""
        return await self._call(sale_no, "drop", sold)

    async def drop_coupon(self, coupon_no: int) -> Retiring:
        """Forgets the coupon if it is over by Valkey's time (`dropped`, else `running`); a repeat finds it gone."""
        keys = self._shard.keys
        names = [keys.coupon_answers(coupon_no), keys.coupon_viewers(coupon_no), keys.coupon_claims(coupon_no)]
        word = await self._retire_coupon([keys.shard, keys.coupon(coupon_no), *names], [self._shard.epoch])
        return Retiring(word.decode())

    async def forget_acts(self, *, up_to: tuple[int, int]) -> int:
        """Forgets the keys of acts up to a place (epoch, sequence number) that the ledger remembers them from; how many
        those were."""
        forgotten, cursor = 0, 0
        while True:
            with hot_errors():
                reply: Any = await self._client.hscan(self._shard.keys.acts, cursor, count=_SCAN_COUNT)
                cursor, found = int(reply[0]), reply[1]
                old = [field for field, value in found.items() if _place(value) <= up_to]
                if old:
                    forgotten += await self._client.hdel(self._shard.keys.acts, *old)
            if cursor == 0:
                return forgotten

    async def _call(self, sale_no: int, what: str, sold: Sequence[tuple[int, int]]) -> Retiring:
        keys = self._shard.keys
        word = await self._retire(
            [keys.shard, keys.sale(sale_no), keys.answers(sale_no), keys.units(sale_no), keys.late(sale_no)],
            [self._shard.epoch, what, _pack(sold)],
        )
        return Retiring(word.decode())


def _place(value: bytes) -> tuple[int, int]:
    """Of `fingerprint|epoch|seq`."""
    _, epoch, seq = value.rsplit(b"|", 2)
    return int(epoch), int(seq)
