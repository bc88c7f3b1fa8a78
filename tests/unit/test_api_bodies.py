from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, MultiDict

from gateway.api.bodies import checked_key, decode_body, page_of, wait_s
from gateway.api.messages import ChangedRoom, ChangedStock, NewOrder, NewRoom, NewSale
from gateway.api.problems import KINDS
from gateway.domain.drafts import check_sale
from gateway.errors import BadRequest, GatewayError, Invalid

ITEM = {"sku": "tin", "title": "A tin", "price_minor": 1900, "stock": 10, "limit_per_viewer": 2}
SALE = {
    "title": "Tins",
    "currency": "CNY",
    "opens_at": "2026-01-01T20:00:00+08:00",
    "closes_at": "2026-01-01T21:00:00+08:00",
    "items": [ITEM],
}
AFTER = "2026-01-01T20:10:00+08:00"
ORDER = {"sale": "sale_1", "sku": "tin", "quantity": 1}


def item(**changes: Any) -> dict[str, Any]:
    return {**SALE, "items": [{**ITEM, **changes}]}


def read(kind: type[msgspec.Struct], value: object) -> Any:
    return decode_body(msgspec.json.encode(value), kind)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"[]",
        b'"order"',
        b"null",
        b"1",
        b"{} x",
        b"{}{}",
        b"\xef\xbb\xbf{}",
        b'{"sale": "\xff"}',
        b'{"sale": "\\ud800"}',
        b'{"quantity": NaN}',
        b'{"quantity": Infinity}',
        b'{"quantity": "x", broken',
        b'{"x":' + b"[" * 100_000,
        b"{'sale': 1}",
    ],
)
def test_what_is_no_object_of_json_cannot_be_read(body: bytes) -> None:
    with pytest.raises(BadRequest):
        decode_body(body, NewOrder)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"quantity": 0}, "quantity"),
        ({"quantity": -1}, "quantity"),
        ({"quantity": 1_000_000_000}, "quantity"),
        ({"quantity": 2**63}, "quantity"),
        ({"quantity": 10**30}, "quantity"),
        ({"quantity": 1.0}, "quantity"),
        ({"quantity": "1"}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"quantity": None}, "quantity"),
        ({"quantity": [1]}, "quantity"),
        ({"sale": 7}, "sale"),
        ({"sale": ""}, "sale"),
        ({"sku": "s" * 65}, "sku"),
        ({"expect_amount_minor": -1}, "expect_amount_minor"),
        ({"ref": "r" * 257}, "ref"),
        ({"price_minor": 1}, "price_minor"),
        ({"amount_minor": 1}, "amount_minor"),
        ({"discount_minor": 1}, "discount_minor"),
        ({"viewer": "bob"}, "viewer"),
        ({"sub": "bob"}, "sub"),
        ({"status": "paid"}, "status"),
        ({"coupon_claim": ""}, "coupon_claim"),
        ({"coupon_claim": 7}, "coupon_claim"),
    ],
)
def test_a_wrong_order_names_the_field(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(NewOrder, {**ORDER, **changes})
    assert caught.value.param == param


@pytest.mark.parametrize("field", ["sale", "sku", "quantity"])
def test_a_missing_field_is_named(field: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(NewOrder, {name: value for name, value in ORDER.items() if name != field})
    assert caught.value.param == field


def test_unknown_fields_are_ignored() -> None:
    assert read(NewOrder, {**ORDER, "colour": "blue", "meta": {"any": ["thing"]}}).meta == {"any": ["thing"]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({**SALE, "items": []}, "items"),
        ({**SALE, "items": [{**ITEM, "sku": f"sku-{n}"} for n in range(201)]}, "items"),
        ({**SALE, "items": [ITEM, {**ITEM, "price_minor": -1}]}, "items[1].price_minor"),
        (item(price_minor=9 * 10**12 + 1), "items[0].price_minor"),
        (item(price_minor=19.9), "items[0].price_minor"),
        (item(stock=-1), "items[0].stock"),
        (item(stock=10**8 + 1), "items[0].stock"),
        (item(limit_per_viewer=0), "items[0].limit_per_viewer"),
        (item(sku=""), "items[0].sku"),
        (item(sku="tin\n"), "items[0].sku"),
        (item(title="\x00"), "items[0].title"),
        (item(image_url="javascript:alert(1)"), "items[0].image_url"),
        (item(image_url="https://x.example/a b"), "items[0].image_url"),
        (item(prices=None), "items[0].prices"),
        (item(prices=[{"from": AFTER, "price_minor": -1}]), "items[0].prices[0].price_minor"),
        (item(prices=[{"price_minor": 1}]), "items[0].prices[0].from"),
        (item(prices=[{"from": "20:00", "price_minor": 1}]), "items[0].prices[0].from"),
        (item(prices=[{"from": AFTER, "price_minor": 1}] * 51), "items[0].prices"),
        ({**SALE, "items": [{"sku": "tin"}]}, "items[0].title"),
        ({**SALE, "currency": "cny"}, "currency"),
        ({**SALE, "currency": "CNY\n"}, "currency"),
        ({**SALE, "title": ""}, "title"),
        ({**SALE, "title": "t" * 201}, "title"),
        ({**SALE, "opens_at": "2026-01-01T20:00:00"}, "opens_at"),
        ({**SALE, "opens_at": "tomorrow"}, "opens_at"),
        ({**SALE, "opens_at": 1_700_000_000}, "opens_at"),
        ({**SALE, "opens_at": "1969-12-31T23:59:59Z"}, "opens_at"),
        ({**SALE, "closes_at": "9999-12-31T23:59:59-14:00"}, "closes_at"),
        ({**SALE, "stock_display": "some"}, "stock_display"),
        ({**SALE, "closes_at": "2026-01-01T12:00:00Z"}, "closes_at"),
        ({**SALE, "closes_at": "2026-01-01T19:00:00+08:00"}, "closes_at"),
        ({**SALE, "pay_within_s": 59}, "pay_within_s"),
        ({**SALE, "pay_within_s": 86_401}, "pay_within_s"),
        ({**SALE, "items": [ITEM, ITEM]}, "items[1].sku"),
        (item(floor_minor=1901), "items[0].floor_minor"),
    ],
)
def test_a_wrong_sale_names_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        check_sale(read(NewSale, body).draft(), min_pay_within_s=60)
    assert caught.value.param == param


def test_a_sale_is_read_whole() -> None:
    items = [
        {**ITEM, "sku": f"sku-{n}", "floor_minor": 1900, "image_url": "https://x.example/a.png"} for n in range(200)
    ]
    draft = read(NewSale, {**SALE, "items": items, "room": "room_1"}).draft()
    check_sale(draft, min_pay_within_s=60)
    assert (draft.opens_at_ms, draft.closes_at_ms) == (1_767_268_800_000, 1_767_272_400_000)
    assert (draft.pay_within_s, draft.stock_display, draft.room, len(draft.items)) == (300, "exact", "room_1", 200)


def test_development_allows_short_terms_of_payment() -> None:
    check_sale(read(NewSale, {**SALE, "pay_within_s": 5}).draft(), min_pay_within_s=5)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "title"),
        ({"title": "Show", "stream_url": "javascript:alert(1)"}, "stream_url"),
        ({"title": "Show", "stream_url": "javascript://x%0aalert(1)"}, "stream_url"),
        ({"title": "Show", "notice": "n" * 1001}, "notice"),
        ({"title": "Show", "starts_at": "2026-01-01"}, "starts_at"),
    ],
)
def test_a_wrong_room_names_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(NewRoom, body).draft()
    assert caught.value.param == param


def test_a_change_of_a_room_tells_left_out_from_cleared() -> None:
    changes = read(ChangedRoom, {"notice": None, "starts_at": "1970-01-01T00:00:01Z"}).changes()
    assert (changes.title, changes.starts_at_ms, changes.notice) == (msgspec.UNSET, 1000, None)


@pytest.mark.parametrize("add", [0, 10**8 + 1, 1.5, "1", None])
def test_a_change_of_stock_is_a_number_of_units(add: object) -> None:
    with pytest.raises(Invalid):
        read(ChangedStock, {"add": add, "reason": "counted again"})


@pytest.mark.parametrize("key", ["", "a b", "k" * 65, "key\n", "ключ", "a/b"])
def test_a_key_that_is_none_cannot_be_read(key: str) -> None:
    with pytest.raises(BadRequest):
        checked_key(key)


class Asked:
    def __init__(self, query: dict[str, str] | None = None, headers: dict[str, str] | None = None) -> None:
        self.query = MultiDict(query or {})
        self.headers = CIMultiDict(headers or {})


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "-1"}, "limit"),
        ({"limit": "1000000000"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": "\u0663"}, "limit"),
        ({"limit": ""}, "limit"),
        ({"after": ""}, "after"),
        ({"after": "a\x00b"}, "after"),
        ({"after": "a" * 65}, "after"),
    ],
)
def test_a_page_that_is_none_names_the_field(query: dict[str, str], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        page_of(Asked(query))  # type: ignore[arg-type]
    assert caught.value.param == param


def test_a_page_has_a_size_and_a_place() -> None:
    assert page_of(Asked()) == (50, None)  # type: ignore[arg-type]
    assert page_of(Asked({"limit": "200", "after": "ord_1"})) == (200, "ord_1")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=5", 5),
        ("respond-async, wait=5", 5),
        ("Wait = 5", 5),
        ("wait=100", 30),
        ("wait=0", 0),
        ("wait=soon", 0),
        ("await=5", 0),
        ("", 0),
    ],
)
def test_the_preference_to_wait_is_read_and_cut(header: str, seconds: int) -> None:
    assert wait_s(Asked(headers={"Prefer": header}), most_s=30) == seconds  # type: ignore[arg-type]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from([NewOrder, NewSale, NewRoom, ChangedRoom, ChangedStock]), st.data())
def test_any_object_is_read_or_refused_in_our_words(kind: type[msgspec.Struct], data: st.DataObject) -> None:
    names = [field.name for field in msgspec.structs.fields(kind)]
    body = msgspec.json.encode(data.draw(st.dictionaries(st.sampled_from([*names, "other"]), VALUES)))
    try:
        message = decode_body(body, kind)
        if isinstance(message, NewSale | NewRoom):
            message.draft()
    except GatewayError as error:
        assert isinstance(error, BadRequest | Invalid)
        assert error.code in KINDS


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused_in_our_words(body: bytes) -> None:
    for raw in (body, b"{" + body):
        try:
            decode_body(raw, NewOrder)
        except (BadRequest, Invalid):
            pass
