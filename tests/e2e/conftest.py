"""One gateway for all tests that leave it whole; a test that breaks things starts its own. Both gateways end with the
tests of this folder: eight processes that wait for nothing take time from the tests that come after."""

import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from gateway.client.host import Host
from tests.support.gateway import Gateway, running_gateway


@pytest.fixture(scope="package")
def gateway() -> Iterator[Gateway]:
    with running_gateway(workers=2) as started:
        yield started


@pytest.fixture(scope="package")
def rough_gateway() -> Iterator[Gateway]:
    """For tests that kill and stop its parts, and give it back whole. It lets few in at once, and is soon drained;
    sales leave Valkey as soon as they have ended."""
    with running_gateway(
        workers=2, PEAKGATE_JOIN_RATE="25", PEAKGATE_DRAIN_S="2", PEAKGATE_RETIRE_AFTER_S="1"
    ) as started:
        yield started


@pytest.fixture(scope="package")
def host_token(gateway: Gateway) -> str:
    return gateway.token("host", "host")


@pytest.fixture
async def host(gateway: Gateway, host_token: str) -> AsyncIterator[Host]:
    async with Host(gateway.url, host_token) as host:
        yield host


@dataclass
class Show:
    """A live room with one open sale of one sku, `tin`."""

    room: str
    sale: str
    live_url: str


async def make_show(
    gateway: Gateway, host: Host, *, stock: int = 100, limit: int = 2, price_minor: int = 1900, opens_in_s: float = -60
) -> Show:
    room = await host.create_room("Show", key=uuid.uuid4().hex)
    await host.start_room(room.room)
    now = datetime.now(UTC)
    sale = await host.create_sale(
        key=uuid.uuid4().hex,
        title="Drop",
        currency="CNY",
        room=room.room,
        opens_at=(now + timedelta(seconds=opens_in_s)).isoformat(),
        closes_at=(now + timedelta(hours=1)).isoformat(),
        items=[{"sku": "tin", "title": "Tin", "price_minor": price_minor, "stock": stock, "limit_per_viewer": limit}],
    )
    return Show(room=room.room, sale=sale.sale, live_url=gateway.live_url(room.room))


@pytest.fixture
async def show(gateway: Gateway, host: Host) -> Show:
    return await make_show(gateway, host)


@pytest.fixture
def viewer_token(gateway: Gateway) -> str:
    return gateway.token(f"viewer-{uuid.uuid4().hex[:12]}")
