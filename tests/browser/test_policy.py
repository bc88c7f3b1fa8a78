"""The policy of the pages in a real browser: all that the pages stand on runs under it, and what it forbids does not.

The page is the room's own shell with the policy as it is served; only its module is another one.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest_asyncio
from aiohttp import web
from playwright.async_api import Browser

from gateway.api.pages import Site
from gateway.api.pages_files import STATIC
from gateway.api.routes.pages import PageRoutes
from tests.support.fake_shop import http_server

PLAYLIST: Final = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:4,\none.ts\n#EXT-X-ENDLIST\n"
MODULE: Final = (Path(__file__).parent / "policy_trial.js").read_text(encoding="utf-8")


class Stage:
    """A shop whose rooms all have one stream, and a page of somebody else."""

    def __init__(self, folder: Path) -> None:
        shutil.copytree(STATIC, folder)
        (folder / "room" / "main.js").write_text(MODULE, encoding="utf-8")
        self.site = Site(folder)
        self.stream_url = ""
        self.page_url = ""
        self.foreign_url = ""
        self.shop = "tins"
        self.asked_elsewhere: list[str] = []
        self.framed_by: list[str] = []

    async def get(self, room_id: str) -> Any:
        return self

    async def origins(self, shop: str) -> list[str]:
        return self.framed_by

    async def stream(self, request: web.Request) -> web.Response:
        # Nothing that can be shown, but all that is asked for on the way to it.
        body = PLAYLIST if request.path.endswith(".m3u8") else "G" + "\0" * 187
        return web.Response(text=body, headers={"Access-Control-Allow-Origin": "*"})

    async def elsewhere(self, request: web.Request) -> web.Response:
        self.asked_elsewhere.append(request.path)
        if request.path == "/around":
            return web.Response(text=f'<iframe src="{self.page_url}/r/room_1"></iframe>', content_type="text/html")
        return web.Response(text="", content_type="text/javascript", headers={"Access-Control-Allow-Origin": "*"})


@pytest_asyncio.fixture(loop_scope="session")
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path / "static")
    async with AsyncExitStack() as stack:
        stage.stream_url = await stack.enter_async_context(http_server(stage.stream)) + "/live/show.m3u8"
        stage.foreign_url = await stack.enter_async_context(http_server(stage.elsewhere))
        routes = PageRoutes(
            site=stage.site, rooms=stage, origins_of=stage.origins, live_url="ws://127.0.0.1:1/v1/rooms/{room}/live"
        )
        app = web.Application()
        for route in routes.routes():
            app.router.add_route(route.method, route.path, route.handler)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        stage.page_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield stage


async def test_all_that_the_pages_stand_on_runs_under_the_policy(stage: Stage, browser: Browser) -> None:
    page = await browser.new_page()
    faults: list[str] = []
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    try:
        await page.goto(f"{stage.page_url}/r/room_1")
        await page.wait_for_function("globalThis.isReady")
        await page.evaluate("document.querySelector('dialog').close()")
        await page.get_by_role("button", name="more").click()
        await page.wait_for_function("document.getElementById('twice').textContent === '2'")
        assert await page.locator("canvas").count() == 1
        assert not [url for url in asked if "hls" in url], "before there is a stream"
        played = await page.evaluate("(url) => play(url)", stage.stream_url)
        assert played == ["FRAG_LOADED", "MANIFEST_PARSED", "MEDIA_ATTACHED"]
        assert await page.evaluate("violations") == []
        assert faults == []
        assert len(asked) == len(set(asked)), "what was preloaded is what is used"
        assert all(url.startswith((stage.page_url, stage.stream_url.rsplit("/", 1)[0], "blob:")) for url in asked)
    finally:
        await page.close()


async def test_nothing_that_the_policy_forbids_gets_anywhere(stage: Stage, browser: Browser) -> None:
    page = await browser.new_page()
    try:
        await page.goto(f"{stage.page_url}/r/room_1")
        await page.wait_for_function("globalThis.isReady")
        assert await page.evaluate("(foreign) => attack(foreign)", stage.foreign_url) == []
        assert stage.asked_elsewhere == []
        assert len(await page.evaluate("violations")) >= 8
    finally:
        await page.close()


async def test_a_room_is_shown_inside_the_shops_pages_only(stage: Stage, browser: Browser) -> None:
    for framed_by, is_shown in (([], False), (["https://other.example"], False), ([stage.foreign_url], True)):
        stage.framed_by = list(framed_by)
        page = await browser.new_page()
        try:
            await page.goto(f"{stage.foreign_url}/around")
            (frame,) = page.frames[1:]
            await frame.wait_for_load_state()
            assert (await frame.locator("#app").count() == 1) is is_shown, framed_by
        finally:
            await page.close()
