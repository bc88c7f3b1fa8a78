"""Has the orders Valkey rewrite its append-only file in quiet times, never in a peak.

A rewrite forks the server and reads its whole memory beside the orders, so the server itself is told not to begin one.
At a hard ceiling it is begun all the same, and reported: a disk that fills up stops every sale.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.metrics import FILE_REWRITES, VALKEY_FILE_BYTES

log = structlog.get_logger(__name__)

EVERY_S = 5.0
LEAST_BYTES = 64 * 1024 * 1024
# What is not twice what the last rewrite left is not worth the fork.
GROWTH = 2.0
# At the ceiling half as much growth will do; without any a rewrite would bring nothing, however large the file is.
FORCED_GROWTH = 1.5
QUIET_FOR_S = 30.0
# Orders a second over that time; a shop's usual trickle, a hundredth of what makes a peak.
QUIET_ORDERS_S = 20.0
# No rewrite begins when a sale opens this soon: one of a few gigabytes takes about as long.
OPENING_WITHIN_S = 60.0
# After a failure, such as a fork without memory, the server is left alone for a while.
FAILED_PAUSE_S = 60.0


class Why(StrEnum):
    QUIET = "quiet"
    FORCED = "forced"


class FileState(Protocol):
    @property
    def size(self) -> int: ...
    @property
    def base(self) -> int: ...
    @property
    def rewriting(self) -> bool: ...
    @property
    def last_failed(self) -> bool: ...


class Server(Protocol):
    async def file(self) -> FileState | None: ...
    async def rewrites_by_itself(self) -> bool: ...
    async def rewrite(self) -> None: ...


class Stream(Protocol):
    async def head(self) -> tuple[int, int]:
        """(epoch, sequence number)."""
        ...


class Sales(Protocol):
    async def opens_within(self, seconds: float) -> bool: ...


class FileRewrites:
    """One look every few seconds. Two of these do no harm: the server runs one rewrite at a time."""

    def __init__(
        self,
        *,
        server: Server,
        streams: Mapping[int, Stream],
        sales: Sales,
        clock: Clock,
        ceiling_bytes: int,
        least_bytes: int = LEAST_BYTES,
    ) -> None:
        self._server = server
        self._streams = streams
        self._sales = sales
        self._clock = clock
        self._ceiling_bytes = ceiling_bytes
        self._least_bytes = least_bytes
        self._seen: deque[tuple[float, dict[int, tuple[int, int]]]] = deque()
        """When, and where the streams stood, over the last `QUIET_FOR_S`."""
        self._said: dict[str, bool] = {}
        self._not_before_s = float("-inf")

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except GatewayError as error:
                log.warning("file_not_looked_at", error=str(error))
            await asyncio.sleep(EVERY_S)

    async def look(self) -> Why | None:
        """Why a rewrite was begun, or None."""
        now_s = self._clock.monotonic()
        quiet = await self._is_quiet(now_s)
        state = await self._server.file()
        if state is None:
            return None  # a server that keeps no file was allowed at start
        VALKEY_FILE_BYTES.set(state.size)
        if await self._server.rewrites_by_itself():
            self._say_once("file_rewrites_left_to_the_server", True)
            return None
        self._say_once("file_rewrites_left_to_the_server", False)
        if state.rewriting or now_s < self._not_before_s:
            return None
        if state.last_failed and not self._said.get("file_rewrite_failed"):
            self._said["file_rewrite_failed"] = True
            self._not_before_s = now_s + FAILED_PAUSE_S
            log.error("file_rewrite_failed", size=state.size)
            return None
        self._said["file_rewrite_failed"] = False
        why = await self._why(state, quiet)
        if why is not None:
            if why is Why.FORCED:
                log.error("file_rewrite_forced", size=state.size, base=state.base, ceiling=self._ceiling_bytes)
            else:
                log.info("file_rewrite_begun", size=state.size, base=state.base)
            await self._server.rewrite()
            FILE_REWRITES.labels(why).inc()
        return why

    async def _why(self, state: FileState, quiet: bool) -> Why | None:
        if state.size > max(self._ceiling_bytes, FORCED_GROWTH * state.base):
            return Why.FORCED
        if state.size <= max(self._least_bytes, GROWTH * state.base) or not quiet:
            return None
        return None if await self._sales.opens_within(OPENING_WITHIN_S) else Why.QUIET

    async def _is_quiet(self, now_s: float) -> bool:
        """Whether few orders came for as long as it takes to tell. A new epoch is no quiet time."""
        heads = {shard: await stream.head() for shard, stream in self._streams.items()}
        self._seen.append((now_s, heads))
        while len(self._seen) > 1 and now_s - self._seen[1][0] >= QUIET_FOR_S:
            self._seen.popleft()
        since_s, before = self._seen[0]
        took_s = now_s - since_s
        if took_s < QUIET_FOR_S or any(heads[shard][0] != before[shard][0] for shard in heads):
            return False
        return sum(heads[shard][1] - before[shard][1] for shard in heads) < QUIET_ORDERS_S * took_s

    def _say_once(self, event: str, is_so: bool) -> None:
        if is_so and not self._said.get(event):
            log.info(event)
        self._said[event] = is_so
