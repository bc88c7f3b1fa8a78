"""Who is banned has to leave and stays out; what was said is kept once, what was taken back marked. Real processes."""

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.support.api import Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show, showing
from tests.support.seat import JSON, MSGPACK, Seat
from tests.support.servers import eventually

AT_ONCE_S = 1.0


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


async def is_shown_out(seat: Seat, *, within_s: float = AT_ONCE_S) -> bool:
    bye = await seat.bye(within_s=within_s)
    return bool(bye["code"] == 4503)


async def is_kept_out(show: Show, sub: str, *, on: int | None = None) -> bool:
    seat = await show.take(show.api.viewer(sub), sub, on=on)
    await seat.say({"t": "hello"})
    first = await seat.until(lambda: seat.frames[0] if seat.frames else None)
    await seat.leave()
    return bool(first["t"] == "bye" and first["code"] == 4503)


async def test_a_banned_viewer_leaves_every_process_at_once_and_stays_out(
    show: Show, processes: tuple[int, int]
) -> None:
    mallory = [await show.enter("mallory-1", on=pid, codec=codec) for pid in processes for codec in (JSON, MSGPACK)]
    others = [await show.enter(on=pid) for pid in processes]
    began_s = time.monotonic()
    await show.act("PUT", f"bans/{mallory[0].you}")
    assert all(await asyncio.gather(*map(is_shown_out, mallory)))
    print(f"shown out {time.monotonic() - began_s:.2f} s after the host's act began")
    for pid in processes:
        assert await is_kept_out(show, "mallory-1", on=pid)
    assert (await others[0].comment("still here"))["outcome"] == "posted"
    for seat in others:
        await seat.hears_text("still here")
    await show.act("DELETE", f"bans/{mallory[0].you}")

    async def may_enter() -> bool:
        return not await is_kept_out(show, "mallory-1")

    await eventually(may_enter)
    back = await show.enter("mallory-1")
    assert back.you == mallory[0].you
    assert (await back.comment("sorry"))["outcome"] == "posted", "a ban mutes, and its end ends that too"


async def test_a_ban_of_the_whole_shop_holds_in_every_room(show: Show, processes: tuple[int, int]) -> None:
    async with showing(show.api) as live, showing(show.api, live=False) as scheduled:
        here, there = await show.enter("mallory-2"), await live.enter("mallory-2", on=processes[1])
        stays = await live.enter(on=processes[1])
        assert here.you != there.you
        await show.act("PUT", f"bans/{here.you}", {"shop_wide": True})
        assert await is_shown_out(here) and await is_shown_out(there)
        for room in (show, live, scheduled):
            for pid in processes:
                assert await is_kept_out(room, "mallory-2", on=pid)
        async with showing(show.api) as later:
            assert await is_kept_out(later, "mallory-2")
        assert (await stays.comment("still here"))["outcome"] == "posted"
        await show.act("DELETE", f"bans/{here.you}")

        async def may_enter() -> bool:
            return not await is_kept_out(live, "mallory-2")

        await eventually(may_enter)


async def test_who_is_banned_while_entering_is_not_in_afterwards(show: Show, processes: tuple[int, int]) -> None:
    you = (await show.enter("mallory-3")).you
    stop = asyncio.Event()

    async def keep_coming(pid: int) -> None:
        """Until after the ban, and until this process has shown one of them out for it."""
        mine: list[Seat] = []
        while not stop.is_set() or 4503 not in {seat.code for seat in mine}:
            seat = await show.take(show.api.viewer("mallory-3"), "mallory-3", on=pid)
            mine.append(seat)
            await seat.say({"t": "hello"})
            await seat.until(lambda seat=seat: seat.frames or None)  # type: ignore[misc]

    coming = [asyncio.create_task(keep_coming(pid)) for pid in processes]
    await show.act("PUT", f"bans/{you}")
    stop.set()
    async with asyncio.timeout(5 * AT_ONCE_S):
        await asyncio.gather(*coming)

    async def all_gone() -> bool:
        return all(seat.code is not None for seat in show.seats)

    await eventually(all_gone, within_s=AT_ONCE_S)
    codes = {seat.code for seat in show.seats}
    assert 4503 in codes and codes <= {4503, 4029}, "4029: while five of them were inside"


async def test_a_host_cannot_be_kept_out_by_a_ban_of_the_pseudonym(show: Show) -> None:
    host = await show.enter("host", host=True)
    await show.act("PUT", f"bans/{host.you}")
    assert (await host.comment("I stay"))["outcome"] == "posted"
    assert (await show.enter("host", host=True)).welcome["you"] == host.you


async def test_what_is_said_on_both_processes_is_archived_once_and_what_is_taken_back_is_marked(
    show: Show, processes: tuple[int, int]
) -> None:
    host = await show.enter("host", host=True, name="Hana")
    seats = [await show.enter(on=pid) for pid in processes for _ in range(5)]
    jobs = [(seat, f"{at} of {seat.sub}", f"c{at}") for seat in seats for at in range(4)]
    # Some are asked twice, as phones do.
    replies = await asyncio.gather(
        *(seat.comment(text, id) for seat, text, id in jobs),
        *(host.comment(f"host {at}", f"h{at}") for at in range(20)),
    )
    await asyncio.gather(*(seat.comment(text, id) for seat, text, id in jobs[::4]))
    posted = {reply["comment"] for reply in replies if reply["outcome"] == "posted"}
    assert len(posted) == 60
    await show.act("DELETE", f"comments/{replies[-1]['comment']}")
    await show.act("DELETE", f"viewers/{seats[0].you}/comments")
    room_no = await show.room_no()
    connection = await asyncpg.connect(show.gateway.servers()["database_url"])
    try:

        async def archived() -> bool:
            counted = "SELECT count(*) AS said, count(gone_at) AS gone FROM comments WHERE room_no = $1"
            row = await connection.fetchrow(counted, room_no)
            return (row["said"], row["gone"]) == (60, 5)

        await eventually(archived, within_s=10)
        rows = await connection.fetch("SELECT * FROM comments WHERE room_no = $1 ORDER BY n", room_no)
    finally:
        await connection.close()
    assert [row["n"] for row in rows] == list(range(1, 61))
    said = {(seat.sub, text) for seat, text, _ in jobs} | {("host", f"host {at}") for at in range(20)}
    assert {(row["sub"], row["text"]) for row in rows} == said
    assert {row["sub"] for row in rows if row["gone_at"]} == {seats[0].sub, "host"}
    assert {row["gone_by"] for row in rows if row["gone_at"]} == {"host"}
    assert {row["viewer"] for row in rows if row["sub"] == seats[0].sub} == {seats[0].you}
