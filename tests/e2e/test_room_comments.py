"""What viewers say in a room: who is shown it, what is not said, and that a repeat says it once. Real processes."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.api import Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show, showing
from tests.support.seat import JSON, MSGPACK, Seat
from tests.support.servers import eventually

OTHER = {JSON: MSGPACK, MSGPACK: JSON}


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def show(api: Api) -> AsyncIterator[Show]:
    async with showing(api) as show:
        yield show


@pytest.fixture(params=[JSON, MSGPACK])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def processes(gateway: Gateway) -> tuple[int, int]:
    first, second = gateway.pids("peakgate live")
    return first, second


async def test_a_comment_is_answered_and_shown_to_everybody_on_every_process(
    show: Show, processes: tuple[int, int], codec: str
) -> None:
    ann = await show.enter("ann-secret-sub", codec=codec, on=processes[0], name="Ann")
    others = [await show.enter(codec=OTHER[codec], on=pid) for pid in processes]
    reply = await ann.comment("  he\u0301llo \U0001f469\u200d\U0001f680 ", "c1")
    assert reply == {
        "t": "reply",
        "id": "c1",
        "outcome": "posted",
        "comment": reply["comment"],
        "at_ms": reply["at_ms"],
    }
    assert reply["comment"].startswith("cmt_") and abs(reply["at_ms"] - time.time() * 1000) < 5000
    for seat in (ann, *others):
        event = await seat.hears_text("h\u00e9llo \U0001f469\u200d\U0001f680")
        assert event == {
            "k": "comment",
            "comment": reply["comment"],
            "viewer": ann.you,
            "name": "Ann",
            "text": "h\u00e9llo \U0001f469\u200d\U0001f680",
            "at_ms": reply["at_ms"],
        }
        assert seat.has_no_hole()
    assert not any("secret" in json.dumps(seat.frames) for seat in (ann, *others))
    # All processes cut the same ticks.
    told = [{tick["seq"]: tick for tick in seat.ticks() if tick["ev"]} for seat in (ann, *others)]
    assert all(ticks == told[0] for ticks in told)
    late = await show.enter(codec=codec)
    (shown,) = await late.until(lambda: late.view().recent or None)
    assert shown["comment"] == reply["comment"]


async def test_an_id_is_said_once_whatever_process_is_asked_again(
    show: Show, processes: tuple[int, int], codec: str
) -> None:
    first, second = [await show.enter(f"bob-{codec}", codec=codec, on=pid) for pid in processes]
    once = await first.comment("once", "c1")
    replies = await asyncio.gather(first.comment("once", "c1"), second.comment("once", "c1"))
    assert list(replies) == [{**once, "replayed": True}] * 2
    # Two sockets at the same moment: one says it, the other is given its answer.
    both = await asyncio.gather(first.comment("twice?", "c2"), second.comment("twice?", "c2"))
    assert both[0]["comment"] == both[1]["comment"]
    assert sorted(reply.get("replayed", False) for reply in both) == [False, True]
    # An id is the viewer's own.
    cat = await show.enter(codec=codec)
    assert (await cat.comment("mine", "c1")).get("replayed") is None
    await first.hears_text("mine")
    assert sorted(first.texts()) == ["mine", "once", "twice?"]


async def test_what_is_no_comment_is_an_error_and_the_socket_stays(show: Show, codec: str) -> None:
    seat = await show.enter(codec=codec)
    wrong: list[Any] = [
        "",
        "  \u3000 ",
        "x" * 201,
        "\U0001f600" * 201,
        "a\nb",
        "a\x00b",
        "a\u2028b",
        "\x1b[2J",
        5,
        None,
    ]
    for text in (*wrong, ["a"], {"a": 1}):
        error = await seat.ask({"t": "comment", "id": uuid.uuid4().hex, "text": text})
        assert (error["t"], error["code"], error["retryable"]) == ("error", "invalid", False), text
        if isinstance(text, str):
            assert error["param"] == "text"
    assert (await seat.ask({"t": "comment", "id": "no-text"}))["code"] == "invalid"
    for id, code in (("", "invalid"), ("k" * 65, "invalid"), ("a b", "invalid"), (7, "invalid"), (None, "bad_request")):
        after = len(seat.frames)
        await seat.say({"t": "comment", "id": id, "text": "unheard"})
        assert (await seat.hear("error", after=after))["code"] == code, id
    # Nothing of it counted as said. What is as long as may be is said: of 400 characters NFC makes 200.
    for text in ("\U0001f600" * 200, "e\u0301" * 200, " " + "x" * 200 + "\t"):
        assert (await seat.comment(text))["outcome"] == "posted", text
    await seat.hears_text("x" * 200)
    assert seat.texts() == ["\U0001f600" * 200, "\u00e9" * 200, "x" * 200]


async def test_who_says_too_much_is_told_when_to_come_back_and_is_shown_to_nobody(
    show: Show, processes: tuple[int, int], codec: str
) -> None:
    seat, other = await show.enter(codec=codec), await show.enter(codec=codec)
    replies = await asyncio.gather(*(seat.comment(f"n{at}", f"n{at}") for at in range(9)))
    said = [reply["id"] for reply in replies if reply["outcome"] == "posted"]
    late = [reply for reply in replies if reply["outcome"] == "too_fast"]
    # A burst of five; a second of a busy machine lets in another one.
    assert said[:5] == ["n0", "n1", "n2", "n3", "n4"] and len(said) <= 7
    assert all(reply.keys() == {"t", "id", "outcome", "retry_after_ms"} for reply in late)
    assert all(0 < reply["retry_after_ms"] <= 5000 for reply in late)
    assert (await other.comment("last"))["outcome"] == "posted"
    await seat.hears_text("last")
    assert seat.texts() == [*said, "last"]


async def test_a_muted_viewer_is_shown_to_nobody_until_the_mute_is_taken_back(
    show: Show, processes: tuple[int, int], codec: str
) -> None:
    seats = [await show.enter(f"eve-{codec}", codec=codec, on=pid) for pid in processes]
    until = (await show.act("PUT", f"mutes/{seats[0].you}", {"for_s": 60})).json["until"]
    assert until
    for seat in seats:
        reply = await seat.comment("muted")
        assert reply.keys() == {"t", "id", "outcome", "retry_after_ms"}
        assert (reply["outcome"], 0 < reply["retry_after_ms"] <= 60_000) == ("muted", True)
    assert (await (await show.enter(codec=codec)).comment("by somebody else"))["outcome"] == "posted"
    await show.act("DELETE", f"mutes/{seats[0].you}")
    assert (await seats[1].comment("free"))["outcome"] == "posted"
    await seats[0].hears_text("free")
    assert seats[0].texts() == ["by somebody else", "free"]


async def test_slow_mode_and_comments_off_hold_viewers_and_not_hosts(
    show: Show, processes: tuple[int, int], codec: str
) -> None:
    fay, gus = [await show.enter(codec=codec, on=pid) for pid in processes]
    host = await show.enter("host", host=True, codec=codec, name="Hana")
    await show.act("PATCH", "chat", {"slow_mode_s": 30})
    assert await gus.event("chat") == {"k": "chat", "slow_mode_s": 30, "comments": "on"}
    assert (await fay.comment("first", "f1"))["outcome"] == "posted"
    slow = await fay.comment("second", "f2")
    assert (slow["outcome"], 25_000 < slow["retry_after_ms"] <= 30_000) == ("slow_mode", True)
    # A repeat of what was said is no second comment.
    assert (await fay.comment("first", "f1"))["replayed"] is True
    # The same viewer on another process is the same viewer.
    elsewhere = await show.enter(fay.sub, codec=codec, on=processes[1])
    assert (await elsewhere.comment("third"))["outcome"] == "slow_mode"
    assert (await gus.comment("mine"))["outcome"] == "posted"
    await show.act("PATCH", "chat", {"comments": "off", "slow_mode_s": 0})
    assert await gus.event("chat", comments="off") == {"k": "chat", "slow_mode_s": 0, "comments": "off"}
    assert (await gus.comment("off")).keys() == {"t", "id", "outcome"}
    assert (await gus.comment("off"))["outcome"] == "comments_off"
    # Hosts are limited by nothing of this, nor by how often, nor is any of theirs left out.
    replies = await asyncio.gather(*(host.comment(f"host {at}") for at in range(60)))
    assert {reply["outcome"] for reply in replies} == {"posted"}
    await gus.hears_text("host 59")
    assert gus.texts() == ["first", "mine", *(f"host {at}" for at in range(60))]
    assert sum(tick.get("skipped", 0) for tick in gus.ticks()) == 0
    assert (await show.enter(codec=codec)).snapshots[0]["chat"] == {"slow_mode_s": 0, "comments": "off"}
    await show.act("PATCH", "chat", {"comments": "on"})
    assert (await elsewhere.comment("on again"))["outcome"] == "posted"


async def rejects_soon(seat: Seat, text: str) -> None:
    """Within two seconds; what is tried is one of the five comments a viewer may say at once."""
    for _ in range(5):
        outcome = (await seat.comment(text))["outcome"]
        if outcome == "rejected":
            return
        assert outcome == "posted"
        await asyncio.sleep(0.5)
    raise AssertionError("not rejected within two seconds")


async def test_a_banned_word_is_rejected_on_every_process_as_soon_as_it_is_banned(
    show: Show, processes: tuple[int, int], codec: str
) -> None:
    seats = [await show.enter(codec=codec, on=pid) for pid in processes]
    host = await show.enter("host", host=True, codec=codec)
    assert (await seats[0].comment("durian one"))["outcome"] == "posted"
    await show.act("PUT", "words/durian", {})
    # A message between processes is on its way for a moment.
    for seat in seats:
        await rejects_soon(seat, "D.u.r.i.a.n!")
    reply = await seats[1].comment("I like DURIAN")
    assert reply.keys() == {"t", "id", "outcome"}
    assert (await host.comment("durian is for hosts"))["outcome"] == "posted"
    await show.act("DELETE", "words/durian")

    async def says_it() -> bool:
        return bool((await host.comment("durian again"))["outcome"] == "posted")

    await eventually(says_it)


async def test_taps_add_up_over_viewers_and_processes(show: Show, processes: tuple[int, int], codec: str) -> None:
    seats = [await show.enter(codec=codec, on=pid) for pid in processes]
    for n in (0, 101, -1, 1.5, "1", None, True):
        after = len(seats[0].frames)
        await seats[0].say({"t": "like", "n": n})
        assert (await seats[0].hear("error", after=after))["code"] == "invalid", n
    for seat in seats:
        for n in (1, 100, 3):
            await seat.say({"t": "like", "n": n})
    for seat in seats:
        await seat.until(lambda seat=seat: seat.view().likes == 208 or None)  # type: ignore[misc]
        totals = [tick["likes"] for tick in seat.ticks() if "likes" in tick]
        assert totals == sorted(set(totals)), "a running total only grows, and is told when it has changed"
    late = await show.enter(codec=codec)
    await late.until(lambda: late.view().likes == 208 or None)


async def test_entering_the_shop_has_no_answer_and_no_error(show: Show, codec: str) -> None:
    seat = await show.enter(codec=codec)
    await seat.say({"t": "enter"})
    await seat.say({"t": "enter", "sale": show.sale})
    await seat.say({"t": "enter", "sale": "s" * 65})
    await seat.pong()
    assert [told["code"] for told in seat.frames if told["t"] == "error"] == ["invalid"]


async def test_what_people_cannot_read_is_counted_and_everybody_is_shown_the_same(
    show: Show, processes: tuple[int, int]
) -> None:
    crowd = [seat for pid in processes for seat in await show.enter_many(20, on=pid)]
    replies = await asyncio.gather(*(seat.comment(f"{seat.sub} {at}") for seat in crowd for at in range(4)))
    assert {reply["outcome"] for reply in replies} == {"posted"}
    for seat in (crowd[0], crowd[-1]):

        def all_told(seat: Any = seat) -> bool | None:
            skipped = sum(tick.get("skipped", 0) for tick in seat.ticks())
            return len(seat.texts()) + skipped == 160 or None

        await seat.until(all_told)
        # Twenty a second and a burst of twenty.
        assert 20 <= len(seat.texts()) < 100
        assert seat.has_no_hole()
    assert crowd[0].texts() == crowd[-1].texts()
