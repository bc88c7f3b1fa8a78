"""A viewer's claims over cuts and refusals, against real sockets that follow a script."""

import asyncio
from typing import Any

import pytest

from gateway.client import ClaimAnswer, NoAnswer, Viewer, ViewerAway
from gateway.client.backoff import Backoff
from gateway.errors import NotFound, Overloaded
from tests.support.scripted_server import ScriptedServer, ScriptedSocket, scripted_server, welcoming

CLAIM = {"t": "claim", "id": "k1", "coupon": "cpn_1"}


def viewer_of(server: ScriptedServer, **options: Any) -> Viewer:
    return Viewer(server.url, "token-1", **{"backoff": Backoff(base_s=0.01, cap_s=0.02), "follow": False, **options})


def claimed(socket: ScriptedSocket, id: str = "k1", **fields: Any) -> None:
    socket.send({"t": "reply", "id": id, "outcome": "claimed", "claim": f"clm_{id}", "value_minor": 500, **fields})


@pytest.mark.parametrize("codec", ["json", "msgpack"])
async def test_a_claim_is_answered_and_its_later_states_are_kept_in_both_codecs(codec: str) -> None:
    async with scripted_server(welcoming) as server, viewer_of(server, codec=codec) as viewer:
        asking = asyncio.create_task(viewer.claim("cpn_1", key="k1"))
        socket, frame = await server.next_frame("claim")
        assert frame == CLAIM
        claimed(socket)
        answer = await asking
        assert answer == ClaimAnswer(outcome="claimed", key="k1", claim="clm_k1", value_minor=500)
        assert answer.is_claimed and viewer.claims["clm_k1"].is_only_claimed
        confirming = asyncio.create_task(viewer.claim_confirmed("clm_k1"))
        socket.send({"t": "claim", "claim": "clm_k1", "state": "confirmed"})
        assert (await confirming).state == "confirmed"
        socket.send({"t": "claim", "claim": "clm_k1", "state": "redeemed"})
        again = asyncio.create_task(viewer.claim("cpn_1", key="k2"))
        await server.next_frame("claim")
        socket.send({"t": "reply", "id": "k2", "outcome": "limit_reached"})
        assert (await again).outcome == "limit_reached"
        known = viewer.claims["clm_k1"]
        assert (known.state, known.coupon, known.value_minor) == ("redeemed", "cpn_1", 500)


async def test_a_claim_cut_off_from_its_answer_is_named_and_asked_again_with_the_same_key() -> None:
    async with scripted_server(welcoming) as server, viewer_of(server) as viewer:
        asking = asyncio.create_task(viewer.claim("cpn_1", key="k1"))
        first, _ = await server.next_frame("claim")
        first.cut()
        second, again = await server.next_frame("claim")
        assert again == CLAIM
        assert second.hello["pending"] == [{"coupon": "cpn_1", "key": "k1"}]
        claimed(second, replayed=True)
        assert (await asking).replayed


async def test_too_fast_and_passing_errors_are_waited_out_by_who_insists_and_told_to_who_does_not() -> None:
    async with scripted_server(welcoming) as server, viewer_of(server) as viewer:
        asking = asyncio.create_task(viewer.claim("cpn_1", key="k1", insist=True))
        socket, _ = await server.next_frame("claim")
        socket.send({"t": "reply", "id": "k1", "outcome": "too_fast", "retry_after_ms": 1})
        await server.next_frame("claim")
        socket.send({"t": "error", "id": "k1", "code": "overloaded", "message": "x", "retryable": True})
        await server.next_frame("claim")
        claimed(socket)
        assert (await asking).is_claimed
        hasty = asyncio.create_task(viewer.claim("cpn_1", key="k2"))
        await server.next_frame("claim")
        socket.send({"t": "reply", "id": "k2", "outcome": "too_fast", "retry_after_ms": 7})
        answer = await hasty
        assert (answer.outcome, answer.retry_after_ms) == ("too_fast", 7)
        for code, retryable, kind in (("overloaded", True, Overloaded), ("not_found", False, NotFound)):
            refused = asyncio.create_task(viewer.claim("cpn_1", key="k3"))
            await server.next_frame("claim")
            socket.send({"t": "error", "id": "k3", "code": code, "message": "x", "retryable": retryable})
            with pytest.raises(kind):
                await refused


async def test_a_claim_nobody_waits_for_any_more_is_named_and_not_asked_again() -> None:
    async with scripted_server(welcoming) as server, viewer_of(server) as viewer:
        with pytest.raises(NoAnswer):
            await viewer.claim("cpn_1", key="k1", within_s=0.02)
        first, _ = await server.next_frame("claim")
        first.cut()
        _, hello = await server.next_frame("hello")
        while "pending" not in hello:
            _, hello = await server.next_frame("hello")
        assert hello["pending"] == [{"coupon": "cpn_1", "key": "k1"}]
        asked = asyncio.create_task(viewer.claim("cpn_1", key="k2"))
        second, frame = await server.next_frame("claim")
        assert frame["id"] == "k2", "the one nobody waits for was not asked again before it"
        claimed(second, "k2")
        await asked


async def test_what_a_welcome_tells_of_a_claim_is_known_without_asking() -> None:
    def tells(socket: ScriptedSocket, frame: dict[str, Any]) -> None:
        if frame["t"] == "hello":
            known = {"coupon": "cpn_1", "key": "k1", "outcome": "claimed", "claim": "clm_k1", "state": "confirmed"}
            socket.welcome(claims=[known] if frame.get("pending") else None)

    async with scripted_server(tells) as server, viewer_of(server) as viewer:
        asking = asyncio.create_task(viewer.claim("cpn_1", key="k1"))
        first, _ = await server.next_frame("claim")
        claimed(first)
        claim = (await asking).claim
        assert claim is not None
        first.cut()
        assert (await viewer.claim_confirmed(claim, within_s=5)).state == "confirmed"


async def test_who_waits_when_the_gateway_shows_the_viewer_out_is_told_why() -> None:
    async with scripted_server(welcoming) as server, viewer_of(server) as viewer:
        asking = asyncio.create_task(viewer.claim("cpn_1", key="k1", insist=True))
        socket, _ = await server.next_frame("claim")
        socket.close(4503)
        with pytest.raises(ViewerAway):
            await asking
        with pytest.raises(ViewerAway):
            await viewer.claim("cpn_1")
