import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire import frames
from gateway.wire.codec import (
    BY_PROTOCOL,
    JSON,
    JSON_PROTOCOL,
    MSGPACK,
    MSGPACK_PROTOCOL,
    Codec,
    NotAllowed,
    UnknownFrame,
    Unreadable,
)

CODECS = pytest.mark.parametrize("codec", [JSON, MSGPACK], ids=["json", "msgpack"])

ORDER = {"t": "order", "id": "k1", "sale": "sale_1", "sku": "tin", "quantity": 1}


def packed(codec: Codec, value: object) -> bytes:
    """As a client that shares no code with the gateway writes it."""
    if codec.is_text:
        return json.dumps(value, ensure_ascii=False).encode()
    data: bytes = msgpack.packb(value)
    return data


def unpacked(codec: Codec, data: bytes) -> Any:
    return json.loads(data) if codec.is_text else msgpack.unpackb(data)


def without(frame: dict[str, object], name: str) -> dict[str, object]:
    return {key: value for key, value in frame.items() if key != name}


# What a client may send.


@CODECS
@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (ORDER, frames.PlaceOrder(id="k1", sale="sale_1", sku="tin", quantity=1)),
        (
            ORDER | {"expect_amount_minor": 0, "ref": "r", "meta": {"a": [1, None, "é"]}},
            frames.PlaceOrder(
                id="k1",
                sale="sale_1",
                sku="tin",
                quantity=1,
                expect_amount_minor=0,
                ref="r",
                meta={"a": [1, None, "é"]},
            ),
        ),
        (
            ORDER | {"quantity": 1000, "colour": "red", "more": {"x": [1]}},
            frames.PlaceOrder("k1", "sale_1", "tin", 1000),
        ),
        (ORDER | {"id": "A-z_0.9:" + "x" * 56}, frames.PlaceOrder("A-z_0.9:" + "x" * 56, "sale_1", "tin", 1)),
        ({"t": "hello"}, frames.Hello()),
        (
            {"t": "hello", "token": "jwt", "resume": {"epoch": 1, "seq": 5}, "pending": [{"key": "k", "sale": "s"}]},
            frames.Hello("jwt", frames.Resume(1, 5), [frames.Pending("k", "s")]),
        ),
        ({"t": "hello", "pending": [{"key": "k"}] * 32}, frames.Hello(pending=[frames.Pending("k")] * 32)),
        ({"t": "token", "token": "jwt"}, frames.FreshToken("jwt")),
        ({"t": "claim", "id": "k1", "coupon": "c"}, frames.Claim("k1", "c")),
        ({"t": "ping"}, frames.Ping()),
        ({"t": "ping", "id": 7}, frames.Ping(7)),
        ({"t": "ping", "id": "seven"}, frames.Ping("seven")),
    ],
)
def test_a_frame_of_another_implementation_is_read(codec: Codec, sent: dict[str, Any], read: object) -> None:
    assert codec.decode(packed(codec, sent)) == read


def test_every_subprotocol_names_its_codec() -> None:
    assert BY_PROTOCOL == {JSON_PROTOCOL: JSON, MSGPACK_PROTOCOL: MSGPACK}
    assert (JSON.is_text, MSGPACK.is_text) == (True, False)


# What cannot be read at all: it counts towards closing the socket.

UNREADABLE_VALUES: list[object] = [
    [],
    [ORDER],
    "hello",
    7,
    None,
    True,
    {},
    {"id": "k1"},
    {"t": 5},
    {"t": None},
    {"t": []},
]


@CODECS
@pytest.mark.parametrize("value", UNREADABLE_VALUES, ids=repr)
def test_what_is_no_map_with_a_type_is_unreadable(codec: Codec, value: object) -> None:
    with pytest.raises(Unreadable):
        codec.decode(packed(codec, value))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b'{"t":"ping"',
        b'{"t":"ping"}}',
        b'{"t":"ping"} {"t":"ping"}',
        b"{'t':'ping'}",
        b'{"t":"ping",}',
        b'{"t":"ping","id":NaN}',
        b'{"t":"ping","id":"\xff"}',
        b'{"t":"ping","id":"\\ud800"}',
        b'\xef\xbb\xbf{"t":"ping"}',
        b'\x00{"t":"ping"}',
        b'{"t":"ping","x":' + b"[" * 3_000 + b"]" * 3_000 + b"}",
        msgpack.packb({"t": "ping"}),
    ],
)
def test_what_is_no_json_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        JSON.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x81",
        b"\x81\xa1t",
        b"\x81\xa1t\xa4pin",
        b"\x81\xa1t\xa4ping\xc0",
        b"\x82\xa1t\xa4ping\xa2id\xa2\xff\xfe",
        b"\x81\xc4\x01t\xa4ping",
        b"\x81\xa1t\xc4\x04ping",
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x82\xa1t\xa4ping\xa2id\xdb\xff\xff\xff\xff",
        b"\x83\xa1t\xa5order\xa2id\xa2k1\xa4meta\xdd\xff\xff\xff\xff",
        b"\x82\xa1t\xa4ping\xa1x" + b"\x91" * 3_000,
        b'{"t":"ping"}',
    ],
)
def test_what_is_no_messagepack_is_unreadable(data: bytes) -> None:
    with pytest.raises(Unreadable):
        MSGPACK.decode(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused_with_one_of_three_words(data: bytes) -> None:
    for codec in (JSON, MSGPACK):
        try:
            codec.decode(data)
        except (Unreadable, NotAllowed, UnknownFrame):
            pass


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
field_names = st.sampled_from(
    ["id", "sale", "sku", "quantity", "expect_amount_minor", "ref", "meta", "token", "pending"]
)


@given(st.sampled_from(["hello", "token", "order", "claim", "ping"]), st.dictionaries(field_names, json_values))
def test_a_map_with_a_known_type_is_read_or_not_allowed_but_never_unreadable(kind: str, fields: dict[str, Any]) -> None:
    """A frame that has a type was meant as one: three wrong values must not close a viewer's socket."""
    for codec in (JSON, MSGPACK):
        try:
            codec.decode(packed(codec, {"t": kind} | fields))
        except NotAllowed as error:
            assert error.frame == kind


# What reads and is not allowed: the frame has no effect, the socket stays.


@CODECS
@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (without(ORDER, "id"), "id"),
        (without(ORDER, "sale"), "sale"),
        (without(ORDER, "sku"), "sku"),
        (without(ORDER, "quantity"), "quantity"),
        (ORDER | {"quantity": 0}, "quantity"),
        (ORDER | {"quantity": -1}, "quantity"),
        (ORDER | {"quantity": 1001}, "quantity"),
        (ORDER | {"quantity": 1_000_000_000}, "quantity"),
        (ORDER | {"quantity": 1.5}, "quantity"),
        (ORDER | {"quantity": "1"}, "quantity"),
        (ORDER | {"quantity": True}, "quantity"),
        (ORDER | {"quantity": None}, "quantity"),
        (ORDER | {"id": ""}, "id"),
        (ORDER | {"id": "x" * 65}, "id"),
        (ORDER | {"id": "a b"}, "id"),
        (ORDER | {"id": "a|b"}, "id"),
        (ORDER | {"id": "k1\n"}, "id"),
        (ORDER | {"id": "ключ"}, "id"),
        (ORDER | {"id": 7}, "id"),
        (ORDER | {"id": ["k1"]}, "id"),
        (ORDER | {"id": 1.5}, "id"),
        (ORDER | {"sale": ""}, "sale"),
        (ORDER | {"sale": "x" * 65}, "sale"),
        (ORDER | {"sku": 5}, "sku"),
        (ORDER | {"expect_amount_minor": -1}, "expect_amount_minor"),
        (ORDER | {"expect_amount_minor": 2**53 + 1}, "expect_amount_minor"),
        (ORDER | {"ref": ""}, "ref"),
        (ORDER | {"ref": "x" * 257}, "ref"),
        ({"t": "token"}, "token"),
        ({"t": "token", "token": 5}, "token"),
        ({"t": "claim", "id": "k1"}, "coupon"),
        ({"t": "hello", "pending": [{"sale": "s"}]}, "key"),
        ({"t": "hello", "pending": [{"key": "k"}] * 33}, "pending"),
        ({"t": "hello", "resume": {"epoch": 1}}, "seq"),
        ({"t": "ping", "id": "x" * 65}, "id"),
        ({"t": "ping", "id": [1]}, "id"),
    ],
    ids=repr,
)
def test_a_value_outside_the_contract_is_not_allowed_and_its_place_is_named(
    codec: Codec, frame: dict[str, Any], says: str
) -> None:
    with pytest.raises(NotAllowed, match=says) as caught:
        codec.decode(packed(codec, frame))
    assert caught.value.frame == frame["t"]
    known = frame.get("id")
    assert caught.value.id == (known if isinstance(known, str) and len(known) <= 64 else None)


@CODECS
def test_a_type_nobody_knows_is_named_shortly_with_the_frames_own_id(codec: Codec) -> None:
    with pytest.raises(UnknownFrame) as caught:
        codec.decode(packed(codec, {"t": "teleport" * 10, "id": "k9"}))
    assert caught.value.frame == ("teleport" * 10)[:32]
    assert caught.value.id == "k9"


# What the gateway sends.

SENT = [
    (frames.Pong(now_ms=5), {"t": "pong", "now_ms": 5}),
    (frames.Reply(id="k1", outcome="sold_out", left=0, may_return=True), None),
    (
        frames.Reply(id="k1", outcome="reserved", order="ord_1", amount_minor=1900),
        {"t": "reply", "id": "k1", "outcome": "reserved", "order": "ord_1", "amount_minor": 1900},
    ),
    (
        frames.Error(code="invalid", message="é", retryable=False, id="k1"),
        {"t": "error", "code": "invalid", "message": "é", "retryable": False, "id": "k1"},
    ),
    (frames.Bye(code=4008, reason="slow"), {"t": "bye", "code": 4008, "reason": "slow"}),
    (frames.TokenEnding(in_ms=60_000), {"t": "token_ending", "in_ms": 60_000}),
    (
        frames.Welcome(you="vw_1", epoch=1, seq=0, now_ms=5, recovered=False),
        {"t": "welcome", "you": "vw_1", "epoch": 1, "seq": 0, "now_ms": 5, "recovered": False},
    ),
    (
        frames.OrderChanged(order="ord_1", status="confirmed", pay_by_ms=2**53),
        {"t": "order", "order": "ord_1", "status": "confirmed", "pay_by_ms": 2**53},
    ),
]


@CODECS
@pytest.mark.parametrize(("frame", "expected"), SENT, ids=lambda value: type(value).__name__)
def test_another_implementation_reads_what_is_sent(codec: Codec, frame: Any, expected: dict[str, Any] | None) -> None:
    read = unpacked(codec, codec.encode(frame))
    if expected is None:
        expected = {"t": "reply", "id": "k1", "outcome": "sold_out", "left": 0, "may_return": True}
    assert read == expected
    assert next(iter(read)) == "t"


def test_messagepack_sends_text_as_strings_and_never_as_bytes() -> None:
    data = MSGPACK.encode(frames.Reply(id="k1", outcome="reserved", order="ord_1"))
    assert msgpack.unpackb(data, raw=False, strict_map_key=True)["order"] == "ord_1"


@CODECS
@given(id=st.none() | st.integers() | st.text(max_size=64))
def test_every_ping_that_is_read_can_be_answered(codec: Codec, id: int | str | None) -> None:
    try:
        ping = codec.decode(packed(codec, {"t": "ping", "id": id}))
    except (NotAllowed, Unreadable, OverflowError):
        return
    assert isinstance(ping, frames.Ping)
    assert unpacked(codec, codec.encode(frames.Pong(now_ms=1, id=ping.id))).get("id") == id
