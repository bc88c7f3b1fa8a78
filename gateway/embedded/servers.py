"""The embedded servers together: start, keep running, stop."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never

import structlog

from gateway.embedded.folder import DataFolder
from gateway.embedded.postgres import PostgresServer
from gateway.embedded.valkey import ORDERS, ROOMS, ValkeyServer
from gateway.errors import EmbeddedServerError

log = structlog.get_logger(__name__)

_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
# A server that lived this long died of something new: the next pause is short again.
_STABLE_AFTER_S: Final = 30.0

Server = ValkeyServer | PostgresServer


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUrls:
    valkey_url: str
    rooms_valkey_url: str
    database_url: str

    def as_environment(self) -> dict[str, str]:
        return {
            "VALKEY_URL": self.valkey_url,
            "ROOMS_VALKEY_URL": self.rooms_valkey_url,
            "DATABASE_URL": self.database_url,
        }


class EmbeddedServers:
    """Two Valkeys and a PostgreSQL on a data folder whose lock we hold.

    `start` returns when all answer; what an earlier, killed owner stored is there again. The addresses stay the same
    for as long as this object lives, also when `keep_running` starts a dead server anew. None of them outlives us.
    """

    def __init__(self, folder: DataFolder) -> None:
        self._folder = folder
        self._servers: tuple[Server, ...] = ()
        self._stopping = False

    @property
    def pids(self) -> dict[str, int | None]:
        return {server.name: server.pid for server in self._servers}

    async def start(self) -> ServerUrls:
        if not self._folder.held:
            await self._folder.acquire()
        self._stopping = False
        path = self._folder.path
        sockets = self._folder.socket_folder()
        logs = path / "logs"
        orders = _valkey("orders", ORDERS, path, sockets)
        rooms = _valkey("rooms", ROOMS, path, sockets)
        postgres = PostgresServer(folder=path / "postgres", sockets=sockets, logs=logs)
        self._servers = (orders, rooms, postgres)
        try:
            async with asyncio.TaskGroup() as group:
                for server in self._servers:
                    group.create_task(server.start(), name=f"start {server.name}")
        except BaseExceptionGroup as errors:
            await self.stop()
            failed, unexpected = errors.split(EmbeddedServerError)
            if failed is None or unexpected is not None:
                raise
            raise _first(failed) from None
        return ServerUrls(valkey_url=orders.url, rooms_valkey_url=rooms.url, database_url=postgres.url)

    async def keep_running(self) -> Never:
        """Start again whichever server dies, with growing pauses, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers:
                group.create_task(self._keep(server), name=f"keep {server.name}")
        raise AssertionError("a server is kept until cancelled")

    async def stop(self, *, within_s: float = 5.0) -> None:
        """All at once; nobody uses them any more. Releases the folder."""
        self._stopping = True
        await asyncio.gather(*(server.stop(within_s=within_s) for server in self._servers))
        self._folder.remove_socket_folder()
        self._folder.release()

    async def _keep(self, server: Server) -> None:
        loop = asyncio.get_running_loop()
        pause_s = _FIRST_PAUSE_S
        while True:
            began = loop.time()
            status = await server.wait_ended()
            if self._stopping:
                return
            if loop.time() - began > _STABLE_AFTER_S:
                pause_s = _FIRST_PAUSE_S
            log.error("embedded_server_died", server=server.name, status=status, restart_in_s=pause_s)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            try:
                await server.start()
            except EmbeddedServerError as error:
                # Its process is dead or not answering: ended for sure, then the loop comes round with a longer pause.
                await server.stop(within_s=1.0)
                log.error("embedded_server_not_restarted", server=server.name, reason=error.message)
            else:
                log.info("embedded_server_restarted", server=server.name)


def _valkey(role: str, options: tuple[str, ...], path: Path, sockets: Path) -> ValkeyServer:
    return ValkeyServer(role=role, options=options, folder=path / role, sockets=sockets, logs=path / "logs")


def _first(errors: BaseExceptionGroup[EmbeddedServerError]) -> EmbeddedServerError:
    for error in errors.exceptions:
        return _first(error) if isinstance(error, BaseExceptionGroup) else error
    raise AssertionError("an exception group is never empty")
