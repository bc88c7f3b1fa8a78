"""The append-only file of a real Valkey, with small numbers. A server of its own: its file holds this test's data."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.embedded.valkey import ORDERS, ROOMS, ValkeyServer
from gateway.hot.connect import Client, connect
from gateway.hot.server_state import ServerState
from gateway.keeper.rewrite import QUIET_FOR_S, FileRewrites, Why
from tests.support.fake_clock import ShiftedClock
from tests.support.servers import eventually
from tests.support.shop_floor import ShopFloor, make_sale, shop_floor

KB = 1024


@pytest.fixture
async def own_valkey() -> AsyncIterator[Client]:
    async for client in _valkey(ORDERS):
        yield client


async def _valkey(options: tuple[str, ...]) -> AsyncIterator[Client]:
    folder = Path(tempfile.mkdtemp(prefix="peakgate-test-"))
    server = ValkeyServer(role="orders", options=options, folder=folder / "v", sockets=folder, logs=folder / "logs")
    try:
        await server.start()
        client = connect(server.url, max_connections=2)
        try:
            yield client
        finally:
            await client.aclose()
    finally:
        await server.stop(within_s=5)
        shutil.rmtree(folder, ignore_errors=True)


class Quiet:
    async def head(self) -> tuple[int, int]:
        return 1, 0

    async def opens_within(self, seconds: float) -> bool:
        return False


async def fill(client: Client) -> None:
    """The same kilobytes again and again: a file that grows over data that does not."""
    for _ in range(200):
        await client.set("k", "x" * KB)


async def test_a_quiet_server_rewrites_its_file_once(own_valkey: Client) -> None:
    clock = ShiftedClock()
    state = ServerState(own_valkey)
    rewrites = FileRewrites(
        server=state, streams={0: Quiet()}, sales=Quiet(), clock=clock, ceiling_bytes=10**9, least_bytes=50 * KB
    )
    await fill(own_valkey)
    grown = await state.file()
    assert grown is not None and grown.size > 200 * KB and not grown.rewriting
    assert await rewrites.look() is None
    clock.advance(QUIET_FOR_S)
    assert await rewrites.look() is Why.QUIET

    async def is_small() -> bool:
        found = await state.file()
        return found is not None and not found.rewriting and found.size < 10 * KB

    await eventually(is_small)
    assert await rewrites.look() is None
    assert await own_valkey.get("k") == b"x" * KB


async def test_asking_while_one_runs_is_harmless(own_valkey: Client) -> None:
    state = ServerState(own_valkey)
    await asyncio.gather(state.rewrite(), state.rewrite(), state.rewrite())


async def test_a_server_says_whether_it_rewrites_by_itself(own_valkey: Client) -> None:
    state = ServerState(own_valkey)
    assert not await state.rewrites_by_itself()
    await own_valkey.config_set("auto-aof-rewrite-percentage", 100)
    assert await state.rewrites_by_itself()


async def test_a_server_without_a_file_has_no_state_of_one() -> None:
    async for client in _valkey(ROOMS):
        assert await ServerState(client).file() is None


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url) as floor:
        yield floor


async def test_the_ledger_says_whether_a_sale_opens_soon(floor: ShopFloor) -> None:
    assert not await floor.sales.opens_within(60)
    soon = await make_sale(floor, key="soon", opens_in_ms=40_000, load=False)
    assert await floor.sales.opens_within(60) and not await floor.sales.opens_within(20)
    await floor.ledger.execute("UPDATE sales SET hold = 'closed' WHERE sale_no = $1", soon.sale_no)
    assert not await floor.sales.opens_within(60)
