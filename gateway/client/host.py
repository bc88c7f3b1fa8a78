"""The host's calls: rooms, sales, stock, prices and the orders of a sale. What hosts do in a live room is in
room_host.py."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from gateway.client.coupons import CouponHost
from gateway.client.http import Order, each_order
from gateway.client.people import Clerk, LinkMaker
from gateway.client.room_host import RoomHost


class Room(msgspec.Struct, kw_only=True):
    room: str
    state: str
    title: str = ""
    live_url: str = ""


class Item(msgspec.Struct, kw_only=True):
    """One sku of a sale; `left`, `held` and `paid` as far as the reader may see them."""

    sku: str
    price_minor: int
    prices: list[dict[str, Any]] = []
    title: str = ""
    stock: int | None = None
    limit_per_viewer: int | None = None
    left: int | None = None
    held: int | None = None
    paid: int | None = None


class Sale(msgspec.Struct, kw_only=True):
    sale: str
    state: str
    title: str = ""
    currency: str = ""
    opens_at: str = ""
    closes_at: str = ""
    items: list[Item] = []


class ItemTerms(msgspec.Struct, kw_only=True):
    """stock = left + held + paid + on_the_way; None where it is not known just now."""

    sku: str
    stock: int
    left: int | None
    held: int
    paid: int
    on_the_way: int | None


class Invariant(msgspec.Struct, kw_only=True):
    """What the last audit said of a sale, and where its units are now."""

    sale: str
    at: str
    holds: bool | None
    audited_at: str | None
    why_not: str | None
    broken: list[dict[str, str]]
    behind: int | None
    items: list[ItemTerms]


class Host(RoomHost, CouponHost, LinkMaker, Clerk):
    """Who runs a sale. Creates and stock changes take a `key`; acts that name a state need none."""

    async def create_room(self, title: str, *, key: str | None = None, **fields: Any) -> Room:
        return await self._room("POST", "/v1/rooms", {"title": title, **fields}, key=key)

    async def room(self, room: str) -> Room:
        return await self._room("GET", f"/v1/rooms/{quote(room)}")

    async def start_room(self, room: str) -> Room:
        return await self._room("POST", f"/v1/rooms/{quote(room)}/start")

    async def end_room(self, room: str) -> Room:
        return await self._room("POST", f"/v1/rooms/{quote(room)}/end")

    async def create_sale(
        self,
        *,
        title: str,
        currency: str,
        opens_at: str,
        closes_at: str,
        items: list[dict[str, Any]],
        key: str | None = None,
        **fields: Any,
    ) -> Sale:
        body = {
            "title": title,
            "currency": currency,
            "opens_at": opens_at,
            "closes_at": closes_at,
            "items": items,
            **fields,
        }
        return await self._sale("POST", "/v1/sales", body, key=key)

    async def sale(self, sale: str) -> Sale:
        return await self._sale("GET", f"/v1/sales/{quote(sale)}")

    async def open_sale(self, sale: str) -> Sale:
        return await self._sale("POST", f"/v1/sales/{quote(sale)}/open")

    async def pause(self, sale: str) -> Sale:
        return await self._sale("POST", f"/v1/sales/{quote(sale)}/pause")

    async def resume(self, sale: str) -> Sale:
        return await self._sale("POST", f"/v1/sales/{quote(sale)}/resume")

    async def close_sale(self, sale: str) -> Sale:
        """Final."""
        return await self._sale("POST", f"/v1/sales/{quote(sale)}/close")

    async def add_stock(self, sale: str, sku: str, add: int, *, reason: str, key: str | None = None) -> Item:
        path = f"/v1/sales/{quote(sale)}/items/{quote(sku)}/stock"
        answer = await self.call("POST", path, {"add": add, "reason": reason}, key=key)
        return msgspec.json.decode(answer.body, type=Item)

    async def change_prices(self, sale: str, prices: Mapping[str, int]) -> Sale:
        """By sku; in force for every order decided from here on."""
        items = [{"sku": sku, "price_minor": price} for sku, price in prices.items()]
        return await self._sale("PATCH", f"/v1/sales/{quote(sale)}", {"items": items})

    async def change_sale(self, sale: str, **changes: Any) -> Sale:
        """`title`, `opens_at`, `closes_at`, `stock_display`, `items`; what is left out stays."""
        return await self._sale("PATCH", f"/v1/sales/{quote(sale)}", changes)

    async def invariant(self, sale: str) -> Invariant:
        answer = await self.call("GET", f"/v1/sales/{quote(sale)}/invariant")
        return msgspec.json.decode(answer.body, type=Invariant)

    async def orders(self, sale: str, *, status: str | None = None) -> list[Order]:
        path = f"/v1/sales/{quote(sale)}/orders"
        return [order async for order in each_order(self, path, {} if status is None else {"status": status})]

    async def orders_csv(self, sale: str) -> str:
        return (await self.call("GET", f"/v1/sales/{quote(sale)}/orders.csv")).body.decode()

    async def _room(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str | None = None
    ) -> Room:
        return msgspec.json.decode((await self.call(method, path, body, key=key)).body, type=Room)

    async def _sale(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, key: str | None = None
    ) -> Sale:
        return msgspec.json.decode((await self.call(method, path, body, key=key)).body, type=Sale)
