"""Waiting until the ledger has applied a sequence number: how a host's act is answered."""

import asyncio
from typing import Protocol

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.wire import bus

_ASK_EVERY_S = 0.25


class Shards(Protocol):
    async def cursor(self, shard: int) -> tuple[int, int]: ...
    async def was_applied(self, shard: int, epoch: int, seq: int) -> bool: ...


class Applied:
    """Knows how far the ledger is with each shard: told by the bus, asked when the bus is silent."""

    def __init__(self, *, shards: Shards, clock: Clock) -> None:
        self._shards = shards
        self._clock = clock
        self._at: dict[int, tuple[int, int]] = {}
        self._moved = asyncio.Event()

    def hear(self, message: bus.Applied) -> None:
        self._move(message.shard, message.epoch, message.seq)

    async def reached(self, shard: int, epoch: int, seq: int, *, within_s: float) -> bool:
        """Whether the ledger reached (epoch, seq) within the time; False too when it passed over it."""
        until_s = self._clock.monotonic() + within_s
        while self._at.get(shard, (0, 0)) < (epoch, seq):
            left_s = until_s - self._clock.monotonic()
            if left_s <= 0:
                return False
            moved = self._moved
            try:
                async with asyncio.timeout(min(left_s, _ASK_EVERY_S)):
                    await moved.wait()
            except TimeoutError:
                try:
                    self._move(shard, *await self._shards.cursor(shard))
                except GatewayError:
                    await asyncio.sleep(min(0.05, max(0.0, left_s)))
        if self._at[shard][0] == epoch:
            return True
        # The epoch has ended: with it may have gone what its stream did not keep.
        try:
            return await self._shards.was_applied(shard, epoch, seq)
        except GatewayError:
            return False

    def _move(self, shard: int, epoch: int, seq: int) -> None:
        if (epoch, seq) > self._at.get(shard, (0, 0)):
            self._at[shard] = (epoch, seq)
            moved, self._moved = self._moved, asyncio.Event()
            moved.set()
