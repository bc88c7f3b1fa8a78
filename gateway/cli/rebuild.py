"""`peakgate rebuild`: a shard is recounted from the ledger by hand, while the gateway runs."""

import asyncio
from typing import Annotated

import typer

from gateway.cli.output import exit_codes, print_json, print_table
from gateway.cli.servers import DataOption, JsonOption, reach_servers


def register(app: typer.Typer) -> None:
    app.command(
        "rebuild",
        epilog=exit_codes(
            ok="the shards sell again, recounted",
            check_failed="there is no such shard, or a rebuild was not done in time",
            unreachable="the servers cannot be reached, or no keeper is at work",
        ),
    )(rebuild)


def rebuild(
    shard: Annotated[int | None, typer.Option(help="Only this shard (default: all).", min=0)] = None,
    data: DataOption = None,
    as_json: JsonOption = False,
) -> None:
    """Count stock, limits and keys in Valkey anew from the ledger.

    The keeper of the running gateway does it: each shard is shut for a moment, what its stream holds is brought into
    the ledger, and it sells again in a new epoch. No order is lost by it.
    """
    settings = reach_servers(data)
    from gateway.app.tools import run_rebuild

    done = asyncio.run(run_rebuild(settings, shard=shard))
    if as_json:
        print_json([each._asdict() for each in done])
        return
    print_table(
        ("shard", "epoch", "orders", "seconds"),
        [
            [str(each.shard), str(each.epoch), "-" if each.orders is None else str(each.orders), f"{each.seconds:.3f}"]
            for each in done
        ],
    )
