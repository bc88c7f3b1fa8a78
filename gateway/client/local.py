"""A whole gateway of one's own on this machine, as a child process: for the demo, load tests and end-to-end tests."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gateway.errors import DataFolderInUse, EmbeddedServerError, SettingsError

# Embedded servers are initialised on the first start of a data folder.
READY_WITHIN_S = 60.0
# The gateway drains for 10 s by default; past twice that it is stuck.
STOP_WITHIN_S = 20.0
PORTS_OF_A_GATEWAY = 3  # api, live, admin


# Exit codes of `peakgate up` that say whose fault it is.
_WRONG_SETTING, _FOLDER_IN_USE = 2, 4


class LocalGatewayError(EmbeddedServerError):
    """The gateway on this machine did not start, or a command of it failed."""

    code = "local_gateway"


class Ended(NamedTuple):
    """How a verb of `peakgate` ended."""

    status: int
    out: str
    last_words: str
    """The end of what it said on stderr."""


class _Ready(msgspec.Struct):
    ready: bool
    url: str = ""


@dataclass(slots=True, kw_only=True)
class LocalGateway:
    """`peakgate up` on a data folder. The embedded servers' shops are made by asking for tokens."""

    data: Path
    port: int
    settings: Mapping[str, str] = field(default_factory=dict)
    """Settings of this gateway, by their names in the environment."""
    url: str = ""
    log: Path = field(init=False)
    """What it said on stderr; removed when it ended well."""
    _process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        self.data = self.data.resolve()
        # Not in the data folder, which the gateway wants empty or its own.
        handle, log = tempfile.mkstemp(prefix="peakgate-up-", suffix=".log")
        os.close(handle)
        self.log = Path(log)

    async def start(self, *options: str) -> None:
        self.data.mkdir(parents=True, exist_ok=True)
        arguments = ["up", "--data", str(self.data), "--port", str(self.port)]
        arguments += ["--live-port", str(self.port + 1), "--admin-port", str(self.port + 2), *options]
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *_command(arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=self.data,
                env={**_private_environment(), **self.settings},
                # Ctrl-C reaches the whole foreground group; this child is stopped by us, in order.
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await self._until_ready(self._process)
        except BaseException as error:
            await self.stop()
            if isinstance(error, TimeoutError):
                raise LocalGatewayError(
                    f"The gateway was not ready within {READY_WITHIN_S:g} s. {self._tail()}"
                ) from error
            raise

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            with contextlib.suppress(msgspec.MsgspecError):
                ready = msgspec.json.decode(line, type=_Ready)
                if ready.ready:
                    self.url = ready.url or f"http://127.0.0.1:{self.port}"
                    return
        status = await process.wait()
        kinds = {_WRONG_SETTING: SettingsError, _FOLDER_IN_USE: DataFolderInUse}
        raise kinds.get(status, LocalGatewayError)(
            f"The gateway ended with {status} before it was ready. {self._tail()}"
        )

    def _tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-5:]
        return f"Its log, {self.log}, ends with:\n" + "\n".join(lines) if lines else f"Its log is {self.log}."

    async def stop(self) -> int | None:
        """SIGTERM and a patient wait; SIGKILL to its whole session when that did not help. Returns the exit code."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await process.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode in (0, -signal.SIGTERM):
            self.log.unlink(missing_ok=True)
        return process.returncode

    async def wait(self) -> int:
        """Until the gateway ends by itself."""
        assert self._process is not None
        return await self._process.wait()

    async def tokens(self, *, shop: str, sub: str, role: str, count: int | None = None) -> list[str]:
        """One token, or `count` with the subs `SUB-1` and on. An unknown shop is made."""
        arguments = ["token", "--shop", shop, "--sub", sub, "--role", role]
        if count is not None:
            arguments += ["--count", str(count)]
        tokens = (await self.run(*arguments)).out.split()
        if len(tokens) != (count or 1):
            raise LocalGatewayError(f"Asked for {count or 1} tokens, got {len(tokens)}.")
        return tokens

    async def audit(self) -> tuple[bool, dict[str, Any]]:
        """Whether every invariant holds, and what the audit printed."""
        ended = await self.run("audit", "--json", expect=None)
        try:
            report = msgspec.json.decode(ended.out, type=dict[str, Any])
        except msgspec.MsgspecError:
            raise LocalGatewayError(f"The audit ended with {ended.status} and no report: {ended.last_words}") from None
        return ended.status == 0, report

    async def run(self, *arguments: str, expect: int | None = 0) -> Ended:
        """A verb of `peakgate` on this data folder. `expect` None takes any exit code."""
        return await run_peakgate(
            [*arguments, "--data", str(self.data)], expect=expect, cwd=self.data, env=_private_environment()
        )


@contextlib.asynccontextmanager
async def local_gateway(data: Path, *, port: int, options: Sequence[str] = ()) -> AsyncIterator[LocalGateway]:
    """A gateway that is ready inside the block and has ended after it."""
    gateway = LocalGateway(data=data, port=port)
    await gateway.start(*options)
    try:
        yield gateway
    finally:
        await gateway.stop()


async def run_peakgate(
    arguments: Sequence[str],
    *,
    expect: int | None = 0,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Ended:
    process = await asyncio.create_subprocess_exec(
        *_command(arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env=env,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    ended = Ended(process.returncode, out.decode(), err.decode(errors="replace").strip()[-500:])
    if expect is not None and ended.status != expect:
        raise LocalGatewayError(f"peakgate {arguments[0]} ended with {ended.status}: {ended.last_words}")
    return ended


def free_port(preferred: int | None = None, *, count: int = PORTS_OF_A_GATEWAY) -> int:
    """The first of `count` free ports in a row on loopback: `preferred` when it is, else one the system picks."""
    if preferred is not None and all(_is_free(preferred + step) for step in range(count)):
        return preferred
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port + count <= 65536 and all(_is_free(port + step) for step in range(count)):
            return port
    raise LocalGatewayError(f"No {count} free ports in a row on this machine.")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _private_environment() -> dict[str, str]:
    """Ours without settings of a gateway: a private gateway does not touch the servers somebody else's settings name.

    Run in its own data folder it finds no `.env` of theirs either.
    """
    urls = {"VALKEY_URL", "ROOMS_VALKEY_URL", "DATABASE_URL"}
    return {name: value for name, value in os.environ.items() if name not in urls and not name.startswith("PEAKGATE_")}


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "gateway", *arguments]
