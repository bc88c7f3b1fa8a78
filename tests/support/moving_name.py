"""A name that leads to one server and later to another, while whoever is connected stays where it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class MovingName:
    def __init__(self, target: str) -> None:
        self.target = target
        """Where the next connection leads to."""
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        url = urlsplit(self.target)
        opened = asyncio.open_unix_connection(url.path) if url.scheme == "unix" else None
        there, back = await (opened or asyncio.open_connection(url.hostname, url.port))
        try:
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
        except asyncio.CancelledError:
            pass  # by `close`; the server of the streams would complain of it
        finally:
            back.close()
            writer.close()
            self._tasks.discard(task)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@asynccontextmanager
async def moving_name(target: str) -> AsyncIterator[MovingName]:
    name = MovingName(target)
    server = await asyncio.start_server(name.accept, "127.0.0.1", 0)
    name.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield name
    finally:
        server.close()
        await name.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while read := await source.read(65536):
            sink.write(read)
            await sink.drain()
    sink.close()
