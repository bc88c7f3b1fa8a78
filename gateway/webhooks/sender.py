"""Sends what is queued to the shops' endpoints until it is taken, or given up after a day."""

import asyncio
import contextlib
import uuid
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.webhook import Due, Endpoint, Failure
from gateway.errors import GatewayError
from gateway.metrics import (
    WEBHOOK_ATTEMPT_SECONDS,
    WEBHOOK_DEAD,
    WEBHOOK_DELIVERIES,
    WEBHOOK_OLDEST_SECONDS,
    WEBHOOK_WAITING,
)
from gateway.webhooks.backoff import pause_s
from gateway.webhooks.post import Sent

log = structlog.get_logger(__name__)

LEASE: Final = "webhooks"
# Nothing is begun on a lease that was not renewed for a while, and what was begun ends within ANSWER_WITHIN_S: so it is
# over before the lease is, and no two keepers send at a time.
LEASE_S, RENEW_EVERY_S, STALE_S = 12.0, 0.5, 1.5
TICK_S: Final = 0.1
IN_FLIGHT_PER_SHOP: Final = 16
IN_FLIGHT: Final = 256
# Read ahead for a shop, beyond what is in flight: what a shop that answers in 10 ms takes between two looks.
READ_AHEAD: Final = 128
# So many failures in a row, and a shop is taken to be away rather than to dislike some events: a few requests at a time
# find out whether it is back, and the places are left to others.
AWAY_AFTER: Final = 20
IN_FLIGHT_WHILE_AWAY: Final = 2
MEASURE_EVERY_S: Final = 5.0
FORGET_EVERY_S: Final = 600.0
DEAD_KEPT_S: Final = 30 * 86_400.0
_ERROR_CHARS: Final = 200


class Deliveries(Protocol):
    """`gateway.ledger.webhooks.LedgerDeliveries`."""

    async def take_lease(self, name: str, *, holder: str, for_s: float) -> bool: ...
    async def give_lease(self, name: str, *, holder: str) -> None: ...
    async def endpoints(self) -> list[Endpoint]: ...
    async def due(self, shop_no: int, *, but: Iterable[str], limit: int) -> list[Due]: ...
    async def note(
        self, *, delivered: Mapping[int, Sequence[int]], failed: Mapping[int, Sequence[Failure]]
    ) -> dict[int, list[str]]: ...
    async def hurry(self, shop_no: int) -> bool:
        """A part at once; whether nothing is left to be hurried."""
        ...

    async def ages(self) -> tuple[int, float, int]: ...
    async def forget_dead(self, *, older_than_s: float) -> bool:
        """A part at once; whether nothing is left to be forgotten."""
        ...


class Post(Protocol):
    """`gateway.webhooks.post.Poster`."""

    async def post(self, endpoint: Endpoint, *, msg_id: str, body: str) -> Sent: ...


class _Lane:
    """What is on its way to one shop. An object is held from the moment its event is read until its end is noted."""

    __slots__ = ("endpoint", "failures", "held", "in_flight", "ready")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.ready: deque[Due] = deque()
        self.held: set[str] = set()
        self.in_flight = 0
        self.failures = 0
        """In a row."""


class Sender:
    """An event is sent at least once, always with the same id, and leaves the queue when it was answered with 2xx:
    killed anywhere, the next sender sends again what was not noted. Of one object the next event is sent only after the
    one before was taken or given up; different objects do not wait for each other.

    At most IN_FLIGHT_PER_SHOP at a shop and IN_FLIGHT in all: it takes sixteen shops that do not answer to make another
    one wait, and only until they have failed AWAY_AFTER times. One sender works at a time, by a lease."""

    def __init__(self, *, deliveries: Deliveries, post: Post, clock: Clock) -> None:
        self._deliveries = deliveries
        self._post = post
        self._clock = clock
        self._holder = uuid.uuid4().hex
        self._lanes: dict[int, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._delivered: dict[int, list[Due]] = {}
        self._failed: dict[int, list[tuple[Due, Failure]]] = {}
        self._away: set[int] = set()
        """Shops that were away and answered again just now."""
        self._woken = asyncio.Event()
        self._renewed_s = float("-inf")
        self._draining = False

    def wake(self) -> None:
        """There is something new to send."""
        self._woken.set()

    async def run(self) -> None:
        try:
            while True:
                try:
                    await self.step()
                except GatewayError as error:
                    log.warning("webhooks_wait", error=str(error))
                    await asyncio.sleep(1.0)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._woken.wait()
                # What comes in crowds is noted together.
                await asyncio.sleep(TICK_S / 5)
                self._woken.clear()
        finally:
            await self._stop()

    async def step(self) -> None:
        """Notes what ended, reads what is due, begins to send it."""
        await self._note()
        if self._draining or not await self._holds_lease():
            return
        await self._hurry()
        for endpoint in await self._deliveries.endpoints():
            lane = self._lanes.setdefault(endpoint.shop_no, _Lane(endpoint))
            lane.endpoint = endpoint
            room = READ_AHEAD + IN_FLIGHT_PER_SHOP - len(lane.held)
            if room >= READ_AHEAD // 2:
                for due in await self._deliveries.due(endpoint.shop_no, but=lane.held, limit=room):
                    lane.held.add(due.object)
                    lane.ready.append(due)
        for lane in list(self._lanes.values()):
            self._send_on(lane)

    async def drain(self) -> None:
        """Begins nothing more; returns once nothing is in flight, all ends are noted and the next sender may begin."""
        self._draining = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._note()
        await self._deliveries.give_lease(LEASE, holder=self._holder)

    async def measure(self) -> None:
        """Runs until cancelled: keeps the gauges, and forgets what was dead for long."""
        forget_at_s = float("-inf")
        while True:
            try:
                waiting, oldest_s, dead = await self._deliveries.ages()
                WEBHOOK_WAITING.set(waiting)
                WEBHOOK_OLDEST_SECONDS.set(oldest_s)
                WEBHOOK_DEAD.set(dead)
                if self._clock.monotonic() >= forget_at_s and await self._deliveries.forget_dead(
                    older_than_s=DEAD_KEPT_S
                ):
                    forget_at_s = self._clock.monotonic() + FORGET_EVERY_S
            except GatewayError as error:
                log.warning("webhooks_not_measured", error=str(error))
            await asyncio.sleep(MEASURE_EVERY_S)

    async def _holds_lease(self) -> bool:
        now_s = self._clock.monotonic()
        if now_s - self._renewed_s >= RENEW_EVERY_S:
            # The time before the question: by the answer some of the lease may be gone.
            if not await self._deliveries.take_lease(LEASE, holder=self._holder, for_s=LEASE_S):
                self._renewed_s = float("-inf")
                self._let_go()
                return False
            self._renewed_s = now_s
        return True

    def _let_go(self) -> None:
        """What was read and not begun is another sender's."""
        for lane in self._lanes.values():
            lane.held.difference_update(due.object for due in lane.ready)
            lane.ready.clear()

    def _send_on(self, lane: _Lane) -> None:
        if self._draining or self._clock.monotonic() - self._renewed_s > STALE_S:
            return
        most = IN_FLIGHT_PER_SHOP if lane.failures < AWAY_AFTER else IN_FLIGHT_WHILE_AWAY
        while lane.ready and lane.in_flight < most and len(self._tasks) < IN_FLIGHT:
            lane.in_flight += 1
            task = asyncio.create_task(self._send(lane, lane.ready.popleft()))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, lane: _Lane, due: Due) -> None:
        endpoint = lane.endpoint
        try:
            sent = await self._post.post(endpoint, msg_id=due.msg_id, body=due.body)
        except Exception as error:  # whatever it is, the others go on and this one is tried again
            log.error("webhook_not_sent", shop=endpoint.shop, type=due.type, id=due.msg_id, error=repr(error))
            sent = Sent(None, "it could not be sent", 0.0, 0.0, "")
        finally:
            lane.in_flight -= 1
        WEBHOOK_ATTEMPT_SECONDS.observe(sent.took_s)
        if not sent.error:
            self._delivered.setdefault(endpoint.shop_no, []).append(due)
            if lane.failures >= AWAY_AFTER:
                self._away.add(endpoint.shop_no)
            lane.failures = 0
        else:
            again_in_s = pause_s(due.attempts + 1, retry_after_s=sent.retry_after_s)
            failure = Failure(due.delivery_no, due.attempts, sent.status, sent.error[:_ERROR_CHARS], again_in_s)
            self._failed.setdefault(endpoint.shop_no, []).append((due, failure))
            lane.failures += 1
            if lane.failures >= AWAY_AFTER:
                self._away.discard(endpoint.shop_no)
        self._send_on(lane)
        self._woken.set()

    async def _note(self) -> None:
        """Raises LedgerUnavailable with nothing forgotten: what ended is noted the next time."""
        if not self._delivered and not self._failed:
            return
        delivered, self._delivered = self._delivered, {}
        failed, self._failed = self._failed, {}
        try:
            died = await self._deliveries.note(
                delivered={shop: [due.delivery_no for due in ended] for shop, ended in delivered.items()},
                failed={shop: [failure for _, failure in ended] for shop, ended in failed.items()},
            )
        except BaseException:
            for shop, ended in self._delivered.items():
                delivered.setdefault(shop, []).extend(ended)
            for shop, failures in self._failed.items():
                failed.setdefault(shop, []).extend(failures)
            self._delivered, self._failed = delivered, failed
            raise
        for shop, ended in delivered.items():
            self._lanes[shop].held.difference_update(due.object for due in ended)
            WEBHOOK_DELIVERIES.labels("delivered").inc(len(ended))
        for shop, failures in failed.items():
            self._lanes[shop].held.difference_update(due.object for due, _ in failures)
            WEBHOOK_DELIVERIES.labels("failed").inc(len(failures))
        for shop, types in died.items():
            WEBHOOK_DELIVERIES.labels("dead").inc(len(types))
            log.error(
                "webhook_events_died", shop=self._lanes[shop].endpoint.shop, types=sorted(set(types)), events=len(types)
            )
        for shop in [shop for shop, lane in self._lanes.items() if not lane.held and not lane.failures]:
            del self._lanes[shop]

    async def _hurry(self) -> None:
        for shop_no in list(self._away):
            if await self._deliveries.hurry(shop_no):
                self._away.discard(shop_no)

    async def _stop(self) -> None:
        """What is in flight is let go: it is sent again, with the same id, by whoever comes next."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
