"""A proxy before a server on a Unix socket that bends the network: it loses replies after the server has acted."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit


class CuttingProxy:
    """`lose_replies`: of so many script calls to come, the reply is thrown away and its connection cut."""

    def __init__(self, target: str, path: Path) -> None:
        self._target = target
        self._path = path
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = f"unix://{quote(str(path))}"
        self.lose_replies = 0
        self.lost = 0
        self.away = False
        """Whether new connections are cut before anything is passed on."""
        self.mute: set[asyncio.StreamWriter] = set()
        """Connections that stay open and over which nothing is passed on any more."""

    def fall_silent(self) -> None:
        """All connections there are now are half open from here on; new ones are not."""
        self.mute |= self._writers

    def go_away(self) -> None:
        self.away = True
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.away:
            writer.close()
            return
        server_reader, server_writer = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, server_writer}
        calling = False

        async def there() -> None:
            nonlocal calling
            while data := await reader.read(1 << 16):
                # A large call comes in pieces; only its beginning names it.
                calling = calling or b"EVALSHA" in data
                if server_writer in self.mute:
                    continue
                server_writer.write(data)
                await server_writer.drain()

        async def back() -> None:
            nonlocal calling
            while data := await server_reader.read(1 << 16):
                if writer in self.mute:
                    continue
                if calling and self.lose_replies:
                    self.lose_replies -= 1
                    self.lost += 1
                    return
                calling = False
                writer.write(data)
                await writer.drain()

        tasks = {asyncio.ensure_future(there()), asyncio.ensure_future(back())}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for each in (writer, server_writer):
                self._writers.discard(each)
                each.close()

    def cut_all(self) -> None:
        for writer in tuple(self._writers):
            writer.close()


@asynccontextmanager
async def cutting_proxy(server_url: str) -> AsyncIterator[CuttingProxy]:
    with tempfile.TemporaryDirectory(prefix="peakgate-proxy-") as folder:
        path = Path(folder) / "proxy.sock"
        proxy = CuttingProxy(unquote(urlsplit(server_url).path), path)
        listening = await asyncio.start_unix_server(proxy.serve, path)
        try:
            yield proxy
        finally:
            listening.close()
            proxy.cut_all()
            await listening.wait_closed()
            # The connections that were cut end with the next turns of the loop.
            for _ in range(5):
                await asyncio.sleep(0)
