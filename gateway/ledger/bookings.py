"""Bookings in the ledger: made and taken back while their room is scheduled, told once when it starts."""

from typing import NamedTuple

from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("bookings.sql")


class Booked(NamedTuple):
    at_ms: int
    already: bool


class LedgerBookings:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def book(self, room_no: int, viewer: str) -> Booked | None:
        """The viewer's booking, the one there was if there was one; None for a room that is not scheduled any more."""
        made: int | None = await self._ledger.fetchval(_QUERIES["book"], room_no, viewer)
        if made is not None:
            return Booked(made, already=False)
        there = await self.find(room_no, viewer)
        return None if there is None else Booked(there, already=True)

    async def cancel(self, room_no: int, viewer: str) -> None:
        """Nothing is taken back once the room has started: then it is told, or was."""
        await self._ledger.execute(_QUERIES["cancel"], room_no, viewer)

    async def find(self, room_no: int, viewer: str) -> int | None:
        """When it was booked."""
        booked_at_ms: int | None = await self._ledger.fetchval(_QUERIES["find"], room_no, viewer)
        return booked_at_ms

    async def count(self, room_no: int) -> int:
        return int(await self._ledger.fetchval(_QUERIES["count"], room_no))

    async def calls(self, *, most: int) -> list[int]:
        """Rooms that started and have bookings nobody was told of yet."""
        return [row["room_no"] for row in await self._ledger.fetch(_QUERIES["calls"], most)]

    async def tell(self, room_no: int, *, most: int) -> int | None:
        """Queues the next notices of a room, each once whoever else does the same; how many, or None when all are
        queued or another keeper is at it."""
        told: int | None = await self._ledger.fetchval(_QUERIES["tell"], room_no, most)
        return told
