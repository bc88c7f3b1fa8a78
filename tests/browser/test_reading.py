"""The pages read well: for who sees little, on a small phone, without motion, by keyboard alone."""

import re
from typing import Any

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from gateway.client.host import Host
from tests.browser.people import SOON_MS, Console, Show, ViewerPage, make_show
from tests.browser.test_room_life import say
from tests.support.chromium import DESK, PHONE, SMALL_PHONE, Visitors
from tests.support.gateway import Gateway

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}


async def assert_reads_well(page: Page) -> None:
    # What moves in is looked at when it stands.
    await page.evaluate("Promise.allSettled(document.getAnimations().map((each) => each.finished)).then(() => null)")
    found = await Axe().run(page, options=RULES)
    assert found.violations_count == 0, found.generate_report()


async def busy_show(host: Host, gateway: Gateway, visitors: Visitors, **options: Any) -> tuple[Show, ViewerPage]:
    """Somebody has said something, and ordered."""
    show = await make_show(host, stock=9, limit=9)
    ann = await ViewerPage.enter(visitors, gateway, show.room, "ann", reduced_motion="reduce", **options)
    await say(ann, "Good evening!")
    await ann.open_bag()
    await ann.button.click()
    await ann.reads(re.compile("^Yours until"))
    return show, ann


@pytest.mark.parametrize("options", [SMALL_PHONE, DESK], ids=["phone", "desk"])
async def test_the_room_has_nothing_that_axe_complains_of(
    gateway: Gateway, host: Host, visitors: Visitors, options: dict[str, Any]
) -> None:
    _, ann = await busy_show(host, gateway, visitors, **options)
    await assert_reads_well(ann.page)
    await ann.page.keyboard.press("Escape")
    await assert_reads_well(ann.page)
    await ann.page.get_by_role("button", name=re.compile("My orders")).first.click()
    await expect(ann.page.get_by_role("dialog")).to_be_visible()
    await assert_reads_well(ann.page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_console_has_nothing_that_axe_complains_of(
    gateway: Gateway, host: Host, visitors: Visitors, scheme: Any
) -> None:
    show, _ = await busy_show(host, gateway, visitors, **PHONE)
    console = await Console.open(visitors, gateway, show.room, color_scheme=scheme, reduced_motion="reduce")
    await expect(console.page.get_by_text("Good evening!").first).to_be_visible(timeout=SOON_MS)
    for tab in await console.page.get_by_role("tab").all():
        if await tab.is_visible():
            await tab.click()
            await assert_reads_well(console.page)
    await console.named("New sale").click()
    await assert_reads_well(console.page)


async def test_nothing_is_wider_than_a_small_phone(gateway: Gateway, host: Host, visitors: Visitors) -> None:
    show, ann = await busy_show(host, gateway, visitors, **SMALL_PHONE)
    console = await Console.open(visitors, gateway, show.room, **SMALL_PHONE)
    for page in (ann.page, console.page):
        assert await page.evaluate("document.scrollingElement.scrollWidth") <= 360
    for tab in await console.page.get_by_role("tab").all():
        if await tab.is_visible():
            await tab.click()
            assert await console.page.evaluate("document.scrollingElement.scrollWidth") <= 360


async def test_a_unit_is_bought_by_keyboard_alone(gateway: Gateway, host: Host, visitors: Visitors) -> None:
    show = await make_show(host)
    ann = await ViewerPage.enter(visitors, gateway, show.room, f"ann-{show.room}", **DESK)
    for _ in range(40):
        await ann.page.keyboard.press("Tab")
        if await ann.button.evaluate("(button) => button === document.activeElement"):
            break
    await ann.page.keyboard.press("Enter")
    await ann.reads(re.compile("^Yours until"))
