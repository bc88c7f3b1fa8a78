"""What a room is told of its hosts' acts and of its sales: every event of the contract. Real processes, both codecs."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.api import ITEM, Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show, showing
from tests.support.seat import JSON, MSGPACK, Seat, picture


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def show(api: Api) -> AsyncIterator[Show]:
    async with showing(api) as show:
        yield show


async def pair(show: Show) -> list[Seat]:
    """A seat of each codec, each on a process of its own."""
    first, second = show.gateway.pids("peakgate live")
    return [await show.enter(on=first, codec=JSON), await show.enter(on=second, codec=MSGPACK)]


async def test_an_announcement_and_pins_are_shown_in_their_order(show: Show) -> None:
    seats = await pair(show)
    comment = (await seats[0].comment("pin me"))["comment"]
    await seats[0].hears_text("pin me")
    await show.act("POST", "announcements", {"text": "Welcome, \u5927\u5bb6\u597d!"})
    item = {"sale": show.sale, "sku": "tin", "title": "A tin"}
    said = {"comment": comment, "viewer": seats[0].you, "name": "", "text": "pin me"}
    assert (await show.act("PUT", "pin", {"sale": show.sale, "sku": "tin"})).json["pin"] == item
    await show.act("PUT", "pin", {"comment": comment})
    for seat in seats:
        assert await seat.event("announce") == {"k": "announce", "text": "Welcome, \u5927\u5bb6\u597d!"}
        assert await seat.event("pin", pin=said) == {"k": "pin", "pin": said}
        assert seat.events("pin")[0] == {"k": "pin", "pin": item}
    late = await show.enter()
    assert late.view().pin == said or await late.event("pin", pin=said)
    await show.act("DELETE", "pin")
    for seat in (*seats, late):
        assert await seat.event("pin", pin=None) == {"k": "pin", "pin": None}
        assert seat.has_no_hole()


async def test_what_is_taken_back_is_shown_to_nobody_any_more(show: Show) -> None:
    seats = await pair(show)
    replies = [await seats[at % 2].comment(f"n{at}") for at in range(6)]
    for seat in seats:
        await seat.hears_text("n5")
    await show.act("PUT", "pin", {"comment": replies[0]["comment"]})
    await show.act("DELETE", f"comments/{replies[0]['comment']}")
    await show.act("DELETE", f"viewers/{seats[1].you}/comments")
    assert (await seats[1].comment("afterwards"))["outcome"] == "posted"
    for seat in seats:
        assert await seat.event("comment_gone", viewer=seats[1].you) == {"k": "comment_gone", "viewer": seats[1].you}
        assert seat.events("comment_gone")[0] == {"k": "comment_gone", "comment": replies[0]["comment"]}
        # The pin goes with what was pinned.
        await seat.event("pin", pin=None)
        await seat.hears_text("afterwards")
    late = await show.enter()
    await late.until(lambda: (late.view().recent[-1:] and late.view().recent[-1]["text"] == "afterwards") or None)
    assert [line["text"] for line in late.view().recent] == ["n2", "n4", "afterwards"]
    # Taken back twice is taken back; what never was is not found.
    await show.act("DELETE", f"comments/{replies[0]['comment']}")
    await show.act("DELETE", f"comments/{replies[0]['comment'][:-1]}x", status=(404,))


async def test_what_is_taken_back_before_its_tick_is_never_shown(show: Show) -> None:
    """Said and taken back while the room's next tick is not due yet, again and again."""
    seats = await pair(show)
    host = await show.enter("host", host=True)
    gone: set[str] = set()
    for at in range(6):
        comment = (await host.comment(f"n{at}"))["comment"]
        await show.act("DELETE", f"comments/{comment}")
        gone.add(comment)
    await host.comment("last")
    for seat in seats:
        await seat.hears_text("last")
        told = [event for tick in seat.ticks() for event in tick["ev"]]
        for comment in gone:
            kinds = [event["k"] for event in told if event.get("comment") == comment]
            # Whoever was shown it is told that it is gone, and nobody is shown it afterwards.
            assert kinds in (["comment_gone"], ["comment", "comment_gone"]), kinds
        assert [line["text"] for line in seat.view().recent] == ["last"]


async def test_a_sale_tells_its_states_prices_and_stock(api: Api) -> None:
    items = [{**ITEM, "stock": 10, "limit_per_viewer": 5}, {**ITEM, "sku": "cup", "stock": 3, "limit_per_viewer": 1}]
    async with showing(api, opens_in_s=600, items=items) as show:
        seats = await pair(show)
        (shown,) = seats[0].snapshots[0]["sales"]
        for act, state in (("open", "open"), ("pause", "paused"), ("resume", "open"), ("close", "closed")):
            if act == "close":
                prices = {"items": [{"sku": "tin", "price_minor": 1500}]}
                assert (await api.call("PATCH", f"/v1/sales/{show.sale}", prices)).status == 200
                buyer = await show.enter()
                assert (await buyer.order(show.sale, quantity=3, expect_amount_minor=4500))["outcome"] == "reserved"
                for seat in seats:
                    assert await seat.event("stock", left=7) == {
                        "k": "stock",
                        "sale": show.sale,
                        "sku": "tin",
                        "left": 7,
                    }
                added = {"add": 5, "reason": "found some"}
                assert (await api.call("POST", f"/v1/sales/{show.sale}/items/cup/stock", added)).status in (200, 201)
                for seat in seats:
                    assert (await seat.event("stock", sku="cup"))["left"] == 8
            after = [len(seat.frames) for seat in seats]
            await show.steer(act)
            for seat, at in zip(seats, after, strict=True):
                event = await seat.event("sale", after=at, state=state)
                assert event.keys() == {"k", "sale", "state", "opens_at_ms", "closes_at_ms"}
                assert (event["sale"], event["closes_at_ms"]) == (show.sale, shown["closes_at_ms"])
                assert event["opens_at_ms"] < shown["opens_at_ms"]
        told = [[event for kind in ("sale", "price") for event in seat.events(kind)] for seat in seats]
        assert told[0] == told[1]
        price = {"k": "price", "sale": show.sale, "sku": "tin", "price_minor": 1500}
        assert [event for event in told[0] if event["k"] == "price"] == [price]
        # Who was there all the time and who comes now see the same.
        late = await show.enter()
        for seat in seats:
            await seat.until(lambda seat=seat: picture(seat.view())["items"] == picture(late.view())["items"] or None)  # type: ignore[misc]
            assert picture(seat.view())["sales"] == picture(late.view())["sales"] == {show.sale: "closed"}


@pytest.mark.parametrize("display", ["low", "hidden"])
async def test_a_sale_that_does_not_show_its_stock_tells_nobody_how_much_is_left(api: Api, display: str) -> None:
    async with showing(api, stock=12, limit=12, stock_display=display) as show:
        seats = await pair(show)
        assert (await seats[0].order(show.sale, quantity=9))["outcome"] == "reserved"
        if display == "low":
            for seat in seats:
                assert (await seat.event("stock"))["low"] is True
        assert (await seats[1].comment("last"))["outcome"] == "posted"
        for seat in seats:
            await seat.hears_text("last")
            assert display == "low" or not seat.events("stock")
            assert all("left" not in event for event in seat.events("stock"))
            assert all("left" not in item for item in seat.snapshots[0]["sales"][0]["items"])


async def test_a_room_tells_that_it_starts_and_ends_and_its_end_ends_the_sockets(api: Api) -> None:
    async with showing(api, live=False) as show:
        seats = await pair(show)
        assert seats[0].snapshots[0]["room"]["state"] == "scheduled"
        assert seats[0].snapshots[0].keys() == {
            *("t", "room", "epoch", "seq", "viewers", "likes", "sales", "coupons", "pin", "recent", "chat"),
        }
        assert (await api.call("POST", f"/v1/rooms/{show.room}/start")).status == 200
        for seat in seats:
            assert await seat.event("room") == {"k": "room", "state": "live"}
        changes = {"title": "Later tea", "notice": "Ten minutes more", "stream_url": "https://cdn.example/tea.m3u8"}
        assert (await api.call("PATCH", f"/v1/rooms/{show.room}", changes)).status == 200
        assert (await api.call("PATCH", f"/v1/rooms/{show.room}", {**changes, "notice": "Now"})).status == 200
        for seat in seats:
            assert await seat.event("room", title="Later tea") == {"k": "room", "state": "live", **changes}
            # What did not change is not told again.
            assert await seat.event("room", notice="Now") == {"k": "room", "state": "live", "notice": "Now"}
        assert (await api.call("POST", f"/v1/rooms/{show.room}/end")).status == 200
        byes = await asyncio.gather(*(seat.bye() for seat in seats))
        assert {bye["code"] for bye in byes} == {4504}


async def test_whoever_was_there_all_the_time_sees_what_a_newcomer_sees(show: Show) -> None:
    """Many things at once, from both processes; nothing is told twice or in another order than it stands."""
    seats = await pair(show)
    host = await show.enter("host", host=True)
    await asyncio.gather(
        *(host.comment(f"host {at}") for at in range(30)),
        *(seat.comment(f"{at}") for seat in seats for at in range(3)),
        *(seat.order(show.sale, f"k{at}") for seat in seats for at in range(4)),
        *(seat.say({"t": "like", "n": 7}) for seat in seats for _ in range(3)),
        show.act("PATCH", "chat", {"comments": "on"}),
        show.act("PUT", "pin", {"sale": show.sale, "sku": "tin"}),
        *(show.act("POST", "announcements", {"text": f"a{at}"}) for at in range(5)),
    )
    late = await show.enter()
    everybody = [*seats, host, late]

    def settled() -> bool | None:
        pictures = [picture(seat.view()) for seat in everybody]
        first = pictures[0]
        left = first["items"][show.sale]["tin"][0]
        is_last = (first["likes"], first["viewers"], left) == (42, 4, 42)
        return (is_last and all(one == first for one in pictures)) or None

    async with asyncio.timeout(10):
        while not settled():  # noqa: ASYNC110 - what is waited for are frames of several sockets
            await asyncio.sleep(0.02)
    assert all(seat.has_no_hole() for seat in everybody)
    assert seats[0].ticks() and seats[0].texts() == seats[1].texts()
    said = [event["comment"] for event in seats[0].events("comment")]
    assert len(said) == len(set(said)) == 36
