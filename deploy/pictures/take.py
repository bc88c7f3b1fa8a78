"""The pictures of the two pages, taken in a real browser from the show of `peakgate demo --keep`.

    python -m deploy.pictures.take                  what is in this folder, anew
    python -m deploy.pictures.take --after 30 --into /tmp/pictures

The dice are the same each time; who taps first is not, so two takes look alike and are not equal to the byte.
"""

import argparse
import asyncio
import base64
import itertools
import random
import signal
import struct
import sys
import tempfile
import zlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvloop
from playwright.async_api import Browser, Page

from gateway.cli.chat_file import ChatLine, read_chat, shipped_chat
from gateway.cli.demo_goods import LANGUAGES, ROOM_NOTICE, ROOM_TITLE, Language
from gateway.cli.demo_pace import Pace
from gateway.cli.demo_show import DemoShow
from gateway.client import Host
from gateway.client.calls import Calls
from gateway.client.local import LocalGateway, free_port
from tests.support.chromium import CHROMIUM, chromium

SHOP: Final = "demo"
MOST_BYTES: Final = 400_000
MOST_COLOURS: Final = 256
FEWER_COLOURS: Final = Path(__file__).with_name("fewer_colours.js")
SETTLES_MS: Final = 6_000.0
PHONE: Final[dict[str, Any]] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
DESK: Final[dict[str, Any]] = {"viewport": {"width": 1440, "height": 900}}
LOCALES: Final[dict[Language, str]] = {"en": "en-GB", "zh": "zh-CN"}
# Livelier than the demo's, because a picture is taken after minutes; and what is explained stays.
PACE: Final = Pace(
    order_every_s=0.8, coupon_every_s=45.0, coupon_for_s=60, pin_every_s=3600.0, price_step_s=90.0, pay_within_s=300
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--after", type=float, default=240.0, help="seconds the show runs before (default %(default)s)")
    parser.add_argument("--into", type=Path, default=Path(__file__).parent, help="default: this folder")
    arguments = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("No Chromium on this machine: make browser")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        taken = runner.run(_take(arguments.after))
    for name, picture in taken.items():
        (arguments.into / name).write_bytes(picture)
        _say(f"{name}: {len(picture):,} bytes")
    too_large = [name for name, picture in taken.items() if len(picture) > MOST_BYTES]
    if too_large:
        sys.exit(f"Over {MOST_BYTES:,} bytes: {', '.join(too_large)}")


async def _take(after_s: float) -> dict[str, bytes]:
    main = asyncio.current_task()
    assert main is not None
    # Whoever ends this also ends its gateway: what is open below is closed in order.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="peakgate-pictures-"))
        settings = {"PEAKGATE_DEV": "true", "PEAKGATE_SANDBOX": "page", "PEAKGATE_COMMENT_RATE": "5"}
        gateway = LocalGateway(data=Path(folder), port=free_port(), settings=settings)
        stack.push_async_callback(gateway.stop)
        await gateway.start()
        calls = await stack.enter_async_context(Calls(gateway.url, "", insist_s=10.0))
        shows = {language: await Show.begin(stack, gateway, calls, language) for language in LANGUAGES}
        browser = await stack.enter_async_context(chromium())
        _say(f"two shows run for {after_s:g} s")
        await asyncio.sleep(after_s)
        english, chinese = shows["en"], shows["zh"]
        return {
            "room-phone.png": await _of_the_room(browser, english, "Mira", PHONE),
            "room-desk.png": await _of_the_room(browser, english, "Nora", DESK),
            "room-zh.png": await _of_the_room(browser, chinese, "小棠", PHONE),
            "console.png": await _of_the_console(browser, english),
            "console-zh.png": await _of_the_console(browser, chinese),
        }


class Show:
    """A room in one language, in which the demo's show runs, and links for whoever looks on."""

    def __init__(self, gateway: LocalGateway, calls: Calls, language: Language, room: str) -> None:
        self.language: Language = language
        self._gateway = gateway
        self._calls = calls
        self._room = room

    @classmethod
    async def begin(cls, stack: AsyncExitStack, gateway: LocalGateway, calls: Calls, language: Language) -> "Show":
        [token] = await gateway.tokens(shop=SHOP, sub="host", role="host")
        async with Host(gateway.url, token, insist_s=10.0) as host:
            room = await host.create_room(ROOM_TITLE[language], notice=ROOM_NOTICE[language])
            await host.start_room(room.room)
        self = cls(gateway, calls, language, room.room)
        show = DemoShow(
            url=gateway.url,
            live_url=room.live_url,
            room=room.room,
            lines=_said_in(language),
            sign_in=self._sign_in,
            staff_token=self._token,
            pace=PACE,
            dice=random.Random(7),
            language=language,
        )
        playing = asyncio.create_task(show.run())

        async def end() -> None:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

        stack.push_async_callback(end)
        return self

    async def watching(self, name: str) -> str:
        return f"{self._gateway.url}/r/{self._room}#token={await self._sign_in(name)}"

    async def hosting(self) -> str:
        return f"{self._gateway.url}/host?room={self._room}#token={await self._token('host')}"

    async def _sign_in(self, name: str) -> str:
        signed = await self._calls.call("POST", "/dev/tokens", {"role": "viewer", "name": name, "room": self._room})
        token: str = signed.json()["token"]
        return token

    async def _token(self, role: str) -> str:
        return (await self._gateway.tokens(shop=SHOP, sub=role, role=role))[0]


def _said_in(language: Language) -> list[ChatLine]:
    """Of the recorded chat what a reader of the picture can read, at the pace of the whole; without pictures in the
    text, for which not every machine has a font."""

    def is_read(text: str) -> bool:
        if language == "zh":
            return len(text) >= 4 and all(
                "\u4e00" <= each <= "\u9fff" or each in "，。！？ 0123456789" for each in text
            )
        return len(text) >= 8 and text.isascii()

    lines = [line for line in read_chat(shipped_chat()) if is_read(line.text)]
    return [ChatLine(at * 0.9, line.viewer, line.text) for at, line in zip(itertools.count(), lines, strict=False)]


async def _of_the_room(browser: Browser, show: Show, name: str, screen: dict[str, Any]) -> bytes:
    """A viewer who has just bought what is explained."""
    async with _page(browser, await show.watching(name), show.language, screen) as page:
        await page.locator(".tap-button:enabled").first.click()
        await page.locator(".order-card").first.wait_for()
        return await _picture(page)


async def _of_the_console(browser: Browser, show: Show) -> bytes:
    async with _page(browser, await show.hosting(), show.language, DESK) as page:
        await page.locator("[role=log] > *").nth(8).wait_for()
        return await _picture(page)


@asynccontextmanager
async def _page(browser: Browser, url: str, language: Language, screen: dict[str, Any]) -> AsyncIterator[Page]:
    context = await browser.new_context(locale=LOCALES[language], color_scheme="light", **screen)
    try:
        page = await context.new_page()
        await page.goto(url)
        yield page
    finally:
        await context.close()


async def _picture(page: Page) -> bytes:
    _say(f"taking {page.url.rpartition('/')[2]}")
    # Some more is said meanwhile, and what is told for a moment only goes away.
    await page.wait_for_timeout(SETTLES_MS)
    taken = base64.b64encode(await page.screenshot()).decode()
    # On a page without a policy, which may read a picture from its address.
    reducing = await page.context.new_page()
    code = f"([picture, most]) => ({await asyncio.to_thread(FEWER_COLOURS.read_text)})(picture, most)"
    told = await reducing.evaluate(code, [taken, MOST_COLOURS])
    palette, indexes = base64.b64decode(told["palette"]), base64.b64decode(told["indexes"])
    return _png(told["width"], told["height"], palette, indexes)


def _png(width: int, height: int, palette: bytes, indexes: bytes) -> bytes:
    rows = b"".join(b"\0" + indexes[at : at + width] for at in range(0, len(indexes), width))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", palette),
            _chunk(b"IDAT", zlib.compress(rows, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _say(what: str) -> None:
    sys.stderr.write(f"pictures: {what}\n")


if __name__ == "__main__":
    main()
