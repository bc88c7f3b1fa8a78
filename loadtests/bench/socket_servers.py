"""What a WebSocket costs its server: the gateway's own, picows and aiohttp with the same echo.

Each server is a process of its own on a core of its own, on the same loop; the client's raw sockets are on the other
core. A round takes the servers in turn, each started anew: connections come in and stay idle, then some of them echo.
What the three are worth by RFC 6455 is `make conformance ARGS=--beside`, with the same echoes.

`python -m loadtests.bench.socket_servers NAME` is such a process: it prints `{"port": P}` and ends with SIGTERM.
"""

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass

import msgspec
import psutil
import uvloop

from loadtests.conformance.echo import HOST, SERVERS

from .bench import Bench
from .drive import DriveError, read_line, running
from .room_load import OTHERS_CPU, SERVER_CPU, cpu_s, pin_everybody_else, pin_process, this_process_on
from .room_wire import TEXT, upgrade
from .servers import python_module

PART, OURS = "socket_servers", "peakgate"
CONNECTIONS, QUICK_CONNECTIONS = 2_000, 500
JOINING_AT_ONCE = 50
ECHOING, IN_FLIGHT = 400, 50
"""The gateway lets nobody send more than some 200 frames a second, so many sockets take turns."""
PAYLOAD_BYTES = 200
ECHOES, QUICK_ECHOES = 20_000, 5_000
ROUND_TRIPS, QUICK_ROUND_TRIPS = 4_000, 1_000
SETTLE_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """One server in one round."""

    idle_bytes: float
    join_cpu_us: float
    echo_cpu_us: float
    round_trip_p50_us: float
    round_trip_p99_us: float


_UNITS = {
    "idle_bytes": "bytes a connection",
    "join_cpu_us": "us a join",
    "echo_cpu_us": "us an echo",
    "round_trip_p50_us": "us",
    "round_trip_p99_us": "us",
}


async def socket_servers(bench: Bench) -> None:
    names = list(SERVERS)
    await pin_everybody_else(bench.servers)
    with this_process_on(OTHERS_CPU):
        for number in range(bench.rounds):
            # Nobody is always the first behind what the machine did before.
            for name in names[number % len(names) :] + names[: number % len(names)]:
                cost = await _measure(name, quick=bench.quick)
                for figure, unit in _UNITS.items():
                    bench.report.add(
                        part=PART, way=name, name=figure, unit=unit, value=getattr(cost, figure), conditions={}
                    )
    for figure in _UNITS:
        bench.report.compare(PART, figure, ours=[OURS])
    bench.report.show(PART, f"an echo of {PAYLOAD_BYTES} bytes on three socket servers")


async def _measure(name: str, *, quick: bool) -> Cost:
    async with running(python_module("socket_servers", name), None) as process:
        port = msgspec.json.decode(await read_line(process, name))["port"]
        pin_process(process.pid, SERVER_CPU)
        return await asyncio.to_thread(_ask, process.pid, port, quick)


def _ask(pid: int, port: int, quick: bool) -> Cost:
    count = QUICK_CONNECTIONS if quick else CONNECTIONS
    echoes = QUICK_ECHOES if quick else ECHOES
    process = psutil.Process(pid)
    with contextlib.ExitStack() as stack:
        # The first pay for what the server makes once.
        echoing = _join(stack, port, ECHOING)
        _echo(echoing, 5 * ECHOING)
        time.sleep(SETTLE_S)
        resident, spent_s = process.memory_info().rss, cpu_s(pid)
        _join(stack, port, count)
        join_s = cpu_s(pid) - spent_s
        time.sleep(SETTLE_S)
        idle_bytes = process.memory_info().rss - resident
        spent_s = cpu_s(pid)
        _echo(echoing, echoes)
        echo_s = cpu_s(pid) - spent_s
        took_us = sorted(_round_trips(echoing, QUICK_ROUND_TRIPS if quick else ROUND_TRIPS))
    return Cost(
        idle_bytes=idle_bytes / count,
        join_cpu_us=join_s * 1e6 / count,
        echo_cpu_us=echo_s * 1e6 / echoes,
        round_trip_p50_us=took_us[len(took_us) // 2],
        round_trip_p99_us=took_us[len(took_us) * 99 // 100],
    )


# The client's end: blocking, because a loop of its own would cost more than what is measured.


def _join(stack: contextlib.ExitStack, port: int, count: int) -> list[socket.socket]:
    asks = upgrade("/", subprotocol=None, token=None)
    joined: list[socket.socket] = []
    while len(joined) < count:
        coming = []
        for _ in range(min(JOINING_AT_ONCE, count - len(joined))):
            sock = stack.enter_context(socket.create_connection((HOST, port), timeout=10))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.sendall(asks)
            coming.append(sock)
        for sock in coming:
            answer = b""
            while not answer.endswith(b"\r\n\r\n"):
                if not (data := sock.recv(4096)):
                    raise DriveError(f"no socket after {len(joined):,}: {answer!r}")
                answer += data
            if b" 101 " not in answer.partition(b"\r\n")[0]:
                raise DriveError(f"no socket after {len(joined):,}: {answer!r}")
        joined += coming
    return joined


def _frames() -> tuple[bytes, bytes]:
    """A message as a client masks it, and as a server has to send it back."""
    payload = (b"\xe4\xbd\xa0 hello " * PAYLOAD_BYTES)[:PAYLOAD_BYTES].decode(errors="ignore").encode()
    payload = payload.ljust(PAYLOAD_BYTES, b".")
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    head, size = bytes((0x80 | TEXT,)), PAYLOAD_BYTES.to_bytes(2, "big")
    return head + b"\xfe" + size + mask + masked, head + b"\x7e" + size + payload


def _echo(sockets: list[socket.socket], echoes: int) -> None:
    sent, expected = _frames()
    for number in range(echoes // IN_FLIGHT):
        begin = number * IN_FLIGHT % len(sockets)
        turn = sockets[begin : begin + IN_FLIGHT]
        for sock in turn:
            sock.send(sent)
        for sock in turn:
            _hear(sock, expected)


def _round_trips(sockets: list[socket.socket], count: int) -> list[float]:
    """Microseconds each, with nothing else in flight."""
    sent, expected = _frames()
    took_us = []
    for number in range(count):
        sock = sockets[number % len(sockets)]
        began = time.perf_counter_ns()
        sock.send(sent)
        _hear(sock, expected)
        took_us.append((time.perf_counter_ns() - began) / 1000)
    return took_us


def _hear(sock: socket.socket, expected: bytes) -> None:
    heard = sock.recv(4096)
    while len(heard) < len(expected) and (data := sock.recv(4096)):
        heard += data
    if heard != expected:
        raise DriveError(f"that is no echo: {heard[:80]!r}")


# The server's process.


async def serve(name: str) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    async with SERVERS[name]() as port:
        gc.collect()
        gc.freeze()
        print(msgspec.json.encode({"port": port}).decode(), flush=True)
        await stopped.wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))
