"""What the conformance suite cannot see, on the real gateway: handshakes that go wrong, and frames no client sends."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.api import Api, api_of
from tests.support.gateway import Gateway
from tests.support.raw_wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Answered,
    RawWire,
    frame,
    raw_wire,
    request,
    said,
)


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture(scope="module")
def rooms() -> list[str]:
    return []


@pytest.fixture
async def path(api: Api, rooms: list[str]) -> str:
    """One room for all: nothing here changes it."""
    if not rooms:
        rooms.append((await api.room())["room"])
    return f"/v1/rooms/{rooms[0]}/live"


@pytest.fixture
def viewer_token(api: Api) -> str:
    return api.viewer()


@asynccontextmanager
async def welcomed(gateway: Gateway, path: str, token: str) -> AsyncIterator[RawWire]:
    async with raw_wire(gateway.ready["live_url"]) as wire:
        wire.send(request(path, f"Authorization: Bearer {token}"))
        assert (await wire.answer()).status == 101
        wire.send(said({"t": "hello"}))
        await wire.told("snapshot")
        yield wire


async def asked(gateway: Gateway, *parts: bytes) -> Answered:
    async with raw_wire(gateway.ready["live_url"]) as wire:
        wire.send(*parts)
        answer = await wire.answer()
        if answer.status != 101:
            assert await wire.rest() == b"", "and then it is closed"
        return answer


# The request.


async def test_firefox_gets_its_socket(gateway: Gateway, path: str, viewer_token: str) -> None:
    token = f"Authorization: Bearer {viewer_token}"
    assert (await asked(gateway, request(path, token, "Connection: keep-alive, Upgrade"))).status == 101


async def test_frames_right_behind_the_request_are_read(gateway: Gateway, path: str, viewer_token: str) -> None:
    async with raw_wire(gateway.ready["live_url"]) as wire:
        wire.send(request(path, f"Authorization: Bearer {viewer_token}"), said({"t": "hello"}), frame(PING, b"early"))
        assert (await wire.answer()).status == 101
        heard = [await wire.frame() for _ in range(2)]
        assert (PONG, b"early") in heard or await wire.frame() == (PONG, b"early")


async def test_a_request_in_single_bytes_is_read(gateway: Gateway, path: str, viewer_token: str) -> None:
    whole = request(path, f"Authorization: Bearer {viewer_token}")
    async with raw_wire(gateway.ready["live_url"]) as wire:
        for at in range(len(whole)):
            wire.send(whole[at : at + 1])
            await wire.writer.drain()
            await asyncio.sleep(0)
        assert (await wire.answer()).status == 101


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Content-Length: 5",), 400),
        (("Transfer-Encoding: chunked",), 400),
        (("Sec-WebSocket-Version: 8",), 426),
        (("Upgrade: h2c",), 426),
        (("Sec-WebSocket-Key: short",), 400),
        (("Host: a", "Host: b"), 400),
        (("X-Much: " + "x" * 17_000,), 431),
        (tuple(f"X-{at}: x" for at in range(101)), 431),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_a_request_that_is_none_for_a_socket_is_refused_and_closed(
    gateway: Gateway, path: str, viewer_token: str, lines: tuple[str, ...], status: int
) -> None:
    asking = request(path, f"Authorization: Bearer {viewer_token}", *lines)
    # With a body behind it, which nobody reads: the answer has to arrive all the same.
    assert (await asked(gateway, asking, b"hello" * 2_000)).status == status


async def test_another_method_is_refused(gateway: Gateway, path: str) -> None:
    answer = await asked(gateway, f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    assert (answer.status, answer.headers["allow"]) == (405, "GET")


async def test_what_is_not_http_at_all_is_refused(gateway: Gateway) -> None:
    assert (await asked(gateway, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n")).status == 400


async def test_who_says_nothing_that_counts_for_five_seconds_is_cut_or_told_so(gateway: Gateway, path: str) -> None:
    """All at once: each takes its five seconds."""

    async def cut_after(begin: bytes, drop: bytes) -> float:
        """A request that stalls or trickles."""
        async with raw_wire(gateway.ready["live_url"]) as wire:
            began_s = time.monotonic()
            wire.send(begin)
            ended = asyncio.ensure_future(wire.rest())
            while not ended.done():
                if drop:
                    wire.send(drop)
                await asyncio.wait([ended], timeout=0.2)
            assert await ended == b""
            return time.monotonic() - began_s

    async def told_after(pings: int) -> float:
        """A socket without a hello; pings are none."""
        async with raw_wire(gateway.ready["live_url"]) as wire:
            wire.send(request(path))
            assert (await wire.answer()).status == 101
            began_s = time.monotonic()
            for _ in range(pings):
                wire.send(frame(PING, b"still here"))
                await asyncio.sleep(0.25)
            assert await wire.close_code() == 4014
            return time.monotonic() - began_s

    took_s = await asyncio.gather(
        cut_after(b"", b""),
        cut_after(request(path)[:-2], b""),
        cut_after(request(path)[:-2] + b"X-Slow: ", b"x"),
        told_after(0),
        told_after(12),
    )
    assert all(4.5 < one_s < 9 for one_s in took_s), took_s


# Frames.


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ((frame(TEXT, b'{"t":"ping"}', masked=False),), 1002),
        ((frame(PING, b"", masked=False),), 1002),
        ((frame(TEXT, "é".encode()[:1], fin=False), frame(CONTINUATION, b"\x28")), 1007),
        ((frame(TEXT, b'{"t":"ping', fin=False), frame(CONTINUATION, b'"}\xff')), 1007),
        ((frame(TEXT, b'{"t":"ping', fin=False), frame(TEXT, b'"}')), 1002),
        ((frame(BINARY, b"{}"),), 1003),
        ((frame(CLOSE, b"\x03\xee"),), 1002),  # 1006, which is never sent
        ((frame(CLOSE, b"\x03"),), 1002),
        ((frame(CLOSE, b"\x03\xe8\xff"),), 1007),
        ((frame(CLOSE, b"\x03\xe9"),), 1001),
        ((frame(CLOSE, b""),), 1000),
        ((frame(CLOSE, b"\x03\xe8"), frame(CLOSE, b"\x03\xe9")), 1000),
    ],
)
async def test_a_frame_that_breaks_the_protocol_or_ends_it_is_answered_with_its_code(
    gateway: Gateway, path: str, viewer_token: str, sent: tuple[bytes, ...], code: int
) -> None:
    async with welcomed(gateway, path, viewer_token) as wire:
        wire.send(*sent)
        assert await wire.close_code() == code
        wire.send(frame(CLOSE, code.to_bytes(2, "big")))
        assert await wire.rest(2) == b"", "nothing follows the close, and the connection ends with it"


async def test_text_whose_characters_are_cut_over_frames_and_packets_is_read(
    gateway: Gateway, path: str, viewer_token: str
) -> None:
    async with welcomed(gateway, path, viewer_token) as wire:
        name = "抢购🎉é"
        whole = f'{{"t":"ping","id":"{name}"}}'.encode()
        for at in range(len(whole)):
            opcode = CONTINUATION if at else TEXT
            wire.send(frame(opcode, whole[at : at + 1], fin=at == len(whole) - 1), frame(PING, b""))
            await wire.writer.drain()
        assert (await wire.told("pong"))["id"] == name


async def test_what_was_right_before_a_broken_frame_has_its_answer(
    gateway: Gateway, path: str, viewer_token: str
) -> None:
    async with welcomed(gateway, path, viewer_token) as wire:
        key = uuid.uuid4().hex
        wire.send(said({"t": "ping", "id": key}), frame(0x3, b"no such opcode"))
        assert (await wire.told("pong"))["id"] == key
        assert await wire.close_code() == 1002
