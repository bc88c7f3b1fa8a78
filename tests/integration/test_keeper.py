import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.domain.acts import Act
from gateway.errors import HotUnavailable, ShardClosed
from gateway.keeper.shards import ShardKeeper
from tests.support.servers import eventually
from tests.support.shop_floor import HOUR_MS, SHARD, ShopFloor, item, make_sale, shop_floor


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url) as floor:
        yield floor


# With real servers.


async def test_a_new_shard_is_opened_and_its_sales_are_loaded(floor: ShopFloor) -> None:
    await floor.client.flushall()
    await floor.ledger.execute("UPDATE sales SET loaded_epoch = NULL")
    await floor.keeper.step()
    assert await floor.counts() == (10, 10, 0)
    assert await floor.sales.is_loaded(floor.sale.sale_no)
    await floor.reserve(floor.request("vw_1"))


async def test_looking_again_changes_nothing(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"))
    await floor.keeper.step()
    before = {name: await floor.client.dump(name) for name in await floor.client.keys("*")}
    for _ in range(3):
        await floor.keeper.step()
    assert {name: await floor.client.dump(name) for name in await floor.client.keys("*")} == before


async def test_a_sale_that_was_made_while_valkey_was_away_is_loaded_once(floor: ShopFloor) -> None:
    sale = await make_sale(floor, key="sale_2", items=[item(stock=5)], load=False)
    assert await floor.hot.counts(sale) is None
    await floor.keeper.step()
    counts = await floor.hot.counts(sale)
    assert counts is not None and counts[1].left == 5
    assert await floor.sales.unloaded(SHARD, 1) == []


async def test_a_sale_that_is_there_but_not_marked_keeps_its_counters(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1", quantity=2))
    await floor.ledger.execute("UPDATE sales SET loaded_epoch = NULL")
    await floor.keeper.step()
    assert await floor.counts() == (10, 8, 2)


async def test_sales_that_can_sell_no_more_are_not_loaded(floor: ShopFloor) -> None:
    past = await make_sale(floor, key="past", opens_in_ms=-2 * HOUR_MS, closes_in_ms=-HOUR_MS, load=False)
    closed = await make_sale(floor, key="closed", load=False)
    await floor.ledger.execute("UPDATE sales SET hold = 'closed' WHERE sale_no = $1", closed.sale_no)
    await floor.keeper.step()
    assert await floor.hot.counts(past) is None
    assert await floor.hot.counts(closed) is None


async def test_a_sale_that_valkey_had_and_lost_is_not_loaded_afresh(floor: ShopFloor) -> None:
    """Its counters are to be recounted from orders; a fresh load would sell its units twice."""
    await floor.reserve(floor.request("vw_1"))
    await floor.written()
    await floor.client.delete(floor.keys.sale(floor.sale.sale_no))
    await floor.keeper.step()
    assert await floor.hot.counts(floor.sale) is None


async def test_a_shard_that_valkey_lost_says_so_once_and_is_recounted(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"))
    await floor.written()
    await floor.client.flushall()
    with capture_logs() as logs:
        for _ in range(3):
            await floor.keeper.step()
    said = [(each["event"], each["log_level"], each.get("why", each.get("how"))) for each in logs]
    assert said == [("shard_lost", "critical", "missing"), ("shard_rebuilt", "warning", "recount")]
    await floor.reserve(floor.request("vw_2"))


async def test_a_shard_behind_the_ledger_is_recounted(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"))
    await floor.written()
    await floor.client.hset(floor.keys.shard, "seq", "0")
    await floor.keeper.step()
    assert await floor.shards.cursor(SHARD) == (2, 0)
    assert await floor.counts() == (10, 9, 1)


async def test_a_pause_before_the_crash_is_still_in_force_for_a_sale_that_is_loaded_late(floor: ShopFloor) -> None:
    sale = await make_sale(floor, key="sale_2", load=False)
    await floor.ledger.execute("UPDATE sales SET hold = 'paused' WHERE sale_no = $1", sale.sale_no)
    await floor.keeper.step()
    assert await floor.client.hget(floor.keys.sale(sale.sale_no), "hold") == b"paused"


async def test_more_releases_than_fit_in_one_call_are_given_back_in_several(floor: ShopFloor) -> None:
    sale = await make_sale(floor, key="big", items=[item(stock=1_000, limit=1)])
    floor.sale = sale
    for at in range(0, 1_000, 100):
        await floor.reserve(*(floor.request(f"vw_{at + of}") for of in range(100)))
    await floor.ledger.execute("UPDATE sales SET hold = 'paused'")
    await floor.written()
    assert set(await floor.statuses()) == {"refused"}
    await floor.give_back.drain(SHARD)
    assert await floor.outbox.pending(SHARD, limit=1) == []
    assert await floor.counts() == (1_000, 1_000, 0)


async def test_releases_and_new_orders_of_the_same_viewers_meet_without_losing_a_unit(floor: ShopFloor) -> None:
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "1:price", "1")
    await floor.reserve(*(floor.request(f"vw_{at}", quantity=2) for at in range(5)))
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "1:price", "1900")
    await floor.written()
    async with asyncio.TaskGroup() as tasks:
        for at in range(40):
            tasks.create_task(floor.place(floor.request(f"vw_{at % 8}", f"new-{at}")))
        tasks.create_task(floor.give_back.drain(SHARD))
    await floor.give_back.drain(SHARD)
    await floor.control.act(floor.sale.sale_no, Act.PAUSE, actor="host_1")
    await floor.written()
    stock, left, held = await floor.counts()
    assert (stock, left + held) == (10, 10)
    assert await floor.held_in_ledger() == held


async def test_a_keeper_waits_for_servers_that_are_away_and_goes_on(floor: ShopFloor) -> None:
    with capture_logs() as logs:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(floor.keeper.run())
            rows = await floor.ledger.fetch(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            for row in rows:
                await floor.ledger.execute("SELECT pg_terminate_backend($1)", row["pid"])
            sale = await make_sale(floor, key="sale_2", load=False)

            async def loaded() -> bool:
                return await floor.hot.counts(sale) is not None

            await eventually(loaded)
            running.cancel()
    assert {each["event"] for each in logs} <= {"keeper_waits", "epochs_not_read"}


# With shards that fail as they are told.


class Looks:
    """A rebuilder that is asked about shards; the first one's server is away."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def look(self, shard: int) -> Any:
        self.asked.append(shard)
        if shard == 0:
            raise HotUnavailable("away")
        raise ShardClosed("no more of it here")

    async def mend(self, shard: int) -> bool:
        return True


async def test_one_shards_trouble_keeps_no_other_shard_from_its_turn(floor: ShopFloor) -> None:
    looks = Looks()
    keeper = ShardKeeper(
        rebuilder=looks,
        shards=floor.shards,
        sales=floor.sales,
        coupons=floor.coupons,
        hot=dict.fromkeys(range(3), floor.hot),
        hot_coupons={},
    )
    with pytest.raises(HotUnavailable):
        await keeper.step()  # that it says so is right; that it stops there is not
    assert looks.asked == [0, 1, 2]
