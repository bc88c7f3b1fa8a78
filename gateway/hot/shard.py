"""One shard of the orders Valkey as this process knows it: its epoch, the highest sequence number seen, its clock."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from gateway.domain.invariant import HotMoment
from gateway.domain.sale import ItemCounts, Sale, plan_text
from gateway.errors import HotUnavailable, ShardClosed
from gateway.hot.connect import Client, hot_errors
from gateway.hot.keys import ShardKeys
from gateway.hot.scripts import Scripts

_COUNTED = ("stock", "left", "held")
_pack = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class ServerClock:
    """Valkey's time by this process's monotonic clock.

    Each reply that carries the server's time tightens the estimate: the time was read after the send, so `time -
    send` is at or above the true offset; it is kept until a smaller one or a newer one than ten seconds comes.
    """

    offset_s: float = math.inf
    taken_s: float = -math.inf

    def learn(self, server_ms: int, sent_s: float) -> None:
        offset = server_ms / 1000 - sent_s
        if offset < self.offset_s or sent_s - self.taken_s > 10:
            self.offset_s, self.taken_s = offset, sent_s

    def forget(self) -> None:
        self.offset_s, self.taken_s = math.inf, -math.inf

    @property
    def known(self) -> bool:
        return self.offset_s != math.inf

    def ms_at(self, monotonic_s: float) -> int:
        return int((monotonic_s + self.offset_s) * 1000)


class HotShard:
    """What all callers of a shard share. `seq_seen` only grows inside an epoch and fences a server that went back."""

    def __init__(
        self, *, shard: int, client: Client, scripts: Scripts, doubt: Callable[[], None] = lambda: None
    ) -> None:
        """`doubt` is called when Valkey's answer and the epoch known here do not go together."""
        self.shard = shard
        self.doubt = doubt
        self.keys = ShardKeys(shard)
        self.epoch = 0
        self.seq_seen = 0
        self.behind_in = 0
        """The epoch in which Valkey was found behind what this process has seen of it; 0: it was not."""
        self.clock = ServerClock()
        self._client = client
        self._open = scripts.named("open_shard")
        self._load = scripts.named("load_sale")

    def enter_epoch(self, epoch: int, seq: int) -> None:
        """The ledger's word about the epoch; a new one begins with what the ledger has of it."""
        if epoch != self.epoch:
            self.epoch, self.seq_seen = epoch, seq
        else:
            self.seq_seen = max(self.seq_seen, seq)

    async def open(self, *, epoch: int) -> str:
        """Makes a new shard sell; answers `created`, or `there` when Valkey has it in whatever state."""
        word, at_epoch, seq = await self._open([self.keys.shard], [epoch])
        if at_epoch == epoch:
            self.enter_epoch(epoch, int(seq))
        return str(word, "ascii")

    async def load_sale(self, sale: Sale) -> None:
        """Gives Valkey a sale of the ledger; harmless when it is there. Raises ShardClosed when the shard is shut."""
        items = [
            [
                item.item_no,
                item.price_minor,
                item.limit_per_viewer,
                item.stock,
                item.floor_minor or 0,
                plan_text(item.prices),
            ]
            for item in sale.items
        ]
        word = await self._load(
            [self.keys.shard, self.keys.sale(sale.sale_no)],
            [self.epoch, str(sale.hold), sale.opens_at_ms, sale.closes_at_ms, _pack(items)],
        )
        if word == b"epoch":
            self.doubt()
            raise ShardClosed

    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None:
        """The counters of every item of a sale, or None when Valkey does not have the sale."""
        with hot_errors():
            values = await self._client.hmget(self.keys.sale(sale.sale_no), _count_fields(sale))
        return _counts(sale, values)

    async def counts_of(self, sales: Sequence[Sale]) -> list[dict[int, ItemCounts] | None]:
        """As `counts`, of several sales in one round trip."""
        with hot_errors():
            async with self._client.pipeline(transaction=False) as pipe:
                for sale in sales:
                    pipe.hmget(self.keys.sale(sale.sale_no), _count_fields(sale))
                found = await pipe.execute()
        return [_counts(sale, values) for sale, values in zip(sales, found, strict=True)]

    async def counts_at(self, sale: Sale) -> tuple[int, dict[int, ItemCounts] | None]:
        """The counts and the server's time of the reading, in microseconds: of two readings the later one is truer."""
        with hot_errors():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.hmget(self.keys.sale(sale.sale_no), _count_fields(sale))
                (seconds, micros), values = await pipe.execute()
        return seconds * 1_000_000 + micros, _counts(sale, values)

    async def moment(self, sale_no: int, item_nos: Sequence[int]) -> HotMoment:
        """The counters of a sale and where its shard stands, at one moment."""
        fields = [f"{item_no}:{name}" for item_no in item_nos for name in _COUNTED]
        with hot_errors():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.hmget(self.keys.shard, ["epoch", "seq", "released"])
                pipe.hmget(self.keys.sale(sale_no), ["hold", *fields])
                (epoch, seq, released), (is_there, *values) = await pipe.execute()
        return HotMoment(
            epoch=int(epoch or 0),
            seq=int(seq or 0),
            released=int(released or 0),
            counts=None if is_there is None else _counts_of(item_nos, values),
        )

    async def read_clock(self, monotonic_s: float) -> None:
        """Learns the server's time; `monotonic_s` is now, on this process's clock."""
        with hot_errors():
            seconds, micros = await self._client.time()
        self.clock.learn(seconds * 1000 + micros // 1000, monotonic_s)

    async def backlog(self) -> int:
        """Sequence numbers the ledger is behind, as Valkey was last told."""
        with hot_errors():
            seq, applied = await self._client.hmget(self.keys.shard, ["seq", "applied"])
        if seq is None:
            raise HotUnavailable("Valkey does not have this shard")
        return int(seq) - int(applied or 0)


def _count_fields(sale: Sale) -> list[str]:
    return [f"{item.item_no}:{name}" for item in sale.items for name in _COUNTED]


def _counts(sale: Sale, values: Sequence[bytes | str | None]) -> dict[int, ItemCounts] | None:
    if values[0] is None:
        return None
    return _counts_of([item.item_no for item in sale.items], values)


def _counts_of(item_nos: Sequence[int], values: Sequence[bytes | str | None]) -> dict[int, ItemCounts]:
    numbers = [int(value or 0) for value in values]
    return {
        item_no: ItemCounts(item_no, *numbers[at : at + 3])
        for item_no, at in zip(item_nos, range(0, len(numbers), 3), strict=True)
    }
