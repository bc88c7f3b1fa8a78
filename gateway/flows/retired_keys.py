"""Orders on sales that left Valkey: the ledger is asked for the key before anybody is told `ended`."""

import asyncio
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from gateway.domain.order import HeldKey, OrderAnswer, OrderOutcome, OrderRequest
from gateway.errors import GatewayError, KeyReused, Overloaded, Unavailable

log = structlog.get_logger(__name__)

KEYS_AT_ONCE = 200
# At some thousand a second, what waits is answered within the five seconds a viewer's process waits.
QUEUE_MAX = 10_000


class Ledger(Protocol):
    async def held_keys(self, keys: Sequence[tuple[str, int, str]]) -> Mapping[tuple[str, int, str], HeldKey]:
        """By (viewer, sale number, key), those that hold an order."""
        ...


class RetiredKeys:
    """Takes requests as a group of a sale does, and answers each exactly once: the same again, a key that was used for
    something else, or `ended`. What arrives while the ledger is asked waits for the next question."""

    def __init__(self, *, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: deque[OrderRequest] = deque()
        self._asked = asyncio.Event()
        self._running = False

    def submit(self, request: OrderRequest) -> None:
        """Raises Overloaded when too many wait."""
        if not self._running:
            raise Unavailable
        if len(self._waiting) >= QUEUE_MAX:
            raise Overloaded(retry_after_ms=random.randint(200, 1000))
        self._waiting.append(request)
        self._asked.set()

    async def run(self) -> None:
        """Asks for what waits, one question at a time; what is left at the end is answered too."""
        self._running = True
        group: list[OrderRequest] = []
        try:
            while True:
                await self._asked.wait()
                self._asked.clear()
                while self._waiting:
                    group = [self._waiting.popleft() for _ in range(min(len(self._waiting), KEYS_AT_ONCE))]
                    await self._answer_all(group)
                    group = []
        finally:
            self._running = False
            for request in [*group, *self._waiting]:
                self._answer(request, Unavailable(retry_after_ms=500))
            self._waiting.clear()

    async def _answer_all(self, group: Sequence[OrderRequest]) -> None:
        try:
            held = await self._ledger.held_keys([(each.viewer, each.sale_no, each.key) for each in group])
        except GatewayError as error:
            log.warning("retired_keys_not_asked", orders=len(group), error=str(error))
            for request in group:
                self._answer(request, Unavailable(retry_after_ms=1000))
            return
        for request in group:
            self._answer(request, _judge(request, held.get((request.viewer, request.sale_no, request.key))))

    def _answer(self, request: OrderRequest, answer: OrderAnswer | Exception) -> None:
        try:
            request.answer(answer)
        except Exception:
            # One viewer's broken socket must not keep the others from their answers.
            log.exception("answer_not_delivered", sale_no=request.sale_no)


def _judge(request: OrderRequest, held: HeldKey | None) -> OrderAnswer | GatewayError:
    if held is None:
        return OrderAnswer(OrderOutcome.ENDED)
    if held.fingerprint != request.fingerprint:
        return KeyReused()
    return OrderAnswer(
        OrderOutcome.RESERVED,
        order=held.order,
        price_minor=held.price_minor,
        amount_minor=held.price_minor * request.quantity,
        at_ms=held.at_ms,
        replayed=True,
    )
