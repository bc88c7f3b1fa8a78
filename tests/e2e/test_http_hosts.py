"""Hosts by HTTP on a whole gateway: rooms, sales, what they do to a sale, and what they read of it."""

import asyncio
import csv
import io
import uuid
from collections.abc import AsyncIterator

import pytest

from tests.support.api import ITEM, Api, api_of, sale_body
from tests.support.gateway import Gateway


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


async def test_a_room_lives_and_ends(api: Api) -> None:
    room = await api.room(notice="Welcome", stream_url="https://x.example/live.m3u8")
    path = f"/v1/rooms/{room['room']}"
    assert room["state"] == "scheduled"
    assert room["live_url"].startswith("ws://") and room["live_url"].endswith(f"{path}/live")
    changed = await api.call("PATCH", path, {"title": "Late show", "notice": None})
    assert (changed.status, changed.json["title"]) == (200, "Late show")
    assert "notice" not in changed.json
    for act, state in (("start", "live"), ("start", "live"), ("end", "ended"), ("end", "ended")):
        answer = await api.call("POST", f"{path}/{act}", key="-")
        assert (answer.status, answer.json["state"]) == (200, state)
    assert (await api.call("POST", f"{path}/start")).code == "conflict"
    read = await api.call("GET", path, token=api.viewer())
    assert (read.status, read.json["state"], read.json["sales"]) == (200, "ended", [])


async def test_a_key_makes_one_room_however_often_it_is_asked(api: Api) -> None:
    key = uuid.uuid4().hex
    answers = await asyncio.gather(*(api.call("POST", "/v1/rooms", {"title": "Show"}, key=key) for _ in range(10)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["room"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    other = await api.call("POST", "/v1/rooms", {"title": "Another"}, key=key)
    assert (other.status, other.code) == (422, "key_reused")
    # The scope of a key is the caller and the kind of act.
    assert (await api.call("POST", "/v1/sales", sale_body(), key=key)).status == 201
    assert (await api.call("POST", "/v1/rooms", {"title": "Show"}, key=key, token=api.token("host-2"))).status == 201


async def test_lists_go_on_behind_a_cursor(api: Api) -> None:
    made = [(await api.room(title=f"Show {n}"))["room"] for n in range(3)]
    first = await api.call("GET", "/v1/rooms?limit=2")
    assert [room["room"] for room in first.json["items"]] == [made[2], made[1]]
    rest = await api.call("GET", f"/v1/rooms?limit=1&after={first.json['next']}")
    assert [room["room"] for room in rest.json["items"]] == [made[0]]
    await api.sale()
    last = await api.call("GET", "/v1/sales?limit=1", token=api.viewer())
    assert len(last.json["items"]) == 1 and last.json["next"]
    assert (await api.call("GET", "/v1/rooms?after=sale_1")).code == "invalid"


async def test_sales_are_listed_by_room_page_by_page(api: Api) -> None:
    room, other = [(await api.room())["room"] for _ in range(2)]
    mine = [(await api.sale(room=room))["sale"] for _ in range(3)]
    elsewhere = [(await api.sale(room=other))["sale"], (await api.sale())["sale"]]
    first = await api.call("GET", f"/v1/sales?room={room}&limit=2", token=api.viewer())
    assert [sale["sale"] for sale in first.json["items"]] == [mine[2], mine[1]]
    rest = await api.call("GET", f"/v1/sales?room={room}&limit=2&after={first.json['next']}")
    assert [sale["sale"] for sale in rest.json["items"]] == [mine[0]] and rest.json["next"] is None
    listed = await api.call("GET", f"/v1/sales?room={other}")
    assert [sale["sale"] for sale in listed.json["items"]] == elsewhere[:1]
    # A room of another shop has none here; a token for rooms is for these.
    assert (await api.call("GET", f"/v1/sales?room={room}", token=api.viewer(shop="cups"))).json["items"] == []
    assert (await api.call("GET", f"/v1/sales?room={room}", token=api.viewer(rooms=[other]))).code == "forbidden"
    assert (await api.call("GET", f"/v1/sales?room={other}", token=api.viewer(rooms=[other]))).status == 200
    missing = await api.call("GET", "/v1/sales?room=room_none")
    assert (missing.code, missing.json["param"]) == ("not_found", "room")


async def test_a_sale_shows_each_what_they_may_see(api: Api) -> None:
    room = (await api.room())["room"]
    sale = await api.sale(room=room, stock_display="low", items=[{**ITEM, "stock": 200, "floor_minor": 900}])
    assert (sale["state"], sale["room"]) == ("open", room)
    path = f"/v1/sales/{sale['sale']}"
    item = (await api.call("GET", path)).json["items"][0]
    assert (item["stock"], item["left"], item["held"], item["paid"], item["floor_minor"]) == (200, 200, 0, 0, 900)
    item = (await api.call("GET", path, token=api.viewer())).json["items"][0]
    assert item["low"] is False
    assert not {"stock", "left", "held", "paid", "floor_minor"} & set(item)
    sales = (await api.call("GET", f"/v1/rooms/{room}", token=api.viewer())).json["sales"]
    assert [(each["sale"], each["state"]) for each in sales] == [(sale["sale"], "open")]


async def test_a_sale_goes_through_its_states_and_closed_is_final(api: Api) -> None:
    sale = (await api.sale(opens_in_s=3000))["sale"]
    viewer = api.viewer()

    async def act(name: str) -> str:
        answer = await api.call("POST", f"/v1/sales/{sale}/{name}", key="-")
        assert answer.status == 200, answer.text
        return str(answer.json["state"])

    async def outcome() -> str:
        return str((await api.order(sale, viewer, key=uuid.uuid4().hex)).json["outcome"])

    assert await outcome() == "not_started"
    # Opening early sets `opens_at` to now.
    assert await act("open") == "open"
    assert await act("open") == "open"
    assert await outcome() == "reserved"
    assert await act("pause") == "paused"
    assert await outcome() == "paused"
    assert await act("pause") == "paused"
    assert await act("resume") == "open"
    assert await outcome() == "reserved"
    assert await act("close") == "closed"
    assert await act("close") == "closed"
    assert await outcome() == "ended"
    for name in ("open", "pause", "resume"):
        answer = await api.call("POST", f"/v1/sales/{sale}/{name}")
        assert (answer.status, answer.code) == (409, "conflict")
    assert (await api.call("GET", f"/v1/sales/{sale}", token=viewer)).json["state"] == "closed"


async def test_stock_grows_and_shrinks_down_to_what_is_held(api: Api) -> None:
    sale = (await api.sale(items=[{**ITEM, "stock": 3, "sku": "tin/red"}, ITEM]))["sale"]
    path = f"/v1/sales/{sale}/items/tin%2Fred/stock"
    assert (await api.order(sale, api.viewer(), sku="tin/red", quantity=2)).status == 201
    key = uuid.uuid4().hex
    answers = [await api.call("POST", path, {"add": -1, "reason": "broken"}, key=key) for _ in range(3)]
    assert [(answer.status, answer.json["stock"], answer.json["left"]) for answer in answers] == [(200, 2, 0)] * 3
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true", "true"]
    under = await api.call("POST", path, {"add": -1, "reason": "broken"})
    assert (under.status, under.code) == (409, "stock_in_use")
    more = await api.call("POST", path, {"add": 5, "reason": "found"})
    assert (more.json["stock"], more.json["left"], more.json["held"]) == (7, 5, 2)
    for body in ({"add": 6, "reason": "broken"}, {"add": -1, "reason": "other"}):
        assert (await api.call("POST", path, body, key=key)).code == "key_reused"
    elsewhere = (await api.sale())["sale"]
    again = await api.call("POST", f"/v1/sales/{elsewhere}/items/tin/stock", {"add": -1, "reason": "broken"}, key=key)
    assert again.code == "key_reused"
    assert (await api.call("POST", f"/v1/sales/{sale}/items/cup/stock", {"add": 1, "reason": "x"})).code == "not_found"
    assert (await api.call("POST", path, {"add": 10**8, "reason": "x"})).code == "invalid"


async def test_the_host_reads_the_orders_of_a_sale(api: Api) -> None:
    sale = (await api.sale(items=[{**ITEM, "stock": 5}]))["sale"]
    room = (await api.room())["room"]
    for number in range(5):
        by = "=HYPERLINK(1)" if number == 0 else f"guide-{number}"
        said = {"ref": await api.ref(room=room, referrer=by, guide=by), "meta": f"+{number}", "pickup": f"@{by}"}
        answer = await api.order(sale, api.viewer(f"buyer-{number}"), **said, headers={"Prefer": "wait=10"})
        assert answer.json["order"]["status"] == "confirmed"
    path = f"/v1/sales/{sale}/orders"
    first = await api.call("GET", f"{path}?limit=3")
    rest = await api.call("GET", f"{path}?limit=3&after={first.json['next']}")
    assert [order["sub"] for order in first.json["items"] + rest.json["items"]] == [f"buyer-{n}" for n in range(5)]
    assert rest.json["next"] is None
    assert len((await api.call("GET", f"{path}?status=confirmed")).json["items"]) == 5
    assert (await api.call("GET", f"{path}?status=paid")).json["items"] == []
    assert (await api.call("GET", f"{path}?status=sold")).code == "invalid"
    export = await api.call("GET", f"{path}.csv")
    assert export.headers["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(export.text)))
    assert [row["sub"] for row in rows] == [f"buyer-{n}" for n in range(5)]
    formula = "'=HYPERLINK(1)"
    assert (rows[0]["source"], rows[0]["referrer"], rows[0]["guide"]) == ("live", formula, formula)
    assert (rows[0]["pickup"], rows[0]["redeemed_at"]) == ("'@=HYPERLINK(1)", "")
    assert [row["meta"] for row in rows] == [f'"+{n}"' for n in range(5)]
    assert {(row["amount_minor"], row["currency"], row["status"]) for row in rows} == {("1900", "CNY", "confirmed")}


async def test_what_is_another_shops_is_not_there(api: Api) -> None:
    room = (await api.room())["room"]
    sale = (await api.sale())["sale"]
    order = (await api.order(sale, api.viewer("ann"))).json["order"]["order"]
    host, viewer = api.token(shop="cups"), api.viewer("ann", shop="cups")
    asked = [
        ("GET", f"/v1/rooms/{room}", host, None),
        ("GET", f"/v1/rooms/{room}", viewer, None),
        ("PATCH", f"/v1/rooms/{room}", host, {"title": "Mine"}),
        ("POST", f"/v1/rooms/{room}/end", host, None),
        ("GET", f"/v1/sales/{sale}", host, None),
        ("GET", f"/v1/sales/{sale}", viewer, None),
        ("POST", f"/v1/sales/{sale}/close", host, None),
        ("POST", f"/v1/sales/{sale}/items/tin/stock", host, {"add": 1, "reason": "x"}),
        ("GET", f"/v1/sales/{sale}/orders", host, None),
        ("GET", f"/v1/sales/{sale}/orders.csv", host, None),
        ("GET", f"/v1/orders/{order}", host, None),
        ("GET", f"/v1/orders/{order}", viewer, None),
        ("GET", f"/v1/orders/by-key/k1?sale={sale}", viewer, None),
        ("POST", "/v1/orders", viewer, {"sale": sale, "sku": "tin", "quantity": 1}),
        ("POST", "/v1/sales", host, sale_body(room=room)),
    ]
    for method, path, token, body in asked:
        answer = await api.call(method, path, body, token=token)
        assert (answer.status, answer.code) == (404, "not_found"), (method, path, answer.text)
    assert (await api.call("GET", f"/v1/sales/{sale}")).json["state"] == "open"


async def test_what_a_role_may_not_do_is_forbidden(api: Api) -> None:
    room = (await api.room())["room"]
    sale = (await api.sale())["sale"]
    viewer, clerk, host = api.viewer(), api.token("clerk", "clerk"), api.token()
    asked = [
        ("POST", "/v1/rooms", viewer, {"title": "Mine"}),
        ("POST", "/v1/rooms", clerk, {"title": "Mine"}),
        ("PATCH", f"/v1/rooms/{room}", viewer, {"title": "Mine"}),
        ("POST", f"/v1/rooms/{room}/start", viewer, None),
        ("POST", "/v1/sales", viewer, sale_body()),
        ("POST", f"/v1/sales/{sale}/pause", viewer, None),
        ("POST", f"/v1/sales/{sale}/pause", clerk, None),
        ("POST", f"/v1/sales/{sale}/items/tin/stock", viewer, {"add": 1, "reason": "x"}),
        ("GET", f"/v1/sales/{sale}/orders", viewer, None),
        ("GET", f"/v1/sales/{sale}/orders.csv", viewer, None),
        ("POST", "/v1/orders", host, {"sale": sale, "sku": "tin", "quantity": 1}),
        ("GET", "/v1/orders", host, None),
    ]
    for method, path, token, body in asked:
        answer = await api.call(method, path, body, token=token)
        assert (answer.status, answer.code) == (403, "forbidden"), (method, path, answer.text)


async def test_a_token_for_some_rooms_reaches_no_others(api: Api) -> None:
    mine, other = (await api.room())["room"], (await api.room())["room"]
    sale = (await api.sale(room=other))["sale"]
    token = api.token(rooms=[mine])
    assert (await api.call("GET", f"/v1/rooms/{mine}", token=token)).status == 200
    assert [room["room"] for room in (await api.call("GET", "/v1/rooms", token=token)).json["items"]] == [mine]
    assert (await api.call("GET", "/v1/sales", token=token)).json["items"] == []
    for method, path, body in (
        ("GET", f"/v1/rooms/{other}", None),
        ("POST", f"/v1/rooms/{other}/start", None),
        ("POST", "/v1/rooms", {"title": "Mine"}),
        ("GET", f"/v1/sales/{sale}", None),
        ("POST", f"/v1/sales/{sale}/close", None),
        ("POST", "/v1/sales", sale_body(room=other)),
        ("POST", "/v1/sales", sale_body()),
    ):
        assert (await api.call(method, path, body, token=token)).code == "forbidden", (method, path)
    assert (await api.call("POST", "/v1/sales", sale_body(room=mine), token=token)).status == 201
