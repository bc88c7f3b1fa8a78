"""The HTTP server: which routes it serves, and how it starts, drains and stops."""

import logging
from collections.abc import Callable, Iterable
from typing import Final, Literal

from aiohttp import hdrs, web

from gateway.admission.auth import Authenticator
from gateway.admission.origins import Origins
from gateway.admission.own_pages import OwnPages
from gateway.api.bodies import BODY_BYTES
from gateway.api.callers import Callers
from gateway.api.middleware import AUDIENCES, Audience, Edge
from gateway.api.pages import Site
from gateway.api.routes import Routes
from gateway.api.routes.bookings import BookingRoutes
from gateway.api.routes.coupons import CouponRoutes
from gateway.api.routes.dev import DevRoutes
from gateway.api.routes.docs import DocsRoutes
from gateway.api.routes.export import ExportRoutes
from gateway.api.routes.figures import FigureRoutes
from gateway.api.routes.health import HealthRoutes
from gateway.api.routes.invariant import InvariantRoutes
from gateway.api.routes.links import LinkRoutes
from gateway.api.routes.moderation import ModerationRoutes
from gateway.api.routes.orders import OrderRoutes
from gateway.api.routes.pages import PageRoutes
from gateway.api.routes.payments import PaymentRoutes
from gateway.api.routes.pickups import PickupRoutes
from gateway.api.routes.preflight import PreflightRoutes
from gateway.api.routes.rooms import RoomRoutes
from gateway.api.routes.sales import SaleRoutes
from gateway.api.routes.sandbox import SandboxRoutes
from gateway.api.routes.webhooks import WebhookRoutes
from gateway.clock import Clock
from gateway.flows.acts import Acts
from gateway.flows.bookings import Bookings
from gateway.flows.cancel_order import CancelOrder
from gateway.flows.change_sale import ChangeSale
from gateway.flows.claim import ClaimCoupon
from gateway.flows.claims import ClaimReader
from gateway.flows.control_sale import ControlSale
from gateway.flows.coupons import Coupons
from gateway.flows.dev_sign_in import DevSignIn
from gateway.flows.figures import HostFigures
from gateway.flows.invariant import HostInvariant
from gateway.flows.links import Links
from gateway.flows.moderate import Moderate
from gateway.flows.order_people import OrderPeople
from gateway.flows.orders import OrderReader
from gateway.flows.pay import PayOrder
from gateway.flows.payments import Payments
from gateway.flows.pickups import RedeemPickup
from gateway.flows.place_order import PlaceOrder
from gateway.flows.preflight import HostPreflight
from gateway.flows.room_book import RoomBook
from gateway.flows.rooms import Rooms
from gateway.flows.sale_book import SaleBook
from gateway.flows.sales import Sales
from gateway.flows.steer_room import SteerRoom
from gateway.flows.trend import HostTrends
from gateway.payments.sandbox import Sandbox
from gateway.webhooks.endpoints import Endpoints

Surface = Literal["all", "public", "control"]

EDGE: Final = web.AppKey("edge", Edge)

_SERVED: Final[dict[Surface, frozenset[Audience]]] = {
    "all": frozenset(Audience),
    "public": frozenset({Audience.VIEWERS, Audience.ANY, Audience.HEALTH}),
    "control": frozenset({Audience.HOSTS, Audience.PROVIDERS, Audience.ANY, Audience.HEALTH}),
}
# Also the time in which the headers of a request must be complete.
_KEEPALIVE_S: Final = 15.0
_LINGER_S: Final = 1.0


def build_app(
    *,
    authenticator: Authenticator,
    origins: Origins,
    rooms: Rooms,
    steer: SteerRoom,
    moderate: Moderate,
    acts: Acts,
    figures: HostFigures,
    trends: HostTrends,
    sales: Sales,
    control: ControlSale,
    changing: ChangeSale,
    coupons: Coupons,
    claiming: ClaimCoupon,
    claims: ClaimReader,
    clock: Clock,
    orders: PlaceOrder,
    reader: OrderReader,
    cancelling: CancelOrder,
    pay: PayOrder,
    payments: Payments,
    links: Links,
    bookings: Bookings,
    redeeming: RedeemPickup,
    people: OrderPeople,
    endpoints: Endpoints,
    sandbox: Sandbox | None,
    book: SaleBook,
    preflight: HostPreflight,
    invariant: HostInvariant,
    room_book: RoomBook,
    site: Site,
    own: OwnPages,
    dev_sign_in: DevSignIn | None,
    live_url: str,
    ready: Callable[[], bool],
    surface: Surface = "all",
    max_body_bytes: int = BODY_BYTES,
) -> web.Application:
    """`live_url` is where the sockets are, with `{room}` in the place of a room's id. Without a `dev_sign_in` there is
    no such address."""
    edge = Edge(origins=origins)
    app = web.Application(middlewares=[edge.handle])
    app.on_response_prepare.append(edge.sign)
    callers = Callers(authenticator)
    docs = DocsRoutes()
    parts: Iterable[Routes] = (
        HealthRoutes(ready=ready),
        RoomRoutes(callers=callers, rooms=rooms, bookings=bookings, live_url=live_url, max_bytes=max_body_bytes),
        LinkRoutes(callers=callers, links=links, max_bytes=max_body_bytes),
        BookingRoutes(callers=callers, bookings=bookings),
        ModerationRoutes(callers=callers, steer=steer, moderate=moderate, acts=acts, max_bytes=max_body_bytes),
        SaleRoutes(callers=callers, sales=sales, control=control, changing=changing, max_bytes=max_body_bytes),
        CouponRoutes(
            callers=callers,
            coupons=coupons,
            claiming=claiming,
            claims=claims,
            clock=clock,
            max_bytes=max_body_bytes,
        ),
        OrderRoutes(
            callers=callers,
            orders=orders,
            reader=reader,
            cancelling=cancelling,
            payments=payments,
            people=people,
            book=book,
        ),
        PaymentRoutes(callers=callers, pay=pay, payments=payments, people=people, book=book, max_bytes=max_body_bytes),
        PickupRoutes(callers=callers, redeeming=redeeming, reader=reader, people=people, book=book),
        *([] if sandbox is None else [SandboxRoutes(sandbox=sandbox)]),
        ExportRoutes(callers=callers, reader=reader, people=people, book=book),
        WebhookRoutes(callers=callers, endpoints=endpoints, max_bytes=max_body_bytes),
        FigureRoutes(callers=callers, figures=figures, trends=trends),
        PreflightRoutes(callers=callers, preflight=preflight),
        InvariantRoutes(callers=callers, invariant=invariant),
        PageRoutes(site=site, rooms=room_book, origins_of=origins.of, live_url=live_url),
        *([] if dev_sign_in is None else [DevRoutes(sign_in=dev_sign_in, own=own)]),
        docs,
    )
    audiences: dict[web.AbstractRoute, Audience] = {}
    served = [route for part in parts for route in part.routes() if route.audience in _SERVED[surface]]
    for route in served:
        audiences[app.router.add_route(route.method, route.path, route.handler)] = route.audience
        if route.method == hdrs.METH_GET and (route.audience is not Audience.HOSTS or route.roles == ()):
            audiences[app.router.add_route(hdrs.METH_HEAD, route.path, route.handler)] = route.audience
    docs.write(served, live_url=live_url)
    app[AUDIENCES] = audiences
    app[EDGE] = edge
    return app


class ApiServer:
    """Start, then drain, then stop. Draining refuses new requests honestly and lets those in flight finish.

    What is in flight at `stop` has `stop_within_s` more and is then cut; who was cut repeats with the same key.
    """

    def __init__(self, app: web.Application, *, stop_within_s: float) -> None:
        self._edge = app[EDGE]
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=_quiet_logger(),
            keepalive_timeout=_KEEPALIVE_S,
            lingering_time=_LINGER_S,
            shutdown_timeout=stop_within_s,
            handle_signals=False,
        )
        self._site: web.TCPSite | None = None

    async def start(self, host: str, port: int, *, shared: bool = False) -> int:
        """Listens, and says on which port. `shared`: several processes on one, the kernel spreads the connections."""
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, host, port, backlog=4096, reuse_port=shared or None)
        await self._site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def drain(self) -> None:
        """From here on nothing new is begun and no new connection is taken."""
        self._edge.stop_admitting()
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def stop(self) -> None:
        await self._runner.cleanup()


def _quiet_logger() -> logging.Logger:
    """aiohttp logs a traceback for every request that is none; whoever sends such a thing does not write our logs.

    Errors of handlers never get there: the middleware answers and logs them.
    """
    logger = logging.getLogger("peakgate.api.http")
    logger.setLevel(logging.CRITICAL + 1)
    return logger
