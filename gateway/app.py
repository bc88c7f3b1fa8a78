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
from gateway.errors import GatewayError, HotUnavailable, LedgerUnavailable, NotFound, Unavailable
from gateway.flows.applied import Applied
from gateway.flows.cancel_order import CancelOrder
from gateway.flows.control_sale import ControlSale
from gateway.flows.counts import SaleCounts
from gateway.flows.epochs import Epochs
from gateway.flows.order_watch import OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.pay import PayOrder
from gateway.flows.payments import Payments
from gateway.flows.place_order import PlaceOrder
from gateway.flows.retired_keys import RetiredKeys
from gateway.flows.room_book import RoomBook
from gateway.flows.room_news import RoomNews
from gateway.flows.rooms import Rooms
from gateway.flows.sale_book import SaleBook
from gateway.flows.sales import Sales
from gateway.flows.settle import Settle
from gateway.flows.till import Till
from gateway.flows.watch import WatchRoom
from gateway.hot.audit import HotAudit
from gateway.hot.bus import Bus
from gateway.hot.connect import Client, KnownServers, connect
from gateway.hot.control import HotControl
from gateway.hot.durability import require_durable
from gateway.hot.group import GroupCalls
from gateway.hot.opening import HotOpening
from gateway.hot.orders import HotOrders
from gateway.hot.rebuild import HotRebuilds
from gateway.hot.releases import HotReleases
from gateway.hot.retire import HotRetirement
from gateway.hot.revivals import HotRevivals
from gateway.hot.scripts import Scripts
from gateway.hot.server_state import ServerState
from gateway.hot.shard import HotShard
from gateway.hot.stream import HeldAnswers, OrderStream
from gateway.hot.ticks import RoomTicks
from gateway.keeper.audit import Auditor
from gateway.keeper.audit_report import AuditReport
from gateway.keeper.clocks import Clocks, this_machine
from gateway.keeper.deadlines import Deadlines
from gateway.keeper.late import LateMoney
from gateway.keeper.rebuild import Rebuilder
from gateway.keeper.releases import Releases
from gateway.keeper.restock import Restock
from gateway.keeper.retire import Retirement
from gateway.keeper.rewrite import FileRewrites
from gateway.keeper.shards import ShardKeeper
from gateway.keeper.watchdog import Watchdog
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.batches import LedgerBatches
from gateway.ledger.clocks import LedgerClocks
from gateway.ledger.effects import LedgerEffects
from gateway.ledger.keys import LedgerKeys
from gateway.ledger.orders import LedgerOrders
from gateway.ledger.outbox import LedgerOutbox
from gateway.ledger.payments import LedgerPayments
from gateway.ledger.pool import Ledger
from gateway.ledger.providers import LedgerProviders
from gateway.ledger.rebuild import EpochBegun, LedgerRebuilds
from gateway.ledger.retire import LedgerRetirement
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.sales import LedgerSales
from gateway.ledger.settlement import LedgerSettlement
from gateway.ledger.shards import LedgerShards
from gateway.live.server import LiveServer
from gateway.payments.sandbox import Sandbox
from gateway.process import measure_stalls, settle_memory, stop_signal
from gateway.settings import Settings
from gateway.wire import bus
from gateway.writer.writer import OrderWriter

log = structlog.get_logger(__name__)

OnReady = Callable[[dict[str, object]], None]
_START_PAUSE_S = 0.3
_SHARDS_WITHIN_S = 30.0
# A keeper looks four times a second; draining a full stream comes before it moves to the next epoch.
_KEEPER_WITHIN_S = 20.0
_REBUILT_WITHIN_S = 300.0
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
    known: KnownServers
    orders_valkey: Client
    """Guarded: it talks to the server of the ledger's epochs alone."""
    plain_valkey: Client
    """For what has to see whichever server is there, and decides nothing by it alone."""
    scripts: Scripts
    hot: dict[int, HotShard]
    bus: Bus
    rooms_valkey: Client


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
        rows = await shards.all()
        known = KnownServers()
        known.learn([row.run_id for row in rows])
        orders_valkey = connect(settings.valkey_url, max_connections=settings.valkey_pool, known=known)
        stack.push_async_callback(orders_valkey.aclose)
        plain_valkey = connect(settings.valkey_url, max_connections=max(4, len(rows) + 1))
        stack.push_async_callback(plain_valkey.aclose)
        rooms_valkey = connect(settings.rooms_valkey_url, max_connections=settings.valkey_pool)
        stack.push_async_callback(rooms_valkey.aclose)
        lacks = await _until_there(
            "orders valkey",
            stopping,
            lambda: require_durable(plain_valkey, allow_volatile=settings.allow_volatile_valkey),
        )
        if lacks:
            log.warning("volatile_valkey", lacks=lacks)
        scripts = Scripts(orders_valkey)
        hot = {
            row.shard: HotShard(shard=row.shard, client=orders_valkey, scripts=scripts, doubt=known.doubt)
            for row in rows
        }
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
            known=known,
            orders_valkey=orders_valkey,
            plain_valkey=plain_valkey,
            scripts=scripts,
            hot=hot,
            bus=Bus(url=settings.rooms_valkey_url, client=rooms_valkey),
            rooms_valkey=rooms_valkey,
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
        self.on_tick: Callable[[bus.Tick], None] = lambda tick: None
        settings, clock, mint = base.settings, base.clock, base.mint
        self.ledger_orders = LedgerOrders(base.ledger)
        self.ledger_sales = LedgerSales(base.ledger, mint=mint)
        self.ledger_rooms = LedgerRooms(base.ledger, mint=mint)
        self.sales = SaleBook(sales=self.ledger_sales, mint=mint, clock=clock)
        self.rooms = RoomBook(rooms=self.ledger_rooms, mint=mint, clock=clock)
        self.watch = OrderWatch(ledger=self.ledger_orders, mint=mint, clock=clock)
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
            groups=self.groups.__getitem__,
            retired=self.retired_keys,
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
        epochs = Epochs(
            shards=self.base.shards, hot=self.base.hot, known=self.base.known, on_new_epoch=self.watch.ask_all
        )
        return [
            self.orders.run(),
            *(group.run() for group in self.groups.values()),
            self.retired_keys.run(),
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
            case bus.LaterStates() as later:
                self.watch.hear(later)
            case bus.Tick() as tick:
                self.on_tick(tick)
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


class Money:
    """What becomes of confirmed orders by payments, refunds and cancels: a part of the HTTP edge alone."""

    def __init__(self, edge: Edge) -> None:
        base = edge.base
        settings = base.settings
        providers, payments = LedgerProviders(base.ledger), LedgerPayments(base.ledger)
        self.settle = Settle(shards=base.hot.keys(), ledger=LedgerSettlement(base.ledger), publisher=base.bus)
        till = Till(settle=self.settle, shops=providers, book=edge.sales, mint=base.mint)
        self.sandbox: Sandbox | None = None
        if settings.sandbox != "off":
            log.warning("sandbox_payments", mode=settings.sandbox, meaning="payments are played, no money moves")
            self.sandbox = Sandbox(
                url=_api_url(settings),
                auto=settings.sandbox == "auto",
                checkouts=payments,
                secrets=providers,
                clock=base.clock,
            )
        self.cancelling = CancelOrder(till=till, reader=edge.reader)
        self.pay = PayOrder(till=till, reader=edge.reader, checkouts=payments, provider=self.sandbox)
        self.payments = Payments(
            till=till,
            reader=edge.reader,
            ledger=payments,
            secrets=providers,
            clock=base.clock,
            sandbox=self.sandbox is not None,
        )

    def works(self) -> list[Coroutine[Any, Any, None]]:
        return [self.settle.run(), *([] if self.sandbox is None else [self.sandbox.run()])]

    async def drained(self) -> None:
        await self.settle.drained()


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
                counters={shard: SaleCounts(hot=hot, ledger=edge.ledger_sales) for shard, hot in base.hot.items()},
                ticks=RoomTicks(base.rooms_valkey),
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
        edge.on_tick = server.tick
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
        money = Money(edge)
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
                acts=edge.ledger_sales,
                applied=edge.applied,
                news=RoomNews(ticks=RoomTicks(base.rooms_valkey), publisher=base.bus, clock=base.clock),
                clock=base.clock,
            ),
            orders=edge.orders,
            reader=edge.reader,
            cancelling=money.cancelling,
            pay=money.pay,
            payments=money.payments,
            sandbox=money.sandbox,
            book=edge.sales,
            live_url=f"{_live_url(settings)}/v1/rooms/{{room}}/live",
            ready=lambda: not base.stopping.is_set(),
            surface=settings.surface,
            max_body_bytes=settings.max_body_bytes,
        )
        await edge.authenticator.prepare()
        server = ApiServer(app, stop_within_s=settings.drain_s * 0.5)
        async with _serving(base, [*edge.works(), *money.works()]):
            await server.start(settings.host, settings.port)
            settle_memory()
            on_ready({"role": "api", "url": _api_url(settings)})
            await base.stopping.wait()
            edge.orders.stop_admitting()
            await server.drain()
            await _within(settings.drain_s * 0.4, edge.drained())
            await _within(settings.drain_s * 0.1, money.drained())
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
        assert settings.valkey_url and settings.database_url
        keeper = ShardKeeper(
            rebuilder=Rebuilder(
                ledger=LedgerRebuilds(base.ledger, settings.database_url),
                valkey=HotRebuilds(url=settings.valkey_url, client=base.plain_valkey),
                clock=base.clock,
            ),
            shards=base.shards,
            sales=LedgerSales(base.ledger, mint=base.mint),
            hot=dict(base.hot),
        )
        epochs = Epochs(shards=base.shards, hot=base.hot, known=base.known)
        settlement = LedgerSettlement(base.ledger)
        restock = Restock(
            sales=LedgerSales(base.ledger, mint=base.mint),
            counters=dict(base.hot),
            ticks=RoomTicks(base.rooms_valkey),
            publisher=base.bus,
            clock=base.clock,
        )
        releases = Releases(
            outbox=LedgerOutbox(base.ledger),
            hot={shard: HotReleases(shard=hot, scripts=base.scripts) for shard, hot in base.hot.items()},
            restock=restock,
        )
        late = LateMoney(
            hot={shard: HotRevivals(shard=hot, scripts=base.scripts) for shard, hot in base.hot.items()},
            ledger=settlement,
            publisher=base.bus,
        )
        server = ServerState(base.orders_valkey)
        clocks = Clocks(
            hot=server,
            opening=HotOpening(base.scripts),
            ledger=LedgerClocks(base.ledger),
            shards=sorted(base.hot),
            clock=base.clock,
            machine=this_machine(),
        )
        deadlines = Deadlines(shards=base.hot.keys(), ledger=settlement, clocks=clocks, publisher=base.bus)
        retirement = Retirement(
            ledger=LedgerRetirement(base.ledger),
            cursors=base.shards,
            hot={
                shard: HotRetirement(shard=hot, client=base.orders_valkey, scripts=base.scripts)
                for shard, hot in base.hot.items()
            },
            clocks=clocks,
            publisher=base.bus,
            clock=base.clock,
            retire_after_s=settings.retire_after_s,
        )
        works = [keeper.run(), epochs.run(), releases.run(), restock.run(), late.run(), deadlines.run()]
        rewrites = FileRewrites(
            server=server,
            streams={shard: OrderStream(client=base.orders_valkey, shard=shard) for shard in base.hot},
            sales=LedgerSales(base.ledger, mint=base.mint),
            clock=base.clock,
            ceiling_bytes=settings.rewrite_ceiling_bytes,
        )
        works += [clocks.run(), retirement.run(), rewrites.run()]
        async with _watchdog(base) as watching, _serving(base, [*works, *watching]):
            # Ready means that new shards sell: what is created from here on finds them open.
            await _settled(keeper, base.stopping)
            on_ready({"role": "keeper"})
            await base.stopping.wait()
    return 0


@asynccontextmanager
async def _watchdog(base: Base) -> AsyncIterator[Sequence[Coroutine[Any, Any, None]]]:
    """The work of auditing what runs, over connections of its own."""
    settings = base.settings
    assert settings.valkey_url and settings.database_url
    if settings.audit_every_s == 0:
        yield ()
        return
    ledger = LedgerAudit(settings.database_url, rest_share=1.0)
    valkey = connect(settings.valkey_url, max_connections=2, reply_timeout_s=30)
    watchdog = Watchdog(
        auditor=Auditor(ledger=ledger, hot=HotAudit(client=valkey, scripts=Scripts(valkey), rest_share=1.0)),
        sales=LedgerSales(base.ledger, mint=base.mint),
        mint=base.mint,
        controls={
            shard: HotControl(shard=hot, scripts=base.scripts, clock=base.clock) for shard, hot in base.hot.items()
        },
        publisher=base.bus,
        clock=base.clock,
        every_s=settings.audit_every_s,
        on_violation=settings.on_violation,
    )
    try:
        yield [watchdog.run()]
    finally:
        ledger.close()
        await valkey.aclose()


async def _settled(keeper: ShardKeeper, stopping: asyncio.Event) -> None:
    """Waits until the shards sell, or for as long as a start may take: one that cannot be rebuilt keeps no other from
    its work."""
    waits = [asyncio.create_task(keeper.settled()), asyncio.create_task(stopping.wait())]
    done, _ = await asyncio.wait(waits, timeout=_SHARDS_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
    if not done:
        log.critical("shards_stay_shut")
    for wait in waits:
        wait.cancel()


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


def _api_url(settings: Settings) -> str:
    return f"http://{_url_host(settings)}:{settings.port}"


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


async def run_rebuild(settings: Settings, *, shard: int | None) -> list[EpochBegun]:
    """Has the running keeper recount a shard or all, and says how that went."""
    assert settings.database_url
    ledger = await Ledger.connect(settings.database_url, size=1)
    try:
        rebuilds = LedgerRebuilds(ledger, settings.database_url)
        ended = await rebuilds.want_recount(shard, "hand")
        if not ended:
            raise NotFound("There is no such shard.")
        for taken_within_s in (_KEEPER_WITHIN_S, _REBUILT_WITHIN_S):
            until_s = asyncio.get_running_loop().time() + taken_within_s
            while asyncio.get_running_loop().time() < until_s:
                done = await rebuilds.begun(ended)
                if len(done) == len(ended):
                    return done
                if taken_within_s == _KEEPER_WITHIN_S and not await rebuilds.still_in(ended):
                    break  # a keeper is at it, and now only the ledger's size says how long it takes
                await asyncio.sleep(0.05)
            else:
                if taken_within_s == _KEEPER_WITHIN_S:
                    raise Unavailable("No keeper has taken it up: is the gateway running, and its writer with it?")
        raise GatewayError("The rebuild goes on; its keeper's log says why it takes so long.")
    finally:
        await ledger.close()


async def run_audit(settings: Settings, *, sale: str | None = None, final: bool = False) -> AuditReport:
    """Whether every invariant holds, from Valkey and PostgreSQL alone. `final`: the writer must have caught up."""
    assert settings.valkey_url and settings.database_url
    async with AsyncExitStack() as stack:
        ledger = await stack.enter_async_context(LedgerAudit.connect(settings.database_url))
        valkey = connect(settings.valkey_url, max_connections=2, reply_timeout_s=30)
        stack.push_async_callback(valkey.aclose)
        auditor = Auditor(ledger=ledger, hot=HotAudit(client=valkey, scripts=Scripts(valkey)))
        return await auditor.run(sale=sale, final=final)
