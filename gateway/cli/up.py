"""`peakgate up`: the embedded servers, where none are given, and every process of the gateway on this machine."""

import asyncio
import contextlib
import errno
import os
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Annotated, Final

import structlog
import typer
import uvloop
from setproctitle import setproctitle

from gateway.admin.gather import AdminGather
from gateway.children import Executed, Forked, Starts
from gateway.cli.output import ExitCode, exit_codes, print_json_line
from gateway.clock import SystemClock
from gateway.embedded import DataFolder, EmbeddedServers, RunningGateway, ServerUrls
from gateway.errors import SettingsError
from gateway.ledger.migrate import migrate
from gateway.logs import set_up_logs
from gateway.settings import Settings, name_of, read_settings
from gateway.supervise import ChildSpec, Stage, StartFailed, Supervisor, drain_share_s

log = structlog.get_logger(__name__)

HostOption = Annotated[str | None, typer.Option(help="Address to listen on (default: 127.0.0.1).")]
PortOption = Annotated[int | None, typer.Option(help="Port of the HTTP api (default: 8080).")]
LivePortOption = Annotated[int | None, typer.Option(help="Port of the live sockets (default: the api's + 1).")]
AdminPortOption = Annotated[int | None, typer.Option(help="Port of metrics and health (default: the api's + 2).")]
WorkersOption = Annotated[int | None, typer.Option(help="Live processes (default: 1).")]
DataOption = Annotated[Path | None, typer.Option(help="Folder of data, secrets and the lock (default: .peakgate).")]
DevOption = Annotated[
    bool | None, typer.Option("--dev", help="Development: payments are played, short payment terms are allowed.")
]

# A gateway that was killed a moment ago still gives its ports back.
_PORT_PATIENCE_S: Final = 2.0
_PORT_POLL_S: Final = 0.05


def register(app: typer.Typer) -> None:
    app.command(
        "up",
        epilog=exit_codes(
            ok="drained after SIGTERM or SIGINT",
            check_failed="a process could not be started, or had to be killed in the drain",
        ),
    )(up)


def up(
    host: HostOption = None,
    port: PortOption = None,
    live_port: LivePortOption = None,
    admin_port: AdminPortOption = None,
    workers: WorkersOption = None,
    data: DataOption = None,
    dev: DevOption = None,
) -> None:
    """Run everything on this machine until SIGTERM or SIGINT.

    With no VALKEY_URL, ROOMS_VALKEY_URL and DATABASE_URL it starts private servers in the data folder. When all is
    ready it prints one JSON line on stdout. The first signal drains, a second one ends at once.
    """
    settings = read_settings(
        host=host, port=port, live_port=live_port, admin_port=admin_port, workers=workers, data=data, dev=dev
    )
    setproctitle("peakgate up")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        status = runner.run(run_up(settings))
    raise SystemExit(status)


async def run_up(settings: Settings) -> int:
    folder = DataFolder(settings.data)
    await folder.acquire()
    try:
        set_up_logs(
            process="up",
            level=settings.log_level,
            log_format=settings.log_format,
            key=_log_key(settings, folder).encode(),
            clock=SystemClock(),
        )
        await _check_ports(settings)
        servers = EmbeddedServers(folder) if settings.embedded else None
        async with _starts() as starts:
            urls = await servers.start() if servers is not None else _given_urls(settings)
            try:
                return await _supervise(settings, folder, servers, urls, starts)
            finally:
                if servers is not None:
                    # Does nothing after the supervisor's own stop; matters when it never began.
                    await servers.stop(within_s=1.0)
    finally:
        folder.release()


@contextlib.asynccontextmanager
async def _starts() -> AsyncIterator[Starts]:
    """The spawner reads our code while the servers start."""
    if sys.platform != "linux":
        # Elsewhere a child that was forked may not use what the system's own libraries began in its parent.
        yield Executed((sys.executable, "-P", "-m", "gateway"))
        return
    async with Forked((sys.executable, "-P", "-m", "gateway", "spawner")) as forked:
        yield forked


async def _supervise(
    settings: Settings, folder: DataFolder, servers: EmbeddedServers | None, urls: ServerUrls, starts: Starts
) -> int:
    applied = await migrate(urls.database_url)
    log.info("migrated", applied=[migration.version for migration in applied], embedded=servers is not None)
    running = _running(settings, urls, embedded=servers is not None)
    # Before anything is ready, so that a verb can already find the servers of a gateway that does not come up.
    folder.announce(running)

    def announce_ready() -> None:
        print_json_line(
            {
                "ready": True,
                "url": running.url,
                "live_url": running.live_url,
                "admin_url": running.admin_url,
                "data": str(folder.path),
            }
        )

    sockets = {name: folder.socket_folder() / f"admin-{name.replace(' ', '-')}.sock" for name in _child_names(settings)}
    gather = AdminGather(sockets)
    await gather.start(settings.admin_host, settings.admin_port)
    supervisor = Supervisor(
        children=_children(settings, folder, urls, sockets),
        servers=servers,
        drain_s=settings.drain_s,
        on_ready=announce_ready,
        starts=starts,
    )
    try:
        return await supervisor.run()
    except StartFailed as error:
        typer.echo(f"peakgate: {error.message}; its own words are above", err=True)
        return error.status if error.status in list(ExitCode) and error.status else ExitCode.CHECK_FAILED
    finally:
        await gather.stop()


def _child_names(settings: Settings) -> list[str]:
    return [*(f"live {index}" for index in range(1, settings.workers + 1)), "api", "writer", "keeper"]


def _children(settings: Settings, folder: DataFolder, urls: ServerUrls, sockets: Mapping[str, Path]) -> list[ChildSpec]:
    environment = {
        **settings.as_environment(),
        **urls.as_environment(),
        name_of("data"): str(folder.path),
        name_of("log_key"): _log_key(settings, folder),
    }

    def child(name: str, stage: Stage) -> ChildSpec:
        share = {name_of("drain_s"): str(drain_share_s(stage, settings.drain_s))}
        verb, _, index = name.partition(" ")
        argv = [verb, *(["--index", index] if index else [])]
        socket = {name_of("admin_socket"): str(sockets[name])}
        return ChildSpec(name=name, argv=argv, stage=stage, environment={**environment, **share, **socket})

    return [
        *(child(f"live {index}", Stage.EDGE) for index in range(1, settings.workers + 1)),
        child("api", Stage.EDGE),
        child("writer", Stage.WRITER),
        child("keeper", Stage.KEEPER),
    ]


def _running(settings: Settings, urls: ServerUrls, *, embedded: bool) -> RunningGateway:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    admin_host = f"[{settings.admin_host}]" if ":" in settings.admin_host else settings.admin_host
    return RunningGateway(
        pid=os.getpid(),
        valkey_url=urls.valkey_url,
        rooms_valkey_url=urls.rooms_valkey_url,
        database_url=urls.database_url,
        embedded=embedded,
        url=f"http://{host}:{settings.port}",
        live_url=settings.live_url or f"ws://{host}:{settings.live_port}",
        admin_url=f"http://{admin_host}:{settings.admin_port}",
    )


def _given_urls(settings: Settings) -> ServerUrls:
    assert settings.valkey_url and settings.rooms_valkey_url and settings.database_url
    return ServerUrls(
        valkey_url=settings.valkey_url,
        rooms_valkey_url=settings.rooms_valkey_url,
        database_url=settings.database_url,
    )


def _log_key(settings: Settings, folder: DataFolder) -> str:
    """The same for all our processes, so that the hash of a viewer is the same in all their lines."""
    return settings.log_key.get_secret_value() if settings.log_key else folder.secret("log").hex()


async def _check_ports(settings: Settings) -> None:
    """Say which setting to change before anything is started; the processes would only say `address in use`."""
    for field, host in (("port", settings.host), ("live_port", settings.host), ("admin_port", settings.admin_host)):
        await _check_port(name_of(field), host, getattr(settings, field))


async def _check_port(name: str, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _PORT_PATIENCE_S
    while True:
        try:
            family, kind, _, _, address = (await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM))[0]
            with contextlib.closing(socket.socket(family, kind)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
            return
        except OSError as error:
            if error.errno == errno.EADDRINUSE and loop.time() < deadline:
                await asyncio.sleep(_PORT_POLL_S)
                continue
            reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be listened on: {error.strerror}"
            raise SettingsError(
                f"{name} is {port}: {host}:{port} {reason}; allowed is: a free port", param=name
            ) from error
