"""Which servers a verb talks to: those of the URLs, else those of the gateway that runs on the data folder."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.embedded import DataFolder
from gateway.errors import ServersNotRunning
from gateway.settings import Settings, read_settings

DataOption = Annotated[
    Path | None, typer.Option("--data", help="Data folder of the running gateway (default: .peakgate).")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def reach_servers(data: Path | None, **flags: object) -> Settings:
    """Settings whose three URLs are set; `embedded` tells whether they are a running gateway's own servers.

    A `--data` on the command line is meant: it comes before URLs that only stand in the environment.
    """
    settings = read_settings(data=data, **flags)
    if data is None and not settings.embedded:
        return settings
    running = DataFolder(settings.data).find_running()
    if running is None:
        if not settings.embedded:
            return settings
        raise ServersNotRunning(
            f"no gateway runs on {DataFolder(settings.data).path}: start it with `peakgate up`, give its --data, "
            "or set VALKEY_URL, ROOMS_VALKEY_URL and DATABASE_URL"
        )
    return settings.with_urls(
        valkey_url=running.valkey_url,
        rooms_valkey_url=running.rooms_valkey_url,
        database_url=running.database_url,
        embedded=running.embedded,
    )


def database_url_of(settings: Settings) -> str:
    assert settings.database_url is not None
    return settings.database_url
