"""Later states of orders and claims: heard on the bus when all goes well, asked for when not.

The bus loses messages. So this process remembers each order it placed and each claim it took (or was told of at a
welcome) until it has heard of it, and asks the ledger in one query about those it has not heard of for two seconds.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.coupon import Claim, ClaimState
from gateway.domain.ids import ClaimId, ClaimPlace, IdMint, OrderId, OrderPlace
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


State = bus.LaterState | bus.LaterClaim


class Ledger(Protocol):
    async def by_place(self, places: Sequence[tuple[int, str]]) -> dict[str, Order]: ...
    async def lost(self, places: Sequence[OrderPlace], order_ids: Sequence[str]) -> set[str]: ...


class ClaimLedger(Protocol):
    async def claims_by_place(self, places: Sequence[tuple[int, str]]) -> Mapping[str, Claim]: ...
    async def lost_claims(self, places: Sequence[ClaimPlace], claim_ids: Sequence[str]) -> set[str]: ...


class Sink(Protocol):
    """One socket of a viewer."""

    def order_changed(self, state: bus.LaterState, *, placed_here: bool) -> None: ...
    def claim_changed(self, state: bus.LaterClaim, *, placed_here: bool) -> None: ...


class Asked(Protocol):
    """What the ledger says of one kind of thing that waits here."""

    async def states(self, places: Sequence[tuple[int, str]]) -> Iterable[State]:
        """Of those it has, by (number of the sale or coupon, id)."""
        ...

    async def lost(self, ids: Sequence[str]) -> Iterable[str]:
        """Of those it does not have: what it has passed over was lost with the server that promised it."""
        ...

    def lost_state(self, viewer: str, id: str) -> State: ...


class AskedOrders:
    def __init__(self, ledger: Ledger, mint: IdMint) -> None:
        self._ledger = ledger
        self._mint = mint

    async def states(self, places: Sequence[tuple[int, str]]) -> Iterable[State]:
        found = await self._ledger.by_place(places)
        return [
            bus.LaterState(order.viewer, id, str(order.status), order.pay_by_ms or 0, order.reason or "")
            for id, order in found.items()
        ]

    async def lost(self, ids: Sequence[str]) -> Iterable[str]:
        places = {id: place for id in ids if (place := self._mint.read_order(id)) is not None}
        return await self._ledger.lost(list(places.values()), list(places))

    def lost_state(self, viewer: str, id: str) -> State:
        return bus.LaterState(viewer, id, str(OrderStatus.REFUSED), 0, LOST)


class AskedClaims:
    def __init__(self, ledger: ClaimLedger, mint: IdMint) -> None:
        self._ledger = ledger
        self._mint = mint

    async def states(self, places: Sequence[tuple[int, str]]) -> Iterable[State]:
        found = await self._ledger.claims_by_place(places)
        return [bus.LaterClaim(claim.viewer, id, str(claim.state), claim.reason or "") for id, claim in found.items()]

    async def lost(self, ids: Sequence[str]) -> Iterable[str]:
        places = {id: place for id in ids if (place := self._mint.read_claim(id)) is not None}
        return await self._ledger.lost_claims(list(places.values()), list(places))

    def lost_state(self, viewer: str, id: str) -> State:
        return bus.LaterClaim(viewer, id, str(ClaimState.REFUSED), LOST)


class _Waiting:
    __slots__ = ("ask_at_s", "kind", "number", "placed_s", "shop", "viewer")

    def __init__(self, *, kind: Asked, number: int, shop: str, viewer: str, placed_s: float) -> None:
        self.kind = kind
        self.number = number
        """Of its sale or coupon."""
        self.shop = shop
        self.viewer = viewer
        self.placed_s = placed_s
        self.ask_at_s = placed_s + ASK_AFTER_S


class OrderWatch:
    """Brings later states to every socket of the viewer here, and to who awaits an order.

    Bounded by the backlog the scripts allow: an order or claim waits here only while the ledger does not have it.
    """

    def __init__(self, *, ledger: Ledger, claims: ClaimLedger, mint: IdMint, clock: Clock) -> None:
        self._orders = AskedOrders(ledger, mint)
        self._claims = AskedClaims(claims, mint)
        self._clock = clock
        self._waiting: dict[str, _Waiting] = {}
        self._sinks: dict[str, dict[str, list[Sink]]] = defaultdict(dict)
        self._futures: dict[str, list[asyncio.Future[bus.LaterState]]] = {}
        """By order: who awaits its next state."""
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
        self._wait(order, self._orders, number=sale_no, shop=shop, viewer=viewer, ask_now=ask_now)

    def claimed(self, claim: ClaimId, *, coupon_no: int, shop: str, viewer: str, ask_now: bool = False) -> None:
        """As `placed`, of a claim."""
        self._wait(claim, self._claims, number=coupon_no, shop=shop, viewer=viewer, ask_now=ask_now)

    def _wait(self, id: str, kind: Asked, *, number: int, shop: str, viewer: str, ask_now: bool) -> None:
        if id in self._early and not ask_now:
            del self._early[id]
        elif id not in self._waiting:
            self._waiting[id] = _Waiting(
                kind=kind, number=number, shop=shop, viewer=viewer, placed_s=self._clock.monotonic()
            )
        if ask_now and len(self._soon) < _SOON_MAX:
            # Past the bound it waits for the usual question, two seconds later.
            self._soon.append(id)
            self._hurry.set()

    def ask_all(self) -> None:
        """An epoch ended: what became of everything that waits here is known now."""
        soon = set(self._soon)
        self._soon += [id for id in self._waiting if id not in soon][: _SOON_MAX - len(self._soon)]
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
            for order in group.orders:
                self._hear(group.shop, order.order, order, sinks, now_s)
            for claim in group.claims:
                self._hear(group.shop, claim.claim, claim, sinks, now_s)

    def _hear(self, shop: str, id: str, state: State, sinks: Mapping[str, list[Sink]] | None, now_s: float) -> None:
        waiting = self._waiting.pop(id, None)
        if waiting is not None:
            CONFIRM_SECONDS.observe(now_s - waiting.placed_s)
        elif (sinks is None or state.viewer not in sinks) and id not in self._futures:
            return
        else:
            # Perhaps placed here, and told of faster than the script's reply: it is not waited for then.
            self._early[id] = None
            if len(self._early) > _EARLY_MAX:
                del self._early[next(iter(self._early))]
        self._deliver(shop, state, placed_here=waiting is not None)

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
            id = next(iter(self._waiting))
            if now_s - self._waiting[id].placed_s < FORGET_AFTER_S:
                break
            del self._waiting[id]
        soon, self._soon = self._soon[:_ASK_MOST], self._soon[_ASK_MOST:]
        due = {id: self._waiting[id] for id in soon if id in self._waiting}
        # Oldest first: a dict keeps the order in which things were placed.
        for id, waiting in self._waiting.items():
            if now_s - waiting.placed_s < ASK_AFTER_S or len(due) >= _ASK_MOST:
                break
            if waiting.ask_at_s <= now_s:
                due[id] = waiting
        for waiting in due.values():
            waiting.ask_at_s = now_s + ASK_AFTER_S
        if due and self._soon:
            self._hurry.set()
        for kind in (self._orders, self._claims):
            of_kind = [(waiting.number, id) for id, waiting in due.items() if waiting.kind is kind]
            if of_kind:
                await self._ask_of(kind, of_kind)

    async def _ask_of(self, kind: Asked, due: Sequence[tuple[int, str]]) -> None:
        for state in await kind.states(due):
            self._tell(state.order if isinstance(state, bus.LaterState) else state.claim, state)
        missing = [id for _, id in due if id in self._waiting]
        if not missing:
            return
        for id in await kind.lost(missing):
            known = self._waiting.get(id)
            if known is not None:
                log.warning("promise_lost", id=id)
                self._tell(id, kind.lost_state(known.viewer, id))

    def _tell(self, id: str, state: State) -> None:
        known = self._waiting.pop(id, None)
        if known is not None:
            self._deliver(known.shop, state, placed_here=True)

    def _deliver(self, shop: str, state: State, *, placed_here: bool) -> None:
        sinks = tuple(self._sinks[shop].get(state.viewer, ()))
        if isinstance(state, bus.LaterClaim):
            for sink in sinks:
                sink.claim_changed(state, placed_here=placed_here)
            return
        for waiting in self._futures.pop(state.order, ()):
            if not waiting.done():
                waiting.set_result(state)
        for sink in sinks:
            sink.order_changed(state, placed_here=placed_here)
