import pytest

from tests.support.redis_server import find_redis_server, version_of


def test_the_scripts_were_tried_on_another_server_too() -> None:
    """Every test beside this one runs on Debian's redis-server as well, where it is installed."""
    binary = find_redis_server()
    if binary is None:
        pytest.skip("NOT RUN on redis-server: it is not installed (apt-get install redis-server, or set REDIS_SERVER)")
    assert int(version_of(binary).split(".")[0]) >= 7, "scripts that begin with #!lua are read from 7.0 on"
