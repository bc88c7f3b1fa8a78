"""A sale opens or closes by the clock: its room is told. What hosts do to a sale is told by their acts, not here."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

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
    """A sale opens or closes at that time."""

    @property
    def sale_no(self) -> int: ...
    @property
    def at_ms(self) -> int: ...


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


class Windows:
    """Each room hears of each opening and closing once from each keeper: never before its time, and as soon after it
    as Valkey and the ledger answer. After an outage it hears what it missed. What was told is remembered for as long
    as it is looked for, a few seconds but in an outage."""

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
        self._told: set[tuple[int, int]] = set()
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
        self._told = {edge for edge in self._told if from_ms <= edge[1] <= now_ms}
        edges = sorted((edge.at_ms, edge.sale_no) for edge in found if (edge.sale_no, edge.at_ms) not in self._told)
        held_ms = now_ms
        while edges:
            reached_ms = await self._reach(edges[0][0])
            due = {(sale_no, at_ms) for at_ms, sale_no in edges if at_ms <= reached_ms}
            if not due:
                return
            edges = [edge for edge in edges if edge[0] > reached_ms]
            held_back = await self._tell(sorted({sale_no for sale_no, _ in due}))
            self._told |= {edge for edge in due if edge[0] not in held_back}
            held_ms = min([held_ms, *(at_ms for sale_no, at_ms in due if sale_no in held_back)])
        self._from_ms = min(held_ms, now_ms - BEHIND_MS)

    async def _reach(self, at_ms: int) -> int:
        """Returns at that time of Valkey's clock, not before it; the time it is then. It comes before that time only
        when the clock was set back: the next look will be by what it is then."""
        while at_ms - AHEAD_MS <= (now_ms := await self._now_ms()) < at_ms:
            await self._sleep((at_ms - now_ms) / 1000)
        return now_ms

    async def _tell(self, sale_nos: Sequence[int]) -> set[int]:
        """The sales that are to be told of again: they are to open and may not yet, or their room was not told."""
        unheard: set[int] = set()
        told: dict[int, tuple[SaleState, int, int]] = {}
        while True:
            now_ms = await self._now_ms()
            held_back = set()
            news: list[tuple[Sale, SaleState]] = []
            for sale in await self._sales.find_many(sale_nos):
                state = sale.state_at(now_ms)
                if state is SaleState.OPEN and not self._clocks.trusted:
                    held_back.add(sale.sale_no)
                elif told.get(sale.sale_no) != (now := (state, sale.opens_at_ms, sale.closes_at_ms)):
                    told[sale.sale_no] = now
                    news.append((sale, state))
            # Until nothing is new: what a host did meanwhile may have been told before ours, and is to be heard last.
            if not news:
                return held_back | unheard
            heard = await asyncio.gather(*(self._news.try_state(sale, state) for sale, state in news))
            for (sale, _), is_told in zip(news, heard, strict=True):
                (unheard.discard if is_told else unheard.add)(sale.sale_no)

    async def _now_ms(self) -> int:
        return int(await self._server.time_s() * 1000)
