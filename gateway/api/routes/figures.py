"""Addresses of a show's figures and of its report."""

import csv
import io
from collections.abc import Iterable

from aiohttp import web

from gateway.api.callers import Callers
from gateway.api.figure_replies import (
    PARTS,
    MetricsReply,
    ReportReply,
    TrendReply,
    metrics_reply,
    part_rows,
    report_reply,
    trend_reply,
)
from gateway.api.middleware import Audience
from gateway.api.replies import json_reply
from gateway.api.routes import Route
from gateway.api.routes.export import safe_cell
from gateway.domain.caller import Role
from gateway.errors import Invalid
from gateway.flows.figures import HostFigures
from gateway.flows.trend import HostTrends


class FigureRoutes:
    def __init__(self, *, callers: Callers, figures: HostFigures, trends: HostTrends) -> None:
        self._callers = callers
        self._figures = figures
        self._trends = trends

    def routes(self) -> Iterable[Route]:
        room = "/v1/rooms/{room}"
        yield Route(
            "GET",
            f"{room}/metrics",
            self.metrics,
            Audience.HOSTS,
            about="The figures of a show as they are now.",
            gives={200: MetricsReply},
            refuses=("not_found",),
        )
        yield Route(
            "GET",
            f"{room}/trend",
            self.trend,
            Audience.HOSTS,
            about="Key figures of the last ten minutes of a show against the ten before.",
            gives={200: TrendReply},
            refuses=("not_found",),
        )
        yield Route(
            "GET",
            f"{room}/report",
            self.report,
            Audience.HOSTS,
            about="The report of a show: figures, funnel, timeline, and by item, coupon, source; also during it.",
            gives={200: ReportReply},
            refuses=("not_found",),
        )
        yield Route(
            "GET",
            f"{room}/report.csv",
            self.report_csv,
            Audience.HOSTS,
            about="One part of the report as CSV, by default the lines of its items.",
            gives={200: "text/csv"},
            refuses=("not_found", "invalid"),
            query=("part",),
        )

    async def metrics(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        room, reading = await self._figures.metrics(caller, request.match_info["room"])
        return json_reply(metrics_reply(room.room, reading))

    async def trend(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        room, trend = await self._trends.trend(caller, request.match_info["room"])
        return json_reply(trend_reply(room.room, trend))

    async def report(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        return json_reply(report_reply(await self._figures.report(caller, request.match_info["room"])))

    async def report_csv(self, request: web.Request) -> web.Response:
        caller = await self._callers.of(request, Role.HOST)
        part = request.query.get("part", PARTS[0])
        if part not in PARTS:
            raise Invalid(f"A part is one of {', '.join(PARTS)}.", param="part")
        reply = report_reply(await self._figures.report(caller, request.match_info["room"]))
        text = io.StringIO()
        rows = ([safe_cell(cell) for cell in row] for row in part_rows(reply, part))
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        return web.Response(
            text=text.getvalue(),
            content_type="text/csv",
            charset="utf-8",
            headers={"Content-Disposition": f'attachment; filename="report-{reply.room}-{part}.csv"'},
        )
