"""The rooms of one process on a real rooms Valkey, without sockets: its hub, its calls, its count and what it hears."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from gateway.domain.comment import CommentAnswer, CommentRequest
from gateway.domain.live import RoomStanding
from gateway.domain.room import Room
from gateway.errors import LedgerUnavailable
from gateway.hot.bus import Bus
from gateway.hot.connect import connect
from gateway.hot.rooms import HotRooms
from gateway.hot.scripts import Scripts
from gateway.rooms.calls import RoomCalls
from gateway.rooms.crowd import Crowd
from gateway.rooms.hub import Hub
from gateway.rooms.live_room import LiveRoom
from gateway.rooms.snapshots import Snapshots
from gateway.wire.ticks import CutTick, read_tick
from tests.support.fake_clock import ShiftedClock
from tests.support.members import ROOM, FakeMember, mint
from tests.support.servers import eventually


class HubProcess:
    """`standing` is what the ledger knows of every room; `loses` says of a published tick whether it is not heard."""

    def __init__(self, valkey_url: str, name: str) -> None:
        self.name = name
        self.clock = ShiftedClock()
        self.client = connect(valkey_url, max_connections=4)
        self.bus = Bus(url=valkey_url, client=self.client)
        self.hot = HotRooms(
            client=self.client, scripts=Scripts(self.client), process=name, reading_rate=0.0, archive_max=10_000
        )
        self.standing = RoomStanding()
        self.loses: Callable[[CutTick], bool] = lambda tick: False
        self.heard: list[CutTick] = []
        self.ruled: list[Room] = []
        self.windowless: set[int] = set()
        """Rooms whose sales cannot be read."""
        self.calls = RoomCalls(
            hot=self.hot,
            standing=self._standing,
            interval_ms=lambda room_no: self.hub.interval_ms(room_no),
            mint=mint,
            clock=self.clock,
        )
        self.snapshots = Snapshots(window=self._window, clock=self.clock)
        self.hub = Hub(
            hot=self.hot,
            feed=self.bus,
            calls=self.calls,
            standing=self._standing,
            snapshots=self.snapshots,
            mint=mint,
            clock=self.clock,
            tick_ms=20,
            on_rules=self.ruled.append,
        )
        self.crowd = Crowd(hub=self.hub, hot=self.hot, calls=self.calls, clock=self.clock)
        self.bus.on_tick = self._hear

    async def _standing(self, room_no: int) -> RoomStanding:
        return self.standing

    async def _window(self, room: Room) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        if room.room_no in self.windowless:
            raise LedgerUnavailable
        return {"room": room.room}, [], []

    def _hear(self, room_no: int, payload: bytes) -> None:
        if payload and self.loses(read_tick(payload)):
            return
        if payload:
            self.heard.append(read_tick(payload))
        self.hub.heard(room_no, payload)

    async def enter(self, name: str = "", *, room: Room = ROOM) -> FakeMember:
        """A viewer comes in as the greeting lets them."""
        member = FakeMember(name)
        live = await self.hub.enter(room)
        snapshot = await self.snapshots.of(live)
        while not live.goes_on_from(snapshot):
            snapshot = await self.snapshots.of(live)
        self.hub.join(live, member)
        live.show(member, snapshot)
        return member

    def live(self, room: Room = ROOM) -> LiveRoom:
        return self.hub.rooms[room.room_no]

    def say(self, id: str, *, viewer: str = "vw_1", room: Room = ROOM) -> "asyncio.Future[CommentAnswer | Exception]":
        answered: asyncio.Future[CommentAnswer | Exception] = asyncio.get_running_loop().create_future()
        self.calls.comment(
            room.room_no,
            CommentRequest(
                viewer=viewer,
                sub="ann",
                name="Ann",
                id=id,
                text=f"{self.name} says {id}",
                is_staff=False,
                arrived_s=self.clock.monotonic(),
                answer=answered.set_result,
            ),
        )
        return answered


async def told_up_to(seq: int, *members: FakeMember) -> None:
    async def reached() -> bool:
        return all(member.at_seq >= seq for member in members)

    await eventually(reached)


def texts(member: FakeMember) -> list[str]:
    """Of the comments it was told in ticks."""
    ticks = [frame for frame in member.told if frame["t"] == "tick"]
    return [event["text"] for tick in ticks for event in tick["ev"] if event["k"] == "comment"]


@asynccontextmanager
async def hub_process(valkey_url: str, name: str = "p1") -> AsyncIterator[HubProcess]:
    """It hears, mends and calls; it beats only when it is told to."""
    process = HubProcess(valkey_url, name)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(process.client.aclose)
        works = [
            asyncio.ensure_future(work)
            for work in (
                process.calls.run(),
                process.hub.run(),
                process.bus.listen(lambda message: None, process.hub.compare),
            )
        ]

        async def end() -> None:
            for work in works:
                work.cancel()
            _, deaf = await asyncio.wait(works, timeout=5)
            assert not deaf, f"works of {name} that do not end: {deaf}"
            for work in works:
                assert work.cancelled(), f"a work of {name} ended by itself: {work}"

        stack.push_async_callback(end)

        async def listens() -> bool:
            return process.bus._subscription is not None

        await eventually(listens)
        yield process
