import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.domain.order import DECIDE_WITHIN_S, OrderAnswer, OrderOutcome, OrderRequest
from gateway.errors import OutcomeUnknown, Unavailable
from gateway.hot.connect import connect
from gateway.hot.group import GroupCalls
from gateway.hot.orders import HotOrders
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from tests.support.cutting_proxy import CuttingProxy, cutting_proxy
from tests.support.fake_clock import ShiftedClock
from tests.support.shop_floor import SHARD, ShopFloor, item, shop_floor


class Till:
    """Group calls over a proxy, on a shop floor; `buy` is one viewer's tap."""

    def __init__(self, floor: ShopFloor, groups: GroupCalls, proxy: CuttingProxy, clock: ShiftedClock) -> None:
        self.floor = floor
        self.groups = groups
        self.proxy = proxy
        self.clock = clock

    async def buy(self, viewer: str, key: str = "k1", *, quantity: int = 1, item_no: int = 1) -> OrderAnswer:
        waiting: asyncio.Future[OrderAnswer] = asyncio.get_running_loop().create_future()
        request: OrderRequest = self.floor.request(
            viewer,
            key,
            quantity=quantity,
            item_no=item_no,
            arrived_s=self.clock.monotonic(),
            answer=lambda given: (
                waiting.set_exception(given) if isinstance(given, Exception) else waiting.set_result(given)
            ),
        )
        self.groups.submit(request)
        return await waiting


@asynccontextmanager
async def opened(database_url: str, valkey_url: str) -> AsyncIterator[Till]:
    items = [item("tin", stock=10, limit=2), item("box", price=500, stock=1_000, limit=1_000)]
    clock = ShiftedClock()
    async with shop_floor(database_url, valkey_url, items=items) as floor, cutting_proxy(valkey_url) as proxy:
        client = connect(proxy.url, max_connections=4)
        scripts = Scripts(client)
        hot = HotShard(shard=SHARD, client=client, scripts=scripts)
        hot.enter_epoch(1, 0)
        orders = HotOrders(shard=hot, scripts=scripts, mint=floor.mint, clock=clock, backlog_max=50_000)
        groups = GroupCalls(decider=orders, clock=clock, group_max=64, queue_max=1_000)
        try:
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(groups.run())
                await asyncio.sleep(0)
                try:
                    yield Till(floor, groups, proxy, clock)
                finally:
                    running.cancel()
        finally:
            await client.aclose()


@pytest.fixture
async def till(database_url: str, valkey_url: str) -> AsyncIterator[Till]:
    async with opened(database_url, valkey_url) as till:
        yield till


async def test_two_hundred_buyers_of_ten_units_get_exactly_ten(till: Till) -> None:
    answers = await asyncio.gather(*(till.buy(f"vw_{at}") for at in range(200)))
    outcomes = [answer.outcome for answer in answers]
    assert outcomes.count(OrderOutcome.RESERVED) == 10
    assert outcomes.count(OrderOutcome.SOLD_OUT) == 190
    assert await till.floor.counts() == (10, 0, 10)
    assert len({answer.order for answer in answers if answer.order}) == 10
    assert await till.floor.client.xlen(till.floor.keys.stream) < 10, "they went in groups"


async def test_an_order_id_names_the_place_of_the_order_in_the_stream(till: Till) -> None:
    answer = await till.buy("vw_1")
    assert answer.order is not None
    place = till.floor.mint.read_order(answer.order)
    assert place == (answer.at_ms, till.floor.sale.sale_no, 1, 1)
    assert (await till.floor.held.held_by(till.floor.sale.sale_no, [("vw_1", "k1")]))[0] == [(1, 1, answer.at_ms)]


@pytest.mark.parametrize("times", [1, 3])
async def test_an_order_whose_reply_was_lost_has_one_effect_and_its_true_answer(till: Till, times: int) -> None:
    await till.buy("vw_0")
    till.proxy.lose_replies = times
    answer = await asyncio.wait_for(till.buy("vw_1", quantity=2), 10)
    assert till.proxy.lost == times
    assert (answer.outcome, answer.replayed, answer.amount_minor) == (OrderOutcome.RESERVED, True, 3800)
    assert await till.floor.counts() == (10, 7, 3)
    assert (await till.floor.seq())[1] == 2


async def test_a_group_whose_reply_was_lost_has_each_effect_once_and_each_answer_is_true(till: Till) -> None:
    await till.buy("vw_first", item_no=2)
    till.proxy.lose_replies = 2
    answers = await asyncio.wait_for(asyncio.gather(*(till.buy(f"vw_{at}", item_no=2) for at in range(300))), 15)
    assert till.proxy.lost == 2
    assert {answer.outcome for answer in answers} == {OrderOutcome.RESERVED}
    assert len({answer.order for answer in answers}) == 300
    assert any(answer.replayed for answer in answers)
    assert await till.floor.counts(2) == (1_000, 699, 301)
    assert (await till.floor.seq())[1] == 301


async def test_a_refusal_whose_reply_was_lost_is_decided_anew(till: Till) -> None:
    await asyncio.gather(*(till.buy(f"vw_{at}", quantity=2) for at in range(5)))
    till.proxy.lose_replies = 1
    buying = asyncio.ensure_future(till.buy("vw_9"))
    async with asyncio.timeout(10):
        while till.proxy.lost < 1:  # noqa: ASYNC110 - the proxy counts for us
            await asyncio.sleep(0.01)
    # Time enough to ask again, and not all that a refusal waits for.
    till.clock.advance(DECIDE_WITHIN_S - 2)
    answer = await asyncio.wait_for(buying, 10)
    assert (answer.outcome, answer.replayed) == (OrderOutcome.SOLD_OUT, False)


async def test_when_no_reply_comes_in_time_the_outcome_is_unknown_and_the_key_tells_it_later(till: Till) -> None:
    await till.buy("vw_0")
    till.proxy.lose_replies = 1_000
    buying = asyncio.ensure_future(till.buy("vw_1"))
    async with asyncio.timeout(10):
        while till.proxy.lost < 2:  # noqa: ASYNC110 - the proxy counts for us
            await asyncio.sleep(0.01)
    till.clock.advance(DECIDE_WITHIN_S)
    with pytest.raises(OutcomeUnknown):
        await asyncio.wait_for(buying, 10)
    till.proxy.lose_replies = 0
    again = await asyncio.wait_for(till.buy("vw_1"), 10)
    assert (again.outcome, again.replayed) == (OrderOutcome.RESERVED, True)
    assert await till.floor.counts() == (10, 8, 2)


async def test_a_server_that_is_away_and_comes_back_in_time_costs_only_time(till: Till) -> None:
    await till.buy("vw_0")
    till.proxy.go_away()
    buying = asyncio.ensure_future(till.buy("vw_1"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not buying.done()
    till.proxy.away = False
    assert (await asyncio.wait_for(buying, 10)).outcome is OrderOutcome.RESERVED
    assert await till.floor.counts() == (10, 8, 2)


async def test_a_tap_that_was_stuck_for_too_long_has_no_effect(till: Till) -> None:
    await till.buy("vw_0")
    waiting: asyncio.Future[object] = asyncio.get_running_loop().create_future()
    late = till.floor.request("vw_1", arrived_s=till.clock.monotonic() - 60, answer=waiting.set_result)
    till.groups.submit(late)
    assert isinstance(await asyncio.wait_for(waiting, 5), Unavailable)
    assert await till.floor.counts() == (10, 9, 1)


async def test_a_shard_that_is_shut_is_waited_for_and_sells_again_when_it_opens(till: Till) -> None:
    await till.floor.client.hset(till.floor.keys.shard, "open", "0")
    buying = asyncio.ensure_future(till.buy("vw_1"))
    for _ in range(100):
        await asyncio.sleep(0)
    assert not buying.done()
    await till.floor.client.hset(till.floor.keys.shard, "open", "1")
    assert (await asyncio.wait_for(buying, 10)).outcome is OrderOutcome.RESERVED


async def test_a_shard_that_stays_shut_is_unavailable_and_nothing_happened(till: Till) -> None:
    await till.floor.client.hset(till.floor.keys.shard, "open", "0")
    buying = asyncio.ensure_future(till.buy("vw_1"))
    await asyncio.sleep(0)
    till.clock.advance(DECIDE_WITHIN_S)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(buying, 10)
    assert (await till.floor.seq())[1] == 0


async def test_a_server_that_went_back_sells_nothing(till: Till) -> None:
    """It answers with less than this process has seen: what it forgot may have been sold."""
    await till.buy("vw_0")
    await till.floor.client.hset(till.floor.keys.shard, "seq", "0")
    buying = asyncio.ensure_future(till.buy("vw_1"))
    await asyncio.sleep(0)
    till.clock.advance(DECIDE_WITHIN_S)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(buying, 10)
    assert await till.floor.counts() == (10, 9, 1)


async def test_a_server_that_lost_its_scripts_is_given_them_again(till: Till) -> None:
    await till.buy("vw_0")
    await till.floor.client.script_flush()
    assert (await till.buy("vw_1")).outcome is OrderOutcome.RESERVED
    assert await till.floor.counts() == (10, 8, 2)
