"""A shard on an empty Valkey for each test of a script."""

from collections.abc import Iterator

import pytest

from tests.support.lua_shard import LuaShard


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
