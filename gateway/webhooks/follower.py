"""Reads the news of orders behind a cursor: decides whose first order one was, and queues what shops want to hear."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import structlog

from gateway.domain.order import Order, OrderStatus
from gateway.domain.sale import Sale
from gateway.domain.webhook import MAX_EVENT_BYTES, Event, NewsBatch
from gateway.errors import GatewayError, LedgerRejected
from gateway.metrics import NEWS_ORDERS
from gateway.webhooks.events import order_event

log = structlog.get_logger(__name__)

EVERY_S: Final = 0.25
# About a tenth of a second of work, after which it rests as long: in a peak, orders come before news of them.
ORDERS_AT_ONCE: Final = 1000
_LONGEST_REST_S: Final = 1.0
# A shard's turn while others may wait for theirs.
TURN_S: Final = 1.0
# Kept behind the cursor for who looks what happened just now.
KEPT_S: Final = 600.0
FORGET_EVERY_S: Final = 30.0
_FORGOTTEN_AT_ONCE: Final = 5000
_STUCK_PAUSE_S: Final = 5.0


class News(Protocol):
    """`gateway.ledger.news.LedgerNews`."""

    async def behind(self) -> list[int]: ...
    async def next(self, shard: int, *, orders_most: int) -> NewsBatch | None: ...
    async def decide_first_orders(self, shard: int, batch: NewsBatch) -> int: ...
    async def orders(self, shard: int, nos: Sequence[int]) -> list[tuple[int, int, str]]: ...
    async def hand_on(self, shard: int, batch: NewsBatch, events: Sequence[Event]) -> bool: ...
    async def forget(self, shard: int, *, older_than_s: float, most: int) -> int: ...


class Orders(Protocol):
    async def by_place(self, places: Sequence[tuple[int, str]]) -> Mapping[str, Order]: ...


class Sales(Protocol):
    async def find_many(self, sale_nos: Sequence[int]) -> Sequence[Sale]: ...


class People(Protocol):
    async def of(self, orders: Sequence[Order], *, to_staff: bool) -> Sequence[Order]:
        """The orders with what is shown beside them."""
        ...


class Follower:
    """Every change of an order that the ledger has is handed on once, in the order of the changes, and first orders are
    decided in the order in which orders were confirmed. An order that Valkey lost was never in the ledger, and nothing
    is told of it. Each step can be repeated: the cursor moves in the transaction that queues, and only from where it
    was read. With nothing new it asks one question four times a second."""

    def __init__(
        self,
        *,
        news: News,
        orders: Orders,
        sales: Sales,
        people: People,
        shards: Sequence[int],
        wake: Callable[[], None],
        orders_at_once: int = ORDERS_AT_ONCE,
    ) -> None:
        self._news = news
        self._orders = orders
        self._sales = sales
        self._people = people
        self._shards = shards
        self._wake = wake
        self._orders_at_once = orders_at_once
        self._forget_at_s = 0.0
        self._stuck_until_s: dict[int, float] = {}

    async def run(self) -> None:
        while True:
            has_all = True
            try:
                for shard in await self._news.behind():
                    has_all &= await self._turn(shard)
                await self._forget()
            except GatewayError as error:
                log.warning("news_wait", error=str(error))
            if has_all:
                await asyncio.sleep(EVERY_S)

    async def _turn(self, shard: int) -> bool:
        """Of one shard: the peak of one, or that one stands still, keeps no other waiting. False when there is more."""
        if time.monotonic() < self._stuck_until_s.get(shard, 0.0):
            return True
        try:
            return await self.catch_up(shard, within_s=TURN_S)
        except LedgerRejected as error:
            # It stands still for good, and nothing is lost: the news wait.
            log.error("news_stuck", shard=shard, error=str(error))
            self._stuck_until_s[shard] = time.monotonic() + _STUCK_PAUSE_S
            return True

    async def catch_up(self, shard: int, *, within_s: float = math.inf) -> bool:
        """Whether all was handed on in about that time."""
        until_s = time.monotonic() + within_s
        began_s = time.monotonic()
        while await self.step(shard):
            took_s = time.monotonic() - began_s
            await asyncio.sleep(min(took_s, _LONGEST_REST_S))
            began_s = time.monotonic()
            if began_s >= until_s:
                return False
        return True

    async def step(self, shard: int) -> bool:
        """One batch; False when there was none."""
        batch = await self._news.next(shard, orders_most=self._orders_at_once)
        if batch is None:
            return False
        await self._news.decide_first_orders(shard, batch)
        events = await self._events(shard, batch)
        if await self._news.hand_on(shard, batch, events):
            NEWS_ORDERS.inc(len(events))
            if events:
                self._wake()
        return True

    async def _events(self, shard: int, batch: NewsBatch) -> list[Event]:
        wanted = {row.no: row for row in batch.rows if row.wanted}
        if not wanted:
            return []
        places = await self._news.orders(shard, list(wanted))
        found = await self._orders.by_place([(sale_no, order_id) for _, sale_no, order_id in places])
        shown = {str(order.order): order for order in await self._people.of(list(found.values()), to_staff=True)}
        sales = {sale.sale_no: sale for sale in await self._sales.find_many(sorted({place[1] for place in places}))}
        events = []
        for no, sale_no, order_id in places:
            row, order, sale = wanted[no], shown.get(order_id), sales.get(sale_no)
            if order is None or sale is None:
                continue
            body = order_event(order, sale, status=OrderStatus(row.status), at_ms=row.at_ms)
            if len(body.encode()) > MAX_EVENT_BYTES:
                log.error("event_too_long", order=order_id, bytes=len(body))
                continue
            events.append(Event(row.shop_no, f"order.{row.status}", order_id, body))
        return events

    async def _forget(self) -> None:
        if time.monotonic() < self._forget_at_s:
            return
        for shard in self._shards:
            while await self._news.forget(shard, older_than_s=KEPT_S, most=_FORGOTTEN_AT_ONCE) == _FORGOTTEN_AT_ONCE:
                pass
        self._forget_at_s = time.monotonic() + FORGET_EVERY_S
