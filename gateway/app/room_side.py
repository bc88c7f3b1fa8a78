"""What every process that tells rooms anything has: their calls to the rooms Valkey, and the news it brings them."""

import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.app.base import Base
from gateway.domain.live import RoomStanding
from gateway.domain.sale import Sale
from gateway.flows.room_news import RoomNews
from gateway.flows.stock_news import StockNews
from gateway.hot.rooms import HotRooms
from gateway.hot.scripts import Scripts
from gateway.ledger.sales import LedgerSales
from gateway.rooms.calls import RoomCalls
from gateway.rooms.opening import open_room

# What was said and is not archived yet, of each room shard; an entry has what one call brought, and it is twice as many
# comments at most. Beyond it a comment is refused: the ledger has been away for long.
ARCHIVE_ENTRIES_MAX = 50_000


class RoomSide:
    def __init__(
        self,
        base: Base,
        *,
        find: Callable[[int], Coroutine[Any, Any, Sale | None]],
        standing: Callable[[int], Awaitable[RoomStanding]],
    ) -> None:
        settings = base.settings
        self.interval_ms: Callable[[int], int] = lambda room_no: settings.tick_ms
        """How far apart this process wants the ticks of a room; who has viewers knows better."""
        self.hot = HotRooms(
            client=base.rooms_valkey,
            scripts=Scripts(base.rooms_valkey),
            process=uuid.uuid4().hex[:12],
            reading_rate=settings.reading_rate,
            archive_max=ARCHIVE_ENTRIES_MAX,
        )
        self.calls = RoomCalls(
            hot=self.hot,
            standing=standing,
            interval_ms=lambda room_no: self.interval_ms(room_no),
            mint=base.mint.comment,
            clock=base.clock,
        )
        self.news = RoomNews(
            hot=self.hot,
            calls=self.calls,
            open_room=lambda room_no: open_room(self.hot, standing, room_no),
            find=LedgerSales(base.ledger, mint=base.mint).find,
            read_room=base.mint.read_room,
            clock=base.clock,
        )
        self.stock = StockNews(find=find, counters=base.hot, rooms=self.calls, read_room=base.mint.read_room)

    def works(self) -> list[Coroutine[Any, Any, None]]:
        return [self.calls.run(), self.stock.run(), self.news.run()]
