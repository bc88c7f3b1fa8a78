"""The streams of what was said, one a room shard: read from the front, and forgotten once the ledger has it."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from gateway.domain.archive import SaidEntry
from gateway.hot.connect import Client, hot_errors
from gateway.hot.keys import ROOM_SHARDS, room_archive, room_archive_parked

# Kept for people, a room shard. Enough to see what is wrong; it is no second archive.
PARKED_MOST = 1000


class RoomArchive:
    """Keeps no place of its own: what is in a stream is what the ledger may lack. So any number of readers will do.

    Each command is about one key, so that room shards may lie on different servers of a cluster."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def waiting(self) -> list[int]:
        """How many entries each room shard has."""
        with hot_errors():
            pipe = self._client.pipeline(transaction=False)
            for room_shard in range(ROOM_SHARDS):
                pipe.xlen(room_archive(room_shard))
            return [int(count) for count in await pipe.execute()]

    async def read(self, room_shards: Sequence[int], *, count: int) -> list[SaidEntry]:
        """The first entries of each of these shards, `count` a shard at most, in their order."""
        with hot_errors():
            pipe = self._client.pipeline(transaction=False)
            for room_shard in room_shards:
                pipe.xrange(room_archive(room_shard), count=count)
            replies = await pipe.execute()
        return [
            SaidEntry(room_shard, id, fields.get(b"e", b""))
            for room_shard, entries in zip(room_shards, replies, strict=True)
            for id, fields in entries
        ]

    async def forget(self, entries: Iterable[SaidEntry]) -> None:
        """The ledger has them; harmless for those that are gone already."""
        ids: defaultdict[int, list[bytes]] = defaultdict(list)
        for entry in entries:
            ids[entry.room_shard].append(entry.id)
        with hot_errors():
            pipe = self._client.pipeline(transaction=False)
            for room_shard, gone in ids.items():
                pipe.xdel(room_archive(room_shard), *gone)
            await pipe.execute()

    async def park(self, entry: SaidEntry, *, reason: str) -> None:
        """Out of the way of the others, and kept for people; the oldest parked go at a bound."""
        with hot_errors():
            pipe = self._client.pipeline(transaction=True)
            pipe.xadd(
                room_archive_parked(entry.room_shard),
                {"e": entry.body, "id": entry.id, "reason": reason},
                maxlen=PARKED_MOST,
                approximate=False,
            )
            pipe.xdel(room_archive(entry.room_shard), entry.id)
            await pipe.execute()
