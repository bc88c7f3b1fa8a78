"""Who was in a room, counted in a process and told to a real ledger, which may not answer."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.domain.attendance import WATCH_EVERY_S, Attended, RoomSample, StillOpen
from gateway.errors import LedgerRejected, LedgerUnavailable
from gateway.flows import attendance as attendance_module
from gateway.flows.attendance import SAME_ENTRY_S, Attendance
from gateway.ledger.attendance import LedgerAttendance
from gateway.ledger.pool import Ledger
from gateway.ledger.shops import Shops
from tests.support.fake_clock import FakeClock

ROOM = 5
MOST = 8


class UnsureLedger:
    """The real one; a test may lose its answers, before or after they had their effect."""

    def __init__(self, real: LedgerAttendance) -> None:
        self.real = real
        self.lose: list[str] = []
        self.told: list[bool] = []
        self.rows: list[int] = []

    async def count(
        self,
        process: str,
        flush_no: int,
        *,
        attended: Sequence[Attended],
        still_open: Sequence[StillOpen],
        now_s: float,
    ) -> bool:
        fault = self.lose.pop(0) if self.lose else ""
        if fault == "hangs":
            await asyncio.Event().wait()
        if fault == "before":
            raise LedgerUnavailable
        if fault == "refused":
            raise LedgerRejected
        counted = await self.real.count(process, flush_no, attended=attended, still_open=still_open, now_s=now_s)
        if fault == "after":
            raise LedgerUnavailable
        self.told.append(counted)
        self.rows.append(len(attended))
        return counted


class Place:
    """A ledger, and processes that tell it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.clock = FakeClock()
        self.unsure = UnsureLedger(LedgerAttendance(ledger))
        self.orders_wait = False
        self.process = self.another("p1")

    def another(self, name: str) -> Attendance:
        return Attendance(
            ledger=self.unsure, process=name, clock=self.clock, orders_wait=lambda: self.orders_wait, most=MOST
        )

    async def viewers(self) -> dict[str, dict[str, Any]]:
        found = await self.ledger.fetch("SELECT * FROM room_viewers WHERE room_no = $1", ROOM)
        return {row["viewer"]: dict(row) for row in found}

    async def viewer(self, name: str) -> dict[str, Any]:
        return (await self.viewers())[name]

    async def open(self) -> dict[str, tuple[int, int]]:
        found = await self.ledger.fetch("SELECT process, open, missed FROM attendance_open WHERE room_no = $1", ROOM)
        return {row["process"]: (row["open"], row["missed"]) for row in found}


@asynccontextmanager
async def place_on(database_url: str) -> AsyncIterator[Place]:
    ledger = await Ledger.connect(database_url, size=2)
    try:
        yield Place(ledger)
    finally:
        await ledger.close()


@pytest.fixture
async def place(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    monkeypatch.setattr(attendance_module, "_PAUSE_S", 0)
    async with place_on(database_url) as place:
        yield place


async def test_visits_entries_and_watch_time_of_a_viewer_add_up_over_visits_and_flushes(place: Place) -> None:
    process, clock = place.process, place.clock
    process.joined(ROOM, "ann")
    clock.advance(3)
    process.entered(ROOM, "ann")
    await process.flush()
    ann = await place.viewer("ann")
    assert ann["first_entry_ms"] - ann["first_ms"] == 3_000
    clock.advance(4)
    process.left(ROOM, "ann")
    clock.advance(100)
    process.joined(ROOM, "ann")
    clock.advance(2)
    process.left(ROOM, "ann")
    await process.flush()
    ann = await place.viewer("ann")
    assert (ann["visits"], ann["shop_entries"], ann["watch_ms"]) == (2, 1, 9_000)
    assert await place.open() == {}


async def test_a_flush_whose_answer_was_lost_counts_once_and_one_that_never_arrived_counts_too(place: Place) -> None:
    process, clock = place.process, place.clock
    place.unsure.lose = ["after", "before", ""]
    process.joined(ROOM, "ann")
    process.entered(ROOM, "ann")
    clock.advance(2)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            await process.flush()
        process.joined(ROOM, "bob")
        clock.advance(1)
    await process.flush()
    assert place.unsure.told == [False, True], "the first came again under its number, and then what came meanwhile"
    process.left(ROOM, "ann")
    process.left(ROOM, "bob")
    process.left(ROOM, "bob")
    await process.flush()
    ann, bob = await place.viewer("ann"), await place.viewer("bob")
    assert (ann["visits"], ann["shop_entries"], ann["watch_ms"]) == (1, 1, 4_000)
    assert (bob["visits"], bob["watch_ms"]) == (2, 2_000), "two sockets of one viewer watch once"


async def test_who_just_sits_is_told_of_every_half_minute_and_at_the_drain(place: Place) -> None:
    process, clock = place.process, place.clock
    process.joined(ROOM, "ann")
    await process.flush()
    clock.advance(WATCH_EVERY_S - 1)
    await process.flush()
    assert (await place.viewer("ann"))["watch_ms"] == 0
    clock.advance(1)
    await process.flush()
    assert (await place.viewer("ann"))["watch_ms"] == WATCH_EVERY_S * 1000
    clock.advance(7)
    await process.drain(5)
    assert (await place.viewer("ann"))["watch_ms"] == (WATCH_EVERY_S + 7) * 1000
    assert await place.open() == {"p1": (1, 0)}, "who was not shown out in time still has a socket"


async def test_what_a_ledger_that_is_away_costs_grows_with_viewers_and_not_with_their_visits(place: Place) -> None:
    process = place.process
    process.joined(ROOM, "ann")
    place.unsure.lose = ["before"] * 3
    for _ in range(3):
        for _ in range(100):
            place.clock.advance(1)
            process.joined(ROOM, "bob")
            process.left(ROOM, "bob")
        with pytest.raises(LedgerUnavailable):
            await process.flush()
    assert len(process._sitting) <= 2 and len(process._untold) <= 2
    await process.flush()
    assert (await place.viewer("bob"))["visits"] == 300


async def test_a_drain_waits_no_longer_than_it_may_for_a_ledger_that_hangs(place: Place) -> None:
    place.unsure.lose = ["hangs"]
    place.process.joined(ROOM, "ann")
    async with asyncio.timeout(5):
        await place.process.drain(0.1)
        await place.process.drain(5)
    assert (await place.viewer("ann"))["visits"] == 1


async def test_a_process_that_was_killed_is_seen_by_the_sockets_it_left(place: Place) -> None:
    process = place.process
    for viewer in ("ann", "bob"):
        process.joined(ROOM, viewer)
    await process.flush()
    other = place.another("p2")
    other.joined(ROOM, "cid")
    other.left(ROOM, "cid")
    await other.flush()
    assert await place.open() == {"p1": (2, 0)}


async def test_a_process_with_sockets_says_so_also_when_nothing_happens(place: Place) -> None:
    place.process.joined(ROOM, "ann")
    await place.process.flush()
    await place.process.flush()
    assert place.unsure.rows == [1]
    place.clock.advance(6)
    await place.process.flush()
    assert place.unsure.rows == [1, 0]


async def test_a_second_tap_on_the_bag_is_the_same_entry(place: Place) -> None:
    process, clock = place.process, place.clock
    process.joined(ROOM, "ann")
    for _ in range(5):
        process.entered(ROOM, "ann")
    clock.advance(SAME_ENTRY_S)
    process.entered(ROOM, "ann")
    process.entered(ROOM, "nobody here")
    await process.flush()
    assert {name: row["shop_entries"] for name, row in (await place.viewers()).items()} == {"ann": 2}


async def test_beyond_its_bound_a_visit_is_counted_as_missed(place: Place) -> None:
    process = place.process
    for at in range(MOST + 3):
        process.joined(ROOM, f"viewer-{at}")
    for at in range(MOST + 3):
        process.left(ROOM, f"viewer-{at}")
    await process.flush()
    assert len(await place.viewers()) == MOST
    assert await place.open() == {"p1": (0, 3)}
    process.joined(ROOM, "after")
    await process.flush()
    assert (await place.viewer("after"))["visits"] == 1, "there is room again once they were told of"


async def test_nothing_is_told_while_orders_wait_and_all_of_it_afterwards(place: Place) -> None:
    place.orders_wait = True
    place.process.joined(ROOM, "ann")
    flushing = asyncio.create_task(place.process.flush())
    done, _ = await asyncio.wait([flushing], timeout=0.2)
    assert not done and not place.unsure.told
    place.orders_wait = False
    await asyncio.wait_for(flushing, 5)
    assert place.unsure.told == [True]


async def test_many_are_told_of_in_slices(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance_module, "ROWS_AT_ONCE", 3)
    for at in range(MOST):
        place.process.joined(ROOM, f"viewer-{at}")
    await place.process.flush()
    assert place.unsure.rows == [3, 3, 2]
    assert len(await place.viewers()) == MOST


async def test_what_the_ledger_refuses_is_missed_and_keeps_nobody_waiting(place: Place) -> None:
    place.unsure.lose = ["refused"]
    place.process.joined(ROOM, "ann")
    await place.process.flush()
    place.process.joined(ROOM, "bob")
    await place.process.flush()
    assert set(await place.viewers()) == {"bob"}
    assert await place.open() == {"p1": (2, 1)}


async def test_two_processes_that_tell_of_the_same_viewers_never_wait_in_a_circle(place: Place) -> None:
    real = place.unsure.real

    async def tell(process: str, names: Sequence[str]) -> None:
        for flush_no in range(1, 30):
            rows = [Attended(ROOM, name, 1, 0.0, 0.0, 0.0, 0, None) for name in names]
            assert await real.count(process, flush_no, attended=rows, still_open=[], now_s=0.0)

    names = [f"viewer-{at}" for at in range(40)]
    await asyncio.gather(tell("a", names), tell("b", names[::-1]))
    assert {row["visits"] for row in (await place.viewers()).values()} == {58}


async def test_watch_time_counts_for_the_show_only_between_its_start_and_its_end(
    place: Place, database_url: str
) -> None:
    async with Shops.connect(database_url) as shops:
        await shops.create("tins")
    room_no = await place.ledger.fetchval(
        "INSERT INTO rooms (shop_no, title, created_at_ms, state, started_at_ms, ended_at_ms)"
        " SELECT shop_no, 'Show', 0, 'ended', n - 60000, n - 20000"
        " FROM shops, (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS n) x RETURNING room_no"
    )
    now_s = 1_000.0
    rows = [
        Attended(room_no, "before", 1, now_s - 90, now_s - 70, 20.0, 0, None),
        Attended(room_no, "early", 1, now_s - 70, now_s - 50, 20.0, 0, None),
        Attended(room_no, "whole", 1, now_s - 90, now_s, 90.0, 0, None),
        Attended(room_no, "with a pause", 1, now_s - 55, now_s - 25, 10.0, 0, None),
    ]
    await place.unsure.real.count("p", 1, attended=rows, still_open=[], now_s=now_s)
    found = await place.ledger.fetch("SELECT viewer, show_ms FROM room_viewers WHERE room_no = $1", room_no)
    shown = {row["viewer"]: row["show_ms"] for row in found}
    assert shown == {
        "before": 0,
        "early": pytest.approx(10_000, abs=500),
        "whole": pytest.approx(40_000, abs=500),
        "with a pause": 10_000,
    }


async def test_a_sample_that_two_keepers_take_is_one(place: Place) -> None:
    samples = place.unsure.real
    await samples.sample([RoomSample(ROOM, 5_000, viewers=3, peak=7), RoomSample(6, 5_000, viewers=1, peak=1)])
    await samples.sample([RoomSample(ROOM, 5_000, viewers=3, peak=4)])
    found = await place.ledger.fetch("SELECT viewers, peak FROM room_samples WHERE room_no = $1", ROOM)
    assert [tuple(row) for row in found] == [(3, 7)]
