"""A viewer's comments, and following a room over cuts, against real sockets that follow a script."""

import asyncio
from typing import Any

import pytest

from gateway.client import CommentAnswer, NoAnswer, Viewer, ViewerAway
from gateway.client.backoff import Backoff
from gateway.errors import Invalid, Overloaded
from tests.support.scripted_server import ScriptedServer, ScriptedSocket, scripted_server, welcoming

SNAPSHOT = {
    "t": "snapshot",
    "room": {"state": "live"},
    "viewers": 1,
    "likes": 0,
    "sales": [],
    "coupons": [],
    "pin": None,
}
SNAPSHOT |= {"recent": [], "chat": {"slow_mode_s": 0, "comments": "on"}}


def viewer_of(server: ScriptedServer, **options: Any) -> Viewer:
    return Viewer(server.url, "token-1", **{"backoff": Backoff(base_s=0.01, cap_s=0.02), **options})


def showing(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
    """Welcomes and shows the room at tick 10 of epoch 5."""
    if frame["t"] == "hello":
        socket.welcome(epoch=5, seq=10)
        socket.send({**SNAPSHOT, "epoch": 5, "seq": 10})


def posted(socket: ScriptedSocket, id: str, **fields: Any) -> None:
    socket.send({"t": "reply", "id": id, "outcome": "posted", "comment": f"cmt_{id}", "at_ms": 7, **fields})


def shown(id: str) -> dict[str, Any]:
    return {"k": "comment", "comment": id, "viewer": "vw_2", "name": "Bo", "text": "hi", "at_ms": 7}


def tick(seq: int, *events: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"t": "tick", "seq": seq, "now_ms": 0, "ev": list(events), **fields}


async def caught_up(viewer: Viewer, socket: ScriptedSocket) -> None:
    """Returns once the viewer has read everything this socket sent so far: a reply comes behind it."""
    asking = asyncio.create_task(viewer.comment("caught up?"))
    _, frame = await socket.server.next_frame("comment")
    socket.send({"t": "reply", "id": frame["id"], "outcome": "muted"})
    await asking


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_comment_is_answered_and_drawn_for_its_author_in_both_codecs(codec: str) -> None:
    async with scripted_server(showing) as server, viewer_of(server, codec=codec) as viewer:
        asking = asyncio.create_task(viewer.comment("nice 🙂", id="c1"))
        socket, frame = await server.next_frame("comment")
        assert frame == {"t": "comment", "id": "c1", "text": "nice 🙂"}
        posted(socket, "c1")
        answer = await asking
        assert answer == CommentAnswer(outcome="posted", id="c1", comment="cmt_c1", at_ms=7)
        assert answer.is_posted
        [own] = viewer.room.recent
        assert (own["comment"], own["viewer"], own["text"]) == ("cmt_c1", "vw_1", "nice 🙂")


async def test_a_comment_cut_off_from_its_answer_is_asked_again_with_the_same_id_and_drawn_once() -> None:
    async with scripted_server(showing) as server, viewer_of(server) as viewer:
        asking = asyncio.create_task(viewer.comment("nice", id="c1"))
        first, asked = await server.next_frame("comment")
        first.cut()
        second, asked_again = await server.next_frame("comment")
        assert second is not first and asked_again == asked
        posted(second, "c1", replayed=True)
        answer = await asking
        assert (answer.comment, answer.replayed) == ("cmt_c1", True)
        assert [line["comment"] for line in viewer.room.recent] == ["cmt_c1"]


@pytest.mark.parametrize("outcome", ["slow_mode", "too_fast"])
async def test_insisting_waits_out_what_passes_and_asks_with_the_same_id(outcome: str) -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        asking = asyncio.create_task(viewer.comment("nice", id="c1", insist=True))
        socket, asked = await server.next_frame("comment")
        told_s = asyncio.get_running_loop().time()
        socket.send({"t": "reply", "id": "c1", "outcome": outcome, "retry_after_ms": 80})
        _, asked_again = await server.next_frame("comment")
        assert asked_again == asked and asyncio.get_running_loop().time() - told_s >= 0.08
        posted(socket, "c1")
        assert (await asking).is_posted


@pytest.mark.parametrize("outcome", ["muted", "comments_off", "rejected", "an_outcome_of_tomorrow"])
async def test_what_does_not_pass_is_the_answer_also_for_who_insists(outcome: str) -> None:
    def script(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        showing(socket, frame)
        if frame["t"] == "comment":
            socket.send({"t": "reply", "id": frame["id"], "outcome": outcome})

    async with scripted_server(script) as server, viewer_of(server) as viewer:
        answer = await viewer.comment("nice", insist=True)
        assert (answer.outcome, answer.is_posted, answer.comment) == (outcome, False, None)
        assert viewer.room.recent == []


async def test_without_insisting_what_passes_is_an_answer_and_errors_are_raised() -> None:
    replies = iter(
        [
            {"t": "reply", "outcome": "slow_mode", "retry_after_ms": 4000},
            {"t": "error", "code": "overloaded", "message": "full", "retryable": True, "retry_after_ms": 700},
            {"t": "error", "code": "invalid", "message": "no", "retryable": False, "param": "text"},
        ]
    )

    def script(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        welcoming(socket, frame)
        if frame["t"] == "comment":
            socket.send({**next(replies), "id": frame["id"]})

    async with scripted_server(script) as server, viewer_of(server) as viewer:
        answer = await viewer.comment("nice")
        assert (answer.outcome, answer.retry_after_ms, answer.passes) == ("slow_mode", 4000, True)
        with pytest.raises(Overloaded) as overloaded:
            await viewer.comment("nice")
        assert overloaded.value.retry_after_ms == 700
        with pytest.raises(Invalid) as invalid:
            await viewer.comment("nice", insist=True)
        assert invalid.value.param == "text"


async def test_a_comment_nobody_waits_for_is_not_said_after_a_cut() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        with pytest.raises(NoAnswer) as given_up:
            await viewer.comment("never mind", id="c1", within_s=0.05)
        assert given_up.value.key == "c1"
        server.sockets[0].cut()
        await server.next_frame("hello")
        second, _ = await server.next_frame("hello")
        # The next comment on the same socket shows that nothing was said between.
        asking = asyncio.create_task(viewer.comment("hello again", id="c2"))
        await server.next_frame("comment")
        assert [frame["id"] for frame in second.received if frame["t"] == "comment"] == ["c2"]
        posted(second, "c2")
        await asking


async def test_a_comment_and_an_order_in_flight_each_get_their_own_answer() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        ordering = asyncio.create_task(viewer.order(sale="sale_1", sku="tin", key="o1"))
        commenting = asyncio.create_task(viewer.comment("mine!", id="c1"))
        socket, _ = await server.next_frame("comment")
        posted(socket, "c1")
        socket.reserved("o1", "ord_1")
        assert (await commenting).comment == "cmt_c1"
        assert (await ordering).order == "ord_1"


async def test_another_text_under_an_id_in_flight_is_the_callers_mistake() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        first = asyncio.create_task(viewer.comment("one", id="c1"))
        socket, _ = await server.next_frame("comment")
        with pytest.raises(ValueError, match="another text"):
            await viewer.comment("two", id="c1")
        posted(socket, "c1")
        assert (await first).is_posted


async def test_who_is_shown_out_has_its_comment_end_with_the_reason() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        asking = asyncio.create_task(viewer.comment("nice"))
        socket, _ = await server.next_frame("comment")
        socket.close(4503, "banned")
        with pytest.raises(ViewerAway) as away:
            await asking
        assert away.value.close_code == 4503
        with pytest.raises(ViewerAway):
            await viewer.comment("nice")


async def test_taps_and_the_product_bag_are_told_as_the_contract_has_them() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        viewer.like(100)
        viewer.enter()
        viewer.enter("sale_1")
        for kind, frame in [
            ("like", {"t": "like", "n": 100}),
            ("enter", {"t": "enter"}),
            ("enter", {"t": "enter", "sale": "sale_1"}),
        ]:
            assert (await server.next_frame(kind))[1] == frame
        for taps in (0, 101):
            with pytest.raises(ValueError, match="1 to 100"):
                viewer.like(taps)


async def test_the_picture_follows_the_ticks_and_a_snapshot_in_the_middle_replaces_it() -> None:
    async with scripted_server(showing) as server, viewer_of(server) as viewer:
        socket, _ = await server.next_frame("hello")
        socket.send(tick(11, shown("cmt_1"), viewers=4, likes=9, skipped=2))
        await caught_up(viewer, socket)
        assert (viewer.room.viewers, viewer.room.likes, viewer.room.skipped, viewer.room.shown) == (4, 9, 2, 1)
        socket.send({**SNAPSHOT, "epoch": 6, "seq": 0, "likes": 8})
        socket.send(tick(1, shown("cmt_2")))
        await caught_up(viewer, socket)
        assert (viewer.room.epoch, viewer.room.seq, viewer.room.likes) == (6, 1, 8)
        assert [line["comment"] for line in viewer.room.recent] == ["cmt_2"]
        socket.close(1012)
        _, hello = await server.next_frame("hello")
        assert hello["resume"] == {"epoch": 6, "seq": 1}
        assert viewer.holes == 0


async def test_a_recovered_viewer_goes_on_with_the_picture_it_had() -> None:
    def script(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        if frame["t"] == "hello" and "resume" in frame:
            socket.welcome(epoch=5, seq=13, recovered=True)
            for seq in (12, 13):
                socket.send(tick(seq, shown(f"cmt_{seq}")))
        else:
            showing(socket, frame)

    async with scripted_server(script) as server, viewer_of(server) as viewer:
        first, _ = await server.next_frame("hello")
        first.send(tick(11, shown("cmt_11")))
        await caught_up(viewer, first)
        first.cut()
        second, hello = await server.next_frame("hello")
        assert hello["resume"] == {"epoch": 5, "seq": 11}
        await caught_up(viewer, second)
        assert [line["comment"] for line in viewer.room.recent] == ["cmt_11", "cmt_12", "cmt_13"]
        assert viewer.holes == 0


async def test_ticks_around_a_snapshot_may_overlap_and_a_missing_one_is_a_hole() -> None:
    heard: list[str] = []
    async with (
        scripted_server(showing) as server,
        viewer_of(server, on_event=lambda event: heard.append(event["comment"])) as viewer,
    ):
        socket, _ = await server.next_frame("hello")
        for seq in (9, 10, 11, 11, 12):
            socket.send(tick(seq, shown(f"cmt_{seq}")))
        await caught_up(viewer, socket)
        assert (heard, viewer.holes) == (["cmt_11", "cmt_12"], 0)
        socket.send(tick(14, shown("cmt_14")))
        socket.send(tick(15))
        await caught_up(viewer, socket)
        assert (heard[-1], viewer.holes, viewer.room.seq) == ("cmt_14", 1, 15)


async def test_who_does_not_follow_still_finds_holes_and_decodes_no_tick() -> None:
    async with scripted_server(showing) as server, viewer_of(server, follow=False) as viewer:
        decoded: list[bytes] = []
        read_whole = viewer.codec.read_whole
        viewer.codec.read_whole = lambda payload: decoded.append(payload) or read_whole(payload)  # type: ignore[method-assign]
        socket, _ = await server.next_frame("hello")
        for seq in (11, 13):
            socket.send(tick(seq, shown(f"cmt_{seq}")))
        await caught_up(viewer, socket)
        assert viewer.holes == 1
        assert not any(b'"tick"' in payload for payload in decoded)
        with pytest.raises(LookupError):
            _ = viewer.room
        socket.close(1012)
        _, hello = await server.next_frame("hello")
        assert "resume" not in hello
