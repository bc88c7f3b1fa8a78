"""Later states of orders: heard on the bus when all goes well, asked for when not.

The bus loses messages. So this process remembers each order it placed (or was told of at a welcome) until it has
heard of it, and asks the ledger in one query about those it has not heard of for two seconds.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.ids import IdMint, OrderId, OrderPlace
from gateway.domain.order import LOST, Order, OrderStatus
from gateway.errors import GatewayError
from gateway.metrics import CONFIRM_SECONDS, UNCONFIRMED
from gateway.wire import bus

log = structlog.get_logger(__name__)

ASK_AFTER_S = 2.0
# An order the ledger still lacks after this long is told by its key or id, no longer by this process of itself.
FORGET_AFTER_S = 900.0
_ASK_EVERY_S = 0.5
_ASK_MOST = 2_000
_EARLY_MAX = 10_000
_SOON_MAX = 20_000


class Ledger(Protocol):
    async def by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Order]: ...
    async def lost(self, places: Sequence[OrderPlace], order_ids: Sequence[str]) -> set[str]: ...


class Sink(Protocol):
    """One socket of a viewer."""

    def order_changed(self, state: bus.LaterState, *, placed_here: bool) -> None: ...


class _Waiting:
    __slots__ = ("ask_at_s", "placed_s", "sale_no", "shop", "viewer")

    def __init__(self, *, sale_no: int, shop: str, viewer: str, placed_s: float) -> None:
        self.sale_no = sale_no
        self.shop = shop
        self.viewer = viewer
        self.placed_s = placed_s
        self.ask_at_s = placed_s + ASK_AFTER_S


class OrderWatch:
    """Brings later states to every socket of the viewer here, and to who awaits an order.

    Bounded by the backlog the scripts allow: an order waits here only while the ledger does not have it.
    """

    def __init__(self, *, ledger: Ledger, mint: IdMint, clock: Clock) -> None:
        self._ledger = ledger
        self._mint = mint
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._sinks: dict[str, dict[str, list[Sink]]] = defaultdict(dict)
        self._futures: dict[str, list[asyncio.Future[bus.LaterState]]] = {}
        self._soon: list[str] = []
        self._viewers = 0
        self._early: dict[str, None] = {}
        self._hurry = asyncio.Event()

    # Who wants to know.

    def join(self, shop: str, viewer: str, sink: Sink) -> None:
        self._sinks[shop].setdefault(viewer, []).append(sink)
        self._viewers += 1

    def leave(self, shop: str, viewer: str, sink: Sink) -> None:
        sinks = self._sinks[shop].get(viewer)
        if sinks and sink in sinks:
            sinks.remove(sink)
            self._viewers -= 1
            if not sinks:
                del self._sinks[shop][viewer]

    def sinks_of(self, shop: str, viewer: str) -> Sequence[Sink]:
        return self._sinks[shop].get(viewer, ())

    def placed(self, order: OrderId, *, sale_no: int, shop: str, viewer: str, ask_now: bool = False) -> None:
        """The order is reserved and its confirmation not heard of. `ask_now`: it may have been confirmed long ago."""
        if order in self._early and not ask_now:
            del self._early[order]
        elif order not in self._waiting:
            self._waiting[order] = _Waiting(sale_no=sale_no, shop=shop, viewer=viewer, placed_s=self._clock.monotonic())
        if ask_now and len(self._soon) < _SOON_MAX:
            # Past the bound it waits for the usual question, two seconds later.
            self._soon.append(order)
            self._hurry.set()

    def ask_all(self) -> None:
        """An epoch ended: what became of every order that waits here is known now."""
        soon = set(self._soon)
        self._soon += [order for order in self._waiting if order not in soon][: _SOON_MAX - len(self._soon)]
        self._hurry.set()

    @contextmanager
    def listening(self, order: OrderId) -> Iterator[asyncio.Future[bus.LaterState]]:
        """The next later state of an order, heard from here on; whoever wants the present one asks inside."""
        waiting: asyncio.Future[bus.LaterState] = asyncio.get_running_loop().create_future()
        self._futures.setdefault(order, []).append(waiting)
        try:
            yield waiting
        finally:
            waiters = self._futures.get(order)
            if waiters is not None and waiting in waiters:
                waiters.remove(waiting)
                if not waiters:
                    del self._futures[order]

    # Where it comes from.

    def hear(self, message: bus.Applied | bus.LaterStates) -> None:
        """What was told on the bus by who changed orders."""
        if not (self._waiting or self._viewers or self._futures):
            return
        now_s = self._clock.monotonic()
        for group in bus.decode_shops(message.shops):
            sinks = self._sinks.get(group.shop)
            for state in group.orders:
                waiting = self._waiting.pop(state.order, None)
                if waiting is not None:
                    CONFIRM_SECONDS.observe(now_s - waiting.placed_s)
                elif (sinks is None or state.viewer not in sinks) and state.order not in self._futures:
                    continue
                else:
                    # Perhaps placed here, and told of faster than the script's reply: it is not waited for then.
                    self._early[state.order] = None
                    if len(self._early) > _EARLY_MAX:
                        del self._early[next(iter(self._early))]
                self._deliver(group.shop, state, placed_here=waiting is not None)

    async def run(self) -> None:
        """Asks the ledger about what was not heard of; runs until cancelled."""
        while True:
            try:
                async with asyncio.timeout(_ASK_EVERY_S):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            self._hurry.clear()
            UNCONFIRMED.set(len(self._waiting))
            try:
                await self._ask()
            except GatewayError as error:
                log.warning("confirmations_not_asked", error=str(error))

    async def _ask(self) -> None:
        now_s = self._clock.monotonic()
        while self._waiting:
            order = next(iter(self._waiting))
            if now_s - self._waiting[order].placed_s < FORGET_AFTER_S:
                break
            del self._waiting[order]
        soon, self._soon = self._soon[:_ASK_MOST], self._soon[_ASK_MOST:]
        due = [(self._waiting[order].sale_no, order) for order in soon if order in self._waiting]
        # Oldest first: a dict keeps the order in which orders were placed.
        for order, waiting in self._waiting.items():
            if now_s - waiting.placed_s < ASK_AFTER_S or len(due) >= _ASK_MOST:
                break
            if waiting.ask_at_s <= now_s:
                due.append((waiting.sale_no, order))
        if not due:
            return
        for _, order in due:
            self._waiting[order].ask_at_s = now_s + ASK_AFTER_S
        if self._soon:
            self._hurry.set()
        for order, found in (await self._ledger.by_place(due)).items():
            known = self._waiting.pop(order, None)
            if known is not None:
                state = bus.LaterState(found.viewer, order, str(found.status), found.pay_by_ms or 0, found.reason or "")
                self._deliver(known.shop, state, placed_here=True)
        missing = [order for _, order in due if order in self._waiting]
        if missing:
            await self._tell_lost(missing)

    async def _tell_lost(self, missing: Sequence[str]) -> None:
        """Of orders the ledger does not have: those it has passed over were lost with the server that promised them."""
        places = {order: place for order in missing if (place := self._mint.read_order(order)) is not None}
        for order in await self._ledger.lost(list(places.values()), list(places)):
            known = self._waiting.pop(order, None)
            if known is not None:
                log.warning("order_lost", order=order)
                state = bus.LaterState(known.viewer, order, str(OrderStatus.REFUSED), 0, LOST)
                self._deliver(known.shop, state, placed_here=True)

    def _deliver(self, shop: str, state: bus.LaterState, *, placed_here: bool) -> None:
        for waiting in self._futures.pop(state.order, ()):
            if not waiting.done():
                waiting.set_result(state)
        for sink in tuple(self._sinks[shop].get(state.viewer, ())):
            sink.order_changed(state, placed_here=placed_here)
