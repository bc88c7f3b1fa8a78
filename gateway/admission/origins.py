"""Which pages may use a shop's calls from a browser: the shop's list of origins."""

import asyncio
from collections.abc import Mapping
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

# A change reaches a process by the bus; where the bus lost it, at the latest after this time.
_FRESH_S = 15.0
_RETRY_S = 1.0


class Source(Protocol):
    async def origins(self) -> Mapping[str, frozenset[str]]:
        """The origins of every shop that has any."""
        ...


class Origins:
    """The lists of all shops, read as one. While the ledger is away the last ones read hold."""

    def __init__(self, *, source: Source, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._of_shop: Mapping[str, frozenset[str]] = {}
        self._all: frozenset[str] = frozenset()
        self._fresh_until_s = 0.0
        self._reading = asyncio.Lock()

    async def allows(self, origin: str, *, shop: str | None) -> bool:
        """Whether the shop lists it; before it is known whose call it is (a preflight), whether any shop does."""
        await self._refresh()
        return origin in (self._all if shop is None else self._of_shop.get(shop, frozenset()))

    async def of(self, shop: str) -> frozenset[str]:
        """Those that the shop lists."""
        await self._refresh()
        return self._of_shop.get(shop, frozenset())

    def refuses(self, origin: str) -> bool:
        """Whether no shop lists it, as far as is known without asking; what is not fresh refuses nobody."""
        return self._is_fresh() and origin not in self._all

    def forget(self) -> None:
        self._fresh_until_s = 0.0

    async def _refresh(self) -> None:
        if self._is_fresh():
            return
        async with self._reading:
            if self._is_fresh():
                return
            try:
                self._of_shop = await self._source.origins()
                self._all = frozenset().union(*self._of_shop.values())
                self._fresh_until_s = self._clock.monotonic() + _FRESH_S
            except GatewayError as error:
                log.warning("origins_not_read", error=str(error))
                self._fresh_until_s = self._clock.monotonic() + _RETRY_S

    def _is_fresh(self) -> bool:
        return self._fresh_until_s > self._clock.monotonic()
