"""`peakgate config`: every setting with its value, where the value came from, and what it means."""

from dataclasses import asdict

import typer

from gateway.cli.output import exit_codes, print_json, print_table
from gateway.cli.servers import DataOption, JsonOption
from gateway.settings import read_settings


def register(app: typer.Typer) -> None:
    app.command("config", epilog=exit_codes(bad_usage="a setting is wrong; its name is on stderr"))(config)


def config(data: DataOption = None, as_json: JsonOption = False) -> None:
    """Show the settings as they would be used now. Secrets are masked."""
    lines = read_settings(data=data).lines()
    if as_json:
        print_json([asdict(line) for line in lines])
    else:
        titles = ("name", "value", "source", "meaning")
        print_table(titles, [[line.name, line.value or "-", line.source, line.meaning] for line in lines])
