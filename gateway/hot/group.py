"""The group call: what arrived for a sale, or a coupon, while its last call was in flight goes to Valkey as one script
call.

Durability is paid a call, not a request: one file sync covers the whole group. Under light load a group is one request
and waits for nothing.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog
from prometheus_client import Histogram

from gateway.clock import Clock
from gateway.domain.coupon import COUPONS_A_GROUP
from gateway.domain.order import DECIDE_WITHIN_S
from gateway.errors import GatewayError, HotUnavailable, OutcomeUnknown, Overloaded, ShardClosed, Unavailable
from gateway.metrics import GROUP_CALL_SECONDS, GROUP_SIZE

log = structlog.get_logger(__name__)

# Two calls of one number may be in flight: while Valkey syncs one, this process writes the answers of the other.
CALLS_IN_FLIGHT = 2
# A call begins no sooner than this after the one before, unless it is full: a call costs Valkey and this process the
# same for one request as for ten. A lone one finds the last call long ago and waits for nothing.
CALL_EVERY_S = 0.002
_REMEMBERED = 1_000
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 0.5


class Answer(Protocol):
    @property
    def took_effect(self) -> bool:
        """It stands for good: what was asked for has happened."""
        ...


class Request(Protocol):
    """What a viewer asks for, and where the answer goes. `sent` and `last` are the group call's own."""

    arrived_s: float
    sent: bool
    last: Any

    @property
    def answer(self) -> Callable[[Any], None]:
        """Takes what its decider answers, or an exception."""
        ...

    @property
    def group_no(self) -> int:
        """Requests of one number are decided together."""
        ...

    @property
    def needs_no(self) -> int:
        """What it brings into its group besides; 0: nothing. A group has at most COUPONS_A_GROUP of these."""
        ...


R = TypeVar("R", bound=Request)
R_asked = TypeVar("R_asked", bound=Request, contravariant=True)


class Decider(Protocol[R_asked]):
    async def decide(self, group_no: int, group: Sequence[R_asked], /) -> Sequence[Answer | GatewayError]:
        """One answer a request, in their order. Raises HotUnavailable when the reply was lost (the effect is unknown),
        ShardClosed when nothing was decided."""
        ...


class GroupCalls(Generic[R]):
    """Collects requests of a number (a sale's, a coupon's) and has each decided exactly once, calling its `answer`.

    Bounded: at most `queue_max` requests of a number wait (a further one is refused as overloaded), at most `group_max`
    go in one call. A request whose reply was lost is asked again under its own key until its time is over; only then
    its answer is `OutcomeUnknown`.
    """

    def __init__(
        self,
        *,
        decider: Decider[R],
        clock: Clock,
        group_max: int,
        queue_max: int,
        seconds: Histogram = GROUP_CALL_SECONDS,
        size: Histogram = GROUP_SIZE,
    ) -> None:
        """`seconds` and `size` observe each call that was answered."""
        self._decider = decider
        self._clock = clock
        self._group_max = group_max
        self._queue_max = queue_max
        self._seconds = seconds
        self._size = size
        self._queues: dict[int, deque[R]] = {}
        self._calling: dict[int, int] = {}
        self._called_at_s: dict[int, float] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Owns the calls; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    def submit(self, request: R) -> None:
        """Queues a request; its `answer` is called later. Raises Overloaded when the queue of its number is full."""
        if self._tasks is None:
            raise Unavailable
        group_no = request.group_no
        queue = self._queues.get(group_no)
        if queue is None:
            queue = self._queues[group_no] = deque()
        if len(queue) >= self._queue_max:
            raise Overloaded(retry_after_ms=random.randint(200, 1000))
        queue.append(request)
        calling = self._calling.get(group_no, 0)
        # A second call only starts for what a full group leaves over or what came while the first is in flight.
        if calling == 0 or (calling < CALLS_IN_FLIGHT and len(queue) == self._group_max // 4):
            self._calling[group_no] = calling + 1
            self._idle.clear()
            self._tasks.create_task(self._call(group_no))

    async def drained(self) -> None:
        """Returns when nothing waits and no call is in flight."""
        await self._idle.wait()

    @property
    def waiting(self) -> int:
        return sum(len(queue) for queue in self._queues.values())

    async def _call(self, group_no: int) -> None:
        queue = self._queues[group_no]
        try:
            while queue:
                early_s = self._called_at_s.get(group_no, 0.0) + CALL_EVERY_S - self._clock.monotonic()
                if early_s > 0 and len(queue) < self._group_max:
                    await asyncio.sleep(early_s)
                    continue
                if len(self._called_at_s) > _REMEMBERED:
                    self._called_at_s.clear()
                self._called_at_s[group_no] = self._clock.monotonic()
                group = self._next_group(queue)
                oldest_s = self._clock.monotonic() - DECIDE_WITHIN_S
                if group[0].arrived_s < oldest_s:
                    # Nobody waits for these any more, and each call that Valkey does not answer costs seconds.
                    self._give_up([each for each in group if each.arrived_s < oldest_s])
                    group = [each for each in group if each.arrived_s >= oldest_s]
                await self._decide(group_no, group)
        except asyncio.CancelledError:
            self._give_up(list(queue))
            queue.clear()
            raise
        finally:
            self._calling[group_no] -= 1
            if self._calling[group_no] == 0:
                del self._calling[group_no]
                if not queue:
                    del self._queues[group_no]
                if not self._calling:
                    self._idle.set()

    def _next_group(self, queue: deque[R]) -> list[R]:
        """From the front of the queue, as many as one call takes."""
        group: list[R] = []
        needs: set[int] = set()
        for _ in range(min(len(queue), self._group_max)):
            if (number := queue[0].needs_no) and number not in needs:
                if len(needs) == COUPONS_A_GROUP:
                    break  # the rest goes into the next one
                needs.add(number)
            group.append(queue.popleft())
        return group

    async def _decide(self, group_no: int, group: list[R]) -> None:
        pause_s = _FIRST_PAUSE_S
        while group:
            try:
                started_s = self._clock.monotonic()
                answers = await self._decider.decide(group_no, group)
                self._seconds.observe(self._clock.monotonic() - started_s)
                self._size.observe(len(group))
                group = self._final(group, answers)
                if not group:
                    return
            except HotUnavailable as error:
                # It may have been decided. The same keys are asked again, so that an effect is given once.
                log.warning("group_call_lost", group_no=group_no, requests=len(group), error=str(error))
                for request in group:
                    request.sent, request.last = True, None
            except ShardClosed:
                pass
            except asyncio.CancelledError:
                self._answer_all(group, OutcomeUnknown())
                raise
            except Exception:
                log.exception("group_call_failed", group_no=group_no, requests=len(group))
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

    def _final(self, group: list[R], answers: Sequence[Answer | GatewayError]) -> list[R]:
        """Gives the answers that stand; those left are to be asked again.

        A call whose reply was lost may still lie in front of Valkey and be decided after this one. So a refusal does
        not stand for a request that was in it until its time to be decided is over.
        """
        again: list[R] = []
        for request, answer in zip(group, answers, strict=True):
            if not request.sent or (not isinstance(answer, GatewayError) and answer.took_effect):
                self._answer(request, answer)
            elif self._clock.monotonic() - request.arrived_s < DECIDE_WITHIN_S:
                request.last = answer
                again.append(request)
            else:
                # By now the script says only that it is late; the refusal before that says why.
                self._answer(request, request.last or answer)
        return again

    def _give_up(self, group: list[R]) -> None:
        for request in group:
            unknown = OutcomeUnknown() if request.sent else Unavailable(retry_after_ms=1000)
            self._answer(request, request.last or unknown)

    def _answer_all(self, group: list[R], answer: GatewayError) -> None:
        for request in group:
            self._answer(request, answer)

    def _answer(self, request: R, answer: Answer | Exception) -> None:
        try:
            request.answer(answer)
        except Exception:
            # One viewer's broken socket must not keep the others of the group from their answers.
            log.exception("answer_not_delivered", group_no=request.group_no)
