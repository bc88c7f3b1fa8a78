"""The HTTP server: which routes it serves, and how it starts, drains and stops."""

import logging
from collections.abc import Callable, Iterable
from typing import Final, Literal

from aiohttp import hdrs, web

from gateway.admission.auth import Authenticator
from gateway.admission.origins import Origins
from gateway.api.bodies import BODY_BYTES
from gateway.api.callers import Callers
from gateway.api.middleware import AUDIENCES, Audience, Edge
from gateway.api.routes import Routes
from gateway.api.routes.export import ExportRoutes
from gateway.api.routes.health import HealthRoutes
from gateway.api.routes.moderation import ModerationRoutes
from gateway.api.routes.orders import OrderRoutes
from gateway.api.routes.payments import PaymentRoutes
from gateway.api.routes.rooms import RoomRoutes
from gateway.api.routes.sales import SaleRoutes
from gateway.api.routes.sandbox import SandboxRoutes
from gateway.flows.acts import Acts
from gateway.flows.cancel_order import CancelOrder
from gateway.flows.control_sale import ControlSale
from gateway.flows.moderate import Moderate
from gateway.flows.orders import OrderReader
from gateway.flows.pay import PayOrder
from gateway.flows.payments import Payments
from gateway.flows.place_order import PlaceOrder
from gateway.flows.rooms import Rooms
from gateway.flows.sale_book import SaleBook
from gateway.flows.sales import Sales
from gateway.flows.steer_room import SteerRoom
from gateway.payments.sandbox import Sandbox

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
    sales: Sales,
    control: ControlSale,
    orders: PlaceOrder,
    reader: OrderReader,
    cancelling: CancelOrder,
    pay: PayOrder,
    payments: Payments,
    sandbox: Sandbox | None,
    book: SaleBook,
    live_url: str,
    ready: Callable[[], bool],
    surface: Surface = "all",
    max_body_bytes: int = BODY_BYTES,
) -> web.Application:
    """`live_url` is where the sockets are, with `{room}` in the place of a room's id."""
    edge = Edge(origins=origins)
    app = web.Application(middlewares=[edge.handle])
    app.on_response_prepare.append(edge.sign)
    callers = Callers(authenticator)
    parts: Iterable[Routes] = (
        HealthRoutes(ready=ready),
        RoomRoutes(callers=callers, rooms=rooms, live_url=live_url, max_bytes=max_body_bytes),
        ModerationRoutes(callers=callers, steer=steer, moderate=moderate, acts=acts, max_bytes=max_body_bytes),
        SaleRoutes(callers=callers, sales=sales, control=control, max_bytes=max_body_bytes),
        OrderRoutes(callers=callers, orders=orders, reader=reader, cancelling=cancelling, payments=payments, book=book),
        PaymentRoutes(callers=callers, pay=pay, payments=payments, book=book, max_bytes=max_body_bytes),
        *([] if sandbox is None else [SandboxRoutes(sandbox=sandbox)]),
        ExportRoutes(callers=callers, reader=reader, book=book),
    )
    audiences: dict[web.AbstractRoute, Audience] = {}
    for part in parts:
        for route in part.routes():
            if route.audience in _SERVED[surface]:
                audiences[app.router.add_route(route.method, route.path, route.handler)] = route.audience
                if route.method == hdrs.METH_GET and route.audience is not Audience.HOSTS:
                    audiences[app.router.add_route(hdrs.METH_HEAD, route.path, route.handler)] = route.audience
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
