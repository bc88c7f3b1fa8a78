"""The client's small rules: close codes, back-off, codecs."""

import pytest

from gateway.client.backoff import Backoff
from gateway.client.codec import JsonCodec, MsgpackCodec, ToViewer, codec_named
from gateway.wire.close_codes import CloseCode, may_return
from gateway.wire.codec import JSON, MSGPACK, Codec
from gateway.wire.frames import Hello, Pending, PlaceOrder, Reply, Resume


@pytest.mark.parametrize("code", [1001, 1006, 1012, 4000, 4008, 4401, 4499])
def test_codes_that_say_nothing_against_the_viewer_come_back(code: int) -> None:
    assert may_return(code)


@pytest.mark.parametrize("code", [1000, 1002, 1003, 1007, 1009, 3999, 4500, 4509, 4999, 5000])
def test_codes_that_do_stay_away(code: int) -> None:
    assert not may_return(code)


def test_every_named_code_lies_in_the_range_that_says_what_to_do() -> None:
    for code in CloseCode:
        if code >= 4000:
            assert may_return(code) is (code < 4500)


def test_a_back_off_is_random_up_to_a_doubled_and_capped_bound_after_what_was_asked() -> None:
    backoff = Backoff(base_s=0.5, cap_s=4.0)
    for failures, bound_s in ((0, 0.5), (1, 1.0), (3, 4.0), (10_000, 4.0)):
        delays = [backoff.delay_s(failures) for _ in range(300)]
        assert 0.0 <= min(delays) < bound_s / 4 and bound_s * 3 / 4 < max(delays) <= bound_s
    assert min(backoff.delay_s(0, asked_s=2.0) for _ in range(100)) >= 2.0


@pytest.mark.parametrize(("mine", "theirs"), [(JsonCodec(), JSON), (MsgpackCodec(), MSGPACK)])
def test_what_the_client_writes_the_gateway_reads_and_the_other_way(
    mine: JsonCodec | MsgpackCodec, theirs: Codec
) -> None:
    assert mine.subprotocol == theirs.protocol
    hello = {"t": "hello", "pending": [{"sale": "sale_1", "key": "k"}], "resume": {"epoch": 1, "seq": 2}}
    assert theirs.decode(mine.encode(hello)) == Hello(
        pending=[Pending(key="k", sale="sale_1")], resume=Resume(epoch=1, seq=2)
    )
    order = {"t": "order", "id": "k", "sale": "sale_1", "sku": "茶", "quantity": 3, "meta": {"a": [1]}}
    assert theirs.decode(mine.encode(order)) == PlaceOrder(id="k", sale="sale_1", sku="茶", quantity=3, meta={"a": [1]})
    told = theirs.encode(Reply(id="k", outcome="reserved", order="ord_1", amount_minor=2**53, replayed=True))
    assert mine.read(told) == ToViewer(
        t="reply", id="k", outcome="reserved", order="ord_1", amount_minor=2**53, replayed=True
    )


@pytest.mark.parametrize("codec", [JsonCodec(), MsgpackCodec()])
def test_a_frame_whose_fields_mean_something_else_is_known_by_its_type_alone(codec: JsonCodec | MsgpackCodec) -> None:
    frame = {"t": "snapshot", "order": {"sku": "tin"}, "seq": "seven", "status": 5}
    assert codec.read(codec.encode(frame)) == ToViewer(t="snapshot")
    assert codec.read_whole(codec.encode(frame)) == frame


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(ValueError, match="cbor"):
        codec_named("cbor")
