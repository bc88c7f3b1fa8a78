"""Playing a recorded chat, against real sockets that follow a script."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.cli.chat_file import ChatLine
from gateway.cli.chat_player import ChatTally, Seat, play
from gateway.cli.demo_chat import MAX_SPEED, PLAYS_FOR_S, DemoChat
from gateway.client import CommentAnswer, Viewer, ViewerAway
from gateway.errors import Unavailable
from tests.support.scripted_server import ScriptedServer, ScriptedSocket, scripted_server, welcoming


def answering(*outcomes: dict[str, Any]) -> Any:
    """Each comment gets the next of these, and all later ones are posted."""
    waiting = list(outcomes)

    def script(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        welcoming(socket, frame)
        if frame["t"] == "comment":
            told = waiting.pop(0) if waiting else {"outcome": "posted", "comment": f"cmt_{frame['text']}", "at_ms": 1}
            socket.send({"t": "reply", "id": frame["id"], **told})

    return script


def seats(server: ScriptedServer, stack: AsyncExitStack) -> Seat:
    async def seat(author: str) -> Viewer:
        return await stack.enter_async_context(Viewer(server.url, author, follow=False))

    return seat


def comments(socket: ScriptedSocket) -> list[str]:
    return [frame["text"] for frame in socket.received if frame["t"] == "comment"]


async def test_each_author_has_a_socket_and_says_each_line_once_in_order_and_at_its_time() -> None:
    lines = [ChatLine(0, "ann", "1"), ChatLine(20, "bo", "2"), ChatLine(20, "ann", "3"), ChatLine(40, "ann", "4")]
    tally = ChatTally(len(lines))
    async with scripted_server(answering()) as server, AsyncExitStack() as stack:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await play(lines, speed=100, seat=seats(server, stack), tally=tally, lead_s=0.1)
        assert loop.time() - began_s >= 0.1 + 40 / 100
        said = {socket.token: comments(socket) for socket in server.sockets}
    assert said == {"ann": ["1", "3", "4"], "bo": ["2"]}
    assert (tally.posted, tally.planned, tally.retried, len(tally.late_ms)) == (4, 4, 0, 4)


@pytest.mark.parametrize("outcome", ["too_fast", "slow_mode"])
async def test_who_is_told_to_wait_says_it_once_more_under_the_same_id_and_no_third_time(outcome: str) -> None:
    later = {"outcome": outcome, "retry_after_ms": 60}
    lines = [ChatLine(0, "ann", "1"), ChatLine(0, "ann", "2")]
    tally = ChatTally(len(lines))
    async with scripted_server(answering(later, later)) as server, AsyncExitStack() as stack:
        began_s = asyncio.get_running_loop().time()
        await play(lines, speed=1, seat=seats(server, stack), tally=tally, lead_s=0.0)
        assert asyncio.get_running_loop().time() - began_s >= 0.06
        [socket] = server.sockets
        first, again, other = (frame for frame in socket.received if frame["t"] == "comment")
    assert first == again and other["text"] == "2"
    assert tally.outcomes == {outcome: 1, "posted": 1}
    assert tally.retried == 1


async def test_an_author_who_cannot_come_in_or_is_shown_out_does_not_stop_the_others() -> None:
    lines = [ChatLine(0, "ann", "1"), ChatLine(1, "ann", "2"), ChatLine(1, "bo", "3"), ChatLine(2, "cy", "4")]
    tally = ChatTally(len(lines))

    def script(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        if frame["t"] == "comment" and socket.token == "bo":
            socket.close(4503, "banned")
        else:
            answering()(socket, frame)

    async with scripted_server(script) as server, AsyncExitStack() as stack:
        usual = seats(server, stack)

        async def seat(author: str) -> Viewer:
            if author == "ann":
                raise ViewerAway("The room is not for you.")
            return await usual(author)

        await play(lines, speed=10, seat=seat, tally=tally, lead_s=0.0)
    assert tally.outcomes == {"viewer_away": 3, "posted": 1}


def posted(comment: str) -> CommentAnswer:
    return CommentAnswer(outcome="posted", id="k", comment=comment, at_ms=1)


def seen(comment: str) -> dict[str, Any]:
    return {"k": "comment", "comment": comment, "viewer": "vw_1", "name": "", "text": "", "at_ms": 1}


async def test_a_comment_counts_as_shown_whether_its_tick_or_its_reply_comes_first() -> None:
    tally = ChatTally(3)
    tally.answered(posted("cmt_1"), 0.0)
    tally.saw(seen("cmt_1"))
    tally.saw({"k": "stock", "sale": "s", "sku": "tin", "left": 1})
    tally.saw(seen("cmt_2"))
    tally.answered(posted("cmt_2"), 0.0)
    tally.answered(posted("cmt_3"), 0.0)
    tally.saw(seen("cmt_of_somebody_else"))
    assert (tally.posted, tally.shown, tally.unseen, len(tally.to_seen_ms)) == (3, 2, 1, 2)
    figures = tally.figures()
    assert (figures["comments"], figures["shown"], figures["not_shown"]) == (3, 2, 1)


async def test_it_is_settled_once_the_room_says_how_many_it_skipped_and_after_a_while_anyway() -> None:
    tally = ChatTally(2)
    tally.answered(posted("cmt_1"), 0.0)
    tally.failed(Unavailable.code)
    skipped = 0
    settling = asyncio.create_task(tally.settled(lambda: skipped, within_s=30.0))
    done, _ = await asyncio.wait({settling}, timeout=0.15)
    assert not done
    skipped = 1
    async with asyncio.timeout(5):
        await settling
        await tally.settled(lambda: 0, within_s=0.1)
    assert tally.unseen == 1


def test_the_demo_plays_the_shipped_chat_whole_and_of_a_long_one_the_beginning(tmp_path: Any) -> None:
    small = DemoChat(None)
    assert small.left_out == 0 and 1.0 < small.speed <= MAX_SPEED
    assert 0 < small.opens_after_s < PLAYS_FOR_S
    assert small.comment_rate >= small.speed
    long = tmp_path / "long.csv"
    rows = "".join(f"{second},v{second % 9},line {second}\n" for second in range(3600))
    long.write_text("offset_s,viewer,text\n" + rows)
    talk = DemoChat(long)
    assert (talk.speed, talk.tally.planned + talk.left_out) == (MAX_SPEED, 3600)
    assert talk.tally.planned == int(PLAYS_FOR_S * MAX_SPEED) + 1
    short = tmp_path / "short.csv"
    short.write_text("offset_s,viewer,text\n0,ann,hello\n")
    assert (DemoChat(short).speed, DemoChat(short).opens_after_s) == (1.0, 0.0)
