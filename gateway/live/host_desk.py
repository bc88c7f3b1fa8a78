"""What hosts are told on their sockets beside the room: the figures of the show, and which orders changed just now."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import structlog

from gateway.domain.caller import Role
from gateway.domain.figures import FiguresReading
from gateway.domain.ids import IdMint, RoomId
from gateway.domain.room import Room
from gateway.domain.sale import Sale
from gateway.errors import GatewayError
from gateway.live.session import Session
from gateway.rooms.picture import Variant
from gateway.wire import bus, frames

log = structlog.get_logger(__name__)

TELL_EVERY_S = 1.0
# The newest; a person reads no more in a second, and the list of orders has them all.
FEED_ORDERS = 50
# Of sales that nobody has asked for yet: a process hears of all orders of all shops.
_UNKNOWN_MAX = 1_000
_SALES_KNOWN = 10_000


class Figures(Protocol):
    """`gateway.flows.figures.ShowFigures`."""

    async def now(self, room_no: int) -> FiguresReading: ...


class FedOrder(Protocol):
    @property
    def order(self) -> str: ...
    @property
    def sale(self) -> str: ...
    @property
    def sku(self) -> str: ...
    @property
    def quantity(self) -> int: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def currency(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def viewer(self) -> str: ...
    @property
    def created_at_ms(self) -> int: ...


class Orders(Protocol):
    """`gateway.ledger.figures.LedgerFigures`."""

    async def orders(self, room_no: int, places: Sequence[tuple[int, str]]) -> Sequence[FedOrder]: ...
    async def newest_orders(self, room_no: int, most: int) -> Sequence[FedOrder]:
        """The newest last."""
        ...


class _Desk:
    """The hosts of one room here, and what they are yet to be told."""

    __slots__ = ("changed", "figures", "hosts", "is_telling", "more", "new", "room")

    def __init__(self, room: Room) -> None:
        self.room = room
        self.hosts: dict[Session, tuple[frames.ShowFigures | None, int]] = {}
        """Each with the figures it was told last, and how many changes of orders it was not told of."""
        self.new: set[Session] = set()
        """Those of them who were not told of any order yet."""
        self.figures: frames.ShowFigures | None = None
        self.changed: dict[str, int] = {}
        """Orders that changed since the last feed, the newest last, with their sale's number."""
        self.more = 0
        """Changes for which there was no place among them."""
        self.is_telling = False

    def note(self, order: str, sale_no: int) -> None:
        self.changed.pop(order, None)
        self.changed[order] = sale_no
        if len(self.changed) > FEED_ORDERS:
            del self.changed[next(iter(self.changed))]
            self.more += 1


class HostDesk:
    """At most once a second: the newest orders to who came, then only what changed. Whoever reads slowly is told less
    often, nothing waits for them.

    Which orders changed is heard on the bus, which may lose a message; what they are now is read of the ledger. The
    figures are the ledger's alone, so what a feed missed is in them."""

    def __init__(
        self,
        *,
        figures: Figures,
        orders: Orders,
        find_sale: Callable[[int], Awaitable[Sale | None]],
        pseudonym: Callable[[str, str], str],
        mint: IdMint,
    ) -> None:
        self._figures = figures
        self._orders = orders
        self._find_sale = find_sale
        self._pseudonym = pseudonym
        self._mint = mint
        self._desks: dict[RoomId, _Desk] = {}
        self._shops: dict[str, int] = {}
        """With how many hosts here."""
        self._room_of: dict[int, RoomId | None] = {}
        """By sale; it never changes."""
        self._unknown: dict[str, int] = {}
        """Changed orders of sales of which the room is not known yet."""
        self._tasks: asyncio.TaskGroup | None = None

    # Who is there.

    def joined(self, session: Session) -> None:
        caller, live = session.caller, session.live
        if caller is None or live is None or caller.role is not Role.HOST:
            return
        desk = self._desks.get(live.room.room)
        if desk is None:
            desk = self._desks[live.room.room] = _Desk(live.room)
        desk.hosts[session] = (None, 0)
        desk.new.add(session)
        self._shops[caller.shop] = self._shops.get(caller.shop, 0) + 1

    def left(self, room: Room, session: Session) -> None:
        desk = self._desks.get(room.room)
        if desk is None or desk.hosts.pop(session, None) is None:
            return
        desk.new.discard(session)
        if not desk.hosts:
            del self._desks[room.room]
        self._shops[room.shop] -= 1
        if not self._shops[room.shop]:
            del self._shops[room.shop]

    # What happens.

    def heard(self, message: bus.Applied | bus.LaterStates) -> None:
        """Orders have a later state."""
        if not self._shops:
            return
        for group in bus.decode_shops(message.shops):
            if group.shop in self._shops:
                for state in group.orders:
                    place = self._mint.read_order(state.order)
                    if place is not None:
                        self._note(state.order, place.sale_no)

    def _note(self, order: str, sale_no: int) -> None:
        if sale_no not in self._room_of:
            self._unknown[order] = sale_no
            if len(self._unknown) > _UNKNOWN_MAX:
                del self._unknown[next(iter(self._unknown))]
            return
        room = self._room_of[sale_no]
        desk = None if room is None else self._desks.get(room)
        if desk is not None:
            desk.note(order, sale_no)

    # What they are told.

    async def run(self) -> None:
        """Tells until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            while True:
                await asyncio.sleep(TELL_EVERY_S)
                if self._unknown:
                    await self._place_unknown()
                for desk in list(self._desks.values()):
                    # A room whose figures take long keeps no other waiting.
                    if not desk.is_telling:
                        desk.is_telling = True
                        self._tasks.create_task(self._tell(desk))

    async def _place_unknown(self) -> None:
        unknown, self._unknown = self._unknown, {}
        for sale_no in dict.fromkeys(unknown.values()):
            if len(self._room_of) >= _SALES_KNOWN:
                self._room_of.clear()
            with suppress(GatewayError):
                sale = await self._find_sale(sale_no)
                self._room_of[sale_no] = None if sale is None else sale.room
        for order, sale_no in unknown.items():
            if sale_no in self._room_of:
                self._note(order, sale_no)

    async def _tell(self, desk: _Desk) -> None:
        try:
            await self._tell_feed(desk)
            await self._tell_newest(desk)
            await self._tell_figures(desk)
        except GatewayError as error:
            log.warning("hosts_not_told", room_no=desk.room.room_no, error=str(error))
        except Exception:
            log.exception("hosts_not_told", room_no=desk.room.room_no)
        finally:
            desk.is_telling = False

    async def _tell_figures(self, desk: _Desk) -> None:
        reading = await self._figures.now(desk.room.room_no)
        fresh = shown_figures(reading)
        if desk.figures is None or not _says_the_same(desk.figures, fresh):
            desk.figures = fresh
        figures = desk.figures
        for session, (told, missed) in list(desk.hosts.items()):
            if told is not figures and not _is_slow(session):
                session.send(figures)
                desk.hosts[session] = (figures, missed)

    async def _tell_feed(self, desk: _Desk) -> None:
        if not desk.changed and not any(missed for _, missed in desk.hosts.values()):
            return
        (changed, more), desk.changed, desk.more = (desk.changed, desk.more), {}, 0
        try:
            found = await self._orders.orders(desk.room.room_no, [(no, order) for order, no in changed.items()])
        except GatewayError:
            # They are told the next time, before what changed meanwhile.
            later, desk.changed, desk.more = desk.changed, changed, desk.more + more
            for order, sale_no in later.items():
                desk.note(order, sale_no)
            raise
        orders = [self._shown(desk.room, order) for order in found]
        for session, (told, missed) in list(desk.hosts.items()):
            if session in desk.new:
                # Their first feed is read behind these.
                continue
            if _is_slow(session):
                desk.hosts[session] = (told, missed + len(orders) + more)
            elif orders or missed or more:
                session.send(frames.Feed(orders=orders, more=more + missed))
                desk.hosts[session] = (told, 0)

    async def _tell_newest(self, desk: _Desk) -> None:
        """One question, however many came since the last time."""
        came = [session for session in desk.new if not _is_slow(session)]
        if not came:
            return
        found = await self._orders.newest_orders(desk.room.room_no, FEED_ORDERS)
        orders = [self._shown(desk.room, order) for order in found]
        for session in came:
            # Some may have left meanwhile.
            if session in desk.new:
                desk.new.discard(session)
                if orders:
                    session.send(frames.Feed(orders=orders))

    def _shown(self, room: Room, order: FedOrder) -> frames.FedOrder:
        return frames.FedOrder(
            order=order.order,
            sale=order.sale,
            sku=order.sku,
            quantity=order.quantity,
            amount_minor=order.amount_minor,
            currency=order.currency,
            status=order.status,
            created_at_ms=order.created_at_ms,
            viewer=self._pseudonym(room.room, order.viewer),
            sub=order.viewer,
            reason=order.reason,
        )


def shown_figures(reading: FiguresReading) -> frames.ShowFigures:
    values: dict[str, Any] = {name: getattr(reading.figures, name) for name in reading.figures.__struct_fields__}
    return frames.ShowFigures(
        **values,
        at_ms=reading.at_ms,
        currency=reading.currency,
        other_currencies=reading.money[1:],
        error=reading.error,
    )


def _says_the_same(told: frames.ShowFigures, fresh: frames.ShowFigures) -> bool:
    return all(getattr(told, name) == getattr(fresh, name) for name in told.__struct_fields__ if name != "at_ms")


def _is_slow(session: Session) -> bool:
    return session.behind or session.variant is not Variant.WHOLE
