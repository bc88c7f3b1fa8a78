"""A TCP proxy that bends the network, link by link, while everything runs: what stands between two processes.

Each link listens on a loopback port and passes on to a server's Unix socket or port. `FaultProxy` runs all links in a
process of its own (`python -m tests.support.fault_proxy`), so that it works beside a test that is busy or blocked, and
takes orders as JSON lines on its stdin. Memory is bounded: a chunk in each direction a connection.
"""

import asyncio
import contextlib
import json
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Self

CHUNK_BYTES = 1 << 16
# A connection whose other side vanished is not kept for ever: the server behind has only so many.
FORGOTTEN_AFTER_S = 20.0


class Mode(StrEnum):
    PASS = "pass"
    DELAY = "delay"  # every chunk waits `ms`, each way
    SLOW = "slow"  # `bytes_per_s` each way
    CUT = "cut"  # both sides are closed; new connections are closed at once
    RESET = "reset"  # the same by RST, without a farewell
    BLACK_HOLE = "black_hole"  # connections are taken, what is sent is swallowed, nothing comes back
    HALF_OPEN = "half_open"  # for each side the other one vanished without a word; new connections pass
    LOSE_REPLY = "lose_reply"  # requests arrive, the next `count` replies are dropped and their connections reset


@dataclass(frozen=True, slots=True, kw_only=True)
class Bend:
    """What a link does. For lost replies only requests that hold `marker` or have at least `min_bytes` count; with
    `pushes` also what a server sends by itself."""

    mode: Mode = Mode.PASS
    ms: float = 0.0
    bytes_per_s: float = 0.0
    count: int = 1
    marker: str = ""
    min_bytes: int = 0
    pushes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPlan:
    name: str
    port: int
    target: str
    """The path of a Unix socket, or host:port."""


class _Pipe:
    """One connection of a link: a client's side and a server's side."""

    def __init__(self, link: "_Link", client: asyncio.StreamWriter) -> None:
        self.link = link
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.called = False
        self.deaf = False
        """What arrives is swallowed for the rest of this connection's life."""

    def writers(self) -> list[asyncio.StreamWriter]:
        return [self.client] if self.server is None else [self.client, self.server]

    def reset(self) -> None:
        for writer in self.writers():
            sock = writer.get_extra_info("socket")
            if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()

    def cut(self) -> None:
        for writer in self.writers():
            writer.close()


class _Link:
    def __init__(self, plan: LinkPlan) -> None:
        self.plan = plan
        self.bend = Bend()
        self.pipes: set[_Pipe] = set()
        self.to_lose = 0
        self.lost = 0
        self.accepted = 0
        self.healed = asyncio.Event()

    def set(self, bend: Bend) -> None:
        before, self.bend = self.bend.mode, bend
        self.to_lose = bend.count if bend.mode is Mode.LOSE_REPLY else 0
        match bend.mode:
            case Mode.CUT:
                for pipe in tuple(self.pipes):
                    pipe.cut()
            case Mode.RESET:
                for pipe in tuple(self.pipes):
                    pipe.reset()
            case Mode.HALF_OPEN:
                for pipe in self.pipes:
                    pipe.deaf = True
        if before is Mode.BLACK_HOLE and bend.mode is not Mode.BLACK_HOLE:
            # Bytes are missing in the middle of these.
            for pipe in tuple(self.pipes):
                pipe.reset()
        # Whoever waits out a delay of the old mode waits no longer.
        self.healed.set()
        self.healed = asyncio.Event()

    def end(self) -> None:
        for pipe in tuple(self.pipes):
            pipe.deaf = False
            pipe.reset()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        pipe = _Pipe(self, writer)
        if self.bend.mode is Mode.CUT:
            writer.close()
            return
        if self.bend.mode is Mode.RESET:
            pipe.reset()
            return
        self.pipes.add(pipe)
        try:
            await self._serve(pipe, reader)
        except OSError:
            pass
        finally:
            pipe.cut()
            self.pipes.discard(pipe)

    async def _serve(self, pipe: _Pipe, reader: asyncio.StreamReader) -> None:
        if self.bend.mode is Mode.BLACK_HOLE:
            while await reader.read(CHUNK_BYTES):
                pass
            return
        target = self.plan.target
        if target.startswith("/"):
            server_reader, pipe.server = await asyncio.open_unix_connection(target)
        else:
            host, _, port = target.rpartition(":")
            server_reader, pipe.server = await asyncio.open_connection(host, int(port))
        ways = {
            asyncio.ensure_future(self._there(pipe, reader, pipe.server)),
            asyncio.ensure_future(self._back(pipe, server_reader)),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if pipe.deaf:
                # Neither side learns that the other one went.
                await asyncio.wait(ways, timeout=FORGOTTEN_AFTER_S)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _there(self, pipe: _Pipe, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK_BYTES):
            bend = self.bend
            if bend.mode is Mode.LOSE_REPLY and not pipe.called:
                marked = bend.marker.encode() in data if bend.marker else True
                pipe.called = marked and len(data) >= bend.min_bytes
            await self._pass(pipe, data, server)

    async def _back(self, pipe: _Pipe, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if (pipe.called or self.bend.pushes) and self.to_lose > 0:
                self.to_lose -= 1
                self.lost += 1
                pipe.reset()
                return
            pipe.called = False
            await self._pass(pipe, data, pipe.client)

    async def _pass(self, pipe: _Pipe, data: bytes, to: asyncio.StreamWriter) -> None:
        bend = self.bend
        if bend.mode is Mode.DELAY or bend.mode is Mode.SLOW:
            wait_s = bend.ms / 1000 if bend.mode is Mode.DELAY else len(data) / bend.bytes_per_s
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.healed.wait(), wait_s)
        if pipe.deaf or self.bend.mode is Mode.BLACK_HOLE:
            return
        to.write(data)
        await to.drain()


async def serve(plans: Sequence[LinkPlan]) -> None:
    """Runs the links until stdin ends. Each order is a line `{"links": [...], "bend": {...}}`, answered by a line."""
    links = {plan.name: _Link(plan) for plan in plans}
    servers = [
        await asyncio.start_server(link.accept, "127.0.0.1", plan.port, backlog=1024)
        for plan, link in zip(plans, links.values(), strict=True)
    ]
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print(json.dumps({"ready": True}), flush=True)
    while line := await orders.readline():
        order = json.loads(line)
        bend = order.get("bend")
        named = [links[name] for name in order["links"]]
        if bend is not None:
            for link in named:
                link.set(Bend(**{**bend, "mode": Mode(bend["mode"])}))
        told = {
            link.plan.name: {"open": len(link.pipes), "accepted": link.accepted, "lost": link.lost} for link in named
        }
        print(json.dumps(told), flush=True)
    for server in servers:
        server.close()
    for link in links.values():
        link.end()
    # What was cut off ends with the next turns of the loop.
    while any(link.pipes for link in links.values()):  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class FaultProxy:
    """All links of a test, in a process of their own; `async with`."""

    def __init__(self, plans: Sequence[LinkPlan]) -> None:
        self.plans = {plan.name: plan for plan in plans}
        self.bent: dict[str, Bend] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        plans = json.dumps([asdict(plan) for plan in self.plans.values()])
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.support.fault_proxy", plans),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise RuntimeError(f"the fault proxy ended with {await self._process.wait()}")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None and self._process.stdin is not None
        # Its stdin ends with us, and it with its stdin, whatever ended us.
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    async def set(self, links: Sequence[str], bend: Bend) -> None:
        await self._order({"links": list(links), "bend": asdict(bend)})
        for link in links:
            self.bent.pop(link, None)
            if bend.mode is not Mode.PASS:
                self.bent[link] = bend

    async def heal(self) -> None:
        if self.bent:
            await self.set(list(self.bent), Bend())

    async def state(self, links: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        state: Mapping[str, Mapping[str, int]] = await self._order({"links": list(links)})
        return state

    async def _order(self, order: Mapping[str, Any]) -> Any:
        assert self._process is not None and self._process.stdin is not None and self._process.stdout is not None
        async with self._turn:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            await self._process.stdin.drain()
            return json.loads(await self._process.stdout.readline())


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asyncio.run(serve([LinkPlan(**plan) for plan in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
