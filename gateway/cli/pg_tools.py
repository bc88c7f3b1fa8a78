"""PostgreSQL's own tools for backup and restore: which of those installed fit a server, and how they are started.

A dump is made and read by one set of tools of the server's own major version, or of the next newer one there is: older
ones refuse the server.
"""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

from gateway.embedded.binaries import find_postgres_binaries
from gateway.errors import EmbeddedServerError, GatewayError, ToolsMissing

_TOOLS: Final = ("pg_dump", "pg_restore", "psql")
_VERSION: Final = re.compile(rb"\(PostgreSQL\) (\d+)")
CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PgTools:
    """A folder with `pg_dump`, `pg_restore` and `psql` of one major version."""

    folder: Path
    major: int

    def argv(self, tool: str, *options: str) -> list[str]:
        return [str(self.folder / tool), *options]


def find_tools(server_major: int, *, at_least: int = 0) -> PgTools:
    """Tools for a server, and for a dump that tools of the major version `at_least` made. Raises ToolsMissing."""
    return choose_tools(installed_tools(), server_major, at_least=at_least)


def choose_tools(found: Iterable[PgTools], server_major: int, *, at_least: int = 0) -> PgTools:
    wanted = max(server_major, at_least)
    tools = list(found)
    fitting = [each for each in tools if each.major >= wanted]
    if not fitting:
        there = ", ".join(f"{each.major} in {each.folder}" for each in tools) or "none"
        raise ToolsMissing(
            f"pg_dump, pg_restore and psql of PostgreSQL {wanted} are needed, found: {there}. Install the client tools"
            f" of PostgreSQL {wanted} on this machine, or peakgate[embedded], which brings those of 18"
        )
    # Nearest to the server: what newer tools write, an older server may not understand.
    return min(fitting, key=lambda each: each.major)


def installed_tools() -> list[PgTools]:
    """Those on the PATH, where Debian's packages put them, and of the embedded PostgreSQL."""
    on_path = shutil.which("pg_dump")
    folders = [Path(on_path).parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    try:
        folders.append(find_postgres_binaries())
    except EmbeddedServerError:
        pass
    found = []
    for folder in folders:
        major = _major(folder)
        if major is not None:
            found.append(PgTools(folder=folder, major=major))
    return found


def _major(folder: Path) -> int | None:
    if not all((folder / tool).is_file() for tool in _TOOLS):
        return None
    try:
        told = subprocess.run([folder / "pg_dump", "--version"], capture_output=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = _VERSION.search(told)
    return int(match[1]) if match else None


def connection_of(url: str) -> tuple[str, dict[str, str]]:
    """The URL without its password, which others could read in the list of processes, and the environment with it."""
    parts = urlsplit(url)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10"}
    # Certificates and the like are looked for in the caller's home.
    environment |= {name: value for name, value in os.environ.items() if name in ("HOME", "PGSSLROOTCERT", "PGSSLMODE")}
    user_info, at, host = parts.netloc.rpartition("@")
    user, colon, password = user_info.partition(":")
    if colon:
        environment["PGPASSWORD"] = unquote(password)
    named = urlunsplit((parts.scheme, f"{user}{at}{host}", parts.path, parts.query, ""))
    # An empty host, as of a server on a Unix socket, loses its slashes otherwise.
    if not parts.netloc and not named.startswith(f"{parts.scheme}://"):
        named = named.replace(f"{parts.scheme}:", f"{parts.scheme}://", 1)
    return named, environment


class Tool:
    """One running tool: bytes in, bytes out, and at the end its word."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self._name = name
        self._process = process
        assert process.stderr is not None
        self._errors = asyncio.ensure_future(process.stderr.read())

    async def read(self) -> bytes:
        """The next bytes of its output; empty at the end."""
        assert self._process.stdout is not None
        return await self._process.stdout.read(CHUNK_BYTES)

    async def write(self, data: bytes) -> None:
        """Raises what the tool says, when it ended before it was told all."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(data)
            await stdin.drain()
        except (BrokenPipeError, ConnectionResetError):
            await self.ended()
            raise GatewayError(f"{self._name} ended too early") from None

    async def written(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await self._process.stdin.wait_closed()
        except (BrokenPipeError, ConnectionResetError):
            pass  # its status says why

    async def ended(self) -> None:
        """Returns after a good end. Raises GatewayError with its own words after any other."""
        status = await self._process.wait()
        words = (await self._errors).decode(errors="replace").strip()
        if status != 0:
            raise GatewayError(f"{self._name} failed ({status}): {words[-2000:]}")

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._errors


@asynccontextmanager
async def running(argv: Sequence[str], environment: dict[str, str]) -> AsyncIterator[Tool]:
    """A tool that does not outlive the block."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
            limit=CHUNK_BYTES,
        )
    except OSError as error:
        raise ToolsMissing(f"{argv[0]} cannot be started: {error}") from error
    tool = Tool(Path(argv[0]).name, process)
    try:
        yield tool
    finally:
        await tool.stop()
