"""The archive of comments: what was said in a room, who took it back, how many likes there were."""

from datetime import datetime
from typing import Any, NamedTuple

from gateway.domain.archive import SaidBatch
from gateway.domain.ids import CommentPlace
from gateway.domain.live import ArchivedComment
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("comments.sql")


class KeptComment(NamedTuple):
    """`gone_at`, `gone_by`: when and by whom it was taken back."""

    comment: ArchivedComment
    gone_at: datetime | None
    gone_by: str | None


class LedgerComments:
    """Every write may be repeated: a comment is kept once, and the first who took it back stays named."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def keep(self, batch: SaidBatch) -> int | None:
        """One transaction; how many comments are new in it. None when another one archives just now: two would only
        wait for each other's rows. Raises LedgerRejected for what it cannot store."""
        said = batch.comments
        async with self._ledger.transaction() as connection:
            if not await connection.fetchval(_QUERIES["alone"]):
                return None
            new = 0
            if said:
                status: str = await connection.execute(
                    _QUERIES["insert"],
                    [each.room_no for each in said],
                    [each.epoch for each in said],
                    [each.n for each in said],
                    [each.at_ms for each in said],
                    [_clean(each.viewer) for each in said],
                    [_clean(each.sub) for each in said],
                    [_clean(each.name) for each in said],
                    [_clean(each.text) for each in said],
                )
                new = int(status.rpartition(" ")[2])
            for gone in batch.retractions:
                at, actor = (gone.room_no, gone.epoch, gone.n), _clean(gone.actor)
                if gone.viewer is None:
                    await connection.execute(_QUERIES["comment_gone"], *at, actor)
                else:
                    await connection.execute(_QUERIES["viewer_gone"], *at, _clean(gone.viewer), actor)
            if batch.likes:
                await connection.execute(_QUERIES["likes"], list(batch.likes), list(batch.likes.values()))
            return new

    async def find(self, place: CommentPlace) -> ArchivedComment | None:
        """The comment an id names; None when it was taken back, or is not in the archive (yet)."""
        row = await self._ledger.fetchrow(_QUERIES["find"], place.room_no, place.at_ms, place.n, place.epoch)
        return None if row is None else _comment(row)

    async def of_room(self, room_no: int, *, limit: int, after: tuple[int, int] = (-1, -1)) -> list[KeptComment]:
        """As they were said, behind the comment of that (epoch, number); also those that were taken back."""
        rows = await self._ledger.fetch(_QUERIES["of_room"], room_no, *after, limit)
        return [KeptComment(_comment(row), row["gone_at"], row["gone_by"]) for row in rows]


def _comment(row: Any) -> ArchivedComment:
    return ArchivedComment(
        row["room_no"], row["epoch"], row["n"], row["at_ms"], row["viewer"], row["sub"], row["name"], row["text"]
    )


def _clean(text: str) -> str:
    """What PostgreSQL can store of a text: everything but NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")
