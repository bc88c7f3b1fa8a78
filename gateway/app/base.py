"""What every process stands on: its servers, what it serves beside its work, and how it waits and ends."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from gateway.admin.server import AdminServer
from gateway.clock import Clock, SystemClock
from gateway.domain.ids import IdMint
from gateway.errors import HotUnavailable, LedgerUnavailable
from gateway.hot.bus import Bus
from gateway.hot.connect import Client, KnownServers, connect
from gateway.hot.durability import require_durable
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from gateway.ledger.pool import Ledger
from gateway.ledger.schema import known_version, require_schema, watch_schema
from gateway.ledger.shards import LedgerShards
from gateway.process import measure_stalls, stop_signal
from gateway.settings import Settings

log = structlog.get_logger(__name__)
OnReady = Callable[[dict[str, object]], None]
_START_PAUSE_S = 0.3
_SHARDS_WITHIN_S = 2.0
_SHARDS_POLL_S = 0.05
_T = TypeVar("_T")


@dataclass(slots=True)
class Base:
    """What every process stands on."""

    settings: Settings
    clock: Clock
    stopping: asyncio.Event
    ledger: Ledger
    schema: int
    """The newest migration of the ledger that this code knows."""
    shards: LedgerShards
    id_key: bytes
    mint: IdMint
    known: KnownServers
    orders_valkey: Client
    """Guarded: it talks to the server of the ledger's epochs alone."""
    plain_valkey: Client
    """For what has to see whichever server is there, and decides nothing by it alone."""
    scripts: Scripts
    hot: dict[int, HotShard]
    bus: Bus
    rooms_valkey: Client


@asynccontextmanager
async def standing(settings: Settings) -> AsyncIterator[Base]:
    """Opens what a process stands on, waiting for servers that are not there yet; closes it in reverse."""
    stopping = stop_signal()
    clock = SystemClock()
    assert settings.valkey_url and settings.rooms_valkey_url and settings.database_url
    async with AsyncExitStack() as stack:
        ledger = await until_there(
            "ledger", stopping, lambda: Ledger.connect(settings.database_url or "", size=settings.database_pool)
        )
        stack.push_async_callback(ledger.close)
        schema = known_version()
        await require_schema(ledger, schema)
        shards = LedgerShards(ledger)
        await shards.ensure(settings.shards)
        id_key = await shards.id_key()
        rows = await shards.all()
        known = KnownServers()
        known.learn([row.run_id for row in rows])
        orders_valkey = connect(settings.valkey_url, max_connections=settings.valkey_pool, known=known)
        stack.push_async_callback(orders_valkey.aclose)
        plain_valkey = connect(settings.valkey_url, max_connections=max(4, len(rows) + 1))
        stack.push_async_callback(plain_valkey.aclose)
        # Nothing of a room is worth a longer wait; orders do not need it.
        rooms_valkey = connect(
            settings.rooms_valkey_url, max_connections=settings.valkey_pool, reply_timeout_s=1.0, wait_s=1.0
        )
        stack.push_async_callback(rooms_valkey.aclose)
        lacks = await until_there(
            "orders valkey",
            stopping,
            lambda: require_durable(plain_valkey, allow_volatile=settings.allow_volatile_valkey),
        )
        if lacks:
            log.warning("volatile_valkey", lacks=lacks)
        scripts = Scripts(orders_valkey)
        hot = {
            row.shard: HotShard(shard=row.shard, client=orders_valkey, scripts=scripts, doubt=known.doubt)
            for row in rows
        }
        for row in rows:
            hot[row.shard].enter_epoch(row.epoch, row.last_seq)
        yield Base(
            settings=settings,
            clock=clock,
            stopping=stopping,
            ledger=ledger,
            schema=schema,
            shards=shards,
            id_key=id_key,
            mint=IdMint(id_key),
            known=known,
            orders_valkey=orders_valkey,
            plain_valkey=plain_valkey,
            scripts=scripts,
            hot=hot,
            bus=Bus(url=settings.rooms_valkey_url, client=rooms_valkey),
            rooms_valkey=rooms_valkey,
        )


async def until_there(what: str, stopping: asyncio.Event, opened: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    while True:
        try:
            return await opened()
        except (HotUnavailable, LedgerUnavailable) as error:
            if stopping.is_set():
                raise
            log.warning("waits_for_server", server=what, error=str(error))
            await asyncio.sleep(_START_PAUSE_S)


async def shards_answer(base: Base) -> None:
    """Once every shard is heard on the server that the ledger names, or soon anyway: one that is away keeps nobody.

    Who starts beside the keeper may have read the ledger just before that began an epoch.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_SHARDS_WITHIN_S):
            for hot in base.hot.values():
                while not await _answers(hot) and not base.stopping.is_set():  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(_SHARDS_POLL_S)


async def _answers(hot: HotShard) -> bool:
    try:
        await hot.backlog()
    except HotUnavailable:
        return False
    return True


@asynccontextmanager
async def serving(base: Base, works: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Background work of a process beside its metrics and health: the end of one by an error ends all."""
    settings = base.settings
    admin = AdminServer(ready=lambda: not base.stopping.is_set(), health=lambda: {"pid": os.getpid()})
    if settings.admin_socket is not None:
        await admin.start_on_socket(settings.admin_socket)
    else:
        await admin.start(settings.admin_host, settings.admin_port)
    try:
        async with asyncio.TaskGroup() as group:
            always = (measure_stalls(base.clock), watch_schema(base.ledger, base.schema))
            tasks = {group.create_task(work) for work in (*works, *always)}
            # They own what others hand them, so they run before anybody does.
            await asyncio.sleep(0)
            try:
                yield
            finally:
                # Work that waits for a ledger that hangs is let go first; one cancellation can get lost in a driver.
                await base.ledger.close()
                while tasks:
                    for task in tasks:
                        task.cancel()
                    _, tasks = await asyncio.wait(tasks, timeout=0.2)
    finally:
        await admin.stop()


def api_url(settings: Settings) -> str:
    return f"http://{_url_host(settings)}:{settings.port}"


def live_url(settings: Settings) -> str:
    return settings.live_url or f"ws://{_url_host(settings)}:{settings.live_port}"


def room_live_url(settings: Settings) -> str:
    """Where the socket of a room is, with `{room}` in the place of its id."""
    return f"{live_url(settings)}/v1/rooms/{{room}}/live"


def _url_host(settings: Settings) -> str:
    return f"[{settings.host}]" if ":" in settings.host else settings.host


async def within(seconds: float, work: Coroutine[Any, Any, None]) -> None:
    """Gives work a time and goes on without it; what it leaves behind is safe by itself."""
    try:
        async with asyncio.timeout(max(0.05, seconds)):
            await work
    except TimeoutError:
        log.warning("drain_cut_short")
