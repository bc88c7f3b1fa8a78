"""Clients of Valkey with explicit pools, and the one place where its driver's errors become ours.

The library's own retries are off: it repeats a script whose reply was lost without telling. Ours repeat a script only
with the same idempotency keys.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.errors import HotUnavailable

Client = redis.Redis


def connect(url: str, *, max_connections: int, reply_timeout_s: float | None = 2.0, wait_s: float = 2.0) -> Client:
    """A client over at most `max_connections`; a caller waits `wait_s` for a free one, then fails as unavailable.

    `reply_timeout_s` None is for blocking reads and subscriptions, which wait on purpose.
    """
    pool: Any = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=wait_s,
        socket_timeout=reply_timeout_s,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )
    return redis.Redis.from_pool(pool)


@contextmanager
def hot_errors() -> Iterator[None]:
    """Turns what the driver raises about the connection into `HotUnavailable`; errors of a script itself pass."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, OSError, TimeoutError) as error:
        raise HotUnavailable(f"Valkey: {error or type(error).__name__}") from error
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
