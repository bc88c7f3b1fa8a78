"""What the socket edge and the HTTP edge share."""

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog

from gateway.admission.auth import Authenticator
from gateway.admission.limiter import Limiter
from gateway.admission.origins import Origins
from gateway.app.base import Base
from gateway.app.coupon_side import CouponSide
from gateway.app.room_side import RoomSide
from gateway.domain.links import LinkSeal
from gateway.flows.applied import Applied
from gateway.flows.coupon_book import CouponBook
from gateway.flows.epochs import Epochs
from gateway.flows.figures import ShowFigures
from gateway.flows.order_watch import OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.place_order import PlaceOrder
from gateway.flows.retired_keys import RetiredKeys
from gateway.flows.room_book import RoomBook
from gateway.flows.sale_book import SaleBook
from gateway.hot.group import GroupCalls
from gateway.hot.orders import HotOrders
from gateway.hot.stream import HeldAnswers, OrderStream
from gateway.ledger.coupons import LedgerCoupons
from gateway.ledger.figures import LedgerFigures
from gateway.ledger.keys import LedgerKeys
from gateway.ledger.moderation import LedgerModeration
from gateway.ledger.orders import LedgerOrders
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.sales import LedgerSales
from gateway.wire import bus

log = structlog.get_logger(__name__)


class Edge:
    """What the socket edge and the HTTP edge share: orders in, later states out."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.on_room_changed: Callable[[str], None] = lambda room: None
        self.on_shop_changed: Callable[[], None] = lambda: None
        self.on_gap: Callable[[], Coroutine[Any, Any, None]] = _nothing
        self.on_orders: Callable[[bus.Applied | bus.LaterStates], None] = lambda told: None
        settings, clock, mint = base.settings, base.clock, base.mint
        self.ledger_orders = LedgerOrders(base.ledger)
        self.ledger_sales = LedgerSales(base.ledger, mint=mint)
        self.ledger_rooms = LedgerRooms(base.ledger, mint=mint)
        self.sales = SaleBook(sales=self.ledger_sales, mint=mint, clock=clock)
        self.rooms = RoomBook(rooms=self.ledger_rooms, mint=mint, clock=clock)
        self.room_side = RoomSide(
            base,
            find=self.sales.by_no,
            standing=LedgerModeration(base.ledger).standing,
        )
        ledger_coupons = LedgerCoupons(base.ledger, mint=mint)
        coupon_book = CouponBook(coupons=ledger_coupons, mint=mint, clock=clock)
        self.watch = OrderWatch(ledger=self.ledger_orders, claims=ledger_coupons, mint=mint, clock=clock)
        self.coupons = CouponSide(
            base, ledger=ledger_coupons, book=coupon_book, room_side=self.room_side, watch=self.watch
        )
        self.applied = Applied(shards=base.shards, clock=clock)
        keys = LedgerKeys(base.ledger)
        self.authenticator = Authenticator(keys=keys, clock=clock)
        self.origins = Origins(source=keys, clock=clock)
        self.groups = {
            shard: GroupCalls(
                decider=HotOrders(
                    shard=hot, scripts=base.scripts, mint=mint, clock=clock, backlog_max=settings.max_backlog
                ),
                clock=clock,
                group_max=settings.group_max,
                queue_max=settings.order_queue,
            )
            for shard, hot in base.hot.items()
        }
        self.retired_keys = RetiredKeys(ledger=self.ledger_orders)
        self.orders = PlaceOrder(
            book=self.sales,
            coupons=coupon_book,
            mint=mint,
            groups=self.groups.__getitem__,
            retired=self.retired_keys,
            limiter=Limiter(rate=settings.order_rate, burst=settings.order_burst),
            watch=self.watch,
            links=LinkSeal(base.id_key),
            clock=clock,
            sold=self.room_side.stock.sold,
        )
        streams = {shard: OrderStream(client=base.orders_valkey, shard=shard) for shard in base.hot}
        self.reader = OrderReader(
            ledger=self.ledger_orders,
            held={
                shard: HeldAnswers(client=base.orders_valkey, shard=shard, stream=stream)
                for shard, stream in streams.items()
            },
            book=self.sales,
            watch=self.watch,
            mint=mint,
        )
        self.ledger_figures = LedgerFigures(base.ledger)
        self.figures = ShowFigures(ledger=self.ledger_figures, crowd=self.room_side.hot, clock=clock)

    def works(self) -> list[Coroutine[Any, Any, None]]:
        epochs = Epochs(
            shards=self.base.shards, hot=self.base.hot, known=self.base.known, on_new_epoch=self.watch.ask_all
        )
        return [
            self.orders.run(),
            *(group.run() for group in self.groups.values()),
            self.retired_keys.run(),
            *self.coupons.works(),
            self.watch.run(),
            epochs.run(),
            *self.room_side.works(),
            self.base.bus.listen(self.hear, self._heard_nothing),
        ]

    def hear(self, message: bytes) -> None:
        try:
            told = bus.decode(message)
        except msgspec.MsgspecError as error:
            # Of a process of another version; nobody relies on the bus.
            log.warning("bus_message_not_read", error=str(error))
            return
        match told:
            case bus.Applied() as applied:
                self.watch.hear(applied)
                self.applied.hear(applied)
                self.on_orders(applied)
            case bus.LaterStates() as later:
                self.watch.hear(later)
                self.on_orders(later)
            case bus.SaleChanged(sale_no):
                self.sales.forget(sale_no)
            case bus.CouponChanged(coupon_no):
                self.coupons.book.forget(coupon_no)
            case bus.RoomChanged(room):
                self.rooms.forget(room)
                self.on_room_changed(room)
            case bus.ShopChanged(shop):
                self.authenticator.forget(shop)
                self.origins.forget()
                self.on_shop_changed()

    async def _heard_nothing(self) -> None:
        """The bus was away. Later states are asked for by themselves and books are fresh within seconds."""
        await self.on_gap()

    def stop_admitting(self) -> None:
        self.orders.stop_admitting()
        self.coupons.claiming.stop_admitting()

    async def drained(self) -> None:
        for group in self.groups.values():
            await group.drained()
        await self.coupons.drained()


async def _nothing() -> None:
    """Whoever holds no rooms has nothing to ask after a gap."""
