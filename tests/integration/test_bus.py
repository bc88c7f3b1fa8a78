"""What a process hears of the others, over a network that fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.hot import bus as bus_module
from gateway.hot.bus import Bus
from gateway.hot.connect import connect
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.servers import eventually


class Listener:
    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.heard: list[bytes] = []
        self.gaps = 0

    async def gap(self) -> None:
        self.gaps += 1

    async def hears(self, message: bytes) -> None:
        async def heard() -> bool:
            await self.bus.publish(message)
            return message in self.heard

        await eventually(heard)


@asynccontextmanager
async def listener(subscribe_url: str, publish_url: str) -> AsyncIterator[Listener]:
    client = connect(publish_url, max_connections=1)
    made = Listener(Bus(url=subscribe_url, client=client))
    listening = asyncio.ensure_future(made.bus.listen(made.heard.append, made.gap))
    try:
        yield made
    finally:
        listening.cancel()
        await asyncio.wait({listening}, timeout=5)
        assert listening.cancelled()
        await client.aclose()


@pytest.fixture
async def proxy(rooms_valkey_url: str) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(rooms_valkey_url) as proxy:
        yield proxy


async def test_a_subscription_whose_other_end_went_without_a_word_is_made_anew(
    proxy: CuttingProxy, rooms_valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_SILENT_S", 0.3)
    async with listener(proxy.url, rooms_valkey_url) as one:
        await one.hears(b"before")
        assert one.gaps == 1
        proxy.fall_silent()
        await one.bus.publish(b"lost")
        await one.hears(b"after")
        assert one.gaps == 2, "what was lost meanwhile is looked for"
        assert b"lost" not in one.heard


async def test_a_subscription_that_hears_nothing_for_long_is_kept_while_it_answers(
    proxy: CuttingProxy, rooms_valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "_SILENT_S", 0.3)
    async with listener(proxy.url, rooms_valkey_url) as one:
        await one.hears(b"before")
        until_s = time.monotonic() + 1.0

        async def later() -> bool:
            return time.monotonic() > until_s

        await eventually(later)
        await one.hears(b"after")
        assert one.gaps == 1
