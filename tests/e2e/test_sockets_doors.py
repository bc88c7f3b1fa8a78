"""Who may stand at the doors of a real gateway without a token, and how many of them."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.support.api import Api, api_of
from tests.support.gateway import Gateway, running_gateway
from tests.support.raw_wire import Answered, RawWire, raw_wire, request, said
from tests.support.servers import eventually

PER_ADDRESS, IN_ALL = 3, 8


@pytest.fixture(scope="module")
def doors() -> Iterator[Gateway]:
    """Behind a proxy on this machine that tells whose connection it is."""
    with running_gateway(
        PEAKGATE_TRUSTED_PROXIES="127.0.0.1",
        PEAKGATE_SOCKETS_PER_ADDRESS=str(PER_ADDRESS),
        PEAKGATE_MAX_UNGREETED=str(IN_ALL),
    ) as started:
        yield started


@pytest.fixture
async def api(doors: Gateway) -> AsyncIterator[Api]:
    async with api_of(doors) as api:
        yield api


@pytest.fixture
async def path(api: Api) -> str:
    return f"/v1/rooms/{(await api.room())['room']}/live"


class Street:
    """Opens connections and keeps them."""

    def __init__(self, doors: Gateway, path: str, kept: AsyncExitStack) -> None:
        self._doors, self.path, self._kept = doors, path, kept
        self.wires: list[RawWire] = []

    async def silent(self) -> RawWire:
        wire = await self._kept.enter_async_context(raw_wire(self._doors.ready["live_url"]))
        self.wires.append(wire)
        return wire

    async def knocks(self, address: str, *lines: str) -> Answered:
        wire = await self.silent()
        wire.send(request(self.path, f"X-Forwarded-For: {address}", *lines))
        return await wire.answer()

    async def would_let_in(self, address: str) -> bool:
        """Asked once, and gone again."""
        async with raw_wire(self._doors.ready["live_url"]) as wire:
            wire.send(request(self.path, f"X-Forwarded-For: {address}"))
            try:
                return (await wire.answer()).status == 101
            except (asyncio.IncompleteReadError, ConnectionError):
                return False  # cut unasked

    async def is_let_in(self, address: str) -> bool:
        return (await self.knocks(address)).status == 101


@pytest.fixture
async def street(doors: Gateway, path: str) -> AsyncIterator[Street]:
    async with AsyncExitStack() as kept:
        yield Street(doors, path, kept)

    async def empty() -> bool:
        async with aiohttp.ClientSession() as session, session.get(f"{doors.admin_url}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return {line.rpartition(" ")[2] for line in lines if line.startswith("peakgate_guests{")} == {"0.0"}

    # The next test begins at empty doors.
    await eventually(empty)


async def test_an_address_has_so_many_without_a_token_and_no_more(street: Street) -> None:
    assert [await street.is_let_in("192.0.2.1") for _ in range(PER_ADDRESS)] == [True] * PER_ADDRESS
    refused = await street.knocks("192.0.2.1")
    assert refused.status == 429 and 1 <= int(refused.headers["retry-after"]) <= 10
    # Whatever else it says of itself, the last word is the proxy's.
    assert (await street.knocks("198.51.100.77, 192.0.2.1")).status == 429
    assert await street.is_let_in("192.0.2.2")


async def test_one_home_counts_as_one_whatever_its_addresses(street: Street) -> None:
    for at in range(PER_ADDRESS):
        assert await street.is_let_in(f"2001:db8:1:2::{at}")
    assert not await street.is_let_in("2001:db8:1:2:ffff::1")
    assert await street.is_let_in("2001:db8:1:3::1")


async def test_whoever_leaves_makes_room(street: Street) -> None:
    for _ in range(PER_ADDRESS):
        assert await street.is_let_in("192.0.2.3")
    assert not await street.is_let_in("192.0.2.3")
    street.wires[0].writer.transport.abort()

    async def has_room() -> bool:
        return await street.would_let_in("192.0.2.3")

    await eventually(has_room)


async def test_the_welcomed_count_no_more(street: Street, api: Api) -> None:
    for _ in range(2 * PER_ADDRESS):
        wire = await street.silent()
        wire.send(request(street.path, "X-Forwarded-For: 192.0.2.4"))
        assert (await wire.answer()).status == 101
        wire.send(said({"t": "hello", "token": api.viewer()}))
        await wire.told("welcome")


async def test_a_good_token_in_the_header_enters_past_a_crowd_and_a_bad_one_does_not(street: Street, api: Api) -> None:
    # A process knows a shop's key from the first token it saw of it.
    assert (await street.knocks("192.0.2.5", f"Authorization: Bearer {api.viewer()}")).status == 101
    wire = street.wires[-1]
    wire.send(said({"t": "hello"}))
    await wire.told("welcome")
    for _ in range(PER_ADDRESS):
        assert await street.is_let_in("192.0.2.5")
    assert not await street.is_let_in("192.0.2.5")
    assert (await street.knocks("192.0.2.5", f"Authorization: Bearer {api.viewer()}")).status == 101
    assert (await street.knocks("192.0.2.5", "Authorization: Bearer forged")).status == 401


async def test_in_all_there_are_so_many_and_unfinished_requests_count(street: Street, api: Api) -> None:
    for _ in range(IN_ALL // 2):
        await street.silent()
    for at in range(IN_ALL - IN_ALL // 2):
        assert await street.is_let_in(f"192.0.2.{100 + at}")
    refused = await street.knocks("192.0.2.200")
    assert refused.status == 503 and 1 <= int(refused.headers["retry-after"]) <= 10
    assert (await street.knocks("192.0.2.201", f"Authorization: Bearer {api.viewer()}")).status == 101


async def test_more_than_can_be_asked_are_cut_unasked(street: Street) -> None:
    for _ in range(2 * IN_ALL + 3):
        await street.silent()
    # It is in nobody's interest to say which; the last of them surely.
    assert await street.wires[-1].rest(2) == b""


async def test_health_is_told_to_whoever_asks_however_crowded(street: Street, doors: Gateway) -> None:
    for at in range(IN_ALL):
        assert await street.is_let_in(f"192.0.2.{100 + at}")
    wire = await street.silent()
    wire.send(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await wire.answer()).status == 200
