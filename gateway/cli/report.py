"""`peakgate report`: what came of a show, as one page to keep and send on."""

import asyncio
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
import typer

from gateway.api.figure_replies import report_reply
from gateway.cli.output import exit_codes, print_json
from gateway.cli.report_page import ReportPage
from gateway.cli.report_words import Language
from gateway.cli.servers import DataOption, database_url_of, reach_servers
from gateway.domain.figures import Report
from gateway.errors import Invalid, NotFound
from gateway.ledger.figures import LedgerFigures
from gateway.ledger.pool import Ledger


def register(app: typer.Typer) -> None:
    app.command("report", epilog=exit_codes(check_failed="there is no such room"))(report)


def report(
    room: Annotated[str, typer.Argument(metavar="ROOM", help="The room's id, such as room_….")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", dir_okay=False, help="Where the page goes (default: report.html).")
    ] = None,
    lang: Annotated[Language, typer.Option(help="Language of the page.")] = Language.EN,
    zone: Annotated[
        str, typer.Option("--tz", metavar="ZONE", help="Zone of its times, such as Asia/Shanghai.")
    ] = "UTC",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as HTTP gives it; no page.")] = False,
    data: DataOption = None,
) -> None:
    """Write the report of a show as one HTML page that needs nothing else; also while the show runs."""
    if as_json and output is not None:
        raise Invalid("--json prints the report and -o writes its page: only one of them", param="json")
    try:
        times = ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(f"{zone!r} is no time zone here; such as UTC, Asia/Shanghai", param="tz") from None
    found = asyncio.run(_read(database_url_of(reach_servers(data)), room))
    if as_json:
        plain: Any = msgspec.json.decode(msgspec.json.encode(report_reply(found)))
        print_json(plain)
        return
    path = output or Path("report.html")
    try:
        path.write_text(ReportPage(found, language=lang, zone=times).html(), encoding="utf-8")
    except OSError as error:
        raise Invalid(f"{path} cannot be written: {error.strerror}", param="output") from error
    typer.echo(path)


async def _read(database_url: str, room: str) -> Report:
    ledger = await Ledger.connect(database_url, size=1)
    try:
        figures = LedgerFigures(ledger)
        room_no = await figures.room_no(room)
        found = None if room_no is None else await figures.report(room_no)
        if found is None:
            raise NotFound("There is no such room.")
        return found
    finally:
        await ledger.close()
