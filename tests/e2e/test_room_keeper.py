"""What the keeper does for rooms: what is said is archived, and openings by the clock are told. Real processes."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import asyncpg
import pytest

from gateway.client.host import Host
from tests.e2e.conftest import Show, make_show
from tests.support.gateway import Gateway, running_gateway
from tests.support.servers import eventually

WITHIN_S = 15.0
SAID = 300


@pytest.fixture(scope="module")
def own_gateway() -> Iterator[Gateway]:
    """Its keeper is killed."""
    with running_gateway(PEAKGATE_COMMENT_RATE="1000", PEAKGATE_COMMENT_BURST="1000") as started:
        yield started


@pytest.fixture
async def own_host(own_gateway: Gateway) -> AsyncIterator[Host]:
    async with Host(own_gateway.url, own_gateway.token("host", "host")) as host:
        yield host


@asynccontextmanager
async def watching(gateway: Gateway, show: Show, sub: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    token = await asyncio.to_thread(gateway.token, sub)
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(show.live_url, protocols=["peakgate.v1.json"]) as ws,
    ):
        await ws.send_json({"t": "hello", "token": token})
        while (await ws.receive_json(timeout=WITHIN_S))["t"] != "snapshot":
            pass
        yield ws


async def hear(ws: aiohttp.ClientWebSocketResponse, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first event of a tick that is wanted."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            frame = await ws.receive_json()
            for event in frame.get("ev", ()):
                if wanted(event):
                    found: dict[str, Any] = event
                    return found


async def test_a_room_hears_of_an_opening_by_the_clock_at_its_time(own_gateway: Gateway, own_host: Host) -> None:
    show = await make_show(own_gateway, own_host, opens_in_s=3)
    async with watching(own_gateway, show, "early") as ws:
        event = await hear(ws, lambda event: event["k"] == "sale")
        heard_ms = time.time() * 1000
    assert (event["sale"], event["state"]) == (show.sale, "open")
    # Valkey runs on this machine. How late it may be is the machine's affair; it is never early.
    assert 0 <= heard_ms - event["opens_at_ms"] < 3000


async def test_what_is_said_while_a_keeper_dies_is_archived_once_and_in_order(
    own_gateway: Gateway, own_host: Host
) -> None:
    show = await make_show(own_gateway, own_host)
    connection = await asyncpg.connect(own_gateway.servers()["database_url"])
    killed: set[int] = set()
    try:
        async with watching(own_gateway, show, "talker") as ws:
            for n in range(SAID):
                await ws.send_json({"t": "comment", "id": f"c{n}", "text": f"comment {n}"})
                keepers = own_gateway.pids("peakgate keeper") if n % 50 == 49 else []
                for pid in keepers:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
            answered: dict[str, dict[str, Any]] = {}
            async with asyncio.timeout(WITHIN_S):
                while len(answered) < SAID:
                    frame = await ws.receive_json()
                    if frame["t"] == "reply":
                        answered[frame["id"]] = frame
        assert {reply["outcome"] for reply in answered.values()} == {"posted"}
        assert killed

        async def archived() -> bool:
            return bool(await connection.fetchval("SELECT count(*) >= $1 FROM comments", SAID))

        await eventually(archived, within_s=30)
        rows = await connection.fetch("SELECT n, at_ms, sub, text FROM comments ORDER BY n")
    finally:
        await connection.close()
    assert [row["n"] for row in rows] == list(range(1, SAID + 1))
    assert [row["text"] for row in rows] == [f"comment {n}" for n in range(SAID)]
    assert [row["at_ms"] for row in rows] == [answered[f"c{n}"]["at_ms"] for n in range(SAID)]
    assert {row["sub"] for row in rows} == {"talker"}
