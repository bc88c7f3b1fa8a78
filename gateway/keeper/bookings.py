"""Whoever booked a show is told that it starts: each booking becomes one outgoing notice, within seconds."""

import asyncio
from collections.abc import Sequence
from typing import Protocol

import structlog

from gateway.errors import GatewayError
from gateway.metrics import BOOKINGS_TOLD

log = structlog.get_logger(__name__)

EVERY_S = 1.0
# Notices a transaction: a few tens of milliseconds of the ledger's time, in which nothing else waits for its rows.
AT_ONCE = 2000
# Rooms a look; the next look takes the next ones.
ROOMS_AT_ONCE = 100


class Ledger(Protocol):
    async def calls(self, *, most: int) -> Sequence[int]:
        """Rooms that started and whose bookings are not all told."""
        ...

    async def tell(self, room_no: int, *, most: int) -> int | None:
        """Queues the next notices, each once; how many, or None when there is nothing to do here."""
        ...


class Bookings:
    """Which rooms are to be told stands in the ledger, since the transaction that started them. So it does not matter
    who started a room, or which keeper dies in the middle: the next one goes on where that one committed last."""

    def __init__(self, *, ledger: Ledger) -> None:
        self._ledger = ledger

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except GatewayError as error:
                log.warning("bookings_wait", error=str(error))
            await asyncio.sleep(EVERY_S)

    async def step(self) -> int:
        """Tells all there is to tell; how many bookings that were. Raises the last error after all rooms had their
        turn."""
        told, failed = 0, None
        for room_no in await self._ledger.calls(most=ROOMS_AT_ONCE):
            try:
                told += await self._tell(room_no)
            except GatewayError as error:
                failed = error
        if failed is not None:
            raise failed
        return told

    async def _tell(self, room_no: int) -> int:
        told = 0
        while (more := await self._ledger.tell(room_no, most=AT_ONCE)) is not None:
            told += more
            BOOKINGS_TOLD.inc(more)
        if told:
            log.info("bookings_told", room_no=room_no, bookings=told)
        return told
