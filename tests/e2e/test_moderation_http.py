"""What hosts do to a live room, by HTTP on a whole gateway: what is answered, and what the room sees of it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest

from gateway.client.errors import ViewerAway
from gateway.client.host import Host
from gateway.client.viewer import Viewer
from gateway.errors import Conflict
from tests.e2e.conftest import Show
from tests.support.api import Api, api_of
from tests.support.gateway import Gateway
from tests.support.servers import eventually

VIEWER = "vw_" + "a1" * 9
COMMENT = "cmt_" + "0" * 24


@pytest.fixture
async def api(gateway: Gateway) -> AsyncIterator[Api]:
    async with api_of(gateway) as api:
        yield api


@pytest.fixture
async def path(api: Api) -> str:
    """The address of a new room."""
    return f"/v1/rooms/{(await api.room())['room']}"


async def test_acts_answer_with_what_holds_afterwards(api: Api, path: str) -> None:
    sale = (await api.sale(room=path.rpartition("/")[2]))["sale"]
    word = "微信/加我 %"
    pin = {"pin": {"sale": sale, "sku": "tin", "title": "A tin"}}
    asked: list[tuple[str, str, Any, int, Any]] = [
        ("PUT", "/pin", {"sale": sale, "sku": "tin"}, 200, pin),
        ("DELETE", "/pin", None, 204, None),
        ("PATCH", "/chat", {"slow_mode_s": 10}, 200, {"slow_mode_s": 10, "comments": "on"}),
        ("PATCH", "/chat", {"comments": "off"}, 200, {"slow_mode_s": 10, "comments": "off"}),
        ("PATCH", "/chat", {}, 200, {"slow_mode_s": 10, "comments": "off"}),
        ("DELETE", f"/mutes/{VIEWER}", None, 204, None),
        ("PUT", f"/bans/{VIEWER}", None, 200, {"viewer": VIEWER, "shop_wide": False}),
        ("PUT", f"/bans/{VIEWER}", {}, 200, {"viewer": VIEWER, "shop_wide": False}),
        ("PUT", f"/bans/{VIEWER}", {"shop_wide": True}, 200, {"viewer": VIEWER, "shop_wide": True}),
        ("DELETE", f"/bans/{VIEWER}", None, 204, None),
        ("PUT", f"/words/{quote(word, safe='')}", None, 200, {"word": word, "shop_wide": False}),
        ("PUT", "/words/%20spam%20", {"shop_wide": True}, 200, {"word": "spam", "shop_wide": True}),
        ("DELETE", "/words/spam", None, 204, None),
        ("DELETE", f"/viewers/{VIEWER}/comments", None, 204, None),
    ]
    for method, act, body, status, shown in asked:
        # All of them name a state: asked twice, the answer is the same.
        for _ in range(2):
            answer = await api.call(method, path + act, body)
            assert (answer.status, answer.json if answer.text else None) == (status, shown), (method, act, answer.text)
    muted = await api.call("PUT", f"{path}/mutes/{VIEWER}", {"for_s": 60})
    assert (muted.status, muted.json["viewer"]) == (200, VIEWER)
    assert (await api.call("PUT", f"{path}/mutes/{VIEWER}", {"for_s": 60})).json == muted.json
    # The clock of two answers is the same one, and so is what is listed.
    assert (await api.call("GET", f"{path}/mutes")).json == {"items": [muted.json], "next": None}
    await api.call("PUT", f"{path}/bans/{VIEWER}")
    banned = {"room": path.rpartition("/")[2], "viewer": VIEWER, "shop_wide": False}
    assert (await api.call("GET", f"{path}/bans?limit=1")).json == {"items": [banned], "next": None}
    await api.call("DELETE", f"{path}/bans/{VIEWER}")
    words = await api.call("GET", f"{path}/words?limit=1")
    assert words.json == {"items": [{"word": word, "shop_wide": False}], "next": None}


async def test_an_announcement_has_a_key(api: Api, path: str) -> None:
    key = uuid.uuid4().hex
    answers = await asyncio.gather(
        *(api.call("POST", f"{path}/announcements", {"text": "Now!"}, key=key) for _ in range(5))
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert answers[0].json["text"] == "Now!"
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    other = await api.call("POST", f"{path}/announcements", {"text": "Later!"}, key=key)
    assert (other.status, other.code) == (422, "key_reused")
    assert (await api.call("POST", f"{path}/end")).status == 200
    ended = await api.call("POST", f"{path}/announcements", {"text": "Now!"})
    assert (ended.status, ended.code) == (409, "conflict")
    assert (await api.call("POST", f"{path}/announcements", {"text": "Now!"}, key=key)).status == 201


@pytest.mark.parametrize(
    ("method", "act", "body", "status", "code", "param"),
    [
        ("POST", "/announcements", {"text": ""}, 422, "invalid", "text"),
        ("POST", "/announcements", {"text": "t" * 201}, 422, "invalid", "text"),
        ("POST", "/announcements", {"text": "a\u0000b"}, 422, "invalid", "text"),
        ("POST", "/announcements", {}, 422, "invalid", "text"),
        ("PUT", "/pin", {}, 422, "invalid", "sale"),
        ("PUT", "/pin", {"sale": "sale_0"}, 422, "invalid", "sku"),
        ("PUT", "/pin", {"sale": "sale_0", "sku": "tin"}, 404, "not_found", "sale"),
        ("PUT", "/pin", {"comment": COMMENT}, 404, "not_found", "comment"),
        ("PUT", "/pin", {"comment": COMMENT, "sku": "tin"}, 422, "invalid", "comment"),
        ("PUT", "/pin", None, 415, "unsupported", None),
        ("PATCH", "/chat", {"slow_mode_s": 3601}, 422, "invalid", "slow_mode_s"),
        ("PATCH", "/chat", {"slow_mode_s": "1"}, 422, "invalid", "slow_mode_s"),
        ("PATCH", "/chat", {"comments": "loud"}, 422, "invalid", "comments"),
        ("PUT", f"/mutes/{VIEWER}", {}, 422, "invalid", "for_s"),
        ("PUT", f"/mutes/{VIEWER}", {"for_s": 0}, 422, "invalid", "for_s"),
        ("PUT", f"/mutes/{VIEWER}", {"for_s": 2_592_001}, 422, "invalid", "for_s"),
        ("PUT", "/mutes/ann", {"for_s": 60}, 404, "not_found", None),
        ("DELETE", f"/mutes/{VIEWER}0", None, 404, "not_found", None),
        ("PUT", "/bans/vw_1", {}, 404, "not_found", None),
        ("PUT", f"/bans/{VIEWER}", {"shop_wide": "yes"}, 422, "invalid", "shop_wide"),
        ("DELETE", "/bans/%00", None, 404, "not_found", None),
        ("PUT", f"/words/{'w' * 51}", None, 422, "invalid", "word"),
        ("PUT", "/words/%20", None, 422, "invalid", "word"),
        ("PUT", "/words/a%00b", None, 422, "invalid", "word"),
        ("PUT", "/words/%E2%80%8B", None, 422, "invalid", "word"),
        ("GET", "/words?limit=0", None, 422, "invalid", "limit"),
        ("GET", "/words?after=abc", None, 422, "invalid", "after"),
        ("GET", "/mutes?after=abc", None, 422, "invalid", "after"),
        ("GET", "/bans?limit=201", None, 422, "invalid", "limit"),
        ("DELETE", f"/comments/{COMMENT}", None, 404, "not_found", None),
        ("DELETE", "/comments/7", None, 404, "not_found", None),
        ("DELETE", "/viewers/ann/comments", None, 404, "not_found", None),
    ],
)
async def test_what_is_asked_badly_changes_nothing(
    api: Api, path: str, method: str, act: str, body: Any, status: int, code: str, param: str | None
) -> None:
    answer = await api.call(method, path + act, body)
    assert (answer.status, answer.code, answer.json.get("param")) == (status, code, param), answer.text
    assert (await api.call("GET", f"/v1/acts?room={path.rpartition('/')[2]}")).json["items"] == []


def asked_in(path: str) -> list[tuple[str, str, Any]]:
    """One of every call."""
    return [
        ("POST", f"{path}/announcements", {"text": "Now!"}),
        ("PUT", f"{path}/pin", {"comment": COMMENT}),
        ("DELETE", f"{path}/pin", None),
        ("PATCH", f"{path}/chat", {"slow_mode_s": 10}),
        ("PUT", f"{path}/mutes/{VIEWER}", {"for_s": 60}),
        ("DELETE", f"{path}/mutes/{VIEWER}", None),
        ("PUT", f"{path}/bans/{VIEWER}", None),
        ("DELETE", f"{path}/bans/{VIEWER}", None),
        ("GET", f"{path}/mutes", None),
        ("GET", f"{path}/bans", None),
        ("GET", f"{path}/words", None),
        ("PUT", f"{path}/words/spam", None),
        ("DELETE", f"{path}/words/spam", None),
        ("DELETE", f"{path}/comments/{COMMENT}", None),
        ("DELETE", f"{path}/viewers/{VIEWER}/comments", None),
        ("GET", f"/v1/acts?room={path.rpartition('/')[2]}", None),
    ]


async def test_only_the_rooms_own_hosts_act_on_it(api: Api, path: str) -> None:
    for token, status, code in (
        (api.viewer(), 403, "forbidden"),
        (api.token("clerk", "clerk"), 403, "forbidden"),
        (api.token("shop", "service"), 403, "forbidden"),
        (api.token(rooms=[(await api.room())["room"]]), 403, "forbidden"),
        (api.token(shop="cups"), 404, "not_found"),
        ("garbage", 401, "unauthorized"),
    ):
        for method, address, body in asked_in(path):
            answer = await api.call(method, address, body, token=token)
            assert (answer.status, answer.code) == (status, code), (method, address, answer.text)
    for method, address, body in asked_in("/v1/rooms/room_0"):
        assert (await api.call(method, address, body)).code == "not_found", (method, address)
    assert (await api.call("GET", f"/v1/acts?room={path.rpartition('/')[2]}")).json["items"] == []
    assert (await api.call("GET", "/v1/acts")).json["param"] == "room"


async def test_a_token_for_the_room_changes_nothing_of_the_shop(api: Api, path: str) -> None:
    token = api.token(rooms=[path.rpartition("/")[2]])
    assert (await api.call("PUT", f"{path}/words/spam", None, token=token)).status == 200
    for act in (f"/bans/{VIEWER}", "/words/spam"):
        answer = await api.call("PUT", path + act, {"shop_wide": True}, token=token)
        assert (answer.status, answer.code) == (403, "forbidden")


async def test_the_log_says_who_did_what_to_the_room_and_its_sales(api: Api, path: str) -> None:
    room = path.rpartition("/")[2]
    sale = (await api.sale(room=room))["sale"]
    await api.call("POST", f"{path}/start")
    await api.call("PATCH", f"{path}/chat", {"slow_mode_s": 10}, token=api.token("host-2"))
    await api.call("POST", f"/v1/sales/{sale}/items/tin/stock", {"add": 5, "reason": "found"})
    await api.call("PUT", f"{path}/mutes/{VIEWER}", {"for_s": 60})
    acts = (await api.call("GET", f"/v1/acts?room={room}")).json["items"]
    assert [(act["act"], act["actor"]) for act in acts] == [
        ("mute", "host"),
        ("stock", "host"),
        ("chat", "host-2"),
        ("start", "host"),
    ]
    mute, stock, chat, _ = acts
    assert (mute["before"], mute["after"]["viewer"]) == (None, VIEWER)
    assert mute["after"]["until"] > mute["at"]
    assert (stock["sale"], stock["before"], stock["after"], stock["reason"]) == (sale, "10", "15", "found")
    assert (chat["before"], chat["after"]) == (
        {"slow_mode_s": 0, "comments": "on"},
        {"slow_mode_s": 10, "comments": "on"},
    )
    paged, after = [], ""
    while after is not None:
        page = (await api.call("GET", f"/v1/acts?room={room}&limit=1{after and f'&after={after}'}")).json
        paged += page["items"]
        after = page["next"]
    assert paged == acts
    assert (await api.call("GET", f"/v1/acts?room={room}&after=x")).json["param"] == "after"


async def test_the_room_sees_what_its_host_does(gateway: Gateway, host: Host, show: Show, viewer_token: str) -> None:
    async with Viewer(show.live_url, viewer_token) as viewer:
        me = viewer.welcome["you"]

        async def sees(holds: Any) -> None:
            async def asked() -> bool:
                return bool(holds(viewer.room))

            await eventually(asked)

        await host.announce(show.room, "Here we go")
        await sees(lambda room: room.announcement == "Here we go")
        pin = await host.pin_item(show.room, sale=show.sale, sku="tin")
        assert pin == {"sale": show.sale, "sku": "tin", "title": "Tin"}
        await sees(lambda room: room.pin == pin)
        said = await viewer.comment("the best tin")
        assert said.comment is not None
        pin = await host.pin_comment(show.room, said.comment)
        assert (pin["viewer"], pin["text"]) == (me, "the best tin")
        await sees(lambda room: room.pin == pin)
        await sees(lambda room: [comment["text"] for comment in room.recent] == ["the best tin"])
        await host.retract(show.room, said.comment)
        await sees(lambda room: room.recent == [] and room.pin is None)
        await host.change_chat(show.room, comments=False)
        await sees(lambda room: room.chat["comments"] == "off")
        assert (await viewer.comment("anybody?")).outcome == "comments_off"
        await host.change_chat(show.room, comments=True)
        until = await host.mute(show.room, me, for_s=3600)
        assert (await viewer.comment("hello?")).outcome == "muted"
        assert [(muted.viewer, muted.until) for muted in await host.mutes(show.room)] == [(me, until)]
        await host.unmute(show.room, me)
        assert await host.mutes(show.room) == []
        assert (await viewer.comment("hello")).outcome == "posted"
        await host.retract_all(show.room, me)
        await sees(lambda room: room.recent == [])
        await host.ban_word(show.room, "sp/am")

        async def is_rejected() -> bool:
            return (await viewer.comment("s p / a m", insist=True)).outcome == "rejected"

        await eventually(is_rejected)
        assert [word.word for word in await host.words(show.room)] == ["sp/am"]
    acts = await host.acts(show.room)
    assert [act.act for act in reversed(acts)] == [
        *("start", "announce", "pin", "pin", "retract", "chat", "chat", "mute", "unmute", "retract_all", "ban_word")
    ]


async def test_who_is_banned_has_to_leave_and_stays_out(
    gateway: Gateway, host: Host, show: Show, viewer_token: str
) -> None:
    async with Viewer(show.live_url, viewer_token) as viewer:
        me = viewer.welcome["you"]
        await host.ban(show.room, me)
        with pytest.raises(ViewerAway) as caught:
            async with asyncio.timeout(10):
                while True:
                    await viewer.comment("still here?")
                    await asyncio.sleep(0.05)
        assert caught.value.close_code == 4503
    # Every room lists a ban of the shop; here there is one of the room.
    mine = [banned for banned in await host.bans(show.room) if banned.room == show.room]
    assert [(banned.viewer, banned.shop_wide) for banned in mine] == [(me, False)]
    with pytest.raises(ViewerAway):
        async with Viewer(show.live_url, viewer_token):
            pass
    await host.unban(show.room, me)

    async def is_in() -> bool:
        try:
            async with Viewer(show.live_url, viewer_token):
                return True
        except ViewerAway:
            return False

    await eventually(is_in)


async def test_a_room_sees_that_it_starts(gateway: Gateway, host: Host, viewer_token: str) -> None:
    room = await host.create_room("Show", key=uuid.uuid4().hex)
    async with Viewer(gateway.live_url(room.room), viewer_token) as viewer:
        assert viewer.room.room["state"] == "scheduled"
        await host.start_room(room.room)

        async def is_live() -> bool:
            return bool(viewer.room.room["state"] == "live")

        await eventually(is_live)


async def test_a_room_that_ended_is_still_tidied_up(host: Host, show: Show) -> None:
    await host.end_room(show.room)
    with pytest.raises(Conflict):
        await host.announce(show.room, "Anybody?")
    await host.unpin(show.room)
    assert (await host.change_chat(show.room, comments=False)).comments == "off"
