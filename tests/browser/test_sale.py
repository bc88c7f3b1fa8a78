"""Buying in the room's page, and what the host sees of it."""

import re

from playwright.async_api import expect

from gateway.client.host import Host
from tests.browser.people import SOON_MS, Console, ViewerPage, make_show
from tests.support.chromium import DESK, PHONE, Visitors
from tests.support.fault_proxy import Bend, FaultProxy, Mode
from tests.support.gateway import Gateway

# A frame of a viewer that asks for something; a ping is shorter.
LOSE_ANSWERS = Bend(mode=Mode.LOSE_REPLY, count=10_000, min_bytes=60)


async def test_two_tap_for_the_last_unit_and_one_has_it_pays_and_is_seen_by_the_host(
    gateway: Gateway, host: Host, visitors: Visitors
) -> None:
    show = await make_show(host, stock=1, opens_in_s=3600)
    console = await Console.open(visitors, gateway, show.room)
    ann = await ViewerPage.enter(visitors, gateway, show.room, "ann", **PHONE)
    ben = await ViewerPage.enter(visitors, gateway, show.room, "ben", **DESK)
    for viewer in (ann, ben):
        await viewer.open_bag()
        await expect(viewer.button).to_be_disabled()
        await expect(viewer.button).to_contain_text("Opens in")

    # The button is live only after the pre-flight.
    await console.named("Check and open").click()
    await expect(console.named("Open now")).to_be_disabled()
    await console.named("Run pre-flight").click()
    accept = console.page.get_by_label("I have read the warnings and go on")
    await expect(accept.or_(console.page.get_by_text("Ready."))).to_be_visible(timeout=SOON_MS)
    if await accept.is_visible():
        await accept.check()
    await console.named("Open now").click()

    for viewer in (ann, ben):
        await expect(viewer.button).to_be_enabled(timeout=SOON_MS)
        await expect(viewer.button).to_contain_text("¥19.00")
    await ann.button.click()
    await ann.reads(re.compile("^Yours until"))
    await ben.button.click(force=True)
    await ben.reads(re.compile("^(Sold out just now|Gone)"))

    paying = ann.page.get_by_role("link", name=re.compile("^Pay ")).or_(
        ann.page.get_by_role("button", name=re.compile("^Pay "))
    )
    async with ann.visitor.context.expect_page() as opened:
        await paying.first.click()
    checkout = await opened.value
    await checkout.get_by_role("button", name="Pay").click()
    await expect(checkout.get_by_text("The payment was told to the gateway.")).to_be_visible()
    await ann.page.bring_to_front()
    await ann.reads("Paid. It is yours.")
    # Paid is for good: to the other one it says so as soon as somebody asks.
    paid = console.page.locator(".figure", has=console.page.get_by_text("Paid orders", exact=True))
    await expect(paid).to_contain_text("1", timeout=SOON_MS)
    await expect(console.page.locator(".feed")).to_contain_text("¥19.00")


async def test_whose_connection_was_lost_during_a_tap_reads_the_true_answer_and_has_bought_once(
    gateway: Gateway, host: Host, visitors: Visitors, network: FaultProxy
) -> None:
    show = await make_show(host, stock=5, limit=5)
    ann = await ViewerPage.enter(visitors, gateway, show.room, f"ann-{show.room}", **PHONE)
    await ann.open_bag()
    await network.set(["live"], LOSE_ANSWERS)
    await ann.button.click()
    await ann.reads(re.compile("You will not buy twice|you will not buy twice"))
    # However often somebody taps meanwhile, it is the same tap.
    await ann.button.click(force=True)
    await network.heal()
    await ann.reads(re.compile("^Yours until"))
    assert await units_left(host, show.sale) == 4


async def test_a_page_that_was_loaded_anew_during_a_tap_says_what_became_of_it(
    gateway: Gateway, host: Host, visitors: Visitors, network: FaultProxy
) -> None:
    show = await make_show(host, stock=5, limit=5)
    ann = await ViewerPage.enter(visitors, gateway, show.room, f"ann-{show.room}", **PHONE)
    await ann.open_bag()
    await network.set(["live"], LOSE_ANSWERS)
    await ann.button.click()
    await ann.reads(re.compile("you will not buy twice"))
    await ann.page.reload()
    await network.heal()
    await ann.open_bag()
    await ann.reads(re.compile("^Yours until"))
    assert await units_left(host, show.sale) == 4


async def test_whose_tap_never_left_is_told_so_and_may_tap_again(
    gateway: Gateway, host: Host, visitors: Visitors, network: FaultProxy
) -> None:
    show = await make_show(host, stock=5, limit=5)
    ann = await ViewerPage.enter(visitors, gateway, show.room, f"ann-{show.room}", **PHONE)
    await ann.open_bag()
    await network.set(["live"], Bend(mode=Mode.CUT))
    await expect(ann.page.get_by_text("Connection lost, coming back")).to_be_visible()
    await ann.button.click()
    await ann.reads(re.compile("^No connection. Your tap goes out when it is back"))
    await network.heal()
    await ann.reads(re.compile("^Yours until"))
    assert await units_left(host, show.sale) == 4


async def units_left(host: Host, sale: str) -> int | None:
    return (await host.sale(sale)).items[0].left
