"""A request over however many sockets its answer takes: sent on the connection there is, and again when nothing comes.

What an answer means, and which requests a new connection asks again, is said by the desks.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from gateway.client.backoff import Backoff
from gateway.client.connection import Connection

T = TypeVar("T")


class Pending(Generic[T]):
    """A frame on its way; whoever asks again sends the same."""

    __slots__ = ("failures", "frame", "insist", "timer", "waiters")

    def __init__(self, frame: Mapping[str, Any]) -> None:
        self.frame = frame
        self.insist = False
        self.waiters: list[asyncio.Future[T]] = []
        """One a caller; none when they gave up."""
        self.failures = 0
        self.timer: asyncio.TimerHandle | None = None

    @property
    def is_answered(self) -> bool:
        """It is kept although it has its true answer: a later state is awaited."""
        return False

    @property
    def is_asked(self) -> bool:
        """Somebody waits for its true answer."""
        return not self.is_answered and bool(self.waiters)

    def stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Asking:
    """What is asked while there is no connection waits for the next one. A frame that somebody insists on is sent again
    when nothing was heard of it for `again_after_s`, for as long as somebody waits."""

    def __init__(self, *, backoff: Backoff, again_after_s: float) -> None:
        self.connection: Connection | None = None
        """The connection that has been welcomed."""
        self._backoff = backoff
        self._again_after_s = again_after_s

    def ask(self, pending: Pending[Any]) -> None:
        pending.stop_timer()
        if self.connection is None:
            return
        self.connection.send(pending.frame)
        if pending.insist and not pending.is_answered:
            self._ask_after(self._again_after_s, pending)

    def ask_later(self, pending: Pending[Any], retry_after_ms: int | None) -> None:
        """After a refusal that passes: no sooner than the gateway said, and slower each time."""
        pending.stop_timer()
        delay_s = self._backoff.delay_s(pending.failures, asked_s=(retry_after_ms or 0) / 1000)
        pending.failures += 1
        self._ask_after(delay_s, pending)

    def _ask_after(self, after_s: float, pending: Pending[Any]) -> None:
        pending.timer = asyncio.get_running_loop().call_later(after_s, self._ask_if_waited_for, pending)

    def _ask_if_waited_for(self, pending: Pending[Any]) -> None:
        pending.timer = None
        if pending.is_asked:
            self.ask(pending)
