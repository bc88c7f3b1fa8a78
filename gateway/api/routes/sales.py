"""Addresses of sales, but for their orders."""

from collections.abc import Iterable

from aiohttp import web

from gateway.api.bodies import page_of, read_body, required_key
from gateway.api.callers import Callers
from gateway.api.messages import ChangedSale, ChangedStock, NewSale
from gateway.api.middleware import Audience, Handler
from gateway.api.replies import ItemReply, PageReply, SaleReply, item_reply, json_reply, sale_reply
from gateway.api.routes import Route
from gateway.domain.acts import Act
from gateway.domain.caller import Role
from gateway.flows.change_sale import ChangeSale
from gateway.flows.control_sale import ControlSale
from gateway.flows.sales import Sales

_ACTS = {
    Act.OPEN: "Opens the sale now, whenever it was to open.",
    Act.PAUSE: "Nothing is sold until it is resumed.",
    Act.RESUME: "Sells again.",
    Act.CLOSE: "Ends the sale; closed is final.",
}


class SaleRoutes:
    def __init__(
        self, *, callers: Callers, sales: Sales, control: ControlSale, changing: ChangeSale, max_bytes: int
    ) -> None:
        self._callers = callers
        self._sales = sales
        self._control = control
        self._changing = changing
        self._max_bytes = max_bytes

    def routes(self) -> Iterable[Route]:
        sale = {200: SaleReply}
        yield Route(
            "POST",
            "/v1/sales",
            self.create,
            Audience.HOSTS,
            about="Makes a sale; one whose `opens_at` has passed opens at once.",
            takes=NewSale,
            gives={201: SaleReply},
            refuses=("not_found", "conflict"),
            keyed=True,
        )
        yield Route(
            "GET",
            "/v1/sales",
            self.of_shop,
            Audience.ANY,
            about="The shop's sales, newest first; with `room` those of the room.",
            gives={200: PageReply[SaleReply]},
            refuses=("not_found",),
            query=("limit", "after", "room"),
        )
        yield Route(
            "GET",
            "/v1/sales/{sale}",
            self.read,
            Audience.ANY,
            about="A sale; `left` or `low` as its `stock_display` says, for staff all of its stock.",
            gives=sale,
        )
        yield Route(
            "PATCH",
            "/v1/sales/{sale}",
            self.change,
            Audience.HOSTS,
            about="Changes title, window, display or prices; orders from here on pay the new ones.",
            takes=ChangedSale,
            gives=sale,
            refuses=("conflict",),
        )
        for act, what in _ACTS.items():
            yield Route(
                "POST",
                f"/v1/sales/{{sale}}/{act}",
                self._acting(act),
                Audience.HOSTS,
                about=what,
                gives=sale,
                refuses=("conflict",),
            )
        yield Route(
            "POST",
            "/v1/sales/{sale}/items/{sku}/stock",
            self.change_stock,
            Audience.HOSTS,
            about="Adds units to an item, or takes some away; not below what is held or sold.",
            takes=ChangedStock,
            gives={200: ItemReply},
            refuses=("conflict", "stock_in_use"),
            keyed=True,
        )

    async def create(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        key = required_key(request)
        body = await read_body(request, NewSale, max_bytes=self._max_bytes)
        reading, replayed = await self._sales.create(caller, body.draft(), key)
        return json_reply(sale_reply(reading, to_staff=True), status=201, replayed=replayed)

    async def of_shop(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request)
        page = page_of(request)
        readings, next_cursor = await self._sales.of_shop(
            caller, limit=page.limit, after=page.after, room=request.query.get("room")
        )
        items = [sale_reply(reading, to_staff=caller.is_staff) for reading in readings]
        return json_reply(PageReply(items=items, next=next_cursor))

    async def read(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request)
        reading = await self._sales.read(caller, request.match_info["sale"])
        return json_reply(sale_reply(reading, to_staff=caller.is_staff))

    async def change(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        body = await read_body(request, ChangedSale, max_bytes=self._max_bytes)
        reading = await self._changing.change(caller, request.match_info["sale"], body.changes())
        return json_reply(sale_reply(reading, to_staff=True))

    def _acting(self, act: Act) -> Handler:
        async def acting(request: web.Request) -> web.Response:
            caller = await self._callers.of(request, Role.HOST)
            reading = await self._control.act(caller, request.match_info["sale"], act)
            return json_reply(sale_reply(reading, to_staff=True))

        return acting

    async def change_stock(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        key = required_key(request)
        body = await read_body(request, ChangedStock, max_bytes=self._max_bytes)
        reading, item, replayed = await self._control.change_stock(
            caller, request.match_info["sale"], request.match_info["sku"], add=body.add, reason=body.reason, key=key
        )
        return json_reply(item_reply(reading, item, to_staff=True), replayed=replayed)
