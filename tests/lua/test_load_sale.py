from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ResponseError

from gateway.domain.ids import SaleId, Sku
from gateway.domain.sale import (
    MAX_ITEMS,
    MAX_PRICE_MINOR,
    MAX_PRICE_STEPS,
    MAX_STOCK,
    Item,
    PriceStep,
    Sale,
    SaleHold,
    StockDisplay,
    plan_text,
)
from gateway.errors import ShardClosed
from gateway.hot.connect import connect
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from tests.support.lua_shard import MINUTE_MS, SALE, LuaShard, order, read_header

WORDS: dict[str, Callable[[LuaShard], str]] = {
    "loaded": lambda shard: shard.load(sale_no=8),
    "there": lambda shard: shard.load(),
    "epoch": lambda shard: shard.load(sale_no=8, epoch=2),
}


def sale(sale_no: int = SALE) -> Sale:
    return Sale(
        sale=SaleId("sale_1"),
        sale_no=sale_no,
        shop="tins",
        shard=3,
        room=None,
        title="Tins",
        currency="EUR",
        hold=SaleHold.PAUSED,
        opens_at_ms=1_000,
        closes_at_ms=2_000,
        pay_within_s=300,
        stock_display=StockDisplay.EXACT,
        created_at_ms=0,
        items=(
            Item(item_no=1, sku=Sku("tin"), title="Tin", price_minor=1900, stock=10, limit_per_viewer=2),
            Item(
                item_no=2,
                sku=Sku("box"),
                title="Box",
                price_minor=0,
                stock=0,
                limit_per_viewer=1,
                floor_minor=700,
                prices=(PriceStep(1_200, 900), PriceStep(1_500, 800)),
            ),
        ),
    )


@pytest.mark.parametrize("word", WORDS)
def test_every_word_of_the_header_is_reached(shard: LuaShard, word: str) -> None:
    assert WORDS[word](shard) == word


def test_the_words_of_the_header_are_those_that_are_tested() -> None:
    assert read_header("load_sale").words == [set(WORDS)]


class Recorded:
    def __init__(self, word: str) -> None:
        self.word = word
        self.keys: list[str] = []
        self.args: list[Any] = []

    def named(self, name: str) -> "Recorded":
        return self

    async def __call__(self, keys: list[str], args: list[Any]) -> Any:
        self.keys, self.args = keys, args
        return self.word.encode()


@pytest.mark.parametrize("word", WORDS)
async def test_the_binding_takes_every_word_and_passes_what_the_header_names(word: str) -> None:
    scripts: Any = Recorded(word)
    client: Any = None
    hot = HotShard(shard=3, client=client, scripts=scripts)
    if word == "epoch":
        with pytest.raises(ShardClosed):
            await hot.load_sale(sale())
    else:
        await hot.load_sale(sale())
    header = read_header("load_sale")
    assert len(scripts.keys) == header.keys
    assert len(scripts.args) == header.args


async def test_a_sale_of_the_ledger_is_given_as_it_stands(shard: LuaShard, valkey_url: str) -> None:
    client = connect(valkey_url, max_connections=1)
    hot = HotShard(shard=3, client=client, scripts=Scripts(client))
    hot.enter_epoch(1, 0)
    await hot.load_sale(sale(sale_no=8))
    counts = await hot.counts(sale(sale_no=8))
    assert await hot.counts(sale(sale_no=99)) is None
    assert await hot.counts_of([sale(sale_no=99), sale(sale_no=8)]) == [None, counts]
    await client.aclose()
    assert shard.sale(8) == {
        "hold": "paused",
        "opens_at": "1000",
        "closes_at": "2000",
        "1:price": "1900",
        "1:limit": "2",
        "1:stock": "10",
        "1:left": "10",
        "1:held": "0",
        "2:price": "0",
        "2:limit": "1",
        "2:stock": "0",
        "2:left": "0",
        "2:held": "0",
        "2:floor": "700",
        "2:plan": "1200:900;1500:800",
    }
    assert counts is not None
    assert [(each.item_no, each.stock, each.left, each.held) for each in counts.values()] == [
        (1, 10, 10, 0),
        (2, 0, 0, 0),
    ]


def test_a_sale_that_is_there_is_left_as_it_is(shard: LuaShard) -> None:
    shard.place(order(quantity=2))
    shard.act("pause")
    before = shard.everything()
    assert shard.load([(1, 5, 5, 500)]) == "there"
    assert shard.everything() == before


@pytest.mark.parametrize("why", ["another epoch", "shut", "empty"])
def test_a_shard_that_is_not_open_in_this_epoch_is_given_nothing(new_shard: LuaShard, why: str) -> None:
    if why != "empty":
        new_shard.open()
    if why == "shut":
        new_shard.valkey.hset(new_shard.keys.shard, "open", 0)
    before = new_shard.everything()
    assert new_shard.load(epoch=2 if why == "another epoch" else 1) == "epoch"
    assert new_shard.everything() == before


def test_the_largest_sale_fits_with_exact_numbers(shard: LuaShard) -> None:
    plan = plan_text([PriceStep(at, MAX_PRICE_MINOR) for at in range(MAX_PRICE_STEPS)])
    full = (MAX_PRICE_MINOR, MAX_STOCK, MAX_STOCK, MAX_PRICE_MINOR, plan)
    assert shard.load([(no, *full) for no in range(1, MAX_ITEMS + 1)], sale_no=8) == "loaded"
    stored = shard.sale(8)
    assert len(stored) == 3 + 7 * MAX_ITEMS
    assert stored[f"{MAX_ITEMS}:price"] == str(MAX_PRICE_MINOR)
    assert stored[f"{MAX_ITEMS}:left"] == stored[f"{MAX_ITEMS}:stock"] == str(MAX_STOCK)


def test_the_shard_of_the_wrong_type_is_an_error_before_any_write(new_shard: LuaShard) -> None:
    new_shard.valkey.set(new_shard.keys.shard, "no hash")
    before = new_shard.everything()
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        new_shard.load(opens_in_ms=-MINUTE_MS)
    assert new_shard.everything() == before
