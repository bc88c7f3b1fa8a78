"""A viewer says something: normalised, within the limits, without banned words, then to the room."""

from collections.abc import Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.comment import CommentAnswer, CommentOutcome, CommentRequest, normalised
from gateway.errors import GatewayError, Unavailable
from gateway.metrics import COMMENTS

Answer = Callable[[CommentAnswer | Exception], None]
MAX_NAME_LENGTH = 40


class Rooms(Protocol):
    """`gateway.rooms.calls.RoomCalls`."""

    def comment(self, room_no: int, request: CommentRequest) -> None: ...


class Limiter(Protocol):
    def wait_s(self, who: str, now_s: float) -> float: ...


class PostComment:
    """Staff are not limited: a host answers many viewers at once. `shop_wait_s` is the pace of a whole shop, asked for
    what its viewer's own let pass."""

    def __init__(
        self,
        *,
        rooms: Rooms,
        limiter: Limiter,
        clock: Clock,
        shop_wait_s: Callable[[str, float], float] = lambda shop, now_s: 0.0,
    ) -> None:
        self._rooms = rooms
        self._limiter = limiter
        self._shop_wait_s = shop_wait_s
        self._clock = clock
        self._admitting = True

    def stop_admitting(self) -> None:
        self._admitting = False

    def submit(
        self,
        caller: Caller,
        *,
        room_no: int,
        viewer: str,
        id: str,
        text: str,
        refuses: Callable[[str], bool],
        answer: Answer,
        has_ended: bool = False,
    ) -> None:
        """`viewer` is the caller's pseudonym in the room; `refuses` says whether a text has a banned word; `has_ended`:
        the room, in which nobody says anything more."""
        now_s = self._clock.monotonic()
        try:
            if not self._admitting:
                raise Unavailable("This process is going away; repeat elsewhere.", retry_after_ms=500)
            said = normalised(text)
            if has_ended:
                answer(CommentAnswer(CommentOutcome.COMMENTS_OFF))
                return
            if not caller.is_staff:
                wait_s = self._limiter.wait_s(f"{caller.shop}|{caller.sub}", now_s) or self._shop_wait_s(
                    caller.shop, now_s
                )
                if wait_s > 0:
                    COMMENTS.labels("too_fast").inc()
                    answer(CommentAnswer(CommentOutcome.TOO_FAST, retry_after_ms=int(wait_s * 1000) + 1))
                    return
            self._rooms.comment(
                room_no,
                CommentRequest(
                    viewer=viewer,
                    sub=caller.sub,
                    name=(caller.name or "")[:MAX_NAME_LENGTH],
                    id=id,
                    text=said,
                    is_staff=caller.is_staff,
                    is_banned=not caller.is_staff and refuses(said),
                    arrived_s=now_s,
                    answer=answer,
                ),
            )
        except GatewayError as error:
            answer(error)
