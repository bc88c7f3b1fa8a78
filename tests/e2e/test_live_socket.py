"""The live socket as a stranger's client meets it: real processes, frames made by hand, both codecs."""

import asyncio
import base64
import json
import os
import socket
import struct
import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import jwt
import msgpack
import psutil
import pytest
from aiohttp import WSMsgType

from gateway.ledger.shops import Signs
from tests.support.api import ITEM, Api, api_of
from tests.support.gateway import Gateway
from tests.support.servers import eventually

JSON, MSGPACK = "peakgate.v1.json", "peakgate.v1.msgpack"
WITHIN_S = 10.0


class Closed(Exception):
    """The socket ended with this close code."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


@dataclass
class Talk:
    """One socket, spoken by hand. What was heard is kept in its order."""

    ws: aiohttp.ClientWebSocketResponse
    heard: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_text(self) -> bool:
        return self.ws.protocol != MSGPACK

    async def say(self, frame: Any) -> None:
        if self.is_text:
            await self.ws.send_str(json.dumps(frame))
        else:
            await self.ws.send_bytes(msgpack.packb(frame))

    async def hear(self) -> dict[str, Any]:
        message = await self.ws.receive(WITHIN_S)
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
            # The frame's own code: the library's `close_code` is 1006 when the connection has gone before it was read.
            raise Closed(message.data if message.type is WSMsgType.CLOSE else self.ws.close_code)
        assert message.type is (WSMsgType.TEXT if self.is_text else WSMsgType.BINARY), message
        frame = json.loads(message.data) if self.is_text else msgpack.unpackb(message.data)
        assert isinstance(frame, dict) and isinstance(frame["t"], str)
        self.heard.append(frame)
        return frame

    async def hear_one(self, *kinds: str, **fields: Any) -> dict[str, Any]:
        """The first frame of one of these kinds that says this, heard already or yet to come."""
        for frame in self.heard:
            if _says(frame, kinds, fields):
                return frame
        while not _says(frame := await self.hear(), kinds, fields):
            pass
        return frame

    async def ask(self, frame: dict[str, Any]) -> dict[str, Any]:
        await self.say(frame)
        heard = len(self.heard)
        while True:
            while heard < len(self.heard):
                told = self.heard[heard]
                heard += 1
                if told["t"] in ("reply", "error", "pong") and told.get("id") == frame.get("id"):
                    return told
            await self.hear()

    async def order(self, sale: str, key: str = "k1", **changes: Any) -> dict[str, Any]:
        return await self.ask({"t": "order", "id": key, "sale": sale, "sku": "tin", "quantity": 1, **changes})

    async def end(self) -> int | None:
        """Hears whatever comes and says with which code the socket ended."""
        try:
            while True:
                await self.hear()
        except Closed as closed:
            return closed.code

    async def said_bye(self) -> dict[str, Any]:
        """The `bye`, after which the socket ended with the code it named."""
        code = await self.end()
        bye = self.heard[-1]
        assert (bye["t"], bye["code"]) == ("bye", code)
        return bye


def _says(frame: dict[str, Any], kinds: tuple[str, ...], fields: dict[str, Any]) -> bool:
    return frame["t"] in kinds and all(frame.get(name) == value for name, value in fields.items())


class Refused(Exception):
    def __init__(self, error: aiohttp.WSServerHandshakeError) -> None:
        super().__init__(error.status)
        self.status = error.status
        self.headers = error.headers


@dataclass
class Stage:
    """A live room of the shop `tins` and one open sale in it; sockets opened here are closed with it."""

    gateway: Gateway
    api: Api
    room: str
    sale: str
    talks: list[Talk] = field(default_factory=list)
    raws: list["RawSocket"] = field(default_factory=list)

    async def close(self) -> None:
        for raw in self.raws:
            raw.writer.transport.abort()
        for talk in self.talks:
            await talk.ws.close()

    async def open(
        self,
        token: str | None = None,
        *,
        codec: str = JSON,
        protocols: tuple[str, ...] | None = None,
        on: int | None = None,
        room: str | None = None,
    ) -> Talk:
        """A socket before its hello, with the token in the header; `on` says which live process holds it."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = self.gateway.live_url(room or self.room)
        while True:
            try:
                ws = await self.api.session.ws_connect(
                    url, headers=headers, protocols=(codec,) if protocols is None else protocols, max_msg_size=0
                )
            except aiohttp.WSServerHandshakeError as error:
                raise Refused(error) from None
            if on is None or is_held_by(ws, on):
                talk = Talk(ws)
                self.talks.append(talk)
                return talk
            await ws.close()

    async def enter(self, token: str | None = None, *, pending: Any = None, **how: Any) -> Talk:
        """A welcomed socket that was shown the room; without a token, of a viewer of its own."""
        talk = await self.open(token or self.api.viewer(), **how)
        await talk.say({"t": "hello"} if pending is None else {"t": "hello", "pending": pending})
        assert (await talk.hear())["t"] == "welcome"
        assert (await talk.hear())["t"] == "snapshot"
        return talk

    async def hello(self, token: str | None, **how: Any) -> Talk:
        """A socket whose token is in its hello, as a browser's is; not yet answered."""
        talk = await self.open(**how)
        await talk.say({"t": "hello"} if token is None else {"t": "hello", "token": token})
        return talk

    async def counts(self) -> tuple[Any, Any]:
        """What is left and held of the sale, and the ids of its orders."""
        sale = (await self.api.call("GET", f"/v1/sales/{self.sale}")).json
        orders = (await self.api.call("GET", f"/v1/sales/{self.sale}/orders")).json["items"]
        return [(item["left"], item["held"]) for item in sale["items"]], [order["order"] for order in orders]


def is_held_by(ws: aiohttp.ClientWebSocketResponse, pid: int) -> bool:
    """Whether this live process is at the other end."""
    port = ws.get_extra_info("sockname")[1]
    return any(end.raddr and end.raddr.port == port for end in psutil.Process(pid).net_connections("tcp"))


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


async def make_stage(api: Api, *, stock: int = 50, limit: int = 3, **sale: Any) -> Stage:
    room = (await api.room())["room"]
    assert (await api.call("POST", f"/v1/rooms/{room}/start")).status == 200
    items = [{**ITEM, "stock": stock, "limit_per_viewer": limit}]
    made = await api.sale(room=room, items=items, **sale)
    return Stage(api.gateway, api, room, made["sale"])


@pytest.fixture
async def stage(api: Api) -> AsyncIterator[Stage]:
    stage = await make_stage(api)
    yield stage
    await stage.close()


@pytest.fixture(scope="module")
def shared() -> list[tuple[str, str]]:
    return []


@pytest.fixture
async def calm(api: Api, shared: list[tuple[str, str]]) -> AsyncIterator[Stage]:
    """One stage for all tests that leave its sale as it is."""
    if not shared:
        made = await make_stage(api)
        shared.append((made.room, made.sale))
    room, sale = shared[0]
    stage = Stage(api.gateway, api, room, sale)
    yield stage
    await stage.close()


@pytest.fixture(params=[JSON, MSGPACK])
def codec(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def processes(gateway: Gateway) -> tuple[int, int]:
    first, second = gateway.pids("peakgate live")
    return first, second


class RawSocket:
    """A WebSocket by hand over a plain connection, for frames that no library would send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(
        cls, stage: Stage, token: str | None = None, *, codec: str = JSON, receive_buffer: int | None = None
    ) -> "RawSocket":
        end = socket.socket()
        end.setblocking(False)
        if receive_buffer is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        host, port = stage.gateway.ready["live_url"].removeprefix("ws://").split(":")
        await asyncio.get_running_loop().sock_connect(end, (host, int(port)))
        reader, writer = await asyncio.open_connection(sock=end)
        head = [
            f"GET /v1/rooms/{stage.room}/live HTTP/1.1",
            f"Host: {host}:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Protocol: {codec}",
            f"Authorization: Bearer {token or stage.api.viewer()}",
        ]
        writer.write(("\r\n".join(head) + "\r\n\r\n").encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101"), answer
        raw = cls(reader, writer)
        stage.raws.append(raw)
        return raw

    @classmethod
    async def enter(cls, stage: Stage, token: str | None = None, **how: Any) -> "RawSocket":
        raw = await cls.open(stage, token, **how)
        raw.say({"t": "hello"})
        assert (await raw.hear())["t"] == "welcome"
        assert (await raw.hear())["t"] == "snapshot"
        return raw

    def say(self, frame: dict[str, Any]) -> None:
        self.writer.write(raw_frame(WSMsgType.TEXT, json.dumps(frame).encode()))

    async def hear(self) -> dict[str, Any]:
        opcode, payload = await self.frame()
        if opcode == WSMsgType.CLOSE:
            raise Closed(int.from_bytes(payload[:2], "big"))
        told: dict[str, Any] = json.loads(payload)
        return told

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(WITHIN_S):
            first, second = await self.reader.readexactly(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack(">H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(length)

    async def end(self) -> int:
        """The close code; fails when the connection ends without one."""
        try:
            while True:
                await self.hear()
        except Closed as closed:
            assert closed.code is not None
            return closed.code


def raw_frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, rsv: int = 0) -> bytes:
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    mask = os.urandom(4) if masked else b""
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes([first, flag | len(payload)])
    elif len(payload) < 65536:
        head = bytes([first, flag | 126]) + struct.pack(">H", len(payload))
    else:
        head = bytes([first, flag | 127]) + struct.pack(">Q", len(payload))
    if masked:
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return head + mask + payload


# Entering.


async def test_a_viewer_is_welcomed_and_shown_the_room(stage: Stage, codec: str) -> None:
    token = stage.api.viewer("ann-1")
    talk = await stage.enter(token, codec=codec)
    assert talk.ws.protocol == codec
    welcome, snapshot = talk.heard
    assert welcome["you"].startswith("vw_") and "ann-1" not in welcome["you"]
    assert welcome["recovered"] is False
    assert abs(welcome["now_ms"] - time.time() * 1000) < 5000
    assert (snapshot["epoch"], snapshot["seq"]) == (welcome["epoch"], welcome["seq"])
    assert (snapshot["room"]["room"], snapshot["room"]["state"]) == (stage.room, "live")
    names = {"room", "epoch", "seq", "viewers", "likes", "sales", "coupons", "pin", "recent", "chat"}
    assert names <= snapshot.keys()
    (sale,) = snapshot["sales"]
    assert (sale["sale"], sale["state"]) == (stage.sale, "open")
    assert (sale["items"][0]["sku"], sale["items"][0]["left"], sale["items"][0]["price_minor"]) == ("tin", 50, 1900)


async def test_a_viewer_is_the_same_pseudonym_everywhere_in_a_room_and_another_one_elsewhere(
    stage: Stage, processes: tuple[int, int]
) -> None:
    other = await make_stage(stage.api)
    token = stage.api.viewer()
    here = {(await stage.enter(token, on=pid)).heard[0]["you"] for pid in processes}
    there = (await stage.enter(token, room=other.room)).heard[0]["you"]
    somebody = (await stage.enter()).heard[0]["you"]
    assert len(here) == 1
    assert len({*here, there, somebody}) == 3


async def test_the_token_may_come_in_the_hello(calm: Stage, codec: str) -> None:
    talk = await calm.hello(calm.api.viewer(), codec=codec)
    assert (await talk.hear())["t"] == "welcome"


async def test_a_second_hello_is_an_error_and_the_socket_stays(calm: Stage) -> None:
    talk = await calm.enter()
    await talk.say({"t": "hello"})
    assert (await talk.hear_one("error"))["code"] == "invalid"
    assert (await talk.ask({"t": "ping", "id": 1}))["t"] == "pong"


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        ((), None),
        (("chat",), None),
        ((JSON,), JSON),
        ((MSGPACK,), MSGPACK),
        (("chat", MSGPACK, JSON), MSGPACK),
        ((JSON, MSGPACK), JSON),
    ],
)
async def test_the_first_known_subprotocol_is_spoken_and_without_one_json(
    calm: Stage, offered: tuple[str, ...], chosen: str | None
) -> None:
    talk = await calm.enter(protocols=offered)
    assert talk.ws.protocol == chosen
    assert (await talk.ask({"t": "ping", "id": "p"}))["id"] == "p"


async def test_no_compression_is_agreed(calm: Stage) -> None:
    ws = await calm.api.session.ws_connect(calm.gateway.live_url(calm.room), compress=15)
    assert ws.compress == 0
    await ws.close()


@pytest.mark.parametrize("ping_id", ["one", 17, None])
async def test_a_ping_is_answered_with_the_time(calm: Stage, codec: str, ping_id: Any) -> None:
    talk = await calm.enter(codec=codec)
    pong = await talk.ask({"t": "ping"} if ping_id is None else {"t": "ping", "id": ping_id})
    assert pong["t"] == "pong" and abs(pong["now_ms"] - time.time() * 1000) < 5000
    assert ("id" in pong) is (ping_id is not None)


async def test_unknown_fields_are_ignored_and_an_unknown_frame_is_an_error_that_leaves_the_socket(
    calm: Stage, codec: str
) -> None:
    talk = await calm.enter(codec=codec)
    for number in range(5):
        error = await talk.ask({"t": "dance", "id": f"d{number}"})
        assert (error["t"], error["retryable"]) == ("error", False)
        assert "dance" in error["message"]
    assert (await talk.ask({"t": "ping", "id": "p", "mood": ["good"]}))["t"] == "pong"


async def test_a_claim_of_an_unknown_coupon_is_not_found(calm: Stage, codec: str) -> None:
    talk = await calm.enter(codec=codec)
    error = await talk.ask({"t": "claim", "id": "c1", "coupon": "cpn_none"})
    assert (error["t"], error["code"], error["retryable"]) == ("error", "not_found", False)


# The door.


async def test_what_is_no_room_is_not_found_before_the_upgrade(calm: Stage) -> None:
    for room in ("room_", "room_0000000000000000", calm.sale, calm.room[:-1], calm.room + "0", "%00", "a b"):
        with pytest.raises(Refused) as refused:
            await calm.open(calm.api.viewer(), room=room)
        assert refused.value.status == 404, room
    for path in ("/", "/v1/rooms", f"/v1/rooms/{calm.room}", f"/v1/rooms/{calm.room}/live/x", "/metrics"):
        url = calm.gateway.ready["live_url"].replace("ws", "http", 1) + path
        async with calm.api.session.get(url) as answer:
            assert answer.status == 404, path


async def test_a_request_that_is_no_upgrade_is_refused(calm: Stage) -> None:
    async with calm.api.session.get(calm.gateway.live_url(calm.room).replace("ws", "http", 1)) as answer:
        assert 400 <= answer.status < 500


async def test_health_is_answered_on_the_live_port(calm: Stage) -> None:
    for path in ("/livez", "/readyz"):
        async with calm.api.session.get(calm.gateway.ready["live_url"].replace("ws", "http", 1) + path) as answer:
            assert answer.status == 200


def bad_tokens(api: Api) -> dict[str, str]:
    viewer, staff = (api.shops["tins"].key_for(signs) for signs in (Signs.VIEWER, Signs.STAFF))
    claims = {"sub": "mallory", "shop": "tins", "role": "viewer", "aud": "peakgate", "exp": int(time.time()) + 600}
    good = jwt.encode(claims, viewer.secret, algorithm="HS256", headers={"kid": viewer.kid})
    head, payload, signature = good.split(".")
    return {
        "garbage": "garbage",
        "expired": api.viewer("mallory", exp=int(time.time()) - 60),
        "forged": jwt.encode(claims, b"x" * 32, algorithm="HS256", headers={"kid": viewer.kid}),
        "another viewer's claims under a good signature": ".".join(
            [head, jwt.encode({**claims, "sub": "ann"}, b"x" * 32).split(".")[1], signature]
        ),
        "alg none": jwt.encode(claims, None, algorithm="none", headers={"kid": viewer.kid}),
        "another algorithm": jwt.encode(claims, viewer.secret * 2, algorithm="HS512", headers={"kid": viewer.kid}),
        "a viewer key signs a host": api.token("mallory", "host", signs=Signs.VIEWER),
        "a staff key signs a viewer": jwt.encode(claims, staff.secret, algorithm="HS256", headers={"kid": staff.kid}),
        "another shop's key": api.token("mallory", "viewer", shop="tins", signs=Signs.STAFF),
        "a shop of others": jwt.encode(
            {**claims, "shop": "cups"}, viewer.secret, algorithm="HS256", headers={"kid": viewer.kid}
        ),
        "another audience": api.viewer("mallory", aud="elsewhere"),
        "lives too long": api.viewer("mallory", exp=int(time.time()) + 30 * 3600),
        "no sub": api.token("", "viewer"),
        "a sub that is too long": api.viewer("m" * 129),
        "cut": ".".join([head, payload]),
    }


async def test_a_bad_token_in_the_hello_ends_the_socket_for_good(calm: Stage) -> None:
    cases: dict[str, str | None] = {**bad_tokens(calm.api), "none": None}
    talks = {name: await calm.hello(token) for name, token in cases.items()}
    ends = {name: (await talk.end(), [frame["t"] for frame in talk.heard]) for name, talk in talks.items()}
    assert ends == {name: (4500, ["bye"]) for name in cases}


async def test_a_bad_token_in_the_header_is_401_before_the_upgrade(calm: Stage, processes: tuple[int, int]) -> None:
    for pid in processes:
        # From here on both processes know both keys.
        await calm.enter(on=pid)
        await calm.enter(calm.api.token(), on=pid)
    for name, token in bad_tokens(calm.api).items():
        with pytest.raises(Refused) as refused:
            await calm.open(token)
        assert refused.value.status == 401, name


async def test_a_token_for_other_rooms_is_403_in_the_header_and_4507_in_the_hello(
    calm: Stage, processes: tuple[int, int]
) -> None:
    token = calm.api.viewer(rooms=["room_elsewhere"])
    for pid in processes:
        await calm.enter(on=pid)
    with pytest.raises(Refused) as refused:
        await calm.open(token)
    assert refused.value.status == 403
    assert (await (await calm.hello(token)).said_bye())["code"] == 4507
    assert (await calm.enter(calm.api.viewer(rooms=[calm.room]))).heard[0]["t"] == "welcome"


async def test_another_shops_room_is_not_for_a_viewer(calm: Stage) -> None:
    talk = await calm.hello(calm.api.token("bob", "viewer", shop="cups"))
    assert (await talk.said_bye())["code"] == 4507
    assert [frame["t"] for frame in talk.heard] == ["bye"]


async def test_an_ended_room_ends_the_socket_for_good(stage: Stage, processes: tuple[int, int]) -> None:
    for pid in processes:
        await stage.enter(on=pid)
    assert (await stage.api.call("POST", f"/v1/rooms/{stage.room}/end")).status == 200

    async def says_so(pid: int) -> bool:
        talk = await stage.open(stage.api.viewer(), on=pid)
        await talk.say({"t": "hello"})
        return await talk.end() == 4504

    for pid in processes:
        await eventually(lambda pid=pid: says_so(pid))


# Orders.


async def test_an_order_is_reserved_and_then_confirmed(stage: Stage, codec: str) -> None:
    viewer = f"ann-{uuid.uuid4().hex}"
    talk = await stage.enter(stage.api.viewer(viewer), codec=codec)
    ref = await stage.api.ref(room=stage.room, referrer="ben")
    reply = await talk.order(
        stage.sale, quantity=2, expect_amount_minor=3800, meta={"colour": "red"}, ref=ref, pickup="Front desk"
    )
    assert {**reply, "order": ""} == {
        "t": "reply",
        "id": "k1",
        "outcome": "reserved",
        "order": "",
        "amount_minor": 3800,
    }
    confirmed = await talk.hear_one("order", order=reply["order"])
    assert confirmed["status"] == "confirmed"
    assert 290_000 < confirmed["pay_by_ms"] - time.time() * 1000 <= 301_000
    assert [frame["t"] for frame in talk.heard if frame["t"] != "tick"] == ["welcome", "snapshot", "reply", "order"]
    order = (await stage.api.call("GET", f"/v1/orders/{reply['order']}")).json
    assert (order["sub"], order["quantity"], order["amount_minor"]) == (viewer, 2, 3800)
    assert (order["status"], order["meta"], order["ref"]) == ("confirmed", {"colour": "red"}, ref)
    assert (order["source"], order["referrer"], order["pickup"]) == ("live", "ben", {"place": "Front desk"})
    assert (await stage.counts())[0] == [(48, 2)]


async def test_sold_out_says_what_is_left_and_whether_more_may_return(api: Api, codec: str) -> None:
    stage = await make_stage(api, stock=3, limit=10)
    talk = await stage.enter(codec=codec)
    assert await talk.order(stage.sale, "a", quantity=4) == {
        "t": "reply",
        "id": "a",
        "outcome": "sold_out",
        "left": 3,
        "may_return": False,
    }
    assert (await talk.order(stage.sale, "a", quantity=2))["outcome"] == "reserved"
    reply = await talk.order(stage.sale, "b", quantity=2)
    assert (reply["outcome"], reply["left"], reply["may_return"]) == ("sold_out", 1, True)
    assert (await talk.order(stage.sale, "b"))["outcome"] == "reserved"
    last = await talk.order(stage.sale, "c")
    assert (last["outcome"], last["left"], last["may_return"]) == ("sold_out", 0, True)


async def test_a_viewer_has_the_limit_over_all_sockets(stage: Stage, processes: tuple[int, int], codec: str) -> None:
    token = stage.api.viewer()
    first, second = [await stage.enter(token, on=pid, codec=codec) for pid in processes]
    assert (await first.order(stage.sale, "a", quantity=2))["outcome"] == "reserved"
    assert (await second.order(stage.sale, "b", quantity=2))["outcome"] == "limit_reached"
    assert (await second.order(stage.sale, "c", quantity=1))["outcome"] == "reserved"
    assert (await first.order(stage.sale, "d", quantity=1))["outcome"] == "limit_reached"


async def test_a_wrong_price_is_answered_with_the_amount_as_it_is(stage: Stage, codec: str) -> None:
    talk = await stage.enter(codec=codec)
    assert await talk.order(stage.sale, quantity=2, expect_amount_minor=3799) == {
        "t": "reply",
        "id": "k1",
        "outcome": "price_changed",
        "amount_minor": 3800,
    }
    assert (await talk.order(stage.sale, quantity=2, expect_amount_minor=3800))["outcome"] == "reserved"


async def test_before_the_opening_it_is_not_started_and_opening_early_lets_the_same_key_in(
    api: Api, codec: str
) -> None:
    stage = await make_stage(api, opens_in_s=600)
    talk = await stage.enter(codec=codec)
    (shown,) = talk.heard[1]["sales"]
    assert shown["state"] == "scheduled"
    assert await talk.order(stage.sale) == {
        "t": "reply",
        "id": "k1",
        "outcome": "not_started",
        "opens_at_ms": shown["opens_at_ms"],
    }
    assert (await api.call("POST", f"/v1/sales/{stage.sale}/open")).status == 200
    assert (await talk.order(stage.sale))["outcome"] == "reserved"


async def test_a_host_pauses_resumes_and_closes_and_it_is_in_force_on_every_process_when_answered(
    stage: Stage, processes: tuple[int, int], codec: str
) -> None:
    talks = [await stage.enter(on=pid, codec=codec) for pid in processes]
    for act, outcome in (("pause", "paused"), ("resume", "reserved"), ("close", "ended")):
        assert (await stage.api.call("POST", f"/v1/sales/{stage.sale}/{act}")).status == 200
        for talk in talks:
            reply = await talk.order(stage.sale, f"key-{act}")
            assert reply["outcome"] == outcome
    # What a key holds is told whatever the sale's state.
    for talk in talks:
        reply = await talk.order(stage.sale, "key-resume")
        assert (reply["outcome"], reply["replayed"]) == ("reserved", True)


async def test_who_asks_too_often_is_told_when_to_come_back(stage: Stage, codec: str) -> None:
    talk = await stage.enter(codec=codec)
    asked = [
        {"t": "order", "id": f"k{number}", "sale": stage.sale, "sku": "tin", "quantity": 4} for number in range(40)
    ]
    for frame in asked:
        await talk.say(frame)
    replies = {frame["id"]: await talk.hear_one("reply", id=frame["id"]) for frame in asked}
    assert {reply["outcome"] for reply in replies.values()} == {"limit_reached", "too_fast"}
    late = replies["k39"]
    assert late["outcome"] == "too_fast" and 0 < late["retry_after_ms"] <= 30_000
    assert sum(reply["outcome"] == "limit_reached" for reply in replies.values()) >= 20
    # It was not looked at: another viewer is not held up by it, and nothing was taken.
    assert (await (await stage.enter()).order(stage.sale))["outcome"] == "reserved"


# Keys.


async def test_the_same_key_gets_the_same_order_and_other_content_is_an_error(stage: Stage, codec: str) -> None:
    talk = await stage.enter(codec=codec)
    first = await talk.order(stage.sale, quantity=2)
    again = await talk.order(stage.sale, quantity=2)
    assert again == {**first, "replayed": True}
    for changes in ({"quantity": 1}, {"quantity": 2, "expect_amount_minor": 3800}, {"quantity": 2, "meta": {"a": 1}}):
        error = await talk.order(stage.sale, **changes)
        assert (error["t"], error["code"], error["retryable"]) == ("error", "key_reused", False)
    confirmed = await talk.hear_one("order", order=first["order"])
    assert confirmed["status"] == "confirmed"
    assert (await stage.counts()) == ([(48, 2)], [first["order"]])


async def test_a_key_that_another_socket_of_the_viewer_holds_is_replayed_on_every_process(
    stage: Stage, processes: tuple[int, int]
) -> None:
    token = stage.api.viewer()
    talks = [await stage.enter(token, on=pid, codec=codec) for pid in processes for codec in (JSON, MSGPACK)]
    replies = await asyncio.gather(*(talk.order(stage.sale) for talk in talks))
    assert len({reply["order"] for reply in replies}) == 1
    assert sum(not reply.get("replayed", False) for reply in replies) == 1
    other = await talks[0].order(stage.sale, quantity=3)
    assert other["code"] == "key_reused"
    # The key is the viewer's own: somebody else's is another order.
    theirs = await (await stage.enter()).order(stage.sale)
    assert theirs["order"] != replies[0]["order"] and "replayed" not in theirs


async def test_a_confirmation_reaches_every_socket_of_the_viewer_and_nobody_else(
    stage: Stage, processes: tuple[int, int]
) -> None:
    token = stage.api.viewer()
    talks = [await stage.enter(token, on=pid, codec=codec) for pid in processes for codec in (JSON, MSGPACK)]
    stranger = await stage.enter(on=processes[0])
    reply = await talks[0].order(stage.sale)
    told = await asyncio.gather(*(talk.hear_one("order", order=reply["order"]) for talk in talks))
    assert all(frame == told[0] and frame["status"] == "confirmed" for frame in told)
    await stranger.order(stage.sale, "other")
    await stranger.hear_one("order")
    assert all(frame.get("order") != reply["order"] for frame in stranger.heard)


async def test_the_confirmation_of_an_order_by_http_reaches_the_socket(
    stage: Stage, processes: tuple[int, int]
) -> None:
    token = stage.api.viewer()
    talks = [await stage.enter(token, on=pid) for pid in processes]
    order = (await stage.api.order(stage.sale, token, key="by-http")).json["order"]["order"]
    for talk in talks:
        assert (await talk.hear_one("order", order=order))["status"] == "confirmed"
    # And its key is the same key on the socket.
    reply = await talks[0].order(stage.sale, "by-http")
    assert (reply["order"], reply["replayed"]) == (order, True)


async def test_the_keys_a_hello_names_are_answered(stage: Stage, processes: tuple[int, int], codec: str) -> None:
    token = stage.api.viewer()
    talk = await stage.enter(token, on=processes[0], codec=codec)
    held = await talk.order(stage.sale, "held")
    await talk.hear_one("order", order=held["order"])
    # In flight when the phone enters a tunnel.
    await talk.say({"t": "order", "id": "cut", "sale": stage.sale, "sku": "tin", "quantity": 1})
    await talk.ws.close()
    named = [("held", stage.sale), ("never", stage.sale), ("held", "sale_unknown")]
    pending = [{"key": key, "sale": sale} for key, sale in named]
    again = await stage.enter(token, on=processes[1], codec=codec, pending=pending)
    known = {(entry["key"], entry["sale"]): entry for entry in again.heard[0]["orders"]}
    assert known.keys() == set(named)
    assert known["held", stage.sale]["order"] == held["order"]
    assert (known["held", stage.sale]["outcome"], known["held", stage.sale]["status"]) == ("reserved", "confirmed")
    assert known["held", stage.sale]["amount_minor"] == 1900 and known["held", stage.sale]["pay_by_ms"] > 0
    assert known["never", stage.sale]["outcome"] == known["held", "sale_unknown"]["outcome"] == "none"
    # Asked again with its key, the order that was cut has its one true answer.
    cut = await again.order(stage.sale, "cut")
    assert cut["outcome"] == "reserved"
    await again.hear_one("order", order=cut["order"], status="confirmed")
    assert len((await stage.counts())[1]) == 2


async def test_a_host_may_watch_and_does_not_order(calm: Stage) -> None:
    before = await calm.counts()
    talk = await calm.enter(calm.api.token())
    error = await talk.order(calm.sale)
    assert (error["t"], error["code"], error["retryable"]) == ("error", "forbidden", False)
    assert (await talk.ask({"t": "ping", "id": 1}))["t"] == "pong"
    assert await calm.counts() == before


# What is wrong has no effect.


async def test_a_wrong_order_is_an_error_that_names_it_and_changes_nothing(stage: Stage, codec: str) -> None:
    foreign = (await stage.api.sale(shop="cups"))["sale"]
    before = await stage.counts()
    good = {"t": "order", "sale": stage.sale, "sku": "tin", "quantity": 1}
    wrong: dict[str, tuple[str, dict[str, Any]]] = {
        "quantity-0": ("invalid", {"quantity": 0}),
        "quantity-negative": ("invalid", {"quantity": -1}),
        "quantity-1e9": ("invalid", {"quantity": 1_000_000_000}),
        "quantity-1001": ("invalid", {"quantity": 1001}),
        "quantity-half": ("invalid", {"quantity": 1.5}),
        "quantity-text": ("invalid", {"quantity": "1"}),
        "quantity-true": ("invalid", {"quantity": True}),
        "quantity-null": ("invalid", {"quantity": None}),
        "quantity-list": ("invalid", {"quantity": [1]}),
        "quantity-2-to-the-63": ("invalid", {"quantity": 2**63}),
        "sku-number": ("invalid", {"sku": 7}),
        "sku-empty": ("invalid", {"sku": ""}),
        "sale-null": ("invalid", {"sale": None}),
        "sale-long": ("invalid", {"sale": "s" * 65}),
        "amount-negative": ("invalid", {"expect_amount_minor": -1}),
        "amount-text": ("invalid", {"expect_amount_minor": "1900"}),
        "meta-too-large": ("invalid", {"meta": {"text": "m" * 600}}),
        "ref-too-long": ("invalid", {"ref": "r" * 257}),
        "ref-forged": ("invalid", {"ref": "ref_" + "0" * 24}),
        "ref-of-another-shop": ("invalid", {"ref": await stage.api.ref(shop="cups")}),
        "pickup-number": ("invalid", {"pickup": 1}),
        "pickup-too-long": ("invalid", {"pickup": "p" * 65}),
        "sale-unknown": ("not_found", {"sale": "sale_0000000000000000"}),
        "sale-no-id": ("not_found", {"sale": "'; DROP TABLE orders; --"}),
        "sale-of-a-room": ("not_found", {"sale": stage.room}),
        "sale-of-another-shop": ("not_found", {"sale": foreign}),
        "sku-unknown": ("not_found", {"sku": "cup"}),
    }
    talk = await stage.enter(codec=codec)
    for name, (code, changes) in wrong.items():
        error = await talk.ask({**good, "id": name, **changes})
        assert (name, error["t"], error.get("code"), error.get("retryable")) == (name, "error", code, False)
        assert error["message"]
    for key in ("", "k" * 65, "with space", "käse", "a/b", "a\nb", "a|b", 7, None, ["k"]):
        heard = len(talk.heard)
        await talk.say({**good, "id": key})
        error = await talk.hear()
        assert (error["t"], error["code"] in ("invalid", "bad_request")) == ("error", True), key
        assert len(talk.heard) == heard + 1
    assert await stage.counts() == before
    assert (await talk.order(stage.sale, "k" * 64))["outcome"] == "reserved"


async def test_an_order_without_a_key_is_a_bad_request(calm: Stage, codec: str) -> None:
    before = await calm.counts()
    talk = await calm.enter(codec=codec)
    await talk.say({"t": "order", "sale": calm.sale, "sku": "tin", "quantity": 1})
    error = await talk.hear()
    assert (error["t"], error["code"], error["retryable"]) == ("error", "bad_request", False)
    assert await calm.counts() == before


@pytest.mark.parametrize("broken", ["[]", '"order"', "1", "null", "{}", '{"t":5}', '{"t":"ping"', "", '{"t":"ping"}x'])
async def test_the_third_broken_frame_ends_the_socket(calm: Stage, broken: str) -> None:
    talk = await calm.enter()
    for _ in range(2):
        await talk.ws.send_str(broken)
        error = await talk.hear()
        assert (error["t"], error["code"], error["retryable"]) == ("error", "bad_request", False)
    assert (await talk.ask({"t": "ping", "id": 1}))["t"] == "pong"
    await talk.ws.send_str(broken)
    assert (await talk.said_bye())["code"] == 4509


@pytest.mark.parametrize(
    "broken",
    [b"\x90", b"\x01", b"\xc0", b"\x80", b"\xc1", b"\x81\xa1t", b"", b"\xdf\xff\xff\xff\xff", b"\x81\xa1t\xc4\x01x"],
)
async def test_the_third_broken_msgpack_frame_ends_the_socket(calm: Stage, broken: bytes) -> None:
    talk = await calm.enter(codec=MSGPACK)
    for _ in range(2):
        await talk.ws.send_bytes(broken)
        assert (await talk.hear())["code"] == "bad_request"
    await talk.ws.send_bytes(broken)
    assert (await talk.said_bye())["code"] == 4509


@pytest.mark.parametrize("codec_and_nest", [(JSON, b"["), (MSGPACK, b"\x91")])
async def test_a_deeply_nested_frame_is_only_a_broken_one(calm: Stage, codec_and_nest: tuple[str, bytes]) -> None:
    codec, nest = codec_and_nest
    talk = await calm.enter(codec=codec)
    deep = (b'{"t":"ping","x":' if codec == JSON else b"\x82\xa1t\xa4ping\xa1x") + nest * 4000
    await talk.ws.send_frame(deep, WSMsgType.TEXT if talk.is_text else WSMsgType.BINARY)
    assert (await talk.hear())["code"] == "bad_request"
    assert (await talk.ask({"t": "ping", "id": 1}))["t"] == "pong"


# Frames that break the protocol below.


async def test_the_wrong_kind_of_frame_is_1003(calm: Stage) -> None:
    text, binary = await calm.enter(codec=JSON), await calm.enter(codec=MSGPACK)
    await text.ws.send_bytes(b'{"t":"ping"}')
    await binary.ws.send_str('{"t":"ping"}')
    assert [await text.end(), await binary.end()] == [1003, 1003]


async def test_text_that_is_not_utf8_is_1007(calm: Stage) -> None:
    for payload in (b'{"t":"ping","id":"\xff"}', b"\xc3", b'{"t":"\xed\xa0\x80"}'):
        raw = await RawSocket.enter(calm)
        raw.writer.write(raw_frame(WSMsgType.TEXT, payload))
        assert await raw.end() == 1007, payload


async def test_a_frame_of_4096_bytes_is_read_and_a_larger_one_is_1009(calm: Stage, codec: str) -> None:
    talk = await calm.enter(codec=codec)
    frame = {"t": "ping", "id": "p", "pad": ""}
    empty = len(json.dumps(frame)) if talk.is_text else len(msgpack.packb(frame)) + 2
    assert (await talk.ask({**frame, "pad": "x" * (4096 - empty)}))["t"] == "pong"
    await talk.say({**frame, "pad": "x" * (4097 - empty)})
    assert await talk.end() == 1009


async def test_a_frame_that_announces_gigabytes_is_1009_at_once(calm: Stage) -> None:
    raw = await RawSocket.enter(calm)
    raw.writer.write(bytes([0x81, 0x80 | 127]) + struct.pack(">Q", 2**40) + b"mask" + b"x" * 100)
    assert await raw.end() == 1009


async def test_a_message_in_parts_is_put_together(stage: Stage) -> None:
    raw = await RawSocket.enter(stage)
    order = {"t": "order", "id": "parts", "sale": stage.sale, "sku": "tin", "quantity": 1}
    whole = json.dumps(order).encode()
    parts = [whole[at : at + 7] for at in range(0, len(whole), 7)]
    for number, part in enumerate(parts):
        opcode = WSMsgType.TEXT if number == 0 else WSMsgType.CONTINUATION
        raw.writer.write(raw_frame(opcode, part, fin=number == len(parts) - 1))
        if number == 3:
            # Control frames may stand between the parts.
            raw.writer.write(raw_frame(WSMsgType.PING, b"here?"))
    assert await raw.frame() == (WSMsgType.PONG, b"here?")
    assert (await raw.hear())["outcome"] == "reserved"


async def test_parts_without_an_end_are_cut_at_the_limit_of_a_frame(calm: Stage) -> None:
    raw = await RawSocket.enter(calm)
    raw.writer.write(raw_frame(WSMsgType.TEXT, b'{"t":"ping","pad":"', fin=False))
    for _ in range(50):
        raw.writer.write(raw_frame(WSMsgType.CONTINUATION, b"x" * 100, fin=False))
    assert await raw.end() == 1009


@pytest.mark.parametrize(
    "broken",
    [
        raw_frame(WSMsgType.TEXT, b'{"t":"ping"}', masked=False),
        raw_frame(WSMsgType.TEXT, b'{"t":"ping"}', rsv=4),
        raw_frame(WSMsgType.TEXT, b'{"t":"ping"}', rsv=1),
        raw_frame(3, b"x"),
        raw_frame(0xB, b"x"),
        raw_frame(WSMsgType.PING, b"x", fin=False),
        raw_frame(WSMsgType.PING, b"x" * 126),
        raw_frame(WSMsgType.CLOSE, b"x"),
        raw_frame(WSMsgType.CLOSE, struct.pack(">H", 1005)),
        raw_frame(WSMsgType.CONTINUATION, b"x"),
        raw_frame(WSMsgType.TEXT, b"{", fin=False) + raw_frame(WSMsgType.TEXT, b"{}"),
    ],
    ids=[
        "not masked",
        "reserved bit 1",
        "reserved bit 3",
        "unknown opcode",
        "unknown control opcode",
        "control frame in parts",
        "control frame too long",
        "close of one byte",
        "close with a code never sent",
        "continuation of nothing",
        "message inside another",
    ],
)
async def test_what_breaks_the_websocket_protocol_is_1002(calm: Stage, broken: bytes) -> None:
    raw = await RawSocket.enter(calm)
    raw.writer.write(broken)
    assert await raw.end() == 1002


async def test_a_close_of_the_viewer_is_answered_with_a_close(calm: Stage) -> None:
    raw = await RawSocket.enter(calm)
    raw.writer.write(raw_frame(WSMsgType.CLOSE, struct.pack(">H", 1000) + b"bye"))
    assert await raw.end() == 1000
    assert await raw.reader.read() == b""


# How many, how fast, how long.


async def test_a_sixth_socket_of_a_viewer_in_a_room_is_told_to_come_back(
    calm: Stage, processes: tuple[int, int]
) -> None:
    token = calm.api.viewer()
    talks = [await calm.enter(token, on=processes[0]) for _ in range(5)]
    sixth = await calm.open(token, on=processes[0])
    await sixth.say({"t": "hello"})
    bye = await sixth.said_bye()
    assert (bye["code"], bye["retry_after_ms"] > 0) == (4029, True)
    assert (await talks[0].ask({"t": "ping", "id": 1}))["t"] == "pong"
    # Somebody else is not kept out by it, and a socket that ends makes room.
    await calm.enter(on=processes[0])
    await talks[4].ws.close()

    async def lets_in() -> bool:
        talk = await calm.open(token, on=processes[0])
        await talk.say({"t": "hello"})
        return (await talk.hear())["t"] == "welcome"

    await eventually(lets_in)


async def test_six_hellos_of_a_viewer_at_once_let_five_in(calm: Stage, processes: tuple[int, int]) -> None:
    token = calm.api.viewer()
    talks = [await calm.open(token, on=processes[0]) for _ in range(6)]
    await asyncio.gather(*(talk.say({"t": "hello"}) for talk in talks))
    first = await asyncio.gather(*(talk.hear() for talk in talks))
    assert sorted(frame["t"] for frame in first) == ["bye", *["welcome"] * 5]


async def test_the_sockets_of_a_viewer_are_counted_a_room(calm: Stage, processes: tuple[int, int]) -> None:
    token = calm.api.viewer()
    for _ in range(5):
        await calm.enter(token, on=processes[0])
    other = await make_stage(calm.api)
    assert (await calm.enter(token, on=processes[0], room=other.room)).heard[0]["t"] == "welcome"


async def test_a_flood_of_frames_ends_the_socket_and_disturbs_nobody(stage: Stage) -> None:
    raw = await RawSocket.enter(stage)
    other = await stage.enter()
    raw.writer.write(raw_frame(WSMsgType.TEXT, b'{"t":"ping"}') * 1000)
    assert (await other.order(stage.sale))["outcome"] == "reserved"
    byes = []
    try:
        while True:
            told = await raw.hear()
            byes += [told] if told["t"] == "bye" else []
    except Closed as closed:
        assert closed.code == 4013
    assert [(bye["code"], bye["retry_after_ms"] > 0) for bye in byes] == [(4013, True)]


async def test_a_viewer_who_never_reads_disturbs_nobody(stage: Stage, processes: tuple[int, int]) -> None:
    stalled = []
    for _ in range(10):
        raw = await RawSocket.open(stage, receive_buffer=1024)
        raw.say({"t": "hello"})
        stalled.append(raw)
    others = [await stage.enter(on=pid) for pid in processes]
    for round in range(3):
        for raw in stalled:
            raw.writer.write(raw_frame(WSMsgType.TEXT, json.dumps({"t": "ping", "id": "p" * 64}).encode()) * 100)
        for talk in others:
            async with asyncio.timeout(5):
                reply = await talk.order(stage.sale, f"k{round}")
                await talk.hear_one("order", order=reply["order"], status="confirmed")


@pytest.mark.parametrize("enter", [RawSocket.open, RawSocket.enter], ids=["before hello", "after welcome"])
async def test_control_frames_that_nobody_reads_the_answers_of_take_no_memory_without_end(
    calm: Stage, gateway: Gateway, enter: Callable[..., Any]
) -> None:
    raw = await enter(calm, receive_buffer=1024)
    before = live_memory(gateway)
    flood = raw_frame(WSMsgType.PING, b"x" * 125) * 2000
    try:
        async with asyncio.timeout(20):
            # More than the buffers of both kernels hold.
            for _ in range(200):
                raw.writer.write(flood)
                await raw.writer.drain()
    except (ConnectionError, TimeoutError):
        pass  # cut, or read no further: both bound it
    # The flood is 52 MB, and kept as messages ten times that.
    assert live_memory(gateway) - before < 30_000_000


def live_memory(gateway: Gateway) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in gateway.pids("peakgate live"))


async def test_an_order_before_the_welcome_ends_the_socket_and_changes_nothing(calm: Stage, codec: str) -> None:
    before = await calm.counts()
    talk = await calm.open(calm.api.viewer(), codec=codec)
    await talk.say({"t": "order", "id": "k1", "sale": calm.sale, "sku": "tin", "quantity": 1})
    assert (await talk.said_bye())["code"] == 4014
    assert await calm.counts() == before


async def test_a_fresh_token_is_taken_of_the_same_viewer_only(stage: Stage) -> None:
    mine = {"sub": f"ann-{uuid.uuid4().hex}"}
    talk = await stage.enter(stage.api.viewer(**mine))
    wrong: dict[str, Callable[[], str]] = {
        "somebody else's": stage.api.viewer,
        "another shop's": lambda: stage.api.token(mine["sub"], "viewer", shop="cups"),
        "a host's": lambda: stage.api.token(mine["sub"], "host"),
        "forged": lambda: bad_tokens(stage.api)["forged"],
        "expired": lambda: stage.api.viewer(mine["sub"], exp=int(time.time()) - 60),
        "for other rooms": lambda: stage.api.viewer(mine["sub"], rooms=["room_elsewhere"]),
    }
    for name, token in wrong.items():
        await talk.say({"t": "token", "token": token()})
        told = await talk.hear()
        assert (name, told["t"], told.get("code")) in (
            (name, "error", "forbidden"),
            (name, "error", "unauthorized"),
        ), name
    assert (await talk.order(stage.sale))["outcome"] == "reserved"


async def test_who_does_not_do_in_time_what_is_due_is_let_go(stage: Stage) -> None:
    """Waits of seconds each, all at once."""

    async def says_no_hello() -> None:
        began = time.monotonic()
        bye = await (await stage.open(stage.api.viewer())).said_bye()
        assert (bye["code"], 4.5 < time.monotonic() - began < 9) == (4014, True)

    async def only_sends_broken_frames() -> None:
        talk = await stage.open(stage.api.viewer())
        await talk.ws.send_str("{")
        assert (await talk.said_bye())["code"] == 4014

    async def never_sends_its_request() -> None:
        host, port = stage.gateway.ready["live_url"].removeprefix("ws://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /v1/rooms/{stage.room}/live HTTP/1.1\r\n".encode())
        async with asyncio.timeout(WITHIN_S):
            assert b" 101 " not in await reader.read()
        writer.transport.abort()

    async def lets_its_token_end(talk: Talk) -> None:
        ending = await talk.hear_one("token_ending")
        assert 0 < ending["in_ms"] <= 4000
        assert (await talk.said_bye())["code"] == 4401

    async def brings_a_fresh_token() -> None:
        viewer = f"ann-{uuid.uuid4().hex}"
        talk = await stage.enter(stage.api.viewer(viewer, exp=int(time.time()) + 4))
        same = await stage.enter(stage.api.viewer(viewer, exp=int(time.time()) + 4))
        await talk.hear_one("token_ending")
        await talk.say({"t": "token", "token": stage.api.viewer(viewer)})
        # A socket with the same token and no fresh one ends; this one does not.
        await lets_its_token_end(same)
        assert (await talk.order(stage.sale))["outcome"] == "reserved"
        assert sum(frame["t"] == "token_ending" for frame in talk.heard) == 1

    await asyncio.gather(
        says_no_hello(),
        only_sends_broken_frames(),
        never_sends_its_request(),
        lets_its_token_end(await stage.enter(stage.api.viewer(exp=int(time.time()) + 4))),
        brings_a_fresh_token(),
    )
