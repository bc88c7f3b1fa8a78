from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.bodies import decode_body
from gateway.api.room_messages import (
    ChangedChat,
    NewAnnouncement,
    NewBan,
    NewMute,
    NewPin,
    PinnedItem,
    viewer_of,
    word_of,
)
from gateway.api.room_replies import act_reply
from gateway.domain.acts import ActDone, ActPlace
from gateway.errors import GatewayError, Invalid, NotFound


def read(kind: type[msgspec.Struct], value: object) -> Any:
    return decode_body(msgspec.json.encode(value), kind)


@pytest.mark.parametrize(
    ("kind", "body", "param"),
    [
        (NewMute, {}, "for_s"),
        (NewMute, {"for_s": 0}, "for_s"),
        (NewMute, {"for_s": 30 * 86_400 + 1}, "for_s"),
        (NewMute, {"for_s": 1.5}, "for_s"),
        (NewMute, {"for_s": True}, "for_s"),
        (NewBan, {"shop_wide": 1}, "shop_wide"),
        (NewBan, {"shop_wide": None}, "shop_wide"),
        (ChangedChat, {"slow_mode_s": -1}, "slow_mode_s"),
        (ChangedChat, {"slow_mode_s": 3601}, "slow_mode_s"),
        (ChangedChat, {"slow_mode_s": None}, "slow_mode_s"),
        (ChangedChat, {"comments": "of"}, "comments"),
        (ChangedChat, {"comments": True}, "comments"),
        (NewAnnouncement, {}, "text"),
        (NewAnnouncement, {"text": ""}, "text"),
        (NewAnnouncement, {"text": "t" * 201}, "text"),
        (NewAnnouncement, {"text": "a\nb"}, "text"),
        (NewPin, {"sale": 7}, "sale"),
    ],
)
def test_a_wrong_body_names_the_field(kind: type[msgspec.Struct], body: object, param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(kind, body)
    assert caught.value.param == param


@pytest.mark.parametrize("text", [" ", "\u3000", "\u2028"])
def test_an_announcement_says_something(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(NewAnnouncement, {"text": text}).said()
    assert caught.value.param == "text"


def test_an_announcement_is_said_in_one_form() -> None:
    assert read(NewAnnouncement, {"text": "  cafe\u0301 "}).said() == "café"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "sale"),
        ({"sku": "tin"}, "sale"),
        ({"sale": "sale_1"}, "sku"),
        ({"comment": "cmt_1", "sale": "sale_1"}, "comment"),
        ({"comment": "cmt_1", "sku": "tin"}, "comment"),
    ],
)
def test_a_pin_is_an_item_or_a_comment(body: object, param: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(NewPin, body).what()
    assert caught.value.param == param


def test_what_is_pinned_is_read() -> None:
    assert read(NewPin, {"sale": "sale_1", "sku": "tin"}).what() == PinnedItem("sale_1", "tin")
    assert read(NewPin, {"comment": "cmt_1"}).what() == "cmt_1"


@pytest.mark.parametrize(
    "name", ["", "vw_", "ann", "vw_" + "a" * 17, "vw_" + "a" * 19, "vw_" + "A" * 18, "vw_" + "a" * 18 + "\n"]
)
def test_what_is_no_pseudonym_is_no_viewer(name: str) -> None:
    with pytest.raises(NotFound):
        viewer_of(name)


@pytest.mark.parametrize("text", ["", " ", "w" * 51, "a\x00b", "a\nb", "\u200b", "a\u2028b"])
def test_what_nobody_can_look_for_is_no_word(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        word_of(text)
    assert caught.value.param == "word"


@given(st.text(max_size=60))
def test_any_text_is_a_word_in_its_one_form_or_refused(text: str) -> None:
    try:
        word = word_of(text)
    except GatewayError as error:
        assert isinstance(error, Invalid)
    else:
        assert 1 <= len(word) <= 50
        assert word_of(word) == word


def test_the_log_shows_times_as_http_has_them() -> None:
    act = ActDone(
        place=ActPlace(1_000, 1, 0, 7),
        act="mute",
        actor="host",
        before=None,
        after={"viewer": "vw_1", "until_ms": 61_000},
    )
    assert msgspec.to_builtins(act_reply(act)) == {
        "at": "1970-01-01T00:00:01.000Z",
        "actor": "host",
        "act": "mute",
        "before": None,
        "after": {"viewer": "vw_1", "until": "1970-01-01T00:01:01.000Z"},
    }
