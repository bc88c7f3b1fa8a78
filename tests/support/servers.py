"""Real servers for tests: one Valkey pair and one PostgreSQL a session, a fresh migrated database a test."""

import asyncio
import itertools
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import redis

from gateway.embedded import DataFolder, EmbeddedServers, ServerUrls
from gateway.ledger.migrate import migrate
from tests.support.original import Original

T = TypeVar("T")

TEMPLATE = "template_migrated"


class SessionServers:
    """The servers of a test session and what makes tests independent of each other on them."""

    def __init__(self, runner: asyncio.Runner, urls: ServerUrls) -> None:
        self.urls = urls
        self._runner = runner
        self._numbers = itertools.count(1)
        self._template_made = False
        self._originals: dict[str, Original] = {}
        self._given: dict[str, Original] = {}

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def fresh_database(self) -> str:
        """A database with the schema of the ledger and nothing else in it; copied, because migrating takes longer."""
        if not self._template_made:
            self.run(self._make_template())
            self._template_made = True
        return self.copy_of(database_named(self.urls.database_url, TEMPLATE))

    def empty_database(self) -> str:
        name = f"empty_{next(self._numbers)}"
        self.run(self._sql(f"CREATE DATABASE {name} STRATEGY FILE_COPY"))
        return database_named(self.urls.database_url, name)

    def copy_of(self, database_url: str) -> str:
        """A database like another one, to which nobody may be connected, and which never changes.

        One that was given back and made like it again is as good as a new one, which is hundreds of files: making and
        removing those of every test took a fifth of all tests. Nothing is dropped: the whole folder goes at the end.
        """
        original = self._originals.get(database_url)
        if original is None:
            original = self._originals[database_url] = self.run(Original.of(database_url))
        while original.given_back:
            url = original.given_back.pop()
            if self.run(original.restore(url)):
                break
        else:
            name = f"test_{next(self._numbers)}"
            self.run(self._sql(f"CREATE DATABASE {name} TEMPLATE {_name_of(database_url)} STRATEGY FILE_COPY"))
            url = database_named(self.urls.database_url, name)
        self._given[url] = original
        return url

    def give_back(self, url: str) -> None:
        """Nobody uses this `fresh_database` or `copy_of` any more; whoever is still connected to it is cut off."""
        self._given.pop(url).given_back.append(url)

    async def _make_template(self) -> None:
        await self._sql(f"CREATE DATABASE {TEMPLATE}")
        await migrate(database_named(self.urls.database_url, TEMPLATE))

    async def _sql(self, statement: str) -> None:
        connection = await asyncpg.connect(database_named(self.urls.database_url, "postgres"))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def session_servers() -> Iterator[SessionServers]:
    # Not pytest's own temporary folder: that one is kept for three sessions, with the data of every server.
    folder = Path(tempfile.mkdtemp(prefix="peakgate-test-"))
    servers = EmbeddedServers(DataFolder(folder / "data"))
    try:
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            try:
                yield SessionServers(runner, runner.run(servers.start()))
            finally:
                # Nothing of it is wanted any more: no last checkpoint of hundreds of databases.
                runner.run(servers.stop(within_s=0))
    finally:
        # Hundreds of thousands of files: by the system's own tool, which is quicker.
        subprocess.run(["rm", "-rf", folder], check=False)


def _name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def database_named(url: str, name: str) -> str:
    parts = urlsplit(url)
    # urlunsplit would drop an empty authority's slashes; ours always has a user.
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))


def flush(valkey_url: str) -> None:
    client = redis.Redis.from_url(valkey_url)
    try:
        client.flushall()
    finally:
        client.close()


async def eventually(holds: Callable[[], Awaitable[bool]], *, within_s: float = 10.0) -> None:
    """Ask again and again, a short while apart, until it holds; fails loudly when it never does."""
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.01)


def eventually_now(holds: Callable[[], bool], *, within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError("it never held")
        time.sleep(0.01)
