"""What a key holds, as Valkey tells it: never `nothing` by a shard that lacks what was promised."""

import pytest

from gateway.errors import ShardClosed
from tests.support.shop_floor import shop_floor


async def test_a_key_that_holds_nothing_is_told_so_by_an_open_shard(database_url: str, valkey_url: str) -> None:
    async with shop_floor(database_url, valkey_url) as floor:
        (order,) = await floor.reserve(floor.request("ann"))
        held, free = await floor.held.held_by(floor.sale.sale_no, [("ann", "k1"), ("bob", "k1")])
        assert held is not None and free is None
        assert floor.mint.order(held[2], floor.sale.sale_no, held[0], held[1]) == order


async def test_an_emptied_valkey_does_not_say_that_a_key_is_free(database_url: str, valkey_url: str) -> None:
    async with shop_floor(database_url, valkey_url) as floor:
        await floor.reserve(floor.request("ann"))
        await floor.client.flushall()
        with pytest.raises(ShardClosed):
            await floor.held.held_by(floor.sale.sale_no, [("ann", "k1")])


async def test_a_shut_shard_still_tells_what_its_keys_hold(database_url: str, valkey_url: str) -> None:
    async with shop_floor(database_url, valkey_url) as floor:
        await floor.reserve(floor.request("ann"))
        await floor.client.hset(floor.keys.shard, "open", "0")
        (held,) = await floor.held.held_by(floor.sale.sale_no, [("ann", "k1")])
        assert held is not None
        with pytest.raises(ShardClosed):
            await floor.held.held_by(floor.sale.sale_no, [("ann", "k1"), ("bob", "k1")])


async def test_an_emptied_valkey_does_not_say_that_an_order_never_was(database_url: str, valkey_url: str) -> None:
    async with shop_floor(database_url, valkey_url) as floor:
        await floor.reserve(floor.request("ann"))
        assert await floor.held.entry_of(1, 1) is not None
        assert await floor.held.entry_of(1, 2) is None
        await floor.client.flushall()
        with pytest.raises(ShardClosed):
            await floor.held.entry_of(1, 1)
