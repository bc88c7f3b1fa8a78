"""A coupon that was made for a room opens by the clock: the room is shown it. What hosts drop is told by the drop."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

EVERY_S = 1.0
# Looked for ahead of its time, past the next look, so that a slow one makes nothing late.
AHEAD_MS = 1500
# And behind: a look that failed, a keeper that began a moment too late.
BEHIND_MS = 5000


class Opening(Protocol):
    @property
    def coupon_no(self) -> int: ...
    @property
    def at_ms(self) -> int: ...


class Ledger(Protocol):
    async def coupon_openings(self, from_ms: int, to_ms: int) -> Sequence[Opening]: ...


class Server(Protocol):
    async def time_s(self) -> float:
        """Of the orders Valkey, by whose time a coupon opens."""
        ...


class Clocks(Protocol):
    @property
    def trusted(self) -> bool:
        """While not, Valkey lets no coupon open."""
        ...


class CouponOpenings:
    """Each opening is noted once by each keeper, at its time or after it, also after an outage. What was noted is
    remembered for as long as it is looked for."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        server: Server,
        clocks: Clocks,
        opened: Callable[[int], None],
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`opened` hears of the coupon, and tells its room."""
        self._ledger = ledger
        self._server = server
        self._clocks = clocks
        self._opened = opened
        self._clock = clock
        self._sleep = sleep
        self._noted: set[tuple[int, int]] = set()
        self._from_ms: int | None = None
        """Openings before it are noted, or too old."""

    async def run(self) -> None:
        while True:
            next_s = self._clock.monotonic() + EVERY_S
            try:
                await self.step()
            except GatewayError as error:
                log.warning("coupon_openings_wait", error=str(error))
            await self._sleep(max(0.0, next_s - self._clock.monotonic()))

    async def step(self) -> None:
        """Notes what opened and was not noted, and what opens soon, each at its time."""
        now_ms = await self._now_ms()
        from_ms = now_ms - BEHIND_MS if self._from_ms is None else min(self._from_ms, now_ms - BEHIND_MS)
        found = await self._ledger.coupon_openings(from_ms, now_ms + AHEAD_MS)
        due = sorted({(each.at_ms, each.coupon_no) for each in found} - self._noted)
        for at_ms, coupon_no in due:
            while (ahead_ms := at_ms - await self._now_ms()) > 0:
                if ahead_ms > AHEAD_MS:
                    return  # the clock was set back: the next look will be by what it is then
                await self._sleep(ahead_ms / 1000)
            if not self._clocks.trusted:
                # It opens once they are: until then it is looked for.
                self._from_ms = min(from_ms, at_ms)
                return
            self._opened(coupon_no)
            self._noted.add((at_ms, coupon_no))
        self._from_ms = now_ms - BEHIND_MS
        self._noted = {each for each in self._noted if each[0] >= self._from_ms}

    async def _now_ms(self) -> int:
        return int(await self._server.time_s() * 1000)
