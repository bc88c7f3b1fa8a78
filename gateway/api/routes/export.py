"""The orders of a sale as CSV, streamed, for spreadsheets."""

import csv
import io
from collections.abc import Iterable, Sequence

import msgspec
import structlog
from aiohttp import web

from gateway.api.callers import Callers
from gateway.api.middleware import Audience
from gateway.api.replies import OrderReply, order_reply
from gateway.api.routes import Route
from gateway.api.routes.orders import status_of
from gateway.domain.caller import Role
from gateway.domain.order import Order
from gateway.domain.sale import Sale
from gateway.errors import GatewayError
from gateway.flows.order_people import OrderPeople
from gateway.flows.orders import OrderReader
from gateway.flows.sale_book import SaleBook

log = structlog.get_logger(__name__)

COLUMNS = (
    "order",
    "sale",
    "sku",
    "quantity",
    "price_minor",
    "discount_minor",
    "amount_minor",
    "currency",
    "status",
    "reason",
    "created_at",
    "pay_by",
    "sub",
    "ref",
    "meta",
    "source",
    "referrer",
    "guide",
    "pickup",
    "redeemed_at",
)
_PAGE = 1000
# A spreadsheet takes a cell that begins so for a formula, and what stands in these columns others chose.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


class ExportRoutes:
    def __init__(self, *, callers: Callers, reader: OrderReader, people: OrderPeople, book: SaleBook) -> None:
        self._callers = callers
        self._reader = reader
        self._people = people
        self._book = book

    def routes(self) -> Iterable[Route]:
        yield Route(
            "GET",
            "/v1/sales/{sale}/orders.csv",
            self.orders_csv,
            Audience.HOSTS,
            about="The orders of a sale as CSV, in one answer.",
            gives={200: "text/csv"},
            query=("status",),
        )

    async def orders_csv(self, request: web.Request) -> web.StreamResponse:
        caller = await self._callers.of(request, Role.HOST)
        status = status_of(request)
        sale = await self._book.get(caller.shop, request.match_info["sale"])
        # The first page before the first byte: what usually goes wrong is then an ordinary problem document.
        orders, after = await self._reader.of_sale(caller, sale.sale, status=status, limit=_PAGE, after=None)
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/csv; charset=utf-8",
                "Content-Disposition": f'attachment; filename="orders-{sale.sale}.csv"',
            }
        )
        await response.prepare(request)
        try:
            await response.write(_lines([COLUMNS]) + await self._rows(orders, sale))
            while after is not None:
                orders, after = await self._reader.of_sale(caller, sale.sale, status=status, limit=_PAGE, after=after)
                await response.write(await self._rows(orders, sale))
            await response.write_eof()
        except (GatewayError, ConnectionError) as error:
            # Cut without the end of the stream, so that half a list is never taken for a whole one.
            log.warning("export_cut", sale_no=sale.sale_no, error=str(error))
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _rows(self, orders: Sequence[Order], sale: Sale) -> bytes:
        orders = await self._people.of(orders, to_staff=True)
        return _lines([_row(order_reply(order, sale, to_staff=True)) for order in orders])


def safe_cell(value: object) -> str:
    """The value as a cell that no spreadsheet runs."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else str(value)
    return "'" + text if text.startswith(_FORMULA_STARTS) else text


def _row(order: OrderReply) -> list[str]:
    """The code of a pickup is left out: tables are passed on, and whoever reads it could come for the goods."""
    cells = {column: getattr(order, column, None) for column in COLUMNS}
    cells["meta"] = None if order.meta is None else msgspec.json.encode(order.meta).decode()
    if order.pickup is not None:
        cells["pickup"] = order.pickup.place or "yes"
        cells["redeemed_at"] = order.pickup.redeemed_at
    return [safe_cell(cells[column]) for column in COLUMNS]


def _lines(rows: Iterable[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()
