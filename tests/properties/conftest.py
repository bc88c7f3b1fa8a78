"""The servers that the properties are tried on."""

from collections.abc import Iterator

import pytest

from tests.support.redis_server import find_redis_server, redis_server, version_of
from tests.support.servers import SessionServers


@pytest.fixture(params=["valkey", "redis"])
def lua_server(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """(name, address) of a server that runs the scripts: the one that is shipped, and Debian's where it is
    installed."""
    if request.param == "valkey":
        servers: SessionServers = request.getfixturevalue("servers")
        yield "valkey", servers.urls.valkey_url
        return
    binary = find_redis_server()
    if binary is None:
        pytest.skip("NOT RUN on redis-server: it is not installed (apt-get install redis-server, or set REDIS_SERVER)")
    with redis_server(binary) as url:
        yield f"redis-server {version_of(binary)}", url
