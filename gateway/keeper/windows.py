"""A sale opens or closes by the clock, or one of its prices changes as planned: its room is told. What hosts do to a
sale is told by their acts, not here."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.sale import Sale, SaleState
from gateway.errors import GatewayError

log = structlog.get_logger(__name__)

EVERY_S = 1.0
# Told in one look, each at its time: past the next look, so that a slow one makes nothing late.
AHEAD_MS = 1500
# And behind: a sale whose time was set to now, a look that failed, a keeper that began a moment too late.
BEHIND_MS = 5000


class Edge(Protocol):
    """A sale opens or closes at that time, or the price of an item of it changes."""

    @property
    def sale_no(self) -> int: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def item_no(self) -> int:
        """The item; 0: the sale opens or closes."""
        ...


class Ledger(Protocol):
    async def edges(self, from_ms: int, to_ms: int) -> Sequence[Edge]: ...


class Sales(Protocol):
    async def find_many(self, sale_nos: Sequence[int]) -> Sequence[Sale]: ...


class Server(Protocol):
    async def time_s(self) -> float:
        """Of the orders Valkey, by whose time a sale sells."""
        ...


class Clocks(Protocol):
    @property
    def trusted(self) -> bool:
        """While not, Valkey lets no sale open."""
        ...


class News(Protocol):
    async def try_state(self, sale: Sale, state: SaleState) -> bool:
        """Tells the sale's room at once; False when it may not have been told."""
        ...

    async def try_prices(self, sale: Sale, prices: Sequence[tuple[str, int]]) -> bool:
        """As `try_state`, of (sku, price in minor units)."""
        ...


class _Due(NamedTuple):
    """At that time something of a sale changes: the price of an item, or (0) the sale's own state."""

    at_ms: int
    sale_no: int
    item_no: int


_About = tuple[int, int]
"""The sale's number, and the item's or 0."""


class Windows:
    """Each room hears of each opening, closing and planned price once from each keeper: never before its time, and as
    soon after it as Valkey and the ledger answer. After an outage it hears what it missed. What was told is remembered
    for as long as it is looked for, a few seconds but in an outage."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sales: Sales,
        server: Server,
        clocks: Clocks,
        news: News,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._sales = sales
        self._server = server
        self._clocks = clocks
        self._news = news
        self._clock = clock
        self._sleep = sleep
        self._told: set[_Due] = set()
        self._from_ms: int | None = None
        """Edges before it are told, or too old."""

    async def run(self) -> None:
        while True:
            next_s = self._clock.monotonic() + EVERY_S
            try:
                await self.step()
            except GatewayError as error:
                log.warning("windows_wait", error=str(error))
            await self._sleep(max(0.0, next_s - self._clock.monotonic()))

    async def step(self) -> None:
        """Tells of the edges that were not told and that come soon, each at its time."""
        now_ms = await self._now_ms()
        from_ms = now_ms - BEHIND_MS if self._from_ms is None else min(self._from_ms, now_ms - BEHIND_MS)
        found = await self._ledger.edges(from_ms, now_ms + AHEAD_MS)
        # One that is told and to come again: the clock was set back.
        self._told = {edge for edge in self._told if from_ms <= edge.at_ms <= now_ms}
        edges = sorted({_Due(edge.at_ms, edge.sale_no, edge.item_no) for edge in found} - self._told)
        held_ms = now_ms
        while edges:
            reached_ms = await self._reach(edges[0].at_ms)
            due = {edge for edge in edges if edge.at_ms <= reached_ms}
            if not due:
                return
            edges = [edge for edge in edges if edge.at_ms > reached_ms]
            held_back = await self._tell({(edge.sale_no, edge.item_no) for edge in due})
            self._told |= {edge for edge in due if (edge.sale_no, edge.item_no) not in held_back}
            held_ms = min([held_ms, *(edge.at_ms for edge in due if (edge.sale_no, edge.item_no) in held_back)])
        self._from_ms = min(held_ms, now_ms - BEHIND_MS)

    async def _reach(self, at_ms: int) -> int:
        """Returns at that time of Valkey's clock, not before it; the time it is then. It comes before that time only
        when the clock was set back: the next look will be by what it is then."""
        while at_ms - AHEAD_MS <= (now_ms := await self._now_ms()) < at_ms:
            await self._sleep((at_ms - now_ms) / 1000)
        return now_ms

    async def _tell(self, abouts: set[_About]) -> set[_About]:
        """What is to be told of again: sales that are to open and may not yet, and what a room was not told."""
        sale_nos = sorted({sale_no for sale_no, _ in abouts})
        unheard: set[_About] = set()
        states: dict[int, tuple[SaleState, int, int]] = {}
        prices: dict[_About, int] = {}
        while True:
            now_ms = await self._now_ms()
            held_back: set[_About] = set()
            news: list[tuple[list[_About], Awaitable[bool]]] = []
            for sale in await self._sales.find_many(sale_nos):
                no = sale.sale_no
                if (no, 0) in abouts:
                    state = sale.state_at(now_ms)
                    if state is SaleState.OPEN and not self._clocks.trusted:
                        held_back.add((no, 0))
                    elif states.get(no) != (now := (state, sale.opens_at_ms, sale.closes_at_ms)):
                        states[no] = now
                        news.append(([(no, 0)], self._news.try_state(sale, state)))
                items = [item for item in sale.items if (no, item.item_no) in abouts]
                cost = {(no, item.item_no): (item.sku, item.price_at(now_ms)) for item in items}
                changed = {about: each for about, each in cost.items() if prices.get(about) != each[1]}
                if changed:
                    prices.update((about, price_minor) for about, (_, price_minor) in changed.items())
                    news.append((list(changed), self._news.try_prices(sale, list(changed.values()))))
            # Until nothing is new: what a host did meanwhile may have been told before ours, and is to be heard last.
            if not news:
                return held_back | unheard
            for (told, _), is_told in zip(news, await asyncio.gather(*(telling for _, telling in news)), strict=True):
                (unheard.difference_update if is_told else unheard.update)(told)

    async def _now_ms(self) -> int:
        return int(await self._server.time_s() * 1000)
