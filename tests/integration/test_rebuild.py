import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from gateway import points
from gateway.domain.acts import Act
from gateway.domain.caller import Caller, Role
from gateway.domain.coupon import ClaimAnswer, ClaimOutcome, CouponKind
from gateway.domain.order import OrderAnswer, OrderOutcome, OrderStatus
from gateway.domain.sale import PriceStep
from gateway.domain.settle import SettleAct
from gateway.errors import HotUnavailable, KeyReused, NotFound, RebuildLost, ServerUnknown, ShardClosed
from gateway.flows.epochs import Epochs
from gateway.flows.order_watch import OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.sale_book import SaleBook
from gateway.hot.connect import KnownServers, connect, hot_errors
from gateway.hot.orders import HotOrders
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard
from gateway.keeper.rebuild import doubt, goes_on
from gateway.ledger import rebuild as ledger_rebuild
from gateway.ledger.shards import Standing
from gateway.wire import bus
from tests.support.couponing import (
    ask,
    claim,
    claim_states,
    claimed,
    claims_in_valkey,
    coupon_stands_as_the_ledger,
    left_in_valkey,
    make_coupon,
    redeeming,
)
from tests.support.moving_name import MovingName, moving_name
from tests.support.own_valkey import OwnValkey, own_valkey
from tests.support.rebuilding import (
    Died,
    another_server,
    epochs,
    hash_of,
    lost_once,
    slow_rebuilder,
    stands_as_the_ledger,
)
from tests.support.servers import eventually
from tests.support.shop_floor import SHARD, SHOP, ShopFloor, item, make_sale, shop_floor

ITEMS = [item(stock=20, limit=3), item("pot", price=500, stock=5, limit=1)]
VIEWER = Caller(shop=SHOP, sub="vw_1", role=Role.VIEWER, expires_at_s=2**31)


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url, items=ITEMS) as floor:
        await floor.keeper.step()
        yield floor


@pytest.fixture
async def valkey() -> AsyncIterator[OwnValkey]:
    async with own_valkey() as valkey:
        yield valkey


@pytest.fixture
async def own_floor(database_url: str, valkey: OwnValkey) -> AsyncIterator[ShopFloor]:
    """On a server that the test may kill."""
    async with shop_floor(database_url, valkey.url, items=ITEMS) as floor:
        await floor.keeper.step()
        yield floor


async def mended(floor: ShopFloor) -> None:
    """A keeper does what it does every quarter of a second, beside a writer."""
    async with floor.writing():
        await floor.keeper.step()


# What is recounted.


async def test_an_empty_valkey_is_filled_from_the_ledger_and_sells_on(floor: ShopFloor) -> None:
    first = await floor.reserve(*(floor.request(f"vw_{at}", quantity=2) for at in range(5)))
    await floor.reserve(floor.request("vw_1", "k2", item_no=2))
    await floor.control.act(floor.sale.sale_no, Act.STOCK, actor="host_1", item_no=1, value=5, key="more")
    await floor.written()
    await floor.client.flushall()
    await floor.keeper.step()
    await stands_as_the_ledger(floor)
    assert await epochs(floor) == [(1, 7, "missing", "recount")]
    assert await floor.shards.cursor(SHARD) == (2, 0)
    (answer,) = await floor.place(floor.request("vw_1", quantity=2))
    assert isinstance(answer, OrderAnswer) and answer.replayed and answer.order == first[1]
    (reused,) = await floor.place(floor.request("vw_1", quantity=1))
    assert isinstance(reused, KeyReused)
    await floor.reserve(floor.request("vw_9"))
    await floor.written()
    await stands_as_the_ledger(floor)


async def test_every_kind_of_order_is_recounted_as_what_it_is(floor: ShopFloor) -> None:
    await floor.reserve(*(floor.request(f"vw_{at}", quantity=2) for at in range(6)))
    await floor.written()
    for status, viewer, held, sold in (
        ("paid", "vw_0", -2, 2),
        ("expired", "vw_1", -2, 0),
        ("cancelled", "vw_2", -2, 0),
        ("refunded", "vw_3", -2, 0),
    ):
        await floor.ledger.execute("UPDATE orders SET status = $1 WHERE viewer = $2", status, viewer)
        await floor.ledger.execute(
            "UPDATE sale_items SET held = held + $1, sold = sold + $2 WHERE item_no = 1", held, sold
        )
        if not sold:
            await floor.ledger.execute("UPDATE holdings SET units = 0 WHERE viewer = $1", viewer)
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "2:price", "1")
    await floor.reserve(floor.request("vw_7", item_no=2))
    await floor.written()
    assert (await floor.rows())[-1][1] == "refused"
    await floor.client.flushall()
    await floor.keeper.step()
    await stands_as_the_ledger(floor)
    assert await floor.counts() == (20, 14, 4)
    assert len(await hash_of(floor, floor.keys.answers(floor.sale.sale_no))) == 6, "a refused order holds no key"
    (again,) = await floor.place(floor.request("vw_7", item_no=2))
    assert isinstance(again, OrderAnswer) and not again.replayed, "its key is free"


async def test_sales_of_every_state_are_recounted_and_those_that_never_sold_are_left_out(floor: ShopFloor) -> None:
    paused = await make_sale(floor, key="paused")
    await floor.control.act(paused.sale_no, Act.PAUSE, actor="host_1")
    closed = await make_sale(floor, key="closed")
    await floor.control.act(closed.sale_no, Act.CLOSE, actor="host_1")
    unloaded = await make_sale(floor, key="unloaded", load=False)
    never = await make_sale(floor, key="never", load=False)
    await floor.written()
    await floor.ledger.execute("UPDATE sales SET hold = 'closed' WHERE sale_no = $1", never.sale_no)
    await floor.client.flushall()
    await floor.keeper.step()
    for sale in (paused, closed, unloaded):
        await stands_as_the_ledger(floor, sale.sale_no)
    assert await floor.hot.counts(never) is None
    assert await floor.sales.unloaded(SHARD, 2) == []


async def test_a_sale_that_was_given_to_valkey_and_not_marked_is_recounted_with_its_orders(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1", quantity=3))
    await floor.written()
    await floor.ledger.execute("UPDATE sales SET loaded_epoch = NULL")
    await floor.client.flushall()
    await floor.keeper.step()
    await stands_as_the_ledger(floor)


async def test_what_the_server_held_before_and_the_ledger_does_not_know_is_forgotten(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"))
    await floor.written()
    strange = [floor.keys.sale(99), floor.keys.answers(99), floor.keys.late(99), floor.keys.acts]
    for key in strange:
        await floor.client.hset(key, "a", "b")
    other_shard = "{s1}:shard"
    await floor.client.hset(other_shard, "epoch", "1")
    await floor.shards.want_recount(None, "hand")
    await floor.keeper.step()
    assert await floor.client.exists(*strange) == 0
    assert await floor.client.exists(other_shard, floor.keys.stream) == 2
    await stands_as_the_ledger(floor)


async def test_large_numbers_of_orders_are_filled_in_parts(floor: ShopFloor) -> None:
    sale = await make_sale(floor, key="big", items=[item(stock=5_000, limit=2)])
    floor.sale = sale
    for at in range(0, 3_000, 250):
        await floor.reserve(*(floor.request(f"vw_{at + of}") for of in range(250)))
    await floor.written()
    await floor.client.flushall()
    with capture_logs() as logs:
        await floor.keeper.step()
    (rebuilt,) = [each for each in logs if each["event"] == "shard_rebuilt"]
    assert rebuilt["orders"] == 3_000
    await stands_as_the_ledger(floor)


# Coupons.


async def test_coupons_are_filled_with_exactly_what_is_left_and_who_may_still_claim_and_redeem(
    floor: ShopFloor,
) -> None:
    coupon = await make_coupon(floor, CouponKind.RANDOM, copies=6)
    over = await make_coupon(floor, key="over", copies=2)
    ids = await claimed(floor, coupon, "vw_1", "vw_2", "vw_3")
    await claimed(floor, coupon, "vw_1", key="c2")
    await claimed(floor, over, "vw_1", "vw_2")
    (first,) = await floor.reserve(redeeming(floor, "vw_1", ids[0]))
    (second,) = await floor.reserve(redeeming(floor, "vw_2", ids[1]))
    await floor.written()
    act = SettleAct(do="cancel", shop_no=1, order=second, sale=floor.sale.sale_no, viewer="vw_2")
    assert (await floor.settlement.settle(SHARD, [act]))[0].changed
    left = await left_in_valkey(floor, coupon)
    await floor.client.flushall()
    await floor.keeper.step()
    await stands_as_the_ledger(floor)
    for each in (coupon, over):
        await coupon_stands_as_the_ledger(floor, each)
    assert await left_in_valkey(floor, coupon) == left
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)
    # The same key, the same answer; the limit and the copies go on where they were.
    answers = await ask(floor, coupon, ("vw_1", "c1"), ("vw_1", "c9"), *((f"vw_{at}", "c9") for at in range(2, 6)))
    assert [str(answer.claim) for answer in answers[:1] if isinstance(answer, ClaimAnswer)] == ids[:1]
    assert [answer.outcome for answer in answers if isinstance(answer, ClaimAnswer)] == [
        ClaimOutcome.CLAIMED,
        ClaimOutcome.LIMIT_REACHED,
        ClaimOutcome.CLAIMED,
        ClaimOutcome.CLAIMED,
        ClaimOutcome.GONE,
        ClaimOutcome.GONE,
    ]
    (gone,) = await ask(floor, over, ("vw_9", "c1"))
    assert isinstance(gone, ClaimAnswer) and gone.outcome is ClaimOutcome.GONE
    # A claim in use stays with its order, one that came back is free, and one that was never used too.
    (again,) = await floor.place(redeeming(floor, "vw_1", ids[0], "k2"))
    assert isinstance(again, OrderAnswer) and again.outcome is OrderOutcome.COUPON_UNUSABLE
    (replayed,) = await floor.place(redeeming(floor, "vw_1", ids[0]))
    assert isinstance(replayed, OrderAnswer) and replayed.order == first and replayed.discount_minor > 0
    await floor.reserve(redeeming(floor, "vw_2", ids[1], "k2"), redeeming(floor, "vw_3", ids[2]))
    await floor.written()
    assert await claim_states(floor) == ["redeemed"] * 3 + ["confirmed"] * 5
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_a_claim_that_valkey_lost_is_told_so_and_its_copy_is_there_again(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    await claimed(floor, coupon, "vw_1")
    lost = await claim(floor, coupon, "vw_2")
    await floor.client.flushall()
    await floor.keeper.step()
    await coupon_stands_as_the_ledger(floor, coupon)
    assert await left_in_valkey(floor, coupon) == (9, 0)
    place = floor.mint.read_claim(lost[0])
    assert place is not None
    assert await floor.coupons.lost_claims([place], lost) == set(lost)
    assert await claim(floor, coupon, "vw_2") != lost


async def test_a_refused_claim_is_not_filled_and_its_release_changes_nothing_afterwards(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor, copies=1)
    await floor.client.hset(floor.keys.coupon(coupon.coupon_no), "left", "2")
    await claimed(floor, coupon, "vw_1", "vw_2")
    assert await claim_states(floor) == ["confirmed", "refused"]
    await floor.client.flushall()
    await floor.keeper.step()
    await coupon_stands_as_the_ledger(floor, coupon)
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)
    assert await floor.outbox.pending(SHARD, limit=9) == []


async def test_an_order_that_expires_while_valkey_is_filled_lets_go_of_its_claim_afterwards(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    await floor.reserve(redeeming(floor, "vw_1", claim_id))
    await floor.written()
    await floor.client.flushall()
    rebuilder, valkey = slow_rebuilder(floor, "open")
    async with asyncio.TaskGroup() as tasks:
        mending = tasks.create_task(rebuilder.mend(SHARD))
        await valkey.reached.wait()
        await floor.ledger.execute("UPDATE orders SET confirmed_at = confirmed_at - interval '1 hour'")
        await floor.ledger.execute("UPDATE orders SET pay_by = pay_by - interval '1 hour'")
        await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '1 hour'")
        assert await floor.deadlines.sweep(SHARD) == 1
        valkey.go.set()
        assert await mending
    assert set((await claims_in_valkey(floor, coupon)).values()) == {"1:2"}, "as the ledger stood when it was read"
    await floor.keeper.step()
    await floor.give_back.drain(SHARD)
    await coupon_stands_as_the_ledger(floor, coupon)


async def test_a_coupon_that_is_missing_is_filled_and_one_that_was_retired_is_not(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    retired = await make_coupon(floor, key="retired")
    await claimed(floor, coupon, "vw_1")
    await floor.ledger.execute("UPDATE coupons SET retired_at = now() WHERE coupon_no = $1", retired.coupon_no)
    await floor.client.delete(floor.keys.coupon(coupon.coupon_no), floor.keys.coupon(retired.coupon_no))
    await another_server(floor)
    await mended(floor)
    assert [ended[2:] for ended in await epochs(floor)] == [("server", "recount")]
    await coupon_stands_as_the_ledger(floor, coupon)
    assert await hash_of(floor, floor.keys.coupon(retired.coupon_no)) == {}
    await another_server(floor)
    await mended(floor)
    assert (await epochs(floor))[-1][2:] == ("server", "advance"), "a retired one is not missed"


async def test_a_drop_a_plan_and_a_floor_are_recounted_and_the_drops_key_still_answers(floor: ShopFloor) -> None:
    now_ms = await floor.now_ms()
    floor.sale = await make_sale(
        floor, key="floored", items=[replace(item(stock=20), floor_minor=7, prices=(PriceStep(now_ms, 900),))]
    )
    coupon = await make_coupon(floor, opens_in_ms=None)
    drop = {"room_no": 0, "for_ms": 60_000, "actor": "host", "key": "d1", "fingerprint": "f", "shop": SHOP}
    done = await floor.hot_coupons.drop(coupon.coupon_no, **drop)
    text = f"{now_ms}:800;{now_ms + 1}:700"
    await floor.control.act(floor.sale.sale_no, Act.PLAN, actor="host", item_no=1, text=text, key="p1", shop=SHOP)
    await floor.written()
    await floor.client.flushall()
    await floor.keeper.step()
    await stands_as_the_ledger(floor)
    await coupon_stands_as_the_ledger(floor, coupon)
    facts = await hash_of(floor, floor.keys.sale(floor.sale.sale_no))
    assert (facts["1:floor"], facts["1:plan"]) == ("7", text)
    again = await floor.hot_coupons.drop(coupon.coupon_no, **drop)
    assert again.replayed and again.claim_until_ms == done.claim_until_ms
    (order,) = await floor.place(floor.request("vw_1"))
    assert isinstance(order, OrderAnswer) and order.price_minor == 700


# What leads to it.


async def empty(floor: ShopFloor) -> None:
    await floor.client.flushall()


async def fall_behind(floor: ShopFloor) -> None:
    await floor.client.hset(floor.keys.shard, "seq", "1")


async def another_epoch(floor: ShopFloor) -> None:
    await floor.client.hset(floor.keys.shard, "epoch", "7")


async def forget_releases(floor: ShopFloor) -> None:
    await floor.ledger.execute("UPDATE shards SET outbox_no = 3")  # three rows were applied and forgotten


async def invent_releases(floor: ShopFloor) -> None:
    await floor.client.hset(floor.keys.shard, "released", "3")


async def want_it(floor: ShopFloor) -> None:
    await floor.shards.want_recount(SHARD, "hand")


async def leave_a_gap(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_8"))
    (gone,) = [entry.epoch for entry in await floor.stream.read(1, 5, count=1, wait_ms=0)]
    await floor.reserve(floor.request("vw_9"))
    await floor.client.xdel(floor.keys.stream, f"{gone}-6")
    await floor.written()


async def lose_a_sale(floor: ShopFloor) -> None:
    await another_server(floor)
    await floor.client.delete(floor.keys.sale(floor.sale.sale_no))


async def lose_the_last_entry(floor: ShopFloor) -> None:
    await another_server(floor)
    await floor.reserve(floor.request("vw_9"))
    await floor.client.xdel(floor.keys.stream, "1-6")


TROUBLE: dict[Callable[[ShopFloor], Any], tuple[str, str]] = {
    empty: ("missing", "recount"),
    fall_behind: ("behind", "recount"),
    another_epoch: ("epoch", "recount"),
    forget_releases: ("released", "recount"),
    invent_releases: ("released", "recount"),
    want_it: ("hand", "recount"),
    leave_a_gap: ("gap", "recount"),
    lose_a_sale: ("server", "recount"),
    lose_the_last_entry: ("server", "recount"),
    another_server: ("server", "advance"),
}


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda trouble: trouble.__name__)
async def test_a_shard_in_doubt_is_rebuilt_and_stands_as_the_ledger(floor: ShopFloor, trouble: Any) -> None:
    await floor.reserve(*(floor.request(f"vw_{at}", quantity=2) for at in range(5)))
    await floor.written()
    await trouble(floor)
    await mended(floor)
    await floor.give_back.drain(SHARD)
    why, how = TROUBLE[trouble]
    assert [ended[2:] for ended in await epochs(floor)] == [(why, how)]
    await stands_as_the_ledger(floor)
    standing = await floor.shards.standing(SHARD)
    assert (standing.reopen, standing.wants, standing.opened) == (None, None, True)
    assert (await floor.rebuilder.look(SHARD))[2] == ""
    await floor.reserve(floor.request("vw_19"))
    await floor.written()
    await stands_as_the_ledger(floor)


async def test_a_shard_that_was_shut_and_left_is_opened_again(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"))
    await floor.client.hset(floor.keys.shard, "open", "0")
    await mended(floor)
    assert [ended[2:] for ended in await epochs(floor)] == [("shut", "advance")]
    await floor.reserve(floor.request("vw_2"))


async def test_a_new_epoch_is_past_any_that_the_server_has_heard_of(floor: ShopFloor) -> None:
    """A ledger that was restored is in an epoch whose numbers the server has used up, and in later ones."""
    await floor.client.xadd(floor.keys.stream, {"o": b"\x90"}, id="9-4")
    await floor.client.hset(floor.keys.shard, "epoch", "8")
    await mended(floor)
    assert await floor.shards.cursor(SHARD) == (10, 0)
    await floor.reserve(floor.request("vw_1"))
    await floor.written()
    assert await floor.statuses() == ["confirmed"]


async def test_what_the_stream_holds_is_drained_before_the_epoch_ends(floor: ShopFloor) -> None:
    ids = await floor.reserve(*(floor.request(f"vw_{at}") for at in range(5)))
    await another_server(floor)
    async with asyncio.TaskGroup() as tasks:
        stepping = tasks.create_task(floor.keeper.step())

        async def shut() -> bool:
            return await floor.client.hget(floor.keys.shard, "open") == b"0"

        await eventually(shut)
        assert not stepping.done()
        await floor.written()
    assert await epochs(floor) == [(1, 5, "server", "advance")]
    assert await floor.statuses() == ["confirmed"] * 5
    answers = await floor.place(*(floor.request(f"vw_{at}") for at in range(5)))
    assert [answer.order for answer in answers if isinstance(answer, OrderAnswer) and answer.replayed] == ids


async def test_a_drain_that_nobody_does_raises_an_alarm_and_is_not_skipped(
    floor: ShopFloor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.keeper import rebuild

    monkeypatch.setattr(rebuild, "_DRAIN_ALARM_EVERY_S", 0.05)
    monkeypatch.setattr(rebuild, "_DRAIN_MOST_S", 0.3)
    await floor.reserve(floor.request("vw_1"))
    await another_server(floor)
    with capture_logs() as logs, pytest.raises(Exception, match="the writer is at 0 of 1"):
        await floor.keeper.step()
    assert "rebuild_waits_for_writer" in {each["event"] for each in logs if each["log_level"] == "critical"}
    assert await epochs(floor) == []
    with pytest.raises(ShardClosed):
        await floor.place(floor.request("vw_2"))
    await mended(floor)
    await floor.reserve(floor.request("vw_2"))


async def test_no_number_of_an_epoch_is_given_twice_and_all_are_accounted_for(floor: ShopFloor) -> None:
    for at in range(4):
        await floor.reserve(floor.request(f"vw_{at}"))
        await floor.written()
        await floor.client.flushall()
        await floor.keeper.step()
    assert await epochs(floor) == [(epoch, 1, "missing", "recount") for epoch in (1, 2, 3, 4)]
    rows = await floor.ledger.fetch("SELECT epoch, seq FROM orders ORDER BY epoch")
    assert [tuple(row) for row in rows] == [(1, 1), (2, 1), (3, 1), (4, 1)]


# What goes on beside it.


async def test_what_expires_while_valkey_is_filled_is_given_back_afterwards(floor: ShopFloor) -> None:
    await lost_once(floor)
    rebuilder, valkey = slow_rebuilder(floor, "open")
    async with asyncio.TaskGroup() as tasks:
        mending = tasks.create_task(rebuilder.mend(SHARD))
        await valkey.reached.wait()
        await floor.ledger.execute("UPDATE orders SET confirmed_at = confirmed_at - interval '1 hour'")
        await floor.ledger.execute("UPDATE orders SET pay_by = pay_by - interval '1 hour'")
        await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '1 hour'")
        assert await floor.deadlines.sweep(SHARD) == 5
        with pytest.raises(ShardClosed):
            await floor.give_back.drain(SHARD)
        valkey.go.set()
        assert await mending
    assert await floor.counts() == (20, 10, 10), "as the ledger stood when it was read"
    await floor.keeper.step()
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (20, 20, 0)
    await stands_as_the_ledger(floor)


async def test_what_was_released_and_not_yet_told_to_valkey_is_counted_once(floor: ShopFloor) -> None:
    await floor.reserve(*(floor.request(f"vw_{at}", quantity=2) for at in range(5)))
    await floor.written()
    await floor.ledger.execute("UPDATE orders SET confirmed_at = confirmed_at - interval '1 hour'")
    await floor.ledger.execute("UPDATE orders SET pay_by = pay_by - interval '1 hour'")
    await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '1 hour'")
    await floor.deadlines.sweep(SHARD)
    await floor.client.flushall()
    await floor.keeper.step()
    assert await floor.counts() == (20, 20, 0)
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (20, 20, 0)
    assert await floor.outbox.pending(SHARD, limit=10) == []
    assert (await floor.rebuilder.look(SHARD))[2] == ""


# Dying on the way, and being late.

POINTS = ["shut", "drained", "moved", "loading", "loaded", "opened"]


def dies_at(monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    def reach(name: str) -> None:
        if name == point:
            raise Died(point)

    monkeypatch.setattr(points, "reach", reach)


@pytest.mark.parametrize("then", ["nothing more happens", "the server is emptied", "the server is another one"])
@pytest.mark.parametrize(
    ("lost", "at"),
    [(True, at) for at in POINTS] + [(False, at) for at in POINTS if at not in {"loading", "loaded"}],
)
async def test_a_keeper_killed_at_any_step_is_followed_by_another(
    floor: ShopFloor, monkeypatch: pytest.MonkeyPatch, lost: bool, at: str, then: str
) -> None:
    ids = await floor.reserve(*(floor.request(f"vw_{each}", quantity=2) for each in range(5)))
    await floor.written()
    await (empty if lost else another_server)(floor)
    with monkeypatch.context() as patched:
        dies_at(patched, f"rebuild.{at}")
        with pytest.raises(Died):
            await floor.keeper.step()
    if then == "the server is emptied":
        await floor.client.flushall()
    elif then == "the server is another one":
        await another_server(floor)
    keeper = floor.another_keeper()

    async def followed() -> bool:
        # The ledger takes a moment to notice that the one before is gone.
        try:
            await keeper.step()
        except ShardClosed:
            return False
        return True

    await eventually(followed)
    await stands_as_the_ledger(floor)
    answers = await floor.place(*(floor.request(f"vw_{each}", quantity=2) for each in range(5)))
    assert [str(answer.order) for answer in answers if isinstance(answer, OrderAnswer) and answer.replayed] == ids
    await floor.reserve(floor.request("vw_9"))
    await floor.written()
    await stands_as_the_ledger(floor)
    ended = await epochs(floor)
    assert len(ended) <= 2, "no epoch is used up without need"
    assert (await floor.shards.standing(SHARD)).reopen is None


async def test_orders_placed_after_it_opened_are_kept_when_the_keeper_died_before_it_said_so(
    floor: ShopFloor, monkeypatch: pytest.MonkeyPatch
) -> None:
    await lost_once(floor)
    with monkeypatch.context() as patched:
        dies_at(patched, "rebuild.opened")
        with pytest.raises(Died):
            await floor.keeper.step()
    floor.hot.enter_epoch(2, 0)
    await floor.reserve(floor.request("vw_9"))
    await floor.written()
    await floor.reserve(floor.request("vw_8"))
    await floor.keeper.step()
    assert len(await epochs(floor)) == 1
    await floor.written()
    await stands_as_the_ledger(floor)
    assert await floor.statuses() == ["confirmed"] * 7


@pytest.mark.parametrize("late_for", ["shut", "newest_epoch", "begin", "fill_sale", "fill_answers", "open"])
async def test_a_rebuilder_that_was_stopped_changes_nothing_after_another_has_rebuilt(
    floor: ShopFloor, late_for: str
) -> None:
    await lost_once(floor)
    if late_for == "shut":
        await floor.client.hset(floor.keys.shard, mapping={"epoch": 7, "open": 1})
    slow, valkey = slow_rebuilder(floor, late_for)
    late = asyncio.create_task(slow.mend(SHARD))
    await valkey.reached.wait()
    await mended(floor)
    await floor.reserve(floor.request("vw_9"))
    before = {name: await floor.client.dump(name) for name in await floor.client.keys("*")}
    standing = await floor.shards.standing(SHARD)
    valkey.go.set()
    with pytest.raises(RebuildLost):
        await late
    assert {name: await floor.client.dump(name) for name in await floor.client.keys("*")} == before
    assert await floor.shards.standing(SHARD) == standing


@pytest.mark.parametrize("late_for", ["advance", "shut"])
async def test_a_late_advance_changes_nothing(floor: ShopFloor, late_for: str) -> None:
    await floor.reserve(floor.request("vw_1"))
    await floor.written()
    await another_server(floor)
    slow, valkey = slow_rebuilder(floor, late_for)
    late = asyncio.create_task(slow.mend(SHARD))
    await valkey.reached.wait()
    await mended(floor)
    await floor.reserve(floor.request("vw_9"))
    before = {name: await floor.client.dump(name) for name in await floor.client.keys("*")}
    valkey.go.set()
    with pytest.raises(RebuildLost):
        await late
    assert {name: await floor.client.dump(name) for name in await floor.client.keys("*")} == before


async def test_of_two_rebuilders_one_does_it_and_the_other_leaves_it_alone(floor: ShopFloor) -> None:
    await lost_once(floor)
    done = await asyncio.gather(*(floor.rebuilder.mend(SHARD) for _ in range(4)))
    assert True in done
    await floor.keeper.step()
    assert len(await epochs(floor)) == 1
    await stands_as_the_ledger(floor)


async def test_two_rebuilders_without_a_lock_end_with_one_truth(floor: ShopFloor) -> None:
    await lost_once(floor)
    both = [slow_rebuilder(floor, "nothing")[0] for _ in range(3)]
    await asyncio.gather(*(each.mend(SHARD) for each in both), return_exceptions=True)
    with suppress(ShardClosed):
        await floor.keeper.step()
    await floor.keeper.step()
    await stands_as_the_ledger(floor)
    await floor.reserve(floor.request("vw_9"))


async def test_a_rebuilder_that_falls_silent_loses_its_lock(floor: ShopFloor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_rebuild, "_SILENT_MOST_MS", 200)
    async with floor.rebuilds.alone(SHARD) as first:
        assert first
        async with floor.rebuilds.alone(SHARD) as second:
            assert not second

        # Its heart beats every 0.7 s, so to the server it looks stopped.
        async def taken() -> bool:
            async with floor.rebuilds.alone(SHARD) as other:
                return other

        await eventually(taken)


async def test_a_rebuilder_at_work_keeps_its_lock(floor: ShopFloor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_rebuild, "_SILENT_MOST_MS", 1500)
    monkeypatch.setattr(ledger_rebuild, "_BEAT_EVERY_S", 0.05)
    async with floor.rebuilds.alone(SHARD):
        until_s = floor.clock.monotonic() + 2
        while floor.clock.monotonic() < until_s:
            async with floor.rebuilds.alone(SHARD) as other:
                assert not other
            await asyncio.sleep(0.1)


# Which server is talked to.


def guarded(floor: ShopFloor, known: KnownServers) -> tuple[HotOrders, HotShard, Any]:
    client = connect(floor.valkey_url, max_connections=2, known=known)
    scripts = Scripts(client)
    hot = HotShard(shard=SHARD, client=client, scripts=scripts, doubt=known.doubt)
    hot.enter_epoch(1, 0)
    orders = HotOrders(shard=hot, scripts=scripts, mint=floor.mint, clock=floor.clock, backlog_max=50_000)
    return orders, hot, client


async def test_a_server_that_no_epoch_names_is_told_nothing(floor: ShopFloor) -> None:
    known = KnownServers("another")
    orders, hot, client = guarded(floor, known)
    with pytest.raises(ShardClosed):
        await orders.decide(floor.sale.sale_no, [floor.request("vw_1")])
    with pytest.raises(ServerUnknown):
        await hot.load_sale(floor.sale)
    with pytest.raises(HotUnavailable):
        await hot.counts(floor.sale)
    assert known.doubted.is_set()
    known.learn([(await floor.shards.standing(SHARD)).run_id])
    (answer,) = await orders.decide(floor.sale.sale_no, [floor.request("vw_1")])
    assert isinstance(answer, OrderAnswer)
    await client.aclose()


async def test_a_process_learns_of_an_epoch_and_its_server_together(floor: ShopFloor) -> None:
    known = KnownServers("another")
    _, hot, client = guarded(floor, known)
    heard = []
    following = Epochs(shards=floor.shards, hot={SHARD: hot}, known=known, on_new_epoch=lambda: heard.append(hot.epoch))
    await following.look()
    assert (hot.epoch, heard) == (1, [])
    await lost_once(floor)
    await floor.keeper.step()
    await following.look()
    assert (hot.epoch, hot.seq_seen, heard) == (2, 0, [2])
    assert await hot.counts(floor.sale) is not None
    await client.aclose()


async def test_a_process_in_doubt_asks_at_once(floor: ShopFloor, monkeypatch: pytest.MonkeyPatch) -> None:
    known = KnownServers("another")
    _, hot, client = guarded(floor, known)
    monkeypatch.setattr("gateway.flows.epochs.EVERY_S", 60.0)
    running = asyncio.create_task(Epochs(shards=floor.shards, hot={SHARD: hot}, known=known).run())
    with pytest.raises(ServerUnknown):
        await hot.counts(floor.sale)

    async def talks() -> bool:
        with suppress(ServerUnknown):
            return await hot.counts(floor.sale) is not None
        return False

    await eventually(talks)
    running.cancel()
    await client.aclose()


async def test_a_shard_of_another_epoch_is_closed_to_everybody_who_has_not_heard(floor: ShopFloor) -> None:
    await lost_once(floor)
    known = KnownServers()
    orders, _, client = guarded(floor, known)
    await floor.keeper.step()
    with pytest.raises(ShardClosed):
        await orders.decide(floor.sale.sale_no, [floor.request("vw_1")])
    assert known.doubted.is_set()
    await client.aclose()


async def test_a_process_that_saw_more_than_the_server_has_now_asks_for_a_recount(floor: ShopFloor) -> None:
    """Nobody else can know: the ledger is not that far, and the server is the same."""
    known = KnownServers()
    orders, hot, client = guarded(floor, known)
    following = Epochs(shards=floor.shards, hot={SHARD: hot}, known=known)
    await orders.decide(floor.sale.sale_no, [floor.request("vw_1"), floor.request("vw_2")])
    await floor.client.hset(floor.keys.shard, "seq", "1")
    with pytest.raises(ShardClosed):
        await orders.decide(floor.sale.sale_no, [floor.request("vw_3")])
    await following.look()
    assert (await floor.shards.standing(SHARD)).wants == "behind"
    await mended(floor)
    await following.look()
    (answer,) = await orders.decide(floor.sale.sale_no, [floor.request("vw_3")])
    assert isinstance(answer, OrderAnswer)
    assert (await floor.shards.standing(SHARD)).wants is None
    await client.aclose()


# A name that comes to lead to another server, while the one before lives on and every connection to it stays.


@pytest.fixture
async def name(valkey: OwnValkey) -> AsyncIterator[MovingName]:
    async with moving_name(valkey.url) as name:
        yield name


@pytest.fixture
async def named_floor(database_url: str, name: MovingName) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, name.url, items=ITEMS) as floor:
        await floor.keeper.step()
        yield floor


async def seen(floor: ShopFloor) -> None:
    """The keeper, connected since before, looks until it sees that something is wrong."""

    async def wrong() -> bool:
        return bool((await floor.rebuilder.look(SHARD))[2])

    await eventually(wrong)


async def test_everybody_follows_a_name_that_leads_to_another_server(
    named_floor: ShopFloor, name: MovingName, valkey_url: str
) -> None:
    floor, known = named_floor, KnownServers()
    orders, hot, client = guarded(floor, known)
    following = Epochs(shards=floor.shards, hot={SHARD: hot}, known=known)
    await following.look()
    reading = connect(name.url, max_connections=3, reply_timeout_s=5.0)
    async with floor.writing(floor.writer(client=reading)):
        await orders.decide(floor.sale.sale_no, [floor.request("vw_1")])
        await floor.applied(1)
        name.target = valkey_url
        await seen(floor)
        await floor.rebuilder.mend(SHARD)
        assert await epochs(floor) == [(1, 1, "missing", "recount")]
        await following.look()
        (answer,) = await orders.decide(floor.sale.sale_no, [floor.request("vw_2")])
        assert isinstance(answer, OrderAnswer)
        await floor.applied(1)
    assert await floor.statuses() == ["confirmed"] * 2
    for each in (client, reading):
        await each.aclose()


async def test_a_rebuild_is_given_what_the_new_server_holds_of_the_epoch_by_a_writer_on_the_old_one(
    named_floor: ShopFloor, name: MovingName, valkey_url: str
) -> None:
    floor = named_floor
    reading = connect(name.url, max_connections=3, reply_timeout_s=5.0)
    async with floor.writing(floor.writer(client=reading)) as writer:
        await floor.reserve(floor.request("vw_1"))
        await floor.applied()
        await writer.caught_up.wait()
        name.target = valkey_url
        await floor.client.connection_pool.disconnect()
        # As it would have come from the server before, with an order that the ledger has not heard of.
        await floor.client.hset(floor.keys.shard, mapping={"epoch": 1, "seq": 1, "open": 1})
        await floor.forge_orders([["vw_2", "k1", "f", 1, 1, 1900, ""]], at_ms=await floor.now_ms())
        await floor.rebuilder.mend(SHARD)
    assert await epochs(floor) == [(1, 2, "server", "recount")]
    assert await floor.statuses() == ["confirmed"] * 2
    await stands_as_the_ledger(floor)
    await reading.aclose()


async def test_a_call_under_way_is_not_left_on_a_server_that_no_epoch_names_any_more(floor: ShopFloor) -> None:
    known = KnownServers((await floor.shards.standing(SHARD)).run_id or "")
    client = connect(floor.valkey_url, max_connections=2, reply_timeout_s=None, known=known)
    waiting = asyncio.create_task(_waits(client))
    idle = await client.client_id()

    async def blocked() -> bool:
        return any("blpop" in each["cmd"] for each in await floor.client.client_list())

    await eventually(blocked)
    known.learn([(await floor.shards.standing(SHARD)).run_id])
    assert await client.client_id() == idle, "nothing is new"
    known.learn(["another"])
    with pytest.raises(HotUnavailable):
        await asyncio.wait_for(waiting, 10)
    with pytest.raises(ServerUnknown):
        await _waits(client)
    await client.aclose()


async def _waits(client: Any) -> None:
    with hot_errors():
        await client.blpop(["nothing"], timeout=0)


# Real deaths of a real server.


async def test_a_server_that_comes_back_with_its_file_goes_on_from_what_it_has(
    own_floor: ShopFloor, valkey: OwnValkey
) -> None:
    floor = own_floor
    ids = await floor.reserve(*(floor.request(f"vw_{at}", quantity=2) for at in range(5)))
    await valkey.restart()
    await mended(floor)
    assert await epochs(floor) == [(1, 5, "server", "advance")]
    await stands_as_the_ledger(floor)
    answers = await floor.place(*(floor.request(f"vw_{at}", quantity=2) for at in range(5)))
    assert [str(answer.order) for answer in answers if isinstance(answer, OrderAnswer)] == ids
    await floor.reserve(floor.request("vw_9"))
    await mended(floor)
    assert len(await epochs(floor)) == 1


async def test_a_server_that_comes_back_empty_is_filled(own_floor: ShopFloor, valkey: OwnValkey) -> None:
    floor = own_floor
    await floor.reserve(*(floor.request(f"vw_{at}", quantity=2) for at in range(5)))
    await floor.written()
    (lost,) = await floor.reserve(floor.request("vw_9"))
    await valkey.come_back_empty()
    await mended(floor)
    await stands_as_the_ledger(floor)
    (again,) = await floor.reserve(floor.request("vw_9"))
    assert again != lost


async def test_a_server_with_an_older_file_behind_the_ledger_is_filled(own_floor: ShopFloor, valkey: OwnValkey) -> None:
    floor = own_floor
    await floor.reserve(floor.request("vw_1", quantity=2))
    valkey.keep_copy()
    await floor.reserve(floor.request("vw_2", quantity=2))
    await floor.written()
    await valkey.come_back_older()
    await mended(floor)
    assert await epochs(floor) == [(1, 2, "server", "recount")]
    await stands_as_the_ledger(floor)


async def test_a_server_with_an_older_file_that_is_ahead_of_the_ledger_loses_only_what_it_lacks(
    own_floor: ShopFloor, valkey: OwnValkey
) -> None:
    floor = own_floor
    (kept,) = await floor.reserve(floor.request("vw_1", quantity=2))
    valkey.keep_copy()
    (lost,) = await floor.reserve(floor.request("vw_2", quantity=2))
    await valkey.come_back_older()
    await mended(floor)
    assert await epochs(floor) == [(1, 1, "server", "advance")]
    await stands_as_the_ledger(floor)
    assert list(await floor.ledger_orders.by_place([(floor.sale.sale_no, each) for each in (kept, lost)])) == [kept]
    (again,) = await floor.reserve(floor.request("vw_2", quantity=2))
    assert again != lost


# Orders that were promised and lost.


class Desk:
    """Whoever asks for orders, and a viewer's socket."""

    def __init__(self, floor: ShopFloor) -> None:
        self.floor = floor
        self.watch = OrderWatch(ledger=floor.ledger_orders, claims=floor.coupons, mint=floor.mint, clock=floor.clock)
        book = SaleBook(sales=floor.sales, mint=floor.mint, clock=floor.clock)
        self.reader = OrderReader(
            ledger=floor.ledger_orders, held={SHARD: floor.held}, book=book, watch=self.watch, mint=floor.mint
        )
        self.told: list[tuple[str, str, str]] = []
        self.watch.join(SHOP, "vw_1", self)

    def order_changed(self, state: bus.LaterState, *, placed_here: bool) -> None:
        self.told.append((state.order, state.status, state.reason))

    def claim_changed(self, state: bus.LaterClaim, *, placed_here: bool) -> None:
        self.told.append((state.claim, state.state, state.reason))

    def placed(self, order: Any, *, viewer: str = "vw_1") -> None:
        self.watch.placed(order, sale_no=self.floor.sale.sale_no, shop=SHOP, viewer=viewer)


@pytest.fixture
def desk(floor: ShopFloor) -> Desk:
    return Desk(floor)


async def test_a_lost_order_is_told_by_its_id_and_its_key_is_free(floor: ShopFloor, desk: Desk) -> None:
    (kept,) = await floor.reserve(floor.request("vw_1", "kept"))
    await floor.written()
    (lost,) = await floor.reserve(floor.request("vw_1"))
    assert (await desk.reader.by_id(VIEWER, lost)).status is OrderStatus.RESERVED
    await floor.client.flushall()
    with pytest.raises(ShardClosed):
        await desk.reader.by_id(VIEWER, lost)  # nobody knows yet, and no epoch has ended
    await floor.keeper.step()
    order = await desk.reader.by_id(VIEWER, lost)
    assert (order.status, order.reason, order.quantity, order.viewer) == (OrderStatus.REFUSED, "lost", 0, "")
    assert (await desk.reader.by_id(VIEWER, kept)).status is OrderStatus.CONFIRMED
    with pytest.raises(NotFound):
        await desk.reader.by_key(VIEWER, floor.sale.sale, "k1")
    (again,) = await floor.reserve(floor.request("vw_1"))
    assert (await desk.reader.by_key(VIEWER, floor.sale.sale, "k1")).order == again
    assert (await desk.reader.by_id(VIEWER, lost)).reason == "lost", "also when its number is given anew"


async def test_an_order_of_the_new_epoch_is_not_taken_for_lost(floor: ShopFloor, desk: Desk) -> None:
    await lost_once(floor)
    await floor.keeper.step()
    (fresh,) = await floor.reserve(floor.request("vw_1", "k9"))
    assert (await desk.reader.by_id(VIEWER, fresh)).status is OrderStatus.RESERVED
    assert await floor.ledger_orders.lost([floor.mint.read_order(fresh)], [fresh]) == set()  # type: ignore[list-item]


async def test_an_order_in_a_gap_is_told_as_lost(floor: ShopFloor, desk: Desk) -> None:
    (lost,) = await floor.reserve(floor.request("vw_1"))
    await floor.reserve(floor.request("vw_2"))
    await floor.client.xdel(floor.keys.stream, "1-1")
    await floor.written()
    assert (await desk.reader.by_id(VIEWER, lost)).reason == "lost"
    await mended(floor)
    await stands_as_the_ledger(floor)


async def test_the_viewer_of_a_lost_order_is_told_once_its_epoch_has_ended(floor: ShopFloor, desk: Desk) -> None:
    (kept,) = await floor.reserve(floor.request("vw_1", "kept"))
    await floor.written()
    (lost,) = await floor.reserve(floor.request("vw_1"))
    for order in (kept, lost):
        desk.placed(order)
    running = asyncio.create_task(desk.watch.run())
    await floor.client.flushall()
    await floor.keeper.step()
    desk.watch.ask_all()

    async def told() -> bool:
        return len(desk.told) == 2

    await eventually(told)
    assert sorted(desk.told) == sorted([(kept, "confirmed", ""), (lost, "refused", "lost")])
    running.cancel()


async def test_who_waits_for_the_confirmation_of_a_lost_order_is_told(floor: ShopFloor, desk: Desk) -> None:
    (lost,) = await floor.reserve(floor.request("vw_1"))
    running = asyncio.create_task(desk.watch.run())
    place: Any = lost
    waiting = asyncio.create_task(desk.reader.confirmed(place, 10))
    desk.placed(lost)
    await floor.client.flushall()
    await floor.keeper.step()
    desk.watch.ask_all()
    order = await asyncio.wait_for(waiting, 5)
    assert order is not None and (order.status, order.reason) == (OrderStatus.REFUSED, "lost")
    running.cancel()


async def test_an_order_that_is_only_late_is_not_told_as_lost(floor: ShopFloor, desk: Desk) -> None:
    (order,) = await floor.reserve(floor.request("vw_1"))
    desk.placed(order)
    running = asyncio.create_task(desk.watch.run())
    desk.watch.ask_all()
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert desk.told == []
    running.cancel()


async def test_an_act_of_an_ended_epoch_counts_only_if_it_was_drained(floor: ShopFloor) -> None:
    done = await floor.control.act(floor.sale.sale_no, Act.PAUSE, actor="host_1")
    await floor.written()
    lost = await floor.control.act(floor.sale.sale_no, Act.RESUME, actor="host_1")
    await floor.client.flushall()
    await floor.keeper.step()
    assert await floor.shards.was_applied(SHARD, 1, done.seq)
    assert not await floor.shards.was_applied(SHARD, 1, lost.seq)
    assert await floor.client.hget(floor.keys.sale(floor.sale.sale_no), "hold") == b"paused"


# The rule itself.


def standing(**facts: Any) -> Standing:
    row = {
        "shard": 0,
        "epoch": 3,
        "last_seq": 5,
        "outbox_no": 9,
        "opened": True,
        "run_id": "server",
        "reopen": None,
        "wants": None,
        "load_token": 1,
        "forgotten": 7,
        "ended_epoch": 2,
        "ended_seq": 4,
    }
    return Standing(**{**row, **facts})


class Stand:
    def __init__(self, **facts: Any) -> None:
        self.run_id, self.epoch, self.seq, self.released, self.open, self.loading = "server", 3, 6, 8, True, 0
        for name, value in facts.items():
            setattr(self, name, value)

    @property
    def there(self) -> bool:
        return bool(self.epoch or self.loading)


@pytest.mark.parametrize(
    ("row", "stand", "why"),
    [
        ({}, {}, ""),
        ({"run_id": None}, {}, ""),
        ({}, {"epoch": 0}, "missing"),
        ({"opened": False}, {"epoch": 0}, "missing"),
        ({"opened": False, "last_seq": 0, "outbox_no": 0}, {"epoch": 0}, "new"),
        ({"opened": False, "last_seq": 0, "outbox_no": 0}, {"epoch": 0, "loading": 4}, "epoch"),
        ({}, {"run_id": "another"}, "server"),
        ({}, {"epoch": 2}, "epoch"),
        ({}, {"epoch": 4}, "epoch"),
        ({}, {"seq": 4}, "behind"),
        ({}, {"seq": 5}, ""),
        ({}, {"released": 6}, "released"),
        ({}, {"released": 7}, ""),
        ({"wants": "restore"}, {}, "restore"),
        ({"reopen": "advance"}, {}, "unfinished"),
        ({}, {"open": False}, "shut"),
    ],
)
def test_what_speaks_against_a_shard(row: dict[str, Any], stand: dict[str, Any], why: str) -> None:
    assert doubt(standing(**row), Stand(**stand)) == why


@pytest.mark.parametrize(
    ("row", "stand", "may"),
    [
        ({"last_seq": 0}, {"epoch": 2}, True),
        ({"last_seq": 0}, {"epoch": 0, "loading": 4}, True),
        ({"last_seq": 0}, {"epoch": 0}, False),
        ({"last_seq": 1}, {"epoch": 2}, False),
        ({"last_seq": 0}, {"epoch": 2, "run_id": "another"}, False),
    ],
)
def test_an_epoch_that_was_begun_is_gone_on_with_only_if_nothing_was_sold_in_it(
    row: dict[str, Any], stand: dict[str, Any], may: bool
) -> None:
    found = Stand(**stand)
    assert goes_on(standing(reopen="recount", **row), found, filling=bool(found.loading)) is may


async def test_a_hosts_key_has_its_effect_once_across_a_recount(floor: ShopFloor) -> None:
    act: dict[str, Any] = {"actor": "host_1", "item_no": 1, "value": 5, "key": "once", "fingerprint": "f", "shop": SHOP}
    await floor.control.act(floor.sale.sale_no, Act.STOCK, **act)
    await floor.written()
    await floor.ledger.execute("UPDATE shards SET wants = 'hand'")
    await floor.keeper.step()
    assert (await floor.control.act(floor.sale.sale_no, Act.STOCK, **act)).replayed
    assert await floor.counts() == (25, 25, 0)


async def test_a_dropped_coupons_key_is_known_across_a_recount_and_is_no_key_of_a_sale(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor, claim_from_ms=None)
    said: dict[str, Any] = {"actor": "host_1", "key": "once", "fingerprint": "f", "shop": SHOP}
    await floor.hot_coupons.drop(coupon.coupon_no, room_no=0, for_ms=0, **said)
    await floor.written()
    await floor.ledger.execute("UPDATE shards SET wants = 'hand'")
    await floor.keeper.step()
    assert (await floor.hot_coupons.drop(coupon.coupon_no, room_no=0, for_ms=0, **said)).replayed
    assert not (await floor.control.act(floor.sale.sale_no, Act.STOCK, item_no=1, value=5, **said)).replayed
    assert await floor.counts() == (25, 25, 0)


async def test_an_act_whose_key_had_its_effect_changes_nothing_in_the_ledger_and_the_shard_is_recounted(
    floor: ShopFloor,
) -> None:
    act: dict[str, Any] = {"actor": "host_1", "item_no": 1, "value": 5, "key": "once", "fingerprint": "f", "shop": SHOP}
    await floor.control.act(floor.sale.sale_no, Act.STOCK, **act)
    await floor.written()
    await floor.client.delete(floor.keys.acts)
    await floor.control.act(floor.sale.sale_no, Act.STOCK, **act)
    await floor.written()
    await floor.keeper.step()
    assert await floor.counts() == (25, 25, 0)
    assert [row["after"] for row in await floor.ledger.fetch("SELECT after FROM acts ORDER BY seq")] == ["25", None]
