"""What was said in rooms comes into the ledger: real stores, each comment once."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgpack
import pytest
from structlog.testing import capture_logs

from gateway.domain.archive import SaidBatch, SaidEntry
from gateway.domain.comment import CommentRequest
from gateway.domain.drafts import Effect, RoomDraft
from gateway.domain.ids import CommentPlace, IdMint
from gateway.domain.live import ArchivedComment, RoomChange, RoomStanding
from gateway.errors import HotUnavailable, LedgerUnavailable
from gateway.hot.archive import PARKED_MOST, RoomArchive
from gateway.hot.connect import Client, connect
from gateway.hot.keys import ROOM_SHARDS, room_archive, room_archive_parked
from gateway.hot.rooms import HotRooms
from gateway.hot.scripts import Scripts
from gateway.keeper.archive import CommentArchive
from gateway.ledger.comments import LedgerComments
from gateway.ledger.pool import Ledger
from gateway.ledger.rooms import LedgerRooms
from gateway.ledger.shards import LedgerShards
from gateway.ledger.shops import Shops
from gateway.metrics import ARCHIVE_PARKED, ARCHIVE_WAITING, ARCHIVED_COMMENTS
from tests.support.servers import eventually

EPOCH = 1_800_000_000_000
ROOM = 7


def said(n: int, *, viewer: str = "vw_1", text: str = "") -> list[Any]:
    return ["c", n, EPOCH + n, viewer, f"sub-{viewer}", f"name of {viewer}", text or f"comment {n}"]


class World:
    def __init__(self, ledger: Ledger, client: Client) -> None:
        self.ledger = ledger
        self.client = client
        self.comments = LedgerComments(ledger)
        self.stream = RoomArchive(client)

    def archive(self, **more: Any) -> CommentArchive:
        return CommentArchive(**{"stream": self.stream, "ledger": self.comments, **more})

    async def put(self, *items: list[Any], room_no: int = ROOM, epoch: int = EPOCH) -> None:
        """As the scripts put it: strings without a bin type."""
        await self.put_raw(msgpack.packb([room_no, epoch, list(items)], use_bin_type=False), room_no=room_no)

    async def put_raw(self, body: bytes, *, room_no: int = ROOM) -> None:
        await self.client.xadd(room_archive(room_no % ROOM_SHARDS), {"e": body})

    async def waiting(self) -> int:
        return sum(await self.stream.waiting())

    async def is_drained(self) -> bool:
        return await self.waiting() == 0

    async def kept(self, room_no: int = ROOM) -> list[ArchivedComment]:
        return [each.comment for each in await self.comments.of_room(room_no, limit=100_000)]

    async def numbers(self, room_no: int = ROOM) -> list[int]:
        return [comment.n for comment in await self.kept(room_no)]

    async def gone(self, room_no: int = ROOM) -> dict[tuple[int, int], str | None]:
        """By (epoch, number), who took it back."""
        return {
            (each.comment.epoch, each.comment.n): each.gone_by
            for each in await self.comments.of_room(room_no, limit=100_000)
            if each.gone_at is not None
        }


@pytest.fixture
async def world(database_url: str, rooms_valkey_url: str) -> AsyncIterator[World]:
    ledger = await Ledger.connect(database_url, size=4)
    client = connect(rooms_valkey_url, max_connections=8)
    yield World(ledger, client)
    await client.aclose()
    await ledger.close()


async def drain(archive: CommentArchive) -> None:
    while await archive.step():
        pass


# From the streams into the ledger.


async def test_what_was_said_in_several_rooms_is_kept_as_it_was_and_leaves_valkey(world: World) -> None:
    for room_no in (ROOM, ROOM + 1, ROOM + ROOM_SHARDS):
        await world.put(said(1, text=f"hello {room_no}"), said(2, viewer="vw_2"), room_no=room_no)
        await world.put(said(3), room_no=room_no)
    await drain(world.archive())
    for room_no in (ROOM, ROOM + 1, ROOM + ROOM_SHARDS):
        first, second, third = await world.kept(room_no)
        assert first == ArchivedComment(
            room_no, EPOCH, 1, EPOCH + 1, "vw_1", "sub-vw_1", "name of vw_1", f"hello {room_no}"
        )
        assert (second.viewer, third.n) == ("vw_2", 3)
    assert await world.is_drained()


async def test_many_reads_and_transactions_keep_each_comment_once(world: World) -> None:
    numbers = iter(range(1, 201))
    for room_no in (ROOM, ROOM + 1):
        for size in (1, 7, 2, 30, 1, 1, 9):
            await world.put(*(said(next(numbers)) for _ in range(size)), room_no=room_no)
    await drain(world.archive(comments_at_once=10, entries_at_once=4))
    assert await world.numbers() == list(range(1, 52))
    assert await world.numbers(ROOM + 1) == list(range(52, 103))
    assert await world.is_drained()


async def test_what_the_scripts_write_can_be_read(world: World) -> None:
    rooms = HotRooms(client=world.client, scripts=Scripts(world.client), process="p", reading_rate=20, archive_max=100)
    epoch = await rooms.open(ROOM, RoomStanding())
    requests = [
        CommentRequest(
            viewer=f"vw_{at}",
            sub=f"sub {at}",
            name="名字",
            id=f"id-{at}",
            text=f"你好 {at} 🎉",
            is_staff=False,
            arrived_s=0.0,
            answer=lambda given: None,
        )
        for at in range(3)
    ]
    ticked = await rooms.tick(ROOM, interval_ms=100, comments=requests)
    assert await rooms.change(ROOM, RoomChange(gone_comment=1, gone_epoch=epoch & 0xFFFF, actor="host_1"))
    assert await rooms.change(ROOM, RoomChange(gone_viewer="vw_2", actor="host_2"))
    await drain(world.archive())
    assert [(each.epoch, each.n, each.sub, each.name, each.text) for each in await world.kept()] == [
        (epoch, at + 1, f"sub {at}", "名字", f"你好 {at} 🎉") for at in range(3)
    ]
    assert [each.at_ms for each in await world.kept()] == [answer[2] for answer in ticked.answers]
    assert await world.gone() == {(epoch, 1): "host_1", (epoch, 3): "host_2"}
    assert await world.is_drained()


# Taken back.


async def test_a_comment_is_taken_back_in_the_batch_that_brings_it_and_in_a_later_one(world: World) -> None:
    archive = world.archive()
    await world.put(said(1), said(2), said(3))
    await world.put(["g", 2, "host_1"])
    await drain(archive)
    assert await world.gone() == {(EPOCH, 2): "host_1"}
    await world.put(["g", 3, "host_2"])
    await drain(archive)
    assert await world.gone() == {(EPOCH, 2): "host_1", (EPOCH, 3): "host_2"}


async def test_all_of_a_viewer_are_taken_back_but_not_what_they_say_afterwards(world: World) -> None:
    await world.put(said(8), epoch=EPOCH - 1000)
    await world.put(said(1), said(2, viewer="vw_2"), said(3))
    await world.put(["v", "vw_1", 3, "host_1"])
    await world.put(said(4))
    await world.put(said(1), epoch=EPOCH + 1000)
    await world.put(said(1), room_no=ROOM + ROOM_SHARDS)
    await drain(world.archive())
    assert await world.gone() == {(EPOCH - 1000, 8): "host_1", (EPOCH, 1): "host_1", (EPOCH, 3): "host_1"}
    assert await world.gone(ROOM + ROOM_SHARDS) == {}


async def test_the_first_who_took_a_comment_back_stays_named(world: World) -> None:
    await world.put(said(1), said(2))
    await world.put(["g", 1, "host_1"])
    await world.put(["v", "vw_1", 2, "host_2"])
    await world.put(["g", 2, "host_3"])
    await drain(world.archive())
    assert await world.gone() == {(EPOCH, 1): "host_1", (EPOCH, 2): "host_2"}


# Each once, whatever fails.


async def test_an_entry_that_comes_again_changes_nothing(world: World) -> None:
    counted = ARCHIVED_COMMENTS._value.get()
    for _ in range(2):
        await world.put(said(1), said(2))
        await world.put(["g", 1, "host_1"])
        await drain(world.archive())
        before = await world.ledger.fetch("SELECT * FROM comments ORDER BY n")
    assert await world.ledger.fetch("SELECT * FROM comments ORDER BY n") == before
    assert await world.numbers() == [1, 2]
    assert ARCHIVED_COMMENTS._value.get() - counted == 2


class Dies(RoomArchive):
    """Of the process that forgets what was committed, or of the way to the server."""

    def __init__(self, client: Client, *, after: bool) -> None:
        super().__init__(client)
        self._after = after

    async def forget(self, entries: Iterable[SaidEntry]) -> None:
        if self._after:
            await super().forget(entries)
        raise HotUnavailable("cut")


@pytest.mark.parametrize("after", [False, True], ids=["before it is forgotten", "before the answer"])
async def test_a_crash_behind_the_commit_loses_and_repeats_nothing(world: World, after: bool) -> None:
    await world.put(said(1), said(2))
    await world.put(["g", 2, "host_1"])
    with pytest.raises(HotUnavailable):
        await world.archive(stream=Dies(world.client, after=after)).step()
    assert await world.numbers() == [1, 2]
    assert await world.waiting() == (0 if after else 2)
    await world.put(said(3))
    await drain(world.archive())
    assert await world.numbers() == [1, 2, 3]
    assert await world.gone() == {(EPOCH, 2): "host_1"}
    assert await world.is_drained()


class Away:
    """A ledger that is away for some calls, or commits without being heard."""

    def __init__(self, real: LedgerComments, *, calls: int, commits: bool) -> None:
        self._real = real
        self._calls = calls
        self._commits = commits

    async def keep(self, batch: SaidBatch) -> int | None:
        if self._calls == 0:
            return await self._real.keep(batch)
        self._calls -= 1
        if self._commits:
            await self._real.keep(batch)
        raise LedgerUnavailable("away")


@pytest.mark.parametrize("commits", [False, True], ids=["nothing happened", "it was committed"])
async def test_an_outage_of_the_ledger_is_waited_for(world: World, commits: bool) -> None:
    await world.put(said(1), said(2))
    archive = world.archive(ledger=Away(world.comments, calls=2, commits=commits))
    with capture_logs() as logs:
        task = asyncio.create_task(archive.run())
        await eventually(world.is_drained)
        task.cancel()
        await asyncio.wait([task])
    assert [line["event"] for line in logs] == ["archive_waits"] * 2
    assert await world.numbers() == [1, 2]


async def test_two_archives_at_once_keep_each_comment_once(
    world: World, database_url: str, rooms_valkey_url: str
) -> None:
    counted = ARCHIVED_COMMENTS._value.get()
    numbers = list(range(1, 1001))
    other_ledger = await Ledger.connect(database_url, size=2)
    other = World(other_ledger, connect(rooms_valkey_url, max_connections=2))
    try:
        tasks = [asyncio.create_task(each.archive(comments_at_once=20).run()) for each in (world, other)]
        for at in range(0, 1000, 5):
            await world.put(*(said(n) for n in numbers[at : at + 5]), room_no=ROOM + at % 3)
            await world.put(["g", numbers[at], "host_1"], room_no=ROOM + at % 3)
        await eventually(world.is_drained)
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    finally:
        await other.client.aclose()
        await other_ledger.close()
    assert [type(each) for each in done] == [asyncio.CancelledError] * 2
    rooms = (ROOM, ROOM + 1, ROOM + 2)
    assert sorted([n for room_no in rooms for n in await world.numbers(room_no)]) == numbers
    assert sum([len(await world.gone(room_no)) for room_no in rooms]) == 200
    assert ARCHIVED_COMMENTS._value.get() - counted == 1000


async def test_one_archive_leaves_the_work_to_another_that_is_at_it(world: World) -> None:
    await world.put(said(1))
    async with world.ledger.transaction() as connection:
        assert await connection.fetchval("SELECT pg_try_advisory_xact_lock(7310270007)")
        assert not await world.archive().step()
        assert await world.waiting() == 1
    await drain(world.archive())
    assert await world.numbers() == [1]


# What cannot be kept.


async def test_a_nul_is_replaced_in_everything_people_write(world: World) -> None:
    await world.put(["c", 1, EPOCH, "vw\0", "s\0", "n\0", "\0t\0"], ["c", 2, EPOCH, "vw_2", "s", "n", "t"])
    await world.put(["v", "vw\0", 2, "host\0"])
    await drain(world.archive())
    first, second = await world.kept()
    assert (first.viewer, first.sub, first.name, first.text) == ("vw�", "s�", "n�", "�t�")
    assert second.text == "t"
    assert await world.gone() == {(EPOCH, 1): "host�"}


UNREADABLE = {
    "no msgpack": b"\xc1",
    "cut off": msgpack.packb([ROOM, EPOCH, [said(1)]])[:-3],
    "empty": b"",
    "another shape": msgpack.packb({"room": ROOM}),
    "an item nobody knows": msgpack.packb([ROOM, EPOCH, [said(1), ["z", 1]]]),
    "no utf-8": msgpack.packb([ROOM, EPOCH, [["c", 1, 1, "v", "s", "n", b"\xff"]]], use_bin_type=False),
    "a number beyond its column": msgpack.packb([ROOM, EPOCH, [["g", 2**63, "host"]]]),
    "a room beyond its column": msgpack.packb([2**31, EPOCH, [said(1)]]),
    "a viewer no index takes": msgpack.packb([ROOM, EPOCH, [said(1, viewer="v" * 3000)]]),
}


@pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
async def test_an_entry_that_cannot_be_read_is_parked_and_the_others_are_kept(world: World, body: bytes) -> None:
    parked = ARCHIVE_PARKED._value.get()
    await world.put(said(11))
    await world.put_raw(body)
    await world.put(said(12))
    with capture_logs() as logs:
        await drain(world.archive())
    assert await world.numbers() == [11, 12]
    assert await world.is_drained()
    [(_, fields)] = await world.client.xrange(room_archive_parked(ROOM % ROOM_SHARDS))
    assert (fields[b"e"], fields[b"reason"].decode()) == (body, logs[0]["reason"])
    assert [(line["event"], line["log_level"]) for line in logs] == [("said_entry_parked", "error")]
    assert ARCHIVE_PARKED._value.get() - parked == 1


async def test_what_the_ledger_refuses_is_found_and_parked_alone(world: World) -> None:
    await world.ledger.execute("ALTER TABLE comments ADD CHECK (text <> 'no')")
    for n in range(1, 12):
        await world.put(said(n, text="no" if n in (3, 8) else "yes"))
    with capture_logs() as logs:
        await drain(world.archive())
    assert await world.numbers() == [1, 2, 4, 5, 6, 7, 9, 10, 11]
    assert [line["event"] for line in logs] == ["said_entry_parked"] * 2
    assert "name of" not in str(logs)
    assert await world.is_drained()


async def test_only_so_many_are_parked(world: World) -> None:
    [entry] = [SaidEntry(ROOM % ROOM_SHARDS, b"1-1", b"\xc1")]
    for _ in range(PARKED_MOST + 5):
        await world.stream.park(entry, reason="it cannot be read")
    assert await world.client.xlen(room_archive_parked(ROOM % ROOM_SHARDS)) == PARKED_MOST


# Likes, and reading.


async def test_the_likes_of_a_room_only_grow(world: World, database_url: str) -> None:
    await LedgerShards(world.ledger).ensure(1)
    async with Shops.connect(database_url) as shops:
        await shops.create("tins")
    rooms = LedgerRooms(world.ledger, IdMint(await LedgerShards(world.ledger).id_key()))
    room = (await rooms.create("tins", RoomDraft(title="Tins"), Effect("host_1", "room", "k", "f"))).room
    strange = room.room_no + 1

    async def likes() -> list[tuple[int, int]]:
        return [tuple(row) for row in await world.ledger.fetch("SELECT room_no, likes FROM room_chat")]

    await world.put(["l", 5], room_no=room.room_no)
    await world.put(["l", 12], said(1), room_no=room.room_no)
    await world.put(["l", 9], said(1), room_no=strange)
    await drain(world.archive())
    assert await likes() == [(room.room_no, 12)]
    assert await world.numbers(strange) == [1]
    await world.put(["l", 11], room_no=room.room_no)
    await drain(world.archive())
    assert await likes() == [(room.room_no, 12)]
    assert await world.is_drained()


async def test_a_comment_is_found_by_what_its_id_says_unless_it_was_taken_back(world: World) -> None:
    mint = IdMint(b"k" * 32)
    await world.put(said(1), said(2, text="another"))
    await world.put(said(1, text="of an epoch before"), epoch=EPOCH - 77)
    await world.put(["g", 2, "host_1"])
    await drain(world.archive())
    place = mint.read_comment(mint.comment(EPOCH + 1, ROOM, EPOCH, 1))
    assert place is not None
    found = await world.comments.find(place)
    assert found is not None and (found.epoch, found.text) == (EPOCH, "comment 1")
    older = await world.comments.find(CommentPlace(EPOCH + 1, ROOM, (EPOCH - 77) & 0xFFFF, 1))
    assert older is not None and older.text == "of an epoch before"
    for nowhere in (
        place._replace(room_no=ROOM + 1),
        place._replace(at_ms=EPOCH + 2),
        place._replace(n=2),
        place._replace(epoch=(EPOCH + 1) & 0xFFFF),
        CommentPlace(EPOCH + 2, ROOM, EPOCH & 0xFFFF, 2),
    ):
        assert await world.comments.find(nowhere) is None


async def test_a_room_is_read_page_by_page_in_the_order_of_what_was_said(world: World) -> None:
    await world.put(said(1), epoch=EPOCH + 1)
    await world.put(*(said(n) for n in range(1, 6)))
    await drain(world.archive())
    pages, after = [], (-1, -1)
    while page := await world.comments.of_room(ROOM, limit=4, after=after):
        pages.append([(each.comment.epoch - EPOCH, each.comment.n) for each in page])
        after = (page[-1].comment.epoch, page[-1].comment.n)
    assert pages == [[(0, 1), (0, 2), (0, 3), (0, 4)], [(0, 5), (1, 1)]]


# Its cost.


async def test_with_nothing_said_only_the_lengths_are_asked_for(world: World) -> None:
    for room_no in range(50):
        await world.put(said(1), room_no=room_no)
    archive = world.archive()
    await drain(archive)
    assert ARCHIVE_WAITING.value == 50
    await world.client.config_resetstat()
    assert not await archive.step()
    asked = await world.client.info("commandstats")
    asked = {name: each["calls"] for name, each in asked.items() if name.startswith("cmdstat_")}
    assert asked == {"cmdstat_xlen": ROOM_SHARDS, "cmdstat_config|resetstat": 1}
    assert ARCHIVE_WAITING.value == 0
