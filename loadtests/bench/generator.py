"""The load generator: one process, many sockets, the same code whatever answers at the other end.

It reads one JSON `Load` from its first line of input, connects all sockets, prints `{"connected": N}`, waits for a
line, sends orders, and prints one JSON `Outcome`.

* closed loop: each socket keeps `in_flight` orders outstanding and sends the next when one is *confirmed*;
* open loop: orders leave at fixed instants, whatever came back, and latency counts from the instant an order was due,
  so that a stall of the server (or of this process) is in the figures instead of hidden by them.

Only an answer that stands for a committed row counts as confirmed: for a rival the reply with outcome `confirmed`, for
Peakgate the later frame `order` with status `confirmed`. The generator shares its machine with the servers, so it is
built to be cheap: one callback a frame, no task a message, frames cut from a prepared beginning and end.
"""

import asyncio
import contextlib
import gc
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import uvloop
from hdrh.histogram import HdrHistogram
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, WSUpgradeResponse, ws_connect

CONNECTING_AT_ONCE = 50
"""Handshakes in flight: enough to connect 500 sockets within a second, few enough for any accept backlog."""
HANDSHAKE_TIMEOUT_S = 30.0
LOWEST_US, HIGHEST_US, DIGITS = 1, 120_000_000, 3
REFUSED_PAUSE_S = 0.005
"""How long a closed-loop slot rests after a refusal that names no time, so that refusals do not become a busy loop."""
PACE_S = 0.001
"""How often the open loop looks for orders that are due: the finest timer the loop has."""

NO_ORDER = -1


class Load(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What to send where."""

    urls: list[str]
    dialect: Literal["rival", "peakgate"]
    sale: str
    sku: str
    run: str
    """The first part of every idempotency key of this run: keys of two runs never meet."""
    sockets: int = 500
    in_flight: int = 1
    rate: float | None = None
    """Orders a second in open loop; closed loop without it."""
    warm_up_s: float = 1.5
    measure_s: float = 5.0
    drain_s: float = 15.0
    """How long to wait, after the last order left, for answers still missing."""
    amount_minor: int | None = None
    tokens: str | None = None
    """A file with one token a line, one a socket."""
    journal: str | None = None
    """A file for what became of each order of the run, for comparison with the ledger afterwards."""
    idle: bool = False
    """Connect, say hello, and hold the sockets until the next line of input; no orders."""


class Latency(msgspec.Struct, kw_only=True):
    """Milliseconds from the intended send to the answer."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    histogram: str
    """The whole HDR histogram (microseconds), encoded, so that rounds can be added up."""


class Outcome(msgspec.Struct, kw_only=True):
    """What the generator saw. Rates and latencies are those of the measured span, counts those of the whole run."""

    measured_s: float
    confirmed_per_s: float
    reserved_per_s: float
    confirmed_latency_ms: Latency
    reserved_latency_ms: Latency
    confirmed_total: int
    sent_total: int
    refused: dict[str, int]
    unanswered: int
    unconfirmed: int
    """Told `reserved`, not told anything later."""
    disconnected: int
    cpu_us_per_order: float
    """CPU of this process an order, over the whole run."""
    cpu_share: float
    """Share of one core that this process used."""
    late_p99_ms: float
    """Open loop: how late orders left, 99th percentile; above a few milliseconds the generator itself was starved."""
    other_frames: int
    """Frames that were no answer to an order (ticks, snapshots), received and skipped."""
    seconds: dict[str, list[int]]
    """Confirmed and refused answers in each second since the start."""


class Fate(msgspec.Struct, array_like=True, gc=False):
    """One line of the journal: times in milliseconds since the start, None for what never came."""

    key: str
    sent_ms: float
    reserved_ms: float | None = None
    confirmed_ms: float | None = None
    refused_ms: float | None = None
    outcome: str = ""
    order: str = ""


class Answer(msgspec.Struct, gc=False):
    """The fields of all frames that can answer an order; everything else in a frame is skipped unread."""

    t: str
    id: str = ""
    outcome: str = ""
    order: str = ""
    status: str = ""
    code: str | int = ""
    """A word in `error`, a number in `bye`."""
    retry_after_ms: int | None = None


_decode = msgspec.json.Decoder(Answer).decode
_now = time.perf_counter_ns


class Tally:
    """What all sockets counted together, and the closed loop's question whether to go on."""

    def __init__(self, *, journal: bool) -> None:
        self.started_ns = 0
        self.from_ns = 0
        self.until_ns = 0
        self.sending = False
        self.sent = 0
        self.confirmed = 0
        self.confirmed_in_span = 0
        self.reserved_in_span = 0
        self.confirmed_us: list[int] = []
        self.reserved_us: list[int] = []
        self.late_us: list[int] = []
        self.refused: Counter[str] = Counter()
        self.disconnected = 0
        self.other_frames = 0
        self.confirmed_by_second: Counter[int] = Counter()
        self.refused_by_second: Counter[int] = Counter()
        self.fates: dict[str, Fate] | None = {} if journal else None

    def ms(self, at_ns: int) -> float:
        return (at_ns - self.started_ns) / 1e6


class Shopper(WSListener):
    """One viewer's socket. Latency is kept by what is asked for; open loop by when the order was due."""

    def __init__(self, *, load: Load, tally: Tally, number: int, hello: bytes | None) -> None:
        self._tally = tally
        self._open_loop = load.rate is not None
        self._peakgate = load.dialect == "peakgate"
        self._hello = hello
        self._prefix = f"{load.run}-{number:x}-"
        self._head = b'{"t":"order","id":"'
        amount = "" if load.amount_minor is None else f',"expect_amount_minor":{load.amount_minor}'
        self._tail = f'","sale":"{load.sale}","sku":"{load.sku}","quantity":1{amount}}}'.encode()
        self._next = 0
        self._transport: WSTransport | None = None
        self.pending: dict[str, int] = {}
        """Key to the intended instant, until the first answer."""
        self.unconfirmed: dict[str, tuple[str, int]] = {}
        """Order id to key and intended instant, between `reserved` and its confirmation."""
        self._early: set[str] = set()
        self.welcomed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        if self._hello is None:
            self.welcomed.set_result(None)
        else:
            transport.send(WSMsgType.TEXT, self._hello)

    def send_order(self, intended_ns: int) -> None:
        transport = self._transport
        if transport is None:
            self._tally.refused["not_connected"] += 1
            return
        number = self._next
        self._next = number + 1
        key = f"{self._prefix}{number:x}"
        self.pending[key] = intended_ns
        tally = self._tally
        tally.sent += 1
        if tally.fates is not None:
            tally.fates[key] = Fate(key, tally.ms(intended_ns))
        transport.send(WSMsgType.TEXT, self._head + key.encode() + self._tail)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type is not WSMsgType.TEXT:
            if frame.msg_type is WSMsgType.CLOSE:
                transport.disconnect()
            return
        answer = _decode(frame.get_payload_as_memoryview())
        match answer.t:
            case "reply":
                self._on_reply(answer)
            case "order":
                self._on_state(answer)
            case "error":
                if answer.id:
                    self._on_refusal(answer, str(answer.code))
                else:
                    self._tally.refused[f"error:{answer.code}"] += 1
            case "welcome":
                if not self.welcomed.done():
                    self.welcomed.set_result(None)
            case _:
                self._tally.other_frames += 1

    def _on_reply(self, answer: Answer) -> None:
        if answer.outcome == "confirmed":
            intended_ns = self.pending.pop(answer.id, NO_ORDER)
            if intended_ns != NO_ORDER:
                self._on_confirmed(answer.id, answer.order, intended_ns)
        elif answer.outcome == "reserved" and self._peakgate:
            self._on_reserved(answer)
        else:
            self._on_refusal(answer, answer.outcome)

    def _on_reserved(self, answer: Answer) -> None:
        intended_ns = self.pending.pop(answer.id, NO_ORDER)
        if intended_ns == NO_ORDER:
            return
        now, tally = _now(), self._tally
        if tally.from_ns <= (intended_ns if self._open_loop else now) < tally.until_ns:
            tally.reserved_in_span += 1
            tally.reserved_us.append((now - intended_ns) // 1000)
        if tally.fates is not None:
            fate = tally.fates[answer.id]
            fate.reserved_ms, fate.order, fate.outcome = tally.ms(now), answer.order, "reserved"
        if answer.order in self._early:
            self._early.discard(answer.order)
            self._on_confirmed(answer.id, answer.order, intended_ns)
        else:
            self.unconfirmed[answer.order] = (answer.id, intended_ns)

    def _on_state(self, answer: Answer) -> None:
        waiting = self.unconfirmed.pop(answer.order, None)
        if waiting is None:
            # The confirmation overtook the reply: both are counted when the reply is here.
            if answer.status == "confirmed":
                self._early.add(answer.order)
            return
        key, intended_ns = waiting
        if answer.status == "confirmed":
            self._on_confirmed(key, answer.order, intended_ns)
        else:
            answer.id = key
            self._on_refusal(answer, answer.status)

    def _on_confirmed(self, key: str, order: str, intended_ns: int) -> None:
        now, tally = _now(), self._tally
        tally.confirmed += 1
        if tally.from_ns <= (intended_ns if self._open_loop else now) < tally.until_ns:
            tally.confirmed_in_span += 1
            tally.confirmed_us.append((now - intended_ns) // 1000)
        tally.confirmed_by_second[(now - tally.started_ns) // 1_000_000_000] += 1
        if tally.fates is not None:
            fate = tally.fates[key]
            fate.confirmed_ms, fate.order, fate.outcome = tally.ms(now), order, "confirmed"
        if tally.sending and not self._open_loop:
            self.send_order(now)

    def _on_refusal(self, answer: Answer, outcome: str) -> None:
        self.pending.pop(answer.id, None)
        now, tally = _now(), self._tally
        tally.refused[outcome] += 1
        tally.refused_by_second[(now - tally.started_ns) // 1_000_000_000] += 1
        if tally.fates is not None and answer.id in tally.fates:
            fate = tally.fates[answer.id]
            fate.refused_ms, fate.outcome = tally.ms(now), outcome
        if tally.sending and not self._open_loop:
            pause_s = max((answer.retry_after_ms or 0) / 1000, REFUSED_PAUSE_S)
            asyncio.get_running_loop().call_later(pause_s, self._send_again)

    def _send_again(self) -> None:
        if self._tally.sending:
            self.send_order(_now())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._transport = None
        self._tally.disconnected += 1
        if not self.welcomed.done():
            self.welcomed.set_exception(ConnectionError("the socket ended before its welcome"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.disconnect()


async def _connect(load: Load, tally: Tally) -> list[Shopper]:
    tokens: list[str] = []
    if load.tokens:
        tokens = (await asyncio.to_thread(Path(load.tokens).read_text)).split()
        if len(tokens) < load.sockets:
            raise ValueError(f"{len(tokens)} tokens for {load.sockets} sockets")
    slots = asyncio.Semaphore(CONNECTING_AT_ONCE)
    headers = {"Sec-WebSocket-Protocol": "peakgate.v1.json"} if load.dialect == "peakgate" else None

    async def connect_one(number: int) -> Shopper:
        hello = msgspec.json.encode({"t": "hello", "token": tokens[number]}) if tokens else None
        url = load.urls[number % len(load.urls)]
        if load.dialect == "rival":
            url = f"{url}/{load.run}-{number:x}"

        def shopper(_request: WSUpgradeRequest, _response: WSUpgradeResponse) -> Shopper:
            return Shopper(load=load, tally=tally, number=number, hello=hello)

        async with slots:
            _, listener = await ws_connect(
                shopper, url, extra_headers=headers, websocket_handshake_timeout=HANDSHAKE_TIMEOUT_S
            )
            assert isinstance(listener, Shopper)
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await listener.welcomed
            return listener

    return list(await asyncio.gather(*(connect_one(number) for number in range(load.sockets))))


async def _open_loop(load: Load, tally: Tally, shoppers: list[Shopper]) -> None:
    """Send at fixed instants until the measured span ends; sockets take turns."""
    assert load.rate is not None
    step_ns = 1e9 / load.rate
    number, count = 0, len(shoppers)
    while True:
        now = _now()
        while (due_ns := tally.started_ns + int(number * step_ns)) <= now:
            if due_ns >= tally.until_ns:
                return
            tally.late_us.append((now - due_ns) // 1000)
            shoppers[number % count].send_order(due_ns)
            number += 1
        await asyncio.sleep(PACE_S)


async def _drain(load: Load, shoppers: list[Shopper]) -> None:
    deadline = time.monotonic() + load.drain_s
    while any(shopper.pending or shopper.unconfirmed for shopper in shoppers):
        if time.monotonic() > deadline:
            return
        await asyncio.sleep(0.02)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def latency(values_us: list[int]) -> Latency:
    histogram = HdrHistogram(LOWEST_US, HIGHEST_US, DIGITS)
    for value, count in Counter(values_us).items():
        histogram.record_value(min(max(value, LOWEST_US), HIGHEST_US), count)
    return summary(histogram)


def summary(histogram: HdrHistogram) -> Latency:
    def at(percentile: float) -> float:
        return float(histogram.get_value_at_percentile(percentile)) / 1000 if histogram.total_count else 0.0

    return Latency(
        count=histogram.total_count,
        p50=at(50),
        p90=at(90),
        p99=at(99),
        p999=at(99.9),
        max=at(100),
        histogram=histogram.encode().decode(),
    )


def _outcome(load: Load, tally: Tally, shoppers: list[Shopper], *, cpu_s: float, wall_s: float) -> Outcome:
    span_s = (tally.until_ns - tally.from_ns) / 1e9
    last = max([*tally.confirmed_by_second, *tally.refused_by_second, 0])
    late = sorted(tally.late_us)
    return Outcome(
        measured_s=span_s,
        confirmed_per_s=tally.confirmed_in_span / span_s,
        reserved_per_s=tally.reserved_in_span / span_s,
        confirmed_latency_ms=latency(tally.confirmed_us),
        reserved_latency_ms=latency(tally.reserved_us),
        confirmed_total=tally.confirmed,
        sent_total=tally.sent,
        refused=dict(tally.refused),
        unanswered=sum(len(s.pending) for s in shoppers),
        unconfirmed=sum(len(s.unconfirmed) for s in shoppers),
        disconnected=tally.disconnected,
        cpu_us_per_order=cpu_s * 1e6 / max(tally.sent, 1),
        cpu_share=cpu_s / wall_s,
        late_p99_ms=late[len(late) * 99 // 100] / 1000 if late else 0.0,
        other_frames=tally.other_frames,
        seconds={
            "confirmed": [tally.confirmed_by_second[second] for second in range(last + 1)],
            "refused": [tally.refused_by_second[second] for second in range(last + 1)],
        },
    )


def _write_journal(path: str, fates: dict[str, Fate]) -> None:
    with Path(path).open("wb") as file:
        file.writelines(msgspec.json.encode(fate) + b"\n" for fate in fates.values())


async def run(load: Load, *, wait_for_line: Callable[[], str]) -> Outcome | None:
    """Drive one load; returns None for an idle one."""
    tally = Tally(journal=load.journal is not None)
    shoppers = await _connect(load, tally)
    gc.collect()
    gc.freeze()
    print(msgspec.json.encode({"connected": len(shoppers)}).decode(), flush=True)
    await asyncio.to_thread(wait_for_line)
    if load.idle:
        return None
    cpu_s = _cpu_s()
    tally.started_ns = _now()
    tally.from_ns = tally.started_ns + int(load.warm_up_s * 1e9)
    tally.until_ns = tally.from_ns + int(load.measure_s * 1e9)
    tally.sending = True
    if load.rate is not None:
        await _open_loop(load, tally, shoppers)
    else:
        for shopper in shoppers:
            for _ in range(load.in_flight):
                shopper.send_order(_now())
        await asyncio.sleep(load.warm_up_s + load.measure_s)
    tally.sending = False
    await _drain(load, shoppers)
    wall_s = (_now() - tally.started_ns) / 1e9
    cpu_s = _cpu_s() - cpu_s
    outcome = _outcome(load, tally, shoppers, cpu_s=cpu_s, wall_s=wall_s)
    for shopper in shoppers:
        shopper.close()
    if load.journal is not None and tally.fates is not None:
        await asyncio.to_thread(_write_journal, load.journal, tally.fates)
    return outcome


def main() -> None:
    load = msgspec.json.decode(sys.stdin.readline(), type=Load)
    gc.disable()  # Nothing here makes cycles worth the pauses that a collection puts into the latencies.
    with contextlib.suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(run(load, wait_for_line=sys.stdin.readline))
        if outcome is not None:
            print(msgspec.json.encode(outcome).decode(), flush=True)


if __name__ == "__main__":
    main()
