"""The api process: HTTP."""

from gateway.api.server import ApiServer, build_app
from gateway.app.base import OnReady, api_url, live_url, serving, standing, within
from gateway.app.edge import Edge
from gateway.app.money import Money
from gateway.domain.sale import MIN_PAY_WITHIN_DEV_S, MIN_PAY_WITHIN_S
from gateway.flows.acts import Acts
from gateway.flows.control_sale import ControlSale
from gateway.flows.moderate import Moderate
from gateway.flows.room_telling import RoomTelling
from gateway.flows.rooms import Rooms
from gateway.flows.sales import Sales
from gateway.flows.steer_room import SteerRoom
from gateway.hot.control import HotControl
from gateway.ledger.comments import LedgerComments
from gateway.ledger.effects import LedgerEffects
from gateway.ledger.moderation import LedgerModeration
from gateway.ledger.room_acts import LedgerActs
from gateway.process import settle_memory
from gateway.settings import Settings


async def run_api(settings: Settings, *, on_ready: OnReady) -> int:
    """One api process: the same flows by HTTP, and the hosts' acts."""
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
        money = Money(edge)
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
            sales=sales,
            control=ControlSale(
                sales=sales,
                controls=controls,
                effects=LedgerEffects(base.ledger),
                acts=edge.ledger_sales,
                applied=edge.applied,
                news=edge.room_side.news,
                moved=edge.room_side.stock.note,
                clock=base.clock,
            ),
            orders=edge.orders,
            reader=edge.reader,
            cancelling=money.cancelling,
            pay=money.pay,
            payments=money.payments,
            sandbox=money.sandbox,
            book=edge.sales,
            live_url=f"{live_url(settings)}/v1/rooms/{{room}}/live",
            ready=lambda: not base.stopping.is_set(),
            surface=settings.surface,
            max_body_bytes=settings.max_body_bytes,
        )
        await edge.authenticator.prepare()
        server = ApiServer(app, stop_within_s=settings.drain_s * 0.5)
        async with serving(base, [*edge.works(), *money.works()]):
            await server.start(settings.host, settings.port)
            settle_memory()
            on_ready({"role": "api", "url": api_url(settings)})
            await base.stopping.wait()
            edge.orders.stop_admitting()
            await server.drain()
            await within(settings.drain_s * 0.4, edge.drained())
            await within(settings.drain_s * 0.1, money.drained())
            await server.stop()
    return 0
