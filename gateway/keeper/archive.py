"""Takes what was said in rooms from the rooms Valkey into the ledger."""

import asyncio
import random
from collections.abc import Iterable, Sequence
from typing import Protocol

import msgspec
import structlog

from gateway.domain.archive import Retraction, SaidBatch, SaidEntry
from gateway.domain.live import ArchivedComment
from gateway.errors import GatewayError, LedgerRejected
from gateway.metrics import ARCHIVE_PARKED, ARCHIVE_WAITING, ARCHIVED_COMMENTS
from gateway.wire import said

log = structlog.get_logger(__name__)

EVERY_S = 0.25
# A transaction of so many takes some tens of milliseconds, on a connection that others wait for as well.
COMMENTS_AT_ONCE = 2000
# Entries in one read of all room shards; an entry has what one call brought, a comment or a hundred.
ENTRIES_AT_ONCE = 1024
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


class Stream(Protocol):
    async def waiting(self) -> Sequence[int]: ...
    async def read(self, room_shards: Sequence[int], *, count: int) -> Sequence[SaidEntry]: ...
    async def forget(self, entries: Iterable[SaidEntry]) -> None: ...
    async def park(self, entry: SaidEntry, *, reason: str) -> None: ...


class Ledger(Protocol):
    async def keep(self, batch: SaidBatch) -> int | None:
        """How many comments are new; None when another one archives just now."""
        ...


class CommentArchive:
    """Each comment that reaches a stream is in the ledger once, whoever dies when: an entry is forgotten after its
    commit, and the ledger takes a repeat as nothing. An outage is waited for, the stream keeps what is said meanwhile.
    What cannot be read or stored is parked, and keeps nothing else from the ledger.

    With nothing said it asks for sixteen lengths four times a second, however many rooms there are."""

    def __init__(
        self,
        *,
        stream: Stream,
        ledger: Ledger,
        comments_at_once: int = COMMENTS_AT_ONCE,
        entries_at_once: int = ENTRIES_AT_ONCE,
    ) -> None:
        self._stream = stream
        self._ledger = ledger
        self._comments_at_once = comments_at_once
        self._entries_at_once = entries_at_once

    async def run(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while True:
            try:
                if not await self.step():
                    await asyncio.sleep(EVERY_S)
                pause_s = _SHORTEST_PAUSE_S
            except GatewayError as error:
                log.warning("archive_waits", error=str(error))
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    async def step(self) -> bool:
        """One read and what follows from it; whether there is more to do at once."""
        waiting = await self._stream.waiting()
        ARCHIVE_WAITING.set(sum(waiting))
        busy = [room_shard for room_shard, count in enumerate(waiting) if count]
        if not busy:
            return False
        count = max(1, self._entries_at_once // len(busy))
        part: list[tuple[SaidEntry, said.Entry]] = []
        comments = 0
        for raw in await self._stream.read(busy, count=count):
            try:
                entry = said.decode(raw.body)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                await self._park(raw, str(error))
                continue
            more = sum(isinstance(item, said.Said) for item in entry.items)
            if part and comments + more > self._comments_at_once:
                if not await self._keep(part):
                    return False
                part, comments = [], 0
            part.append((raw, entry))
            comments += more
        if part and not await self._keep(part):
            return False
        return max(waiting) > count

    async def _keep(self, part: Sequence[tuple[SaidEntry, said.Entry]]) -> bool:
        """False when another one archives just now, who forgets what it kept."""
        try:
            new = await self._ledger.keep(_batch(entry for _, entry in part))
        except LedgerRejected as error:
            if len(part) == 1:
                await self._park(part[0][0], str(error))
                return True
            middle = len(part) // 2
            return await self._keep(part[:middle]) and await self._keep(part[middle:])
        if new is None:
            return False
        ARCHIVED_COMMENTS.inc(new)
        await self._stream.forget(raw for raw, _ in part)
        return True

    async def _park(self, entry: SaidEntry, reason: str) -> None:
        # Not the entry itself: it has what people wrote.
        log.error("said_entry_parked", room_shard=entry.room_shard, id=entry.id.decode(), reason=reason)
        await self._stream.park(entry, reason=reason)
        ARCHIVE_PARKED.inc()


def _batch(entries: Iterable[said.Entry]) -> SaidBatch:
    batch = SaidBatch()
    for entry in entries:
        room_no, epoch = entry.room_no, entry.epoch
        for item in entry.items:
            match item:
                case said.Said(n, at_ms, viewer, sub, name, text):
                    batch.comments.append(ArchivedComment(room_no, epoch, n, at_ms, viewer, sub, name, text))
                case said.CommentGone(n, actor):
                    batch.retractions.append(Retraction(room_no, epoch, n, None, actor))
                case said.ViewerGone(viewer, up_to_n, actor):
                    batch.retractions.append(Retraction(room_no, epoch, up_to_n, viewer, actor))
                case said.Likes(total):
                    batch.likes[room_no] = max(total, batch.likes.get(room_no, 0))
    return batch
