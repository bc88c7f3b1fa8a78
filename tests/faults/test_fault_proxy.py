"""The network that the fault harness bends: each way does what its name says, and is over when it is healed."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.fault_proxy import Bend, FaultProxy, LinkPlan, Mode
from tests.support.gateway import free_ports
from tests.support.servers import eventually

LINK = "client>server"
SOON_S = 0.3


@dataclass
class Bent:
    proxy: FaultProxy
    port: int
    heard: list[bytes]

    async def set(self, mode: Mode, **how: float) -> None:
        await self.proxy.set([LINK], Bend(mode=mode, **how))  # type: ignore[arg-type]

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Callable[[bytes], Awaitable[bytes]]]:
        """Asks and answers with what comes back, empty when the connection ended."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def ask(question: bytes) -> bytes:
            writer.write(question)
            await writer.drain()
            return await reader.read(100)

        try:
            yield ask
        finally:
            writer.close()

    async def ask(self, question: bytes) -> bytes:
        async with self.connection() as ask:
            return await ask(question)


@pytest.fixture
async def bent(tmp_path: Path) -> AsyncIterator[Bent]:
    heard: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(100):
                heard.append(data)
                writer.write(b"echo " + data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()

    path = tmp_path / "server.sock"
    server = await asyncio.start_unix_server(echo, path)
    port = free_ports(1)
    try:
        async with FaultProxy([LinkPlan(name=LINK, port=port, target=str(path))]) as proxy:
            yield Bent(proxy, port, heard)
    finally:
        server.close()
        await server.wait_closed()


async def test_a_link_passes_what_is_sent(bent: Bent) -> None:
    assert await bent.ask(b"one") == b"echo one"


async def test_a_delay_waits_each_way(bent: Bent) -> None:
    await bent.set(Mode.DELAY, ms=80)
    began_s = time.monotonic()
    assert await bent.ask(b"one") == b"echo one"
    assert time.monotonic() - began_s >= 0.16


async def test_a_slow_link_takes_its_time_for_every_byte(bent: Bent) -> None:
    await bent.set(Mode.SLOW, bytes_per_s=100)
    began_s = time.monotonic()
    assert await bent.ask(b"0123456789") == b"echo 0123456789"
    assert time.monotonic() - began_s >= 0.2


async def test_a_delay_ends_when_the_link_is_healed(bent: Bent) -> None:
    await bent.set(Mode.DELAY, ms=60_000)
    async with bent.connection() as ask:
        asking = asyncio.ensure_future(ask(b"one"))
        await asyncio.sleep(0.05)
        await bent.proxy.heal()
        assert await asyncio.wait_for(asking, 5) == b"echo one"


@pytest.mark.parametrize("mode", [Mode.CUT, Mode.RESET])
async def test_a_cut_ends_connections_and_refuses_new_ones_until_it_is_healed(bent: Bent, mode: Mode) -> None:
    async with bent.connection() as ask:
        assert await ask(b"one") == b"echo one"
        await bent.set(mode)
        for again in (ask, bent.ask):
            try:
                # What was sent before the other side was seen to be gone brings a reset here too.
                assert await again(b"two") == b"" and mode is Mode.CUT
            except ConnectionError:
                pass
    await bent.proxy.heal()
    assert await bent.ask(b"four") == b"echo four"
    assert bent.heard == [b"one", b"four"]


async def test_a_black_hole_takes_everything_and_answers_nothing(bent: Bent) -> None:
    async with bent.connection() as old:
        await old(b"one")
        await bent.set(Mode.BLACK_HOLE)
        async with bent.connection() as new:
            for ask in (old, new):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask(b"two"), SOON_S)
            assert bent.heard == [b"one"]
            await bent.proxy.heal()
            # What was swallowed is missing in the middle, so neither may go on.
            for ask in (old, new):
                with pytest.raises(ConnectionError):
                    await asyncio.wait_for(ask(b"three"), 5)


async def test_a_half_open_connection_never_hears_again_and_new_ones_pass(bent: Bent) -> None:
    async with bent.connection() as old:
        await old(b"one")
        await bent.set(Mode.HALF_OPEN)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(old(b"two"), SOON_S)
        assert await bent.ask(b"three") == b"echo three"
        await bent.proxy.heal()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(old(b"four"), SOON_S)


async def test_a_lost_reply_was_acted_on(bent: Bent) -> None:
    await bent.set(Mode.LOSE_REPLY, count=1)
    with pytest.raises(ConnectionError):
        await bent.ask(b"one")
    assert bent.heard == [b"one"]
    assert await bent.ask(b"two") == b"echo two"
    assert (await bent.proxy.state([LINK]))[LINK]["lost"] == 1


async def test_only_replies_to_what_is_marked_are_lost(bent: Bent) -> None:
    await bent.proxy.set([LINK], Bend(mode=Mode.LOSE_REPLY, marker="EVALSHA"))
    async with bent.connection() as ask:
        assert await ask(b"PING") == b"echo PING"
        with pytest.raises(ConnectionError):
            await ask(b"EVALSHA")


async def test_the_proxy_ends_with_whoever_started_it(bent: Bent) -> None:
    assert bent.proxy._process is not None and bent.proxy._process.stdin is not None
    bent.proxy._process.stdin.close()

    async def ended() -> bool:
        assert bent.proxy._process is not None
        return bent.proxy._process.returncode is not None

    await eventually(ended)
