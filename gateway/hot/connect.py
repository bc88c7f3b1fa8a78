"""Clients of Valkey with explicit pools, and the one place where its driver's errors become ours.

The library's own retries are off: it repeats a script whose reply was lost without telling. Ours repeat a script only
with the same idempotency keys.

A client that decides anything is guarded: each new connection asks which server it reached, and one that the ledger's
epochs do not name is dropped before anything is sent over it. So a server that came back empty, or with an older file,
is told nothing until the ledger has begun an epoch on it. When the epochs come to name another server, connections to
the one before are cut: it may live on while its name already leads elsewhere.

What is not guarded sees that move by not keeping its connections for long (`renew`).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.errors import HotUnavailable, ServerUnknown

Client = redis.Redis

_RUN_ID = re.compile(rb"run_id:(\w+)")


class KnownServers:
    """The servers that the ledger's epochs name, by the id of their run; shared by the guarded connections of a
    process. While none is known every server is accepted."""

    def __init__(self, *run_ids: str) -> None:
        self._run_ids = frozenset(run_ids)
        self._pools: list[_Pool] = []
        self.doubted = asyncio.Event()
        """Set when Valkey does not answer as the ledger's last word would have it: that word may be old."""

    def learn(self, run_ids: Iterable[str | None]) -> None:
        """When they are others than before, only connections to the one server that all shards name are kept. What was
        sent over the others and not answered fails as unavailable."""
        before, self._run_ids = self._run_ids, frozenset(run_id for run_id in run_ids if run_id)
        if self._run_ids == before:
            return
        for pool in self._pools:
            pool.cut(but=self._run_ids)

    def guards(self, pool: "_Pool") -> None:
        self._pools.append(pool)

    def accepts(self, run_id: str) -> bool:
        return not self._run_ids or run_id in self._run_ids

    def doubt(self) -> None:
        self.doubted.set()


class _AnotherServer(RedisConnectionError):
    """A connection reached a server that is not known."""


class _Pool(redis.BlockingConnectionPool):
    """Nothing here waits, so no connection changes hands meanwhile."""

    def cut(self, *, but: frozenset[str]) -> None:
        """Closes all connections, also under calls that wait, but those to the server that is the only one named. One
        that is being opened has not been judged yet, and will be by the new names."""
        for connection in (*self._available_connections, *self._in_use_connections):
            server = getattr(connection, "server", "")
            if server and but != {server}:
                _close(connection)

    def renew(self) -> None:
        """Connections that are there now are used for no further call."""
        for connection in self._available_connections:
            _close(connection)
        for connection in self._in_use_connections:
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]


def connect(
    url: str,
    *,
    max_connections: int,
    reply_timeout_s: float | None = 2.0,
    wait_s: float = 2.0,
    known: KnownServers | None = None,
) -> Client:
    """A client over at most `max_connections`; a caller waits `wait_s` for a free one, then fails as unavailable.

    `reply_timeout_s` None is for blocking reads and subscriptions, which wait on purpose. With `known` its connections
    are guarded.
    """
    guard = {} if known is None else {"redis_connect_func": _guard(known)}
    pool = _Pool.from_url(
        url,
        max_connections=max_connections,
        timeout=wait_s,
        socket_timeout=reply_timeout_s,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
        **guard,
    )
    if known is not None:
        known.guards(pool)
    return redis.Redis.from_pool(pool)


def renew(client: Client) -> None:
    """The next calls go to whichever server a new connection reaches; those under way end where they are."""
    pool = client.connection_pool
    assert isinstance(pool, _Pool)
    pool.renew()


def _close(connection: Any) -> None:
    """At once, and without waiting, so that nobody finds it half closed. A call that waits on it fails; whoever has it
    and has not sent anything connects anew."""
    connection._parser.on_disconnect()
    connection._close()


def run_id_of(info: bytes) -> str:
    """The id of a server's run in its answer to INFO."""
    found = _RUN_ID.search(info)
    if found is None:
        raise HotUnavailable("Valkey: INFO tells no run_id")
    return found[1].decode()


def _guard(known: KnownServers) -> Callable[[Any], Awaitable[None]]:
    async def greet(connection: Any) -> None:
        connection.server = ""
        try:
            await connection.on_connect()
            await connection.send_command("INFO", "server", check_health=False)
            run_id = run_id_of(await connection.read_response(disable_decoding=True))
            if not known.accepts(run_id):
                known.doubt()
                raise _AnotherServer(f"server {run_id} is not the one of the ledger's epoch")
            connection.server = run_id
        except BaseException:
            # Also when it was cancelled: the pool must not hand on a connection that nobody has looked at.
            await connection.disconnect(nowait=True)
            raise

    return greet


@contextmanager
def hot_errors() -> Iterator[None]:
    """Turns what the driver raises about the connection into `HotUnavailable`; errors of a script itself pass. Only
    around calls of a task; whoever cancels it is heard."""
    task = asyncio.current_task()
    cancels = 0 if task is None else task.cancelling()
    try:
        yield
    except _AnotherServer as error:
        raise ServerUnknown(f"Valkey: {error}") from error
    except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError) as error:
        raise HotUnavailable(f"Valkey: {str(error) or type(error).__name__}") from error
    except RuntimeError as error:
        # uvloop's word for a connection that was reset before the driver wrote to it.
        if "handler is closed" not in str(error):
            raise
        raise HotUnavailable("Valkey: the connection was reset") from error
    except RedisError as error:
        # LOADING, READONLY, OOM, MISCONF, CLUSTERDOWN: the server is there and cannot serve just now.
        if str(error).split(" ", 1)[0] in {
            "LOADING",
            "READONLY",
            "OOM",
            "MISCONF",
            "BUSY",
            "MASTERDOWN",
            "CLUSTERDOWN",
        }:
            raise HotUnavailable(f"Valkey: {error}") from error
        raise
    finally:
        # The driver sends under `asyncio.wait_for`, which before Python 3.12 loses a cancel that comes just as it ends.
        if task is not None and task.cancelling() > cancels:
            raise asyncio.CancelledError
