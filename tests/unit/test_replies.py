from typing import Any

import msgspec
import pytest

from gateway.api.problems import KINDS, problem_response, public_error
from gateway.api.replies import instant, item_reply, order_reply, outcome_reply, reserved_reply, room_reply, sale_reply
from gateway.api.routes.export import safe_cell
from gateway.domain.ids import OrderId, RoomId, SaleId, Sku
from gateway.domain.links import Link
from gateway.domain.order import Order, OrderAnswer, OrderOutcome, OrderStatus
from gateway.domain.pickup import Pickup
from gateway.domain.room import Room, RoomState
from gateway.domain.sale import Item, ItemCounts, Sale, SaleHold, SaleState, StockDisplay
from gateway.errors import (
    GatewayError,
    HotUnavailable,
    Invalid,
    LedgerRejected,
    LedgerUnavailable,
    Overloaded,
    ShardClosed,
    Unauthorized,
)
from gateway.flows.sales import SaleReading

ITEM = Item(item_no=1, sku=Sku("tin"), title="A tin", price_minor=1900, stock=100, limit_per_viewer=2, floor_minor=900)


def sale(display: StockDisplay = StockDisplay.EXACT) -> Sale:
    return Sale(
        sale=SaleId("sale_1"),
        sale_no=1,
        shop="tins",
        shard=0,
        room=RoomId("room_1"),
        title="Tins",
        currency="CNY",
        hold=SaleHold.ACTIVE,
        opens_at_ms=1_767_268_800_000,
        closes_at_ms=1_767_272_400_000,
        pay_within_s=300,
        stock_display=display,
        created_at_ms=1_767_268_700_123,
        items=(ITEM,),
    )


def reading(*, left: int | None = 40, display: StockDisplay = StockDisplay.EXACT) -> SaleReading:
    counts = None if left is None else {1: ItemCounts(item_no=1, stock=100, left=left, held=7)}
    return SaleReading(sale(display), SaleState.OPEN, counts, {1: (100, 5, 53)})


def shown(reply: msgspec.Struct) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(reply), type=dict[str, Any])


def order(**changes: Any) -> Order:
    plain = Order(
        order=OrderId("ord_1"),
        sale_no=1,
        item_no=1,
        viewer="ann",
        key="k1",
        quantity=2,
        price_minor=1900,
        discount_minor=0,
        amount_minor=3800,
        status=OrderStatus.CONFIRMED,
        reason=None,
        created_at_ms=1_767_268_801_005,
        pay_by_ms=1_767_269_101_020,
        extra="",
    )
    return msgspec.structs.replace(plain, **changes)


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_767_268_801_005, "2026-01-01T12:00:01.005Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
    ],
)
def test_an_instant_is_utc_with_milliseconds(at_ms: int, text: str) -> None:
    assert instant(at_ms) == text


def test_a_sale_says_what_the_contract_says() -> None:
    assert shown(sale_reply(reading(), to_staff=False)) == {
        "sale": "sale_1",
        "room": "room_1",
        "title": "Tins",
        "state": "open",
        "currency": "CNY",
        "opens_at": "2026-01-01T12:00:00.000Z",
        "closes_at": "2026-01-01T13:00:00.000Z",
        "pay_within_s": 300,
        "stock_display": "exact",
        "created_at": "2026-01-01T11:58:20.123Z",
        "items": [{"sku": "tin", "title": "A tin", "price_minor": 1900, "limit_per_viewer": 2, "left": 40}],
    }


@pytest.mark.parametrize(
    ("display", "left", "expected"),
    [
        (StockDisplay.EXACT, 0, {"left": 0}),
        (StockDisplay.LOW, 11, {"low": False}),
        (StockDisplay.LOW, 10, {"low": True}),
        (StockDisplay.LOW, 0, {"low": True}),
        (StockDisplay.HIDDEN, 0, {}),
        (StockDisplay.EXACT, None, {}),
        (StockDisplay.LOW, None, {}),
    ],
)
def test_viewers_learn_what_the_sale_displays(
    display: StockDisplay, left: int | None, expected: dict[str, Any]
) -> None:
    item = shown(item_reply(reading(left=left, display=display), ITEM, to_staff=False))
    assert {
        name: item[name] for name in item if name in {"left", "low", "held", "paid", "stock", "floor_minor"}
    } == expected


@pytest.mark.parametrize("display", list(StockDisplay))
def test_staff_learn_everything(display: StockDisplay) -> None:
    item = shown(item_reply(reading(display=display), ITEM, to_staff=True))
    assert (item["stock"], item["left"], item["held"], item["paid"], item["floor_minor"]) == (100, 40, 7, 53, 900)


def test_staff_learn_what_the_ledger_knows_while_valkey_is_away() -> None:
    item = shown(item_reply(reading(left=None), ITEM, to_staff=True))
    assert (item["stock"], item["held"], item["paid"]) == (100, 5, 53)
    assert "left" not in item


def test_an_order_says_what_the_contract_says() -> None:
    extra = '{"meta":{"colour":"red"},"ref":"guide-7"}'
    assert shown(order_reply(order(extra=extra), sale(), to_staff=False)) == {
        "order": "ord_1",
        "sale": "sale_1",
        "sku": "tin",
        "quantity": 2,
        "price_minor": 1900,
        "discount_minor": 0,
        "amount_minor": 3800,
        "currency": "CNY",
        "status": "confirmed",
        "created_at": "2026-01-01T12:00:01.005Z",
        "pay_by": "2026-01-01T12:05:01.020Z",
        "ref": "guide-7",
        "meta": {"colour": "red"},
    }


def test_staff_learn_whose_order_it_is_and_a_refused_one_says_why() -> None:
    refused = order(status=OrderStatus.REFUSED, reason="lost", pay_by_ms=None, key=None)
    told = shown(order_reply(refused, sale(), to_staff=True))
    assert (told["sub"], told["status"], told["reason"]) == ("ann", "refused", "lost")
    assert "pay_by" not in told


def test_who_brought_the_viewer_is_for_staff_and_nobody_refers_themselves() -> None:
    link = Link(ref="ref_1", source="article", referrer="ben", guide="g-7")
    credited = order(extra='{"ref":"ref_1"}', link=link)
    own = order(extra='{"ref":"ref_1"}', link=msgspec.structs.replace(link, referrer="ann"))
    to_viewer = shown(order_reply(credited, sale(), to_staff=False))
    assert to_viewer["ref"] == "ref_1"
    assert {"source", "referrer", "guide"}.isdisjoint(to_viewer)
    told = shown(order_reply(credited, sale(), to_staff=True))
    assert (told["source"], told["referrer"], told["guide"]) == ("article", "ben", "g-7")
    told = shown(order_reply(own, sale(), to_staff=True))
    assert (told["source"], told["guide"], "referrer" in told) == ("article", "g-7", False)


@pytest.mark.parametrize(("wish", "place"), [("true", {}), ('"Front desk"', {"place": "Front desk"})])
def test_a_pickup_shows_its_place_before_the_payment_and_its_code_after_it(wish: str, place: dict[str, str]) -> None:
    extra = f'{{"pickup":{wish}}}'
    assert shown(order_reply(order(extra=extra), sale(), to_staff=False))["pickup"] == place
    given = Pickup("ABCDEFGHJK")
    assert shown(order_reply(order(extra=extra, pickup=given), sale(), to_staff=False))["pickup"] == {
        **place,
        "code": "ABCDE-FGHJK",
    }
    redeemed = Pickup("ABCDEFGHJK", redeemed_at_ms=1_767_268_801_005, redeemed_by="till-1")
    told = {**place, "code": "ABCDE-FGHJK", "redeemed_at": "2026-01-01T12:00:01.005Z"}
    collected = order(extra=extra, pickup=redeemed)
    assert shown(order_reply(collected, sale(), to_staff=False))["pickup"] == told
    assert shown(order_reply(collected, sale(), to_staff=True))["pickup"] == {**told, "redeemed_by": "till-1"}
    assert "pickup" not in shown(order_reply(order(), sale(), to_staff=True))


def test_a_reserved_order_looks_like_every_other() -> None:
    answer = OrderAnswer(
        OrderOutcome.RESERVED, order=OrderId("ord_1"), price_minor=1900, amount_minor=3800, at_ms=1_767_268_801_005
    )
    extra = '{"ref":"r","meta":[1],"pickup":"Front desk"}'
    reserved = order(status=OrderStatus.RESERVED, pay_by_ms=None, extra=extra)
    told = reserved_reply(answer, sale(), sku="tin", quantity=2, ref="r", meta=[1], pickup="Front desk")
    assert shown(told) == shown(order_reply(reserved, sale(), to_staff=False))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (OrderAnswer(OrderOutcome.SOLD_OUT, left=0, may_return=False), {"left": 0, "may_return": False}),
        (OrderAnswer(OrderOutcome.SOLD_OUT, left=2, may_return=True), {"left": 2, "may_return": True}),
        (OrderAnswer(OrderOutcome.LIMIT_REACHED), {}),
        (OrderAnswer(OrderOutcome.ENDED), {}),
        (OrderAnswer(OrderOutcome.PAUSED), {}),
        (OrderAnswer(OrderOutcome.NOT_STARTED, opens_at_ms=0), {"opens_at": "1970-01-01T00:00:00.000Z"}),
        (OrderAnswer(OrderOutcome.PRICE_CHANGED, amount_minor=0), {"amount_minor": 0}),
        (OrderAnswer(OrderOutcome.TOO_FAST, retry_after_ms=200), {"retry_after_ms": 200}),
    ],
)
def test_an_outcome_carries_its_facts_and_no_others(answer: OrderAnswer, expected: dict[str, Any]) -> None:
    assert shown(outcome_reply(answer)) == {"outcome": str(answer.outcome), **expected}


def test_a_room_says_where_its_socket_is() -> None:
    room = Room(room=RoomId("room_1"), room_no=1, shop="tins", title="Show", state=RoomState.LIVE, created_at_ms=0)
    told = shown(room_reply(room, live_url="wss://x.example/v1/rooms/{room}/live", sales=[(sale(), SaleState.OPEN)]))
    assert told == {
        "room": "room_1",
        "title": "Show",
        "state": "live",
        "created_at": "1970-01-01T00:00:00.000Z",
        "live_url": "wss://x.example/v1/rooms/room_1/live",
        "sales": [
            {
                "sale": "sale_1",
                "title": "Tins",
                "state": "open",
                "opens_at": "2026-01-01T12:00:00.000Z",
                "closes_at": "2026-01-01T13:00:00.000Z",
            }
        ],
    }


def problem(error: Exception, method: str = "GET") -> tuple[int, dict[str, Any], Any]:
    response = problem_response(public_error(error, method=method), request_id="req-1")
    assert isinstance(response.body, bytes)
    return response.status, msgspec.json.decode(response.body), response.headers


def test_a_problem_has_the_fields_of_the_contract() -> None:
    status, body, headers = problem(Invalid("Too much.", param="items[0].stock"))
    assert status == 422
    assert headers["Content-Type"].startswith("application/problem+json")
    assert body == {
        "type": "urn:peakgate:problem:invalid",
        "title": "A value is not allowed",
        "status": 422,
        "detail": "Too much.",
        "code": "invalid",
        "request_id": "req-1",
        "retryable": False,
        "param": "items[0].stock",
    }


def test_what_may_be_repeated_says_when() -> None:
    status, body, headers = problem(Overloaded(retry_after_ms=1200))
    assert (status, body["retryable"], body["retry_after_ms"], headers["Retry-After"]) == (503, True, 1200, "2")
    assert problem(Overloaded())[2]["Retry-After"] == "1"


def test_who_needs_a_token_is_told_so() -> None:
    assert problem(Unauthorized())[2]["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("error", "method", "status", "code"),
    [
        (LedgerUnavailable("connect to 10.0.0.1 failed"), "GET", 503, "unavailable"),
        (LedgerUnavailable("connect to 10.0.0.1 failed"), "POST", 503, "outcome_unknown"),
        (HotUnavailable("connect to 10.0.0.1 failed"), "GET", 503, "unavailable"),
        (HotUnavailable("connect to 10.0.0.1 failed"), "PATCH", 503, "outcome_unknown"),
        (ShardClosed("shard 10.0.0.1"), "POST", 503, "unavailable"),
        (LedgerRejected("10.0.0.1"), "POST", 422, "invalid"),
        (ValueError("10.0.0.1"), "POST", 500, "internal"),
    ],
)
def test_errors_behind_the_gateway_keep_their_words_to_themselves(
    error: Exception, method: str, status: int, code: str
) -> None:
    told = problem(error, method)
    assert (told[0], told[1]["code"]) == (status, code)
    assert "10.0.0.1" not in str(told[1])


def test_every_code_of_the_contract_has_a_status() -> None:
    assert {code: status.value for code, (status, _) in KINDS.items()} == {
        "bad_request": 400,
        "invalid": 422,
        "unauthorized": 401,
        "forbidden": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "conflict": 409,
        "stock_in_use": 409,
        "amount_mismatch": 409,
        "not_confirmed": 409,
        "already_redeemed": 409,
        "key_reused": 422,
        "too_large": 413,
        "unsupported": 415,
        "rate_limited": 429,
        "overloaded": 503,
        "unavailable": 503,
        "outcome_unknown": 503,
        "internal": 500,
    }
    assert GatewayError.code in KINDS


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1"])
def test_a_cell_that_a_spreadsheet_would_run_is_text(text: str) -> None:
    assert safe_cell(text) == "'" + text


@pytest.mark.parametrize(("value", "cell"), [(None, ""), (3800, "3800"), ("ann", "ann"), ("a=b", "a=b")])
def test_other_cells_stay_as_they_are(value: object, cell: str) -> None:
    assert safe_cell(value) == cell
