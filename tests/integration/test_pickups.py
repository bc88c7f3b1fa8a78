"""Pickups in a real ledger: the payment itself gives the code, and one of many tills redeems it."""

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.domain.drafts import Effect
from gateway.domain.pickup import read_code, shown_code
from gateway.domain.settle import SettleAct
from gateway.errors import AlreadyRedeemed, Conflict, KeyReused, NotFound
from gateway.ledger.pickups import LedgerPickups
from tests.support.shop_floor import SHARD, SHOP, ShopFloor, item, shop_floor

AMOUNT = 1900


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url, items=[item(stock=1000)]) as floor:
        yield floor


@pytest.fixture
def pickups(floor: ShopFloor) -> LedgerPickups:
    return LedgerPickups(floor.ledger)


def extra(**said: Any) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"))


async def confirmed(floor: ShopFloor, *extras: str) -> list[str]:
    numbers = itertools.count(1)
    requests = [floor.request(f"vw_{next(numbers)}", extra=each) for each in extras]
    orders = await floor.reserve(*requests)
    await floor.written()
    return orders


async def settle(floor: ShopFloor, do: str, *orders: str, **more: Any) -> set[str]:
    acts = [
        SettleAct(do=do, shop_no=1, order=order, sale=floor.sale.sale_no, txn=f"txn-{order}", amount=AMOUNT, **more)
        for order in orders
    ]
    return {settled.word for settled in await floor.settlement.settle(SHARD, acts)}


async def pay(floor: ShopFloor, *orders: str) -> None:
    assert await settle(floor, "pay", *orders, provider="bank", paid_at_ms=1_700_000_000_000) == {"done"}


async def code_of(floor: ShopFloor, pickups: LedgerPickups, order: str) -> str:
    return (await pickups.by_order([(floor.sale.sale_no, order)]))[order].code


def till(name: str = "till-1", key: str = "k1", fingerprint: str = "f") -> Effect:
    return Effect(name, "redeem", key, fingerprint)


async def test_a_paid_order_that_is_to_be_picked_up_has_a_code_and_others_have_none(
    floor: ShopFloor, pickups: LedgerPickups
) -> None:
    extras = [
        extra(pickup=True),
        extra(pickup="Front desk"),
        # What jsonb would not read, and a payment must not fail for.
        r'{"meta":{"note":"\u0000 \\u0000"},"pickup":true}',
        "",
        extra(meta={"pickup": True}),
        extra(meta='","pickup":true'),
        'not json, but it says "pickup":true',
    ]
    orders = await confirmed(floor, *extras)
    at = [(floor.sale.sale_no, order) for order in orders]
    assert await pickups.by_order(at) == {}
    await pay(floor, *orders)
    found = await pickups.by_order(at)
    assert set(found) == set(orders[:3])
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{10}", pickup.code) for pickup in found.values())
    assert {pickup.redeemed_at_ms for pickup in found.values()} == {None}


async def test_codes_are_drawn_from_the_whole_alphabet_and_none_comes_twice(
    floor: ShopFloor, pickups: LedgerPickups
) -> None:
    orders = await confirmed(floor, *[extra(pickup=True)] * 400)
    await pay(floor, *orders)
    codes = [pickup.code for pickup in (await pickups.by_order([(floor.sale.sale_no, one) for one in orders])).values()]
    assert len(set(codes)) == 400
    # Were a place fixed, or drawn from fewer characters, the chance to see as many at it would be nothing.
    assert all(len({code[place] for code in codes}) >= 30 for place in range(10))


async def test_a_code_that_is_taken_is_drawn_again(floor: ShopFloor, pickups: LedgerPickups) -> None:
    first, second = await confirmed(floor, extra(pickup=True), extra(pickup=True))
    await pay(floor, first)
    taken = await code_of(floor, pickups, first)
    # Draws the code that there is, and only then another one.
    await floor.ledger.execute("CREATE SEQUENCE draws")
    await floor.ledger.execute(
        "CREATE OR REPLACE FUNCTION pickup_code() RETURNS text LANGUAGE sql VOLATILE AS "
        f"$$ SELECT CASE WHEN nextval('draws') < 3 THEN '{taken}' ELSE '0123456789' END $$"
    )
    await pay(floor, second)
    assert await code_of(floor, pickups, second) == "0123456789"


async def test_late_money_that_brings_an_order_back_gives_it_its_code(floor: ShopFloor, pickups: LedgerPickups) -> None:
    (order,) = await confirmed(floor, extra(pickup=True))
    await floor.ledger.execute(
        "UPDATE orders SET confirmed_at = confirmed_at - interval '1 hour', pay_by = pay_by - interval '1 hour'"
    )
    await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '1 hour'")
    await floor.deadlines.sweep(SHARD)
    await floor.give_back.drain(SHARD)
    await settle(floor, "pay", order, provider="bank", paid_at_ms=1_700_000_000_000)
    await floor.late.settle(SHARD)
    await floor.written()
    assert await floor.statuses() == ["paid"]
    assert read_code(await code_of(floor, pickups, order)) is not None


async def test_twenty_tills_at_once_redeem_a_code_once(floor: ShopFloor, pickups: LedgerPickups) -> None:
    (order,) = await confirmed(floor, extra(pickup=True))
    await pay(floor, order)
    code = await code_of(floor, pickups, order)
    outcomes = await asyncio.gather(
        *(pickups.redeem(SHOP, code, order, till(f"till-{number}", f"k{number}")) for number in range(20)),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, AlreadyRedeemed)]
    assert (outcomes.count(False), len(refused)) == (1, 19)
    pickup = (await pickups.by_order([(floor.sale.sale_no, order)]))[order]
    assert {error.at_ms for error in refused} == {pickup.redeemed_at_ms}
    winner = outcomes.index(False)
    assert pickup.redeemed_by == f"till-{winner}"
    # Its own key is told so again; the others' keys hold nothing.
    assert await pickups.redeem(SHOP, code, order, till(f"till-{winner}", f"k{winner}")) is True
    assert await floor.ledger.fetchval("SELECT count(*) FROM effects WHERE kind = 'redeem'") == 1


async def test_twenty_repeats_of_one_key_at_once_are_one_redeem(floor: ShopFloor, pickups: LedgerPickups) -> None:
    (order,) = await confirmed(floor, extra(pickup=True))
    await pay(floor, order)
    code = await code_of(floor, pickups, order)
    outcomes = await asyncio.gather(*(pickups.redeem(SHOP, code, order, till()) for _ in range(20)))
    assert sorted(outcomes) == [False] + [True] * 19


async def test_a_key_that_redeemed_another_code_is_refused(floor: ShopFloor, pickups: LedgerPickups) -> None:
    orders = await confirmed(floor, extra(pickup=True), extra(pickup=True))
    await pay(floor, *orders)
    codes = [await code_of(floor, pickups, order) for order in orders]
    await pickups.redeem(SHOP, codes[0], orders[0], till(fingerprint=codes[0]))
    with pytest.raises(KeyReused):
        await pickups.redeem(SHOP, codes[1], orders[1], till(fingerprint=codes[1]))
    assert await pickups.redeem(SHOP, codes[1], orders[1], till(key="k2", fingerprint=codes[1])) is False


async def test_an_order_that_was_refunded_is_handed_to_nobody(floor: ShopFloor, pickups: LedgerPickups) -> None:
    (order,) = await confirmed(floor, extra(pickup=True))
    await pay(floor, order)
    code = await code_of(floor, pickups, order)
    assert await settle(floor, "refund", order, provider="bank") == {"done"}
    with pytest.raises(Conflict, match="refunded"):
        await pickups.redeem(SHOP, code, order, till())
    assert await floor.ledger.fetchval("SELECT count(*) FROM effects WHERE kind = 'redeem'") == 0


async def test_a_refund_and_a_redeem_in_the_same_moment_come_one_after_the_other(
    floor: ShopFloor, pickups: LedgerPickups
) -> None:
    orders = await confirmed(floor, *[extra(pickup=True)] * 10)
    await pay(floor, *orders)
    for number, order in enumerate(orders):
        code = await code_of(floor, pickups, order)
        redeemed, words = await asyncio.gather(
            pickups.redeem(SHOP, code, order, till(key=f"k{number}")),
            settle(floor, "refund", order, provider="bank"),
            return_exceptions=True,
        )
        assert words == {"done"}
        assert redeemed is False or isinstance(redeemed, Conflict)


async def test_a_code_is_found_in_its_own_shop_only(floor: ShopFloor, pickups: LedgerPickups) -> None:
    (order,) = await confirmed(floor, extra(pickup=True))
    await pay(floor, order)
    code = await code_of(floor, pickups, order)
    found = await pickups.find(SHOP, code)
    assert found is not None and (found.order, found.room) == (order, None)
    assert await pickups.find("cups", code) is None
    assert await pickups.find(SHOP, "0000000000") is None
    with pytest.raises(NotFound):
        await pickups.redeem("cups", code, order, till())
    assert shown_code(code) == f"{code[:5]}-{code[5:]}"
