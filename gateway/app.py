"""The only assembler: builds every object of each process, and says in which order they start and stop."""

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
import structlog

from gateway.admin.server import AdminServer
from gateway.admission.auth import Authenticator
from gateway.admission.limiter import Limiter
from gateway.admission.origins import Origins
from gateway.api.server import ApiServer, build_app
from gateway.clock import Clock, SystemClock
from gateway.domain.ids import IdMint
from gateway.domain.sale import MIN_PAY_WITHIN_DEV_S, MIN_PAY_WITHIN_S
from gateway.errors import HotUnavailable, LedgerUnavailable
from gateway.flows.applied import Applied
from gateway.flows.control_sale import ControlSale
from gateway.flows.epochs import Epochs
from gateway.flows.order_watch import OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.place_order import PlaceOrder
from gateway.flows.room_book import RoomBook
from gateway.flows.rooms import Rooms
from gateway.flows.sale_book import SaleBook
from gateway.flows.sales import Sales
from gateway.flows.watch import WatchRoom
from gateway.hot.audit import HotAudit
from gateway.hot.bus import Bus
from gateway.hot.connect import Client, connect
from gateway.hot.control import HotControl
from gateway.hot.durability import require_durable
from gateway.hot.group import GroupCalls
from gateway.hot.orders import HotOrders
from gateway.hot.releases import HotReleases
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from gateway.hot.stream import HeldAnswers, OrderStream
from gateway.keeper.audit import Auditor
from gateway.keeper.audit_report import AuditReport
from gateway.keeper.shards import ShardKeeper
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.batches import LedgerBatches
from gateway.ledger.effects import LedgerEffects
from gateway.ledger.keys import LedgerKeys
from gateway.ledger.orders import LedgerOrders
from gateway.ledger.outbox import LedgerOutbox
from gateway.ledger.pool import Ledger
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.sales import LedgerSales
from gateway.ledger.shards import LedgerShards
from gateway.live.server import LiveServer
from gateway.process import measure_stalls, settle_memory, stop_signal
from gateway.settings import Settings
from gateway.wire import bus
from gateway.writer.writer import OrderWriter

log = structlog.get_logger(__name__)

OnReady = Callable[[dict[str, object]], None]
_START_PAUSE_S = 0.3
_T = TypeVar("_T")


@dataclass(slots=True)
class Base:
    """What every process stands on."""

    settings: Settings
    clock: Clock
    stopping: asyncio.Event
    ledger: Ledger
    shards: LedgerShards
    id_key: bytes
    mint: IdMint
    orders_valkey: Client
    scripts: Scripts
    hot: dict[int, HotShard]
    bus: Bus


@asynccontextmanager
async def _base(settings: Settings) -> AsyncIterator[Base]:
    """Opens what a process stands on, waiting for servers that are not there yet; closes it in reverse."""
    stopping = stop_signal()
    clock = SystemClock()
    assert settings.valkey_url and settings.rooms_valkey_url and settings.database_url
    async with AsyncExitStack() as stack:
        ledger = await _until_there(
            "ledger", stopping, lambda: Ledger.connect(settings.database_url or "", size=settings.database_pool)
        )
        stack.push_async_callback(ledger.close)
        shards = LedgerShards(ledger)
        await shards.ensure(settings.shards)
        id_key = await shards.id_key()
        orders_valkey = connect(settings.valkey_url, max_connections=settings.valkey_pool)
        stack.push_async_callback(orders_valkey.aclose)
        rooms_valkey = connect(settings.rooms_valkey_url, max_connections=settings.valkey_pool)
        stack.push_async_callback(rooms_valkey.aclose)
        lacks = await _until_there(
            "orders valkey",
            stopping,
            lambda: require_durable(orders_valkey, allow_volatile=settings.allow_volatile_valkey),
        )
        if lacks:
            log.warning("volatile_valkey", lacks=lacks)
        scripts = Scripts(orders_valkey)
        rows = await shards.all()
        hot = {row.shard: HotShard(shard=row.shard, client=orders_valkey, scripts=scripts) for row in rows}
        for row in rows:
            hot[row.shard].enter_epoch(row.epoch, row.last_seq)
        yield Base(
            settings=settings,
            clock=clock,
            stopping=stopping,
            ledger=ledger,
            shards=shards,
            id_key=id_key,
            mint=IdMint(id_key),
            orders_valkey=orders_valkey,
            scripts=scripts,
            hot=hot,
            bus=Bus(url=settings.rooms_valkey_url, client=rooms_valkey),
        )


async def _until_there(what: str, stopping: asyncio.Event, opened: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    while True:
        try:
            return await opened()
        except (HotUnavailable, LedgerUnavailable) as error:
            if stopping.is_set():
                raise
            log.warning("waits_for_server", server=what, error=str(error))
            await asyncio.sleep(_START_PAUSE_S)


class Edge:
    """What the socket edge and the HTTP edge share: orders in, later states out."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.on_room_changed: Callable[[str], None] = lambda room: None
        settings, clock, mint = base.settings, base.clock, base.mint
        self.ledger_orders = LedgerOrders(base.ledger)
        self.ledger_sales = LedgerSales(base.ledger, mint=mint)
        self.ledger_rooms = LedgerRooms(base.ledger, mint=mint)
        self.sales = SaleBook(sales=self.ledger_sales, mint=mint, clock=clock)
        self.rooms = RoomBook(rooms=self.ledger_rooms, mint=mint, clock=clock)
        self.watch = OrderWatch(ledger=self.ledger_orders, clock=clock)
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
        self.orders = PlaceOrder(
            book=self.sales,
            groups=self.groups.__getitem__,
            limiter=Limiter(rate=settings.order_rate, burst=settings.order_burst),
            watch=self.watch,
            clock=clock,
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

    def works(self) -> list[Coroutine[Any, Any, None]]:
        epochs = Epochs(shards=self.base.shards, hot=self.base.hot)
        return [
            self.orders.run(),
            *(group.run() for group in self.groups.values()),
            self.watch.run(),
            epochs.run(),
            self.base.bus.listen(self.hear, _nothing_to_repair),
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
            case bus.SaleChanged(sale_no):
                self.sales.forget(sale_no)
            case bus.RoomChanged(room):
                self.rooms.forget(room)
                self.on_room_changed(room)
            case bus.ShopChanged(shop):
                self.authenticator.forget(shop)
                self.origins.forget()

    async def drained(self) -> None:
        for group in self.groups.values():
            await group.drained()


async def run_live(settings: Settings, *, index: int, on_ready: OnReady) -> int:
    """One live process: sockets only. All live processes of a node share the port."""
    async with _base(settings) as base:
        edge = Edge(base)
        server = LiveServer(
            orders=edge.orders,
            authenticator=edge.authenticator,
            watch=WatchRoom(
                rooms=edge.rooms,
                sales=edge.ledger_sales,
                book=edge.sales,
                counters=dict(base.hot),
                reader=edge.reader,
                watch=edge.watch,
                mint=base.mint,
                id_key=base.id_key,
                clock=base.clock,
            ),
            presence=edge.watch,
            origins=edge.origins,
            room_may_exist=edge.rooms.may_exist,
            clock=base.clock,
            sockets_max=settings.max_sockets,
        )
        edge.on_room_changed = server.room_changed
        await edge.authenticator.prepare()
        async with _serving(base, [*edge.works(), server.run()]):
            await server.start(settings.host, settings.live_port, shared=settings.workers > 1)
            settle_memory()
            on_ready({"role": f"live {index}", "live_url": _live_url(settings)})
            await base.stopping.wait()
            edge.orders.stop_admitting()
            # What is being decided is answered before anybody is told to leave.
            await _within(settings.drain_s * 0.2, edge.drained())
            await server.drain(settings.drain_s * 0.7)
    return 0


async def run_api(settings: Settings, *, on_ready: OnReady) -> int:
    """One api process: the same flows by HTTP, and the hosts' acts."""
    async with _base(settings) as base:
        edge = Edge(base)
        sales = Sales(
            ledger=edge.ledger_sales,
            book=edge.sales,
            shards=base.hot,
            publisher=base.bus,
            mint=base.mint,
            clock=base.clock,
            min_pay_within_s=MIN_PAY_WITHIN_DEV_S if settings.dev else MIN_PAY_WITHIN_S,
        )
        controls = {
            shard: HotControl(shard=hot, scripts=base.scripts, clock=base.clock) for shard, hot in base.hot.items()
        }
        app = build_app(
            authenticator=edge.authenticator,
            origins=edge.origins,
            rooms=Rooms(
                ledger=edge.ledger_rooms,
                sales=edge.ledger_sales,
                book=edge.rooms,
                publisher=base.bus,
                mint=base.mint,
                clock=base.clock,
            ),
            sales=sales,
            control=ControlSale(
                sales=sales,
                controls=controls,
                effects=LedgerEffects(base.ledger),
                applied=edge.applied,
                clock=base.clock,
            ),
            orders=edge.orders,
            reader=edge.reader,
            book=edge.sales,
            live_url=f"{_live_url(settings)}/v1/rooms/{{room}}/live",
            ready=lambda: not base.stopping.is_set(),
            surface=settings.surface,
            max_body_bytes=settings.max_body_bytes,
        )
        await edge.authenticator.prepare()
        server = ApiServer(app, stop_within_s=settings.drain_s * 0.5)
        async with _serving(base, [*edge.works()]):
            await server.start(settings.host, settings.port)
            settle_memory()
            on_ready({"role": "api", "url": f"http://{_url_host(settings)}:{settings.port}"})
            await base.stopping.wait()
            edge.orders.stop_admitting()
            await server.drain()
            await _within(settings.drain_s * 0.4, edge.drained())
            await server.stop()
    return 0


async def run_writer(settings: Settings, *, on_ready: OnReady) -> int:
    """Brings the streams of all shards into the ledger, each under its lease."""
    async with _base(settings) as base:
        assert settings.valkey_url and settings.database_url
        # Blocking reads wait on purpose; each shard's reader holds one connection, and telling Valkey another.
        client = connect(settings.valkey_url, max_connections=2 * len(base.hot) + 2, reply_timeout_s=5.0)
        # Names of machines and numbers of processes repeat, in containers above all.
        holder = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        writers = [
            OrderWriter(
                shard=shard,
                holder=holder,
                stream=OrderStream(client=client, shard=shard),
                ledger=LedgerBatches(settings.database_url),
                publisher=base.bus,
                mint=base.mint,
                clock=base.clock,
                batch_max=settings.writer_batch_max,
            )
            for shard in base.hot
        ]
        async with _serving(base, []), asyncio.TaskGroup() as group:
            running = [group.create_task(writer.run()) for writer in writers]
            settle_memory()
            on_ready({"role": "writer"})
            await base.stopping.wait()
            for writer in writers:
                writer.stop()
            # With the ledger away the stream keeps what is reserved; the next writer goes on from the cursor.
            await asyncio.wait(running, timeout=settings.drain_s * 0.8)
            for task in running:
                task.cancel()
        for writer in writers:
            await writer.close()
        await client.aclose()
    return 0


async def run_keeper(settings: Settings, *, on_ready: OnReady) -> int:
    """What time does. A second keeper repeats harmlessly what the first did."""
    async with _base(settings) as base:
        keeper = ShardKeeper(
            shards=base.shards,
            sales=LedgerSales(base.ledger, mint=base.mint),
            releases=LedgerOutbox(base.ledger),
            hot=dict(base.hot),
            hot_releases={shard: HotReleases(shard=hot, scripts=base.scripts) for shard, hot in base.hot.items()},
        )
        async with _serving(base, [keeper.run()]):
            # Ready means that new shards sell: what is created from here on finds them open.
            await _until_there("shards", base.stopping, keeper.step)
            on_ready({"role": "keeper"})
            await base.stopping.wait()
    return 0


@asynccontextmanager
async def _serving(base: Base, works: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Background work of a process beside its metrics and health: the end of one by an error ends all."""
    settings = base.settings
    admin = AdminServer(ready=lambda: not base.stopping.is_set(), health=lambda: {"pid": os.getpid()})
    if settings.admin_socket is not None:
        await admin.start_on_socket(settings.admin_socket)
    else:
        await admin.start(settings.admin_host, settings.admin_port)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = {group.create_task(work) for work in (*works, measure_stalls(base.clock))}
            # They own what others hand them, so they run before anybody does.
            await asyncio.sleep(0)
            try:
                yield
            finally:
                # Work that waits for a ledger that hangs is let go first; one cancellation can get lost in a driver.
                await base.ledger.close()
                while tasks:
                    for task in tasks:
                        task.cancel()
                    _, tasks = await asyncio.wait(tasks, timeout=0.2)
    finally:
        await admin.stop()


def _live_url(settings: Settings) -> str:
    return settings.live_url or f"ws://{_url_host(settings)}:{settings.live_port}"


def _url_host(settings: Settings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host


async def _within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    """Gives work a time and goes on without it; what it leaves behind is safe by itself."""
    try:
        async with asyncio.timeout(max(0.05, seconds)):
            await work
    except TimeoutError:
        log.warning("drain_cut_short")


async def _nothing_to_repair() -> None:
    """Later states are asked for by themselves and books are fresh within seconds."""


async def run_audit(settings: Settings, *, sale: str | None = None, final: bool = False) -> AuditReport:
    """Whether every invariant holds, from Valkey and PostgreSQL alone. `final`: the writer must have caught up."""
    assert settings.valkey_url and settings.database_url
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(LedgerAudit.connect(settings.database_url))
        valkey = connect(settings.valkey_url, max_connections=2, reply_timeout_s=30)
        stack.push_async_callback(valkey.aclose)
        auditor = Auditor(ledger=ledger, hot=HotAudit(client=valkey, scripts=Scripts(valkey)))
        return await auditor.run(sale=sale, final=final)
