"""Who sits before the pages, and the things they do there, by the words they read."""

import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from playwright.async_api import Locator, expect

from gateway.client.host import Host
from tests.support.chromium import Visitor, Visitors
from tests.support.gateway import Gateway

# The true answer of a tap comes within a second; a test machine may be busy with anything meanwhile.
SOON_MS: Final = 15_000


@dataclass(frozen=True)
class Show:
    room: str
    sale: str


async def make_show(
    host: Host, *, stock: int = 1, price_minor: int = 1900, limit: int = 1, opens_in_s: float = -60, live: bool = True
) -> Show:
    """A room with a sale of tins; `live`: it has started."""
    room = await host.create_room("Evening tea", key=uuid.uuid4().hex)
    if live:
        await host.start_room(room.room)
    now = datetime.now(UTC)
    sale = await host.create_sale(
        key=uuid.uuid4().hex,
        title="First drop",
        currency="CNY",
        room=room.room,
        opens_at=(now + timedelta(seconds=opens_in_s)).isoformat(),
        closes_at=(now + timedelta(hours=2)).isoformat(),
        items=[{"sku": "tin", "title": "Tin", "price_minor": price_minor, "stock": stock, "limit_per_viewer": limit}],
    )
    return Show(room.room, sale.sale)


class ViewerPage:
    """A viewer in the room's page."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor, self.page = visitor, visitor.page

    @classmethod
    async def enter(cls, visitors: Visitors, gateway: Gateway, room: str, sub: str, **options: Any) -> "ViewerPage":
        """By a link as the shop makes them."""
        visitor = await visitors.new(**options)
        await visitor.page.goto(f"{gateway.url}/r/{room}#token={gateway.token(sub)}")
        await expect(visitor.page.get_by_role("textbox")).to_be_enabled(timeout=SOON_MS)
        return cls(visitor)

    @property
    def button(self) -> Locator:
        """Of the only item."""
        return self.page.locator(".tap-button:visible").first

    @property
    def answer(self) -> Locator:
        return self.page.locator(".tap-note:visible").first

    async def open_bag(self) -> None:
        """On a phone it is a sheet; on a desk it stands there."""
        opens = self.page.get_by_role("button", name=re.compile("Open the bag|打开"))
        if await opens.is_visible():
            await opens.click()
        await expect(self.button).to_be_visible()

    async def reads(self, text: str | re.Pattern[str]) -> None:
        await expect(self.answer).to_have_text(text, timeout=SOON_MS)


class Console:
    """A host in the console."""

    def __init__(self, visitor: Visitor) -> None:
        self.visitor, self.page = visitor, visitor.page

    @classmethod
    async def open(cls, visitors: Visitors, gateway: Gateway, room: str, **options: Any) -> "Console":
        visitor = await visitors.new(**{"viewport": {"width": 1440, "height": 900}, **options})
        await visitor.page.goto(f"{gateway.url}/host?room={room}#token={gateway.token('host', 'host')}")
        await expect(visitor.page.locator(".console.in-room")).to_be_visible(timeout=SOON_MS)
        return cls(visitor)

    def named(self, name: str, *, exact: bool = True) -> Locator:
        return self.page.get_by_role("button", name=name, exact=exact)
