"""Who brings viewers, who waits for a show, who comes for what was paid: on a whole gateway, over real HTTP."""

import asyncio
import csv
import io
import os
import signal
import uuid
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import aiohttp
import asyncpg
import pytest
import segno

from gateway.client import Backend, Clerk, Host, ViewerHttp
from gateway.domain.links import LinkSeal
from gateway.errors import AlreadyRedeemed, Conflict
from tests.support.api import Answer, Api, api_of
from tests.support.gateway import Gateway
from tests.support.servers import eventually

# Of one real show.
SHOW = 4212


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


def somebody(what: str = "viewer") -> str:
    return f"{what}-{uuid.uuid4().hex[:12]}"


# Links.


async def test_an_order_is_credited_to_the_link_it_came_by_and_nobody_refers_themselves(api: Api) -> None:
    room = (await api.room())["room"]
    sale = (await api.sale(room=room))["sale"]
    ann, ben, eve = somebody("ann"), somebody("ben"), somebody("eve")
    async with Backend(api.gateway.url, api.token("backend", "service")) as backend:
        by_ann = await backend.make_link(room, source="group", referrer=ann, guide="g-7")
        assert await backend.make_link(room, source="group", referrer=ann, guide="g-7") == by_ann
    async with Host(api.gateway.url, api.token()) as host:
        article = await host.make_link(room, source="article")
    placed = {
        # By the order, by the token, by the order rather than the token, and by nobody: a token's that is not ours.
        ann: await api.order(sale, api.viewer(ann), ref=by_ann),
        ben: await api.order(sale, api.viewer(ben, ref=by_ann)),
        eve: await api.order(sale, api.viewer(eve, ref=by_ann), ref=article),
        (joe := somebody("joe")): await api.order(sale, api.viewer(joe, ref="guide-7")),
    }
    assert [answer.status for answer in placed.values()] == [201] * 4
    refs = [answer.json["order"].get("ref") for answer in placed.values()]
    assert refs == [by_ann, by_ann, article, None]
    expected = [("group", None, "g-7"), ("group", ann, "g-7"), ("article", None, None), (None, None, None)]

    async def listed() -> bool:
        return len((await api.call("GET", f"/v1/sales/{sale}/orders?status=confirmed")).json["items"]) == 4

    await eventually(listed)
    orders = {each["sub"]: each for each in (await api.call("GET", f"/v1/sales/{sale}/orders")).json["items"]}
    facts = [tuple(orders[sub].get(name) for name in ("source", "referrer", "guide")) for sub in placed]
    assert facts == expected
    own = (await api.call("GET", "/v1/orders", token=api.viewer(ben))).json["items"][0]
    assert own["ref"] == by_ann and {"source", "referrer", "guide"}.isdisjoint(own)
    rows = {row["sub"]: row for row in csv.DictReader(io.StringIO(await _csv(api, sale)))}
    assert [tuple(rows[sub][name] or None for name in ("source", "referrer", "guide")) for sub in placed] == expected
    # The repeat of an order stands, whatever the token says by then.
    again = await api.order(sale, api.viewer(ben, ref=article))
    assert again.headers["Idempotent-Replayed"] == "true" and again.json["order"]["ref"] == by_ann


async def _csv(api: Api, sale: str) -> str:
    return (await api.call("GET", f"/v1/sales/{sale}/orders.csv")).text


async def test_an_order_by_a_link_that_is_none_of_the_shops_is_refused_whole(api: Api) -> None:
    sale, viewer = (await api.sale())["sale"], api.viewer()
    own, foreign = await api.ref(), await api.ref(shop="cups")
    forged = LinkSeal(b"k" * 32).ref("tins", 1_000, 1)
    for ref in (foreign, forged, own[:-1] + ("0" if own[-1] != "0" else "1"), "article", own.upper()):
        answer = await api.order(sale, viewer, ref=ref)
        assert (answer.status, answer.code, answer.json["param"]) == (422, "invalid", "ref")
    answer = await api.order(sale, viewer, ref=own)
    assert (answer.status, "Idempotent-Replayed" in answer.headers) == (201, False), "the key was free"


async def test_what_a_link_may_say_is_said_and_who_may_make_one(api: Api) -> None:
    room = (await api.room())["room"]
    path = f"/v1/rooms/{room}/links"
    for body, param in (
        ({}, "source"),
        ({"source": ""}, "source"),
        ({"source": "Live"}, "source"),
        ({"source": "a" * 33}, "source"),
        ({"source": "live", "referrer": "r" * 65}, "referrer"),
        ({"source": "live", "guide": "a\nb"}, "guide"),
    ):
        answer = await api.call("POST", path, body)
        assert (answer.status, answer.code, answer.json["param"]) == (422, "invalid", param)
    assert (await api.call("POST", path, {"source": "live"}, key="-")).code == "bad_request"
    assert (await api.call("POST", path, {"source": "live"}, token=api.viewer())).code == "forbidden"
    assert (await api.call("POST", path, {"source": "live"}, token=api.token(shop="cups"))).code == "not_found"
    first = await api.call("POST", path, {"source": "live"}, key="link-1")
    again = await api.call("POST", path, {"source": "live"}, key="link-1")
    assert first.json == again.json and again.headers["Idempotent-Replayed"] == "true"
    assert (await api.call("POST", path, {"source": "group"}, key="link-1")).code == "key_reused"
    acts = (await api.call("GET", f"/v1/acts?room={room}")).json["items"]
    assert [(act["act"], act["after"]) for act in acts] == [("link", {"ref": first.json["ref"], "source": "live"})]


# Bookings.


async def test_a_viewer_books_a_show_until_it_starts(api: Api) -> None:
    room = await api.room(starts_at="2030-01-01T12:00:00Z")
    ann, ben = api.viewer(somebody()), api.viewer(somebody())
    path = f"/v1/rooms/{room['room']}/bookings"
    first = await api.call("POST", path, token=ann, key="-")
    assert first.status == 201 and first.json["room"] == room["room"]
    datetime.fromisoformat(first.json["booked_at"])
    again = await api.call("POST", path, token=ann, key="-")
    assert (again.status, again.json) == (200, first.json)
    async with ViewerHttp(api.gateway.url, ben) as viewer:
        await viewer.book(room["room"])
        await viewer.cancel_booking(room["room"])
        await viewer.cancel_booking(room["room"])
    seen = [(await api.call("GET", f"/v1/rooms/{room['room']}", token=token)).json for token in (ann, ben, api.token())]
    assert [page.get("booked") for page in seen] == [True, False, None]
    assert seen[2]["bookings"] == 1
    assert (await api.call("POST", path)).code == "forbidden"
    assert (await api.call("POST", path, token=api.viewer(shop="cups"))).code == "not_found"
    await api.call("POST", f"/v1/rooms/{room['room']}/start")
    late = await api.call("POST", path, token=ben, key="-")
    assert (late.status, late.code) == (409, "conflict")
    assert (await api.call("POST", path, token=ann, key="-")).json == first.json
    assert (await api.call("DELETE", f"{path}/mine", token=ann)).status == 204
    assert (await api.call("GET", f"/v1/rooms/{room['room']}")).json["bookings"] == 1


async def test_one_who_books_without_end_is_slowed(api: Api) -> None:
    room, ann = (await api.room())["room"], api.viewer(somebody())
    answers = await asyncio.gather(
        *(api.call("POST", f"/v1/rooms/{room}/bookings", token=ann, key="-") for _ in range(60))
    )
    slowed = [answer for answer in answers if answer.status == 429]
    assert slowed and {answer.code for answer in slowed} == {"rate_limited"}
    assert {answer.status for answer in answers} == {200, 201, 429}
    assert sum(answer.status == 201 for answer in answers) == 1


async def test_every_booking_is_told_once_though_api_and_keeper_die_at_the_start(rough_gateway: Gateway) -> None:
    async with api_of(rough_gateway) as api:
        room = (await api.room())["room"]
        connection = await asyncpg.connect(rough_gateway.servers()["database_url"])
        try:
            # Nobody answers there, so that what was queued can be counted.
            await connection.execute(
                "INSERT INTO webhooks (shop_no, url, events, secret) SELECT shop_no, 'https://192.0.2.1/', "
                "'{booking.due}', 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' FROM shops WHERE shop = 'tins'"
            )
            await connection.execute(
                "INSERT INTO bookings (room_no, viewer) SELECT room_no, 'viewer-' || n FROM rooms, "
                "generate_series(1, $2::int) n WHERE room = $1",
                room,
                SHOW,
            )
            assert (await api.call("POST", f"/v1/rooms/{room}/start")).json["state"] == "live"
            for title in ("peakgate keeper", "peakgate api"):
                for pid in rough_gateway.pids(title):
                    os.kill(pid, signal.SIGKILL)

            async def told() -> tuple[int, int, bool]:
                row = await connection.fetchrow(
                    "SELECT count(*), count(DISTINCT object) AS objects,"
                    " EXISTS (SELECT FROM booking_calls JOIN rooms USING (room_no)"
                    "          WHERE room = $1 AND told = $2 AND told_at IS NOT NULL) AS done"
                    "  FROM deliveries WHERE type = 'booking.due' AND object LIKE $1 || '/%'",
                    room,
                    SHOW,
                )
                return row["count"], row["objects"], row["done"]

            async def all_told() -> bool:
                return await told() == (SHOW, SHOW, True)

            await eventually(all_told, within_s=40)
        finally:
            await connection.execute("DELETE FROM webhooks")
            await connection.execute("DELETE FROM deliveries")
            await connection.close()

        async def counted() -> bool:
            try:
                return bool((await api.call("GET", f"/v1/rooms/{room}")).json["bookings"] == SHOW)
            except aiohttp.ClientError:
                return False  # it is not back yet

        await eventually(counted, within_s=30)


# Pickup.


async def paid(api: Api, sale: str, sub: str, **fields: Any) -> dict[str, Any]:
    """The order as its viewer sees it once it is paid."""
    viewer = api.viewer(sub)
    answer = await api.order(sale, viewer, headers={"Prefer": "wait=20"}, **fields)
    assert answer.json["order"]["status"] == "confirmed", answer.text
    order = answer.json["order"]
    body = {"provider": "till", "txn": uuid.uuid4().hex, "amount_minor": 1900, "paid_at": "2026-01-01T12:00:00Z"}
    told = await api.call("POST", f"/v1/orders/{order['order']}/payments", body, token=api.token("backend", "service"))
    assert told.status == 200, told.text
    return dict((await api.call("GET", f"/v1/orders/{order['order']}", token=viewer)).json)


def clerk(api: Api, sub: str = "", **claims: Any) -> str:
    return api.token(sub or somebody("clerk"), "clerk", **claims)


async def redeem(api: Api, code: str, token: str, *, key: str | None = None) -> Answer:
    return await api.call("POST", f"/v1/pickups/{code}/redeem", token=token, key=key)


async def test_a_paid_order_is_handed_over_once(api: Api) -> None:
    room = (await api.room())["room"]
    sale, sub = (await api.sale(room=room))["sale"], somebody()
    order = await paid(api, sale, sub, pickup="Front desk")
    code = order["pickup"]["code"]
    assert order["pickup"] == {"place": "Front desk", "code": code}
    assert len(code) == 11 and code[5] == "-"
    till = clerk(api, "till-1")
    sloppy = code.lower().replace("0", "o").replace("1", "l").replace("-", "")
    redeemed = await redeem(api, sloppy, till, key="r1")
    assert redeemed.status == 200 and redeemed.json["order"] == order["order"]
    pickup = redeemed.json["pickup"]
    assert (pickup["code"], pickup["redeemed_by"], redeemed.json["sub"]) == (code, "till-1", sub)
    again = await redeem(api, code, till, key="r1")
    assert (again.status, again.json["order"], again.json["pickup"]) == (200, order["order"], pickup)
    assert again.headers["Idempotent-Replayed"] == "true"
    for token in (till, api.token()):
        refused = await redeem(api, code, token)
        assert (refused.status, refused.code) == (409, "already_redeemed")
        assert refused.json["redeemed_at"] == pickup["redeemed_at"]
    seen = (await api.call("GET", f"/v1/orders/{order['order']}", token=api.viewer(sub))).json["pickup"]
    assert seen == {"place": "Front desk", "code": code, "redeemed_at": pickup["redeemed_at"]}
    rows = list(csv.DictReader(io.StringIO(await _csv(api, sale))))
    assert (rows[0]["pickup"], rows[0]["redeemed_at"]) == ("Front desk", pickup["redeemed_at"])
    assert code not in str(rows), "who reads the table could come for the goods"
    acts = (await api.call("GET", f"/v1/acts?room={room}")).json["items"]
    assert [(act["act"], act["actor"], act["after"]) for act in acts] == [
        ("redeem", "till-1", {"order": order["order"], "sale": sale})
    ]


async def test_twenty_tills_at_once_hand_an_order_over_once(api: Api) -> None:
    sale = (await api.sale())["sale"]
    code = (await paid(api, sale, somebody(), pickup=True))["pickup"]["code"]
    answers = await asyncio.gather(*(redeem(api, code, clerk(api)) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 19
    assert {answer.code for answer in answers if answer.status == 409} == {"already_redeemed"}


async def test_the_code_is_a_picture_for_its_viewer_alone(api: Api) -> None:
    sale, sub = (await api.sale())["sale"], somebody()
    order = await paid(api, sale, sub, pickup=True)
    path, viewer = f"/v1/orders/{order['order']}/pickup", api.viewer(sub)
    picture = segno.make_qr(order["pickup"]["code"], error="q", boost_error=False)
    expected = {"svg": io.BytesIO(), "png": io.BytesIO()}
    for kind, drawn in expected.items():
        picture.save(drawn, kind=kind, scale=8, light="#fff")
    svg = await api.call("GET", f"{path}.svg", token=viewer)
    assert (svg.status, svg.headers["Content-Type"]) == (200, "image/svg+xml")
    assert svg.text.encode() == expected["svg"].getvalue()
    headers = {"Authorization": f"Bearer {viewer}"}
    async with api.session.get(f"{api.gateway.url}{path}.png", headers=headers) as png:
        assert (png.status, png.content_type) == (200, "image/png")
        assert await png.read() == expected["png"].getvalue()
    async with ViewerHttp(api.gateway.url, viewer) as own:
        assert await own.pickup_svg(order["order"]) == expected["svg"].getvalue()
    assert (await api.call("GET", f"{path}.svg", token=api.viewer(somebody()))).code == "not_found"
    assert (await api.call("GET", f"{path}.svg")).code == "forbidden"
    unpaid = (await api.order(sale, viewer, key="k2", pickup="Front desk")).json["order"]
    assert unpaid["pickup"] == {"place": "Front desk"}
    waits = await api.call("GET", f"/v1/orders/{unpaid['order']}/pickup.svg", token=viewer)
    assert (waits.status, waits.code) == (409, "conflict")
    other, third = somebody(), (await api.sale())["sale"]
    plain = await paid(api, third, other, meta={"pickup": True})
    assert "pickup" not in plain
    assert (
        await api.call("GET", f"/v1/orders/{plain['order']}/pickup.svg", token=api.viewer(other))
    ).code == "not_found"


async def test_an_order_that_was_given_back_is_handed_to_nobody(api: Api) -> None:
    sale = (await api.sale())["sale"]
    order = await paid(api, sale, somebody(), pickup=True)
    txn = (await api.call("GET", f"/v1/orders/{order['order']}")).json["payments"][0]["txn"]
    body = {"txn": txn, "amount_minor": 1900}
    back = await api.call("POST", f"/v1/orders/{order['order']}/refunds", body, token=api.token("b", "service"))
    assert back.json["status"] == "refunded"
    async with Clerk(api.gateway.url, clerk(api)) as till:
        with pytest.raises(Conflict) as refused:
            await till.redeem_pickup(order["pickup"]["code"])
    assert not isinstance(refused.value, AlreadyRedeemed)


async def test_who_may_redeem_and_where(api: Api) -> None:
    room, other = (await api.room())["room"], (await api.room())["room"]
    sale = (await api.sale(room=room))["sale"]
    code = (await paid(api, sale, somebody(), pickup=True))["pickup"]["code"]
    for token in (api.viewer(), api.token("backend", "service"), clerk(api, rooms=[other])):
        assert (await redeem(api, code, token)).code == "forbidden"
    assert (await redeem(api, code, clerk(api, shop="cups"))).code == "not_found"
    assert (await redeem(api, code, clerk(api), key="-")).code == "bad_request"
    async with Clerk(api.gateway.url, clerk(api, rooms=[room])) as till:
        order = await till.redeem_pickup(code)
        assert order.pickup is not None and order.pickup.code == code
        with pytest.raises(AlreadyRedeemed):
            await till.redeem_pickup(code)


async def test_guessing_is_slowed_for_who_guesses(api: Api) -> None:
    sale = (await api.sale())["sale"]
    code = (await paid(api, sale, somebody(), pickup=True))["pickup"]["code"]
    guesser = clerk(api)
    answers = [await redeem(api, f"0000{number:06d}", guesser) for number in range(15)]
    codes = [answer.code for answer in answers]
    assert codes[:10] == ["not_found"] * 10 and codes[-1] == "rate_limited"
    assert int(answers[-1].headers["Retry-After"]) >= 1 and answers[-1].json["retry_after_ms"] > 1000
    assert (await redeem(api, code, guesser)).code == "rate_limited"
    assert (await redeem(api, code, clerk(api))).status == 200
