"""A viewer has five sockets in a room, whichever live processes hold them. Real processes, real sockets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show, showing
from tests.support.seat import JSON, MSGPACK, Seat
from tests.support.servers import eventually

MOST, FULL = 5, 4029


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def show(api: Api) -> AsyncIterator[Show]:
    async with showing(api) as show:
        yield show


@pytest.fixture
def processes(gateway: Gateway) -> tuple[int, int]:
    first, second = gateway.pids("peakgate live")
    return first, second


async def first_frame(show: Show, sub: str, *, on: int, codec: str = JSON) -> dict[str, Any]:
    """What a further socket is told; it is gone afterwards."""
    seat = await show.take(show.api.viewer(sub), sub, on=on, codec=codec)
    await seat.say({"t": "hello"})
    told = await seat.until(lambda: seat.frames[0] if seat.frames else None)
    if told["t"] == "bye":
        assert await seat.ended() == told["code"]
    await seat.leave()
    return told


async def test_a_sixth_socket_over_two_processes_is_told_to_come_back_and_is_let_in_after_one_closed(
    show: Show, processes: tuple[int, int]
) -> None:
    first, second = processes
    # No process holds five of them: only together they know.
    here = [await show.enter("polly", on=first, codec=codec) for codec in (JSON, MSGPACK, JSON)]
    there = [await show.enter("polly", on=second, codec=codec) for codec in (MSGPACK, JSON)]
    assert len(here) + len(there) == MOST
    for pid in processes:
        for codec in (JSON, MSGPACK):
            told = await first_frame(show, "polly", on=pid, codec=codec)
            assert (told["t"], told["code"]) == ("bye", FULL)
            assert told["retry_after_ms"] > 0
    for seat in (*here, *there):
        await seat.pong()
    assert (await first_frame(show, "somebody-else", on=first))["t"] == "welcome"
    async with showing(show.api) as other:
        assert (await first_frame(other, "polly", on=second))["t"] == "welcome", "each room counts for itself"

    # Where it was refused, it is let in once another process has lost one.
    await there[0].leave()
    tries: list[Seat] = []

    async def is_let_in() -> bool:
        tries.append(await show.take(show.api.viewer("polly"), "polly", on=first))
        await tries[-1].say({"t": "hello"})
        return (await tries[-1].until(lambda: tries[-1].frames[0] if tries[-1].frames else None))["t"] == "welcome"

    await eventually(is_let_in)
    assert (await first_frame(show, "polly", on=second))["code"] == FULL, "and then there are five again"
    await tries[-1].pong()
