"""What phones do to a page: ways back, fingers that look closer, links that are opened again where the page is."""

import time

from playwright.async_api import expect

from gateway.client.host import Host
from tests.browser.people import SOON_MS, ViewerPage, make_show
from tests.support.chromium import SMALL_PHONE, Visitors
from tests.support.gateway import Gateway


async def test_the_way_back_closes_the_bag_and_stays_in_the_room(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host)
    viewer = await ViewerPage.enter(visitors, gateway, show.room, "back", **SMALL_PHONE)
    page, sheet = viewer.page, viewer.page.locator("dialog.bag-sheet")
    before = await page.evaluate("history.length")
    for _ in range(2):
        await viewer.open_bag()
        await expect(sheet).to_be_visible()
        await page.go_back()
        await expect(sheet).to_be_hidden()
    await viewer.open_bag()
    await sheet.get_by_role("button", name="Close").first.click()
    await expect(sheet).to_be_hidden()
    await page.get_by_role("button", name="My orders").click()
    await expect(page.get_by_role("dialog", name="My orders")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog", name="My orders")).to_be_hidden()
    await expect(page.get_by_role("textbox")).to_be_enabled()
    assert page.url == f"{gateway.url}/r/{show.room}"
    assert await page.evaluate("history.length") <= before + 1


async def test_who_looks_closer_with_two_fingers_sees_the_same_room(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host)
    viewer = await ViewerPage.enter(visitors, gateway, show.room, "closer", **SMALL_PHONE)
    height = "document.querySelector('.room').offsetHeight"
    before = await viewer.page.evaluate(height)
    devtools = await viewer.visitor.context.new_cdp_session(viewer.page)
    await devtools.send("Emulation.setPageScaleFactor", {"pageScaleFactor": 2})
    await viewer.page.wait_for_function("visualViewport.scale === 2")
    await viewer.page.evaluate("new Promise((seen) => requestAnimationFrame(() => setTimeout(seen, 50)))")
    assert await viewer.page.evaluate(height) == before


async def test_a_link_that_is_opened_again_in_its_tab_lets_in_who_was_out(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host)
    visitor = await visitors.new(**SMALL_PHONE)
    address = f"{gateway.url}/r/{show.room}"
    ended = gateway.token("again", signed_s=int(time.time()) - 2 * 3600)
    await visitor.page.goto(f"{address}#token={ended}")
    await expect(visitor.page.get_by_role("heading", name="Your visit has expired")).to_be_visible(timeout=SOON_MS)
    await visitor.page.goto(f"{address}#token={gateway.token('again')}")
    await expect(visitor.page.get_by_role("textbox")).to_be_enabled(timeout=SOON_MS)
    await ViewerPage(visitor).open_bag()
