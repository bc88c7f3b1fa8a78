"""What several integration tests ask for beside the servers."""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.audited import History, MadeHistory, copied_history, make_history
from tests.support.servers import SessionServers


@pytest.fixture(scope="session")
def made_history(servers: SessionServers) -> MadeHistory:
    return make_history(servers)


@pytest.fixture
def history_url(servers: SessionServers, made_history: MadeHistory) -> Iterator[str]:
    """A copy of the history's database."""
    url = servers.copy_of(made_history.database_url)
    yield url
    servers.give_back(url)


@pytest.fixture
async def history(made_history: MadeHistory, history_url: str, valkey_url: str) -> AsyncIterator[History]:
    """One sale of which everything has happened that can; a test may break it."""
    async with copied_history(made_history, database_url=history_url, valkey_url=valkey_url) as history:
        yield history
