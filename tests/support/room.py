"""A live room as tests sit in it: seats of both codecs, on the process of one's choice, and the acts of its host."""

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import asyncpg
import psutil
import redis

from gateway.hot.keys import RoomKeys
from tests.support.api import ITEM, Answer, Api
from tests.support.gateway import Gateway
from tests.support.seat import JSON, WITHIN_S, Seat
from tests.support.servers import eventually


@dataclass
class Show:
    """A live room with one open sale, and the seats taken in it."""

    api: Api
    room: str
    title: str
    """No other room has it."""
    sale: str
    session: aiohttp.ClientSession
    """For sockets, however many."""
    seats: list[Seat] = field(default_factory=list)
    sessions: list[aiohttp.ClientSession] = field(default_factory=list)

    @property
    def gateway(self) -> Gateway:
        return self.api.gateway

    async def room_no(self) -> int:
        connection = await asyncpg.connect(self.gateway.servers()["database_url"])
        try:
            return int(await connection.fetchval("SELECT room_no FROM rooms WHERE title = $1", self.title))
        finally:
            await connection.close()

    async def keys(self) -> RoomKeys:
        return RoomKeys(await self.room_no())

    async def take(
        self, token: str, sub: str, *, codec: str = JSON, on: int | None = None, receive_buffer: int | None = None
    ) -> Seat:
        """A socket before its hello; `on` says which live process holds it."""
        session = self.session if receive_buffer is None else self._narrow(receive_buffer)
        while True:
            ws = await session.ws_connect(
                self.gateway.live_url(self.room),
                headers={"Authorization": f"Bearer {token}"},
                protocols=(codec,),
                max_msg_size=0,
            )
            if on is None or port_of(ws) in ports_of(on):
                seat = Seat(ws, sub)
                self.seats.append(seat)
                return seat
            await ws.close()

    async def enter(
        self,
        sub: str = "",
        *,
        codec: str = JSON,
        on: int | None = None,
        resume: dict[str, Any] | None = None,
        pending: Sequence[dict[str, str]] = (),
        host: bool = False,
        receive_buffer: int | None = None,
        **claims: Any,
    ) -> Seat:
        """Welcomed, and shown the room unless its ticks follow."""
        sub = sub or f"viewer-{uuid.uuid4().hex[:12]}"
        token = self.api.token(sub, "host", **claims) if host else self.api.viewer(sub, **claims)
        seat = await self.take(token, sub, codec=codec, on=on, receive_buffer=receive_buffer)
        hello: dict[str, Any] = {"t": "hello"}
        if resume is not None:
            hello["resume"] = resume
        if pending:
            hello["pending"] = list(pending)
        await seat.say(hello)
        welcome = await seat.until(lambda: seat.frames[0] if seat.frames else None)
        assert welcome["t"] == "welcome", welcome
        if welcome["recovered"]:
            assert resume is not None
            seat.resumed_at = resume["seq"]
        else:
            await seat.hear("snapshot")
            assert seat.frames[1]["t"] == "snapshot"
        return seat

    def _narrow(self, receive_buffer: int) -> aiohttp.ClientSession:
        """Whose kernel takes hardly anything for it; it has to be said before the connection is made."""

        def narrow(address: tuple[Any, ...]) -> socket.socket:
            made = socket.socket(*address[:3])
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            return made

        connector = aiohttp.TCPConnector(limit=0, socket_factory=narrow)
        self.sessions.append(aiohttp.ClientSession(connector=connector))
        return self.sessions[-1]

    async def enter_many(self, count: int, *, on: int) -> list[Seat]:
        """Seats on one process; the kernel spreads connections as it likes."""
        seats: list[Seat] = []
        while len(seats) < count:
            tries = [
                asyncio.create_task(self.take(self.api.viewer(sub), sub))
                for sub in (f"crowd-{uuid.uuid4().hex[:12]}" for _ in range(2 * (count - len(seats))))
            ]
            opened = await asyncio.gather(*tries)
            ports = ports_of(on)
            kept = [seat for seat in opened if port_of(seat.ws) in ports][: count - len(seats)]
            await asyncio.gather(*(seat.leave() for seat in opened if seat not in kept))
            seats += kept
        await asyncio.gather(*(seat.say({"t": "hello"}) for seat in seats))
        await asyncio.gather(*(seat.hear("snapshot") for seat in seats))
        return seats

    async def act(self, method: str, path: str, body: Any = None, *, status: Sequence[int] = (200, 201, 204)) -> Answer:
        """A host's act on the room."""
        answer = await self.api.call(method, f"/v1/rooms/{self.room}/{path}", body)
        assert answer.status in status, (method, path, answer.status, answer.text)
        return answer

    async def steer(self, act: str) -> None:
        """A host's act on the sale."""
        answer = await self.api.call("POST", f"/v1/sales/{self.sale}/{act}")
        assert answer.status == 200, answer.text

    async def counts(self, seats: Iterable[Seat], viewers: int, *, within_s: float = WITHIN_S) -> None:
        """Each of these is told that so many watch."""
        for seat in seats:
            await seat.until(lambda seat=seat: seat.view().viewers == viewers or None, within_s=within_s)  # type: ignore[misc]

    def rooms_valkey(self) -> redis.Redis:
        return redis.Redis.from_url(self.gateway.servers()["rooms_valkey_url"])

    async def close(self) -> None:
        await asyncio.gather(*(seat.leave() for seat in self.seats))
        for session in (self.session, *self.sessions):
            await session.close()


def port_of(ws: aiohttp.ClientWebSocketResponse) -> int:
    """Of our own end."""
    return int(ws.get_extra_info("sockname")[1])


def ports_of(pid: int) -> set[int]:
    """Of those at the other ends of a process's connections."""
    return {end.raddr.port for end in psutil.Process(pid).net_connections("tcp") if end.raddr}


async def make_show(api: Api, *, live: bool = True, stock: int = 50, limit: int = 10, **sale: Any) -> Show:
    title = f"Show {uuid.uuid4().hex}"
    room = (await api.room(title=title))["room"]
    if live:
        assert (await api.call("POST", f"/v1/rooms/{room}/start")).status == 200
    items = sale.pop("items", [{**ITEM, "stock": stock, "limit_per_viewer": limit}])
    made = await api.sale(room=room, items=items, **sale)
    return Show(api, room, title, made["sale"], aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))


@asynccontextmanager
async def showing(api: Api, **how: Any) -> AsyncIterator[Show]:
    show = await make_show(api, **how)
    try:
        yield show
    finally:
        await show.close()


async def metric(gateway: Gateway, session: aiohttp.ClientSession, name: str, **labels: str) -> float:
    """The sum of a metric over all processes whose labels say this."""
    async with session.get(f"{gateway.admin_url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.partition("{")[0].partition(" ")[0] == name
        and all(f'{label}="{value}"' in line for label, value in labels.items())
    )


async def live_again(gateway: Gateway, *gone: int, count: int = 2) -> list[int]:
    """The live processes once those that are gone were replaced and all say that they are ready."""
    names = {f"live {number}" for number in range(1, count + 1)}

    async def back() -> bool:
        pids = gateway.pids("peakgate live")
        if len(pids) != count or set(pids) & set(gone):
            return False
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{gateway.admin_url}/readyz") as answer,
        ):
            told = (await answer.json())["processes"]
        return all(told.get(name) == "ready" for name in names)

    await eventually(back, within_s=30)
    return sorted(gateway.pids("peakgate live"))
