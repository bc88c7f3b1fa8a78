"""How events are signed, when they are sent again, what they say."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from gateway.domain.ids import OrderId, SaleId, Sku
from gateway.domain.order import Order, OrderStatus
from gateway.domain.sale import Item, Sale, SaleHold, StockDisplay
from gateway.domain.webhook import MAX_EVENT_BYTES, EventType
from gateway.webhooks import ping
from gateway.webhooks.backoff import FIRST_S, LONGEST_S, ceiling_s, pause_s, read_retry_after
from gateway.webhooks.events import order_event, sale_event
from gateway.webhooks.signing import new_secret, signed

NOW = datetime(2026, 11, 11, 12, 0, tzinfo=UTC)


def test_an_attempt_is_signed_as_the_standard_shows_it() -> None:
    headers = signed(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        msg_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        at=datetime.fromtimestamp(1614265330, UTC),
        body='{"test": 2432232314}',
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_while_a_secret_is_rotated_either_one_verifies_and_no_other() -> None:
    before, after, strange = new_secret(), new_secret(), new_secret()
    body = '{"type":"order.paid","data":{"meta":"\u9752\u7910"}}'
    headers = signed([after, before], msg_id="msg_1", at=datetime.now(UTC), body=body)
    for secret in (before, after):
        Webhook(secret).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(strange).verify(body, headers)


def test_pauses_double_up_to_an_hour_and_lie_anywhere_below() -> None:
    assert [ceiling_s(attempts) for attempts in range(1, 6)] == [1.0, 2.0, 4.0, 8.0, 16.0]
    assert ceiling_s(1) == FIRST_S and ceiling_s(13) == LONGEST_S == ceiling_s(10_000)
    drawn = [pause_s(8) for _ in range(400)]
    assert all(0 <= each <= 128 for each in drawn)
    assert min(drawn) < 20 and max(drawn) > 108


def test_what_the_shop_asks_for_is_waited_for_an_hour_at_most() -> None:
    assert all(30 <= pause_s(1, retry_after_s=30) <= 31 for _ in range(50))
    assert all(LONGEST_S <= pause_s(1, retry_after_s=1e9) <= LONGEST_S + 1 for _ in range(50))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("120", 120),
        (" 5 ", 5),
        ("999999999999", LONGEST_S),
        ("-5", 0),
        ("soon", 0),
        ("\u0665", 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        (format_datetime(NOW + timedelta(days=90), usegmt=True), LONGEST_S),
        ("Mon, 01 Jan 2024 00:00:00 +" + "9" * 30, 0),
        ("Mon, 01 Jan " + "9" * 30 + " 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float) -> None:
    assert read_retry_after(value, now=NOW) == seconds


def sale(items: int = 1, title: str = "Tin") -> Sale:
    return Sale(
        sale=SaleId("sale_1"),
        sale_no=1,
        shop="tins",
        shard=0,
        room=None,
        title="Drop",
        currency="CNY",
        hold=SaleHold.ACTIVE,
        opens_at_ms=1_000,
        closes_at_ms=2_000,
        pay_within_s=300,
        stock_display=StockDisplay.EXACT,
        created_at_ms=0,
        items=tuple(
            Item(item_no=no, sku=Sku(f"tin-{no}"), title=title, price_minor=1900, stock=10, limit_per_viewer=2)
            for no in range(1, items + 1)
        ),
    )


def test_an_event_of_an_order_says_the_status_it_tells_of_whatever_the_order_is_by_now() -> None:
    order = Order(
        order=OrderId("ord_1"),
        sale_no=1,
        item_no=1,
        viewer="ada",
        key="k",
        quantity=2,
        price_minor=1900,
        discount_minor=0,
        amount_minor=3800,
        status=OrderStatus.PAID,
        reason=None,
        created_at_ms=1_000,
        pay_by_ms=301_000,
        extra='{"meta":{"size":"L"}}',
        first_order=True,
    )
    told = msgspec.json.decode(order_event(order, sale(), status=OrderStatus.CONFIRMED, at_ms=1_500))
    assert told == {
        "type": "order.confirmed",
        "timestamp": "1970-01-01T00:00:01.500Z",
        "data": {
            "order": "ord_1",
            "sale": "sale_1",
            "sku": "tin-1",
            "quantity": 2,
            "price_minor": 1900,
            "discount_minor": 0,
            "amount_minor": 3800,
            "currency": "CNY",
            "status": "confirmed",
            "created_at": "1970-01-01T00:00:01.000Z",
            "pay_by": "1970-01-01T00:05:01.000Z",
            "meta": {"size": "L"},
            "sub": "ada",
            "first_order": True,
        },
    }


def test_an_event_of_a_sale_with_very_many_items_says_how_many_it_leaves_out() -> None:
    small = msgspec.json.decode(sale_event(EventType.SALE_OPENED, sale(3), counts=None, ledger=None, at_ms=1_500))
    assert small["data"]["state"] == "open" and len(small["data"]["items"]) == 3
    body = sale_event(EventType.SALE_CLOSED, sale(200, "T" * 200), counts=None, ledger=None, at_ms=2_500)
    assert len(body.encode()) <= MAX_EVENT_BYTES
    large = msgspec.json.decode(body)["data"]
    assert large["state"] == "closed" and large["items"] == [] and large["items_left_out"] == 200


@pytest.mark.parametrize("kind", [*EventType, ping.PING])
def test_there_is_a_sample_of_every_event_which_names_nothing_that_is_there(kind: str) -> None:
    said = ping.sample(kind, now_ms=1_000)
    assert all("sample" in said[name] for name in ("order", "sale", "room", "sub") if name in said)
    assert bool(said) is (kind != ping.PING)
