"""Who comes back to a room: what was missed follows in order, else the room is shown anew. Processes are killed."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, closing

import pytest

from gateway.client.backoff import Backoff
from gateway.client.viewer import Viewer
from tests.support.api import Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show, live_again, showing
from tests.support.seat import JSON, MSGPACK, Seat, picture


@pytest.fixture
async def api(rough_gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(rough_gateway) as api:
        yield api


@pytest.fixture
async def show(api: Api) -> AsyncIterator[Show]:
    async with showing(api) as show:
        yield show


@pytest.mark.parametrize("codec", [JSON, MSGPACK])
async def test_what_was_missed_follows_in_order_on_every_process_without_what_was_taken_back(
    show: Show, codec: str
) -> None:
    processes = await live_again(show.gateway)
    away = await show.enter(codec=codec, on=processes[0])
    host = await show.enter("host", host=True, on=processes[0])
    await host.comment("before")
    await away.hears_text("before")
    place, begun = away.place(), away.view()
    await away.leave()
    said = [await host.comment(f"missed {at}") for at in range(5)]
    await host.hears_text("missed 4")
    await show.act("DELETE", f"comments/{said[2]['comment']}")
    await show.act("PATCH", "chat", {"slow_mode_s": 3})
    await show.act("POST", "announcements", {"text": "Soon"})
    await host.say({"t": "like", "n": 5})
    await host.event("announce")
    await host.until(lambda: host.view().likes == 5 or None)
    for pid in processes:
        back = await show.enter(away.sub, codec=codec, on=pid, resume=place)
        assert back.welcome["recovered"] is True
        assert (back.welcome["epoch"], back.snapshots) == (place["epoch"], [])
        await back.until(lambda back=back: back.events("announce") or None)  # type: ignore[misc]
        ticks = back.ticks()
        assert [tick["seq"] for tick in ticks] == list(range(place["seq"] + 1, place["seq"] + 1 + len(ticks)))
        assert back.texts() == ["missed 0", "missed 1", "missed 3", "missed 4"]
        assert back.events("comment_gone") == [{"k": "comment_gone", "comment": said[2]["comment"]}]
        # The present state is what the missed ticks lead to.
        late = await show.enter()

        def are_alike(late: Seat = late, back: Seat = back) -> bool | None:
            return (late.place() == back.place() and picture(back.view(begun)) == picture(late.view())) or None

        await late.until(are_alike)
        await back.leave()
        await late.leave()


async def test_where_nothing_can_follow_the_room_is_shown_anew(show: Show) -> None:
    processes = await live_again(show.gateway)
    seat = await show.enter(on=processes[0])
    for at in range(4):
        await seat.comment(f"said {at}")
        await seat.hears_text(f"said {at}")
    here = seat.place()
    with closing(show.rooms_valkey()) as valkey:
        valkey.xtrim((await show.keys()).ticks, maxlen=1, approximate=False)
    places = {
        "before the room": {**here, "seq": -1},
        "to come": {**here, "seq": here["seq"] + 1000},
        "epoch before": {**here, "epoch": here["epoch"] - 1},
        "epoch to come": {**here, "epoch": 2**63},
        # The other process finds no more of the history.
        "trimmed": {**here, "seq": here["seq"] - 3},
    }
    back = {}
    for place, resume in places.items():
        back[place] = await show.enter(on=processes[1], resume=resume)
        assert back[place].welcome["recovered"] is False, place
        assert back[place].place()["epoch"] == here["epoch"]
    await seat.comment("after")
    for place, returned in back.items():
        await returned.hears_text("after")
        assert returned.has_no_hole() and returned.place()["seq"] > here["seq"], place


async def test_a_hello_that_resumes_nowhere_is_no_hello(show: Show) -> None:
    for resume in ({"epoch": "1", "seq": 1}, {"epoch": 1}, [1, 2], {"epoch": 1, "seq": 1.5}):
        seat = await show.take(show.api.viewer(), "")
        await seat.say({"t": "hello", "resume": resume})
        assert (await seat.bye())["code"] == 4014, resume


async def test_on_another_process_after_a_kill_the_keys_in_flight_are_answered_and_nothing_is_missing(
    show: Show,
) -> None:
    first, second = await live_again(show.gateway)
    seat, other = await show.enter(on=first), await show.enter(on=second)
    ordered = await seat.order(show.sale, "held")
    await seat.hear("order", status="confirmed")
    await other.comment("before")
    await seat.hears_text("before")
    place = seat.place()
    os.kill(first, signal.SIGKILL)
    assert await seat.ended() == 1006
    posted = await other.comment("missed")
    pending = [{"sale": show.sale, "key": "held"}, {"sale": show.sale, "key": "never"}]
    back = await show.enter(seat.sub, on=second, resume=place, pending=pending)
    assert back.welcome["recovered"] is True
    known = {entry["key"]: entry for entry in back.welcome["orders"]}
    assert (known["held"]["order"], known["held"]["status"]) == (ordered["order"], "confirmed")
    assert known["never"]["outcome"] == "none"
    assert (await back.hears_text("missed"))["comment"] == posted["comment"]
    assert back.frames[1]["t"] == "tick" and back.has_no_hole()
    await live_again(show.gateway, first)


async def test_through_a_rolling_restart_nobody_misses_anything(show: Show) -> None:
    processes = await live_again(show.gateway)
    url = show.gateway.live_url(show.room)
    said: list[str] = []
    async with AsyncExitStack() as stack:
        texts: list[list[str]] = [[] for _ in range(6)]
        viewers = [
            await stack.enter_async_context(
                Viewer(
                    url,
                    show.api.viewer(),
                    codec=("json", "msgpack")[at % 2],
                    on_event=lambda event, at=at: texts[at].append(event["text"]) if event["k"] == "comment" else None,  # type: ignore[misc]
                    backoff=Backoff(cap_s=0.5),
                )
            )
            for at in range(6)
        ]
        host = await stack.enter_async_context(Viewer(url, show.api.token(), backoff=Backoff(cap_s=0.5)))

        async def talk() -> None:
            for at in range(10_000):
                said.append(f"said {at}")
                await host.comment(said[-1], id=f"s{at}", insist=True, within_s=20)

        talking = asyncio.create_task(talk())
        for pid in processes:
            witnesses = await show.enter_many(5, on=pid)
            os.kill(pid, signal.SIGTERM)
            await told_to_come_back(witnesses)
            await live_again(show.gateway, pid)
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)
        await host.comment("the end", insist=True)
        async with asyncio.timeout(20):
            for heard in texts:
                while "the end" not in heard:  # noqa: ASYNC110 - what is waited for is told by the gateway
                    await asyncio.sleep(0.02)
        posted = [text for text in texts[0] if text != "the end"]
        assert len(posted) > 2 and posted == said[: len(posted)] and len(said) - len(posted) <= 1
        assert all(heard == texts[0] for heard in texts)
        assert all(viewer.holes == 0 for viewer in viewers)
        assert all(viewer.reconnects >= 1 and viewer.welcome["recovered"] for viewer in viewers)


async def told_to_come_back(seats: list[Seat]) -> None:
    """Elsewhere, and not all at the same moment."""
    byes = [await seat.bye() for seat in seats]
    assert {bye["code"] for bye in byes} == {1012}
    waits = [bye["retry_after_ms"] for bye in byes]
    assert len(set(waits)) > 1 and all(0 < wait <= 5000 for wait in waits)
