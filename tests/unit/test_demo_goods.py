"""What the demo's show sells and says is what the contract takes."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from gateway.api.coupon_messages import NewCoupon
from gateway.api.messages import NewRoom, NewSale
from gateway.api.pages_files import STATIC
from gateway.api.room_messages import NewAnnouncement
from gateway.cli.demo_goods import (
    ANNOUNCEMENTS,
    BEAR,
    CURRENCY,
    DISCOUNTS,
    GOODS,
    LANGUAGES,
    ROOM_NOTICE,
    ROOM_TITLE,
    SALE_TITLE,
    Discount,
    Language,
    Storeroom,
    items_of_a_sale,
    price_steps,
)
from gateway.cli.demo_pace import Pace
from gateway.cli.demo_people import names
from gateway.domain.drafts import check_coupon, check_sale
from gateway.domain.sale import MIN_PAY_WITHIN_S

NOW = datetime(2026, 5, 1, 20, tzinfo=UTC)
PACE = Pace()
URL = "http://127.0.0.1:8080"


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sale_is_one_that_a_gateway_takes(language: Language) -> None:
    closes_at = NOW + timedelta(seconds=PACE.sale_s)
    body = {
        "title": SALE_TITLE[language],
        "room": "room_1",
        "currency": CURRENCY,
        "opens_at": NOW.isoformat(),
        "closes_at": closes_at.isoformat(),
        "pay_within_s": PACE.pay_within_s,
        "items": items_of_a_sale(NOW, closes_at, timedelta(seconds=PACE.price_step_s), language, url=URL),
    }
    sale = msgspec.convert(body, NewSale, strict=True, builtin_types=())
    check_sale(sale.draft(), min_pay_within_s=MIN_PAY_WITHIN_S)
    for item in sale.items:
        # The plain name of the folder stands for whatever is served now.
        assert item.image_url is not None and (STATIC / item.image_url.removeprefix(f"{URL}/static/-/")).is_file()
    assert [len(item.prices) > 3 for item in sale.items] == [bool(good.steps_minor) for good in GOODS]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_room_and_what_is_announced_are_taken(language: Language) -> None:
    body = {"title": ROOM_TITLE[language], "notice": ROOM_NOTICE[language]}
    assert msgspec.convert(body, NewRoom).draft().notice == ROOM_NOTICE[language]
    said = [msgspec.convert({"text": text}, NewAnnouncement).said() for text in ANNOUNCEMENTS[language]]
    assert said == list(ANNOUNCEMENTS[language])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("discount", DISCOUNTS, ids=lambda discount: discount.kind)
def test_every_coupon_is_one_that_a_gateway_takes(discount: Discount, language: Language) -> None:
    body = {
        "limit_per_viewer": 1,
        "valid_until": (NOW + timedelta(seconds=PACE.coupon_valid_s)).isoformat(),
        "currency": CURRENCY,
        "room": "room_1",
        **discount.fields(language),
    }
    check_coupon(msgspec.convert(body, NewCoupon).draft(), now_ms=int(NOW.timestamp() * 1000))


def test_prices_go_round_until_the_sale_closes_and_are_never_more_than_a_plan_holds() -> None:
    steps = price_steps((3, 2), NOW, NOW + timedelta(minutes=4), timedelta(minutes=1))
    assert [step["price_minor"] for step in steps] == [3, 2, 3]
    assert [step["from"] for step in steps] == [(NOW + timedelta(minutes=at)).isoformat() for at in (1, 2, 3)]
    assert len(price_steps((3, 2), NOW, NOW + timedelta(days=1), timedelta(minutes=1))) == 50


def test_a_box_comes_when_few_are_left_and_for_the_rare_one_after_its_time() -> None:
    storeroom = Storeroom(opened_s=100.0)
    spoons, bear = GOODS[0], next(good for good in GOODS if good.sku == BEAR)
    assert storeroom.box_for(spoons.sku, spoons.add_when_left + 1, 101.0) == 0
    assert storeroom.box_for(spoons.sku, spoons.add_when_left, 101.0) == spoons.add
    assert storeroom.box_for(bear.sku, 0, 100.0 + bear.add_after_s - 1) == 0
    assert storeroom.box_for(bear.sku, 0, 100.0 + bear.add_after_s) == bear.add
    assert storeroom.box_for(bear.sku, 0, 101.0 + bear.add_after_s) == 0
    assert storeroom.box_for("of another sale", 0, 1e6) == 0


def test_everybody_has_a_name_of_their_own() -> None:
    assert len(set(names(500))) == 500
    assert all(1 <= len(name) <= 12 for name in names(500))
