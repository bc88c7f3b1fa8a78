"""Plays a recorded chat through real sockets: each comment at its time, by the one who made it; and what came of it."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from gateway.cli.chat_file import ChatLine
from gateway.cli.figures import p50_p99
from gateway.client import CommentAnswer, Viewer
from gateway.domain.comment import CommentOutcome
from gateway.errors import GatewayError

# An author is there a little before the first word, as people are.
COME_BEFORE_S: Final = 2.0
ANSWER_WITHIN_S: Final = 15.0
# Comments seen in ticks before their author had the answer; others may talk in the room too, whose are never asked for.
MAX_EARLY: Final = 10_000
SETTLE_POLL_S: Final = 0.05

Seat = Callable[[str], Awaitable[Viewer]]
"""Brings the author of that name into the room, welcomed; asked once for each."""


class ChatTally:
    """What became of the comments so far. `saw` is to be told of every event of one viewer who follows the room."""

    def __init__(self, planned: int) -> None:
        self.planned = planned
        self.outcomes: Counter[str] = Counter()
        """Of each comment its last answer, or why there was none."""
        self.retried = 0
        self.shown = 0
        self.to_reply_ms: list[float] = []
        self.to_seen_ms: list[float] = []
        self.late_ms: list[float] = []
        """How much later than planned comments left: the player's own doing, or an author's earlier comment's."""
        self._unseen: dict[str, float] = {}
        """When each comment left that was posted and has not been seen."""
        self._early: dict[str, float] = {}

    @property
    def posted(self) -> int:
        return self.outcomes[CommentOutcome.POSTED]

    @property
    def others(self) -> dict[str, int]:
        """What became of those that were not posted."""
        return {word: count for word, count in sorted(self.outcomes.items()) if word != CommentOutcome.POSTED}

    @property
    def unseen(self) -> int:
        """Posted, and not (yet) in a tick: what the room did not show, to be read at its pace."""
        return len(self._unseen)

    def answered(self, answer: CommentAnswer, sent_s: float) -> None:
        self.outcomes[answer.outcome] += 1
        self.to_reply_ms.append((time.perf_counter() - sent_s) * 1000)
        if answer.comment is None:
            return
        seen_s = self._early.pop(answer.comment, None)
        if seen_s is None:
            self._unseen[answer.comment] = sent_s
        else:
            self._seen(sent_s, seen_s)

    def failed(self, reason: str) -> None:
        self.outcomes[reason] += 1

    def saw(self, event: dict[str, Any]) -> None:
        if event.get("k") != "comment":
            return
        now_s = time.perf_counter()
        sent_s = self._unseen.pop(event["comment"], None)
        if sent_s is not None:
            self._seen(sent_s, now_s)
            return
        self._early[event["comment"]] = now_s
        if len(self._early) > MAX_EARLY:
            del self._early[next(iter(self._early))]

    def _seen(self, sent_s: float, seen_s: float) -> None:
        self.shown += 1
        self.to_seen_ms.append((seen_s - sent_s) * 1000)

    async def settled(self, skipped: Callable[[], int], *, within_s: float) -> None:
        """Until every posted comment was seen or counted by the room as `skipped`, or the time is over."""
        deadline_s = time.perf_counter() + within_s
        # Polled: what was skipped is told by a count, with no event to wait for.
        while self.unseen > skipped() and time.perf_counter() < deadline_s:  # noqa: ASYNC110
            await asyncio.sleep(SETTLE_POLL_S)

    def figures(self) -> dict[str, Any]:
        return {
            "comments": self.planned,
            "posted": self.posted,
            "shown": self.shown,
            "not_shown": self.unseen,
            "other_outcomes": self.others,
            "retried": self.retried,
            "reply_ms": p50_p99(self.to_reply_ms),
            "seen_ms": p50_p99(self.to_seen_ms),
            "late_ms": p50_p99(self.late_ms),
        }


async def play(
    lines: Sequence[ChatLine], *, speed: float, seat: Seat, tally: ChatTally, lead_s: float = COME_BEFORE_S
) -> None:
    """Say every line at its time, `speed` times as fast as it was recorded, from `lead_s` from now on.

    An author says one thing after the other: who is told to wait keeps the own next lines waiting and nobody else's.
    """
    by_author: dict[str, list[ChatLine]] = defaultdict(list)
    for line in lines:
        by_author[line.viewer].append(line)
    start_s = time.perf_counter() + lead_s
    async with asyncio.TaskGroup() as group:
        for author, own in by_author.items():
            group.create_task(_author(author, own, start_s, speed=speed, seat=seat, tally=tally))


async def _author(
    author: str, lines: Sequence[ChatLine], start_s: float, *, speed: float, seat: Seat, tally: ChatTally
) -> None:
    await _until(start_s + lines[0].offset_s / speed - COME_BEFORE_S)
    try:
        viewer = await seat(author)
    except (GatewayError, TimeoutError) as error:
        # Who does not come in says nothing; the others go on.
        for _ in lines:
            tally.failed(getattr(error, "code", "no_welcome"))
        return
    for line in lines:
        due_s = start_s + line.offset_s / speed
        await _until(due_s)
        tally.late_ms.append((time.perf_counter() - due_s) * 1000)
        await _say(viewer, line.text, tally)


async def _say(viewer: Viewer, text: str, tally: ChatTally) -> None:
    """One comment; told to wait, it is said once more."""
    try:
        sent_s = time.perf_counter()
        answer = await viewer.comment(text, within_s=ANSWER_WITHIN_S)
        if answer.passes:
            tally.retried += 1
            await asyncio.sleep((answer.retry_after_ms or 0) / 1000)
            sent_s = time.perf_counter()
            answer = await viewer.comment(text, id=answer.id, within_s=ANSWER_WITHIN_S)
        tally.answered(answer, sent_s)
    except GatewayError as error:
        tally.failed(error.code)


async def _until(when_s: float) -> None:
    delay_s = when_s - time.perf_counter()
    if delay_s > 0:
        await asyncio.sleep(delay_s)
