"""`peakgate migrate` and `peakgate audit`: the schema of the ledger, and whether everything in it is true."""

import asyncio
import sys
from typing import Annotated

import typer

from gateway.cli.output import ExitCode, exit_codes, print_json, print_table
from gateway.cli.servers import DataOption, JsonOption, database_url_of, reach_servers
from gateway.ledger import migrate as migrations


def register(app: typer.Typer) -> None:
    app.command(
        "migrate",
        epilog=exit_codes(
            check_failed="a migration failed or was refused; with --status: not every migration is applied"
        ),
    )(migrate)
    app.command(
        "audit",
        epilog=exit_codes(ok="every invariant holds", check_failed="an invariant is broken, or could not be checked"),
    )(audit)


def migrate(
    status: Annotated[bool, typer.Option("--status", help="Only say what is applied and what is pending.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the schema of the ledger to this version. Goes forward only."""
    database_url = database_url_of(reach_servers(data))
    if not status:
        asyncio.run(migrations.migrate(database_url))
    found = asyncio.run(migrations.status(database_url))
    if as_json:
        print_json(
            [
                {
                    "version": each.version,
                    "name": each.name,
                    "state": each.state,
                    "applied_at": each.applied_at.isoformat() if each.applied_at else None,
                }
                for each in found
            ]
        )
    else:
        print_table(
            ("version", "name", "state", "applied at"),
            [
                [
                    f"{each.version:04d}",
                    each.name,
                    each.state,
                    each.applied_at.isoformat(timespec="seconds") if each.applied_at else "-",
                ]
                for each in found
            ],
        )
    if any(each.state != "applied" for each in found):
        raise SystemExit(int(ExitCode.CHECK_FAILED))


def audit(
    sale: Annotated[str | None, typer.Option(help="Only this sale.")] = None,
    final: Annotated[
        bool, typer.Option("--final", help="Nothing may be on its way any more: no order, no unit that comes back.")
    ] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check every invariant from Valkey and PostgreSQL alone; also during a sale.

    The rules are numbered as the invariants. None are there yet for coupons (5) and for ticks and comments (7).
    """
    settings = reach_servers(data)
    from gateway.app.tools import run_audit

    report = asyncio.run(run_audit(settings, sale=sale, final=final))
    if as_json:
        print_json(report.as_json())
    else:
        print_table(
            ("check", "verdict", "detail"),
            [[check.name, _verdict(holds=check.holds, broken=check.broken), check.detail] for check in report.checks],
        )
        sys.stdout.write("\nmoney, in minor units\n")
        print_table(
            ("currency", "received", "applied", "waiting", "refund due", "refunded", "paid orders cost"),
            [
                [
                    currency,
                    str(money.received_minor),
                    str(money.applied_minor),
                    str(money.waiting_minor),
                    str(money.refund_due_minor),
                    str(money.refunded_minor),
                    str(money.paid_orders_minor),
                ]
                for currency, money in sorted(report.figures.money.items())
            ],
        )
    if not report.holds:
        raise SystemExit(int(ExitCode.CHECK_FAILED))


def _verdict(*, holds: bool, broken: int) -> str:
    """What could not be checked just now is not called broken, and does not hold either."""
    if broken:
        return "BROKEN"
    return "holds" if holds else "UNKNOWN"
