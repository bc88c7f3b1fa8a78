"""A viewer's comments over however many sockets it takes: each is asked under one id until it is answered."""

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.client.asking import Asking, Pending
from gateway.client.backoff import Backoff
from gateway.client.codec import ToViewer
from gateway.client.connection import Connection
from gateway.client.errors import NoAnswer, error_of
from gateway.client.waiting import fail, tell, wait_as_one_of
from gateway.domain.comment import CommentOutcome
from gateway.errors import GatewayError

# What passes by waiting; the other outcomes stay until a host or the viewer changes something.
ASK_LATER: Final = frozenset({CommentOutcome.SLOW_MODE, CommentOutcome.TOO_FAST})
# A comment is answered by the next call of its room, at most a second away: after this long the frame is lost.
ASK_AGAIN_AFTER_S: Final = 5.0


class CommentAnswer(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The answer to a comment. One this client does not know means: shown to nobody."""

    outcome: str
    id: str
    comment: str | None = None
    """By this the author knows it again in a tick."""
    at_ms: int | None = None
    retry_after_ms: int | None = None
    replayed: bool = False

    @property
    def is_posted(self) -> bool:
        return self.outcome == CommentOutcome.POSTED

    @property
    def passes(self) -> bool:
        """Refused for now only: the same id may be asked again after `retry_after_ms`."""
        return self.outcome in ASK_LATER


_Pending = Pending[CommentAnswer]
OnPosted = Callable[[str, CommentAnswer], None]
"""Called once with the text of each comment that was posted."""


class CommentDesk:
    """Posts comments on the connection there is, and asks again on the next one, under the same id.

    A comment nobody waits for any more is not asked again: it is not said in nobody's name.
    """

    def __init__(self, *, backoff: Backoff, on_posted: OnPosted) -> None:
        self._asking = Asking(backoff=backoff, again_after_s=ASK_AGAIN_AFTER_S)
        self._on_posted = on_posted
        self._pending: dict[str, _Pending] = {}
        self._ended: GatewayError | None = None

    async def comment(self, id: str, text: str, *, insist: bool, within_s: float) -> CommentAnswer:
        if self._ended is not None:
            raise self._ended
        frame = {"t": "comment", "id": id, "text": text}
        pending = self._pending.get(id)
        if pending is None:
            pending = self._pending[id] = _Pending(frame)
        elif pending.frame != frame:
            raise ValueError(f"The id {id} is on its way with another text.")
        pending.insist = insist
        if not pending.waiters:
            self._asking.ask(pending)
        try:
            return await wait_as_one_of(pending.waiters, within_s, NoAnswer(id))
        finally:
            if not pending.waiters:
                self._drop(pending)

    # The life of the connections below.

    def welcomed(self, connection: Connection) -> None:
        self._asking.connection = connection
        for pending in tuple(self._pending.values()):
            self._asking.ask(pending)

    def disconnected(self) -> None:
        self._asking.connection = None
        for pending in self._pending.values():
            pending.stop_timer()

    def end(self, error: GatewayError) -> None:
        """No further connection: what waits raises `error`."""
        if self._ended is None:
            self._ended = error
            for pending in self._pending.values():
                pending.stop_timer()
                fail(pending.waiters, error)

    # What the gateway says.

    def replied(self, told: ToViewer) -> bool:
        """Whether the reply is to a comment of ours."""
        pending = self._pending.get(told.id or "")
        if pending is None or told.outcome is None:
            return False
        answer = CommentAnswer(
            outcome=told.outcome,
            id=pending.frame["id"],
            comment=told.comment,
            at_ms=told.at_ms,
            retry_after_ms=told.retry_after_ms,
            replayed=told.replayed,
        )
        if answer.passes and pending.insist:
            self._asking.ask_later(pending, told.retry_after_ms)
            return True
        # Dropped before anybody is told: a second reply to the same id then finds nobody.
        self._drop(pending)
        if answer.is_posted:
            self._on_posted(pending.frame["text"], answer)
        tell(pending.waiters, answer)
        return True

    def refused(self, told: ToViewer) -> bool:
        """Whether the error frame is about a comment of ours."""
        pending = self._pending.get(told.id or "")
        if pending is None:
            return False
        error = error_of(
            str(told.code), told.message, retryable=told.retryable, retry_after_ms=told.retry_after_ms, param=told.param
        )
        if error.retryable and pending.insist:
            self._asking.ask_later(pending, told.retry_after_ms)
        else:
            self._drop(pending)
            fail(pending.waiters, error)
        return True

    def _drop(self, pending: _Pending) -> None:
        pending.stop_timer()
        if self._pending.get(pending.frame["id"]) is pending:
            del self._pending[pending.frame["id"]]
