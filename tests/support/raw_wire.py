"""A client's end of a live socket by hand: every byte is the test's own."""

import asyncio
import base64
import json
import os
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
WITHIN_S = 10.0


@dataclass(frozen=True)
class Answered:
    status: int
    headers: Mapping[str, str]
    body: bytes


class RawWire:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    async def answer(self) -> Answered:
        async with asyncio.timeout(WITHIN_S):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head[:-4].split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return Answered(int(first.split()[1]), headers, body)

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(WITHIN_S):
            first, second = await self._reader.readexactly(2)
            assert first & 0x80 and not second & 0x80, "a server's frames are whole and not masked"
            size = second
            if size == 126:
                (size,) = struct.unpack(">H", await self._reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack(">Q", await self._reader.readexactly(8))
            return first & 0x0F, await self._reader.readexactly(size)

    async def told(self, kind: str) -> dict[str, Any]:
        """The next frame of this type; frames of others are passed over."""
        while True:
            opcode, payload = await self.frame()
            if opcode == TEXT and json.loads(payload)["t"] == kind:
                told: dict[str, Any] = json.loads(payload)
                return told
            assert opcode != CLOSE, payload

    async def close_code(self) -> int:
        """Of the close frame; whatever comes before it is passed over."""
        while True:
            opcode, payload = await self.frame()
            if opcode == CLOSE:
                return int.from_bytes(payload[:2], "big")

    async def rest(self, within_s: float = WITHIN_S) -> bytes:
        """All that comes until the other end closes; a reset is an end too."""
        async with asyncio.timeout(within_s):
            try:
                return await self._reader.read()
            except ConnectionError:
                return b""


@asynccontextmanager
async def raw_wire(url: str) -> AsyncIterator[RawWire]:
    """Connected to the host and port of `url`."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield RawWire(reader, writer)
    finally:
        writer.transport.abort()


def request(path: str, *more: str, without: tuple[str, ...] = ()) -> bytes:
    """A request for a socket; `more` are header lines, which stand in for those of the same name."""
    headers = {
        "Host": "live.test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    for name in (*without, *(line.partition(":")[0] for line in more)):
        headers.pop(name, None)
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def frame(opcode: int, payload: bytes, *, fin: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    head = bytearray([(0x80 if fin else 0) | reserved << 4 | opcode])
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head.append(flag | len(payload))
    elif len(payload) < 0x1_0000:
        head += bytes([flag | 126]) + struct.pack(">H", len(payload))
    else:
        head += bytes([flag | 127]) + struct.pack(">Q", len(payload))
    if not masked:
        return bytes(head) + payload
    mask = os.urandom(4)
    return bytes(head) + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


def said(frame_of: Mapping[str, Any]) -> bytes:
    return frame(TEXT, json.dumps(frame_of).encode())
