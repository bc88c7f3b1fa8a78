"""The pages in a real browser, served by a real gateway that is started as a developer starts it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from gateway.client.host import Host
from tests.support.chromium import CHROMIUM, Visitors, chromium
from tests.support.fault_proxy import FaultProxy, LinkPlan
from tests.support.gateway import Gateway, free_ports, running_gateway


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Chromium is started once: all of them run in the loop of the session."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)
            if CHROMIUM is None:
                item.add_marker(
                    pytest.mark.skip(reason="NO CHROMIUM: THE PAGES ARE NOT TESTED (make browser installs it)")
                )


@pytest.fixture(scope="package")
def sockets_port() -> int:
    """Where pages find the live sockets: at a proxy that bends the network when a test says so."""
    return free_ports(1)


@pytest.fixture(scope="package")
def gateway(sockets_port: int) -> Iterator[Gateway]:
    """Of the tests of pages alone: they read as much as a room has to say."""
    with running_gateway(
        PEAKGATE_LIVE_URL=f"ws://127.0.0.1:{sockets_port}",
        PEAKGATE_READING_RATE="300",
        PEAKGATE_COMMENT_RATE="300",
        PEAKGATE_COMMENT_BURST="1000",
    ) as started:
        yield started


@pytest_asyncio.fixture(scope="package", loop_scope="session", autouse=True)
async def sockets(gateway: Gateway, sockets_port: int) -> AsyncIterator[FaultProxy]:
    plan = LinkPlan(name="live", port=sockets_port, target=f"127.0.0.1:{gateway.port + 1}")
    async with FaultProxy([plan]) as proxy:
        yield proxy


@pytest_asyncio.fixture(loop_scope="session")
async def network(sockets: FaultProxy) -> AsyncIterator[FaultProxy]:
    """Whole again behind each test."""
    yield sockets
    await sockets.heal()


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session")
async def visitors(browser: Browser) -> AsyncIterator[Visitors]:
    """A test fails when one of its pages complained, whatever else it saw."""
    visitors = Visitors(browser)
    yield visitors
    faults = [fault for visitor in visitors.all for fault in visitor.faults]
    await visitors.leave()
    assert not faults, faults


@pytest_asyncio.fixture(loop_scope="session")
async def host(gateway: Gateway) -> AsyncIterator[Host]:
    async with Host(gateway.url, gateway.token("host", "host")) as host:
        yield host
