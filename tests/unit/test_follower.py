"""Whose turn it is when several shards have news; what a turn does is tested on a real ledger."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.domain.webhook import Event, NewsBatch
from gateway.errors import LedgerRejected
from gateway.webhooks import follower as followers
from gateway.webhooks.follower import Follower


class TwoShards:
    """Shard 0 has news without end, or such as the ledger refuses; shard 1 has one batch."""

    def __init__(self, *, refuses: bool) -> None:
        self.refuses = refuses
        self.handed_on = {0: 0, 1: 0}
        self.other_had_its_turn = asyncio.Event()

    async def behind(self) -> list[int]:
        return [0, 1]

    async def next(self, shard: int, *, orders_most: int) -> NewsBatch | None:
        return None if shard == 1 and self.handed_on[1] else NewsBatch(0, 1, ())

    async def decide_first_orders(self, shard: int, batch: NewsBatch) -> int:
        return 0

    async def orders(self, shard: int, nos: Sequence[int]) -> list[tuple[int, int, str]]:
        return []

    async def hand_on(self, shard: int, batch: NewsBatch, events: Sequence[Event]) -> bool:
        if shard == 0 and self.refuses:
            raise LedgerRejected("23514 deliveries_body_check")
        self.handed_on[shard] += 1
        if shard == 1:
            self.other_had_its_turn.set()
        return True

    async def forget(self, shard: int, *, older_than_s: float, most: int) -> int:
        return 0


@pytest.mark.parametrize("refuses", [False, True], ids=["a peak", "stands still"])
async def test_a_shard_that_never_catches_up_keeps_no_other_waiting(
    monkeypatch: pytest.MonkeyPatch, refuses: bool
) -> None:
    monkeypatch.setattr(followers, "TURN_S", 0.05)
    news = TwoShards(refuses=refuses)
    nothing: Any = None
    follower = Follower(news=news, orders=nothing, sales=nothing, people=nothing, shards=[0, 1], wake=lambda: None)
    running = asyncio.create_task(follower.run())
    try:
        async with asyncio.timeout(5):
            await news.other_had_its_turn.wait()
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert (news.handed_on[0] == 0) is refuses
