"""A shard on an empty server for each test of a script: on the Valkey that is shipped, and once more on Debian's
redis-server where it is installed."""

from collections.abc import Iterator

import pytest

from tests.support.lua_shard import LuaShard
from tests.support.redis_server import find_redis_server, redis_server
from tests.support.servers import SessionServers, flush

SERVERS = ["valkey"] if find_redis_server() is None else ["valkey", "redis"]


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    binary = find_redis_server()
    assert binary is not None
    with redis_server(binary) as url:
        yield url


@pytest.fixture(params=SERVERS)
def valkey_url(request: pytest.FixtureRequest, servers: SessionServers) -> str:
    """The server that runs the scripts, empty."""
    url: str = servers.urls.valkey_url if request.param == "valkey" else request.getfixturevalue("redis_url")
    flush(url)
    return url


@pytest.fixture
def new_shard(valkey_url: str) -> Iterator[LuaShard]:
    """Nothing is loaded: the server is empty."""
    shard = LuaShard(valkey_url)
    yield shard
    shard.close()


@pytest.fixture
def shard(new_shard: LuaShard) -> LuaShard:
    """Open, with one sale of 10 units at 19.00, two a viewer."""
    assert new_shard.open() == ("created", 1, 0)
    assert new_shard.load() == "loaded"
    return new_shard
