"""An orders Valkey that belongs to one test: it may be killed, emptied, and given back an older copy of its file."""

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.embedded.valkey import ORDERS, ValkeyServer


class OwnValkey:
    """Always the same address."""

    def __init__(self, root: Path) -> None:
        self._data = root / "orders"
        self._copy = root / "copy"
        self._server = ValkeyServer(role="orders", options=ORDERS, folder=self._data, sockets=root, logs=root)

    @property
    def url(self) -> str:
        return self._server.url

    async def start(self) -> None:
        await self._server.start()

    async def kill(self) -> None:
        assert self._server.pid is not None
        os.kill(self._server.pid, signal.SIGKILL)
        await self._server.wait_ended()

    async def restart(self) -> None:
        """Killed, and back with its file."""
        await self.kill()
        await self.start()

    async def come_back_empty(self) -> None:
        await self.kill()
        shutil.rmtree(self._data)
        await self.start()

    def keep_copy(self) -> None:
        """The file as it is now; what was answered is in it."""
        shutil.rmtree(self._copy, ignore_errors=True)
        shutil.copytree(self._data, self._copy)

    async def come_back_older(self) -> None:
        """Killed, and back with the copy that was kept."""
        await self.kill()
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)
        await self.start()

    async def stop(self) -> None:
        await self._server.stop(within_s=5.0)


@asynccontextmanager
async def own_valkey() -> AsyncIterator[OwnValkey]:
    root = Path(tempfile.mkdtemp(prefix="peakgate-valkey-"))
    valkey = OwnValkey(root)
    try:
        await valkey.start()
        yield valkey
    finally:
        await valkey.stop()
        shutil.rmtree(root, ignore_errors=True)
