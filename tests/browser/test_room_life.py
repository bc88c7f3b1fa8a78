"""What a host does in the console, seen in the room's page: coupons, mutes, comments."""

import re
import uuid
from datetime import UTC, datetime, timedelta

from playwright.async_api import expect

from gateway.client.host import Host
from tests.browser.people import SOON_MS, Console, ViewerPage, make_show
from tests.support.chromium import DESK, PHONE, Visitors
from tests.support.gateway import Gateway


async def test_a_coupon_is_dropped_grabbed_and_taken_off_the_price(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host, stock=5)
    title = f"Five off {show.sale[-6:]}"
    await host.create_coupon(
        title=title,
        kind="amount",
        value_minor=500,
        copies=1,
        limit_per_viewer=1,
        currency="CNY",
        room=show.room,
        valid_until=(datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        key=uuid.uuid4().hex,
    )
    ann = await ViewerPage.enter(visitors, gateway, show.room, "ann", **DESK)
    ben = await ViewerPage.enter(visitors, gateway, show.room, "ben", **PHONE)
    console = await Console.open(visitors, gateway, show.room)
    await console.page.get_by_role("tab", name="Coupons").click()
    await console.page.locator("li.coupon", has_text=title).get_by_role("button", name="Drop").click()

    grab = re.compile(f"^Grab.*{title}")
    await expect(ann.page.get_by_role("button", name=grab)).to_be_visible(timeout=SOON_MS)
    await expect(ben.page.get_by_role("button", name=grab)).to_be_visible(timeout=SOON_MS)
    await ann.page.get_by_role("button", name=grab).click()
    await expect(ann.page.locator(".drop-note").first).to_contain_text("¥5.00", timeout=SOON_MS)
    # It was the only copy.
    await expect(ben.page.locator(".drop-note").first).to_contain_text("All of them are taken.", timeout=SOON_MS)

    await expect(ann.button).to_contain_text("¥14.00")
    await ann.button.click()
    await ann.reads(re.compile("^Yours until"))
    orders = await host.orders(show.sale)
    assert [(order.amount_minor, order.discount_minor) for order in orders] == [(1400, 500)]


async def test_who_is_muted_reads_it_and_nobody_else_reads_them(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host)
    ann = await ViewerPage.enter(visitors, gateway, show.room, "ann", **PHONE)
    ben = await ViewerPage.enter(visitors, gateway, show.room, "ben", **DESK)
    console = await Console.open(visitors, gateway, show.room)
    await say(ann, "Buy at my place instead!")
    for page in (ben.page, console.page):
        await expect(page.get_by_text("Buy at my place instead!").first).to_be_visible(timeout=SOON_MS)

    row = console.page.locator(".comment", has_text="Buy at my place instead!")
    await row.get_by_role("button", name="What to do about").click()
    await console.page.get_by_role("menuitem", name="10 minutes").click()
    await expect(row.get_by_text("muted")).to_be_visible(timeout=SOON_MS)

    await say(ann, "And again!")
    await expect(ann.page.locator("#say-answer")).to_contain_text("You cannot comment for another")
    # What was not posted stays in the field.
    await expect(ann.page.get_by_role("textbox")).to_have_value("And again!")
    await row.get_by_role("button", name="Delete what").click()
    await expect(ben.page.locator(".talk, .comments").get_by_text("Buy at my place instead!")).to_have_count(
        0, timeout=SOON_MS
    )
    await expect(ben.page.get_by_text("And again!")).to_have_count(0)


async def test_who_is_banned_is_out_at_once(gateway: Gateway, host: Host, visitors: Visitors) -> None:
    show = await make_show(host)
    ann = await ViewerPage.enter(visitors, gateway, show.room, "ann", **PHONE)
    console = await Console.open(visitors, gateway, show.room)
    await say(ann, "Nonsense")
    row = console.page.locator(".comment", has_text="Nonsense")
    await row.get_by_role("button", name="What to do about").click()
    await console.page.get_by_role("menuitem", name="From this room").click()
    await expect(ann.page.get_by_text("You cannot be in this room")).to_be_visible(timeout=SOON_MS)


async def say(viewer: ViewerPage, text: str) -> None:
    field = viewer.page.get_by_role("textbox")
    await field.fill(text)
    await field.press("Enter")
