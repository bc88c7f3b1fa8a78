"""What a key holds, as Valkey tells it: never `nothing` by a shard that lacks what was promised."""

from collections.abc import Sequence

import pytest

from gateway.domain.caller import Caller, Role
from gateway.domain.order import Order
from gateway.errors import LedgerUnavailable, NotFound, ShardClosed, Unavailable
from gateway.flows.order_watch import OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.sale_book import SaleBook
from gateway.ledger.orders import LedgerOrders
from tests.support.shop_floor import SHARD, SHOP, shop_floor


async def test_a_key_that_holds_nothing_is_told_so_by_an_open_shard(database_url: str, valkey_url: str) -> None:
    async with shop_floor(database_url, valkey_url) as floor:
        (order,) = await floor.reserve(floor.request("ann"))
        (held, free), _ = await floor.held.held_by(floor.sale.sale_no, [("ann", "k1"), ("bob", "k1")])
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
        (held,), _ = await floor.held.held_by(floor.sale.sale_no, [("ann", "k1")])
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


class LedgerAway(LedgerOrders):
    async def by_keys(self, keys: Sequence[tuple[str, int, str]]) -> dict[tuple[str, int, str], Order]:
        raise LedgerUnavailable


async def test_with_the_ledger_away_a_key_is_free_only_where_valkey_still_has_the_sale(
    database_url: str, valkey_url: str
) -> None:
    async with shop_floor(database_url, valkey_url) as floor:
        away = LedgerAway(floor.ledger)
        reader = OrderReader(
            ledger=away,
            held={SHARD: floor.held},
            book=SaleBook(sales=floor.sales, mint=floor.mint, clock=floor.clock),
            watch=OrderWatch(ledger=away, claims=floor.coupons, mint=floor.mint, clock=floor.clock),
            mint=floor.mint,
        )
        ann = Caller(shop=SHOP, sub="ann", role=Role.VIEWER, expires_at_s=2**31)
        with pytest.raises(NotFound):
            await reader.by_key(ann, floor.sale.sale, "k1")
        # Retired: only the ledger knows its keys.
        await floor.client.delete(floor.keys.sale(floor.sale.sale_no))
        with pytest.raises(Unavailable):
            await reader.by_key(ann, floor.sale.sale, "k1")
