"""The order stream of a shard. Entry ids are `epoch-last sequence number`, so the ledger's cursor is a place in the
stream and an order id names the entry it stands in."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.hot.connect import Client, hot_errors
from gateway.hot.keys import ShardKeys


class RawEntry(NamedTuple):
    epoch: int
    last: int
    body: bytes


class OrderStream:
    """Reads by a place, not by a consumer group: the place is kept in the ledger."""

    def __init__(self, *, client: Client, shard: int) -> None:
        self._client = client
        self._keys = ShardKeys(shard)

    async def read(self, epoch: int, after_seq: int, *, count: int, wait_ms: int) -> list[RawEntry]:
        """Up to `count` entries behind a place, in order; waits up to `wait_ms` (0: not at all) for the first."""
        with hot_errors():
            reply: Any = await self._client.xread(
                {self._keys.stream: f"{epoch}-{after_seq}"}, count=count, block=wait_ms or None
            )
        if not reply:
            return []
        entries = next(iter(reply.values()))[0] if isinstance(reply, dict) else reply[0][1]
        return [_entry(id, fields) for id, fields in entries]

    async def find(self, epoch: int, seq: int) -> RawEntry | None:
        """The entry a sequence number stands in, or None when it was trimmed or never written."""
        with hot_errors():
            reply: Any = await self._client.xrange(self._keys.stream, min=f"{epoch}-{seq}", max="+", count=1)
        return _entry(*reply[0]) if reply else None

    async def applied(self, epoch: int, seq: int, *, keep: int) -> None:
        """Tells Valkey how far the ledger is, and forgets entries more than `keep` sequence numbers behind that."""
        with hot_errors():
            pipe = self._client.pipeline(transaction=False)
            pipe.hset(self._keys.shard, "applied", str(seq))
            if seq > keep:
                pipe.xtrim(self._keys.stream, minid=f"{epoch}-{seq - keep}", approximate=True)
            await pipe.execute()

    async def head(self) -> tuple[int, int]:
        """(epoch, seq) the shard stands at; (0, 0) when Valkey does not have it."""
        with hot_errors():
            epoch, seq = await self._client.hmget(self._keys.shard, ["epoch", "seq"])
        return int(epoch or 0), int(seq or 0)


def _entry(id: bytes, fields: dict[bytes, bytes]) -> RawEntry:
    epoch, _, last = id.partition(b"-")
    return RawEntry(int(epoch), int(last), fields[b"o"])


class HeldAnswers:
    """Where the order stands that a key holds, as the scripts remember it."""

    def __init__(self, *, client: Client, shard: int, stream: OrderStream) -> None:
        self._client = client
        self._keys = ShardKeys(shard)
        self._stream = stream

    async def held_by(self, sale_no: int, keys: Sequence[tuple[str, str]]) -> list[tuple[int, int, int] | None]:
        """For each (viewer, key) of a sale: (epoch, seq, decided at ms), or None when the key holds nothing."""
        with hot_errors():
            fields = [f"{viewer}|{key}" for viewer, key in keys]
            answers: Any = await self._client.hmget(self._keys.answers(sale_no), fields)
        found: list[tuple[int, int, int] | None] = []
        for answer in answers:
            if answer is None:
                found.append(None)
            else:
                _, epoch, seq, at_ms, _ = answer.split(b"|")
                found.append((int(epoch), int(seq), int(at_ms)))
        return found

    async def entry_of(self, epoch: int, seq: int) -> bytes | None:
        entry = await self._stream.find(epoch, seq)
        return None if entry is None or entry.epoch != epoch else entry.body
