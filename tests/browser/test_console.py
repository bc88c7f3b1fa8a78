"""A host at work in the console: what is made there, what is done there, and what viewers see of it."""

import csv
import re
from datetime import UTC, datetime
from pathlib import Path

from playwright.async_api import Page, expect

from gateway.client.backend import Backend
from gateway.client.host import Host
from gateway.client.http import ViewerHttp
from tests.browser.people import SOON_MS, Console, ViewerPage, make_show
from tests.browser.test_room_life import say
from tests.support.chromium import DESK, PHONE, Visitors
from tests.support.gateway import Gateway


async def test_a_show_is_made_started_and_run_in_the_console(gateway: Gateway, visitors: Visitors) -> None:
    page = (await visitors.new(**DESK)).page
    await page.goto(f"{gateway.url}/host#token={gateway.token('host', 'host')}")
    await page.get_by_role("button", name="New room").click()
    await page.get_by_label("Title").fill("Morning <b>tea</b>")
    await page.get_by_label("Stream address").fill("ftp://tea")
    await page.get_by_role("button", name="Create room").click()
    await expect(page.locator("#room-stream-error")).to_have_text("Write an address that starts with https://.")
    await page.get_by_label("Stream address").fill("")
    await page.get_by_role("button", name="Create room").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("Morning <b>tea</b>")
    room = page.url.partition("?room=")[2]

    await make_sale(page)
    # Neither the show nor its sale begins before somebody has looked at what they stand on.
    await page.get_by_role("button", name="Start show").click()
    await expect(page.get_by_role("button", name="Start the show now")).to_be_disabled()
    await passes_preflight(page, "Start the show now")
    await expect(page.locator(".strip .badge")).to_have_text("Live")
    ann = await ViewerPage.enter(visitors, gateway, room, f"ann-{room}", **PHONE)
    await ann.open_bag()
    await expect(ann.button).to_be_disabled()
    await page.get_by_role("button", name="Check and open").click()
    await passes_preflight(page, "Open now")
    await expect(ann.button).to_be_enabled(timeout=SOON_MS)
    await expect(ann.button).to_contain_text("¥19.50")

    acts = page.get_by_role("group", name="Acts for Tin")
    await acts.get_by_role("button", name="Price").click()
    await page.get_by_label("New price, CNY").fill("9.99")
    await page.get_by_role("button", name="Set the price").click()
    await expect(page.locator("#new-price-error")).to_have_text("This is under the floor.")
    await page.get_by_label("New price, CNY").fill("15")
    await page.get_by_role("button", name="Set the price").click()
    await expect(ann.button).to_contain_text("¥15.00", timeout=SOON_MS)

    await acts.get_by_role("button", name="Stock").click()
    await page.locator("#stock-units").fill("4")
    await page.get_by_label("Reason").fill("More delivered")
    await page.get_by_role("button", name="Add 4").click()
    await expect(
        ann.page.locator(".bag-items, .bag, .sheet").get_by_text(re.compile(r"\b14 left")).first
    ).to_be_visible(timeout=SOON_MS)
    await expect(page.locator(".unit.stock dd")).to_have_text("14")

    await page.get_by_role("tab", name="Announce").click()
    await page.get_by_label("Shown to everybody at once").fill("The kettle is on.")
    # However often it is pressed, it is said once.
    for _ in range(2):
        await page.get_by_label("Shown to everybody at once").press("Enter")
    await expect(ann.page.get_by_text("The kettle is on.")).to_be_visible(timeout=SOON_MS)
    await page.get_by_role("tab", name="Log").click()
    await expect(page.locator(".act", has_text="The kettle is on.")).to_have_count(1, timeout=SOON_MS)


async def make_sale(page: Page) -> None:
    await page.get_by_role("button", name="New sale").click()
    form = page.locator(".sale-form")
    await form.get_by_label("Title").first.fill("First drop")
    await form.get_by_label("Currency").fill("CNY")
    item = form.get_by_role("group", name="Item 1")
    for label, value in (("Title", "Tin"), ("SKU", "tin"), ("Price, CNY", "19.505"), ("Stock", "10")):
        await item.get_by_label(label, exact=True).fill(value)
    await item.get_by_label("Floor, CNY").fill("10")
    await form.get_by_role("button", name="Create sale").click()
    wrong = form.locator('[aria-invalid="true"]')
    await expect(wrong).to_have_count(1)
    await expect(form.locator(".error")).to_have_text("Write an amount such as 168 or 16.50.")
    await wrong.fill("19.50")
    await form.get_by_role("button", name="Create sale").click()
    await expect(page.get_by_role("heading", name="First drop")).to_be_visible()


async def passes_preflight(page: Page, go: str) -> None:
    await page.get_by_role("dialog").get_by_role("button", name=re.compile("^Run (pre-flight|again)$")).click()
    accept = page.get_by_label("I have read the warnings and go on")
    await expect(accept.or_(page.get_by_text("Ready.")).first).to_be_visible(timeout=SOON_MS)
    if await accept.is_visible():
        await accept.check()
    await page.get_by_role("button", name=go).click()


async def test_an_order_is_handed_over_for_its_code_once(gateway: Gateway, host: Host, visitors: Visitors) -> None:
    show = await make_show(host, stock=5)
    code = await paid_pickup(gateway, show.sale)
    console = await Console.open(visitors, gateway, show.room, **PHONE)
    # Who looks later sees the orders of before.
    await console.page.get_by_role("tab", name="Orders").click()
    await expect(console.page.locator(".fed .badge")).to_have_text("paid", timeout=SOON_MS)
    await console.page.get_by_role("tab", name="More").click()
    await console.page.get_by_role("tab", name="Pickup").click()
    field, answer = console.page.locator("#pickup-code"), console.page.locator(".pickup-answer")
    await field.fill(code.lower())
    await field.press("Enter")
    await expect(answer).to_contain_text("Hand over 1 × Tin")
    await field.fill(code)
    await field.press("Enter")
    await expect(answer).to_contain_text(re.compile("^Already handed over at .* Do not hand it over again"))
    await field.fill("AAAAA-AAAAA")
    await field.press("Enter")
    await expect(answer).to_contain_text("No such code.")


async def paid_pickup(gateway: Gateway, sale: str) -> str:
    """The code of an order that a viewer has paid."""
    async with ViewerHttp(gateway.url, gateway.token(f"eve-{sale}")) as eve:
        order = (await eve.place_order(sale=sale, sku="tin", key="one", pickup="Front desk", wait_s=5)).order
        assert order is not None
        async with Backend(gateway.url, gateway.token("backend", "service")) as shop:
            await shop.report_payment(
                order, provider="till", txn=order, amount_minor=1900, paid_at=datetime.now(UTC).isoformat()
            )
        pickup = (await eve.order(order)).pickup
    assert pickup is not None and pickup.code is not None
    return pickup.code


async def test_in_slow_mode_viewers_wait_and_when_comments_are_off_nobody_speaks(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host)
    ann = await ViewerPage.enter(visitors, gateway, show.room, f"ann-{show.room}", **PHONE)
    console = await Console.open(visitors, gateway, show.room, language="zh-CN")
    await console.page.get_by_role("tab", name="评论管理").click()
    await console.page.get_by_label("慢速模式").select_option("300")
    await say(ann, "Good evening!")
    await expect(console.page.get_by_text("Good evening!")).to_be_visible(timeout=SOON_MS)
    await say(ann, "And again!")
    await expect(ann.page.locator("#say-answer")).to_contain_text("Slow mode", timeout=SOON_MS)
    await console.page.get_by_role("switch", name="评论").click()
    await expect(ann.page.get_by_role("textbox")).to_be_disabled(timeout=SOON_MS)


async def test_after_the_end_the_report_is_there_and_its_parts_as_files(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host, stock=5)
    await paid_pickup(gateway, show.sale)
    console = await Console.open(visitors, gateway, show.room)
    page = console.page
    await page.get_by_title("Room: link, edit, end").click()
    await console.named("End show").click()
    await expect(page.get_by_role("heading", name="End “Evening tea” for good?")).to_be_visible()
    await page.get_by_label("Type “end” to go on").fill("end")
    await console.named("End show").last.click()
    report = page.get_by_role("region", name="Report")
    await expect(report.locator("header .badge")).to_have_text("final", timeout=SOON_MS)
    # It stands where there is most room.
    box = await report.bounding_box()
    assert box is not None and box["width"] > 500
    await expect(report.locator(".funnel li", has_text="Orders paid")).to_contain_text("1 orders", timeout=SOON_MS)
    async with page.expect_download() as download:
        await report.get_by_role("button", name="Items").click()
    saved = await download.value
    assert saved.suggested_filename == f"report-{show.room}-skus.csv"
    rows = rows_of(await saved.path())
    assert len(rows) == 1 and rows[0]["sku"] == "tin", rows


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))
