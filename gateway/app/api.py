"""The api process: HTTP."""

import asyncio
from functools import partial

from gateway.admission.own_pages import OwnPages
from gateway.api.pages import Site
from gateway.api.server import ApiServer, build_app
from gateway.app.base import OnReady, api_url, room_live_url, serving, shards_answer, standing, within
from gateway.app.dev import build_dev_sign_in
from gateway.app.edge import Edge
from gateway.app.money import Money
from gateway.app.people import People
from gateway.app.preflight import build_preflight
from gateway.domain.sale import MIN_PAY_WITHIN_DEV_S, MIN_PAY_WITHIN_S
from gateway.flows.acts import Acts
from gateway.flows.change_sale import ChangeSale
from gateway.flows.control_sale import ControlSale
from gateway.flows.coupons import Coupons
from gateway.flows.figures import HostFigures
from gateway.flows.invariant import HostInvariant
from gateway.flows.moderate import Moderate
from gateway.flows.preflight import HostPreflight
from gateway.flows.room_telling import RoomTelling
from gateway.flows.rooms import Rooms
from gateway.flows.sales import Sales
from gateway.flows.steer_room import SteerRoom
from gateway.flows.trend import HostTrends
from gateway.hot.control import HotControl
from gateway.ledger.comments import LedgerComments
from gateway.ledger.effects import LedgerEffects
from gateway.ledger.moderation import LedgerModeration
from gateway.ledger.room_acts import LedgerActs
from gateway.ledger.trend import LedgerTrend
from gateway.ledger.verdicts import LedgerVerdicts
from gateway.ledger.webhooks import LedgerWebhooks
from gateway.process import settle_memory
from gateway.settings import Settings
from gateway.webhooks.endpoints import Endpoints


async def run_api(settings: Settings, *, on_ready: OnReady) -> int:
    """One api process: the same flows by HTTP, and the hosts' acts."""
    # Reading and packing the pages takes a while, as does reaching the servers.
    reading = asyncio.get_running_loop().run_in_executor(
        None, partial(Site, live_url=room_live_url(settings), dev=settings.dev)
    )
    async with standing(settings) as base:
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
        rooms = Rooms(
            ledger=edge.ledger_rooms,
            sales=edge.ledger_sales,
            book=edge.rooms,
            publisher=base.bus,
            news=edge.room_side.news,
            crowd=edge.room_side.hot,
            mint=base.mint,
            clock=base.clock,
        )
        moderation = LedgerModeration(base.ledger)
        telling = RoomTelling(ledger=moderation, rooms=rooms, news=edge.room_side.news)
        controls = {
            shard: HotControl(shard=hot, scripts=base.scripts, clock=base.clock) for shard, hot in base.hot.items()
        }
        money, people = Money(edge), People(edge)
        effects = LedgerEffects(base.ledger)
        control = ControlSale(
            sales=sales,
            controls=controls,
            effects=effects,
            acts=edge.ledger_sales,
            applied=edge.applied,
            news=edge.room_side.news,
            moved=edge.room_side.stock.note,
            clock=base.clock,
        )
        app = build_app(
            authenticator=edge.authenticator,
            origins=edge.origins,
            rooms=rooms,
            steer=SteerRoom(
                ledger=moderation,
                rooms=rooms,
                sales=sales,
                comments=LedgerComments(base.ledger),
                telling=telling,
                mint=base.mint,
                clock=base.clock,
            ),
            moderate=Moderate(ledger=moderation, rooms=rooms, telling=telling, mint=base.mint),
            acts=Acts(ledger=LedgerActs(base.ledger), rooms=rooms),
            figures=HostFigures(figures=edge.figures, rooms=rooms),
            trends=HostTrends(ledger=LedgerTrend(base.ledger), rooms=rooms, clock=base.clock),
            sales=sales,
            control=control,
            changing=ChangeSale(
                sales=sales,
                control=control,
                ledger=edge.ledger_sales,
                news=edge.room_side.news,
                moved=edge.room_side.stock.note,
            ),
            coupons=Coupons(
                ledger=edge.coupons.ledger,
                book=edge.coupons.book,
                hot=edge.coupons.hot,
                shards=base.hot,
                rooms=rooms,
                sales=sales,
                sale_book=edge.sales,
                effects=effects,
                applied=edge.applied,
                news=edge.room_side.news,
                publisher=base.bus,
                mint=base.mint,
                clock=base.clock,
            ),
            claiming=edge.coupons.claiming,
            claims=edge.coupons.reader,
            clock=base.clock,
            orders=edge.orders,
            reader=edge.reader,
            cancelling=money.cancelling,
            pay=money.pay,
            payments=money.payments,
            links=people.links,
            bookings=people.bookings,
            redeeming=people.redeeming,
            people=people.of_orders,
            endpoints=Endpoints(ledger=LedgerWebhooks(base.ledger), private=settings.webhook_private, dev=settings.dev),
            sandbox=money.sandbox,
            book=edge.sales,
            preflight=HostPreflight(
                sales=sales,
                preflight=build_preflight(
                    settings,
                    ledger=base.ledger,
                    mint=base.mint,
                    orders_valkey=base.orders_valkey,
                    rooms_valkey=base.rooms_valkey,
                    hot=base.hot,
                ),
            ),
            invariant=HostInvariant(sales=sales, ledger=LedgerVerdicts(base.ledger), shards=base.hot, clock=base.clock),
            room_book=edge.rooms,
            site=await reading,
            own=OwnPages(public_url=settings.public_url, port=settings.port),
            dev_sign_in=build_dev_sign_in(edge),
            live_url=room_live_url(settings),
            ready=lambda: not base.stopping.is_set(),
            surface=settings.surface,
            max_body_bytes=settings.max_body_bytes,
        )
        await edge.authenticator.prepare()
        server = ApiServer(app, stop_within_s=settings.drain_s * 0.5)
        async with serving(base, [*edge.works(), *money.works()]):
            await server.start(settings.host, settings.port)
            settle_memory()
            await shards_answer(base)
            on_ready({"role": "api", "url": api_url(settings)})
            await base.stopping.wait()
            edge.stop_admitting()
            await server.drain()
            await within(settings.drain_s * 0.4, edge.drained())
            await within(settings.drain_s * 0.1, money.drained())
            await server.stop()
    return 0
