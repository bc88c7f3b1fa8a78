"""`peakgate preflight`: whether a sale and all it stands on are as they should be, before it opens."""

import asyncio
from typing import Annotated

import msgspec
import typer

from gateway.cli.output import ExitCode, exit_codes, print_json, print_table
from gateway.cli.servers import DataOption, JsonOption, reach_servers


def register(app: typer.Typer) -> None:
    app.command(
        "preflight",
        epilog=exit_codes(
            ok="nothing stands in the way; there may be warnings",
            check_failed="a line says fail, or there is no such sale",
        ),
    )(preflight)


def preflight(
    sale: Annotated[str, typer.Argument(metavar="SALE", help="The sale's id.")],
    expected_viewers: Annotated[
        int | None, typer.Option(min=1, max=100_000_000, help="Viewers at once, of all rooms (default: 10,000).")
    ] = None,
    expected_orders: Annotated[
        int | None, typer.Option(min=1, max=100_000_000, help="Orders of the sale (default: one of each unit).")
    ] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at a sale before it opens, line by line with what to do; while the gateway runs.

    Descriptors, memory and disks are those of the machine the command runs on.
    """
    settings = reach_servers(data)
    from gateway.app.preflight import run_preflight

    report = asyncio.run(run_preflight(settings, sale, viewers=expected_viewers, orders=expected_orders))
    if as_json:
        print_json(msgspec.to_builtins(report))
    else:
        print_table(
            ("check", "level", "what to see, and to do"),
            [[line.check, line.level, f"{line.message} {line.todo}".strip()] for line in report.lines],
        )
    if report.level == "fail":
        raise SystemExit(int(ExitCode.CHECK_FAILED))
