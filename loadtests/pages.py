"""The viewer's room on a slow phone: what it weighs, when it can be used, and whether many comments freeze it.

    python -m loadtests.pages                           a gateway of its own, a table, pages.json
    python -m loadtests.pages --loads 9 --rates 20 200 --seconds 30
    python -m loadtests.pages --profile pages.cpuprofile --trace pages.trace.json    for the tools of a browser

A look, not a check: the figures are this machine's, and nothing fails by them.
"""

import argparse
import asyncio
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvloop
from playwright.async_api import Browser
from rich.console import Console
from rich.table import Table

from gateway.cli.chat_file import read_chat, shipped_chat
from gateway.cli.demo_goods import CURRENCY, ROOM_NOTICE, ROOM_TITLE, SALE_TITLE, items_of_a_sale
from gateway.cli.demo_people import names
from gateway.client import Host, Viewer
from gateway.client.calls import Calls
from gateway.client.local import LocalGateway, free_port
from loadtests.pages_phone import Load, Phone, Profile, phone
from tests.support.chromium import CHROMIUM, chromium

SHOP = "pages"
TALKERS = 20
# A page gets what is said in ticks some tenths of a second later.
LATE_S = 1.0
TURN_S = 0.05
LONG_FRAME_MS = 50.0
PROFILED = 15
WIDTH = 110
SETTINGS = {
    "PEAKGATE_DEV": "true",
    "PEAKGATE_SANDBOX": "page",
    # Everything said is shown, and each talker may say as much as the rate needs.
    "PEAKGATE_READING_RATE": "0",
    "PEAKGATE_COMMENT_RATE": "1000",
    "PEAKGATE_COMMENT_BURST": "1000",
}


def main() -> None:
    arguments = _parser().parse_args()
    if CHROMIUM is None:
        sys.exit("No Chromium on this machine: make browser")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_measure(arguments))
    arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _print(result)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    phone = Profile()
    parser.add_argument("--loads", type=int, default=7, help="cold loads (default %(default)s)")
    parser.add_argument("--rates", type=int, nargs="*", default=[0, 20, 200], help="comments a second (0 20 200)")
    parser.add_argument("--seconds", type=float, default=10.0, help="at each rate (default %(default)s)")
    parser.add_argument("--processor", type=float, default=phone.processor, help="times slower (default %(default)s)")
    parser.add_argument("--rtt-ms", type=float, default=phone.rtt_ms, help="of the network (default %(default)s)")
    parser.add_argument("--down-kbit", type=float, default=phone.down_kbit, help="default %(default)s")
    parser.add_argument("--up-kbit", type=float, default=phone.up_kbit, help="default %(default)s")
    parser.add_argument("--json", type=Path, default=Path("pages.json"), help="where the figures go (%(default)s)")
    parser.add_argument("--profile", type=Path, help="processor profile at the last rate, also shown in short")
    parser.add_argument("--trace", type=Path, help="trace of one more load")
    return parser


async def _measure(arguments: argparse.Namespace) -> dict[str, Any]:
    profile = Profile(
        processor=arguments.processor,
        rtt_ms=arguments.rtt_ms,
        down_kbit=arguments.down_kbit,
        up_kbit=arguments.up_kbit,
    )
    main = asyncio.current_task()
    assert main is not None
    # Whoever ends this also ends its gateway: what is open below is closed in order.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="peakgate-pages-"))
        load_before = os.getloadavg()[0]
        _say("starting a gateway and a browser")
        gateway = LocalGateway(data=Path(folder), port=free_port(), settings=SETTINGS)
        stack.push_async_callback(gateway.stop)
        await gateway.start()
        browser = await stack.enter_async_context(chromium())
        stage = await Stage.set_up(stack, gateway)
        loads = []
        for number in range(arguments.loads):
            _say(f"cold load {number + 1} of {arguments.loads}")
            loads.append(await _load(browser, profile, await stage.link(f"loader {number}")))
        if arguments.trace:
            await _trace(browser, profile, await stage.link("traced"), arguments.trace)
        rates = []
        async with phone(browser, profile) as opened:
            await opened.load(await stage.link("reader"))
            for rate in arguments.rates:
                _say(f"{rate} comments/s for {arguments.seconds:g} s")
                rates.append(await _frames(opened, stage, rate, arguments.seconds))
            profiled = None
            if arguments.profile:
                profiled = await _profile(opened, stage, arguments.rates[-1], arguments.seconds, arguments.profile)
        return {
            "conditions": {
                "processor": _processor(),
                "cores": os.cpu_count(),
                "load_before": round(load_before, 2),
                "chromium": browser.version,
                "drawn_by": "software, headless",
                "phone": {name: getattr(profile, name) for name in Profile.__slots__},
                "network": "loopback without TLS, slowed by the browser; gateway, browser and talkers on one machine",
                "talkers": TALKERS,
                "reading_rate": "all comments are shown",
            },
            "load": _load_figures(loads),
            "frames": rates,
            "complaints": opened.complaints,
            "profile": profiled,
        }


class Stage:
    """A live room with an open sale, an item that is explained, and people who talk."""

    def __init__(self, gateway: LocalGateway, calls: Calls, room: str) -> None:
        self._gateway = gateway
        self._calls = calls
        self._room = room
        self._talkers: list[Viewer] = []
        self._texts = [line.text for line in read_chat(shipped_chat())]

    @classmethod
    async def set_up(cls, stack: AsyncExitStack, gateway: LocalGateway) -> "Stage":
        token = (await gateway.tokens(shop=SHOP, sub="host", role="host"))[0]
        host = await stack.enter_async_context(Host(gateway.url, token, insist_s=10.0))
        room = await host.create_room(ROOM_TITLE["en"], notice=ROOM_NOTICE["en"])
        await host.start_room(room.room)
        opens_at = datetime.now(UTC)
        closes_at = opens_at + timedelta(hours=1)
        items = items_of_a_sale(opens_at, closes_at, timedelta(minutes=5), url=gateway.url)
        sale = await host.create_sale(
            title=SALE_TITLE["en"],
            room=room.room,
            currency=CURRENCY,
            opens_at=opens_at.isoformat(),
            closes_at=closes_at.isoformat(),
            items=[{**item, "stock": 10_000} for item in items],
        )
        await host.pin_item(room.room, sale=sale.sale, sku=items[0]["sku"])
        calls = await stack.enter_async_context(Calls(gateway.url, "", insist_s=10.0))
        self = cls(gateway, calls, room.room)
        for name in names(TALKERS):
            talker = Viewer(room.live_url, await self._token(name), follow=False)
            self._talkers.append(await stack.enter_async_context(talker))
        return self

    async def link(self, name: str) -> str:
        """As a shop links to the room, with the token of one of its viewers."""
        return f"{self._gateway.url}/r/{self._room}#token={await self._token(name)}"

    async def _token(self, name: str) -> str:
        signed = await self._calls.call("POST", "/dev/tokens", {"role": "viewer", "name": name, "room": self._room})
        token: str = signed.json()["token"]
        return token

    async def talk(self, rate: int, for_s: float) -> int:
        """At fixed times, whatever is answered. How many comments left."""
        started_s, said = time.perf_counter(), 0
        while (passed_s := time.perf_counter() - started_s) < for_s:
            while said < passed_s * rate:
                talker, text = self._talkers[said % len(self._talkers)], self._texts[said % len(self._texts)]
                talker.send({"t": "comment", "id": f"{started_s:.0f}-{said}", "text": text})
                said += 1
            await asyncio.sleep(TURN_S)
        return said


async def _load(browser: Browser, profile: Profile, url: str) -> Load:
    async with phone(browser, profile) as opened:
        return await opened.load(url)


async def _trace(browser: Browser, profile: Profile, url: str, file: Path) -> None:
    async with phone(browser, profile) as opened:
        await browser.start_tracing(page=opened.page, path=file)
        await opened.load(url)
        await browser.stop_tracing()


async def _frames(opened: Phone, stage: Stage, rate: int, for_s: float) -> dict[str, Any]:
    before = opened.comments
    talking = asyncio.create_task(stage.talk(rate, for_s))
    told = await opened.frames(for_s)
    said = await talking
    await asyncio.sleep(LATE_S)
    gaps = sorted(told["gaps"])
    return {
        "rate": rate,
        "said": said,
        "received": opened.comments - before,
        "lines_kept": told["lines"],
        "frames": len(gaps),
        "p50_ms": _share(gaps, 0.50),
        "p95_ms": _share(gaps, 0.95),
        "p99_ms": _share(gaps, 0.99),
        "worst_ms": round(gaps[-1], 1),
        "over_50_ms": round(sum(gap > LONG_FRAME_MS for gap in gaps) / len(gaps), 4),
        "long_tasks": len(told["longTasks"]),
        "longest_task_ms": round(max(told["longTasks"], default=0.0)),
    }


async def _profile(opened: Phone, stage: Stage, rate: int, for_s: float, file: Path) -> list[dict[str, Any]]:
    """Where the page's own time goes while it is talked to; the functions that take most."""
    await opened.cdp.send("Profiler.enable")
    await opened.cdp.send("Profiler.start")
    await stage.talk(rate, for_s)
    taken = (await opened.cdp.send("Profiler.stop"))["profile"]
    await asyncio.to_thread(file.write_text, json.dumps(taken), encoding="utf-8")
    functions = {}
    for node in taken["nodes"]:
        frame = node["callFrame"]
        place = urlsplit(frame["url"]).path.rpartition("/")[2]
        functions[node["id"]] = f"{frame['functionName'] or '(unnamed)'} {place}:{frame['lineNumber'] + 1}".strip(" :0")
    own_ms: Counter[str] = Counter()
    for node, delta_us in zip(taken["samples"], taken["timeDeltas"], strict=True):
        own_ms[functions[node]] += delta_us / 1000
    return [{"function": name, "own_ms": round(ms)} for name, ms in own_ms.most_common(PROFILED)]


def _load_figures(loads: Sequence[Load]) -> dict[str, Any]:
    last = loads[-1]
    kinds: Counter[str] = Counter()
    for each in last.transferred:
        kinds[each.kind.lower()] += each.size
    return {
        "loads": len(loads),
        "requests": len(last.transferred),
        # The most of all loads: what is fetched when it is needed may come sooner or later.
        "bytes_until_first_paint": max(load.bodies(before=load.paint) for load in loads),
        "bytes_until_drawn": max(load.bodies(before=load.drawn) for load in loads),
        "bytes_in_all": max(load.bodies() for load in loads),
        "bytes_with_headers": max(load.size for load in loads),
        "bytes_by_kind": dict(kinds.most_common()),
        "first_paint_ms": _median_and_worst([load.paint for load in loads]),
        "drawn_ms": _median_and_worst([load.drawn for load in loads]),
        "interactive_ms": _median_and_worst([load.pressed for load in loads]),
        "tap_to_pressed_ms": _median_and_worst([load.pressed - load.tapped for load in loads]),
        "tap_to_answer_ms": _median_and_worst([load.answered - load.tapped for load in loads]),
        "resources": last.resources,
    }


def _median_and_worst(values: Sequence[float]) -> dict[str, int]:
    return {"median": round(statistics.median(values)), "worst": round(max(values))}


def _share(ordered: Sequence[float], share: float) -> float:
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * share))], 1)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _print(result: dict[str, Any]) -> None:
    console = Console(highlight=False, width=WIDTH)
    conditions, load = result["conditions"], result["load"]
    console.print(", ".join(f"{name} {value}" for name, value in conditions.items()), soft_wrap=True, markup=False)
    size = Table(title=f"the room's page, {load['loads']} cold loads", title_justify="left")
    for title in ("", "median", "worst"):
        size.add_column(title, justify="right" if title else "left")
    for name, words in (
        ("first_paint_ms", "first paint, ms"),
        ("drawn_ms", "the room drawn, ms"),
        ("interactive_ms", "a tap is answered by the page (interactive), ms"),
        ("tap_to_pressed_ms", "from the tap until the button is pressed, ms"),
        ("tap_to_answer_ms", "from the tap until the gateway's answer is drawn, ms"),
    ):
        size.add_row(words, f"{load[name]['median']:,}", f"{load[name]['worst']:,}")
    size.add_row("bytes until the first paint, compressed", "", f"{load['bytes_until_first_paint']:,}")
    size.add_row("bytes until it is drawn, compressed", "", f"{load['bytes_until_drawn']:,}")
    size.add_row("bytes in all, with what comes after", "", f"{load['bytes_in_all']:,}")
    size.add_row(f"the same with the headers of {load['requests']} answers", "", f"{load['bytes_with_headers']:,}")
    console.print(size)
    frames = Table(title="distance between frames, ms", title_justify="left")
    for title in ("comments/s", "said", "came", "frames", "p50", "p95", "p99", "worst", "over 50 ms", "long tasks"):
        frames.add_column(title, justify="right")
    for row in result["frames"]:
        figures = (
            row[name] for name in ("rate", "said", "received", "frames", "p50_ms", "p95_ms", "p99_ms", "worst_ms")
        )
        tasks = f"{row['long_tasks']}, longest {row['longest_task_ms']} ms"
        frames.add_row(*map(str, figures), f"{row['over_50_ms']:.1%}", tasks)
    console.print(frames)
    for each in result["profile"] or ():
        console.print(f"  {each['own_ms']:>6} ms  {each['function']}", markup=False)
    for complaint in result["complaints"]:
        console.print(f"The page complained: {complaint}", style="bold red", markup=False)


def _say(what: str) -> None:
    print(f"pages: {what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
