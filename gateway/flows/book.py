"""Things of shops that this process knows, so that the hot path asks no database. Only facts; the scripts judge."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from gateway.clock import Clock
from gateway.errors import LedgerUnavailable, NotFound

KNOWN_MAX = 10_000
# What a host changed reaches a process by the bus; where the bus lost it, at the latest after this time.
FRESH_S = 5.0


class OfShop(Protocol):
    @property
    def shop(self) -> str: ...


T = TypeVar("T", bound=OfShop)


class Book(Generic[T]):
    """A bounded cache by number. What is shown from it may be seconds old; nothing is decided by it."""

    def __init__(
        self,
        *,
        find: Callable[[int], Awaitable[T | None]],
        read_id: Callable[[str], int | None],
        id_of: Callable[[T], str],
        missing: str,
        clock: Clock,
    ) -> None:
        """`read_id` is the number that an id of ours names; `missing` is said of an id that names nothing."""
        self._ask = find
        self._read_id = read_id
        self._id_of = id_of
        self._missing = missing
        self._clock = clock
        self._known: OrderedDict[int, tuple[float, T]] = OrderedDict()
        self._numbers: dict[str, int] = {}
        self._finding: dict[int, asyncio.Future[T | None]] = {}

    def cached(self, shop: str, id: str) -> T | None:
        """The thing when it is known here and of this shop, however old; for the hot path."""
        number = self._numbers.get(id)
        if number is None:
            return None
        thing = self._known[number][1]
        return thing if thing.shop == shop else None

    def cached_no(self, number: int) -> T | None:
        """As `cached`, by number and of whichever shop."""
        known = self._known.get(number)
        return None if known is None else known[1]

    async def get(self, shop: str, id: str) -> T:
        """Raises NotFound for an id that names nothing of this shop; an id we never made asks no database."""
        number = self._read_id(id)
        thing = None if number is None else await self.by_no(number)
        if thing is None or thing.shop != shop or self._id_of(thing) != id:
            raise NotFound(self._missing)
        return thing

    async def by_no(self, number: int) -> T | None:
        now_s = self._clock.monotonic()
        known = self._known.get(number)
        if known is not None and now_s - known[0] < FRESH_S:
            return known[1]
        # Thousands may ask for a sale in the moment it opens; one of them asks the ledger.
        finding = self._finding.get(number)
        if finding is None:
            finding = self._finding[number] = asyncio.ensure_future(self._find(number))
        try:
            return await asyncio.shield(finding)
        except LedgerUnavailable:
            # Old facts are better than none: nothing is decided by them.
            if known is None:
                raise
            return known[1]

    async def _find(self, number: int) -> T | None:
        now_s = self._clock.monotonic()
        try:
            thing = await self._ask(number)
        finally:
            del self._finding[number]
        if thing is not None:
            self._known[number] = (now_s, thing)
            self._known.move_to_end(number)
            self._numbers[self._id_of(thing)] = number
            if len(self._known) > KNOWN_MAX:
                self.forget(next(iter(self._known)))
        return thing

    def forget(self, number: int) -> None:
        known = self._known.pop(number, None)
        if known is not None:
            self._numbers.pop(self._id_of(known[1]), None)
