"""A seat in a live room: one socket of a viewer, which keeps all it hears, and what a client would make of it."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
import msgpack
from aiohttp import WSMsgType

from gateway.client.room_view import RoomView

JSON, MSGPACK = "peakgate.v1.json", "peakgate.v1.msgpack"
WITHIN_S = 10.0

T = TypeVar("T")


@dataclass(eq=False)
class Seat:
    """One socket. A task reads it, so that what is told is heard, and its time noted, when it comes."""

    ws: aiohttp.ClientWebSocketResponse
    sub: str
    frames: list[dict[str, Any]] = field(default_factory=list)
    heard_at_s: list[float] = field(default_factory=list)
    code: int | None = None
    """The close code, once it has ended."""
    resumed_at: int | None = None
    """The tick after which it resumed."""

    def __post_init__(self) -> None:
        self._news = asyncio.Event()
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        is_text = self.ws.protocol != MSGPACK
        while True:
            message = await self.ws.receive()
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                # The frame's own code: the library's is 1006 when the connection has gone before it was read.
                self.code = message.data if message.type is WSMsgType.CLOSE else self.ws.close_code or 1006
                self._news.set()
                return
            assert message.type is (WSMsgType.TEXT if is_text else WSMsgType.BINARY), message
            self.frames.append(json.loads(message.data) if is_text else msgpack.unpackb(message.data))
            self.heard_at_s.append(time.monotonic())
            self._news.set()

    async def leave(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self.ws.close()

    # Speaking.

    async def say(self, frame: dict[str, Any]) -> None:
        if self.ws.protocol == MSGPACK:
            await self.ws.send_bytes(msgpack.packb(frame))
        else:
            await self.ws.send_str(json.dumps(frame))

    async def ask(self, frame: dict[str, Any], *, within_s: float = WITHIN_S) -> dict[str, Any]:
        """The reply, error or pong with the frame's id."""
        after = len(self.frames)
        await self.say(frame)

        def answer() -> dict[str, Any] | None:
            known = (told for told in self.frames[after:] if told["t"] in ("reply", "error", "pong"))
            return next((told for told in known if told.get("id") == frame["id"]), None)

        return await self.until(answer, within_s=within_s)

    async def comment(self, text: str, id: str = "", *, within_s: float = WITHIN_S) -> dict[str, Any]:
        return await self.ask({"t": "comment", "id": id or uuid.uuid4().hex, "text": text}, within_s=within_s)

    async def order(self, sale: str, key: str = "k1", **changes: Any) -> dict[str, Any]:
        return await self.ask({"t": "order", "id": key, "sale": sale, "sku": "tin", "quantity": 1, **changes})

    async def pong(self) -> None:
        """Everything said before has been read by the gateway."""
        assert (await self.ask({"t": "ping", "id": uuid.uuid4().hex}))["t"] == "pong"

    def stops_reading(self) -> None:
        self._transport().pause_reading()

    def reads_again(self) -> None:
        self._transport().resume_reading()

    def _transport(self) -> asyncio.ReadTransport:
        connection = self.ws._response.connection
        assert connection is not None and isinstance(connection.transport, asyncio.ReadTransport)
        return connection.transport

    # Hearing.

    async def until(self, find: Callable[[], T | None], *, within_s: float = WITHIN_S) -> T:
        """What `find` finds, looked for after each frame."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    self._news.clear()
                    found = find()
                    if found is not None:
                        return found
                    assert self.code is None, f"ended with {self.code}: {self.frames[-3:]}"
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"never heard; the last frames: {self.frames[-5:]}") from None

    async def hear(self, kind: str, *, after: int = 0, within_s: float = WITHIN_S, **fields: Any) -> dict[str, Any]:
        """The first frame of a kind that says this, from the frame `after` on."""
        return await self.until(
            lambda: next((told for told in self.frames[after:] if told["t"] == kind and says(told, fields)), None),
            within_s=within_s,
        )

    async def event(self, kind: str, *, after: int = 0, within_s: float = WITHIN_S, **fields: Any) -> dict[str, Any]:
        """The first event of a kind that says this."""
        return await self.until(
            lambda: next((event for event in self.events(kind, after=after) if says(event, fields)), None),
            within_s=within_s,
        )

    async def hears_text(self, text: str, **how: Any) -> dict[str, Any]:
        return await self.event("comment", text=text, **how)

    async def hears_snapshots(self, count: int) -> None:
        await self.until(lambda: len(self.snapshots) >= count or None)

    async def ended(self, *, within_s: float = WITHIN_S) -> int:
        return await self.until(lambda: self.code, within_s=within_s)

    async def bye(self, *, within_s: float = WITHIN_S) -> dict[str, Any]:
        """The `bye`, after which the socket ended with the code it named."""
        code = await self.ended(within_s=within_s)
        told = self.frames[-1]
        assert (told["t"], told["code"]) == ("bye", code), (code, told)
        return told

    # What was heard.

    @property
    def welcome(self) -> dict[str, Any]:
        return self.frames[0]

    @property
    def you(self) -> str:
        return str(self.welcome["you"])

    @property
    def snapshots(self) -> list[dict[str, Any]]:
        return [told for told in self.frames if told["t"] == "snapshot"]

    def ticks(self, *, after: int = 0) -> list[dict[str, Any]]:
        return [told for told in self.frames[after:] if told["t"] == "tick"]

    def events(self, kind: str, *, after: int = 0) -> list[dict[str, Any]]:
        return [event for tick in self.ticks(after=after) for event in tick["ev"] if event["k"] == kind]

    def texts(self, *, after: int = 0) -> list[str]:
        """What was said, in the order in which it was shown."""
        return [event["text"] for event in self.events("comment", after=after)]

    def place(self) -> dict[str, int]:
        """Where this viewer is in the room: what a hello says to resume here."""
        last = next(told for told in reversed(self.frames) if told["t"] in ("welcome", "snapshot", "tick"))
        epoch = next(told["epoch"] for told in reversed(self.frames) if told["t"] in ("welcome", "snapshot"))
        return {"epoch": epoch, "seq": last["seq"]}

    def has_no_hole(self) -> bool:
        """Every tick is the one after the tick or snapshot before it, or after that which the hello named."""
        at = self.resumed_at
        for told in self.frames:
            if told["t"] == "snapshot":
                at = told["seq"]
            elif told["t"] == "tick":
                if told["seq"] != at + 1:
                    return False
                at = told["seq"]
        return True

    def view(self, begun: RoomView | None = None) -> RoomView:
        """The room as a client draws it from all that was heard."""
        view = begun or RoomView({})
        for told in self.frames:
            if told["t"] == "snapshot":
                view = RoomView(told)
            elif told["t"] == "tick":
                view.tick(told)
        return view


def says(told: dict[str, Any], fields: dict[str, Any]) -> bool:
    return all(told.get(name) == value for name, value in fields.items())


def picture(view: RoomView) -> dict[str, Any]:
    """What two viewers of one room must agree on."""
    return {
        "epoch": view.epoch,
        "likes": view.likes,
        "viewers": view.viewers,
        "chat": view.chat,
        "pin": view.pin,
        "state": view.room.get("state"),
        "recent": [(line["comment"], line["viewer"], line["text"], line["at_ms"]) for line in view.recent[-50:]],
        "sales": {name: sale.state for name, sale in view.sales.items()},
        "items": {
            name: {sku: (item.get("left"), item.get("price_minor")) for sku, item in sale.items.items()}
            for name, sale in view.sales.items()
        },
    }
