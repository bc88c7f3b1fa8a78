import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.domain.coupon import (
    MAX_BUDGET_MINOR,
    Claim,
    ClaimState,
    Coupon,
    CouponKind,
    CouponState,
    claim_field,
)
from gateway.domain.ids import ClaimId, ClaimPlace, Sku
from gateway.domain.sale import MAX_PRICE_MINOR, Item, PriceStep, plan_text
from tests.support.coupons import coupon

money = st.integers(0, MAX_PRICE_MINOR)


@pytest.mark.parametrize(
    ("now_ms", "state"),
    [
        (999, CouponState.SCHEDULED),
        (1_000, CouponState.OPEN),
        (1_999, CouponState.OPEN),
        (2_000, CouponState.CLOSED),
        (2_999, CouponState.CLOSED),
        (3_000, CouponState.EXPIRED),
    ],
)
def test_the_state_changes_at_the_very_millisecond(now_ms: int, state: CouponState) -> None:
    assert coupon().state_at(now_ms) is state


def test_a_coupon_without_a_start_waits_for_a_drop_and_one_that_left_valkey_has_expired() -> None:
    assert coupon(claim_from_ms=None).state_at(1_500) is CouponState.SCHEDULED
    assert coupon(claim_from_ms=None).state_at(2_500) is CouponState.CLOSED
    assert coupon(retired=True).state_at(1_500) is CouponState.EXPIRED


@pytest.mark.parametrize(
    ("facts", "fits"),
    [
        ({}, True),
        ({"now_ms": 2_999}, True),
        ({"now_ms": 3_000}, False),
        ({"currency": "EUR"}, False),
        ({"amount_minor": 999}, False),
        ({"sale_no": 8}, False),
    ],
)
def test_an_order_fits_what_the_coupon_says(facts: dict[str, object], fits: bool) -> None:
    bound = coupon(sales=(7, 12), threshold_minor=1_000)
    assert bound.fits(**{"sale_no": 7, "currency": "CNY", "amount_minor": 1_000, "now_ms": 0, **facts}) is fits  # type: ignore[arg-type]


def test_a_coupon_that_is_bound_to_nothing_fits_any_sale() -> None:
    assert coupon().fits(sale_no=8, currency="CNY", amount_minor=1, now_ms=0)


@pytest.mark.parametrize(
    ("offer", "price", "quantity", "floor", "off"),
    [
        (coupon(value_minor=500), 1900, 1, None, 500),
        (coupon(value_minor=500), 1900, 3, None, 500),
        (coupon(value_minor=500), 400, 1, None, 399),
        (coupon(value_minor=500), 0, 1, None, 0),
        (coupon(value_minor=500), 1900, 2, 1800, 200),
        (coupon(value_minor=500), 1900, 2, 1900, 0),
        (coupon(value_minor=500), 1900, 2, 2000, 0),
        (coupon(kind=CouponKind.PERCENT, percent=33), 199, 1, None, 65),
        (coupon(kind=CouponKind.PERCENT, percent=99), 199, 1, None, 197),
        (coupon(kind=CouponKind.RANDOM), 1900, 1, None, 137),
    ],
)
def test_a_discount_keeps_the_floor_and_leaves_something_to_pay(
    offer: Coupon, price: int, quantity: int, floor: int | None, off: int
) -> None:
    given = offer.discount_of(price_minor=price, quantity=quantity, floor_minor=floor, claim_value_minor=137)
    assert given == off


@given(
    kind=st.sampled_from(CouponKind),
    number=st.integers(1, 99),
    price=money,
    quantity=st.integers(1, 1000),
    floor=st.none() | money,
    value=money,
)
def test_no_discount_is_less_than_nothing_or_passes_the_floor(
    kind: CouponKind, number: int, price: int, quantity: int, floor: int | None, value: int
) -> None:
    offer = coupon(kind=kind, value_minor=number * 100, percent=number)
    off = offer.discount_of(price_minor=price, quantity=quantity, floor_minor=floor, claim_value_minor=value)
    assert off >= 0
    assert off == 0 or price * quantity - off >= max(1, (floor or 0) * quantity)


def test_valkey_is_given_numbers_that_it_can_count_with() -> None:
    given = coupon(budget_minor=MAX_BUDGET_MINOR).in_valkey(left=3, budget_left=MAX_BUDGET_MINOR)
    assert (given["left"], given["budget_left"]) == ("3", str(MAX_BUDGET_MINOR))
    assert float(given["budget_left"]) == MAX_BUDGET_MINOR


# Claims.


def claim(state: ClaimState) -> Claim:
    return Claim(
        claim=ClaimId("clm_1"),
        coupon_no=31,
        viewer="vw_1",
        key="k",
        value_minor=500,
        state=state,
        reason=None,
        at_ms=1_500,
    )


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (ClaimState.CLAIMED, ClaimState.EXPIRED),
        (ClaimState.CONFIRMED, ClaimState.EXPIRED),
        (ClaimState.REDEEMED, ClaimState.REDEEMED),
        (ClaimState.REFUSED, ClaimState.REFUSED),
    ],
)
def test_a_claim_that_was_not_used_in_time_is_told_as_expired(state: ClaimState, told: ClaimState) -> None:
    assert claim(state).told_at(2_999, 3_000) is state
    assert claim(state).told_at(3_000, 3_000) is told


def test_a_claim_is_named_by_its_place() -> None:
    assert claim_field(ClaimPlace(at_ms=1, coupon_no=31, epoch=2, seq=9)) == "2|9"


# Prices that change by themselves.


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 9)), unique_by=lambda step: step[0]), st.integers(0, 100))
def test_the_price_at_an_instant_is_that_of_the_last_step_before_it(steps: list[tuple[int, int]], now_ms: int) -> None:
    prices = tuple(PriceStep(*step) for step in sorted(steps))
    item = Item(item_no=1, sku=Sku("tin"), title="Tin", price_minor=77, stock=1, limit_per_viewer=1, prices=prices)
    begun = [step for step in sorted(steps) if step[0] <= now_ms]
    assert item.price_at(now_ms) == (begun[-1][1] if begun else 77)


def test_a_plan_is_spelled_as_the_scripts_read_it() -> None:
    assert plan_text([PriceStep(5, 900), PriceStep(9, 800)]) == "5:900;9:800"
    assert plan_text([]) == ""
