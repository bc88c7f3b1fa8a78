"""Addresses of pickups: the viewer shows the code of a paid order, the shop redeems it."""

from collections.abc import Callable, Iterable

from aiohttp import web

from gateway.api.bodies import required_key
from gateway.api.callers import Callers
from gateway.api.middleware import Audience, Handler
from gateway.api.people_replies import pickup_png, pickup_svg
from gateway.api.replies import LostOrderReply, OrderReply, json_reply, shown_reply
from gateway.api.routes import Route
from gateway.domain.caller import Role
from gateway.errors import Conflict, NotFound, OutcomeUnknown
from gateway.flows.order_people import OrderPeople
from gateway.flows.orders import OrderReader
from gateway.flows.pickups import RedeemPickup
from gateway.flows.sale_book import SaleBook
from gateway.wire.objects import asks_pickup

_SVG, _PNG = "image/svg+xml", "image/png"


class PickupRoutes:
    def __init__(
        self, *, callers: Callers, redeeming: RedeemPickup, reader: OrderReader, people: OrderPeople, book: SaleBook
    ) -> None:
        self._callers = callers
        self._redeeming = redeeming
        self._reader = reader
        self._people = people
        self._book = book

    def routes(self) -> Iterable[Route]:
        for kind, drawn, content_type in (("svg", pickup_svg, _SVG), ("png", pickup_png, _PNG)):
            yield Route(
                "GET",
                f"/v1/orders/{{order}}/pickup.{kind}",
                self._picture(drawn, content_type),
                Audience.VIEWERS,
                about="The code of an own paid order as a QR code; before it is paid 409.",
                gives={200: content_type},
                refuses=("conflict",),
            )
        yield Route(
            "POST",
            "/v1/pickups/{code}/redeem",
            self.redeem,
            Audience.HOSTS,
            about="Hands a paid order over, once: afterwards 409 `already_redeemed`, with the time it was.",
            gives={200: OrderReply | LostOrderReply},
            refuses=("conflict", "already_redeemed"),
            keyed=True,
            roles=(Role.HOST, Role.CLERK),
        )

    def _picture(self, drawn: Callable[[str], bytes], content_type: str) -> Handler:
        async def picture(request: web.Request) -> web.Response:
            caller = await self._callers.of(request, Role.VIEWER)
            order = await self._reader.by_id(caller, request.match_info["order"])
            if not asks_pickup(order):
                raise NotFound("The order is not to be picked up.")
            (order,) = await self._people.of([order], to_staff=False)
            if order.pickup is None:
                raise Conflict(f"The order is {order.status}: its code comes with the payment.")
            return web.Response(body=drawn(order.pickup.code), content_type=content_type)

        return picture

    async def redeem(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST, Role.CLERK)
        key = required_key(request)
        order, replayed = await self._redeeming.redeem(caller, request.match_info["code"], key)
        (order,) = await self._people.of([order], to_staff=True)
        sale = await self._book.by_no(order.sale_no)
        if sale is None:
            raise OutcomeUnknown from NotFound("There is no such sale.")
        return json_reply(shown_reply(order, sale, to_staff=True), replayed=replayed)
