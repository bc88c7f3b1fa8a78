"""The world a fault run lives in: private servers, two of every process of the gateway, and a bent network between.

Every process reaches each server through a link of its own, and clients reach each process through one. Whatever dies
is started again after a moment, as a supervisor does, unless it is held down. One world lasts a whole run.
"""

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import asyncpg
import redis.asyncio as redis

from gateway.embedded.valkey import ORDERS, ValkeyServer
from gateway.hot.keys import ShardKeys
from gateway.ledger.migrate import migrate
from gateway.settings import Settings
from tests.faults.disk import BadDisk
from tests.faults.kept import BadDiskPostgres, BadDiskValkey, KeptRole, KeptServer, send
from tests.support.fault_proxy import FaultProxy, LinkPlan
from tests.support.gateway import free_ports

ROLES = ("live", "api", "writer", "keeper")
SERVERS = ("orders", "rooms", "ledger")
COPIES = 2
PROCESSES = tuple(f"{role} {copy}" for role in ROLES for copy in range(1, COPIES + 1))
EDGES = tuple(name for name in PROCESSES if name.split()[0] in ("live", "api"))

READY_WITHIN_S = 60.0


class World:
    """`async with`: everything is up and sells inside; nothing is left behind."""

    def __init__(self, *, keep_folder: bool = False) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="peakgate-faults-"))
        self.points = self.folder / "points"
        self.logs = self.folder / "logs"
        self.servers: dict[str, KeptServer] = {}
        self.roles: dict[str, KeptRole] = {}
        self.disks: dict[str, BadDisk | None] = {}
        self.proxy: FaultProxy
        self.valkey: redis.Redis
        self._keep_folder = keep_folder
        self._ports: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        for folder in (self.points, self.logs, self.folder / "run"):
            folder.mkdir(mode=0o700)
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop()

    async def _start(self) -> None:
        self.disks = {name: BadDisk.make(self.folder, name) for name in ("orders", "ledger")}
        sockets = self.folder / "run"
        given = {"sockets": sockets, "logs": self.logs}
        on = self.disks["orders"]
        orders = BadDiskValkey(disk=on, role="orders", options=ORDERS, folder=self.folder / "orders", **given)
        rooms = ValkeyServer(role="rooms", options=("--appendonly", "no"), folder=self.folder / "rooms", **given)
        ledger = BadDiskPostgres(disk=self.disks["ledger"], folder=self.folder / "postgres", **given)
        for name, server, folder in (
            ("orders", orders, "orders"),
            ("rooms", rooms, "rooms"),
            ("ledger", ledger, "postgres"),
        ):
            self.servers[name] = KeptServer(name, server, self.folder / folder)
        await asyncio.gather(*(server.start() for server in self.servers.values()))
        self.valkey_url, self.rooms_valkey_url, self.database_url = orders.url, rooms.url, ledger.url
        await migrate(self.database_url)
        self.valkey = redis.Redis.from_url(self.valkey_url, socket_timeout=5)
        self.proxy = FaultProxy(self._links(sockets))
        await self.proxy.__aenter__()
        for name in PROCESSES:
            log = self.logs / f"{name.replace(' ', '-')}.log"
            self.roles[name] = KeptRole(name, self._environment(name), log)
        # The keepers first and the edges last, as each finds what it needs then; it works in any order.
        for role in reversed(self.roles.values()):
            await role.start()
        await self.all_ready()

    async def _stop(self) -> None:
        if hasattr(self, "valkey"):
            await self.valkey.aclose()
        for kept in (*self.roles.values(), *self.servers.values()):
            with suppress(AssertionError):
                send(kept.pids(), signal.SIGCONT)
        await asyncio.gather(*(role.stop() for role in self.roles.values() if role.starts), return_exceptions=True)
        if hasattr(self, "proxy"):
            await self.proxy.__aexit__()
        await asyncio.gather(*(server.stop() for server in self.servers.values()), return_exceptions=True)
        if not self._keep_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _links(self, sockets: Path) -> list[LinkPlan]:
        targets = {
            "orders": unquote(urlsplit(self.valkey_url).path),
            "rooms": unquote(urlsplit(self.rooms_valkey_url).path),
            "ledger": str(sockets / ".s.PGSQL.5432"),
        }
        names = [link_name(process, server) for process in PROCESSES for server in SERVERS]
        names += [link_name("clients", edge) for edge in EDGES]
        names += EDGES  # the ports that the edges themselves listen on
        first = free_ports(len(names))
        self._ports = dict(zip(names, range(first, first + len(names)), strict=True))
        plans = []
        for process in PROCESSES:
            for server in SERVERS:
                name = link_name(process, server)
                plans.append(LinkPlan(name=name, port=self._ports[name], target=targets[server]))
        for edge in EDGES:
            name = link_name("clients", edge)
            plans.append(LinkPlan(name=name, port=self._ports[name], target=f"127.0.0.1:{self._ports[edge]}"))
        return plans

    def _environment(self, process: str) -> dict[str, str]:
        orders, rooms, ledger = (self._ports[link_name(process, server)] for server in SERVERS)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PEAKGATE_")}
        return {
            **inherited,
            "VALKEY_URL": f"redis://127.0.0.1:{orders}/0",
            "ROOMS_VALKEY_URL": f"redis://127.0.0.1:{rooms}/0",
            "DATABASE_URL": f"postgresql://peakgate@127.0.0.1:{ledger}/peakgate?sslmode=disable",
            # What a process does not listen on only has to differ.
            "PEAKGATE_PORT": str(self._ports[process] if process.startswith("api") else 1),
            "PEAKGATE_LIVE_PORT": str(self._ports[process] if process.startswith("live") else 2),
            "PEAKGATE_ADMIN_PORT": "3",
            "PEAKGATE_ADMIN_SOCKET": str(self.folder / "run" / f"{process.replace(' ', '-')}.sock"),
            "PEAKGATE_DATA": str(self.folder / "data"),
            "PEAKGATE_DEV": "true",
            "PEAKGATE_DRAIN_S": "3",
            "PEAKGATE_FAULT_POINTS": str(self.points),
            "PEAKGATE_LOG_FORMAT": "json",
            # A few people stand for a crowd.
            "PEAKGATE_ORDER_RATE": "1000",
            "PEAKGATE_ORDER_BURST": "10000",
            # A sale of an earlier round leaves Valkey while later rounds fail.
            "PEAKGATE_RETIRE_AFTER_S": "1",
        }

    def url(self, edge: str) -> str:
        scheme = "ws" if edge.startswith("live") else "http"
        return f"{scheme}://127.0.0.1:{self._ports[link_name('clients', edge)]}"

    @property
    def settings(self) -> Settings:
        """For a reader that nothing stands in the way of."""
        return Settings(
            valkey_url=self.valkey_url, rooms_valkey_url=self.rooms_valkey_url, database_url=self.database_url
        )

    async def ledger(self) -> Any:
        return await asyncpg.connect(self.database_url, timeout=10, command_timeout=30)

    async def fetch(self, query: str, *values: object) -> list[Any]:
        """Straight from the ledger; waits while it is away."""
        (rows,) = await self.fetch_at_once((query, *values))
        return rows

    async def fetch_at_once(self, *queries: tuple[Any, ...]) -> list[list[Any]]:
        """The rows of each query with its values, all of one moment."""
        async with asyncio.timeout(30):
            while True:
                try:
                    connection = await self.ledger()
                    try:
                        async with connection.transaction(isolation="repeatable_read", readonly=True):
                            return [list(await connection.fetch(*query)) for query in queries]
                    finally:
                        await connection.close()
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await asyncio.sleep(0.05)

    async def all_ready(self, names: Iterable[str] = PROCESSES) -> None:
        async with asyncio.timeout(READY_WITHIN_S):
            for server in self.servers.values():
                await server.up.wait()
            for name in names:
                await self.roles[name].ready.wait()

    async def holder(self, shard: int = 0) -> str:
        """The writer that holds the shard; any one when none does."""
        rows = await self.fetch("SELECT lease_holder FROM shards WHERE shard = $1", shard)
        if rows and rows[0]["lease_holder"]:
            pid = int(rows[0]["lease_holder"].split(":")[1])
            for name, role in self.roles.items():
                if name.startswith("writer") and role.pid == pid:
                    return name
        return "writer 1"

    async def quiet(self, *, within_s: float) -> None:
        """Until the ledger and Valkey agree that nothing waits any more; raises TimeoutError with what still does."""
        waits = ""
        try:
            async with asyncio.timeout(within_s):
                while waits := await self._waits():  # noqa: ASYNC110 - what is waited for is in other processes
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise TimeoutError(f"not quiet within {within_s:g} s: {waits}") from None

    async def _waits(self) -> str:
        if (await self.fetch("SELECT count(*) AS waiting FROM payments WHERE state = 'waiting'"))[0]["waiting"]:
            return "late money is being judged"
        rows = await self.fetch(
            "SELECT s.shard, s.epoch, s.last_seq, s.outbox_no,"
            " (SELECT count(*) FROM outbox o WHERE o.shard = s.shard) AS outbox FROM shards s WHERE opened"
        )
        for row in rows:
            try:
                facts = await self.valkey.hgetall(ShardKeys(row["shard"]).shard)
            except (redis.RedisError, OSError) as error:
                return f"Valkey: {error}"
            found = {name.decode(): value.decode() for name, value in facts.items()}
            wanted = {
                "epoch": str(row["epoch"]),
                "seq": str(row["last_seq"]),
                "released": str(row["outbox_no"]),
                "open": "1",
            }
            if {name: found.get(name) for name in wanted} != wanted or row["outbox"]:
                return f"shard {row['shard']}: ledger {dict(row)}, Valkey {found}"
        return ""


def link_name(one: str, other: str) -> str:
    return f"{one}>{other}"
