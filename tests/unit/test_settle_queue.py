"""The queue in front of the ledger's settlements, with a ledger that does what a test says."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from gateway.domain.settle import SettleAct, Settled
from gateway.errors import GatewayError, LedgerRejected, LedgerUnavailable, OutcomeUnknown, Overloaded, Unavailable
from gateway.flows import settle
from gateway.flows.settle import Settle
from gateway.wire import bus


def act(order: str, do: str = "pay") -> SettleAct:
    return SettleAct(do=do, shop_no=1, order=order, sale=1)


class Ledger:
    """Takes one transaction at a time; each waits until the test lets it go."""

    def __init__(self, *, held: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.errors: list[Exception] = []
        self.rejects: set[str] = set()
        self.changed = True
        self.go = asyncio.Event()
        self.began = asyncio.Event()
        if not held:
            self.go.set()

    async def settle(self, shard: int, acts: Sequence[SettleAct]) -> Sequence[Settled]:
        self.batches.append([each.order for each in acts])
        self.began.set()
        await self.go.wait()
        if self.errors:
            raise self.errors.pop(0)
        if self.rejects & {each.order for each in acts}:
            raise LedgerRejected
        return [Settled("done", "tins", f"vw_{each.order}", each.order, "paid", self.changed) for each in acts]


class Heard:
    def __init__(self) -> None:
        self.states: list[tuple[str, str]] = []

    async def publish(self, message: bytes) -> None:
        told = bus.decode(message)
        assert isinstance(told, bus.LaterStates)
        for shop in bus.decode_shops(told.shops):
            self.states += [(state.order, state.status) for state in shop.orders]


@asynccontextmanager
async def queue(ledger: Ledger, heard: Heard | None = None) -> AsyncIterator[Settle]:
    asked = Settle(shards=[0, 1], ledger=ledger, publisher=heard or Heard())
    running = asyncio.create_task(asked.run())
    await asyncio.sleep(0)
    try:
        yield asked
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_lone_act_waits_for_nothing_and_is_told() -> None:
    ledger, heard = Ledger(), Heard()
    async with queue(ledger, heard) as asked:
        assert (await asked.ask(0, act("a"))).status == "paid"
        await asked.drained()
    assert (ledger.batches, heard.states) == ([["a"]], [("a", "paid")])


async def test_what_arrives_while_a_transaction_is_in_flight_shares_the_next_ones() -> None:
    ledger = Ledger(held=True)
    async with queue(ledger) as asked:
        answers = [asyncio.create_task(asked.ask(0, act(str(at)))) for at in range(250)]
        await ledger.began.wait()
        await asyncio.sleep(0)
        ledger.go.set()
        assert [answer.order_id for answer in await asyncio.gather(*answers)] == [str(at) for at in range(250)]
    # All were asked in one turn of the loop, before the first transaction began.
    assert [len(batch) for batch in ledger.batches] == [100, 100, 50]


async def test_shards_do_not_wait_for_each_other() -> None:
    ledger = Ledger(held=True)
    async with queue(ledger) as asked:
        answers = [asyncio.create_task(asked.ask(shard, act(str(shard)))) for shard in (0, 1)]
        for _ in range(5):  # turns of the loop, in which both begin
            await asyncio.sleep(0)
        assert len(ledger.batches) == 2
        ledger.go.set()
        await asyncio.gather(*answers)


async def test_a_full_queue_refuses_with_a_time_to_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settle, "WAITING_MOST", 3)
    ledger = Ledger(held=True)
    async with queue(ledger) as asked:
        first = asyncio.create_task(asked.ask(0, act("first")))
        await ledger.began.wait()
        others = [asyncio.create_task(asked.ask(0, act(str(at)))) for at in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded) as refused:
            await asked.ask(0, act("too many"))
        assert (refused.value.retry_after_ms or 0) > 0
        ledger.go.set()
        await asyncio.gather(first, *others)


async def test_a_lost_reply_is_unknown_to_all_who_were_in_it_and_to_nobody_else() -> None:
    ledger = Ledger(held=True)
    ledger.errors = [LedgerUnavailable()]
    async with queue(ledger) as asked:
        first = [asyncio.create_task(asked.ask(0, act(order))) for order in "ab"]
        await ledger.began.wait()
        later = asyncio.create_task(asked.ask(0, act("c")))
        await asyncio.sleep(0)
        ledger.go.set()
        lost = await asyncio.gather(*first, return_exceptions=True)
        assert [type(each) for each in lost] == [OutcomeUnknown, OutcomeUnknown]
        assert (await later).status == "paid"


async def test_a_value_that_cannot_be_stored_spoils_nobody_elses_act() -> None:
    ledger = Ledger()
    ledger.rejects = {"bad"}
    async with queue(ledger) as asked:
        answers = await asyncio.gather(*(asked.ask(0, act(at)) for at in ("a", "bad", "b")), return_exceptions=True)
    assert [each.word if isinstance(each, Settled) else type(each) for each in answers] == [
        "done",
        LedgerRejected,
        "done",
    ]


async def test_a_state_that_is_not_new_is_not_told() -> None:
    ledger, heard = Ledger(), Heard()
    ledger.changed = False
    async with queue(ledger, heard) as asked:
        await asked.ask(0, act("a"))
        await asked.drained()
    assert heard.states == []


async def test_whoever_leaves_takes_nothing_from_the_others() -> None:
    ledger = Ledger(held=True)
    async with queue(ledger) as asked:
        leaving, staying = (asyncio.create_task(asked.ask(0, act(order))) for order in "ab")
        await ledger.began.wait()
        leaving.cancel()
        await asyncio.sleep(0)
        ledger.go.set()
        assert (await staying).status == "paid"


async def test_a_stop_says_of_what_was_sent_that_it_may_have_happened_and_of_the_rest_that_it_did_not() -> None:
    ledger = Ledger(held=True)
    errors: list[GatewayError] = []
    async with queue(ledger) as asked:
        sent = asyncio.create_task(asked.ask(0, act("sent")))
        await ledger.began.wait()
        unsent = asyncio.create_task(asked.ask(0, act("unsent")))
        await asyncio.sleep(0)
    for task in (sent, unsent):
        with pytest.raises(GatewayError) as raised:
            await task
        errors.append(raised.value)
    assert [type(error) for error in errors] == [OutcomeUnknown, Unavailable]
    with pytest.raises(Unavailable):
        await asked.ask(0, act("after"))
