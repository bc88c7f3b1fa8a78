"""The viewer's client: reconnect rules and pending keys, against real sockets that follow a script."""

import asyncio
from typing import Any

import pytest

from gateway.client import NoAnswer, Viewer, ViewerAway
from gateway.client.backoff import Backoff
from gateway.client.orders import KnownOrder
from gateway.errors import Invalid, Overloaded
from tests.support.scripted_server import ScriptedServer, ScriptedSocket, scripted_server, welcoming

QUICK = Backoff(base_s=0.01, cap_s=0.02)
TINS = {"sale": "sale_1", "sku": "tin"}


def viewer_of(server: ScriptedServer, **options: Any) -> Viewer:
    return Viewer(server.url, "token-1", **{"backoff": QUICK, "welcome_within_s": 5.0, **options})


def reserving(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
    """Welcomes, reserves every order, and confirms it at once."""
    if frame["t"] == "hello":
        socket.welcome()
    if frame["t"] == "order":
        socket.reserved(frame["id"], f"ord_{frame['id']}")
        socket.send({"t": "order", "order": f"ord_{frame['id']}", "status": "confirmed", "pay_by_ms": 5})


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_an_order_is_answered_and_later_confirmed_in_both_codecs(codec: str) -> None:
    async with scripted_server(reserving) as server, viewer_of(server, codec=codec) as viewer:
        answer = await viewer.order(**TINS, quantity=2, key="k1", expect_amount_minor=3800, meta={"a": 1})
        known = await viewer.confirmed(answer.order or "")
        assert (answer.is_reserved, answer.order, answer.amount_minor) == (True, "ord_k1", 1900)
        assert known == KnownOrder(
            order="ord_k1", status="confirmed", key="k1", **TINS, quantity=2, amount_minor=1900, pay_by_ms=5
        )
        assert server.sockets[0].token == "token-1"
        assert server.sockets[0].orders() == [
            {"t": "order", "id": "k1", **TINS, "quantity": 2, "expect_amount_minor": 3800, "meta": {"a": 1}}
        ]


async def test_an_outcome_this_client_does_not_know_is_a_refusal() -> None:
    def script(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        welcoming(socket, frame)
        if frame["t"] == "order":
            socket.send({"t": "a_frame_of_tomorrow", "order": {"not": "a string"}})
            socket.send({"t": "reply", "id": frame["id"], "outcome": "raffled", "field": [1, 2]})

    async with scripted_server(script) as server, viewer_of(server) as viewer:
        answer = await viewer.order(**TINS)
        assert (answer.outcome, answer.is_reserved) == ("raffled", False)


async def test_a_cut_socket_asks_again_with_the_same_key_and_content() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        order = asyncio.create_task(viewer.order(**TINS, key="k1", meta="same"))
        first, asked = await server.next_frame("order")
        first.cut()
        second, hello = await server.next_frame("hello")
        _, asked_again = await server.next_frame("order")
        assert hello["pending"] == [{"sale": "sale_1", "key": "k1"}]
        assert asked_again == asked
        second.reserved("k1", "ord_1", replayed=True)
        answer = await order
        assert (answer.order, answer.replayed, answer.key) == ("ord_1", True, "k1")
        assert viewer.reconnects == 1


async def test_an_unconfirmed_order_is_named_after_a_cut_and_not_asked_again_when_the_welcome_tells_of_it() -> None:
    def script(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        if frame["t"] == "hello":
            known = [
                {"outcome": "reserved", "order": "ord_1", "status": "confirmed", **name}
                for name in frame.get("pending", ())
            ]
            socket.welcome(orders=known)
        if frame["t"] == "order":
            socket.reserved(frame["id"], "ord_1")

    async with scripted_server(script) as server, viewer_of(server) as viewer:
        await viewer.order(**TINS, key="k1")
        server.sockets[0].cut()
        known = await viewer.confirmed("ord_1")
        assert known.status == "confirmed"
        assert server.sockets[1].hello["pending"] == [{"sale": "sale_1", "key": "k1"}]
        server.sockets[1].cut()
        third, hello = await server.next_frame("hello")
        while third is not server.sockets[-1] or len(server.sockets) < 3:
            third, hello = await server.next_frame("hello")
        assert "pending" not in hello
        assert third.orders() == server.sockets[1].orders() == []


async def test_a_hello_names_no_more_keys_than_a_frame_carries_and_the_rest_is_asked_by_repeats() -> None:
    keys = [f"{'k' * 55}-{number:03}" for number in range(60)]
    async with scripted_server() as server, viewer_of(server) as viewer, asyncio.TaskGroup() as group:
        orders = [group.create_task(viewer.order(**TINS, key=key)) for key in keys]
        first, _ = await server.next_frame("order")
        while len(first.orders()) < len(keys):
            await server.next_frame("order")
        for key in keys:
            first.reserved(key, f"ord_{key}")
        await asyncio.gather(*orders)
        first.cut()
        second, hello = await server.next_frame("hello")
        named = [name["key"] for name in hello["pending"]]
        assert 20 <= len(named) <= 32
        # This server's welcome tells of none of them, so that every one is asked after.
        while len(second.orders()) < len(keys):
            await server.next_frame("order")
        assert [frame["id"] for frame in second.orders()] == keys


async def test_a_later_state_that_overtakes_the_reply_is_not_taken_back() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        order = asyncio.create_task(viewer.order(**TINS, key="k1"))
        socket, _ = await server.next_frame("order")
        socket.send({"t": "order", "order": "ord_1", "status": "confirmed"})
        socket.reserved("k1", "ord_1")
        await order
        assert (await viewer.confirmed("ord_1")).status == "confirmed"
        assert viewer.orders["ord_1"].key == "k1"


async def test_a_refused_order_ends_the_wait_for_its_confirmation_with_the_reason() -> None:
    seen: list[tuple[str, str]] = []
    async with (
        scripted_server() as server,
        viewer_of(server, on_order=lambda known: seen.append((known.order, known.status))) as viewer,
    ):
        order = asyncio.create_task(viewer.order(**TINS, key="k1"))
        socket, _ = await server.next_frame("order")
        socket.reserved("k1", "ord_1")
        await order
        waiting = asyncio.create_task(viewer.confirmed("ord_1"))
        socket.send({"t": "order", "order": "ord_1", "status": "refused", "reason": "lost"})
        known = await waiting
        assert (known.status, known.reason) == ("refused", "lost")
        assert seen == [("ord_1", "reserved"), ("ord_1", "refused")]


@pytest.mark.parametrize(
    "first_answer",
    [
        {"t": "error", "code": "overloaded", "message": "full", "retryable": True, "retry_after_ms": 10},
        {"t": "error", "code": "unavailable", "message": "away", "retryable": True},
        {"t": "error", "code": "outcome_unknown", "message": "lost", "retryable": True},
        {"t": "reply", "outcome": "too_fast", "retry_after_ms": 10},
    ],
    ids=["overloaded", "unavailable", "outcome_unknown", "too_fast"],
)
async def test_insisting_asks_again_with_the_same_key_until_a_true_answer(first_answer: dict[str, Any]) -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        order = asyncio.create_task(viewer.order(**TINS, key="k1", insist=True))
        socket, asked = await server.next_frame("order")
        socket.send({**first_answer, "id": "k1"})
        _, asked_again = await server.next_frame("order")
        assert asked_again == asked
        socket.send({"t": "reply", "id": "k1", "outcome": "sold_out", "left": 0, "may_return": True})
        answer = await order
        assert (answer.outcome, answer.left, answer.may_return) == ("sold_out", 0, True)


async def test_without_insisting_errors_are_raised_and_too_fast_is_an_answer() -> None:
    replies = iter(
        [
            {"t": "error", "code": "overloaded", "message": "full", "retryable": True, "retry_after_ms": 700},
            {"t": "error", "code": "invalid", "message": "no", "retryable": False, "param": "quantity"},
            {"t": "reply", "outcome": "too_fast", "retry_after_ms": 300},
        ]
    )

    def script(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        welcoming(socket, frame)
        if frame["t"] == "order":
            socket.send({**next(replies), "id": frame["id"]})

    async with scripted_server(script) as server, viewer_of(server) as viewer:
        with pytest.raises(Overloaded) as overloaded:
            await viewer.order(**TINS)
        assert (overloaded.value.retry_after_ms, overloaded.value.retryable) == (700, True)
        with pytest.raises(Invalid) as invalid:
            await viewer.order(**TINS)
        assert invalid.value.param == "quantity"
        answer = await viewer.order(**TINS)
        assert (answer.outcome, answer.retry_after_ms) == ("too_fast", 300)


async def test_an_order_nobody_waits_for_is_named_after_a_cut_but_not_placed_again() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        with pytest.raises(NoAnswer) as given_up:
            await viewer.order(**TINS, key="k1", within_s=0.05)
        assert given_up.value.key == "k1"
        server.sockets[0].cut()
        await server.next_frame("hello")
        second, hello = await server.next_frame("hello")
        assert hello["pending"] == [{"sale": "sale_1", "key": "k1"}]
        # The next act on the same socket shows that nothing was sent between.
        order = asyncio.create_task(viewer.order(**TINS, key="k1"))
        await server.next_frame("order")
        assert len(second.orders()) == 1
        second.reserved("k1", "ord_1", replayed=True)
        assert (await order).order == "ord_1"


async def test_two_waiters_on_one_key_get_one_answer_from_one_frame() -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        first = asyncio.create_task(viewer.order(**TINS, key="k1"))
        socket, _ = await server.next_frame("order")
        second = asyncio.create_task(viewer.order(**TINS, key="k1"))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        socket.reserved("k1", "ord_1")
        assert (await second).order == "ord_1"
        assert len(socket.orders()) == 1
        with pytest.raises(ValueError, match="other content"):
            waiting = asyncio.create_task(viewer.order(**TINS, key="k2"))
            await server.next_frame("order")
            try:
                await viewer.order(**TINS, key="k2", quantity=2)
            finally:
                waiting.cancel()


@pytest.mark.parametrize("code", [1001, 1012, 4008, 4013, 4029])
async def test_close_codes_of_the_moment_come_back(code: int) -> None:
    async with scripted_server() as server, viewer_of(server):
        first, _ = await server.next_frame("hello")
        first.close(code, "later")
        await server.next_frame("hello")


@pytest.mark.parametrize("code", [1002, 4401, 4500, 4503, 4504, 4507, 4509, 4999])
async def test_close_codes_for_good_stay_away_and_tell_whoever_waits(code: int) -> None:
    async with scripted_server() as server, viewer_of(server) as viewer:
        order = asyncio.create_task(viewer.order(**TINS))
        socket, _ = await server.next_frame("order")
        socket.close(code, "for good")
        with pytest.raises(ViewerAway) as away:
            await order
        assert away.value.close_code == code
        with pytest.raises(ViewerAway):
            await viewer.order(**TINS)
        assert len(server.upgrades) == 1


async def test_a_bye_says_how_long_to_stay_away() -> None:
    async with scripted_server() as server, viewer_of(server):
        socket, _ = await server.next_frame("hello")
        socket.send({"t": "bye", "code": 1012, "reason": "restart", "retry_after_ms": 300})
        said = asyncio.get_running_loop().time()
        socket.close(1012)
        await server.next_frame("hello")
        assert server.upgrades[1] - said >= 0.3


@pytest.mark.parametrize("status", [429, 503])
async def test_a_full_gateway_is_asked_again_after_its_retry_after(status: int) -> None:
    async with scripted_server() as server:
        server.refusals = [(status, {"Retry-After": "1"})]
        async with viewer_of(server):
            assert server.upgrades[1] - server.upgrades[0] >= 1.0


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_upgrade_is_final(status: int) -> None:
    async with scripted_server() as server:
        server.refusals = [(status, {})]
        with pytest.raises(ViewerAway) as away:
            async with viewer_of(server):
                pass
        assert (away.value.status, len(server.upgrades)) == (status, 1)


async def test_nobody_listening_is_tried_again_until_the_time_to_be_welcomed_is_over() -> None:
    async with scripted_server() as server:
        url = server.url
    with pytest.raises(TimeoutError):
        async with Viewer(url, "token", backoff=QUICK, welcome_within_s=0.2):
            pass


async def test_a_fresh_token_is_brought_before_the_old_one_ends_and_after_it_did() -> None:
    tokens = iter(["token-2", "token-3"])

    async def refresh() -> str:
        return next(tokens)

    async with scripted_server() as server, viewer_of(server, refresh_token=refresh):
        first, _ = await server.next_frame("hello")
        first.send({"t": "token_ending", "in_ms": 60_000})
        _, frame = await server.next_frame("token")
        assert frame["token"] == "token-2"
        first.close(4401, "token ended")
        second, _ = await server.next_frame("hello")
        assert second.token == "token-3"


async def test_who_follows_events_resumes_where_it_left_unless_told_to_take_a_snapshot() -> None:
    events: list[dict[str, Any]] = []
    async with scripted_server() as server, viewer_of(server, on_event=events.append) as viewer:
        first, _ = await server.next_frame("hello")
        first.send({"t": "snapshot", "epoch": 1, "seq": 6, "room": {"state": "live"}, "sales": []})
        first.send({"t": "tick", "seq": 7, "now_ms": 0, "ev": [{"k": "stock", "sale": "s", "sku": "tin", "left": 3}]})
        first.close(1012)
        second, hello = await server.next_frame("hello")
        assert hello["resume"] == {"epoch": 1, "seq": 7}
        assert viewer.snapshot["room"] == {"state": "live"}
        assert events == [{"k": "stock", "sale": "s", "sku": "tin", "left": 3}]
        second.close(4010)
        _, hello = await server.next_frame("hello")
        assert "resume" not in hello


async def test_leaving_ends_what_waits() -> None:
    async with scripted_server() as server:
        async with viewer_of(server) as viewer:
            order = asyncio.create_task(viewer.order(**TINS))
            socket, _ = await server.next_frame("order")
        with pytest.raises(ViewerAway):
            await order
        async with asyncio.timeout(5):
            await socket.closed.wait()
