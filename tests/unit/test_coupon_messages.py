"""What hosts send about coupons and planned prices: each wrong field is named, and nothing wrong gets through."""

from typing import Any

import msgspec
import pytest

from gateway.api.bodies import decode_body
from gateway.api.coupon_messages import NewCoupon, NewDrop
from gateway.api.messages import ChangedSale, NewSale
from gateway.domain.coupon import CouponKind
from gateway.domain.drafts import SaleChanges, check_coupon, check_sale
from gateway.domain.sale import Item, PriceStep, StockDisplay
from gateway.errors import Invalid

COUPON = {
    "title": "500 off",
    "kind": "amount",
    "value_minor": 500,
    "copies": 10,
    "limit_per_viewer": 1,
    "valid_until": "1970-01-01T00:00:09Z",
}
PERCENT = {**COUPON, "kind": "percent", "value_minor": None, "percent": 10}
RANDOM = {
    **COUPON,
    "kind": "random",
    "value_minor": None,
    "min_minor": 100,
    "max_minor": 900,
    "budget_minor": 5_000,
}
ITEM = {"sku": "tin", "title": "A tin", "price_minor": 1900, "stock": 10, "limit_per_viewer": 2, "floor_minor": 1000}
SALE = {
    "title": "Tins",
    "currency": "CNY",
    "opens_at": "1970-01-01T00:00:01Z",
    "closes_at": "1970-01-01T00:00:09Z",
}


def read(kind: type[msgspec.Struct], value: object) -> Any:
    return decode_body(msgspec.json.encode(value), kind)


def at(seconds: float) -> str:
    return f"1970-01-01T00:00:{seconds:06.3f}Z"


@pytest.mark.parametrize("body", [COUPON, PERCENT, RANDOM])
def test_each_kind_is_taken_with_its_own_amounts(body: dict[str, Any]) -> None:
    draft = read(NewCoupon, body).draft()
    check_coupon(draft, now_ms=1_000)
    assert draft.kind is CouponKind(body["kind"])
    amounts = {name: getattr(draft, name) for name in ("value_minor", "percent", "min_minor", "max_minor")}
    assert {name: value for name, value in amounts.items() if value} == {
        name: body[name] for name in amounts if body.get(name)
    }
    assert (draft.claim_from_ms, draft.claim_until_ms, draft.valid_until_ms) == (None, None, 9_000)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({**COUPON, "kind": "gift"}, "kind"),
        ({**COUPON, "value_minor": None}, "value_minor"),
        ({**COUPON, "value_minor": 0}, "value_minor"),
        ({**COUPON, "percent": 10}, "percent"),
        ({**COUPON, "budget_minor": 10}, "budget_minor"),
        ({**PERCENT, "percent": 0}, "percent"),
        ({**PERCENT, "percent": 100}, "percent"),
        ({**PERCENT, "value_minor": 5}, "value_minor"),
        ({**PERCENT, "percent": None}, "percent"),
        ({**RANDOM, "min_minor": None}, "min_minor"),
        ({**RANDOM, "min_minor": 0}, "min_minor"),
        ({**RANDOM, "max_minor": 99}, "max_minor"),
        ({**RANDOM, "budget_minor": 999}, "budget_minor"),
        ({**COUPON, "copies": 0}, "copies"),
        ({**COUPON, "copies": 1_000_001}, "copies"),
        ({**COUPON, "limit_per_viewer": 0}, "limit_per_viewer"),
        ({name: value for name, value in COUPON.items() if name != "limit_per_viewer"}, "limit_per_viewer"),
        ({**COUPON, "title": ""}, "title"),
        ({**COUPON, "threshold_minor": -1}, "threshold_minor"),
        ({**COUPON, "currency": "cny"}, "currency"),
        ({**COUPON, "valid_until": "soon"}, "valid_until"),
        ({**COUPON, "valid_until": at(1)}, "valid_until"),
        ({**COUPON, "claim_until": at(9.001)}, "claim_until"),
        ({**COUPON, "claim_until": at(1)}, "claim_until"),
        ({**COUPON, "claim_from": at(5), "claim_until": at(5)}, "claim_from"),
        ({**COUPON, "claim_from": at(9)}, "claim_from"),
        ({**COUPON, "sales": ["sale_1", "sale_1"]}, "sales[1]"),
        ({**COUPON, "sales": [f"sale_{n}" for n in range(201)]}, "sales"),
    ],
)
def test_a_wrong_coupon_names_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_coupon(read(NewCoupon, body).draft(), now_ms=1_000)
    assert refused.value.param == param


@pytest.mark.parametrize("for_s", [0, 86_401, 1.5, "1"])
def test_a_drop_is_for_a_second_to_a_day(for_s: object) -> None:
    with pytest.raises(Invalid) as refused:
        read(NewDrop, {"room": "room_1", "for_s": for_s})
    assert refused.value.param == "for_s"
    assert read(NewDrop, {"room": "room_1"}).for_s is None


def sale(*prices: tuple[float, int]) -> Any:
    steps = [{"from": at(from_s), "price_minor": price} for from_s, price in prices]
    return read(NewSale, {**SALE, "items": [{**ITEM, "prices": steps}]}).draft()


def test_a_plan_goes_with_the_item_from_the_first_moment_of_the_sale_to_the_last() -> None:
    draft = sale((1, 1500), (8.999, 1000))
    check_sale(draft, min_pay_within_s=60)
    assert draft.items[0].prices == (PriceStep(1_000, 1500), PriceStep(8_999, 1000))


@pytest.mark.parametrize(
    ("prices", "param"),
    [
        ([(0.999, 1500)], "items[0].prices[0].from"),
        ([(9, 1500)], "items[0].prices[0].from"),
        ([(2, 1500), (2, 1400)], "items[0].prices[1].from"),
        ([(3, 1500), (2, 1400)], "items[0].prices[1].from"),
        ([(2, 999)], "items[0].prices[0].price_minor"),
    ],
)
def test_a_plan_that_cannot_be_names_its_step(prices: list[tuple[float, int]], param: str) -> None:
    with pytest.raises(Invalid) as refused:
        check_sale(sale(*prices), min_pay_within_s=60)
    assert refused.value.param == param


def test_the_price_in_force_is_that_of_the_last_step_begun() -> None:
    item = sale((2, 1500), (4, 1200)).items[0]

    known = Item(item_no=1, sku="tin", title="", price_minor=1900, stock=1, limit_per_viewer=1, prices=item.prices)  # type: ignore[arg-type]
    assert [known.price_at(ms) for ms in (0, 1_999, 2_000, 3_999, 4_000, 9_999)] == [
        1900,
        1900,
        1500,
        1500,
        1200,
        1200,
    ]


def test_a_change_takes_what_is_named_and_leaves_the_rest() -> None:
    body = {"title": "New", "stock_display": "low", "items": [{"sku": "tin", "price_minor": 5}]}
    changes = read(ChangedSale, body).changes()
    assert changes == SaleChanges(title="New", stock_display=StockDisplay.LOW, prices={"tin": 5}, places={"tin": 0})
    ended = read(ChangedSale, {"items": [{"sku": "tin", "prices": None}, {"sku": "cup", "prices": []}]}).changes()
    assert ended.plans == {"tin": (), "cup": ()}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "title"),
        ({"title": None}, "title"),
        ({"currency": "EUR"}, "currency"),
        ({"items": []}, "items"),
        ({"items": [{"sku": "tin"}]}, "items[0].price_minor"),
        ({"items": [{"sku": "tin", "price_minor": None}]}, "items[0].price_minor"),
        ({"items": [{"sku": "tin", "price_minor": 1}, {"sku": "tin", "prices": []}]}, "items[1].sku"),
        ({"items": [{"sku": "tin", "stock": 1}]}, "items[0].stock"),
        ({"stock_display": "some"}, "stock_display"),
        ({"opens_at": "1969-01-01T00:00:00Z"}, "opens_at"),
    ],
)
def test_a_wrong_change_names_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(ChangedSale, body).changes()
    assert refused.value.param == param
