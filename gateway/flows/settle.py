"""Acts on confirmed orders (payments, refunds, cancels) on their way to the ledger, in batches a shard."""

import asyncio
import random
from collections import deque
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import structlog

from gateway import points
from gateway.domain.settle import SettleAct, Settled
from gateway.errors import GatewayError, LedgerRejected, LedgerUnavailable, OutcomeUnknown, Overloaded, Unavailable
from gateway.metrics import SETTLE_SIZE, SETTLED
from gateway.wire import bus

log = structlog.get_logger(__name__)

# A batch holds the shard's row, for which confirmations wait, 20 to 40 ms.
ACTS_AT_ONCE = 100
# Waiting acts a shard, each somebody's open request: some seconds of work, past which waiting helps nobody.
WAITING_MOST = 5_000


class Ledger(Protocol):
    async def settle(self, shard: int, acts: Sequence[SettleAct]) -> Sequence[Settled]:
        """One answer an act, in their order, in one transaction. Raises LedgerRejected where a value cannot be stored
        and LedgerUnavailable when the effect is unknown."""
        ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class _Waiting(NamedTuple):
    act: SettleAct
    answer: "asyncio.Future[Settled]"


class Settle:
    """Acts that arrive while a transaction of their shard is in flight are judged together in the next one; an act that
    finds none in flight waits for nothing.

    Bounded: `WAITING_MOST` acts of a shard wait, a further one is Overloaded; `ACTS_AT_ONCE` go in one transaction. One
    transaction a shard is in flight, so that states are told in the order they were taken. A reply that was lost is
    OutcomeUnknown to all whose acts were in it; every act may be repeated (by its transaction, key or state).
    """

    def __init__(self, *, shards: Collection[int], ledger: Ledger, publisher: Publisher) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._waiting: dict[int, deque[_Waiting]] = {shard: deque() for shard in shards}
        self._calling: set[int] = set()
        self._tasks: asyncio.TaskGroup | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Owns the transactions; runs until cancelled."""
        try:
            async with asyncio.TaskGroup() as self._tasks:
                await asyncio.Event().wait()
        finally:
            self._tasks = None

    async def ask(self, shard: int, act: SettleAct) -> Settled:
        """How the act was judged."""
        if self._tasks is None:
            raise Unavailable
        waiting = self._waiting[shard]
        if len(waiting) >= WAITING_MOST:
            raise Overloaded(retry_after_ms=random.randint(500, 1500))
        answer: asyncio.Future[Settled] = asyncio.get_running_loop().create_future()
        waiting.append(_Waiting(act, answer))
        if shard not in self._calling:
            self._calling.add(shard)
            self._idle.clear()
            self._tasks.create_task(self._work(shard))
        return await answer

    async def drained(self) -> None:
        """Returns when nothing waits and nothing is in flight."""
        await self._idle.wait()

    async def _work(self, shard: int) -> None:
        waiting = self._waiting[shard]
        try:
            while waiting:
                await self._judge(shard, [waiting.popleft() for _ in range(min(len(waiting), ACTS_AT_ONCE))])
        finally:
            # Only when this process ends; what was not sent did not happen.
            _fail(waiting, Unavailable("This process is going away; repeat elsewhere.", retry_after_ms=500))
            waiting.clear()
            self._calling.discard(shard)
            if not self._calling:
                self._idle.set()

    async def _judge(self, shard: int, batch: Sequence[_Waiting]) -> None:
        points.reach("settle.commit.before")
        try:
            settled = await self._ledger.settle(shard, [each.act for each in batch])
        except LedgerRejected as error:
            # Nothing was done. One act's value spoils it for all, so each is asked by itself.
            if len(batch) == 1:
                _fail(batch, error)
            else:
                for each in batch:
                    await self._judge(shard, [each])
            return
        except LedgerUnavailable as error:
            log.warning("settlement_lost", shard=shard, acts=len(batch), error=str(error))
            _fail(batch, OutcomeUnknown("The answer was lost on the way; it may have happened. Repeat to learn it."))
            return
        except BaseException as error:
            _fail(batch, OutcomeUnknown())
            if isinstance(error, Exception):
                log.exception("settlement_failed", shard=shard, acts=len(batch))
                return
            raise
        points.reach("settle.commit.after")
        SETTLE_SIZE.observe(len(batch))
        for (act, answer), judged in zip(batch, settled, strict=True):
            SETTLED.labels(act.do, judged.word).inc()
            if not answer.done():
                answer.set_result(judged)
        states: list[tuple[str, bus.LaterState | bus.LaterClaim]] = []
        for one in settled:
            if one.changed:
                states.append((one.shop, bus.LaterState(one.viewer, one.order_id, one.status or "")))
            if one.claim is not None:
                states.append((one.shop, bus.LaterClaim(one.viewer, one.claim, one.claim_state or "")))
        if states:
            await self._publisher.publish(bus.encode_later(states))


def _fail(batch: Collection[_Waiting], error: GatewayError) -> None:
    for each in batch:
        if not each.answer.done():
            each.answer.set_exception(error)
