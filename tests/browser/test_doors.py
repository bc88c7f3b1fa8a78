"""Who comes in, and in which language."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from playwright.async_api import expect

from gateway.api.pages_files import STATIC
from gateway.client.host import Host
from tests.browser.people import SOON_MS, Console, ViewerPage, make_show
from tests.support.chromium import DESK, PHONE, Visitors
from tests.support.gateway import Gateway, free_ports


async def test_the_token_leaves_the_address_at_once_and_is_kept_by_the_tab_alone(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host)
    visitor = await visitors.new(**PHONE)
    token = gateway.token("ann")
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    await visitor.page.goto(f"{gateway.url}/r/{show.room}#token={token}")
    await expect(visitor.page.get_by_role("textbox")).to_be_enabled(timeout=SOON_MS)
    assert visitor.page.url == f"{gateway.url}/r/{show.room}"
    assert token not in str(await visitor.page.evaluate("[history.state, {...localStorage}, document.cookie]"))
    assert not [url for url in asked if token in url]
    # A tab that is loaded anew goes on.
    await visitor.page.reload()
    await expect(visitor.page.get_by_role("textbox")).to_be_enabled(timeout=SOON_MS)


async def test_a_development_gateway_lets_viewers_and_hosts_in_by_name(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host)
    viewer, staff = await visitors.new(**PHONE), await visitors.new(**DESK)
    await viewer.page.goto(f"{gateway.url}/r/{show.room}")
    await viewer.page.get_by_label("Your name").fill("Ann")
    await viewer.page.get_by_role("button", name="Come in").click()
    await expect(viewer.page.get_by_role("textbox", name="Say something")).to_be_enabled(timeout=SOON_MS)

    await staff.page.goto(f"{gateway.url}/host")
    await staff.page.get_by_label("Shop").fill("shop")
    await staff.page.get_by_label("Your name").fill("Bea")
    await staff.page.get_by_role("button", name="Sign in").click()
    await expect(staff.page.get_by_role("heading", name="Rooms")).to_be_visible(timeout=SOON_MS)


@pytest.mark.parametrize(
    ("language", "says", "other"), [("en-GB", "Say something", "中文"), ("zh-CN", "说点什么", "English")]
)
async def test_the_browser_chooses_the_language_and_a_button_the_other_one(
    gateway: Gateway, host: Host, visitors: Visitors, language: str, says: str, other: str
) -> None:
    show = await make_show(host)
    ann = await ViewerPage.enter(visitors, gateway, show.room, "ann", language=language, **PHONE)
    console = await Console.open(visitors, gateway, show.room, language=language)
    await expect(ann.page.get_by_role("textbox")).to_have_attribute("placeholder", re.compile(says))
    for page in (ann.page, console.page):
        began = await page.get_attribute("html", "lang")
        await page.get_by_role("button", name=other).click()
        await expect(page.locator("html")).not_to_have_attribute("lang", str(began))
        # Also the next time.
        await page.reload()
        await expect(page.locator("html")).not_to_have_attribute("lang", str(began))


async def test_both_languages_say_the_same_things(gateway: Gateway, visitors: Visitors) -> None:
    visitor = await visitors.new(**DESK)
    await visitor.page.goto(f"{gateway.url}/host")
    texts = [str(file.relative_to(STATIC)) for file in sorted(STATIC.glob("*/*words.js")) if file.parent.name != "ui"]
    assert {"room/words.js", "room/shop-words.js", "host/words.js"} <= set(texts)
    assert await visitor.page.evaluate(COMPARE_TABLES, texts) == []


# What differs between the two languages of each module: its keys, and the facts that stand in a text.
COMPARE_TABLES = r"""async (modules) => {
  const map = JSON.parse(document.querySelector("script[type=importmap]").textContent);
  const base = map.imports.peakgate.replace(/peakgate\.js$/, "");
  const facts = (text) => [...String(text).matchAll(/\{(\w+)\}/g)].map((found) => found[1]).sort().join();
  const differ = [];
  for (const name of modules) {
    const tables = Object.values(await import(base + name)).map((each) => each.tables).filter(Boolean);
    if (!tables.length) differ.push(`${name} has no texts`);
    for (const { en, zh } of tables) {
      for (const key of new Set([...Object.keys(en), ...Object.keys(zh)])) {
        const isPlain = typeof en[key] === "string" && typeof zh[key] === "string";
        if (!en[key] || !zh[key]) differ.push(`${name} ${key}: missing in one`);
        else if (isPlain && facts(en[key]) !== facts(zh[key])) differ.push(`${name} ${key}: other facts`);
      }
    }
  }
  return differ;
}"""


async def test_a_page_of_a_foreign_origin_is_let_in_nowhere(gateway: Gateway, host: Host, visitors: Visitors) -> None:
    show = await make_show(host)
    visitor = await visitors.new(**DESK)
    async with foreign_page() as url:
        await visitor.page.goto(url)
        told = await visitor.page.evaluate(
            """async ([api, live, room, token]) => {
              const asked = await fetch(`${api}/v1/rooms/${room}`, { headers: { Authorization: `Bearer ${token}` } })
                .then((answer) => answer.status, () => "refused");
              const frames = await new Promise((resolve) => {
                const heard = [], socket = new WebSocket(live, "peakgate.v1.json");
                socket.onopen = () => socket.send(JSON.stringify({ t: "hello", token }));
                socket.onmessage = ({ data }) => heard.push(JSON.parse(data).t);
                socket.onclose = () => resolve(heard);
              });
              return { asked, frames };
            }""",
            [gateway.url, gateway.live_url(show.room), show.room, gateway.token("ann")],
        )
    assert told["asked"] == "refused" and set(told["frames"]) <= {"bye"}
    # It is the browser that says so.
    assert any("CORS" in fault for fault in visitor.faults)
    visitor.faults.clear()


@asynccontextmanager
async def foreign_page() -> AsyncIterator[str]:
    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>Elsewhere</title>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_ports(1)
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        await asyncio.shield(runner.cleanup())
