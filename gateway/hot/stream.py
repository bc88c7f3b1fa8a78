"""The order stream of a shard. Entry ids are `epoch-last sequence number`, so the ledger's cursor is a place in the
stream and an order id names the entry it stands in."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from gateway.errors import ShardClosed
from gateway.hot.connect import Client, hot_errors, renew
from gateway.hot.keys import ShardKeys
from gateway.hot.scripts import Scripts


class RawEntry(NamedTuple):
    epoch: int
    last: int
    body: bytes


class OrderStream:
    """Reads by a place, not by a consumer group: the place is kept in the ledger."""

    def __init__(self, *, client: Client, shard: int) -> None:
        self._client = client
        self._keys = ShardKeys(shard)
        self._mark = Scripts(client).named("mark_applied")

    def renew(self) -> None:
        """The next read goes to whichever server is now under the address."""
        renew(self._client)

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
        """Tells Valkey how far the ledger is, and forgets entries more than `keep` sequence numbers behind that. A
        shard of another epoch is left alone."""
        await self._mark([self._keys.shard, self._keys.stream], [epoch, seq, max(0, seq - keep)])

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

    async def held_by(
        self, sale_no: int, keys: Sequence[tuple[str, str]]
    ) -> tuple[list[tuple[int, int, int] | None], bool]:
        """For each (viewer, key) of a sale: (epoch, seq, decided at ms), or None when the key holds nothing; and
        whether Valkey has the sale: of one that left it, only the ledger knows the keys.

        Raises ShardClosed where that cannot be told: a shard that was lost or is being filled lacks what was promised.
        """
        fields = [f"{viewer}|{key}" for viewer, key in keys]
        with hot_errors():
            # One moment of both: a shard that is open now may have been filled since the answers were read.
            pipe = self._client.pipeline(transaction=True)
            pipe.hmget(self._keys.answers(sale_no), fields)
            pipe.hget(self._keys.shard, "open")
            pipe.exists(self._keys.sale(sale_no))
            answers, is_open, is_there = await pipe.execute()
        if None in answers and is_open != b"1":
            raise ShardClosed
        found: list[tuple[int, int, int] | None] = []
        for answer in answers:
            if answer is None:
                found.append(None)
            else:
                _, epoch, seq, at_ms, *_ = answer.split(b"|")
                found.append((int(epoch), int(seq), int(at_ms)))
        return found, bool(is_there)

    async def entry_of(self, epoch: int, seq: int) -> bytes | None:
        """The entry in which an order stands, or stood; None when it never did. Raises ShardClosed as `held_by`."""
        entry = await self._stream.find(epoch, seq)
        if entry is not None and entry.epoch == epoch:
            return entry.body
        with hot_errors():
            if await self._client.hget(self._keys.shard, "open") != b"1":
                raise ShardClosed
        return None
