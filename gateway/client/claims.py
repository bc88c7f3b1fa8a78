"""A viewer's claims of coupons over however many sockets it takes: keys until their true answer, and later states."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from gateway.client.asking import Asking, Pending
from gateway.client.backoff import Backoff
from gateway.client.codec import ToViewer
from gateway.client.connection import Connection
from gateway.client.errors import NoAnswer, error_of
from gateway.client.waiting import fail, tell, wait_as_one_of
from gateway.domain.coupon import ClaimOutcome, ClaimState
from gateway.domain.order import DECIDE_WITHIN_S
from gateway.errors import GatewayError

# A request is decided within 5 s or not at all: after that and a generous network, silence is a lost frame.
ASK_AGAIN_AFTER_S: Final = DECIDE_WITHIN_S + 2.0


class ClaimAnswer(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The true answer to a claim. An outcome this client does not know is a refusal."""

    outcome: str
    key: str
    claim: str | None = None
    value_minor: int | None = None
    replayed: bool = False
    opens_at_ms: int | None = None
    retry_after_ms: int | None = None

    @property
    def is_claimed(self) -> bool:
        return self.outcome == ClaimOutcome.CLAIMED


class KnownClaim(msgspec.Struct, gc=False, kw_only=True):
    """A claim of this viewer with the latest state the gateway told."""

    claim: str
    state: str = ClaimState.CLAIMED
    coupon: str | None = None
    key: str | None = None
    value_minor: int | None = None
    reason: str | None = None

    @property
    def is_only_claimed(self) -> bool:
        """No later state was told."""
        return self.state == ClaimState.CLAIMED


class _Pending(Pending[ClaimAnswer]):
    """One key on its way: in flight until its true answer, then unconfirmed until a later state."""

    __slots__ = ("claim",)

    def __init__(self, frame: Mapping[str, Any]) -> None:
        super().__init__(frame)
        self.claim: str | None = None
        """The claim it became, once answered."""

    @property
    def is_answered(self) -> bool:
        return self.claim is not None


class ClaimDesk:
    """Claims on the connection there is, and asks again on the next one: always the same key for the same coupon.

    A key whose callers gave up is still named to the gateway but not asked again: nothing is claimed in nobody's name.
    """

    def __init__(self, *, backoff: Backoff) -> None:
        self.claims: dict[str, KnownClaim] = {}
        self._asking = Asking(backoff=backoff, again_after_s=ASK_AGAIN_AFTER_S)
        self._pending: dict[str, _Pending] = {}
        self._state_waiters: dict[str, list[asyncio.Future[KnownClaim]]] = {}
        self._ended: GatewayError | None = None

    async def claim(self, key: str, coupon: str, *, insist: bool, within_s: float) -> ClaimAnswer:
        if self._ended is not None:
            raise self._ended
        frame = {"t": "claim", "id": key, "coupon": coupon}
        pending = self._pending.get(key)
        if pending is None or pending.claim is not None:
            pending = self._pending[key] = _Pending(frame)
        elif pending.frame != frame:
            raise ValueError(f"The key {key} is on its way for another coupon.")
        pending.insist = insist
        if not pending.waiters:
            self._asking.ask(pending)
        try:
            return await wait_as_one_of(pending.waiters, within_s, NoAnswer(key))
        finally:
            if not pending.waiters:
                pending.stop_timer()

    async def confirmed(self, claim: str, *, within_s: float) -> KnownClaim:
        known = self.claims.get(claim)
        if known is not None and not known.is_only_claimed:
            return known
        if self._ended is not None:
            raise self._ended
        waiters = self._state_waiters.setdefault(claim, [])
        return await wait_as_one_of(
            waiters, within_s, TimeoutError(f"{claim} is still only claimed after {within_s} s.")
        )

    # The life of the connections below.

    def named(self, most: int) -> list[dict[str, str]]:
        """The keys a `hello` names, those in flight first."""
        pending = sorted(self._pending.values(), key=lambda pending: pending.claim is not None)
        return [{"coupon": each.frame["coupon"], "key": each.frame["id"]} for each in pending[: max(0, most)]]

    def welcomed(self, connection: Connection, known: Iterable[Mapping[str, Any]]) -> None:
        """A connection is ready; `known` is what became of the keys its `hello` named."""
        self._asking.connection = connection
        told = set()
        for entry in known:
            told.add((entry.get("coupon"), entry.get("key")))
            claim, state = entry.get("claim"), entry.get("state")
            if isinstance(claim, str) and isinstance(state, str):
                names = ("coupon", "key", "value_minor", "reason")
                self._learn(claim, state, **{name: entry.get(name) for name in names})
        for pending in tuple(self._pending.values()):
            is_untold = pending.claim is not None and (pending.frame["coupon"], pending.frame["id"]) not in told
            if pending.is_asked or is_untold:
                self._asking.ask(pending)

    def disconnected(self) -> None:
        self._asking.connection = None
        for pending in self._pending.values():
            pending.stop_timer()

    def end(self, error: GatewayError) -> None:
        """No further connection: what waits raises `error`."""
        if self._ended is not None:
            return
        self._ended = error
        for pending in self._pending.values():
            pending.stop_timer()
            fail(pending.waiters, error)
        for waiters in self._state_waiters.values():
            fail(waiters, error)
        self._state_waiters.clear()

    # What the gateway says.

    def replied(self, told: ToViewer) -> bool:
        """Whether the reply is to a claim of ours."""
        pending = self._pending.get(told.id or "")
        if pending is None or told.outcome is None:
            return False
        is_too_fast = told.outcome == ClaimOutcome.TOO_FAST
        if is_too_fast and pending.insist and pending.is_asked:
            self._asking.ask_later(pending, told.retry_after_ms)
            return True
        pending.stop_timer()
        key = pending.frame["id"]
        if told.outcome == ClaimOutcome.CLAIMED and told.claim is not None:
            pending.claim = told.claim
            self._learn(
                told.claim,
                ClaimState.CLAIMED,
                coupon=pending.frame["coupon"],
                key=key,
                value_minor=told.value_minor,
            )
        elif not is_too_fast:
            # `too_fast` was not looked at: it says nothing about an earlier try, whose key is kept.
            self._pending.pop(key, None)
        answer = ClaimAnswer(
            outcome=told.outcome,
            key=key,
            claim=told.claim,
            value_minor=told.value_minor,
            replayed=told.replayed,
            opens_at_ms=told.opens_at_ms,
            retry_after_ms=told.retry_after_ms,
        )
        tell(pending.waiters, answer)
        return True

    def refused(self, told: ToViewer) -> bool:
        """Whether the error frame is about a claim of ours."""
        pending = self._pending.get(told.id or "")
        if pending is None:
            return False
        error = error_of(
            str(told.code), told.message, retryable=told.retryable, retry_after_ms=told.retry_after_ms, param=told.param
        )
        if error.retryable and pending.insist and pending.is_asked:
            self._asking.ask_later(pending, told.retry_after_ms)
            return True
        if not error.retryable:
            self._pending.pop(pending.frame["id"], None)
        fail(pending.waiters, error)
        return True

    def changed(self, told: ToViewer) -> None:
        """A later state of a claim."""
        if told.claim is not None and told.state is not None:
            self._learn(told.claim, told.state, reason=told.reason)

    def _learn(self, claim: str, state: str, **facts: Any) -> None:
        known = self.claims.get(claim)
        if known is None:
            known = self.claims[claim] = KnownClaim(claim=claim, state=state)
        elif state != ClaimState.CLAIMED:
            # A later state can overtake the reply, which then does not take it back.
            known.state = state
        for name, value in facts.items():
            if value is not None:
                setattr(known, name, value)
        if not known.is_only_claimed:
            for key in [key for key, pending in self._pending.items() if pending.claim == claim]:
                self._pending.pop(key).stop_timer()
            tell(self._state_waiters.pop(claim, ()), known)
