"""Orders and claims on what left Valkey: the ledger is asked for the key before anybody is told `ended`."""

import asyncio
import random
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

import structlog

from gateway.domain.coupon import Claim, ClaimAnswer, ClaimOutcome, ClaimRequest
from gateway.domain.order import HeldKey, OrderAnswer, OrderOutcome, OrderRequest
from gateway.errors import GatewayError, KeyReused, Overloaded, Unavailable

log = structlog.get_logger(__name__)

KEYS_AT_ONCE = 200
# At some thousand a second, what waits is answered within the five seconds a viewer's process waits.
QUEUE_MAX = 10_000


class Request(Protocol):
    @property
    def answer(self) -> Any: ...


R = TypeVar("R", bound=Request)
A = TypeVar("A")


class Questions(Generic[R, A]):
    """Takes requests as a group does, and answers each exactly once, as `judge` has it. What arrives while the ledger
    is asked waits for the next question."""

    def __init__(self) -> None:
        self._waiting: deque[R] = deque()
        self._asked = asyncio.Event()
        self._running = False

    async def judge(self, group: Sequence[R]) -> Sequence[A | GatewayError]:
        """An answer for each of the group. Raises GatewayError while the ledger cannot be asked."""
        raise NotImplementedError

    def submit(self, request: R) -> None:
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
        group: list[R] = []
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

    async def _answer_all(self, group: Sequence[R]) -> None:
        try:
            answers = await self.judge(group)
        except GatewayError as error:
            log.warning("retired_keys_not_asked", keys=len(group), error=str(error))
            for request in group:
                self._answer(request, Unavailable(retry_after_ms=1000))
            return
        for request, answer in zip(group, answers, strict=True):
            self._answer(request, answer)

    def _answer(self, request: R, answer: A | GatewayError) -> None:
        try:
            request.answer(answer)
        except Exception:
            # One viewer's broken socket must not keep the others from their answers.
            log.exception("answer_not_delivered")


class Ledger(Protocol):
    async def held_keys(self, keys: Sequence[tuple[str, int, str]]) -> Mapping[tuple[str, int, str], HeldKey]:
        """By (viewer, sale number, key), those that hold an order."""
        ...


class RetiredKeys(Questions[OrderRequest, OrderAnswer]):
    """The same answer again, a key that was used for something else, or `ended`."""

    def __init__(self, *, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    async def judge(self, group: Sequence[OrderRequest]) -> Sequence[OrderAnswer | GatewayError]:
        held = await self._ledger.held_keys([(each.viewer, each.sale_no, each.key) for each in group])
        return [_judge(each, held.get((each.viewer, each.sale_no, each.key))) for each in group]


class ClaimLedger(Protocol):
    async def claims_by_keys(self, keys: Sequence[tuple[str, int, str]]) -> Mapping[tuple[str, int, str], Claim]:
        """By (viewer, coupon number, key), those that hold a claim."""
        ...


class RetiredClaims(Questions[ClaimRequest, ClaimAnswer]):
    """The same claim again, or `ended`."""

    def __init__(self, *, ledger: ClaimLedger) -> None:
        super().__init__()
        self._ledger = ledger

    async def judge(self, group: Sequence[ClaimRequest]) -> Sequence[ClaimAnswer | GatewayError]:
        held = await self._ledger.claims_by_keys([(each.viewer, each.coupon_no, each.key) for each in group])
        return [_judge_claim(held.get((each.viewer, each.coupon_no, each.key))) for each in group]


def _judge(request: OrderRequest, held: HeldKey | None) -> OrderAnswer | GatewayError:
    if held is None:
        return OrderAnswer(OrderOutcome.ENDED)
    if held.fingerprint != request.fingerprint:
        return KeyReused()
    return OrderAnswer(
        OrderOutcome.RESERVED,
        order=held.order,
        price_minor=held.price_minor,
        discount_minor=held.discount_minor,
        amount_minor=held.price_minor * request.quantity - held.discount_minor,
        at_ms=held.at_ms,
        replayed=True,
    )


def _judge_claim(held: Claim | None) -> ClaimAnswer:
    if held is None:
        return ClaimAnswer(ClaimOutcome.ENDED)
    return ClaimAnswer(
        ClaimOutcome.CLAIMED, claim=held.claim, value_minor=held.value_minor, at_ms=held.at_ms, replayed=True
    )
