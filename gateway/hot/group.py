"""The group call: what arrived for a sale while its last call was in flight goes to Valkey as one script call.

Durability is paid a call, not an order: one file sync covers the whole group. Under light load a group is one order and
waits for nothing.
"""

import asyncio
import random
from collections import deque
from collections.abc import Sequence
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.order import DECIDE_WITHIN_S, OrderAnswer, OrderOutcome, OrderRequest
from gateway.errors import GatewayError, HotUnavailable, OutcomeUnknown, Overloaded, ShardClosed, Unavailable
from gateway.metrics import GROUP_CALL_SECONDS, GROUP_SIZE

log = structlog.get_logger(__name__)

# Two calls of one sale may be in flight: while Valkey syncs one, this process writes the answers of the other.
CALLS_IN_FLIGHT = 2
# A call begins no sooner than this after the one before, unless it is full: a call costs Valkey and this process the
# same for one order as for ten. A lone order finds the last call long ago and waits for nothing.
CALL_EVERY_S = 0.002
_REMEMBERED_SALES = 1_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5


class Decider(Protocol):
    async def decide(self, sale_no: int, group: Sequence[OrderRequest]) -> list[OrderAnswer | GatewayError]:
        """One answer a request, in their order. Raises HotUnavailable when the reply was lost (the effect is unknown),
        ShardClosed when nothing was decided."""
        ...


class GroupCalls:
    """Collects requests a sale and has each decided exactly once, calling its `answer`.

    Bounded: at most `queue_max` requests of a sale wait (a further one is refused as overloaded), at most `group_max`
    go in one call. A request whose reply was lost is asked again under its own key until its time is over; only then
    its answer is `OutcomeUnknown`.
    """

    def __init__(self, *, decider: Decider, clock: Clock, group_max: int, queue_max: int) -> None:
        self._decider = decider
        self._clock = clock
        self._group_max = group_max
        self._queue_max = queue_max
        self._queues: dict[int, deque[OrderRequest]] = {}
        self._calling: dict[int, int] = {}
        self._called_at_s: dict[int, float] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Owns the calls; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    def submit(self, request: OrderRequest) -> None:
        """Queues a request; its `answer` is called later. Raises Overloaded when the sale's queue is full."""
        if self._tasks is None:
            raise Unavailable
        queue = self._queues.get(request.sale_no)
        if queue is None:
            queue = self._queues[request.sale_no] = deque()
        if len(queue) >= self._queue_max:
            raise Overloaded(retry_after_ms=random.randint(200, 1000))
        queue.append(request)
        calling = self._calling.get(request.sale_no, 0)
        # A second call only starts for what a full group leaves over or what came while the first is in flight.
        if calling == 0 or (calling < CALLS_IN_FLIGHT and len(queue) == self._group_max // 4):
            self._calling[request.sale_no] = calling + 1
            self._idle.clear()
            self._tasks.create_task(self._call(request.sale_no))

    async def drained(self) -> None:
        """Returns when nothing waits and no call is in flight."""
        await self._idle.wait()

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    async def _call(self, sale_no: int) -> None:
        queue = self._queues[sale_no]
        try:
            while queue:
                early_s = self._called_at_s.get(sale_no, 0.0) + CALL_EVERY_S - self._clock.monotonic()
                if early_s > 0 and len(queue) < self._group_max:
                    await asyncio.sleep(early_s)
                    continue
                if len(self._called_at_s) > _REMEMBERED_SALES:
                    self._called_at_s.clear()
                self._called_at_s[sale_no] = self._clock.monotonic()
                group = [queue.popleft() for _ in range(min(len(queue), self._group_max))]
                oldest_s = self._clock.monotonic() - DECIDE_WITHIN_S
                if group[0].arrived_s < oldest_s:
                    # Nobody waits for these any more, and each call that Valkey does not answer costs seconds.
                    self._give_up([each for each in group if each.arrived_s < oldest_s])
                    group = [each for each in group if each.arrived_s >= oldest_s]
                await self._decide(sale_no, group)
        except asyncio.CancelledError:
            self._give_up(list(queue))
            queue.clear()
            raise
        finally:
            self._calling[sale_no] -= 1
            if self._calling[sale_no] == 0:
                del self._calling[sale_no]
                if not queue:
                    del self._queues[sale_no]
                if not self._calling:
                    self._idle.set()

    async def _decide(self, sale_no: int, group: list[OrderRequest]) -> None:
        pause_s = _FIRST_PAUSE_S
        while group:
            try:
                started_s = self._clock.monotonic()
                answers = await self._decider.decide(sale_no, group)
                GROUP_CALL_SECONDS.observe(self._clock.monotonic() - started_s)
                GROUP_SIZE.observe(len(group))
                group = self._final(group, answers)
                if not group:
                    return
            except HotUnavailable as error:
                # It may have been decided. The same keys are asked again, so that an effect is given once.
                log.warning("group_call_lost", sale_no=sale_no, orders=len(group), error=str(error))
                for request in group:
                    request.sent, request.last = True, None
            except ShardClosed:
                pass
            except asyncio.CancelledError:
                self._answer_all(group, OutcomeUnknown())
                raise
            except Exception:
                log.exception("group_call_failed", sale_no=sale_no, orders=len(group))
                self._answer_all(group, OutcomeUnknown())
                return
            now_s = self._clock.monotonic()
            self._give_up([each for each in group if now_s - each.arrived_s >= DECIDE_WITHIN_S])
            group = [each for each in group if now_s - each.arrived_s < DECIDE_WITHIN_S]
            try:
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0) if group else 0)
            except asyncio.CancelledError:
                self._give_up(group)
                raise
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _final(self, group: list[OrderRequest], answers: Sequence[OrderAnswer | GatewayError]) -> list[OrderRequest]:
        """Gives the answers that stand; those left are to be asked again.

        A call whose reply was lost may still lie in front of Valkey and be decided after this one. So a refusal does
        not stand for a request that was in it until its time to be decided is over.
        """
        again: list[OrderRequest] = []
        for request, answer in zip(group, answers, strict=True):
            if not request.sent or (isinstance(answer, OrderAnswer) and answer.outcome is OrderOutcome.RESERVED):
                self._answer(request, answer)
            elif self._clock.monotonic() - request.arrived_s < DECIDE_WITHIN_S:
                request.last = answer
                again.append(request)
            else:
                # By now the script says only that it is late; the refusal before that says why.
                self._answer(request, request.last or answer)
        return again

    def _give_up(self, group: list[OrderRequest]) -> None:
        for request in group:
            unknown = OutcomeUnknown() if request.sent else Unavailable(retry_after_ms=1000)
            self._answer(request, request.last or unknown)

    def _answer_all(self, group: list[OrderRequest], answer: GatewayError) -> None:
        for request in group:
            self._answer(request, answer)

    def _answer(self, request: OrderRequest, answer: OrderAnswer | Exception) -> None:
        try:
            request.answer(answer)
        except Exception:
            # One viewer's broken socket must not keep the others of the group from their answers.
            log.exception("answer_not_delivered", sale_no=request.sale_no)
