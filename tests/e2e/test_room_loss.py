"""The rooms Valkey lost, hung and emptied under a whole gateway: a new epoch, the same room, orders all the while."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.api import Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show, live_again, showing
from tests.support.seat import MSGPACK, Seat, picture

# A loss is found when the connection breaks, else when rooms are compared: every two seconds.
BACK_WITHIN_S = 8.0


@pytest.fixture
async def api(rough_gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(rough_gateway) as api:
        yield api


@pytest.fixture
async def show(api: Api) -> AsyncIterator[Show]:
    await live_again(api.gateway)
    async with showing(api) as show:
        yield show


def rooms_pid(show: Show) -> int:
    (pid,) = show.gateway.pids("peakgate valkey rooms")
    return pid


def killed(show: Show) -> None:
    """It keeps nothing on the disk, so that it comes back empty."""
    os.kill(rooms_pid(show), signal.SIGKILL)


def emptied(show: Show) -> None:
    """Nobody's connection breaks."""
    valkey = show.rooms_valkey()
    valkey.flushall()
    valkey.close()


async def seats_everywhere(show: Show) -> list[Seat]:
    first, second = show.gateway.pids("peakgate live")
    return [await show.enter(on=first), await show.enter(on=second, codec=MSGPACK), await show.enter(on=second)]


async def anew(seats: list[Seat], epoch: int) -> None:
    """Each is shown the room in one later epoch."""
    async with asyncio.timeout(BACK_WITHIN_S):
        for seat in seats:
            await seat.hears_snapshots(2)
    shown = {seat.snapshots[1]["epoch"] for seat in seats}
    assert len(shown) == 1 and shown.pop() > epoch


@pytest.mark.parametrize("loss", [killed, emptied], ids=lambda loss: str(loss.__name__))
async def test_a_lost_room_begins_anew_as_its_hosts_left_it(show: Show, loss: Callable[[Show], None]) -> None:
    seats = await seats_everywhere(show)
    await show.counts(seats, 3)
    epoch = seats[0].place()["epoch"]
    muted = seats[2]
    await show.act("PUT", f"mutes/{muted.you}", {"for_s": 600})
    await show.act("PATCH", "chat", {"slow_mode_s": 7})
    await show.act("PUT", "pin", {"sale": show.sale, "sku": "tin"})
    assert (await seats[0].comment("before", "c0"))["outcome"] == "posted"
    for seat in seats:
        await seat.event("pin")
        await seat.hears_text("before")
    loss(show)
    lost_at_s = time.monotonic()
    # Nothing of it concerns orders.
    assert (await seats[0].order(show.sale, "meanwhile"))["outcome"] == "reserved"
    await anew(seats, epoch)
    print(f"shown anew {time.monotonic() - lost_at_s:.2f} s after the loss")
    for seat in seats:
        assert seat.snapshots[1]["chat"] == {"slow_mode_s": 7, "comments": "on"}
        assert seat.snapshots[1]["pin"] == {"sale": show.sale, "sku": "tin", "title": "A tin"}
        assert seat.has_no_hole()
    # Who comes at that moment, and who resumes in the epoch that is gone, is shown the same room.
    late = await show.enter(resume={"epoch": epoch, "seq": seats[0].place()["seq"]})
    assert late.welcome["recovered"] is False
    assert (await muted.comment("muted"))["outcome"] == "muted"
    assert (await seats[1].comment("after"))["outcome"] == "posted"
    assert (await seats[1].comment("too soon"))["outcome"] == "slow_mode"
    for seat in (*seats, late):
        await seat.hears_text("after")
        assert seat.has_no_hole()
    await show.counts([*seats, late], 4)
    for seat in seats:
        assert picture(seat.view()) == picture(late.view())
    await seats[0].hear("order", status="confirmed")


async def test_while_it_hangs_orders_go_on_and_a_comment_gets_an_honest_error(show: Show) -> None:
    async with showing(show.api) as fresh:
        await hang(show, fresh)


async def hang(show: Show, fresh: Show) -> None:
    """`fresh` is a room that nobody has entered before."""
    seats = await seats_everywhere(show)
    await show.counts(seats, 3)
    epoch = seats[0].place()["epoch"]
    assert (await seats[0].comment("before"))["outcome"] == "posted"
    pid = rooms_pid(show)
    os.kill(pid, signal.SIGSTOP)
    try:
        hung_at_s = time.monotonic()
        comments = [asyncio.create_task(seat.comment("in between", "hung", within_s=20)) for seat in seats]
        for at, seat in enumerate(seats):
            asked_at_s = time.monotonic()
            assert (await seat.order(show.sale, f"hung-{at}"))["outcome"] == "reserved"
            assert time.monotonic() - asked_at_s < 2
        # Who comes now sees the room without its chat, and can order.
        newcomer, first = await asyncio.gather(show.enter(), fresh.enter())
        print(f"entered {time.monotonic() - hung_at_s:.2f} s after it hung")
        assert time.monotonic() - hung_at_s < 5
        assert (await newcomer.order(show.sale))["outcome"] == "reserved"
        for error in await asyncio.gather(*comments):
            assert (error["t"], error["code"], error["retryable"]) == ("error", "outcome_unknown", True)
        print(f"comments were answered {time.monotonic() - hung_at_s:.2f} s after it hung")
    finally:
        os.kill(pid, signal.SIGKILL)
    await anew(seats, epoch)
    await anew([first], 0)
    for seat in (*seats, newcomer):
        await seat.hear("order", status="confirmed")
    replies = [await seat.comment("in between", "hung") for seat in seats]
    assert {reply["outcome"] for reply in replies} == {"posted"}
    for seat in seats:
        await seat.until(lambda seat=seat: seat.texts().count("in between") >= 3 or None)  # type: ignore[misc]
        assert seat.texts().count("in between") == 3
    await newcomer.until(lambda: newcomer.view().epoch == seats[0].view().epoch or None)
    await show.counts([*seats, newcomer], 4)
    await fresh.counts([first], 1)
    assert (await (await fresh.enter()).comment("hello"))["outcome"] == "posted"
    await first.hears_text("hello")
    assert all(seat.has_no_hole() for seat in (*seats, first))
