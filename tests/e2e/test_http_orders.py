"""Viewers by HTTP on a whole gateway: orders, their replays, and the ways to read them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.api import ITEM, Api, api_of
from tests.support.gateway import Gateway
from tests.support.servers import eventually


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


async def test_an_order_is_reserved_then_confirmed_and_can_be_read_every_way(api: Api) -> None:
    sale, viewer = (await api.sale())["sale"], api.viewer("ann-reads")
    ref = await api.ref(guide="guide-7")
    answer = await api.order(sale, viewer, quantity=2, expect_amount_minor=3800, ref=ref, meta={"colour": "red"})
    assert (answer.status, answer.json["outcome"]) == (201, "reserved")
    order = answer.json["order"]
    assert (order["sale"], order["sku"], order["quantity"], order["amount_minor"]) == (sale, "tin", 2, 3800)
    assert (order["currency"], order["ref"], order["meta"]) == ("CNY", ref, {"colour": "red"})
    assert "sub" not in order
    path = f"/v1/orders/{order['order']}"

    async def is_confirmed() -> bool:
        return bool((await api.call("GET", path, token=viewer)).json["status"] != "reserved")

    await eventually(is_confirmed)
    confirmed = (await api.call("GET", path, token=viewer)).json
    assert confirmed["status"] == "confirmed" and confirmed["pay_by"] > confirmed["created_at"]
    assert {**confirmed, "status": "reserved", "pay_by": None} == {**order, "pay_by": None}
    assert (await api.call("GET", f"/v1/orders/by-key/k1?sale={sale}", token=viewer)).json == confirmed
    own = (await api.call("GET", "/v1/orders?limit=1", token=viewer)).json
    assert own == {"items": [confirmed], "next": None}
    to_staff = {"sub": "ann-reads", "source": "live", "guide": "guide-7"}
    shown = (await api.call("GET", path)).json
    shown.pop("first_order", None)  # decided a moment after the confirmation
    assert shown == {**confirmed, **to_staff}


async def test_who_prefers_to_wait_is_answered_at_the_confirmation(api: Api) -> None:
    sale, viewer = (await api.sale())["sale"], api.viewer()
    for replayed in (None, "true"):
        answer = await api.order(sale, viewer, headers={"Prefer": "wait=10"})
        assert (answer.status, answer.json["order"]["status"]) == (201, "confirmed")
        assert answer.headers["Preference-Applied"] == "wait=10"
        assert answer.headers.get("Idempotent-Replayed") == replayed


async def test_a_key_is_one_order_with_its_present_state(api: Api) -> None:
    sale, viewer = (await api.sale())["sale"], api.viewer()
    answers = await asyncio.gather(*(api.order(sale, viewer) for _ in range(8)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.json["order"]["order"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    other = await api.order(sale, viewer, quantity=2)
    assert (other.status, other.code) == (422, "key_reused")
    # After the end of the sale the key still holds what it holds.
    await api.call("POST", f"/v1/sales/{sale}/close")
    late = await api.order(sale, viewer, headers={"Prefer": "wait=10"})
    assert (late.status, late.json["order"]["status"]) == (201, "confirmed")
    assert late.headers["Idempotent-Replayed"] == "true"


async def test_what_is_expected_at_the_peak_is_an_outcome(api: Api) -> None:
    sale = (await api.sale(items=[{**ITEM, "stock": 3}]))["sale"]
    first, second = api.viewer(), api.viewer()
    wrong_price = await api.order(sale, first, expect_amount_minor=1)
    assert (wrong_price.status, wrong_price.json) == (200, {"outcome": "price_changed", "amount_minor": 1900})
    # A refusal is not remembered: the key asks anew.
    assert (await api.order(sale, first, quantity=2)).status == 201
    assert (await api.order(sale, first, key="k2")).json == {"outcome": "limit_reached"}
    sold_out = await api.order(sale, second, quantity=2)
    assert sold_out.json == {"outcome": "sold_out", "left": 1, "may_return": True}
    assert (await api.call("GET", f"/v1/orders/by-key/k1?sale={sale}", token=second)).code == "not_found"
    assert (await api.order(sale, second)).status == 201


async def test_a_window_that_is_ahead_says_when_it_opens(api: Api) -> None:
    sale = await api.sale(opens_in_s=600)
    answer = await api.order(sale["sale"], api.viewer())
    assert answer.json == {"outcome": "not_started", "opens_at": sale["opens_at"]}
    assert (await api.order((await api.sale(opens_in_s=-60, closes_in_s=-1))["sale"], api.viewer())).json == {
        "outcome": "ended"
    }


async def test_a_viewer_who_asks_too_often_is_told_to_wait(api: Api) -> None:
    sale, viewer = (await api.sale())["sale"], api.viewer()
    body = {"sale": sale, "sku": "tin", "quantity": 1}
    answers = await asyncio.gather(*(api.call("POST", "/v1/orders", body, token=viewer) for _ in range(60)))
    outcomes = [answer.json["outcome"] for answer in answers]
    assert outcomes.count("reserved") == 2
    assert set(outcomes) == {"reserved", "limit_reached", "too_fast"}
    assert all(answer.json["retry_after_ms"] > 0 for answer in answers if answer.json["outcome"] == "too_fast")


async def test_two_hundred_viewers_and_ten_units_make_ten_orders(api: Api) -> None:
    sale = (await api.sale(items=[{**ITEM, "limit_per_viewer": 1}]))["sale"]
    answers = await asyncio.gather(*(api.order(sale, api.viewer()) for _ in range(200)))
    outcomes = [answer.json["outcome"] for answer in answers]
    assert (outcomes.count("reserved"), outcomes.count("sold_out")) == (10, 190)
    item = (await api.call("GET", f"/v1/sales/{sale}")).json["items"][0]
    assert (item["left"], item["held"]) == (0, 10)


async def test_an_order_is_its_viewers_own(api: Api) -> None:
    sale = (await api.sale())["sale"]
    order = (await api.order(sale, api.viewer("ann"))).json["order"]["order"]
    for path in (f"/v1/orders/{order}", "/v1/orders/ord_0", f"/v1/orders/{order[:-1]}x", f"/v1/orders/{sale}"):
        assert (await api.call("GET", path, token=api.viewer("bob"))).code == "not_found"
    assert (await api.call("GET", "/v1/orders", token=api.viewer("bob"))).json == {"items": [], "next": None}
