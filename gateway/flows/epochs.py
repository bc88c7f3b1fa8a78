"""Follows the ledger's word on every shard's epoch, so that this process asks Valkey in the right one."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

EVERY_S = 0.5


class ShardRow(Protocol):
    @property
    def shard(self) -> int: ...
    @property
    def epoch(self) -> int: ...
    @property
    def last_seq(self) -> int: ...


class Shards(Protocol):
    async def all(self) -> Sequence[ShardRow]: ...


class HotShard(Protocol):
    def enter_epoch(self, epoch: int, seq: int) -> None: ...


class Epochs:
    """While the ledger is away the last word stands: Valkey itself refuses a wrong epoch."""

    def __init__(self, *, shards: Shards, hot: Mapping[int, HotShard]) -> None:
        self._shards = shards
        self._hot = hot

    async def look(self) -> None:
        for row in await self._shards.all():
            if row.shard in self._hot:
                self._hot[row.shard].enter_epoch(row.epoch, row.last_seq)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.look()
            except GatewayError as error:
                log.warning("epochs_not_read", error=str(error))
