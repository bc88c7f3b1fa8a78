"""A real Chromium for the tests of the pages, and what every page of a test is watched for."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

CHROMIUM: Final = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# Without a network of its own the browser asks the makers of it for nothing.
_ARGUMENTS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-precise-memory-info",
    "--js-flags=--expose-gc",
)
PHONE: Final[dict[str, Any]] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
SMALL_PHONE: Final[dict[str, Any]] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
DESK: Final[dict[str, Any]] = {"viewport": {"width": 1440, "height": 900}}
# What a browser says of an answer that a test provokes, or of a network that a test cuts.
_EXPECTED: Final = ("Failed to load resource", "WebSocket connection to", "net::ERR_INTERNET_DISCONNECTED")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    assert CHROMIUM is not None
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(_ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Visitor:
    """Somebody before a browser of their own: nothing is shared with the others, as on different phones."""

    context: BrowserContext
    page: Page
    faults: list[str] = field(default_factory=list)
    """What the page complained of: uncaught errors, errors in the console, whatever the policy refused."""

    def watch(self) -> None:
        self.page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        self.page.on("console", self._heard)

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(each in message.text for each in _EXPECTED):
            self.faults.append(f"console: {message.text}")


class Visitors:
    """Makes them, and in the end looks whether any of their pages complained."""

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self.all: list[Visitor] = []

    async def new(self, *, language: str = "en-GB", **options: Any) -> Visitor:
        context = await self._browser.new_context(locale=language, **options)
        context.set_default_timeout(15_000)
        visitor = Visitor(context, await context.new_page())
        visitor.watch()
        self.all.append(visitor)
        return visitor

    async def leave(self) -> None:
        for visitor in self.all:
            await visitor.context.close()
