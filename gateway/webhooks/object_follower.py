"""Queues what shops want to hear of rooms and sales; notices sales that open and close, by the clock or by an act."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import structlog

from gateway.domain.room import Room
from gateway.domain.sale import ItemCounts, Sale
from gateway.domain.webhook import Event, EventType, ObjectNews
from gateway.errors import GatewayError, HotUnavailable, LedgerRejected, ShardClosed
from gateway.webhooks.events import room_event, sale_event

log = structlog.get_logger(__name__)

EVERY_S: Final = 0.5
_AT_ONCE: Final = 100
_STUCK_PAUSE_S: Final = 5.0


class News(Protocol):
    """`gateway.ledger.news.LedgerNews`."""

    async def tell_sales(self, now_ms: int) -> int: ...
    async def objects(self, *, most: int) -> list[ObjectNews]: ...
    async def hand_on_object(self, news: ObjectNews, event: Event | None) -> bool: ...


class Rooms(Protocol):
    async def find(self, room_no: int) -> Room | None: ...


class Sales(Protocol):
    async def find(self, sale_no: int) -> Sale | None: ...
    async def counts(self, sale_no: int) -> Mapping[int, tuple[int, int, int]]: ...


class HotCounts(Protocol):
    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None: ...


class Server(Protocol):
    async def time_s(self) -> float:
        """Of the orders Valkey, by whose time a sale sells."""
        ...


class Clocks(Protocol):
    @property
    def trusted(self) -> bool:
        """While not, Valkey lets no sale open."""
        ...


class ObjectFollower:
    """Each start and end of a room, each opening and closing of a sale is queued once, however many keepers look and
    whichever of them dies; a sale's within a second, after an outage as soon as it is over."""

    def __init__(
        self,
        *,
        news: News,
        rooms: Rooms,
        sales: Sales,
        hot: Mapping[int, HotCounts],
        server: Server,
        clocks: Clocks,
        live_url: str,
        wake: Callable[[], None],
    ) -> None:
        self._news = news
        self._rooms = rooms
        self._sales = sales
        self._hot = hot
        self._server = server
        self._clocks = clocks
        self._live_url = live_url
        self._wake = wake

    async def run(self) -> None:
        while True:
            try:
                await self.step()
            except LedgerRejected as error:
                log.error("news_stuck", error=str(error))
                await asyncio.sleep(_STUCK_PAUSE_S)
            except GatewayError as error:
                log.warning("news_wait", error=str(error))
            await asyncio.sleep(EVERY_S)

    async def step(self) -> None:
        try:
            if self._clocks.trusted:
                await self._news.tell_sales(int(await self._server.time_s() * 1000))
        except HotUnavailable as error:
            # What befell rooms is told without Valkey too.
            log.warning("news_wait", error=str(error))
        while found := await self._news.objects(most=_AT_ONCE):
            for news in found:
                event = await self._event(news) if news.wanted else None
                if await self._news.hand_on_object(news, event) and event is not None:
                    self._wake()

    async def _event(self, news: ObjectNews) -> Event | None:
        if news.type in (EventType.ROOM_STARTED, EventType.ROOM_ENDED):
            room = await self._rooms.find(news.object_no)
            if room is None:
                return None
            body = room_event(news.type, room, live_url=self._live_url, at_ms=news.at_ms)
            return Event(news.shop_no, news.type, room.room, body)
        sale = await self._sales.find(news.object_no)
        if sale is None:
            return None
        try:
            counts = await self._hot[sale.shard].counts(sale)
        except (HotUnavailable, ShardClosed):
            counts = None  # it is shown without them, as over HTTP
        ledger = await self._sales.counts(sale.sale_no)
        body = sale_event(news.type, sale, counts=counts, ledger=ledger, at_ms=news.at_ms)
        return Event(news.shop_no, news.type, sale.sale, body)
