"""The log of what hosts did to a room; read together with what they did to its sales and dropped in it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from gateway.domain.acts import ActDone, ActPlace, RoomAct
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

QUERIES = load_queries("room_acts.sql")
_NEWEST = ActPlace(at_ms=2**62, of_room=1, epoch=2**31 - 1, no=2**62)
_to_json = msgspec.json.Encoder().encode


async def note_act(connection: Any, room_no: int, act: RoomAct, *, actor: str, before: Any, after: Any) -> None:
    """In the transaction that does it, behind the lock of what it changes: so the log has the order of the acts."""
    await connection.execute(QUERIES["insert"], room_no, str(act), actor, jsonb(before), jsonb(after), True)


def jsonb(value: Any) -> str | None:
    return None if value is None else _to_json(value).decode()


class LedgerActs:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def of_room(self, room_no: int, *, limit: int, after: ActPlace | None = None) -> Sequence[ActDone]:
        """Newest first, behind the act at `after`."""
        rows = await self._ledger.fetch(QUERIES["of_room"], room_no, *(after or _NEWEST), limit)
        return [
            ActDone(
                place=ActPlace(row["at_ms"], row["of_room"], row["epoch"], row["no"]),
                act=row["act"],
                actor=row["actor"],
                sale=row["sale"],
                coupon=row["coupon"],
                before=_read(row["before"]),
                after=_read(row["after"]),
                reason=row["reason"],
            )
            for row in rows
        ]


def _read(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)
