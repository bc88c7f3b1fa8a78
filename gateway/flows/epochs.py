"""Follows the ledger's word on every shard's epoch and server, so that this process asks Valkey in the right one."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import structlog

from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

EVERY_S = 0.5
# When Valkey answers as if it were of another epoch, the ledger is asked at once, and no more often than this.
_AT_ONCE_S = 0.05


class ShardRow(Protocol):
    @property
    def shard(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def run_id(self) -> str | None: ...


class Shards(Protocol):
    async def all(self) -> Sequence[ShardRow]: ...
    async def found_behind(self, shard: int, epoch: int) -> None: ...


class HotShard(Protocol):
    @property
    def epoch(self) -> int: ...

    behind_in: int

    def enter_epoch(self, epoch: int, seq: int) -> None: ...


class KnownServers(Protocol):
    @property
    def doubted(self) -> asyncio.Event: ...
    def learn(self, run_ids: Iterable[str | None]) -> None: ...


class Epochs:
    """While the ledger is away the last word stands: Valkey itself refuses a wrong epoch, and a server that the last
    word does not name is not talked to.

    `on_new_epoch` is called after an epoch ended: what it promised and the ledger does not have is lost.
    """

    def __init__(
        self,
        *,
        shards: Shards,
        hot: Mapping[int, HotShard],
        known: KnownServers,
        on_new_epoch: Callable[[], None] = lambda: None,
    ) -> None:
        self._shards = shards
        self._hot = hot
        self._known = known
        self._on_new_epoch = on_new_epoch

    async def look(self) -> None:
        rows = [row for row in await self._shards.all() if row.shard in self._hot]
        # Epochs first: no connection to a new server may carry a call in the old one's epoch.
        new = False
        for row in rows:
            shard = self._hot[row.shard]
            new = new or shard.epoch not in (0, row.epoch)
            shard.enter_epoch(row.epoch, row.last_seq)
        self._known.learn([row.run_id for row in rows])
        for row in rows:
            shard = self._hot[row.shard]
            if shard.behind_in:
                # Only this process knows: the ledger may not be that far, and the server be the same.
                await self._shards.found_behind(row.shard, shard.behind_in)
                shard.behind_in = 0
        if new:
            self._on_new_epoch()

    async def run(self) -> None:
        while True:
            await asyncio.sleep(_AT_ONCE_S)
            try:
                async with asyncio.timeout(EVERY_S - _AT_ONCE_S):
                    await self._known.doubted.wait()
            except TimeoutError:
                pass
            self._known.doubted.clear()
            try:
                await self.look()
            except GatewayError as error:
                log.warning("epochs_not_read", error=str(error))
