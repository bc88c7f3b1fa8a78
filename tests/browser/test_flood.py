"""A room in which 200 comments a second are said, and one that lasts long: the pages neither freeze nor grow."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from playwright.async_api import Page, expect

from gateway.client.host import Host
from gateway.client.viewer import Viewer
from tests.browser.people import SOON_MS, Console, ViewerPage, make_show
from tests.support.chromium import PHONE, Visitors
from tests.support.gateway import Gateway

SPEAKERS, RATE = 10, 200
# What lists keep, with the rows of other parts; a page that kept every comment would have thousands.
MOST_ROWS = 260
# A browser may still hold the rows that were drawn before, some 2,400 nodes in the console. A page that kept what is
# said would hold five times as many.
MOST_GROWTH_BYTES, MOST_GROWTH_NODES = 2_000_000, 4_000


async def test_a_flood_of_comments_leaves_the_page_able_to_sell(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host, stock=9)
    ann = await ViewerPage.enter(visitors, gateway, show.room, f"ann-{show.room}", **PHONE)
    console = await Console.open(visitors, gateway, show.room)
    async with speakers(gateway, show.room) as say:
        flooding = asyncio.create_task(say(1200))
        await expect(ann.page.locator(".danmaku > *").first).to_be_attached(timeout=SOON_MS)
        await ann.open_bag()
        await ann.button.click()
        await ann.reads(re.compile("^Yours until"))
        assert not flooding.done(), "it was bought in the middle of the flood"
        await flooding
    for page in (ann.page, console.page):
        assert await page.locator("li").count() <= MOST_ROWS


async def test_a_long_show_makes_the_pages_no_larger(gateway: Gateway, host: Host, visitors: Visitors) -> None:
    show = await make_show(host)
    ann = await ViewerPage.enter(visitors, gateway, show.room, "ann", **PHONE)
    console = await Console.open(visitors, gateway, show.room)
    async with speakers(gateway, show.room) as say:
        await say(600)
        before = [await size_of(page) for page in (ann.page, console.page)]
        await say(1600)
        after = [await size_of(page) for page in (ann.page, console.page)]
    for (bytes_before, nodes_before), (bytes_after, nodes_after) in zip(before, after, strict=True):
        assert bytes_after - bytes_before < MOST_GROWTH_BYTES, (before, after)
        assert nodes_after - nodes_before < MOST_GROWTH_NODES, (before, after)


@asynccontextmanager
async def speakers(gateway: Gateway, room: str) -> AsyncIterator["Say"]:
    async with AsyncExitStack() as stack:
        tokens = gateway.tokens("speaker", SPEAKERS)
        viewers = [await stack.enter_async_context(Viewer(gateway.live_url(room), token)) for token in tokens]
        yield Say(viewers)


class Say:
    """So many comments at RATE a second, or as fast as this machine gets through with them."""

    def __init__(self, viewers: list[Viewer]) -> None:
        self._viewers = viewers

    async def __call__(self, comments: int) -> None:
        async def speak(viewer: Viewer, number: int) -> None:
            loop = asyncio.get_running_loop()
            for said in range(comments // SPEAKERS):
                began_s = loop.time()
                await viewer.comment(f"{number}: how much is it, and is there more of it? {said}")
                await asyncio.sleep(max(0.0, SPEAKERS / RATE - (loop.time() - began_s)))

        await asyncio.gather(*(speak(viewer, number) for number, viewer in enumerate(self._viewers)))


async def size_of(page: Page) -> tuple[int, int]:
    """Bytes and nodes in use, once what is not used was swept up."""
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.enable")
    for _ in range(2):
        await session.send("HeapProfiler.collectGarbage")
    used = await session.send("Runtime.getHeapUsage")
    counters = await session.send("Memory.getDOMCounters")
    await session.detach()
    return int(used["usedSize"]), int(counters["nodes"])
