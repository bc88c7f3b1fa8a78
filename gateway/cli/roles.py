"""`peakgate live`, `api`, `writer`, `keeper`: one process of the gateway each, alone or under `peakgate up`."""

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Annotated, Literal

import structlog
import typer
import uvloop
from setproctitle import setproctitle

from gateway import points
from gateway.cli.output import exit_codes, print_json_line
from gateway.cli.servers import DataOption, reach_servers
from gateway.clock import SystemClock
from gateway.errors import MigrationError
from gateway.logs import set_up_logs
from gateway.settings import Settings

log = structlog.get_logger(__name__)

OnReady = Callable[[dict[str, object]], None]

_CODES = exit_codes(ok="drained after SIGTERM or SIGINT", check_failed="it could not go on, or not drain in time")


def register(app: typer.Typer) -> None:
    for verb in (live, api, writer, keeper):
        app.command(verb.__name__, epilog=_CODES)(verb)


def live(
    index: Annotated[int, typer.Option(min=1, help="Which of the live processes this is.")] = 1,
    data: DataOption = None,
) -> None:
    """Serve the live sockets until SIGTERM."""
    settings = reach_servers(data)
    # The assembler imports every part of the gateway; the other verbs start faster without it.
    from gateway.app.live import run_live

    _run(f"live {index}", settings, run_live(settings, index=index, on_ready=_say_ready))


def api(
    surface: Annotated[
        Literal["all", "public", "control"] | None,
        typer.Option(help="What to serve: viewers' HTTP, the hosts', or all (the default)."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Serve HTTP until SIGTERM."""
    settings = reach_servers(data, surface=surface)
    from gateway.app.api import run_api

    _run("api", settings, run_api(settings, on_ready=_say_ready))


def writer(data: DataOption = None) -> None:
    """Bring the order stream into the ledger until SIGTERM."""
    settings = reach_servers(data)
    from gateway.app.writer import run_writer

    _run("writer", settings, run_writer(settings, on_ready=_say_ready))


def keeper(data: DataOption = None) -> None:
    """Open shards, load sales that Valkey lacks, return released units, until SIGTERM."""
    settings = reach_servers(data)
    from gateway.app.keeper import run_keeper

    _run("keeper", settings, run_keeper(settings, on_ready=_say_ready))


def _run(role: str, settings: Settings, work: Coroutine[object, object, int]) -> None:
    setproctitle(f"peakgate {role}")
    # Alone and without a key, hashes of viewers match within this process only.
    key = settings.log_key.get_secret_value().encode() if settings.log_key else secrets.token_bytes(32)
    set_up_logs(process=role, level=settings.log_level, log_format=settings.log_format, key=key, clock=SystemClock())
    points.arm(settings.fault_points)
    if settings.fault_points is not None:
        log.warning("fault_points_armed", folder=str(settings.fault_points))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            status = runner.run(work)
        except BaseExceptionGroup as errors:
            # Whatever else the end of one part brought about, this is what somebody has to do something about.
            newer, _ = errors.split(MigrationError)
            if newer is None:
                raise
            raise MigrationError(str(_first(newer))) from None
    raise SystemExit(status)


def _first(errors: BaseException) -> BaseException:
    return _first(errors.exceptions[0]) if isinstance(errors, BaseExceptionGroup) else errors


def _say_ready(facts: dict[str, object]) -> None:
    print_json_line({"ready": True, **facts})
