"""Coupons from the drop to the redeemed order: by socket and by HTTP, on two live processes, and when one is killed."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.client.viewer import Viewer as ClientViewer
from tests.support.api import Answer, Api, api_of
from tests.support.gateway import Gateway
from tests.support.room import Show, live_again, showing
from tests.support.seat import JSON, MSGPACK, Seat
from tests.support.servers import eventually


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def show(api: Api) -> AsyncIterator[Show]:
    async with showing(api) as show:
        yield show


def in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


async def make(api: Api, *, key: str = "", **fields: Any) -> dict[str, Any]:
    body = {"title": "500 off", "kind": "amount", "copies": 100, "limit_per_viewer": 1, "valid_until": in_s(3600)}
    if fields.get("kind", "amount") == "amount":
        fields.setdefault("value_minor", 500)
    answer = await api.call("POST", "/v1/coupons", {**body, "currency": "CNY", **fields}, key=key or None)
    assert answer.status == 201, answer.text
    return dict(answer.json)


async def drop(api: Api, coupon: str, room: str, *, key: str = "", **fields: Any) -> Answer:
    return await api.call("POST", f"/v1/coupons/{coupon}/drop", {"room": room, **fields}, key=key or None)


async def claim(seat: Seat, coupon: str, key: str = "c1") -> dict[str, Any]:
    """The answer that is not `too_fast`."""
    for _ in range(20):
        heard = len(seat.frames)
        await seat.say({"t": "claim", "id": key, "coupon": coupon})

        def answer(since: int = heard) -> dict[str, Any] | None:
            return next((each for each in seat.frames[since:] if each.get("id") == key), None)

        reply = await seat.until(answer)
        if reply.get("outcome") != "too_fast":
            return reply
        await asyncio.sleep(reply["retry_after_ms"] / 1000)
    raise AssertionError("always too fast")


async def state(seat: Seat, claim: str, state: str) -> dict[str, Any]:
    """The later state, once it is told."""
    return await seat.until(
        lambda: next(
            (
                each
                for each in seat.frames
                if each["t"] == "claim" and each["claim"] == claim and each["state"] == state
            ),
            None,
        )
    )


async def own(api: Api, viewer: str) -> dict[str, dict[str, Any]]:
    answer = await api.call("GET", "/v1/coupon-claims", token=viewer)
    assert answer.status == 200, answer.text
    return {each["claim"]: each for each in answer.json["items"]}


async def becomes(api: Api, viewer: str, claim: str, state: str, *, within_s: float = 25.0) -> dict[str, Any]:
    async with asyncio.timeout(within_s):
        while (found := (await own(api, viewer)).get(claim)) is None or found["state"] != state:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return found


async def test_a_drop_is_shown_and_everybody_claims_a_copy_once(show: Show) -> None:
    api = show.api
    first, second = show.gateway.pids("peakgate live")
    seats = [
        await show.enter(on=pid, codec=codec) for pid, codec in ((first, JSON), (second, MSGPACK), (first, MSGPACK))
    ]
    coupon = await make(api, copies=4)
    early = await claim(seats[0], coupon["coupon"], "early")
    assert early["outcome"] == "not_started" and "opens_at_ms" not in early
    dropped = await drop(api, coupon["coupon"], show.room, for_s=600, key="d1")
    assert dropped.status == 200 and dropped.json["state"] == "open"
    assert dropped.json["dropped_room"] == show.room
    for seat in seats:
        event = await seat.event("coupon", coupon=coupon["coupon"], left=4)
        assert event["title"] == "500 off" and event["claim_until_ms"] > 0
    late = await show.enter()
    # A snapshot may be a moment old; what happened since follows it.
    await late.until(lambda: late.view().coupons.get(coupon["coupon"]))
    replies = await asyncio.gather(*(claim(seat, coupon["coupon"]) for seat in seats))
    assert {reply["outcome"] for reply in replies} == {"claimed"}
    assert len({reply["claim"] for reply in replies}) == 3
    assert all(reply["value_minor"] == 500 and "replayed" not in reply for reply in replies)
    for seat, reply in zip(seats, replies, strict=True):
        await state(seat, reply["claim"], "confirmed")
        again = await claim(seat, coupon["coupon"])
        assert again == {**reply, "replayed": True}
        assert (await claim(seat, coupon["coupon"], "c2"))["outcome"] == "limit_reached"
    viewer = api.viewer()
    taken = await api.call("POST", f"/v1/coupons/{coupon['coupon']}/claims", token=viewer, key="h1")
    assert taken.status == 201 and taken.json["outcome"] == "claimed"
    assert taken.json["claim"]["coupon"] == coupon["coupon"] and taken.json["claim"]["value_minor"] == 500
    repeated = await api.call("POST", f"/v1/coupons/{coupon['coupon']}/claims", token=viewer, key="h1")
    assert repeated.status == 201 and repeated.headers["Idempotent-Replayed"] == "true"
    assert repeated.json["claim"]["claim"] == taken.json["claim"]["claim"]
    assert (await claim(late, coupon["coupon"]))["outcome"] == "gone"
    for seat in (*seats, late):
        await seat.event("coupon", coupon=coupon["coupon"], left=0)
        assert seat.has_no_hole()
    [listed] = [
        each for each in (await api.call("GET", "/v1/coupons")).json["items"] if each["coupon"] == coupon["coupon"]
    ]
    assert (listed["claimed"], listed["redeemed"], listed["left"]) == (4, 0, 0)
    acts = (await api.call("GET", f"/v1/acts?room={show.room}")).json["items"]
    assert [act["coupon"] for act in acts if act["act"] == "drop"] == [coupon["coupon"]]


async def test_an_order_redeems_a_claim_and_one_that_expires_gives_it_back(show: Show, api: Api) -> None:
    sale = await api.sale(room=show.room, pay_within_s=5)
    coupon = await make(api, sales=[sale["sale"]])
    await drop(api, coupon["coupon"], show.room)
    sub = f"viewer-{uuid.uuid4().hex[:12]}"
    viewer, seat = api.viewer(sub), await show.enter(sub)
    taken = (await claim(seat, coupon["coupon"]))["claim"]
    await state(seat, taken, "confirmed")
    changed = await api.order(sale["sale"], viewer, coupon_claim=taken, expect_amount_minor=1900, key="o0")
    assert changed.json == {"outcome": "price_changed", "amount_minor": 1400}
    placed = await api.order(
        sale["sale"],
        viewer,
        coupon_claim=taken,
        expect_amount_minor=1400,
        key="o1",
        headers={"Prefer": "wait=20"},
    )
    order = placed.json["order"]
    assert (order["price_minor"], order["discount_minor"], order["amount_minor"]) == (1900, 500, 1400)
    assert order["coupon_claim"] == taken and order["status"] == "confirmed"
    await state(seat, taken, "redeemed")
    assert (await own(api, viewer))[taken]["order"] == order["order"]
    again = await api.order(sale["sale"], viewer, coupon_claim=taken, expect_amount_minor=1400, key="o1")
    assert again.status == 201 and again.json["order"]["order"] == order["order"]
    other = await api.order(sale["sale"], viewer, expect_amount_minor=1400, key="o1")
    assert other.code == "key_reused", "without its claim an order is another one"
    unusable = await api.order(sale["sale"], viewer, coupon_claim=taken, key="o2")
    assert unusable.json == {"outcome": "coupon_unusable"}
    await becomes(api, viewer, taken, "confirmed")
    await state(seat, taken, "confirmed")
    assert (await api.call("GET", f"/v1/orders/{order['order']}", token=viewer)).json["status"] == "expired"
    async with asyncio.timeout(20):
        while True:
            # Valkey hears of it a moment after the viewer.
            second = await api.order(sale["sale"], viewer, coupon_claim=taken, key="o3")
            if second.json["outcome"] == "reserved":
                break
            await asyncio.sleep(0.1)
    assert second.json["order"]["amount_minor"] == 1400
    await becomes(api, viewer, taken, "redeemed")


async def test_an_order_by_socket_takes_a_claim_and_says_what_is_wrong_with_one(show: Show, api: Api) -> None:
    seat, stranger = await show.enter(), await show.enter()
    coupon = await make(api, kind="percent", percent=10)
    await drop(api, coupon["coupon"], show.room)
    reply = await claim(seat, coupon["coupon"])
    assert reply["outcome"] == "claimed" and "value_minor" not in reply
    await state(seat, reply["claim"], "confirmed")

    async def order(who: Seat, key: str, claim_id: str) -> dict[str, Any]:
        return await who.ask(
            {"t": "order", "id": key, "sale": show.sale, "sku": "tin", "quantity": 1, "coupon_claim": claim_id}
        )

    assert (await order(stranger, "o1", reply["claim"]))["outcome"] == "coupon_unusable"
    refused = await order(stranger, "o2", "clm_none")
    assert (refused["code"], refused["param"]) == ("invalid", "coupon_claim")
    placed = await order(seat, "o1", reply["claim"])
    assert (placed["outcome"], placed["amount_minor"]) == ("reserved", 1710)
    await state(seat, reply["claim"], "redeemed")


async def test_who_comes_back_is_told_what_became_of_a_claim(show: Show, api: Api) -> None:
    sub = f"viewer-{uuid.uuid4().hex[:12]}"
    coupon = await make(api)
    await drop(api, coupon["coupon"], show.room)
    seat = await show.enter(sub)
    reply = await claim(seat, coupon["coupon"], "k1")
    await seat.leave()
    pending = [{"coupon": coupon["coupon"], "key": "k1"}, {"coupon": coupon["coupon"], "key": "k2"}]
    back = await show.enter(sub, pending=[*pending, {"coupon": "cpn_none", "key": "k3"}])
    known = {each["key"]: each for each in back.frames[0]["claims"]}
    assert "orders" not in back.frames[0]
    assert known["k1"]["claim"] == reply["claim"] and known["k1"]["outcome"] == "claimed"
    assert known["k2"]["outcome"] == known["k3"]["outcome"] == "none"
    if known["k1"]["state"] == "claimed":
        await state(back, reply["claim"], "confirmed")
    else:
        assert known["k1"]["state"] == "confirmed"


async def test_a_coupon_of_a_room_is_for_tokens_of_that_room_and_one_of_none_is_for_whoever_has_the_link(
    show: Show, api: Api
) -> None:
    other = await api.room()
    bound = await make(api, room=other["room"], claim_from=in_s(-60))
    free = await make(api, claim_from=in_s(-60))
    limited = api.viewer(rooms=[show.room])
    assert (await api.call("POST", f"/v1/coupons/{bound['coupon']}/claims", token=limited)).code == "forbidden"
    assert (await api.call("POST", f"/v1/coupons/{free['coupon']}/claims", token=limited)).json["outcome"] == "claimed"
    elsewhere = await drop(api, bound["coupon"], show.room)
    assert (elsewhere.code, elsewhere.json["param"]) == ("invalid", "room")


async def test_coupons_are_listed_by_the_room_they_were_made_for_or_dropped_in(show: Show, api: Api) -> None:
    other = (await api.room())["room"]
    await api.call("POST", f"/v1/rooms/{other}/start")
    bound, moved, free = await make(api, room=show.room), await make(api), await make(api)
    await make(api, room=other)
    for room in (show.room, other):
        assert (await drop(api, moved["coupon"], room)).status == 200
    expected = [moved["coupon"], bound["coupon"]]

    async def listed(query: str = "", **token: Any) -> list[str]:
        answer = await api.call("GET", f"/v1/coupons?room={show.room}{query}", **token)
        assert answer.status == 200, answer.text
        return [each["coupon"] for each in answer.json["items"]]

    async def dropped() -> bool:
        # The ledger hears of a drop a moment later.
        return await listed() == expected

    await eventually(dropped, within_s=10)
    assert free["coupon"] not in expected
    assert await listed("&limit=1") == expected[:1]
    assert await listed(f"&after={expected[0]}") == expected[1:]
    assert await listed(token=api.token("host", rooms=[show.room])) == expected[1:], "no others than without `room`"
    assert await listed(token=api.token("host", shop="cups")) == []
    elsewhere = await api.call("GET", f"/v1/coupons?room={show.room}", token=api.token("host", rooms=[other]))
    assert elsewhere.code == "forbidden"
    assert (await api.call("GET", "/v1/coupons?room=room_none")).code == "not_found"


async def test_drops_and_claims_that_make_no_sense_change_nothing(show: Show, api: Api) -> None:
    coupon = await make(api)
    path = f"/v1/coupons/{coupon['coupon']}/drop"
    for body, param in (
        ({"room": show.room, "for_s": 0}, "for_s"),
        ({"room": show.room, "for_s": 86_401}, "for_s"),
        ({}, "room"),
    ):
        answer = await api.call("POST", path, body)
        assert (answer.status, answer.json["param"]) == (422, param)
    missing = await api.call("POST", path, {"room": "room_none"})
    assert (missing.code, missing.json["param"]) == ("not_found", "room")
    assert (await api.call("POST", path, {"room": show.room}, key="-")).code == "bad_request"
    assert (await api.call("POST", path, {"room": show.room}, token=api.viewer())).code == "forbidden"
    assert (await drop(api, "cpn_none", show.room)).code == "not_found"
    ended = await api.room()
    await api.call("POST", f"/v1/rooms/{ended['room']}/end")
    assert (await drop(api, coupon["coupon"], ended["room"])).code == "conflict"
    claims = f"/v1/coupons/{coupon['coupon']}/claims"
    assert (await api.call("POST", claims)).code == "forbidden"
    assert (await api.call("POST", claims, token=api.viewer(), key="-")).code == "bad_request"
    assert (await api.call("POST", claims, token=api.viewer(shop="cups"))).code == "not_found"
    [listed] = [each for each in (await api.call("GET", "/v1/coupons")).json["items"] if each == coupon]
    assert listed["state"] == "scheduled"


async def test_a_coupon_of_the_room_is_shown_when_it_opens_by_the_clock(show: Show, api: Api) -> None:
    seat = await show.enter()
    coupon = await make(api, room=show.room, copies=4, claim_from=in_s(2))
    early = await claim(seat, coupon["coupon"], "early")
    assert early["outcome"] == "not_started" and early["opens_at_ms"] > 0
    event = await seat.event("coupon", coupon=coupon["coupon"], left=4)
    assert event["title"] == "500 off"
    assert (await claim(seat, coupon["coupon"]))["outcome"] == "claimed", "it is shown once it is open"


async def test_a_drop_has_its_effect_also_under_a_key_of_another_kind_of_act(show: Show, api: Api) -> None:
    coupon, sale, key = await make(api), await api.sale(), uuid.uuid4().hex
    stock = f"/v1/sales/{sale['sale']}/items/tin/stock"
    assert (await api.call("POST", stock, {"add": 1, "reason": "more"}, key=key)).status == 200
    dropped = await drop(api, coupon["coupon"], show.room, key=key)
    assert dropped.status == 200 and "Idempotent-Replayed" not in dropped.headers
    assert (await drop(api, coupon["coupon"], show.room, key=key)).headers["Idempotent-Replayed"] == "true"


async def test_a_drop_is_done_once_a_key(show: Show, api: Api) -> None:
    coupon = await make(api)
    key = uuid.uuid4().hex
    first = await drop(api, coupon["coupon"], show.room, for_s=60, key=key)
    again = await drop(api, coupon["coupon"], show.room, for_s=60, key=key)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.json["claim_until"] == first.json["claim_until"]
    assert (await drop(api, coupon["coupon"], show.room, for_s=61, key=key)).code == "key_reused"


async def test_random_copies_are_worth_what_the_budget_allows(show: Show, api: Api) -> None:
    coupon = await make(api, kind="random", copies=20, min_minor=100, max_minor=900, budget_minor=6000)
    await drop(api, coupon["coupon"], show.room)

    async def grab() -> int:
        answer = await api.call("POST", f"/v1/coupons/{coupon['coupon']}/claims", token=api.viewer())
        return int(answer.json["claim"]["value_minor"]) if answer.json["outcome"] == "claimed" else 0

    values = await asyncio.gather(*(grab() for _ in range(30)))
    given = [value for value in values if value]
    assert len(given) == 20 and all(100 <= value <= 900 for value in given)
    assert sum(given) <= 6000


async def test_a_live_process_killed_during_a_grab_loses_no_copy_and_gives_none_twice(rough_gateway: Gateway) -> None:
    """Insisting viewers ask again by their keys on whichever process is there."""
    copies, crowd = 30, 40
    async with api_of(rough_gateway) as api:
        room = (await api.room())["room"]
        await api.call("POST", f"/v1/rooms/{room}/start")
        coupon = (await make(api, copies=copies))["coupon"]
        victim = rough_gateway.pids("peakgate live")[0]
        async with AsyncExitStack() as stack:
            viewers = [
                await stack.enter_async_context(
                    ClientViewer(rough_gateway.live_url(room), api.viewer(f"{coupon}-{at}"), follow=False)
                )
                for at in range(crowd)
            ]
            assert (await drop(api, coupon, room)).status == 200
            grabs = [
                asyncio.create_task(viewer.claim(coupon, key=f"k{at}", insist=True, within_s=60))
                for at, viewer in enumerate(viewers)
            ]
            await asyncio.wait(grabs, return_when=asyncio.FIRST_COMPLETED)
            os.kill(victim, signal.SIGKILL)
            answers = await asyncio.gather(*grabs)
            has = [answer.claim for answer in answers if answer.claim is not None]
            assert len(has) == len(set(has)) == copies
            assert {answer.outcome for answer in answers if answer.claim is None} == {"gone"}
            for viewer, answer in zip(viewers, answers, strict=True):
                again = await viewer.claim(coupon, key=answer.key, insist=True, within_s=60)
                assert (again.claim, again.outcome) == (answer.claim, answer.outcome)
                if answer.claim is not None:
                    assert (await viewer.claim_confirmed(answer.claim, within_s=30)).state == "confirmed"
        await live_again(rough_gateway, victim)
        [listed] = [each for each in (await api.call("GET", "/v1/coupons")).json["items"] if each["coupon"] == coupon]
        assert (listed["claimed"], listed["left"]) == (copies, 0)
