"""A phone in a real browser: slow processor, slow network, small screen; and what a page does on it."""

import asyncio
import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, CDPSession, Page, WebSocket

PROBE = Path(__file__).with_name("pages_probe.js")
# The marks by which the page is read: the button that orders an item, and the list of comments.
BUY, LOG = ".tap-button", "[role=log]"
WITHIN_MS = 30_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the browser pretends to be."""

    width: int = 360
    height: int = 780
    processor: float = 4.0
    """So many times slower than this machine's."""
    rtt_ms: float = 150.0
    down_kbit: float = 1600.0
    up_kbit: float = 750.0


@dataclass(slots=True)
class Transferred:
    """One answer by HTTP, as it came over the network: compressed, headers and all."""

    url: str
    kind: str
    size: int = 0


@dataclass(slots=True)
class Load:
    """One cold load of the room, in milliseconds since navigation."""

    paint: float
    drawn: float
    tapped: float
    pressed: float
    answered: float
    transferred: list[Transferred]
    resources: list[dict[str, Any]]

    def bodies(self, before: float = math.inf) -> int:
        """Bytes that had come by then, compressed, without headers."""
        return sum(each["size"] for each in self.resources if each["until"] <= before)

    @property
    def size(self) -> int:
        """Of all, with headers."""
        return sum(each.size for each in self.transferred)


class Phone:
    """One page in a browser of its own; nothing is cached."""

    def __init__(self, page: Page, cdp: CDPSession) -> None:
        self.page = page
        self.cdp = cdp
        self.comments = 0
        """That came by the socket so far."""
        self.complaints: list[str] = []
        loop = asyncio.get_running_loop()
        self._reached = {mark: loop.create_future() for mark in ("drawn", "pressed", "answered")}
        self._transferred: dict[str, Transferred] = {}
        page.on("websocket", self._follow)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        cdp.on("Network.responseReceived", self._responded)
        cdp.on("Network.loadingFinished", self._finished)

    async def load(self, url: str) -> Load:
        """Opens the page and taps as soon as there is something to tap."""
        await self.page.goto(url, wait_until="commit", timeout=WITHIN_MS)
        place = await self._until("drawn")
        await self.cdp.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [place]})
        await self.cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        await self._until("answered")
        told = await self.page.evaluate("window.pagesLoad()")
        return Load(
            paint=told["paint"],
            drawn=told["drawn"],
            tapped=told["tapped"],
            pressed=told["pressed"],
            answered=told["answered"],
            transferred=list(self._transferred.values()),
            resources=told["resources"],
        )

    async def frames(self, for_s: float) -> dict[str, Any]:
        told: dict[str, Any] = await self.page.evaluate("(forMs) => window.pagesFrames(forMs)", for_s * 1000)
        return told

    async def _until(self, mark: str) -> Any:
        async with asyncio.timeout(WITHIN_MS / 1000):
            return await self._reached[mark]

    def reached(self, source: Any, mark: str, place: Any) -> None:
        if not self._reached[mark].done():
            self._reached[mark].set_result(place)

    def _responded(self, event: dict[str, Any]) -> None:
        response = event["response"]
        self._transferred[event["requestId"]] = Transferred(response["url"], event["type"])

    def _finished(self, event: dict[str, Any]) -> None:
        found = self._transferred.get(event["requestId"])
        if found is not None:
            found.size = int(event["encodedDataLength"])

    def _follow(self, socket: WebSocket) -> None:
        socket.on("framereceived", self._heard)

    def _heard(self, payload: str | bytes) -> None:
        frame = json.loads(payload)
        if frame.get("t") == "tick":
            self.comments += sum(event.get("k") == "comment" for event in frame.get("ev") or ())


@asynccontextmanager
async def phone(browser: Browser, profile: Profile) -> AsyncIterator[Phone]:
    context = await browser.new_context(
        viewport={"width": profile.width, "height": profile.height},
        device_scale_factor=2,
        is_mobile=True,
        has_touch=True,
        locale="en-GB",
    )
    try:
        page = await context.new_page()
        marks = json.dumps({"buy": BUY, "log": LOG})
        await page.add_init_script(f"({PROBE.read_text(encoding='utf-8').strip()})({marks})")
        cdp = await context.new_cdp_session(page)
        await cdp.send("Network.enable")
        await cdp.send("Emulation.setCPUThrottlingRate", {"rate": profile.processor})
        await cdp.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": profile.rtt_ms,
                "downloadThroughput": profile.down_kbit * 1000 / 8,
                "uploadThroughput": profile.up_kbit * 1000 / 8,
            },
        )
        opened = Phone(page, cdp)
        await page.expose_binding("pagesReached", opened.reached)
        yield opened
    finally:
        await context.close()
