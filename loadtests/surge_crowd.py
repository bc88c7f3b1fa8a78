"""The open-loop crowd of the surge: every viewer taps at its own fixed time, whatever the gateway does.

Latency counts from the intended time. Some viewers are cut while the reply is on its way; all insist with the same key.
"""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

from gateway.client.backoff import Backoff
from gateway.client.codec import Codec, ToViewer
from gateway.client.connection import Connection, connect, order_frame
from gateway.client.errors import HandshakeRefused
from gateway.domain.order import OrderOutcome
from gateway.wire.close_codes import may_return
from loadtests.surge_network import Agenda, Network

# A request is decided within 5 s of its arrival; the injected delays are below one more.
ASK_AGAIN_AFTER_S = 7.0
SWEEP_EVERY_S = 1.0
CONNECT_AT_ONCE = 100


class Shopper:
    """One viewer of the crowd: one tap, one key, and everything it was told, as it heard it."""

    __slots__ = (
        "_asking_since_s",
        "_connection",
        "_crowd",
        "_failures",
        "_is_through",
        "_welcomed",
        "answer",
        "answered_s",
        "confirmed_s",
        "cuts",
        "intended_s",
        "is_to_be_cut",
        "key",
        "late_s",
        "order",
        "status",
        "sub",
        "token",
        "told",
    )

    def __init__(self, crowd: "Crowd", sub: str, token: str, *, is_to_be_cut: bool) -> None:
        self._crowd = crowd
        self.sub = sub
        self.token = token
        self.key = f"tap-{sub}"
        self.is_to_be_cut = is_to_be_cut
        self.intended_s = 0.0
        self.late_s = 0.0
        """How much later than planned the first frame left: the generator's own fault, and part of the latency."""
        self.told: list[dict[str, Any]] = []
        self.answer: str | None = None
        self.answered_s: float | None = None
        self.order: str | None = None
        self.status: str | None = None
        self.confirmed_s: float | None = None
        self.cuts = 0
        self._asking_since_s: float | None = None
        self._failures = 0
        self._is_through = False
        self._connection: Connection | None = None
        """The connection that has been welcomed."""
        self._welcomed: asyncio.Future[bool] | None = None

    # Coming in.

    async def enter(self) -> None:
        """Connected and welcomed. Comes back after refusals that pass."""
        loop = asyncio.get_running_loop()
        while True:
            self._welcomed = loop.create_future()
            asked_s = 0.0
            try:
                await connect(
                    self._crowd.live_url,
                    self.token,
                    self._crowd.codec,
                    on_frame=self._on_frame,
                    on_close=self._on_close,
                    pending=self._pending(),
                )
                if await self._welcomed:
                    return
            except HandshakeRefused as refused:
                if refused.status != 429 and refused.status < 500:
                    raise
                asked_s = refused.retry_after_s or 0.0
            except OSError:
                pass
            await asyncio.sleep(self._crowd.backoff.delay_s(self._failures, asked_s=asked_s))
            self._failures += 1

    def _pending(self) -> list[dict[str, str]]:
        is_open = self._asking_since_s is not None or (self.order is not None and self.confirmed_s is None)
        return [{"sale": self._crowd.sale, "key": self.key}] if is_open else []

    async def come_back(self) -> None:
        try:
            await self.enter()
        except HandshakeRefused as refused:
            self._told("away", status=refused.status)
            self._finish(f"refused {refused.status}")
            return
        self._crowd.reconnects += 1
        if self._asking_since_s is not None:
            self._send_later()

    # Tapping.

    def tap(self) -> None:
        """At the intended time: the tap is on its way."""
        planned_s = self.intended_s + self._crowd.network.delay_s()
        self._asking_since_s = planned_s
        self._crowd.agenda.at(planned_s, self._send_first, planned_s)

    def _send_first(self, planned_s: float) -> None:
        now = self._crowd.agenda.now()
        self.late_s = now - planned_s
        self._send()
        if self.is_to_be_cut:
            # Before the answer is read: what comes in is read no earlier than the least delay.
            self._crowd.agenda.at(now + random.uniform(0.0, self._crowd.network.least_delay_s), self._cut)

    def _send(self) -> None:
        if self.answer is not None or self._connection is None:
            return  # answered meanwhile, or asked again once back
        self._asking_since_s = self._crowd.agenda.now()
        self._connection.send(self._crowd.frame(self.key))

    def _send_later(self, asked_s: float = 0.0) -> None:
        delay_s = self._crowd.network.delay_s() + asked_s
        self._asking_since_s = self._crowd.agenda.now() + delay_s
        self._crowd.agenda.at(self._asking_since_s, self._send)

    def ask_again_if_silent(self) -> None:
        since_s = self._asking_since_s
        if since_s is not None and self._crowd.agenda.now() - since_s > ASK_AGAIN_AFTER_S:
            self._told("silence")
            self._send_later()

    def _cut(self) -> None:
        if self._connection is not None:
            self.cuts += 1
            self._told("cut")
            self._connection.abort()

    # Hearing.

    def _on_frame(self, connection: Connection, told: ToViewer, payload: bytes) -> None:
        if told.t in ("reply", "order", "error", "bye"):
            self._hear_later(connection, told)
        elif told.t == "welcome":
            # This frame can come before `connect` has returned, and what follows it is for this connection.
            self._connection = connection
            if self._welcomed is not None and not self._welcomed.done():
                self._welcomed.set_result(True)
            if not self._pending():
                return
            for known in self._crowd.codec.read_whole(payload).get("orders") or ():
                if known.get("order") and known.get("status"):
                    state = ToViewer(t="order", order=known["order"], status=known["status"])
                    self._hear_later(connection, state)

    def _hear_later(self, connection: Connection, told: ToViewer) -> None:
        agenda = self._crowd.agenda
        agenda.at(agenda.now() + self._crowd.network.delay_s(), self._hear, connection, told)

    def _hear(self, connection: Connection, told: ToViewer) -> None:
        if connection is not self._connection:
            return  # it was on a socket that has been cut
        match told.t:
            case "reply" if told.id == self.key:
                self._answered(told)
            case "order":
                self._changed(told)
            case "error" if told.id == self.key:
                self._told("error", code=told.code, retryable=told.retryable)
                if told.retryable:
                    self._again(told)
                else:
                    self._finish(f"error {told.code}")
            case "bye":
                self._told("bye", code=told.code)

    def _answered(self, told: ToViewer) -> None:
        self._told(
            "reply",
            outcome=told.outcome,
            order=told.order,
            amount_minor=told.amount_minor,
            replayed=told.replayed or None,
            left=told.left,
        )
        if told.outcome == OrderOutcome.TOO_FAST:
            self._again(told)
        elif self.answer is None:
            self.order = told.order
            self._finish(told.outcome or "")

    def _finish(self, answer: str) -> None:
        self._asking_since_s = None
        self.answer = answer
        self.answered_s = self._crowd.agenda.now()
        self._through_if_settled()

    def _changed(self, told: ToViewer) -> None:
        self._told("order", order=told.order, status=told.status, reason=told.reason)
        if self.status is None and told.status != "reserved":
            self.status = told.status
            self.confirmed_s = self._crowd.agenda.now()
            self._through_if_settled()

    def _through_if_settled(self) -> None:
        is_settled = self.answer is not None and (self.order is None or self.confirmed_s is not None)
        if is_settled and not self._is_through:
            self._is_through = True
            self._crowd.one_is_through()

    def _again(self, told: ToViewer) -> None:
        self._send_later(self._crowd.backoff.delay_s(self._failures, asked_s=(told.retry_after_ms or 0) / 1000))
        self._failures += 1

    def _told(self, what: str, **facts: Any) -> None:
        at_s = self._crowd.agenda.now() - self._crowd.started_s
        self.told.append({"what": what, "at_s": round(at_s, 6), **{k: v for k, v in facts.items() if v is not None}})

    def _on_close(self, connection: Connection, code: int, reason: str) -> None:
        if self._welcomed is not None and not self._welcomed.done():
            self._welcomed.set_result(False)  # `enter` tries again
            return
        self._connection = None
        if self._crowd.is_over:
            return
        if may_return(code):
            now = self._crowd.agenda.now()
            # Quick at first, as a phone that finds its network again; spread, so that a crowd does not come at once.
            self._crowd.agenda.at(now + self._crowd.backoff.delay_s(self._failures), self._crowd.bring_back, self)
        elif self.answer is None:
            self._told("away", code=code, reason=reason)
            self._finish(f"closed {code}")

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Crowd:
    """All viewers of a surge, what they share, and when they are through."""

    def __init__(
        self,
        *,
        live_url: str,
        sale: str,
        sku: str,
        quantity: int,
        codec: Codec,
        network: Network,
        tokens: Mapping[str, str],
    ) -> None:
        self.live_url = live_url
        self.sale = sale
        self.codec = codec
        self.network = network
        self.agenda = Agenda()
        self.backoff = Backoff(base_s=0.25, cap_s=2.0)
        self.started_s = 0.0
        self.reconnects = 0
        self.is_over = False
        self._sku = sku
        self._quantity = quantity
        self.shoppers = [Shopper(self, sub, token, is_to_be_cut=False) for sub, token in tokens.items()]
        for shopper in random.sample(self.shoppers, round(len(self.shoppers) * network.cut_share)):
            shopper.is_to_be_cut = True
        self._open = len(self.shoppers)
        """Viewers without a true answer, or with an order that is only reserved."""
        self._done = asyncio.Event()
        self._returning: set[asyncio.Task[None]] = set()

    def frame(self, key: str) -> dict[str, object]:
        return order_frame(key, self.sale, self._sku, self._quantity)

    async def enter(self) -> None:
        gate = asyncio.Semaphore(CONNECT_AT_ONCE)

        async def one(shopper: Shopper) -> None:
            async with gate:
                await shopper.enter()

        async with asyncio.TaskGroup() as group:
            for shopper in self.shoppers:
                group.create_task(one(shopper))

    def start(self, offsets_s: list[float], *, lead_s: float) -> float:
        """Each viewer taps at its offset from the start, which is `lead_s` from now. Returns the start."""
        self.started_s = self.agenda.now() + lead_s
        for shopper, offset_s in zip(self.shoppers, offsets_s, strict=True):
            shopper.intended_s = self.started_s + offset_s
            self.agenda.at(shopper.intended_s, shopper.tap)
        self.agenda.at(self.started_s + ASK_AGAIN_AFTER_S, self._sweep)
        return self.started_s

    async def through(self, *, within_s: float) -> bool:
        """Whether all have their true answers and the later states of their orders in time."""
        try:
            async with asyncio.timeout(within_s):
                await self._done.wait()
        except TimeoutError:
            return False
        return True

    async def leave(self) -> None:
        self.is_over = True
        for task in self._returning:
            task.cancel()
        await asyncio.gather(*self._returning, return_exceptions=True)
        for shopper in self.shoppers:
            shopper.leave()

    # What the viewers report.

    def bring_back(self, shopper: Shopper) -> None:
        task = asyncio.create_task(shopper.come_back())
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)

    def one_is_through(self) -> None:
        self._open -= 1
        if self._open == 0:
            self._done.set()

    def _sweep(self) -> None:
        for shopper in self.shoppers:
            shopper.ask_again_if_silent()
        if not self._done.is_set() and not self.is_over:
            self.agenda.at(self.agenda.now() + SWEEP_EVERY_S, self._sweep)
