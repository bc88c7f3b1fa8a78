"""Phones that read slowly or not at all: they are told less, then to come back, and nobody waits for them."""

import asyncio
import json
import time
from collections.abc import AsyncIterator

import pytest

from tests.support.api import ITEM, Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show, metric, showing
from tests.support.seat import JSON, MSGPACK, Seat

LONG = "\u8fd9" * 190
WITHIN_S = 15.0


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def show(api: Api) -> AsyncIterator[Show]:
    async with showing(api) as show:
        yield show


async def enter_narrow(show: Show) -> Seat:
    return await show.enter(receive_buffer=2048)


async def slow_ones(show: Show, variant: str) -> float:
    return await metric(show.gateway, show.session, "peakgate_slow_viewers_total", variant=variant)


async def until_slow(show: Show, variant: str, push: AsyncIterator[None]) -> None:
    before = await slow_ones(show, variant)
    async with asyncio.timeout(WITHIN_S):
        async for _ in push:
            if await slow_ones(show, variant) > before:
                return


async def talk(host: Seat, said: list[str]) -> AsyncIterator[None]:
    """Long comments, shown before the next ones are said: first what the kernels take, then a few at a time."""
    for at in range(10_000):
        texts = [f"{at}-{part} {LONG}" for part in range(8 if at else 60)]
        await asyncio.gather(*(host.comment(text) for text in texts))
        said += texts
        await host.hears_text(texts[-1])
        yield


async def pin(show: Show, host: Seat, said: list[str]) -> AsyncIterator[None]:
    """Pins with long titles: they are neither comments nor of the sale. Beside them a few words."""
    for at in range(10_000):
        after = len(host.frames)
        said.append(f"pin {at}")
        await asyncio.gather(
            host.comment(said[-1]), *(show.act("PUT", "pin", {"sale": show.sale, "sku": "tin"}) for _ in range(12))
        )
        await host.until(lambda after=after: len(host.events("pin", after=after)) == 12 or None)  # type: ignore[misc]
        await host.hears_text(said[-1])
        yield


async def announce(show: Show, host: Seat) -> AsyncIterator[None]:
    for at in range(10_000):
        texts = [f"{at}-{part} {LONG}" for part in range(8)]
        await asyncio.gather(*(show.act("POST", "announcements", {"text": text}) for text in texts))
        for text in texts:
            await host.event("announce", text=text)
        yield


async def test_who_does_not_read_gets_less_and_less_and_then_has_to_come_back(api: Api) -> None:
    items = [{**ITEM, "title": "T" * 190}]
    async with showing(api, items=items) as show:
        host = await show.enter("host", host=True)
        healthy = await show.enter(codec=MSGPACK)
        slow = await enter_narrow(show)
        said: list[str] = []
        closed = await metric(show.gateway, show.session, "peakgate_closed_connections_total", code="4008")
        slow.stops_reading()
        await until_slow(show, "no_comments", talk(host, said))
        await until_slow(show, "sale_only", pin(show, host, said))
        # Only the running totals are left out now.
        await host.say({"t": "like", "n": 7})
        async for _ in pin(show, host, said):
            break
        after_pins = len(host.events("pin"))
        async with asyncio.timeout(WITHIN_S):
            async for _ in announce(show, host):
                if await metric(show.gateway, show.session, "peakgate_closed_connections_total", code="4008") > closed:
                    break
        slow.reads_again()
        bye = await slow.bye()
        assert (bye["code"], bye["retry_after_ms"] > 0) == (4008, True)
        # Less, but no hole: every tick is there, and says how many comments are not in it.
        assert slow.has_no_hole()
        skipped = sum(tick.get("skipped", 0) for tick in slow.ticks())
        last = slow.ticks()[-1]["seq"]
        shown = [
            event["text"]
            for tick in healthy.ticks()
            if tick["seq"] <= last
            for event in tick["ev"]
            if event["k"] == "comment"
        ]
        assert slow.texts() == shown[: len(slow.texts())] and skipped > 0
        assert len(slow.texts()) + skipped == len(shown)
        assert len(slow.events("pin")) == after_pins, "what a host does is never left out"
        assert not any(tick.get("likes") for tick in slow.ticks())
        told = len(slow.events("announce"))
        assert slow.events("announce") == healthy.events("announce")[:told] and told > 0
        # Nobody else has noticed anything.
        assert healthy.texts() == said
        assert not any("skipped" in tick for tick in healthy.ticks())
        back = await show.enter(slow.sub, resume=slow.place())
        assert back.welcome["recovered"] is True and back.has_no_hole()


async def test_who_reads_again_is_told_everything_again(show: Show) -> None:
    host = await show.enter("host", host=True)
    slow = await enter_narrow(show)
    said: list[str] = []
    slow.stops_reading()
    await until_slow(show, "no_comments", talk(host, said))
    await until_slow(show, "sale_only", pin(show, host, said))
    await host.say({"t": "like", "n": 7})
    await host.until(lambda: any(tick.get("likes") == 7 for tick in host.ticks()) or None)
    slow.reads_again()
    # An answer of its own is the first thing it is told after it has caught up.
    await slow.until(lambda: slow.place()["seq"] >= host.place()["seq"] or None)
    await slow.pong()
    texts: list[str] = []
    async with asyncio.timeout(WITHIN_S):
        for at in range(1000):
            texts.append(f"again {at}")
            await host.comment(texts[-1])
            await host.hears_text(texts[-1])
            await slow.until(lambda: slow.place()["seq"] >= host.place()["seq"] or None)
            if slow.texts()[-1] == texts[-1]:
                break
    assert len(texts) <= 3, "the tick after it has caught up is whole"
    assert any(tick.get("likes") == 7 for tick in slow.ticks()), "and tells the totals that were left out"
    assert slow.has_no_hole()


async def test_nobody_waits_for_who_does_not_read(show: Show) -> None:
    host = await show.enter("host", host=True)
    healthy = [await show.enter(codec=codec) for codec in (JSON, MSGPACK)]

    async def delay_s(text: str) -> float:
        """From the host's word to the last healthy viewer."""
        began_s = time.monotonic()
        await host.say({"t": "comment", "id": text.replace(" ", "-"), "text": text})
        for seat in healthy:
            await seat.hears_text(text)
        return time.monotonic() - began_s

    alone = sorted([await delay_s(f"alone {at}") for at in range(5)])[2]
    for _ in range(20):
        (await enter_narrow(show)).stops_reading()
    said: list[str] = []
    await until_slow(show, "no_comments", talk(host, said))
    beside = sorted([await delay_s(f"beside {at}") for at in range(5)])[2]
    print(f"a comment takes {alone * 1000:.0f} ms, beside twenty who do not read {beside * 1000:.0f} ms")
    assert beside < max(10 * alone, 1.0)


async def test_a_room_larger_than_a_socket_takes_at_once_is_entered_all_the_same(api: Api) -> None:
    """Four sales of two hundred items, fifty long comments; over a narrow connection that reads as fast as it can."""
    items = [{**ITEM, "sku": f"sku-{at}", "title": "T" * 190} for at in range(200)]
    async with showing(api, items=items) as show:
        for _ in range(3):
            await api.sale(room=show.room, items=items)
        host = await show.enter("host", host=True)
        place = host.place()
        said: list[str] = []
        async for _ in talk(host, said):
            if len(said) >= 230:
                break
        newcomer = await enter_narrow(show)
        snapshot = newcomer.snapshots[0]
        assert len(json.dumps(snapshot)) > 200_000
        assert (await newcomer.comment("here"))["outcome"] == "posted"
        await newcomer.hears_text("here")
        # And so is who was away for so long that the room as it is tells it sooner.
        back = await show.enter(resume=place, receive_buffer=2048)
        assert back.welcome["recovered"] is False
        # The snapshot may be a moment old; what it does not have yet follows as ticks.
        await back.pong()
        shown = [line["text"] for line in back.snapshots[0]["recent"]] + back.texts()
        assert shown[-1] == "here" and shown[:-1] == said[len(said) - len(shown) + 1 :]
        # What they miss of a shorter while is told in full.
        place = back.place()
        assert (await host.comment("and then"))["outcome"] == "posted"
        await host.hears_text("and then")
        again = await show.enter(resume=place, receive_buffer=2048)
        assert again.welcome["recovered"] is True
        await again.hears_text("and then")
        assert again.texts() == ["and then"] and again.has_no_hole()
        assert newcomer.code is None and back.code is None
