"""Hosts' acts on a room, on a real ledger: what is kept, what the room is told, what a repeat does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from msgspec.structs import replace

from gateway.domain.caller import Caller
from gateway.domain.drafts import RoomChanges
from gateway.domain.ids import IdMint
from gateway.domain.live import FOREVER_MS, RoomChange, RoomStanding
from gateway.domain.room import RoomState
from gateway.errors import (
    Conflict,
    Forbidden,
    GatewayError,
    Invalid,
    KeyReused,
    LedgerUnavailable,
    NotFound,
    OutcomeUnknown,
)
from gateway.ledger import moderation as ledger_moderation
from tests.support.moderating import HOST, OTHER_VIEWER, VIEWER, Floor, moderating


@pytest.fixture
async def floor(database_url: str) -> AsyncIterator[Floor]:
    async with moderating(database_url) as floor:
        yield floor


Asked = Callable[[Floor, str], Awaitable[object]]
STATES: dict[str, Asked] = {
    "unpin": lambda floor, room: floor.steer.unpin(HOST, room),
    "chat": lambda floor, room: floor.steer.set_chat(HOST, room, slow_mode_s=5, comments=False),
    "mute": lambda floor, room: floor.moderate.mute(HOST, room, VIEWER, for_s=60),
    "unmute": lambda floor, room: floor.moderate.unmute(HOST, room, VIEWER),
    "ban": lambda floor, room: floor.moderate.ban(HOST, room, VIEWER, shop_wide=False),
    "unban": lambda floor, room: floor.moderate.unban(HOST, room, VIEWER),
    "ban_word": lambda floor, room: floor.moderate.ban_word(HOST, room, "spam", shop_wide=False),
    "allow_word": lambda floor, room: floor.moderate.allow_word(HOST, room, "spam"),
    "retract": lambda floor, room: floor.moderate.retract(
        HOST, room, floor.mint.comment(1_000, floor.room.room_no, 70_000, 1)
    ),
}
EVERY: dict[str, Asked] = {
    **STATES,
    "announce": lambda floor, room: floor.steer.announce(HOST, room, "Hello", key="k"),
    "pin_item": lambda floor, room: floor.steer.pin_item(HOST, room, sale_id="sale_1", sku="tin"),
    "pin_comment": lambda floor, room: floor.steer.pin_comment(HOST, room, comment_id="cmt_1"),
    "retract_all": lambda floor, room: floor.moderate.retract_all(HOST, room, VIEWER),
    "mutes": lambda floor, room: floor.moderate.mutes(HOST, room, limit=10, after=None),
    "bans": lambda floor, room: floor.moderate.bans(HOST, room, limit=10, after=None),
    "words": lambda floor, room: floor.moderate.words(HOST, room, limit=10, after=None),
    "acts": lambda floor, room: floor.acts.of_room(HOST, room, limit=10, after=None),
}


async def test_the_chat_changes_in_what_is_named_and_the_room_is_told_all_of_it(floor: Floor) -> None:
    room = floor.room
    standing = await floor.steer.set_chat(HOST, room.room, slow_mode_s=5, comments=None)
    assert (standing.slow_mode_s, standing.comments) == (5, True)
    await floor.steer.set_chat(HOST, room.room, slow_mode_s=None, comments=False)
    assert floor.told.take() == [
        RoomChange(events=[{"k": "chat", "slow_mode_s": 5, "comments": "on"}], slow_mode_s=5, comments=True),
        RoomChange(events=[{"k": "chat", "slow_mode_s": 5, "comments": "off"}], slow_mode_s=5, comments=False),
    ]
    assert await floor.moderation.standing(room.room_no) == RoomStanding(slow_mode_s=5, comments=False)
    assert await floor.log() == [
        ("chat", {"slow_mode_s": 0, "comments": "on"}, {"slow_mode_s": 5, "comments": "on"}),
        ("chat", {"slow_mode_s": 5, "comments": "on"}, {"slow_mode_s": 5, "comments": "off"}),
    ]


async def test_an_item_is_pinned_and_unpinned(floor: Floor) -> None:
    room, sale = floor.room, await floor.make_sale(floor.room)
    pin = await floor.steer.pin_item(HOST, room.room, sale_id=sale.sale, sku="tin")
    assert pin == {"sale": sale.sale, "sku": "tin", "title": "A tin"}
    assert (await floor.moderation.standing(room.room_no)).pin == pin
    await floor.steer.unpin(HOST, room.room)
    assert (await floor.moderation.standing(room.room_no)).pin is None
    assert floor.told.take() == [
        RoomChange(events=[{"k": "pin", "pin": pin}], pin=pin),
        RoomChange(events=[{"k": "pin", "pin": None}], pin=None),
    ]
    assert await floor.log() == [("pin", None, pin), ("unpin", pin, None)]


async def test_only_what_is_in_the_room_is_pinned(floor: Floor) -> None:
    sale, comment = await floor.make_sale(floor.room), await floor.say("hello", n=1)
    other = await floor.make_room("Other")
    elsewhere = await floor.make_sale(other)
    for sale_id, sku, param in (
        (elsewhere.sale, "tin", "sale"),
        ("sale_0", "tin", "sale"),
        (sale.sale, "cup", "sku"),
    ):
        with pytest.raises(NotFound) as caught:
            await floor.steer.pin_item(HOST, floor.room.room, sale_id=sale_id, sku=sku)
        assert caught.value.param == param
    never_said = floor.mint.comment(1_000, floor.room.room_no, 70_000, 99)
    forged = IdMint(b"another key").comment(1_000, floor.room.room_no, 70_000, 1)
    for room, comment_id in ((other, comment), (floor.room, never_said), (floor.room, forged), (floor.room, "cmt_")):
        with pytest.raises(NotFound):
            await floor.steer.pin_comment(HOST, room.room, comment_id=comment_id)
    assert floor.told.take() == []
    assert await floor.log() == []


async def test_a_comment_is_pinned_as_it_was_said_and_leaves_the_pin_when_it_is_taken_back(floor: Floor) -> None:
    room, comment = floor.room, await floor.say("best tin", n=7)
    pin = await floor.steer.pin_comment(HOST, room.room, comment_id=comment)
    assert pin == {"comment": comment, "viewer": VIEWER, "name": "Ann", "text": "best tin"}
    floor.told.take()
    gone = RoomChange(
        events=[{"k": "comment_gone", "comment": comment}], gone_comment=7, gone_epoch=70_000 & 0xFFFF, actor="host"
    )
    unpinned = RoomChange(events=[{"k": "pin", "pin": None}], pin=None)
    for _ in range(2):
        await floor.moderate.retract(HOST, room.room, comment)
        assert floor.told.take() == [gone, unpinned]
    assert (await floor.moderation.standing(room.room_no)).pin is None
    assert [act for act, _, _ in await floor.log()] == ["pin", "retract"]
    with pytest.raises(NotFound):
        await floor.steer.pin_comment(HOST, room.room, comment_id=comment)


async def test_a_comment_on_its_way_to_the_archive_is_waited_for(floor: Floor) -> None:
    at_ms = await floor.ledger.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    comment = floor.mint.comment(at_ms, floor.room.room_no, 70_000, 1)
    pinning = asyncio.create_task(floor.steer.pin_comment(HOST, floor.room.room, comment_id=comment))
    await asyncio.wait({pinning}, timeout=0.05)
    assert not pinning.done()
    assert await floor.say("just said", n=1, at_ms=at_ms) == comment
    assert (await pinning)["text"] == "just said"


async def test_a_pin_that_came_since_stays_when_an_older_one_is_taken_back_again(floor: Floor) -> None:
    room, comment = floor.room, await floor.say("best tin", n=7)
    await floor.steer.pin_comment(HOST, room.room, comment_id=comment)
    await floor.moderate.retract(HOST, room.room, comment)
    pin = await floor.steer.pin_comment(HOST, room.room, comment_id=await floor.say("good tin", n=8))
    floor.told.take()
    await floor.moderate.retract(HOST, room.room, comment)
    assert floor.told.take()[1:] == [RoomChange(events=[{"k": "pin", "pin": pin}], pin=pin)]


async def test_all_of_a_viewer_is_taken_back_in_the_archive_too(floor: Floor) -> None:
    room = floor.room
    comments = [await floor.say(f"{n}", n=n, epoch=epoch) for n, epoch in ((1, 60_000), (1, 70_000), (2, 70_000))]
    kept = await floor.say("fine", n=3, viewer=OTHER_VIEWER)
    await floor.steer.pin_comment(HOST, room.room, comment_id=comments[0])
    floor.told.take()
    await floor.moderate.retract_all(HOST, room.room, VIEWER)
    assert floor.told.take() == [
        RoomChange(events=[{"k": "comment_gone", "viewer": VIEWER}], gone_viewer=VIEWER, actor="host"),
        RoomChange(events=[{"k": "pin", "pin": None}], pin=None),
    ]
    rows = await floor.ledger.fetch("SELECT n, gone_by FROM comments ORDER BY epoch, n")
    assert [(row["n"], row["gone_by"]) for row in rows] == [(1, "host"), (1, "host"), (2, "host"), (3, None)]
    # The other's comment stays pinned.
    await floor.steer.pin_comment(HOST, room.room, comment_id=kept)
    await floor.moderate.retract_all(HOST, room.room, VIEWER)
    assert (await floor.moderation.standing(room.room_no)).pin is not None


async def test_of_two_comments_with_one_number_the_named_one_is_taken_back(floor: Floor) -> None:
    old, new = await floor.say("old", n=1, epoch=60_000), await floor.say("new", n=1, epoch=70_000)
    assert old != new
    await floor.moderate.retract(HOST, floor.room.room, old)
    rows = await floor.ledger.fetch("SELECT text FROM comments WHERE gone_at IS NOT NULL")
    assert [row["text"] for row in rows] == ["old"]


async def test_a_mute_lasts_as_long_as_said_and_can_be_shortened_and_lifted(floor: Floor) -> None:
    room = floor.room
    until_ms = await floor.moderate.mute(HOST, room.room, VIEWER, for_s=3600)
    now_ms = await floor.ledger.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    assert 3_590_000 < until_ms - now_ms <= 3_600_000
    sooner_ms = await floor.moderate.mute(HOST, room.room, VIEWER, for_s=60)
    assert sooner_ms < until_ms
    assert (await floor.moderation.standing(room.room_no)).mutes == {VIEWER: sooner_ms}
    await floor.moderate.unmute(HOST, room.room, VIEWER)
    assert (await floor.moderation.standing(room.room_no)).mutes == {}
    assert [change.mutes for change in floor.told.take()] == [{VIEWER: until_ms}, {VIEWER: sooner_ms}, {VIEWER: 0}]
    assert await floor.log() == [
        ("mute", None, {"viewer": VIEWER, "until_ms": until_ms}),
        ("mute", {"viewer": VIEWER, "until_ms": until_ms}, {"viewer": VIEWER, "until_ms": sooner_ms}),
        ("unmute", {"viewer": VIEWER, "until_ms": sooner_ms}, None),
    ]


async def test_a_mute_that_is_over_is_none(floor: Floor) -> None:
    room = floor.room
    await floor.moderate.mute(HOST, room.room, VIEWER, for_s=60)
    await floor.ledger.execute("UPDATE room_mutes SET until_ms = 1")
    assert (await floor.moderation.standing(room.room_no)).mutes == {}
    await floor.moderate.mute(HOST, room.room, OTHER_VIEWER, for_s=60)
    assert await floor.ledger.fetchval("SELECT count(*) FROM room_mutes") == 1


async def test_mutes_are_listed_as_they_were_spoken_until_they_are_over(floor: Floor) -> None:
    room, third = floor.room, "vw_" + "c3" * 9
    until_ms = [
        await floor.moderate.mute(HOST, room.room, viewer, for_s=60) for viewer in (VIEWER, OTHER_VIEWER, third)
    ]
    await floor.moderate.mute(HOST, (await floor.make_room("Other")).room, VIEWER, for_s=60)
    await floor.say("hello", n=1, name="Ann", at_ms=9_000)
    await floor.say("hello", n=2, name="Anna", epoch=70_000)
    await floor.say("hello", n=1, name="Ann of before", epoch=60_000)
    muted, cursor = await floor.moderate.mutes(HOST, room.room, limit=2, after=None)
    assert [(each.viewer, each.until_ms, each.name) for each in muted] == [
        (third, until_ms[2], None),
        (OTHER_VIEWER, until_ms[1], None),
    ]
    rest, end = await floor.moderate.mutes(HOST, room.room, limit=2, after=cursor)
    assert ([(each.viewer, each.until_ms, each.name) for each in rest], end) == ([(VIEWER, until_ms[0], "Anna")], None)
    # Spoken anew it is the newest; over, it is none.
    await floor.moderate.mute(HOST, room.room, OTHER_VIEWER, for_s=600)
    await floor.ledger.execute("UPDATE room_mutes SET until_ms = 1 WHERE viewer = $1", third)
    muted, _ = await floor.moderate.mutes(HOST, room.room, limit=2, after=None)
    assert [each.viewer for each in muted] == [OTHER_VIEWER, VIEWER]
    await floor.moderate.unmute(HOST, room.room, VIEWER)
    assert len((await floor.moderate.mutes(HOST, room.room, limit=2, after=None))[0]) == 1
    with pytest.raises(Invalid):
        await floor.moderate.mutes(HOST, room.room, limit=2, after="x")


async def test_bans_are_listed_with_those_of_the_shop_where_they_were_spoken(floor: Floor) -> None:
    room, other, cups = floor.room, await floor.make_room("Other"), await floor.make_room("Cups", shop="cups")
    await floor.say("hello", n=1)
    await floor.moderate.ban(HOST, room.room, VIEWER, shop_wide=True)
    await floor.moderate.ban(HOST, room.room, OTHER_VIEWER, shop_wide=False)
    await floor.moderate.ban(HOST, other.room, OTHER_VIEWER, shop_wide=True)
    await floor.moderate.ban(HOST, other.room, VIEWER, shop_wide=False)
    of_cups = replace(HOST, shop="cups")
    await floor.moderate.ban(of_cups, cups.room, VIEWER, shop_wide=True)

    async def listed(room_id: str, caller: Caller = HOST, after: str | None = None) -> list[tuple[str, str, bool]]:
        found: list[tuple[str, str, bool]] = []
        while True:
            page, after = await floor.moderate.bans(caller, room_id, limit=2, after=after)
            found += [(each.room, each.viewer, each.shop_wide) for each in page]
            if after is None:
                return found

    everywhere = [(other.room, OTHER_VIEWER, True), (room.room, VIEWER, True)]
    assert await listed(room.room) == [everywhere[0], (room.room, OTHER_VIEWER, False), everywhere[1]]
    assert await listed(other.room) == [(other.room, VIEWER, False), *everywhere]
    assert await listed(cups.room, of_cups) == [(cups.room, VIEWER, True)]
    # A host of one room alone is shown nobody of another one.
    limited = replace(HOST, rooms=frozenset({room.room}))
    assert await listed(room.room, limited) == [(room.room, OTHER_VIEWER, False), (room.room, VIEWER, True)]
    names = [each.name for each in (await floor.moderate.bans(HOST, room.room, limit=9, after=None))[0]]
    assert names == [None, None, "Ann"]
    # Made another one it is the newest; lifted it is gone.
    await floor.moderate.ban(HOST, room.room, VIEWER, shop_wide=False)
    assert (await listed(room.room))[0] == (room.room, VIEWER, False)
    await floor.moderate.unban(HOST, other.room, OTHER_VIEWER)
    assert await listed(room.room) == [(room.room, VIEWER, False), (room.room, OTHER_VIEWER, False)]
    with pytest.raises(Invalid):
        await floor.moderate.bans(HOST, room.room, limit=2, after="-1")


async def test_a_ban_is_a_rule_and_a_mute_for_good(floor: Floor) -> None:
    room = floor.room
    until_ms = await floor.moderate.mute(HOST, room.room, VIEWER, for_s=60)
    floor.told.take()
    before = await floor.moderation.rules_no(room.room_no)
    await floor.moderate.ban(HOST, room.room, VIEWER, shop_wide=False)
    assert floor.told.take() == [RoomChange(mutes={VIEWER: FOREVER_MS}, rules_changed=True)]
    assert (await floor.moderation.standing(room.room_no)).mutes == {VIEWER: FOREVER_MS}
    rules = await floor.moderation.rules(room.room_no)
    assert (rules.bans, rules.shop_bans) == ({VIEWER}, {})
    assert await floor.moderation.rules_no(room.room_no) != before
    # Lifting the mute does not lift the ban; lifting the ban leaves the mute.
    await floor.moderate.ban(HOST, room.room, OTHER_VIEWER, shop_wide=False)
    await floor.moderate.unmute(HOST, room.room, OTHER_VIEWER)
    assert floor.told.take()[-1] == RoomChange(mutes={OTHER_VIEWER: FOREVER_MS})
    await floor.moderate.unban(HOST, room.room, VIEWER)
    assert floor.told.take() == [RoomChange(mutes={VIEWER: until_ms}, rules_changed=True)]
    assert (await floor.moderation.rules(room.room_no)).bans == {OTHER_VIEWER}


async def test_a_ban_from_the_shop_is_a_rule_of_all_its_rooms_and_all_that_have_not_ended_are_told(
    floor: Floor,
) -> None:
    room, other, scheduled = floor.room, await floor.make_room("Other"), await floor.make_room("Later")
    cups, over = await floor.make_room("Cups", shop="cups"), await floor.make_room("Over")
    for each in (other, cups):
        await floor.ledger_rooms.set_state(each.room_no, RoomState.LIVE, actor="host")
    await floor.ledger_rooms.set_state(over.room_no, RoomState.ENDED, actor="host")
    before = await floor.moderation.rules_no(scheduled.room_no)
    await floor.moderate.ban(HOST, room.room, VIEWER, shop_wide=True)
    assert [told for told, change in floor.told.changes if change.rules_changed] == [
        *(room.room, other.room, scheduled.room),
    ]
    floor.told.take()
    for each in (room, other, scheduled):
        assert (await floor.moderation.rules(each.room_no)).shop_bans == {room.room: {VIEWER}}
    assert (await floor.moderation.rules(cups.room_no)).shop_bans == {}
    assert await floor.moderation.rules_no(scheduled.room_no) != before
    # The other rooms know the viewer by another name.
    assert (await floor.moderation.standing(other.room_no)).mutes == {}
    await floor.moderate.ban(HOST, room.room, VIEWER, shop_wide=False)
    assert (await floor.moderation.rules(other.room_no)).shop_bans == {}
    assert [told for told, _ in floor.told.changes] == [room.room, other.room, scheduled.room]
    assert await floor.log() == [
        ("ban", None, {"viewer": VIEWER, "shop_wide": True}),
        ("ban", {"viewer": VIEWER, "shop_wide": True}, {"viewer": VIEWER, "shop_wide": False}),
    ]


async def test_one_look_says_of_many_rooms_whether_they_ended_and_whose_rules_are_others(floor: Floor) -> None:
    room, beside, over = floor.room, await floor.make_room("Beside"), await floor.make_room("Over")
    cups = await floor.make_room("Cups", shop="cups")
    held = [each.room_no for each in (room, beside, over, cups)]
    before = {seen.room_no: seen for seen in await floor.moderation.look([*held, 999_999])}
    assert sorted(before) == sorted(held)
    await floor.ledger_rooms.set_state(over.room_no, RoomState.ENDED, actor="host")
    await floor.moderate.ban(HOST, room.room, VIEWER, shop_wide=False)
    after = {seen.room_no: seen for seen in await floor.moderation.look(held)}
    assert {no for no in held if after[no].rules != before[no].rules} == {room.room_no}
    assert {no for no in held if after[no].state is RoomState.ENDED} == {over.room_no}
    await floor.moderate.ban(HOST, beside.room, VIEWER, shop_wide=True)
    last = {seen.room_no: seen.rules for seen in await floor.moderation.look(held)}
    assert {no for no in held if last[no] != after[no].rules} == {room.room_no, beside.room_no, over.room_no}
    for no in held:
        assert await floor.moderation.rules_no(no) == last[no]


async def test_words_are_the_rooms_or_the_shops(floor: Floor) -> None:
    room, other = floor.room, await floor.make_room("Other")
    await floor.moderate.ban_word(HOST, room.room, "spam", shop_wide=False)
    await floor.moderate.ban_word(HOST, room.room, "微信", shop_wide=True)
    await floor.moderate.ban_word(HOST, other.room, "spam", shop_wide=True)
    assert (await floor.moderation.rules(room.room_no)).words == {"spam", "微信"}
    assert (await floor.moderation.rules(other.room_no)).words == {"spam", "微信"}
    words, cursor = await floor.moderate.words(HOST, room.room, limit=2, after=None)
    assert [(word.word, word.shop_wide) for word in words] == [("spam", True), ("微信", True)]
    rest, end = await floor.moderate.words(HOST, room.room, limit=2, after=cursor)
    assert ([(word.word, word.shop_wide) for word in rest], end) == ([("spam", False)], None)
    await floor.moderate.allow_word(HOST, room.room, "spam")
    assert (await floor.moderation.rules(room.room_no)).words == {"微信"}
    assert (await floor.moderation.rules(other.room_no)).words == {"微信"}
    assert await floor.log() == [
        ("ban_word", None, {"word": "spam", "shop_wide": False}),
        ("ban_word", None, {"word": "微信", "shop_wide": True}),
        ("allow_word", {"word": "spam", "shop_wide": False}, None),
        ("allow_word", {"word": "spam", "shop_wide": True}, None),
    ]
    assert all(change == RoomChange(rules_changed=True) for change in floor.told.take())
    with pytest.raises(Invalid):
        await floor.moderate.words(HOST, room.room, limit=2, after="x")


async def test_an_announcement_is_told_once_a_key(floor: Floor) -> None:
    room = floor.room
    first = await floor.steer.announce(HOST, room.room, "Hello", key="k")
    again = await floor.steer.announce(HOST, room.room, "Hello", key="k")
    assert again == first._replace(replayed=True)
    assert floor.told.take() == [RoomChange(events=[{"k": "announce", "text": "Hello"}])]
    with pytest.raises(KeyReused):
        await floor.steer.announce(HOST, room.room, "Goodbye", key="k")
    assert not (await floor.steer.announce(HOST, room.room, "Hello", key="k2")).replayed
    assert await floor.log() == [("announce", None, {"text": "Hello"})] * 2


async def test_an_announcement_that_was_not_told_is_told_by_its_repeat(floor: Floor) -> None:
    floor.told.is_away = True
    with pytest.raises(OutcomeUnknown):
        await floor.steer.announce(HOST, floor.room.room, "Hello", key="k")
    floor.told.is_away = False
    assert (await floor.steer.announce(HOST, floor.room.room, "Hello", key="k")).replayed
    assert floor.told.take() == [RoomChange(events=[{"k": "announce", "text": "Hello"}])]
    assert await floor.log() == [("announce", None, {"text": "Hello"})]


async def test_a_room_that_ended_is_tidied_up_and_hears_no_announcements(floor: Floor) -> None:
    room = floor.room
    before = await floor.steer.announce(HOST, room.room, "Hello", key="k")
    await floor.rooms.start(HOST, room.room)
    await floor.rooms.end(HOST, room.room)
    with pytest.raises(Conflict):
        await floor.steer.announce(HOST, room.room, "Hello", key="k2")
    # What was refused left its key free, and what was done is remembered.
    assert await floor.steer.announce(HOST, room.room, "Hello", key="k") == before._replace(replayed=True)
    assert await floor.ledger.fetchval("SELECT count(*) FROM effects WHERE kind = 'announcement'") == 1
    for ask in STATES.values():
        await ask(floor, room.room)


async def test_a_room_is_told_that_it_starts_and_ends(floor: Floor) -> None:
    await floor.rooms.start(HOST, floor.room.room)
    await floor.rooms.end(HOST, floor.room.room)
    await floor.rooms.end(HOST, floor.room.room)
    started, ended = (RoomChange(events=[{"k": "room", "state": state}], at_once=True) for state in ("live", "ended"))
    assert floor.told.take() == [started, ended, ended]
    assert await floor.log() == [
        ("start", {"state": "scheduled"}, {"state": "live"}),
        ("end", {"state": "live"}, {"state": "ended"}),
    ]


@pytest.mark.parametrize("name", STATES)
async def test_a_repeat_changes_nothing_and_is_told_again(floor: Floor, name: str) -> None:
    ask, room = STATES[name], floor.room
    for prepare in {"unpin": (), "unmute": ("mute",), "unban": ("ban",), "allow_word": ("ban_word",)}.get(name, ()):
        await STATES[prepare](floor, room.room)
    if name == "unpin":
        sale = await floor.make_sale(room)
        await floor.steer.pin_item(HOST, room.room, sale_id=sale.sale, sku="tin")
    floor.told.take()
    await ask(floor, room.room)
    first, log, standing = floor.told.take(), await floor.log(), await floor.moderation.standing(room.room_no)
    assert first
    assert [act for act, _, _ in log][-1] == name
    await ask(floor, room.room)
    assert floor.told.take() == first
    assert await floor.log() == log
    assert await floor.moderation.standing(room.room_no) == standing


@pytest.mark.parametrize("name", STATES)
async def test_an_act_the_room_was_not_told_of_is_kept_and_its_repeat_tells(floor: Floor, name: str) -> None:
    floor.told.is_away = True
    with pytest.raises(OutcomeUnknown):
        await STATES[name](floor, floor.room.room)
    log = await floor.log()
    floor.told.is_away = False
    await STATES[name](floor, floor.room.room)
    assert floor.told.take()
    assert await floor.log() == log


@pytest.mark.parametrize("name", EVERY)
async def test_a_room_of_another_shop_is_not_there(floor: Floor, name: str) -> None:
    cups = await floor.make_room("Cups", shop="cups")
    with pytest.raises(NotFound):
        await EVERY[name](floor, cups.room)
    with pytest.raises(NotFound):
        await EVERY[name](floor, "room_0")
    assert floor.told.take() == []
    assert await floor.ledger.fetchval("SELECT count(*) FROM room_acts") == 0


@pytest.mark.parametrize("name", [name for name in EVERY if not name.startswith("pin_")])
async def test_a_ledger_that_is_away_is_told_as_what_it_means(floor: Floor, name: str) -> None:
    room = await floor.rooms.own(HOST, floor.room.room)
    held = floor.ledger_rooms.find

    async def known(room_no: int) -> object:
        return room if room_no == room.room_no else await held(room_no)

    floor.ledger_rooms.find = known  # type: ignore[method-assign,assignment]
    await floor.ledger.close()
    wanted: type[GatewayError] = LedgerUnavailable if name in ("mutes", "bans", "words", "acts") else OutcomeUnknown
    with pytest.raises(wanted):
        await EVERY[name](floor, room.room)
    assert floor.told.take() == []


async def test_a_token_for_some_rooms_acts_in_those_and_not_on_the_shop(floor: Floor) -> None:
    room, other = floor.room, await floor.make_room("Other")
    limited = replace(HOST, rooms=frozenset({room.room}))
    with pytest.raises(Forbidden):
        await floor.steer.unpin(limited, other.room)
    await floor.moderate.ban(limited, room.room, VIEWER, shop_wide=False)
    await floor.moderate.ban_word(limited, room.room, "spam", shop_wide=False)
    for refused in (
        floor.moderate.ban(limited, room.room, OTHER_VIEWER, shop_wide=True),
        floor.moderate.ban_word(limited, room.room, "tin", shop_wide=True),
    ):
        with pytest.raises(Forbidden):
            await refused
    await floor.moderate.ban(HOST, room.room, OTHER_VIEWER, shop_wide=True)
    await floor.moderate.ban_word(HOST, room.room, "tin", shop_wide=True)
    for refused in (
        floor.moderate.ban(limited, room.room, OTHER_VIEWER, shop_wide=False),
        floor.moderate.unban(limited, room.room, OTHER_VIEWER),
        floor.moderate.allow_word(limited, room.room, "tin"),
    ):
        with pytest.raises(Forbidden):
            await refused
    rules = await floor.moderation.rules(room.room_no)
    assert (rules.words, rules.bans) == ({"spam", "tin"}, {VIEWER, OTHER_VIEWER})


async def test_lists_are_bounded(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MAX_MUTES", "MAX_BANS", "MAX_WORDS"):
        monkeypatch.setattr(ledger_moderation, name, 1)
    room = floor.room.room
    await floor.moderate.mute(HOST, room, VIEWER, for_s=60)
    await floor.moderate.ban(HOST, room, VIEWER, shop_wide=False)
    await floor.moderate.ban_word(HOST, room, "one", shop_wide=False)
    for refused in (
        floor.moderate.mute(HOST, room, OTHER_VIEWER, for_s=60),
        floor.moderate.ban(HOST, room, OTHER_VIEWER, shop_wide=False),
        floor.moderate.ban_word(HOST, room, "two", shop_wide=False),
    ):
        with pytest.raises(Conflict):
            await refused
    # Who is in a list already may be changed in it.
    await floor.moderate.mute(HOST, room, VIEWER, for_s=600)
    await floor.moderate.ban(HOST, room, VIEWER, shop_wide=True)
    assert (await floor.moderation.rules(floor.room.room_no)).words == {"one"}


async def test_of_two_hosts_the_later_one_holds_also_when_the_room_hears_them_the_other_way_round(floor: Floor) -> None:
    room, told, other = floor.room.room, floor.told, replace(HOST, sub="host-2")
    told.meanwhile = floor.steer.set_chat(other, room, slow_mode_s=9, comments=None)
    assert (await floor.steer.set_chat(HOST, room, slow_mode_s=1, comments=None)).slow_mode_s == 9
    assert [change.slow_mode_s for change in told.take()] == [9, 1, 9]
    told.meanwhile = floor.moderate.unban(other, room, VIEWER)
    await floor.moderate.ban(HOST, room, VIEWER, shop_wide=False)
    assert [change.mutes[VIEWER] for change in told.take()] == [0, FOREVER_MS, 0]
    told.meanwhile = floor.steer.unpin(other, room)
    await floor.steer.pin_comment(HOST, room, comment_id=await floor.say("hello", n=1))
    assert told.take()[-1] == RoomChange(events=[{"k": "pin", "pin": None}], pin=None)


async def test_twenty_hosts_at_once_each_leave_one_line_in_the_log(floor: Floor) -> None:
    hosts = [replace(HOST, sub=f"host-{n}") for n in range(20)]
    asked = [
        floor.steer.set_chat(host, floor.room.room, slow_mode_s=n + 1, comments=None) for n, host in enumerate(hosts)
    ]
    bans = [floor.moderate.ban(host, floor.room.room, VIEWER, shop_wide=False) for host in hosts]
    await asyncio.gather(*asked, *bans)
    log = await floor.log()
    chats = [(before["slow_mode_s"], after["slow_mode_s"]) for act, before, after in log if act == "chat"]
    assert sorted(after for _, after in chats) == list(range(1, 21))
    # Each found what the one before it left.
    assert [before for before, _ in chats] == [0, *(after for _, after in chats[:-1])]
    assert sum(act == "ban" for act, _, _ in log) == 1
    assert (await floor.moderation.standing(floor.room.room_no)).slow_mode_s == chats[-1][1]


async def test_the_log_has_the_acts_on_the_room_and_on_its_sales_by_time(floor: Floor) -> None:
    room, other = floor.room, await floor.make_room("Other")
    sale, elsewhere = await floor.make_sale(room), await floor.make_sale(other)
    for n in range(5):
        await floor.steer.set_chat(HOST, room.room, slow_mode_s=n + 1, comments=None)
    await floor.ledger.execute("UPDATE room_acts SET at_ms = 1000 * act_no")
    first = await floor.ledger.fetchval("SELECT min(act_no) FROM room_acts") * 1000
    # Beside acts on the room, among them one of the very same moment.
    for seq, at_ms in ((1, first - 1), (2, first), (3, first + 1_500), (4, first + 9_000)):
        await floor.ledger.execute(
            "INSERT INTO acts VALUES (0, 1, $1, $2, 'stock', 'host', $3, '5', '6', 'found')", seq, sale.sale_no, at_ms
        )
    await floor.ledger.execute(
        "INSERT INTO acts VALUES (0, 1, 9, $1, 'pause', 'host', $2, 'active', 'paused', NULL)", elsewhere.sale_no, first
    )
    whole, cursor = await floor.acts.of_room(HOST, room.room, limit=50, after=None)
    assert cursor is None
    assert [act.act for act in whole] == ["stock", "chat", "chat", "chat", "stock", "chat", "chat", "stock", "stock"]
    assert [act.place for act in whole] == sorted((act.place for act in whole), reverse=True)
    assert (whole[0].sale, whole[0].before, whole[0].after, whole[0].reason) == (sale.sale, "5", "6", "found")
    assert whole[1].sale is None
    for size in range(1, 10):
        paged, after = [], None
        while True:
            page, after = await floor.acts.of_room(HOST, room.room, limit=size, after=after)
            paged += page
            if after is None:
                break
            assert len(page) == size
        assert paged == whole
    for bad in ("", "1", "1_2_0_0", "1_0_0_99999999999999999", "a_0_0_0"):
        with pytest.raises(Invalid):
            await floor.acts.of_room(HOST, room.room, limit=5, after=bad)


async def test_changes_of_the_room_itself_are_in_the_log(floor: Floor) -> None:
    room = floor.room
    await floor.rooms.change(HOST, room.room, RoomChanges(title="Late show", notice=None))
    await floor.rooms.change(HOST, room.room, RoomChanges(title="Late show"))
    assert await floor.log() == [("change", {"title": "Show"}, {"title": "Late show"})]
