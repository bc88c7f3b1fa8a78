"""The peak second: thousands of viewers tap within one second, and every answer they got is checked against the ledger.

    python loadtests/surge.py --up                        a gateway of its own, 10,000 viewers, 1,000 units
    python loadtests/surge.py --url URL --data DIR        a gateway that runs on DIR
    python loadtests/surge.py --up --rate 2000 --codec msgpack --json

Open loop: arrival times are fixed beforehand, and latency counts from the intended time, so that a gateway that stalls
cannot slow its own load down. Ends with 1 when a check fails.
"""

import argparse
import asyncio
import gc
import http.client
import json
import random
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import uvloop
from hdrh.histogram import HdrHistogram
from rich.console import Console
from rich.table import Table

from gateway.client import Host
from gateway.client.codec import codec_named
from gateway.client.local import Ended, free_port, local_gateway, run_peakgate
from loadtests.surge_check import Offer, Told, check_journal, write_journal
from loadtests.surge_crowd import Crowd, Network

SKU = "tin"
PRICE_MINOR = 16_800
# Between the last arrangement and the first tap: everything due is in the agenda by then.
LEAD_S = 1.0
MOST_US = 120_000_000
# Later than this at the 99th percentile, or more of a core than that, and the figures tell of the generator.
LATE_P99_MS = 20.0
BUSY_SHARE = 0.9


class Peakgate(Protocol):
    """A verb of the command on the gateway under load."""

    async def __call__(self, *arguments: str, expect: int | None = 0) -> Ended: ...


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.seed is not None:
        random.seed(arguments.seed)
    raise_file_limit(arguments.viewers + 1000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_surge(arguments))
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        _print(result)
    sys.exit(0 if result["holds"] else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    gateway = parser.add_argument_group("the gateway")
    gateway.add_argument("--up", action="store_true", help="start a gateway of its own in a temporary folder")
    gateway.add_argument("--workers", type=int, default=1, help="live processes of that gateway (default %(default)s)")
    gateway.add_argument("--url", default="http://127.0.0.1:8080", help="a running gateway (default %(default)s)")
    gateway.add_argument("--data", type=Path, help="its data folder, for tokens and the audit (default .peakgate)")
    gateway.add_argument("--shop", default="surge", help="the shop that sells (default %(default)s)")
    load = parser.add_argument_group("the load")
    load.add_argument("--viewers", type=int, default=10_000, help="sockets, one tap each (default %(default)s)")
    load.add_argument("--units", type=int, default=1_000, help="stock (default %(default)s)")
    load.add_argument("--quantity", type=int, default=1, help="units an order (default %(default)s)")
    load.add_argument("--within", type=float, default=1.0, help="all taps at random in so many s (default %(default)s)")
    load.add_argument("--rate", type=float, help="instead: taps a second, evenly spaced")
    load.add_argument("--codec", choices=("json", "msgpack"), default="json", help="default %(default)s")
    network = parser.add_argument_group("the network between, injected on the client's side")
    network.add_argument(
        "--delay-ms",
        type=float,
        nargs=2,
        metavar=("LEAST", "MOST"),
        default=(30.0, 300.0),
        help="each way, uniform (default 30 300)",
    )
    network.add_argument(
        "--cut-share", type=float, default=0.01, help="sockets cut while the reply is on its way (default %(default)s)"
    )
    check = parser.add_argument_group("the check")
    check.add_argument("--deadline", type=float, default=60.0, help="s until all must be through (default %(default)s)")
    check.add_argument(
        "--pause-limit-ms", type=float, default=500.0, help="a pause of another sale (default %(default)s)"
    )
    check.add_argument(
        "--journal", type=Path, help="where what every viewer was told is written (default: a temporary file)"
    )
    check.add_argument("--seed", type=int, help="of arrival times, delays and cuts")
    check.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


async def _surge(arguments: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        url, peakgate = arguments.url, peakgate_on(arguments.data)
        if arguments.up:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peakgate-surge-")))
            _say("starting a gateway")
            options = ["--workers", str(arguments.workers)]
            gateway = await stack.enter_async_context(local_gateway(data, port=free_port(), options=options))
            url, peakgate = gateway.url, gateway.run
        _say("preparing the shop and the tokens")
        token = ["token", "--shop", arguments.shop]
        host_token = (await peakgate(*token, "--sub", "host", "--role", "host")).out.strip()
        count = ["--count", str(arguments.viewers)]
        printed = (await peakgate(*token, "--sub", "viewer", "--role", "viewer", *count)).out.split()
        tokens = {f"viewer-{number}": token for number, token in enumerate(printed, start=1)}
        host = await stack.enter_async_context(Host(url, host_token, insist_s=20.0))
        result = await _run(arguments, url, host, host_token, tokens)
        audit = await peakgate("audit", "--json", expect=None)
        broken = [] if audit.status == 0 else [audit.out[-2000:] or audit.last_words]
        result["checks"].append(
            {"check": "the audit holds", "holds": not broken, "broken": len(broken), "examples": broken}
        )
        result["holds"] = all(check["holds"] for check in result["checks"])
        return result


def peakgate_on(data: Path | None) -> Peakgate:
    async def peakgate(*arguments: str, expect: int | None = 0) -> Ended:
        return await run_peakgate([*arguments, *(["--data", str(data)] if data else [])], expect=expect)

    return peakgate


async def _run(
    arguments: argparse.Namespace, url: str, host: Host, host_token: str, tokens: dict[str, str]
) -> dict[str, Any]:
    room = await host.create_room("surge")
    await host.start_room(room.room)
    sale = await _create_sale(host, room.room, stock=arguments.units, limit=arguments.quantity)
    other = await _create_sale(host, room.room, stock=10, limit=1)
    await host.open_sale(other)
    least_ms, most_ms = arguments.delay_ms
    crowd = Crowd(
        live_url=room.live_url,
        sale=sale,
        sku=SKU,
        quantity=arguments.quantity,
        codec=codec_named(arguments.codec),
        network=Network(least_delay_s=least_ms / 1000, most_delay_s=most_ms / 1000, cut_share=arguments.cut_share),
        tokens=tokens,
    )
    _say(f"connecting {arguments.viewers:,} viewers")
    began_s = time.perf_counter()
    await crowd.enter()
    connected_s = time.perf_counter() - began_s
    await host.open_sale(sale)

    # Stalls of the generator's own collector would look like the gateway's.
    gc.collect()
    gc.freeze()
    gc.disable()
    offsets_s, over_s = _arrivals(arguments)
    pause = _Pause(url, other, host_token, after_s=LEAD_S + over_s / 2)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    pause.start()
    start_s = crowd.start(offsets_s, lead_s=LEAD_S)
    _say(f"{arguments.viewers:,} taps in {over_s:g} s")
    through = await crowd.through(within_s=LEAD_S + over_s + arguments.deadline)
    busy = (time.process_time() - cpu_s) / (time.perf_counter() - wall_s - LEAD_S)
    gc.enable()
    await asyncio.to_thread(pause.join)
    await crowd.leave()

    journal = [
        Told(
            sub=shopper.sub,
            key=shopper.key,
            intended_s=round(shopper.intended_s - start_s, 6),
            answer=shopper.answer,
            cuts=shopper.cuts,
            events=shopper.told,
        )
        for shopper in crowd.shoppers
    ]
    path = arguments.journal or Path(tempfile.mkstemp(prefix="peakgate-surge-", suffix=".jsonl")[1])
    write_journal(path, journal)
    _say("checking every answer against the ledger")
    offer = Offer(sale=sale, sku=SKU, stock=arguments.units, price_minor=PRICE_MINOR, quantity=arguments.quantity)
    verdict = await check_journal(journal, offer, url=url, host=host, tokens=tokens)
    limit_ms = arguments.pause_limit_ms
    verdict.check(
        f"a pause of another sale in the middle is answered in {limit_ms:g} ms",
        [] if pause.error is None and pause.took_ms <= limit_ms else [pause.error or f"{pause.took_ms:.0f} ms"],
    )
    verdict.check(
        "all were through in time", [] if through else [f"not within {arguments.deadline:g} s of the last tap"]
    )
    return {
        "holds": verdict.holds,
        "conditions": {
            "viewers": arguments.viewers,
            "units": arguments.units,
            "quantity": arguments.quantity,
            "arrivals": f"{arguments.rate:g}/s" if arguments.rate else f"at random within {arguments.within:g} s",
            "delay_ms_each_way": [least_ms, most_ms],
            "cut_share": arguments.cut_share,
            "codec": arguments.codec,
            "connected_in_s": round(connected_s, 2),
        },
        "answers": dict(Counter(shopper.answer or "none" for shopper in crowd.shoppers)),
        "cuts": sum(shopper.cuts for shopper in crowd.shoppers),
        "reconnects": crowd.reconnects,
        "to_answer_ms": _latency(s.answered_s - s.intended_s for s in crowd.shoppers if s.answered_s is not None),
        "to_confirmed_ms": _latency(s.confirmed_s - s.intended_s for s in crowd.shoppers if s.confirmed_s is not None),
        "pause_ms": round(pause.took_ms, 1),
        "generator": _generator(crowd, busy),
        "journal": str(path),
        "checks": verdict.as_json(),
    }


async def _create_sale(host: Host, room: str, *, stock: int, limit: int) -> str:
    now = datetime.now(UTC)
    item = {"sku": SKU, "title": "Tin", "price_minor": PRICE_MINOR, "stock": stock, "limit_per_viewer": limit}
    sale = await host.create_sale(
        title="surge",
        room=room,
        currency="CNY",
        opens_at=(now + timedelta(days=1)).isoformat(),
        closes_at=(now + timedelta(days=2)).isoformat(),
        items=[item],
    )
    return sale.sale


def _arrivals(arguments: argparse.Namespace) -> tuple[list[float], float]:
    """Each viewer's offset from the start, and how long it all takes."""
    if arguments.rate:
        return [number / arguments.rate for number in range(arguments.viewers)], arguments.viewers / arguments.rate
    return [random.uniform(0.0, arguments.within) for _ in range(arguments.viewers)], arguments.within


class _Pause(threading.Thread):
    """A host pauses another sale in the middle of it all; from a thread, so that the crowd's work does not delay it."""

    def __init__(self, url: str, sale: str, token: str, *, after_s: float) -> None:
        super().__init__(daemon=True)
        self._address = urlsplit(url).netloc
        self._path = f"/v1/sales/{sale}/pause"
        self._headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": f"pause-{sale}"}
        self._after_s = after_s
        self.took_ms = float("inf")
        self.error: str | None = None

    def run(self) -> None:
        time.sleep(self._after_s)
        began_s = time.perf_counter()
        try:
            connection = http.client.HTTPConnection(self._address, timeout=30)
            connection.request("POST", self._path, headers=self._headers)
            answer = connection.getresponse()
            body = answer.read()
            self.took_ms = (time.perf_counter() - began_s) * 1000
            if answer.status != 200 or json.loads(body)["state"] != "paused":
                self.error = f"{answer.status} {body[:300]!r}"
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            self.error = repr(error)


def _latency(values_s: Any) -> dict[str, float] | None:
    histogram = HdrHistogram(1, MOST_US, 3)
    for value_s in values_s:
        histogram.record_value(max(1, min(MOST_US, round(value_s * 1_000_000))))
    if not histogram.get_total_count():
        return None
    figures = {f"p{p:g}": histogram.get_value_at_percentile(p) / 1000 for p in (50, 99, 99.9)}
    return {"count": histogram.get_total_count(), **figures, "max": histogram.get_max_value() / 1000}


def _generator(crowd: Crowd, busy: float) -> dict[str, Any]:
    late_ms = sorted(shopper.late_s * 1000 for shopper in crowd.shoppers)
    p99_ms = late_ms[int(len(late_ms) * 0.99)]
    return {
        "late_p99_ms": round(p99_ms, 2),
        "late_max_ms": round(late_ms[-1], 2),
        "share_of_a_core": round(busy, 2),
        "was_the_bottleneck": p99_ms > LATE_P99_MS or busy > BUSY_SHARE,
    }


def raise_file_limit(wanted: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        try:
            # Inherited by a gateway started here, which needs as many.
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
        except (ValueError, OSError):
            sys.exit(f"{wanted} open files are needed, {hard} are allowed: ulimit -n {wanted}")


def _say(what: str) -> None:
    print(f"surge: {what} ...", file=sys.stderr, flush=True)


def _print(result: dict[str, Any]) -> None:
    console = Console(highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in result["conditions"].items()), soft_wrap=True)
    table = Table("from the intended tap", "count", "p50", "p99", "p99.9", "max")
    for title, name in (("to the true answer", "to_answer_ms"), ("to confirmed", "to_confirmed_ms")):
        figures = result[name]
        if figures is not None:
            cells = (f"{figures[column]:.0f} ms" for column in ("p50", "p99", "p99.9", "max"))
            table.add_row(title, f"{figures['count']:,}", *cells)
    console.print(table)
    console.print(
        f"answers {result['answers']}, {result['cuts']} sockets cut, {result['reconnects']} reconnects, "
        f"pause of another sale {result['pause_ms']} ms",
        soft_wrap=True,
    )
    generator = result["generator"]
    console.print(
        f"generator: sends late by p99 {generator['late_p99_ms']} ms, max {generator['late_max_ms']} ms, "
        f"{generator['share_of_a_core']} of a core"
    )
    if generator["was_the_bottleneck"]:
        console.print("The generator itself was the bottleneck: these latencies are partly its own.", style="yellow")
    for check in result["checks"]:
        console.print(f"  {'holds ' if check['holds'] else 'BROKEN'} {check['check']}", soft_wrap=True)
        for example in check["examples"]:
            console.print(f"         {example}", soft_wrap=True, markup=False)
    console.print(f"journal: {result['journal']}", soft_wrap=True)
    console.print("Every answer was true." if result["holds"] else "NOT every answer was true.")


if __name__ == "__main__":
    main()
