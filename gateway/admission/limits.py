"""What shops may use, as a process that holds sockets knows it, and the pace of their comments."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from gateway.admission.limiter import Limiter
from gateway.domain.limits import DEFAULT, ShopLimits
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

# A change reaches a process by the bus; where the bus lost it, at the latest after this time.
_EVERY_S: Final = 5.0
# A comment may wait for this much of the pace at once, so that a room's laughter is not taken for a flood.
_BURST_S: Final = 1.0


class Source(Protocol):
    async def limits(self) -> Mapping[str, ShopLimits]:
        """By shop, of those that are limited."""
        ...


class Limits:
    """Asks nobody when it is asked: the lists are read anew beside it. While the ledger is away the last ones hold."""

    def __init__(self, *, source: Source) -> None:
        self._source = source
        self._of_shop: Mapping[str, ShopLimits] = {}
        self._changed = asyncio.Event()

    def of(self, shop: str) -> ShopLimits:
        return self._of_shop.get(shop, DEFAULT)

    def look_soon(self) -> None:
        """Somebody says that limits of a shop changed."""
        self._changed.set()

    async def run(self) -> None:
        while True:
            await self.look()
            try:
                async with asyncio.timeout(_EVERY_S):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def look(self) -> None:
        self._changed.clear()
        try:
            self._of_shop = await self._source.limits()
        except GatewayError as error:
            log.warning("limits_not_read", error=str(error))


class CommentPace:
    """A shop's comments in this process: its share of the shop's limit, since viewers are spread over the processes."""

    def __init__(self, *, limits: Limits, processes: Callable[[], int]) -> None:
        self._limits = limits
        self._processes = processes
        self._limiters: dict[str, tuple[float, Limiter]] = {}

    def wait_s(self, shop: str, now_s: float) -> float:
        """0 when a comment may go on (and is counted), else the seconds until one may."""
        limit = self._limits.of(shop).comments_per_s
        if limit is None:
            self._limiters.pop(shop, None)
            return 0.0
        share = limit / max(1, self._processes())
        known = self._limiters.get(shop)
        if known is None or known[0] != share:
            known = self._limiters[shop] = (share, Limiter(rate=share, burst=max(1, round(share * _BURST_S))))
        return known[1].wait_s(shop, now_s)
