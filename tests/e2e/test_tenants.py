"""Shops beside each other on one gateway: made, limited, given other keys and origins, while it runs."""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from gateway.ledger.shops import Shops
from tests.support.api import Answer, Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show
from tests.support.seat import Seat
from tests.support.servers import eventually

FULL = 4029
# What is promised where the bus brings it; it must not be what would be read anew anyhow.
AT_ONCE_S = 3.0


@dataclass
class Tenant:
    """A shop made by the command, with a live room."""

    api: Api
    shop: str
    show: Show

    @property
    def gateway(self) -> Gateway:
        return self.api.gateway

    async def command(self, *argv: str) -> Any:
        done = await asyncio.to_thread(self.gateway.command, "shop", *argv, "--json")
        return json.loads(done.stdout)

    async def new_room(self) -> Answer:
        return await self.api.call("POST", "/v1/rooms", {"title": "Show"}, token=self.api.token(shop=self.shop))

    async def knock(self, sub: str = "") -> tuple[Seat, dict[str, Any]]:
        """A viewer's socket, and the first thing it is told."""
        sub = sub or f"viewer-{uuid.uuid4().hex[:12]}"
        seat = await self.show.take(self.api.viewer(sub, shop=self.shop), sub)
        await seat.say({"t": "hello"})
        return seat, await seat.until(lambda: seat.frames[0] if seat.frames else None)

    async def is_let_in(self) -> bool:
        seat, told = await self.knock()
        if told["t"] == "bye":
            await seat.leave()
        return bool(told["t"] == "welcome")

    async def reads(self, token: str) -> int:
        return (await self.api.call("GET", "/v1/rooms", token=token)).status


@pytest.fixture
async def tenant(gateway: Gateway) -> AsyncIterator[Tenant]:
    shop = f"shop-{uuid.uuid4().hex[:12]}"
    made = json.loads((await asyncio.to_thread(gateway.command, "shop", "create", shop, "--json")).stdout)
    assert {key["signs"] for key in made["keys"]} == {"viewer", "staff"} and all(
        key["secret_hex"] for key in made["keys"]
    )
    async with Shops.connect(gateway.servers()["database_url"]) as shops, api_of(gateway) as api:
        api.shops[shop] = await shops.get(shop)
        host = api.token(shop=shop)
        room = (await api.call("POST", "/v1/rooms", {"title": shop}, token=host)).json["room"]
        assert (await api.call("POST", f"/v1/rooms/{room}/start", token=host)).status == 200
        show = Show(api, room, shop, "", aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        try:
            yield Tenant(api, shop, show)
        finally:
            await show.close()


async def test_a_shop_has_the_default_limits_and_what_is_named_changes_alone(tenant: Tenant) -> None:
    shop = tenant.shop
    assert await tenant.command("limits", shop) == {
        "shop": shop,
        "rooms_a_day": 50,
        "viewers": None,
        "comments_per_s": None,
    }
    await tenant.command("limits", shop, "--viewers", "1000")
    changed = await tenant.command("limits", shop, "--comments-per-s", "20")
    assert (changed["rooms_a_day"], changed["viewers"], changed["comments_per_s"]) == (50, 1000, 20)
    assert (await tenant.command("limits", shop, "--viewers", "none"))["viewers"] is None
    for argv, code in (((shop, "--viewers", "many"), 2), (("nobody-at-all",), 1)):
        refused = await asyncio.to_thread(tenant.gateway.command, "shop", "limits", *argv, check=False)
        assert (refused.returncode, refused.stdout) == (code, "")
    assert await tenant.command("limits", shop) == {**changed, "viewers": None}


async def test_a_shop_makes_as_many_rooms_a_day_as_it_may(tenant: Tenant) -> None:
    await tenant.command("limits", tenant.shop, "--rooms-a-day", "2")
    assert (await tenant.new_room()).status == 201  # the second: it has one
    refused = await tenant.new_room()
    assert (refused.status, refused.code) == (429, "rate_limited")
    assert "2 rooms a day" in refused.json["detail"]
    left_s = 86_400 - time.time() % 86_400
    assert abs(int(refused.headers["Retry-After"]) - left_s) < 60
    # Nobody else's day is over, and a higher limit holds from the next room on.
    assert (await tenant.api.call("POST", "/v1/rooms", {"title": "Show"})).status == 201
    await tenant.command("limits", tenant.shop, "--rooms-a-day", "3")
    assert (await tenant.new_room()).status == 201


async def test_a_full_shop_asks_viewers_to_come_back_and_lets_them_in_when_it_may_have_more(tenant: Tenant) -> None:
    await tenant.command("limits", tenant.shop, "--viewers", "2")
    seats = [(await tenant.knock())[0] for _ in range(2)]

    async def is_full() -> bool:
        # Told to every live process within a moment, and counted over all of them.
        return not await tenant.is_let_in()

    await eventually(is_full, within_s=AT_ONCE_S)
    seat, told = await tenant.knock()
    assert (told["t"], told["code"]) == ("bye", FULL) and 5_000 <= told["retry_after_ms"] <= 15_000
    assert await seat.ended() == FULL
    for seat in seats:
        await seat.pong()  # who is in stays in
    # Its host comes in all the same.
    host = await tenant.show.take(tenant.api.token("host", shop=tenant.shop), "host")
    await host.say({"t": "hello"})
    assert (await host.hear("welcome"))["t"] == "welcome"
    await tenant.command("limits", tenant.shop, "--viewers", "100")
    await eventually(tenant.is_let_in, within_s=AT_ONCE_S)


async def test_comments_beyond_the_pace_of_a_shop_are_too_fast_and_those_of_another_are_not(tenant: Tenant) -> None:
    seats = [(await tenant.knock())[0] for _ in range(8)]
    assert {(await seat.comment("before"))["outcome"] for seat in seats} == {"posted"}
    await tenant.command("limits", tenant.shop, "--comments-per-s", "1")

    async def some_wait() -> bool:
        answers = await asyncio.gather(*(seat.comment("now") for seat in seats))
        waiting = [answer for answer in answers if answer["outcome"] == "too_fast"]
        # A viewer's own pace allows a burst of five, so it is the shop's that is felt.
        assert all(answer["retry_after_ms"] > 0 for answer in waiting)
        return len(waiting) >= len(seats) - 2

    await eventually(some_wait, within_s=AT_ONCE_S)
    await tenant.command("limits", tenant.shop, "--comments-per-s", "none")

    async def nobody_waits() -> bool:
        # Of viewers who have said nothing yet.
        fresh = [(await tenant.knock())[0] for _ in range(4)]
        answers = await asyncio.gather(*(seat.comment("again") for seat in fresh))
        return {answer["outcome"] for answer in answers} == {"posted"}

    await eventually(nobody_waits, within_s=AT_ONCE_S)


async def test_a_new_key_is_good_at_once_and_the_old_one_for_as_long_as_it_is_kept(tenant: Tenant) -> None:
    api, shop = tenant.api, tenant.shop
    old = api.token("host", shop=shop)
    assert await tenant.reads(old) == 200
    printed = await tenant.command("rotate-key", shop, "--signs", "staff", "--keep-for", "600")
    async with Shops.connect(tenant.gateway.servers()["database_url"]) as shops:
        api.shops[shop] = await shops.get(shop)
    new = api.token("host", shop=shop)
    assert api.shops[shop].keys[0].kid == printed["kid"] or printed["kid"] in {key.kid for key in api.shops[shop].keys}
    assert (await tenant.reads(new), await tenant.reads(old)) == (200, 200)
    await tenant.command("rotate-key", shop, "--signs", "staff", "--keep-for", "0")

    async def both_are_refused() -> bool:
        return [await tenant.reads(token) for token in (old, new)] == [401, 401]

    await eventually(both_are_refused, within_s=AT_ONCE_S)
    # Printed once: no list shows it again unless it is asked for.
    listed = (await asyncio.to_thread(tenant.gateway.command, "shop", "list")).stdout
    assert shop in listed and printed["secret_hex"] not in listed
    # A viewer's key is another one.
    assert await tenant.reads(api.viewer(shop=shop)) == 200


async def test_a_page_of_a_new_origin_is_let_in_at_once(tenant: Tenant) -> None:
    origin = f"https://{tenant.shop}.example"

    async def is_allowed() -> bool:
        answer = await tenant.api.call(
            "GET", "/v1/rooms", token=tenant.api.viewer(shop=tenant.shop), headers={"Origin": origin}
        )
        return bool(answer.headers.get("Access-Control-Allow-Origin") == origin)

    assert not await is_allowed()
    await tenant.command("origins", tenant.shop, "--set", origin)
    await eventually(is_allowed, within_s=AT_ONCE_S)
    await tenant.command("origins", tenant.shop, "--none")

    async def is_refused() -> bool:
        return not await is_allowed()

    await eventually(is_refused, within_s=AT_ONCE_S)
