"""A viewer's orders over however many sockets it takes: keys until their true answer, and every later state."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway.client.asking import Asking
from gateway.client.backoff import Backoff
from gateway.client.codec import ToViewer
from gateway.client.connection import Connection
from gateway.client.errors import NoAnswer, error_of
from gateway.client.orders import KnownOrder, OrderAnswer, PendingOrder, PendingOrders
from gateway.client.waiting import fail, tell, wait_as_one_of
from gateway.domain.order import DECIDE_WITHIN_S, OrderOutcome, OrderStatus
from gateway.errors import GatewayError, OutcomeUnknown

# A request is decided within 5 s or not at all: after that and a generous network, silence is a lost frame.
ASK_AGAIN_AFTER_S = DECIDE_WITHIN_S + 2.0

OnOrder = Callable[[KnownOrder], None]
"""Called when an order is first told of, and at each change of its status."""


class OrderDesk:
    """Places orders on the connection there is, and asks again on the next one.

    A key is kept until its true answer and, when that was `reserved`, until a later state. Asking again always means
    the same key with the same content. A key whose callers gave up is still named to the gateway but not asked again:
    an order is never placed in nobody's name.
    """

    def __init__(self, *, backoff: Backoff, on_order: OnOrder | None) -> None:
        self.orders: dict[str, KnownOrder] = {}
        self._asking = Asking(backoff=backoff, again_after_s=ASK_AGAIN_AFTER_S)
        self._on_order = on_order
        self._pending = PendingOrders()
        self._state_waiters: dict[str, list[asyncio.Future[KnownOrder]]] = {}
        self._ended: GatewayError | None = None

    async def order(self, frame: Mapping[str, Any], *, insist: bool, within_s: float) -> OrderAnswer:
        if self._ended is not None:
            raise self._ended
        pending = self._pending.find(frame["id"])
        if pending is None or pending.order is not None:
            pending = PendingOrder(frame)
            self._pending.add(pending)
        elif pending.frame != frame:
            raise ValueError(f"The key {pending.key} is on its way with other content.")
        pending.insist = insist
        if not pending.waiters:
            self._asking.ask(pending)
        try:
            return await wait_as_one_of(pending.waiters, within_s, NoAnswer(pending.key))
        finally:
            if not pending.waiters:
                pending.stop_timer()
                pending.doubtful = True

    async def confirmed(self, order: str, *, within_s: float) -> KnownOrder:
        known = self.orders.get(order)
        if known is not None and not known.is_reserved:
            return known
        if self._ended is not None:
            raise self._ended
        waiters = self._state_waiters.setdefault(order, [])
        return await wait_as_one_of(
            waiters, within_s, TimeoutError(f"{order} is still only reserved after {within_s} s.")
        )

    # The life of the connections below.

    def named(self) -> list[dict[str, str]]:
        """The keys a `hello` names."""
        return self._pending.named()

    def welcomed(self, connection: Connection, known: Iterable[Mapping[str, Any]]) -> None:
        """A connection is ready; `known` is what became of the keys its `hello` named."""
        self._asking.connection = connection
        told = set()
        for entry in known:
            told.add((entry.get("sale"), entry.get("key")))
            order, status = entry.get("order"), entry.get("status")
            if isinstance(order, str) and isinstance(status, str):
                names = ("key", "sale", "amount_minor", "pay_by_ms", "reason")
                self._learn(order, status, **{name: entry.get(name) for name in names})
        for pending in self._pending:
            # An unconfirmed order that the `hello` had no room for is asked after by a repeat, which changes nothing.
            is_untold = pending.order is not None and (pending.frame["sale"], pending.key) not in told
            if pending.is_asked or is_untold:
                self._asking.ask(pending)

    def disconnected(self) -> None:
        self._asking.connection = None
        for pending in self._pending:
            pending.stop_timer()
            pending.doubtful = True

    def end(self, error: GatewayError) -> None:
        """No further connection: what waits raises `error`."""
        if self._ended is not None:
            return
        self._ended = error
        for pending in self._pending:
            pending.stop_timer()
            fail(pending.waiters, error)
        for waiters in self._state_waiters.values():
            fail(waiters, error)
        self._state_waiters.clear()

    # What the gateway says.

    def replied(self, told: ToViewer) -> None:
        pending = self._pending.find(told.id)
        if pending is None or told.outcome is None:
            return
        is_too_fast = told.outcome == OrderOutcome.TOO_FAST
        if is_too_fast and pending.insist and pending.is_asked:
            self._asking.ask_later(pending, told.retry_after_ms)
            return
        pending.stop_timer()
        if told.outcome == OrderOutcome.RESERVED and told.order is not None:
            self._pending.reserved(pending, told.order)
            frame = pending.frame
            self._learn(
                told.order,
                told.status or OrderStatus.RESERVED,
                key=pending.key,
                sale=frame["sale"],
                sku=frame["sku"],
                quantity=frame["quantity"],
                amount_minor=told.amount_minor,
            )
        elif not (is_too_fast and pending.doubtful):
            # `too_fast` was not looked at: it says nothing about an earlier try, whose key is kept.
            self._pending.drop(pending)
        if pending.waiters:
            answer = OrderAnswer(
                outcome=told.outcome,
                key=pending.key,
                order=told.order,
                amount_minor=told.amount_minor,
                replayed=told.replayed,
                left=told.left,
                may_return=told.may_return,
                opens_at_ms=told.opens_at_ms,
                retry_after_ms=told.retry_after_ms,
            )
            tell(pending.waiters, answer)

    def refused(self, told: ToViewer) -> None:
        """An error frame; one that names no order in flight is not ours to answer."""
        pending = self._pending.find(told.id)
        if pending is None or not pending.is_asked:
            return
        error = error_of(
            str(told.code),
            told.message,
            retryable=told.retryable,
            retry_after_ms=told.retry_after_ms,
            param=told.param,
        )
        if error.retryable and pending.insist:
            self._asking.ask_later(pending, told.retry_after_ms)
            return
        if not isinstance(error, OutcomeUnknown) and not (error.retryable and pending.doubtful):
            self._pending.drop(pending)
        fail(pending.waiters, error)

    def changed(self, told: ToViewer) -> None:
        """A later state of an order."""
        if told.order is not None and told.status is not None:
            self._learn(told.order, told.status, pay_by_ms=told.pay_by_ms, reason=told.reason)

    def _learn(self, order: str, status: str, **facts: Any) -> None:
        known = self.orders.get(order)
        status_before = None if known is None else known.status
        if known is None:
            known = self.orders[order] = KnownOrder(order=order, status=status)
        elif status != OrderStatus.RESERVED:
            # A later state can overtake the reply, which then does not take it back.
            known.status = status
        for name, value in facts.items():
            if value is not None:
                setattr(known, name, value)
        if not known.is_reserved:
            self._pending.settled(order)
            tell(self._state_waiters.pop(order, ()), known)
        if self._on_order is not None and known.status != status_before:
            self._on_order(known)
