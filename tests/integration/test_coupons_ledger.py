"""Coupons in the ledger: made, claimed, redeemed, given back; also when Valkey was wrong."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.domain.acts import Act
from gateway.domain.batch import ClaimColumns, ClaimsNamed, OrderColumns, Place
from gateway.domain.coupon import ClaimState, CouponKind, CouponState
from gateway.domain.drafts import CouponDraft, Effect
from gateway.domain.order import OrderAnswer, OrderOutcome
from gateway.domain.sale import PriceStep
from gateway.domain.settle import SettleAct, Settled
from gateway.errors import Invalid, KeyReused, LeaseLost, NotFound
from gateway.ledger.batches import LedgerBatches
from gateway.ledger.shops import Shops
from gateway.wire import bus
from tests.support.couponing import (
    OFF,
    ask,
    claim,
    claim_rows,
    claim_states,
    claimed,
    claims_in_valkey,
    coupon_counts,
    coupon_stands_as_the_ledger,
    left_in_valkey,
    make_coupon,
    redeeming,
)
from tests.support.shop_floor import HOUR_MS, SHARD, SHOP, ShopFloor, item, make_sale, shop_floor

PRICE = 1900


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    items = [item("tin", stock=10, limit=3), item("box", price=500, stock=1_000, limit=1_000)]
    async with shop_floor(database_url, valkey_url, items=items) as floor:
        yield floor


def draft(**more: Any) -> CouponDraft:
    facts: dict[str, Any] = {
        "title": "Off",
        "kind": CouponKind.AMOUNT,
        "copies": 5,
        "limit_per_viewer": 1,
        "valid_until_ms": 4_000_000_000_000,
        "value_minor": 100,
    }
    return CouponDraft(**{**facts, **more})


def asked(key: str, content: str = "f") -> Effect:
    return Effect("host_1", "coupon", key, content)


def told_claims(floor: ShopFloor) -> dict[str, tuple[str, str]]:
    """By claim and in the order told, (state, reason) of the last one."""
    return {
        told.claim: (told.state, told.reason)
        for message in floor.heard.messages
        if isinstance(message, bus.Applied | bus.LaterStates)
        for group in bus.decode_shops(message.shops)
        for told in group.claims
    }


async def settle(floor: ShopFloor, do: str, order: str, **more: Any) -> Settled:
    act = SettleAct(do=do, shop_no=1, order=order, sale=floor.sale.sale_no, **more)
    return (await floor.settlement.settle(SHARD, [act]))[0]


async def pay(floor: ShopFloor, order: str, *, amount: int = PRICE - OFF, txn: str = "t") -> Settled:
    return await settle(floor, "pay", order, provider="bank", txn=txn, amount=amount, paid_at_ms=1, keep=True)


async def expire(floor: ShopFloor) -> None:
    """The deadline of every confirmed order passes."""
    await floor.ledger.execute(
        "UPDATE orders SET confirmed_at = confirmed_at - interval '9 hours', pay_by = pay_by - interval '9 hours'"
    )
    await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '9 hours'")
    assert await floor.deadlines.sweep(SHARD) > 0


async def redeemed(floor: ShopFloor, viewer: str = "vw_1", **more: Any) -> tuple[Any, str, str]:
    """A coupon, a claim of it, and the confirmed order that redeems it."""
    coupon = await make_coupon(floor, **more)
    (claim_id,) = await claimed(floor, coupon, viewer)
    (order,) = await floor.reserve(redeeming(floor, viewer, claim_id))
    await floor.written()
    assert await claim_states(floor) == ["redeemed"]
    return coupon, claim_id, order


# Made and read.


async def test_a_coupon_comes_back_as_it_was_asked_for(floor: ShopFloor) -> None:
    wanted = draft(
        kind=CouponKind.RANDOM,
        value_minor=0,
        min_minor=1,
        max_minor=9,
        budget_minor=20,
        threshold_minor=7,
        claim_from_ms=1_000,
        claim_until_ms=2_000,
        sales=(floor.sale.sale,),
    )
    coupon, replayed, loaded = await floor.coupons.create(SHOP, wanted, asked("k"))
    assert (replayed, loaded) == (False, False)
    assert floor.mint.read_coupon(coupon.coupon) == coupon.coupon_no
    assert (coupon.kind, coupon.min_minor, coupon.max_minor, coupon.budget_minor) == (CouponKind.RANDOM, 1, 9, 20)
    assert (coupon.threshold_minor, coupon.copies, coupon.limit_per_viewer) == (7, 5, 1)
    assert (coupon.claim_from_ms, coupon.claim_until_ms, coupon.valid_until_ms) == (1_000, 2_000, 4_000_000_000_000)
    assert (coupon.sales, coupon.currency, coupon.shard) == ((floor.sale.sale_no,), "EUR", SHARD)
    assert await floor.coupons.find(coupon.coupon_no) == coupon
    assert await floor.coupons.find(10**9) is None


async def test_a_coupon_is_claimable_as_long_as_it_is_valid_unless_said_otherwise(floor: ShopFloor) -> None:
    coupon = (await floor.coupons.create(SHOP, draft(), asked("k"))).coupon
    assert coupon.claim_until_ms == coupon.valid_until_ms
    assert coupon.claim_from_ms is None and coupon.state_at(1) is CouponState.SCHEDULED


async def test_the_same_key_gives_the_same_coupon_and_other_content_is_refused(floor: ShopFloor) -> None:
    first, second = await asyncio.gather(*(floor.coupons.create(SHOP, draft(), asked("k")) for _ in range(2)))
    assert first.coupon == second.coupon
    assert sorted([first.replayed, second.replayed]) == [False, True]
    with pytest.raises(KeyReused):
        await floor.coupons.create(SHOP, draft(), asked("k", "other"))
    assert await floor.coupons.of_shop(SHOP, limit=10) == [first.coupon]


async def test_a_coupon_is_in_the_currency_of_its_sales_else_of_the_newest_sale_else_of_none(floor: ShopFloor) -> None:
    async with Shops.connect(floor.database_url) as shops:
        await shops.create("cups")
    assert (await floor.coupons.create(SHOP, draft(currency="USD"), asked("given"))).coupon.currency == "USD"
    assert (await floor.coupons.create(SHOP, draft(), asked("newest"))).coupon.currency == "EUR"
    with pytest.raises(Invalid) as refused:
        await floor.coupons.create("cups", draft(), asked("none"))
    assert refused.value.param == "currency"
    with pytest.raises(Invalid):
        await floor.coupons.create(SHOP, draft(currency="USD", sales=(floor.sale.sale,)), asked("other"))


async def test_a_coupon_is_bound_to_sales_and_made_for_a_room_of_its_own_shop_only(floor: ShopFloor) -> None:
    for more in ({"sales": ("sale_none",)}, {"room": "room_none"}):
        with pytest.raises(NotFound):
            await floor.coupons.create(SHOP, draft(**more), asked("k"))
    assert await floor.coupons.of_shop(SHOP, limit=10) == []
    assert not (await floor.coupons.create(SHOP, draft(), asked("k"))).replayed, "the key is free"


async def test_coupons_are_listed_newest_first_behind_a_cursor(floor: ShopFloor) -> None:
    made = [(await floor.coupons.create(SHOP, draft(), asked(f"k{at}"))).coupon for at in range(4)]
    assert await floor.coupons.of_shop(SHOP, limit=2) == made[:1:-1]
    assert await floor.coupons.of_shop(SHOP, limit=9, after=made[2].coupon_no) == made[1::-1]
    assert await floor.coupons.of_shop(SHOP, limit=9, only_rooms={"room_x"}) == []
    numbers = [made[3].coupon_no, 10**9, made[0].coupon_no]
    assert await floor.coupons.find_many(numbers) == [made[3], made[0]]


async def test_valkey_is_given_each_coupon_once_by_the_keeper(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor, load=False)
    await make_coupon(floor, key="over", valid_for_ms=-1, opens_in_ms=-HOUR_MS, load=False)
    assert await floor.coupons.unloaded(SHARD, 1) == [coupon]
    await floor.keeper.step()
    assert await floor.coupons.unloaded(SHARD, 1) == [] == await floor.coupons.unloaded(SHARD, 2)
    assert await floor.coupons.is_loaded(coupon.coupon_no)
    await claim(floor, coupon, "vw_1")
    await floor.keeper.step()
    assert await left_in_valkey(floor, coupon) == (9, 0)


# Claimed.


async def test_claims_of_the_stream_become_rows_and_are_told(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    ids = await claim(floor, coupon, "vw_1", "vw_2")
    await floor.reserve(floor.request("vw_3"))
    ids += await claim(floor, coupon, "vw_1", key="c2")
    await floor.written()
    assert await claim_rows(floor) == [
        (1, "confirmed", None, "c1"),
        (2, "confirmed", None, "c1"),
        (4, "confirmed", None, "c2"),
    ]
    assert await floor.statuses() == ["confirmed"]
    assert told_claims(floor) == dict.fromkeys(ids, ("confirmed", ""))
    assert await coupon_counts(floor, coupon) == (3, 0, 0)
    assert await left_in_valkey(floor, coupon) == (7, 0)
    await coupon_stands_as_the_ledger(floor, coupon)
    places = [(coupon.coupon_no, claim_id) for claim_id in ids]
    found = await floor.coupons.claims_by_place([*places, (coupon.coupon_no, "clm_none")])
    assert list(found) == ids
    one = found[ids[0]]
    assert (one.viewer, one.key, one.value_minor, one.state) == ("vw_1", "c1", OFF, ClaimState.CONFIRMED)
    key = ("vw_1", coupon.coupon_no, "c2")
    assert (await floor.coupons.claims_by_keys([key, ("vw_9", coupon.coupon_no, "c1")])) == {key: found[ids[2]]}
    assert [each.claim for each in await floor.coupons.claims_of_viewer(SHOP, "vw_1", limit=9)] == [ids[2], ids[0]]
    assert await floor.coupons.claims_of_viewer(SHOP, "vw_1", limit=9, after=ids[0]) == []
    assert await floor.coupons.claims_of_viewer("cups", "vw_1", limit=9) == []
    assert [
        each.claim for each in await floor.coupons.claims_of_coupon(coupon.coupon_no, limit=9, after=(1, 1))
    ] == ids[1:]


async def test_the_values_of_a_budget_are_spent_and_each_is_kept(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor, CouponKind.RANDOM)
    await claimed(floor, coupon, *(f"vw_{at}" for at in range(10)))
    values = [row["value_minor"] for row in await floor.ledger.fetch("SELECT value_minor FROM claims")]
    assert all(100 <= value <= 900 for value in values) and sum(values) <= 3_000
    assert await coupon_counts(floor, coupon) == (10, 0, sum(values))
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_a_claim_that_the_ledger_has_passed_over_is_lost(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    (there,) = await claimed(floor, coupon, "vw_1")
    never = floor.mint.claim(1, coupon.coupon_no, 1, 1)
    late = floor.mint.claim(1, coupon.coupon_no, 1, 9)
    (first, *_), seq = [floor.mint.read_claim(each) for each in (there, never, late)], 1
    assert first is not None and first.seq == seq
    await floor.ledger.execute("UPDATE claims SET seq = 77")
    ids = [never, late]
    places = [place for each in ids if (place := floor.mint.read_claim(each)) is not None]
    assert await floor.coupons.lost_claims(places, ids) == {never}


# The ledger judges claims again, also when Valkey was wrong.


async def spoil(floor: ShopFloor, wrong: str) -> tuple[Any, str]:
    """Makes Valkey wrong in one way; the claim it then gives wrongly is that of vw_1."""
    kind = CouponKind.RANDOM if wrong in ("value", "budget") else CouponKind.AMOUNT
    coupon = await make_coupon(floor, kind, copies=3, limit_per_viewer=1)
    key = floor.keys.coupon(coupon.coupon_no)
    match wrong:
        case "copies":
            await floor.client.hset(key, "left", "9")
            await claim(floor, coupon, "vw_2", "vw_3", "vw_4")
        case "limit":
            await floor.client.hset(key, "limit", "9")
            await claim(floor, coupon, "vw_1", key="c0")
        case "key":
            await claim(floor, coupon, "vw_1")
            await floor.client.hdel(floor.keys.coupon_answers(coupon.coupon_no), "vw_1|c1")
            await floor.client.hset(key, "limit", "9")
        case "window":
            await floor.ledger.execute("UPDATE coupons SET claim_until_ms = claim_from_ms + 1")
        case "unopened":
            await floor.ledger.execute("UPDATE coupons SET claim_from_ms = NULL")
        case "value":
            await floor.client.hset(key, mapping={"min": "901", "max": "901"})
        case "budget":
            await floor.ledger.execute("UPDATE coupons SET budget_minor = 301")
            await floor.client.hset(key, mapping={"min": "500", "max": "500"})
        case "fixed":
            await floor.client.hset(key, "value", "501")
    return coupon, (await claim(floor, coupon, "vw_1"))[0]


@pytest.mark.parametrize("wrong", ["copies", "limit", "key", "window", "unopened", "value", "budget", "fixed"])
async def test_what_valkey_gave_wrongly_is_refused_with_its_reason_and_given_back_once(
    floor: ShopFloor, wrong: str
) -> None:
    coupon, claim_id = await spoil(floor, wrong)
    left, budget_left = await left_in_valkey(floor, coupon)
    with capture_logs() as logs:
        await floor.written()
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["ledger_refused_claims"]
    rows = await claim_rows(floor)
    reason = {"unopened": "window", "fixed": "value"}.get(wrong, wrong)
    assert rows[-1] == (len(rows), "refused", reason, None)
    assert {row[1] for row in rows[:-1]} <= {"confirmed"}
    assert (await coupon_counts(floor, coupon))[0] == len(rows) - 1
    assert told_claims(floor)[claim_id] == ("refused", "ledger")
    found = (await floor.coupons.claims_by_place([(coupon.coupon_no, claim_id)]))[claim_id]
    assert (found.state, found.reason, found.key) == (ClaimState.REFUSED, "ledger", None)
    value = found.value_minor if coupon.kind is CouponKind.RANDOM else 0
    for _ in range(3):
        await floor.give_back.drain(SHARD)
        assert await left_in_valkey(floor, coupon) == (left + 1, budget_left + value)
    assert floor.recopied == [coupon.coupon_no], "its room hears what is left"
    assert await floor.outbox.pending(SHARD, limit=10) == []
    held, _ = await floor.hot_coupons.held(coupon.coupon_no, [("vw_1", "c1")])
    assert held == [None] or wrong == "key", "the key is free again"


async def test_in_one_batch_only_the_claims_beyond_the_copies_are_refused_in_their_order(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor, copies=3)
    other = await make_coupon(floor, key="other")
    await floor.client.hset(floor.keys.coupon(coupon.coupon_no), "left", "9")
    await claim(floor, coupon, *(f"vw_{at}" for at in range(5)))
    await claim(floor, other, "vw_1")
    await floor.written()
    assert await claim_states(floor) == ["confirmed"] * 3 + ["refused"] * 2 + ["confirmed"]
    assert [(row.no, row.kind, row.seq) for row in await floor.outbox.pending(SHARD, limit=9)] == [
        (1, "unclaim", 4),
        (2, "unclaim", 5),
    ]
    await floor.give_back.drain(SHARD)
    assert await floor.client.hlen(floor.keys.coupon_claims(coupon.coupon_no)) == 3


async def test_a_viewers_limit_holds_over_the_claims_of_one_batch(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    await floor.client.hset(floor.keys.coupon(coupon.coupon_no), "limit", "9")
    answers = await ask(floor, coupon, *(("vw_1", f"c{at}") for at in range(4)), ("vw_2", "c1"))
    assert len(answers) == 5
    await floor.written()
    assert await claim_states(floor) == ["confirmed", "confirmed", "refused", "refused", "confirmed"]
    assert await floor.ledger.fetchval("SELECT claims FROM coupon_holdings WHERE viewer = 'vw_1'") == 2


async def test_a_key_given_twice_in_one_batch_is_one_claim(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    await forge_claims(floor, coupon.coupon_no, ["vw_1", "c1", OFF], ["vw_1", "c1", OFF], ["vw_2", "c1", OFF])
    await floor.written()
    assert await claim_rows(floor) == [
        (1, "confirmed", None, "c1"),
        (2, "refused", "key", None),
        (3, "confirmed", None, "c1"),
    ]


async def forge_claims(floor: ShopFloor, coupon_no: int, *rows: list[Any], at_ms: int | None = None) -> None:
    """Claims no script would give, as a Valkey gone wrong might hold them: [viewer, key, value]."""
    seq = (await floor.seq())[1]
    at_ms = await floor.now_ms() if at_ms is None else at_ms
    await floor.forge(["claims", coupon_no, at_ms, seq + 1, list(rows)], last=seq + len(rows))


async def test_claims_of_nothing_the_ledger_knows_are_refused_and_the_others_are_confirmed(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    await forge_claims(floor, coupon.coupon_no, ["vw_1", "c1", OFF])
    await forge_claims(floor, 99, ["vw_2", "c1", OFF])
    await floor.written()
    assert [row[1:3] for row in await claim_rows(floor)] == [("confirmed", None), ("refused", "unknown_coupon")]
    await floor.give_back.drain(SHARD)
    assert await floor.outbox.pending(SHARD, limit=9) == []


@pytest.mark.parametrize(
    "poison", [["vw\x00x", "c1", OFF], ["vw_x", "c\x00", OFF], ["vw_x", "c1", -1], ["vw_x", "c1", 2**63]]
)
async def test_one_poisoned_claim_is_parked_or_refused_and_the_others_of_its_batch_are_confirmed(
    floor: ShopFloor, poison: list[Any]
) -> None:
    coupon = await make_coupon(floor)
    rows: list[list[Any]] = [[f"vw_{at}", "c1", OFF] for at in range(8)]
    rows[5] = poison
    await forge_claims(floor, coupon.coupon_no, *rows)
    with capture_logs() as logs:
        async with floor.writing():
            await floor.applied(8, within_s=5)
    assert [row[0] for row in await claim_rows(floor) if row[1] == "confirmed"] == [1, 2, 3, 4, 5, 7, 8]
    assert (await coupon_counts(floor, coupon))[0] == 7
    assert await floor.parked() == [(6, 6)]
    assert [each["seq"] for each in logs if each["event"] == "claim_parked"] == [6]


async def test_a_parked_claim_is_given_back_and_told_as_refused(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    ids = await claim(floor, coupon, "vw_1", "vw_2", "vw_3")
    await floor.ledger.execute("ALTER TABLE claims ADD CHECK (viewer <> 'vw_2' OR state = 'refused')")
    await floor.written()
    assert await floor.parked() == [(2, 2)]
    assert [row[1:3] for row in await claim_rows(floor)] == [
        ("confirmed", None),
        ("refused", "data"),
        ("confirmed", None),
    ]
    assert told_claims(floor)[ids[1]] == ("refused", "ledger")
    assert (await floor.shards.standing(SHARD)).wants is None, "its copy comes back by the outbox"
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_a_batch_of_claims_from_an_old_cursor_changes_nothing(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    ledger = LedgerBatches(floor.database_url)
    lease = await ledger.take_lease(SHARD, holder="writer_1", for_s=30)
    assert lease is not None
    at_ms = await floor.now_ms()
    columns = ClaimColumns([1], [coupon.coupon_no], ["clm_1"], ["vw_1"], ["c1"], [OFF], [at_ms])
    first = Place(SHARD, 1, 0, 1, lease.token)
    assert await ledger.apply_claims(first, columns) == {}
    for place in (first, Place(SHARD, 1, 2, 3, lease.token), Place(SHARD, 2, 1, 2, lease.token)):
        with pytest.raises(LeaseLost):
            await ledger.apply_claims(place, columns)
    await ledger.close()
    assert await claim_states(floor) == ["confirmed"]
    assert (await coupon_counts(floor, coupon))[0] == 1


# Drops.


async def test_a_drop_opens_the_claim_in_the_ledger_too_and_its_claims_are_judged_behind_it(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor, opens_in_ms=None)
    room_no = await floor.ledger.fetchval(
        "INSERT INTO rooms (shop_no, title, created_at_ms) VALUES (1, 'Show', 1) RETURNING room_no"
    )
    done = await floor.hot_coupons.drop(
        coupon.coupon_no, room_no=room_no, for_ms=60_000, actor="host_1", key="d1", fingerprint="f", shop=SHOP
    )
    await claim(floor, coupon, "vw_1")
    await floor.written()
    assert await claim_states(floor) == ["confirmed"]
    now = await floor.coupons.find(coupon.coupon_no)
    assert now is not None and now.claim_from_ms is not None
    assert now.claim_until_ms == done.claim_until_ms
    (drop,) = await floor.coupons.drops(coupon.coupon_no)
    assert (drop.seq, drop.actor, drop.before) == (1, "host_1", f" {coupon.claim_until_ms}")
    assert drop.after == f"{drop.at_ms} {done.claim_until_ms}"
    assert await floor.ledger.fetchval("SELECT object FROM effects WHERE key = 'd1'") == coupon.coupon
    assert await floor.coupons.of_room(room_no) == [now]
    assert not await floor.coupons.was_refused(shard=SHARD, epoch=1, seq=1, coupon_no=coupon.coupon_no)
    await coupon_stands_as_the_ledger(floor, coupon)


@pytest.mark.parametrize("wrong", ["past its validity", "a key that has had its effect", "a room of another shop"])
async def test_a_drop_that_the_ledger_cannot_take_is_kept_without_effect_and_the_shard_is_recounted(
    floor: ShopFloor, wrong: str
) -> None:
    await floor.keeper.step()
    coupon = await make_coupon(floor, opens_in_ms=None)
    at_ms, until_ms, room_no = await floor.now_ms(), coupon.valid_until_ms, 0
    if wrong == "past its validity":
        until_ms += 1
    elif wrong == "a room of another shop":
        async with Shops.connect(floor.database_url) as shops:
            await shops.create("cups")
        room_no = await floor.ledger.fetchval(
            "INSERT INTO rooms (shop_no, title, created_at_ms) VALUES (2, 'Show', 1) RETURNING room_no"
        )
    else:
        await floor.ledger.execute("INSERT INTO effects VALUES (1, 'host', 'drop', 'd1', 'f', 'cpn_x')")
    await floor.forge(
        ["coupon_act", coupon.coupon_no, at_ms, 1, "drop", room_no, until_ms, "host", "drop", "d1", "f"], last=1
    )
    with capture_logs() as logs:
        await floor.written()
    assert [each["coupon_no"] for each in logs if each["event"] == "act_without_effect"] == [coupon.coupon_no]
    assert await floor.coupons.find(coupon.coupon_no) == coupon
    assert await floor.coupons.was_refused(shard=SHARD, epoch=1, seq=1, coupon_no=coupon.coupon_no)
    assert (await floor.shards.standing(SHARD)).wants == "act"
    async with floor.writing():
        await floor.keeper.step()
    await coupon_stands_as_the_ledger(floor, coupon)


# Redeemed.


async def test_an_order_redeems_its_claim_and_costs_less(floor: ShopFloor) -> None:
    coupon, claim_id, order_id = await redeemed(floor)
    order = (await floor.ledger_orders.by_place([(floor.sale.sale_no, order_id)]))[order_id]
    assert (order.price_minor, order.discount_minor, order.amount_minor) == (PRICE, OFF, PRICE - OFF)
    assert order.claim == claim_id
    found = (await floor.coupons.claims_by_place([(coupon.coupon_no, claim_id)]))[claim_id]
    assert (found.state, found.sale_no, found.order) == (ClaimState.REDEEMED, floor.sale.sale_no, order_id)
    assert told_claims(floor)[claim_id] == ("redeemed", "")
    assert await coupon_counts(floor, coupon) == (1, 1, 0)
    await coupon_stands_as_the_ledger(floor, coupon)
    (again,) = await floor.place(redeeming(floor, "vw_1", claim_id))
    assert isinstance(again, OrderAnswer) and again.replayed and again.amount_minor == PRICE - OFF
    held = await floor.ledger_orders.held_keys([("vw_1", floor.sale.sale_no, "k1")])
    assert [each.discount_minor for each in held.values()] == [OFF]
    assert (await pay(floor, order_id)).status == "paid"
    assert await claim_states(floor) == ["redeemed"]
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)


@pytest.mark.parametrize(
    ("kind", "more", "quantity", "off"),
    [
        (CouponKind.PERCENT, {"percent": 33}, 1, 627),
        (CouponKind.PERCENT, {"percent": 99}, 3, 5643),
        (CouponKind.AMOUNT, {"value_minor": 9_000}, 1, PRICE - 1),
        (CouponKind.AMOUNT, {"value_minor": 9_000}, 2, 2 * PRICE - 1),
        (CouponKind.AMOUNT, {"threshold_minor": 2 * PRICE}, 2, OFF),
    ],
)
async def test_the_ledger_comes_to_the_same_discount_as_the_script(
    floor: ShopFloor, kind: CouponKind, more: dict[str, Any], quantity: int, off: int
) -> None:
    coupon = await make_coupon(floor, kind, **more)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    await floor.reserve(redeeming(floor, "vw_1", claim_id, quantity=quantity))
    await floor.written()
    assert await floor.statuses() == ["confirmed"]
    assert await floor.ledger.fetchval("SELECT discount_minor FROM orders") == off


async def test_nothing_is_sold_under_its_floor(floor: ShopFloor) -> None:
    floor.sale = await make_sale(floor, key="floored", items=[item_with(floor_minor=1_700)])
    coupon = await make_coupon(floor, CouponKind.RANDOM)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    await floor.client.hset(floor.keys.coupon_claims(coupon.coupon_no), mapping={"1|1": "800||vw_1"})
    await floor.ledger.execute("UPDATE claims SET value_minor = 800")
    await floor.reserve(redeeming(floor, "vw_1", claim_id, quantity=2))
    await floor.written()
    assert [tuple(row) for row in await floor.ledger.fetch("SELECT status, amount_minor FROM orders")] == [
        ("confirmed", 3_400)
    ]


def item_with(**more: Any) -> Any:
    from msgspec.structs import replace

    return replace(item("tin", stock=10, limit=3), **more)


async def test_orders_with_and_without_claims_are_judged_in_one_batch(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    ids = await claimed(floor, coupon, "vw_1", "vw_2")
    await floor.reserve(
        floor.request("vw_3"),
        redeeming(floor, "vw_1", ids[0]),
        floor.request("vw_4", item_no=2),
        redeeming(floor, "vw_2", ids[1], item_no=2, quantity=2),
    )
    ledger = floor.writer()
    ledger.stop()
    await asyncio.wait_for(ledger.run(), 20)
    await ledger.close()
    rows = await floor.ledger.fetch("SELECT viewer, amount_minor, claim FROM orders ORDER BY seq")
    assert [tuple(row) for row in rows] == [
        ("vw_3", PRICE, None),
        ("vw_1", PRICE - OFF, ids[0]),
        ("vw_4", 500, None),
        ("vw_2", 500, ids[1]),
    ]
    assert await claim_states(floor) == ["redeemed", "redeemed"]


# The ledger judges what a claim gives again, also when Valkey was wrong.

CLAIMS_WRONG = {
    "a claim in use": "UPDATE claims SET state = 'redeemed', sale_no = 1, order_id = 'ord_other'",
    "a claim of another viewer": "UPDATE claims SET viewer = 'vw_2'",
    "a claim that was refused": "UPDATE claims SET state = 'refused', reason = 'x', key = NULL, confirmed_at = NULL",
    "a claim that is not there": "DELETE FROM claims",
    "a coupon past its time": "UPDATE coupons SET claim_from_ms = 1, claim_until_ms = 2, valid_until_ms = 3",
    "another currency": "UPDATE coupons SET currency = 'USD'",
    "another value": "UPDATE coupons SET value_minor = 501",
    "under the threshold": "UPDATE coupons SET threshold_minor = 1901",
    "bound to another sale": "INSERT INTO coupon_sales VALUES (1, 2)",
    "another floor": "UPDATE sale_items SET floor_minor = 1899 WHERE item_no = 1",
    "a coupon of another shop": "UPDATE coupons SET shop_no = 2",
}


@pytest.mark.parametrize("wrong", CLAIMS_WRONG)
async def test_an_order_whose_claim_the_ledger_does_not_take_is_refused_and_both_are_given_back(
    floor: ShopFloor, wrong: str
) -> None:
    async with Shops.connect(floor.database_url) as shops:
        await shops.create("cups")
    await make_sale(floor, key="second")
    coupon = await make_coupon(floor)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    await floor.reserve(redeeming(floor, "vw_1", claim_id), floor.request("vw_5"))
    await floor.ledger.execute(CLAIMS_WRONG[wrong])
    before = await claim_states(floor)
    with capture_logs() as logs:
        await floor.written()
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["ledger_refused_orders"]
    assert [row[1:3] for row in await floor.rows()] == [("refused", "coupon"), ("confirmed", None)]
    assert await claim_states(floor) == before
    assert (await floor.held_in_ledger(), await floor.counts()) == (1, (10, 8, 2))
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (10, 9, 1)
    assert await claims_in_valkey(floor, coupon) == {"1|1": ""}, "the claim is free in Valkey"
    assert await floor.outbox.pending(SHARD, limit=9) == []


async def test_a_claim_is_redeemed_once_also_by_two_orders_of_one_batch(floor: ShopFloor) -> None:
    """A Valkey that lost the holder gives the claim twice."""
    coupon = await make_coupon(floor)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    await floor.reserve(redeeming(floor, "vw_1", claim_id, "k1"))
    await floor.client.hset(floor.keys.coupon_claims(coupon.coupon_no), "1|1", f"{OFF}||vw_1")
    await floor.reserve(redeeming(floor, "vw_1", claim_id, "k2"))
    await floor.written()
    assert [row[1:3] for row in await floor.rows()] == [("confirmed", None), ("refused", "coupon")]
    assert await claim_states(floor) == ["redeemed"]
    assert await floor.held_in_ledger() == 1


async def test_a_claim_is_redeemed_once_also_over_batches(floor: ShopFloor) -> None:
    coupon, claim_id, first = await redeemed(floor)
    await floor.client.hset(floor.keys.coupon_claims(coupon.coupon_no), "1|1", f"{OFF}||vw_1")
    await floor.reserve(redeeming(floor, "vw_1", claim_id, "k2"))
    await floor.written()
    assert [row[1:3] for row in await floor.rows()] == [("confirmed", None), ("refused", "coupon")]
    found = (await floor.coupons.claims_by_place([(coupon.coupon_no, claim_id)]))[claim_id]
    assert found.order == first
    assert told_claims(floor)[claim_id] == ("redeemed", "")


async def test_an_order_that_the_stock_refuses_leaves_its_claim_free(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "1:left", "20")
    await floor.reserve(*(floor.request(f"v{at}", quantity=2) for at in range(5)))
    await floor.reserve(redeeming(floor, "vw_1", claim_id))
    await floor.written()
    assert (await floor.rows())[-1][1:3] == ("refused", "stock")
    assert await claim_states(floor) == ["confirmed"]
    assert told_claims(floor)[claim_id] == ("confirmed", "")
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)
    await floor.reserve(redeeming(floor, "vw_1", claim_id, "k2", item_no=2, quantity=2))
    await floor.written()
    assert await claim_states(floor) == ["redeemed"]


async def test_a_discount_without_a_claim_is_refused(floor: ShopFloor) -> None:
    await floor.forge_orders([["vw_1", "k1", "f", 1, 1, PRICE, "", 100], ["vw_2", "k1", "f", 1, 1, PRICE, ""]])
    await floor.written()
    statuses = [row[1] for row in await floor.rows()]
    assert statuses[-1] == "confirmed" and "confirmed" not in statuses[:-1]
    assert await floor.held_in_ledger() == 1


async def test_a_parked_order_lets_go_of_its_claim(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    request = redeeming(floor, "vw_1", claim_id)
    request.extra = "\x00"
    await floor.reserve(request, floor.request("vw_2"))
    await floor.written()
    assert await floor.parked() == [(2, 2)]
    assert await claim_states(floor) == ["confirmed"]
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_claims_named_beside_orders_are_halved_with_them() -> None:
    columns = OrderColumns(
        seqs=[1, 2, 3], claims=ClaimsNamed([None, 5, None], [None, 7, None], [None, 1, None], [None, 9, None])
    )
    first, second = columns.part(0, 2), columns.part(2, 3)
    assert first.claims == ClaimsNamed([None, 5], [None, 7], [None, 1], [None, 9])
    assert second.claims == ClaimsNamed([None], [None], [None], [None])


# Given back.


async def test_an_order_that_expires_gives_its_claim_back(floor: ShopFloor) -> None:
    coupon, claim_id, _ = await redeemed(floor)
    await expire(floor)
    assert await claim_states(floor) == ["confirmed"]
    assert told_claims(floor)[claim_id] == ("confirmed", "")
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)
    await floor.reserve(redeeming(floor, "vw_1", claim_id, "k2"))
    await floor.written()
    assert await claim_states(floor) == ["redeemed"]


async def test_an_order_that_is_cancelled_gives_its_claim_back(floor: ShopFloor) -> None:
    coupon, claim_id, order = await redeemed(floor)
    settled = await settle(floor, "cancel", order, viewer="vw_1")
    assert (settled.status, settled.claim, settled.claim_state) == ("cancelled", claim_id, "confirmed")
    assert await claim_states(floor) == ["confirmed"]
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_an_order_that_is_refunded_gives_its_claim_back_and_one_past_its_time_is_told_so(
    floor: ShopFloor,
) -> None:
    coupon, claim_id, order = await redeemed(floor)
    assert (await pay(floor, order)).claim is None
    await floor.ledger.execute("UPDATE coupons SET claim_from_ms = 1, claim_until_ms = 2, valid_until_ms = 3")
    settled = await settle(floor, "refund", order, txn="t", amount=PRICE - OFF)
    assert (settled.status, settled.claim, settled.claim_state) == ("refunded", claim_id, "expired")
    assert await claim_states(floor) == ["confirmed"], "expired is told, not stored"
    await floor.give_back.drain(SHARD)
    assert await claims_in_valkey(floor, coupon) == {"1|1": ""}


async def test_a_claim_given_back_is_given_back_once(floor: ShopFloor) -> None:
    """The release of an order that ended long ago does not take the claim from the order that redeems it now."""
    coupon, claim_id, first = await redeemed(floor)
    await settle(floor, "cancel", first, viewer="vw_1")
    await floor.give_back.drain(SHARD)
    (second,) = await floor.reserve(redeeming(floor, "vw_1", claim_id, "k2"))
    await floor.written()
    assert (await settle(floor, "cancel", first, viewer="vw_1")).changed is False
    assert await claim_states(floor) == ["redeemed"]
    found = (await floor.coupons.claims_by_place([(coupon.coupon_no, claim_id)]))[claim_id]
    assert found.order == second
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)


# Late money.


async def test_late_money_brings_the_order_back_with_its_claim(floor: ShopFloor) -> None:
    coupon, claim_id, order = await redeemed(floor)
    await expire(floor)
    await floor.give_back.drain(SHARD)
    assert (await pay(floor, order)).status == "expired"
    for _ in range(2):
        await floor.late.settle(SHARD)
    await floor.written()
    assert await floor.statuses() == ["paid"]
    assert await claim_states(floor) == ["redeemed"]
    assert told_claims(floor)[claim_id] == ("redeemed", "")
    await coupon_stands_as_the_ledger(floor, coupon)
    assert await floor.counts() == (10, 9, 0)


async def test_late_money_waits_until_valkey_was_told_of_the_end_of_its_order(floor: ShopFloor) -> None:
    """Else the release would free a claim that the order redeems again."""
    coupon, _, order = await redeemed(floor)
    await expire(floor)
    await pay(floor, order)
    await floor.late.settle(SHARD)
    await floor.written()
    assert await floor.statuses() == ["expired"]
    await floor.give_back.drain(SHARD)
    await floor.late.settle(SHARD)
    await floor.written()
    assert await floor.statuses() == ["paid"]
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_late_money_is_to_be_refunded_when_its_claim_is_used_elsewhere(floor: ShopFloor) -> None:
    coupon, claim_id, order = await redeemed(floor)
    await expire(floor)
    await floor.give_back.drain(SHARD)
    await floor.reserve(redeeming(floor, "vw_1", claim_id, "k2"))
    await floor.written()
    await pay(floor, order)
    await floor.late.settle(SHARD)
    assert sorted(await floor.statuses()) == ["confirmed", "refund_due"]
    assert [tuple(row) for row in await floor.ledger.fetch("SELECT state, reason FROM payments")] == [
        ("refund_due", "coupon")
    ]
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_a_claim_taken_for_late_money_that_the_ledger_does_not_take_comes_back(floor: ShopFloor) -> None:
    coupon, _, order = await redeemed(floor)
    await expire(floor)
    await floor.give_back.drain(SHARD)
    await pay(floor, order)
    await floor.late.settle(SHARD)
    assert await claims_in_valkey(floor, coupon) == {"1|1": "1:2"}
    await floor.settlement.settle_late(SHARD, 1, "stock")  # as a keeper that had heard no before
    await floor.written()
    assert await floor.statuses() == ["refund_due"]
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (10, 10, 0)
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_the_ledger_refuses_late_money_whose_claim_was_used_though_valkey_gave_it(floor: ShopFloor) -> None:
    coupon, claim_id, order = await redeemed(floor)
    await expire(floor)
    await floor.give_back.drain(SHARD)
    await floor.reserve(redeeming(floor, "vw_1", claim_id, "k2"))
    await floor.written()
    await pay(floor, order)
    await floor.client.hset(floor.keys.coupon_claims(coupon.coupon_no), "1|1", f"{OFF}||vw_1")
    await floor.late.settle(SHARD)
    await floor.written()
    assert sorted(await floor.statuses()) == ["confirmed", "refund_due"]
    assert await claim_states(floor) == ["redeemed"]


# Price plans and windows.


async def test_orders_are_judged_by_the_price_of_their_instant(floor: ShopFloor) -> None:
    at_ms = await floor.now_ms()
    plan = (PriceStep(at_ms - 2_000, 900), PriceStep(at_ms - 1_000, 800), PriceStep(at_ms + HOUR_MS, 700))
    floor.sale = await make_sale(floor, key="planned", items=[item_with(prices=plan, floor_minor=700, stock=100)])
    found = await floor.sales.find(floor.sale.sale_no)
    assert found is not None and found.items[0].prices == plan
    await floor.reserve(floor.request("vw_0"))
    for viewer, price, ago_ms in (
        ("vw_1", PRICE, 3_000),
        ("vw_2", 900, 2_000),
        ("vw_3", 900, 1_001),
        ("vw_4", 800, 1_000),
    ):
        await floor.forge_orders([[viewer, "k1", "f", 1, 1, price, ""]], at_ms=at_ms - ago_ms)
    await floor.written()
    assert await floor.statuses() == ["confirmed"] * 5
    assert await floor.ledger.fetchval("SELECT price_minor FROM orders WHERE viewer = 'vw_0'") == 800
    for viewer, price, ago_ms in (("vw_5", PRICE, 2_000), ("vw_6", 800, 1_001), ("vw_7", 900, 1_000)):
        await floor.forge_orders([[viewer, "k1", "f", 1, 1, price, ""]], at_ms=at_ms - ago_ms)
    await floor.forge_orders([["vw_8", "k1", "f", 1, 1, 800, ""]])
    await floor.written()
    assert [row[1:3] for row in await floor.rows()][5:] == [("refused", "price")] * 3 + [("confirmed", None)]


async def test_a_plan_comes_and_goes_by_acts_and_a_price_ends_it(floor: ShopFloor) -> None:
    sale_no, at_ms = floor.sale.sale_no, await floor.now_ms()
    text = f"{at_ms - 5_000}:1500;{at_ms + HOUR_MS}:1000"
    await floor.control.act(sale_no, Act.PLAN, actor="host", item_no=1, text=text)
    await floor.reserve(floor.request("vw_1"))
    await floor.control.act(sale_no, Act.PLAN, actor="host", item_no=1, text="")
    await floor.reserve(floor.request("vw_2"))
    await floor.control.act(sale_no, Act.PLAN, actor="host", item_no=1, text=text)
    await floor.control.act(sale_no, Act.PRICE, actor="host", item_no=1, value=1400)
    await floor.reserve(floor.request("vw_3"))
    await floor.written()
    assert await floor.statuses() == ["confirmed"] * 3
    prices = [row["price_minor"] for row in await floor.ledger.fetch("SELECT price_minor FROM orders ORDER BY seq")]
    assert prices == [1500, PRICE, 1400]
    acts = await floor.sales.acts(sale_no)
    assert [(act.before, act.after) for act in acts] == [
        ("", text),
        (text, ""),
        ("", text),
        (f"{PRICE} {text}", "1400"),
    ]
    found = await floor.sales.find(sale_no)
    assert found is not None and (found.items[0].price_minor, found.items[0].prices) == (1400, ())


@pytest.mark.parametrize(
    ("act", "value", "text"),
    [
        ("plan", 0, "5:999"),
        ("plan", 0, "9:1500;9:1400"),
        ("plan", 0, "9:1500;8:1400"),
        ("plan", 0, f"9:{9 * 10**12 + 1}"),
        ("window", 10**12, str(10**12 + 1)),
        ("window", 5 * 10**12, str(4 * 10**12)),
    ],
)
async def test_a_plan_or_window_that_the_ledger_cannot_take_has_no_effect_and_the_shard_is_recounted(
    floor: ShopFloor, act: str, value: int, text: str
) -> None:
    await floor.ledger.execute("UPDATE sale_items SET floor_minor = 1000 WHERE item_no = 1")
    body = ["act", floor.sale.sale_no, await floor.now_ms(), 1, act, 1, value, "host", act, "", "", "", text]
    await floor.forge(body, last=1)
    await floor.written()
    (done,) = await floor.sales.acts(floor.sale.sale_no)
    assert done.after is None
    assert await floor.sales.was_refused(shard=SHARD, epoch=1, seq=1, sale_no=floor.sale.sale_no, act=Act(act))
    assert (await floor.shards.standing(SHARD)).wants == "act"


async def test_a_plan_that_is_none_is_parked(floor: ShopFloor) -> None:
    body = ["act", floor.sale.sale_no, 1, 1, "plan", 1, 0, "host", "plan", "", "", "", "soon:cheap"]
    await floor.forge(body, last=1)
    await floor.written()
    assert await floor.parked() == [(1, 1)]


async def test_a_sales_window_moves(floor: ShopFloor) -> None:
    opens_at, closes_at = floor.sale.opens_at_ms, floor.sale.closes_at_ms + HOUR_MS
    await floor.control.act(floor.sale.sale_no, Act.WINDOW, actor="host", value=opens_at, text=str(closes_at))
    await floor.forge_orders([["vw_1", "k1", "f", 1, 1, PRICE, ""]], at_ms=closes_at - 1)
    await floor.forge_orders([["vw_2", "k1", "f", 1, 1, PRICE, ""]], at_ms=closes_at)
    await floor.written()
    assert await floor.statuses() == ["confirmed", "refused"]
    (done,) = await floor.sales.acts(floor.sale.sale_no)
    assert (done.before, done.after) == (
        f"{opens_at} {floor.sale.closes_at_ms}",
        f"{opens_at} {closes_at}",
    )


async def test_an_unusable_claim_is_an_outcome_and_no_order(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    (answer,) = await floor.place(redeeming(floor, "vw_2", claim_id))
    assert isinstance(answer, OrderAnswer) and answer.outcome is OrderOutcome.COUPON_UNUSABLE
