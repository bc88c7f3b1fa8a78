import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.domain.acts import Act
from gateway.domain.batch import OrderColumns, Place
from gateway.errors import LeaseLost, LedgerRejected
from gateway.hot.connect import connect
from gateway.ledger.batches import LedgerBatches
from gateway.wire import bus
from tests.support.servers import eventually
from tests.support.shop_floor import HOUR_MS, SHARD, ShopFloor, WatchedLedger, item, make_sale, shop_floor


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    items = [item("tin", stock=10, limit=2), item("box", price=500, stock=1_000, limit=1_000)]
    async with shop_floor(database_url, valkey_url, items=items) as floor:
        yield floor


# What stands in the stream becomes rows.


async def test_groups_and_acts_are_applied_in_order(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1", quantity=2), floor.request("vw_2"))
    await floor.control.act(floor.sale.sale_no, Act.PAUSE, actor="host_1")
    await floor.control.act(floor.sale.sale_no, Act.RESUME, actor="host_1")
    await floor.control.act(
        floor.sale.sale_no, Act.STOCK, actor="host_2", item_no=1, value=5, key="stock-1", fingerprint="f"
    )
    (last,) = await floor.reserve(floor.request("vw_3", extra='{"ref":"r"}'))
    await floor.written()

    assert await floor.cursor() == 6
    assert await floor.rows() == [
        (1, "confirmed", None, "k1"),
        (2, "confirmed", None, "k1"),
        (6, "confirmed", None, "k1"),
    ]
    acts = await floor.sales.acts(floor.sale.sale_no)
    assert [(act.seq, act.act, act.actor) for act in acts] == [
        (3, Act.PAUSE, "host_1"),
        (4, Act.RESUME, "host_1"),
        (5, Act.STOCK, "host_2"),
    ]
    assert (acts[2].before, acts[2].after) == ("10", "15")
    assert (await floor.sales.counts(floor.sale.sale_no))[1] == (15, 4, 0)
    sale = await floor.sales.find(floor.sale.sale_no)
    assert sale is not None and sale.hold == "active"
    order = (await floor.ledger_orders.by_place([(floor.sale.sale_no, last)]))[last]
    assert (order.viewer, order.amount_minor, order.extra) == ("vw_3", 1900, '{"ref":"r"}')
    assert await floor.ledger.fetchval("SELECT object FROM effects WHERE key = 'stock-1'") == floor.sale.sale


async def test_viewers_are_told_on_the_bus_and_valkey_how_far_the_ledger_is(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"), floor.request("vw_2"))
    before_ms = await floor.now_ms()
    await floor.written()
    (told,) = floor.heard.messages
    assert isinstance(told, bus.Applied)
    assert (told.shard, told.epoch, told.seq) == (SHARD, 1, 2)
    ((shop, states),) = [(group.shop, group.orders) for group in bus.decode_shops(told.shops)]
    assert shop == "tins"
    assert [(state.viewer, state.status) for state in states] == [("vw_1", "confirmed"), ("vw_2", "confirmed")]
    # The term begins with the commit, not with the tap.
    assert before_ms + 300_000 - 1_000 <= states[0].pay_by_ms <= before_ms + 330_000
    order = (await floor.ledger_orders.by_place([(floor.sale.sale_no, states[0].order)]))[states[0].order]
    assert order.pay_by_ms == states[0].pay_by_ms
    assert await floor.hot.backlog() == 0


async def test_a_running_writer_applies_what_comes_in(floor: ShopFloor) -> None:
    async with floor.writing():
        for at in range(5):
            await floor.reserve(floor.request(f"vw_{at}", item_no=2))
            await floor.applied()
    assert await floor.statuses() == ["confirmed"] * 5


async def test_the_cursor_and_the_orders_move_in_one_transaction(floor: ShopFloor) -> None:
    for at in range(40):
        await floor.reserve(*(floor.request(f"vw_{at}_{of}", item_no=2) for of in range(5)))
    seen = set()
    async with floor.writing(floor.writer(batch_max=5)):
        while True:
            row = await floor.ledger.fetchrow(
                "SELECT last_seq, (SELECT count(*) FROM orders) AS orders,"
                " (SELECT coalesce(sum(held), 0) FROM sale_items) AS held FROM shards"
            )
            assert row["last_seq"] == row["orders"] == row["held"]
            seen.add(row["last_seq"])
            if row["last_seq"] == 200:
                break
    assert len(seen) > 2, "it was seen at work"


async def test_an_act_the_ledger_cannot_follow_is_kept_without_effect_and_the_stream_goes_on(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1", quantity=2))
    await floor.forge(["act", floor.sale.sale_no, 1, 2, "stock", 1, -9, "host_1", "stock", "", "", ""], last=2)
    await floor.reserve(floor.request("vw_2"))
    with capture_logs() as logs:
        await floor.written()
    assert [each["seq"] for each in logs if each["event"] == "act_without_effect"] == [2]
    (act,) = await floor.sales.acts(floor.sale.sale_no)
    assert (act.before, act.after) == ("10", None)
    assert (await floor.sales.counts(floor.sale.sale_no))[1].stock == 10
    assert await floor.statuses() == ["confirmed", "confirmed"]


# Once, whoever writes.


async def leased(floor: ShopFloor, holder: str = "writer_1") -> tuple[LedgerBatches, int]:
    ledger = LedgerBatches(floor.database_url)
    lease = await ledger.take_lease(SHARD, holder=holder, for_s=30)
    assert lease is not None
    return ledger, lease.token


def one_order(floor: ShopFloor, seq: int, **changed: Any) -> OrderColumns:
    row = {"viewer": f"vw_{seq}", "key": "k1", "item": 2, "quantity": 1, "price": 500} | changed
    sale_no, at_ms = floor.sale.sale_no, floor.sale.opens_at_ms + 1
    return OrderColumns(
        seqs=[seq],
        sales=[sale_no],
        items=[row["item"]],
        order_ids=[floor.mint.order(at_ms, sale_no, 1, seq)],
        viewers=[row["viewer"]],
        keys=[row["key"]],
        fingerprints=["f"],
        quantities=[row["quantity"]],
        prices=[row["price"]],
        at_ms=[at_ms],
        extras=[None],
    )


async def test_a_batch_from_an_old_cursor_changes_nothing(floor: ShopFloor) -> None:
    ledger, token = await leased(floor)
    first = Place(SHARD, 1, 0, 1, token)
    await ledger.apply_orders(first, one_order(floor, 1))
    for place in (first, Place(SHARD, 1, 2, 3, token), Place(SHARD, 2, 1, 2, token)):
        with pytest.raises(LeaseLost):
            await ledger.apply_orders(place, one_order(floor, place.last))
    await ledger.close()
    assert (await floor.cursor(), await floor.held_in_ledger(2)) == (1, 1)
    assert await floor.statuses() == ["confirmed"]


async def test_a_stream_that_is_read_again_from_the_start_is_applied_once(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"), floor.request("vw_2"))
    for _ in range(3):
        await floor.written()
    assert await floor.statuses() == ["confirmed"] * 2
    assert len(floor.heard.messages) == 1


async def test_data_the_ledger_rejects_leaves_the_cursor_and_everything_else_as_they_were(floor: ShopFloor) -> None:
    ledger, token = await leased(floor)
    columns = one_order(floor, 1)
    bad = one_order(floor, 2, quantity=0)
    for name in OrderColumns.__dataclass_fields__.keys() - {"claims"}:
        getattr(columns, name).extend(getattr(bad, name))
    with pytest.raises(LedgerRejected):
        await ledger.apply_orders(Place(SHARD, 1, 0, 2, token), columns)
    await ledger.close()
    assert (await floor.cursor(), await floor.held_in_ledger(2), await floor.rows()) == (0, 0, [])
    assert await floor.ledger.fetchval("SELECT count(*) FROM holdings") == 0


async def test_only_one_writer_holds_a_shard_and_the_next_takes_over_when_it_is_given_back(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1"))
    async with floor.writing(floor.writer(holder="writer_1")) as first:
        await floor.applied()
        other = LedgerBatches(floor.database_url)
        assert await other.take_lease(SHARD, holder="writer_2", for_s=2) is None
        first.stop()
        await asyncio.wait_for(first.caught_up.wait(), 5)
    taken = await other.take_lease(SHARD, holder="writer_2", for_s=2)
    await other.close()
    assert taken is not None
    assert (taken.last_seq, taken.token) == (1, 2)


async def test_a_writer_that_was_stopped_while_another_took_over_is_fenced_and_rolls_back(floor: ShopFloor) -> None:
    await floor.reserve(*(floor.request(f"vw_{at}", item_no=2) for at in range(20)))
    slow = WatchedLedger(floor.database_url)
    slow.go.clear()
    with capture_logs() as logs:
        async with floor.writing(floor.writer(holder="zombie", ledger=slow)):
            await asyncio.wait_for(slow.held_back.wait(), 5)
            # Its lease ends while it stands still; by the ledger's clock, so no clock of ours is asked.
            await floor.ledger.execute("UPDATE shards SET lease_until = '-infinity'")
            async with floor.writing(floor.writer(holder="writer_2")):
                await floor.applied()
                slow.go.set()

                async def fenced() -> bool:
                    return any(each["event"] == "lease_lost" for each in logs)

                await eventually(fenced)
                await floor.reserve(floor.request("vw_20", item_no=2))
                await floor.applied()
    assert slow.sizes == [20], "it tried"
    assert [row[0] for row in await floor.rows()] == list(range(1, 22))
    assert await floor.held_in_ledger(2) == 21
    assert await floor.ledger.fetchval("SELECT lease_token FROM shards") == 2


# The ledger judges again, also when Valkey was wrong.


async def spoil(floor: ShopFloor, wrong: str) -> list[Any]:
    """Makes Valkey wrong in one way; the orders it then reserves wrongly, of item 1."""
    sale_key = floor.keys.sale(floor.sale.sale_no)
    match wrong:
        case "stock":
            await floor.client.hset(sale_key, "1:left", "20")
            await floor.reserve(*(floor.request(f"good_{at}", quantity=2) for at in range(5)))
            return [floor.request("vw_1")]
        case "limit":
            await floor.client.hset(sale_key, "1:limit", "5")
            return [floor.request("vw_1", quantity=3)]
        case "price":
            await floor.client.hset(sale_key, "1:price", "1")
            return [floor.request("vw_1")]
        case "key":
            await floor.reserve(floor.request("vw_1"))
            await floor.client.hdel(floor.keys.answers(floor.sale.sale_no), "vw_1|k1")
            return [floor.request("vw_1")]
        case "window":
            await floor.ledger.execute("UPDATE sales SET opens_at_ms = closes_at_ms - 1")
            return [floor.request("vw_1")]
        case "paused":
            await floor.ledger.execute("UPDATE sales SET hold = 'paused'")
            return [floor.request("vw_1")]
        case "closed":
            await floor.ledger.execute("UPDATE sales SET hold = 'closed'")
            return [floor.request("vw_1")]
    raise AssertionError(wrong)


@pytest.mark.parametrize("wrong", ["stock", "limit", "price", "key", "window", "paused", "closed"])
async def test_what_valkey_reserved_wrongly_is_refused_with_its_reason_and_given_back_once(
    floor: ShopFloor, wrong: str
) -> None:
    requests = await spoil(floor, wrong)
    _, left_before, held_before = await floor.counts()
    (order_id,) = await floor.reserve(*requests)
    with capture_logs() as logs:
        await floor.written()
    assert [each["event"] for each in logs if each["log_level"] == "error"] == ["ledger_refused_orders"]

    reason = {"paused": "window", "closed": "window"}.get(wrong, wrong)
    rows = await floor.rows()
    assert rows[-1] == (len(rows), "refused", reason, None)
    assert {row[1] for row in rows[:-1]} <= {"confirmed"}
    assert (await floor.sales.counts(floor.sale.sale_no))[1].held == held_before
    assert floor.heard.states()["vw_1"] == ("refused", "ledger")
    order = (await floor.ledger_orders.by_place([(floor.sale.sale_no, order_id)]))[order_id]
    assert (order.status, order.pay_by_ms) == ("refused", None)

    assert [row.no for row in await floor.outbox.pending(SHARD, limit=10)] == [1]
    for _ in range(3):
        await floor.give_back.drain(SHARD)
        assert (await floor.counts())[1:] == (left_before, held_before)
    assert await floor.outbox.pending(SHARD, limit=10) == []
    assert (await floor.held.held_by(floor.sale.sale_no, [("vw_1", "k1")]))[0] == [None], "the key is free again"


async def test_a_release_whose_reply_was_lost_is_not_given_back_twice(floor: ShopFloor) -> None:
    await floor.reserve(*await spoil(floor, "price"))
    await floor.written()
    rows = await floor.outbox.pending(SHARD, limit=10)
    assert await floor.releases.apply(rows) == 1
    # The keeper dies before it forgets the rows; the next one begins with the same.
    await floor.give_back.drain(SHARD)
    assert (await floor.counts())[1:] == (10, 0)
    assert await floor.outbox.pending(SHARD, limit=10) == []


async def test_in_one_batch_only_the_orders_beyond_the_stock_are_refused_in_their_order(floor: ShopFloor) -> None:
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "1:left", "100")
    await floor.reserve(*(floor.request(f"vw_{at}") for at in range(12)), floor.request("vw_box", item_no=2))
    await floor.written()
    assert await floor.statuses() == ["confirmed"] * 10 + ["refused"] * 2 + ["confirmed"]
    assert [row.seq for row in await floor.outbox.pending(SHARD, limit=10)] == [11, 12]
    assert await floor.held_in_ledger() == 10


async def test_a_viewers_limit_holds_over_the_orders_of_one_batch(floor: ShopFloor) -> None:
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "1:limit", "100")
    await floor.reserve(*(floor.request("vw_1", f"k{at}") for at in range(4)), floor.request("vw_2"))
    await floor.written()
    assert await floor.statuses() == ["confirmed", "confirmed", "refused", "refused", "confirmed"]
    assert await floor.ledger.fetchval("SELECT units FROM holdings WHERE viewer = 'vw_1'") == 2


async def test_a_key_given_twice_in_one_batch_is_one_order(floor: ShopFloor) -> None:
    row = ["vw_1", "k1", "f", 2, 1, 500, ""]
    await floor.forge_orders([row, row, ["vw_2", "k1", "f", 2, 1, 500, ""]])
    await floor.written()
    assert await floor.rows() == [
        (1, "confirmed", None, "k1"),
        (2, "refused", "key", None),
        (3, "confirmed", None, "k1"),
    ]
    assert await floor.held_in_ledger(2) == 2


@pytest.mark.parametrize("unknown", ["item", "sale"])
async def test_an_order_of_nothing_the_ledger_knows_is_refused_and_the_others_are_confirmed(
    floor: ShopFloor, unknown: str
) -> None:
    if unknown == "item":
        await floor.forge_orders([["vw_1", "k1", "f", 2, 1, 500, ""], ["vw_2", "k1", "f", 99, 1, 500, ""]])
    else:
        await floor.forge_orders([["vw_1", "k1", "f", 2, 1, 500, ""]])
        await floor.forge_orders([["vw_2", "k1", "f", 2, 1, 500, ""]], sale_no=99)
    await floor.written()
    assert [row[1:3] for row in await floor.rows()] == [("confirmed", None), ("refused", "unknown_item")]
    await floor.give_back.drain(SHARD)
    assert await floor.outbox.pending(SHARD, limit=10) == []


async def test_an_order_decided_before_the_opening_or_at_the_end_is_outside_the_window(floor: ShopFloor) -> None:
    for at_ms in (floor.sale.opens_at_ms - 1, floor.sale.closes_at_ms, floor.sale.opens_at_ms):
        await floor.forge_orders([[f"vw_{at_ms}", "k1", "f", 2, 1, 500, ""]], at_ms=at_ms)
    await floor.written()
    assert [row[1:3] for row in await floor.rows()] == [
        ("refused", "window"),
        ("refused", "window"),
        ("confirmed", None),
    ]


async def test_orders_around_a_pause_are_judged_by_the_state_at_their_place_in_the_stream(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1", item_no=2))
    await floor.control.act(floor.sale.sale_no, Act.PAUSE, actor="host_1")
    await floor.forge_orders([["vw_2", "k1", "f", 2, 1, 500, ""]])
    await floor.control.act(floor.sale.sale_no, Act.RESUME, actor="host_1")
    await floor.reserve(floor.request("vw_3", item_no=2))
    await floor.written()
    assert await floor.statuses() == ["confirmed", "refused", "confirmed"]


async def test_orders_of_two_sales_in_one_batch_are_judged_each_by_its_own(floor: ShopFloor) -> None:
    other = await make_sale(floor, key="sale_2", items=[item("tin", price=100, stock=1, limit=1)])
    await floor.forge_orders([["vw_1", "k1", "f", 2, 1, 500, ""]])
    await floor.forge_orders(
        [["vw_1", "k1", "f", 1, 1, 100, ""], ["vw_2", "k1", "f", 1, 1, 100, ""]], sale_no=other.sale_no
    )
    await floor.written()
    assert await floor.statuses() == ["confirmed", "confirmed", "refused"]
    assert (await floor.sales.counts(other.sale_no))[1].held == 1


# Data the ledger rejects.

POISON = {
    "a text PostgreSQL has no room for": ["vw_x", "k1", "f", 2, 1, 500, "\x00"],
    "a viewer PostgreSQL has no room for": ["vw\x00x", "k1", "f", 2, 1, 500, ""],
    "a quantity below one": ["vw_x", "k1", "f", 2, 0, 500, ""],
    "a quantity past any bound": ["vw_x", "k1", "f", 2, 5_000_000_000, 500, ""],
    "an item past any bound": ["vw_x", "k1", "f", 70_000, 1, 500, ""],
    "a price below zero": ["vw_x", "k1", "f", 2, 1, -500, ""],
}


@pytest.mark.parametrize("what", POISON)
async def test_one_poisoned_order_is_parked_and_the_others_of_its_batch_are_confirmed(
    floor: ShopFloor, what: str
) -> None:
    rows = [[f"vw_{at}", "k1", "f", 2, 1, 500, ""] for at in range(8)]
    rows[5] = POISON[what]
    await floor.forge_orders(rows)
    with capture_logs() as logs:
        async with floor.writing():
            await floor.applied(8, within_s=5)
    assert [row[0] for row in await floor.rows() if row[1] == "confirmed"] == [1, 2, 3, 4, 5, 7, 8]
    assert await floor.held_in_ledger(2) == 7
    if not await floor.parked():
        assert [row for row in await floor.rows() if row[1] == "refused"], "parked, or refused with a reason"
    else:
        assert await floor.parked() == [(6, 6)]
        assert [each["seq"] for each in logs if each["event"] == "order_parked"] == [6]


async def test_a_parked_order_is_released_and_told_as_refused_and_its_row_says_so(floor: ShopFloor) -> None:
    """Every order that was answered `reserved` ends in a state that can be asked for."""
    requests = [floor.request(f"vw_{at}", item_no=2) for at in range(3)]
    requests[1].extra = "\x00"
    order_ids = await floor.reserve(*requests)
    await floor.written()
    assert await floor.parked() == [(2, 2)]
    assert (await floor.shards.standing(SHARD)).wants is None, "its units come back by the outbox"
    entry = await floor.ledger.fetchval("SELECT entry FROM parked")
    assert b"vw_1" in entry
    assert floor.heard.states()["vw_1"] == ("refused", "ledger")
    await floor.give_back.drain(SHARD)
    await floor.give_back.drain(SHARD)
    assert (await floor.counts(2))[1:] == (998, 2)
    assert (await floor.held.held_by(floor.sale.sale_no, [("vw_1", "k1")]))[0] == [None]
    found = await floor.ledger_orders.by_place([(floor.sale.sale_no, order_ids[1])])
    assert found[order_ids[1]].status == "refused"


@pytest.mark.parametrize("what", ["an act of no sale", "an act nobody knows", "no entry at all"])
async def test_an_entry_the_ledger_cannot_take_ends_no_process_and_is_parked(floor: ShopFloor, what: str) -> None:
    """One entry must not keep a shard from ever confirming again."""
    await floor.reserve(floor.request("vw_1", item_no=2))
    match what:
        case "an act of no sale":
            await floor.forge(["act", 99, 1, 2, "pause", 0, 0, "host_1", "stock", "", "", ""], last=2)
        case "an act nobody knows":
            await floor.forge(["act", floor.sale.sale_no, 1, 2, "explode", 0, 0, "host_1", "stock", "", "", ""], last=2)
        case "no entry at all":
            await floor.forge(["nonsense", 1], last=2)
    await floor.reserve(floor.request("vw_2", item_no=2))
    async with floor.writing():
        await floor.applied(3, within_s=5)
    assert await floor.statuses() == ["confirmed", "confirmed"]
    assert await floor.parked() == [(2, 2)]
    assert (await floor.shards.standing(SHARD)).wants == "parked", "what Valkey took for it the ledger does not have"


# PostgreSQL away.


async def writer_pids(floor: ShopFloor) -> list[int]:
    rows = await floor.ledger.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND (query LIKE '%apply_orders%' OR query LIKE '%lease_holder%')"
    )
    return [row["pid"] for row in rows]


async def test_a_connection_that_is_cut_again_and_again_costs_time_and_no_order(floor: ShopFloor) -> None:
    ledger = WatchedLedger(floor.database_url)
    async with floor.writing(floor.writer(ledger=ledger, batch_max=4)):
        for at in range(20):
            await floor.reserve(*(floor.request(f"vw_{at}_{of}", item_no=2) for of in range(4)))
            if at % 5 == 0:
                for pid in await writer_pids(floor):
                    await floor.ledger.execute("SELECT pg_terminate_backend($1)", pid)
        await floor.applied()
    assert await floor.statuses() == ["confirmed"] * 80
    assert await floor.parked() == []
    assert set(ledger.sizes) <= {4, 8}, "an outage is waited for, never bisected"


async def test_a_postgres_that_stands_still_is_waited_for(floor: ShopFloor) -> None:
    ledger = WatchedLedger(floor.database_url)
    async with floor.writing(floor.writer(ledger=ledger)) as writer:
        await asyncio.wait_for(writer.caught_up.wait(), 5)
        (pid,) = await writer_pids(floor)
        os.kill(pid, signal.SIGSTOP)
        try:
            await floor.reserve(*(floor.request(f"vw_{at}", item_no=2) for at in range(20)))

            async def asked() -> bool:
                return ledger.sizes == [20]

            # The writer may as well hang in prolonging its lease; then the batch comes when that is over.
            with contextlib.suppress(TimeoutError):
                await eventually(asked, within_s=3)
            assert await floor.cursor() == 0
        finally:
            os.kill(pid, signal.SIGCONT)
        await floor.applied()
    assert set(ledger.sizes) == {20}
    assert await floor.statuses() == ["confirmed"] * 20
    assert await floor.parked() == []


async def test_a_row_lock_on_the_shard_is_waited_for(floor: ShopFloor) -> None:
    ledger = WatchedLedger(floor.database_url)
    async with floor.writing(floor.writer(ledger=ledger)) as writer:
        await asyncio.wait_for(writer.caught_up.wait(), 5)
        async with floor.ledger.transaction() as connection:
            await connection.execute("SELECT FROM shards FOR UPDATE")
            await floor.reserve(floor.request("vw_1"), floor.request("vw_2"))
        await floor.applied()
    assert set(ledger.sizes) <= {2}
    assert await floor.statuses() == ["confirmed"] * 2


async def test_a_writer_that_finds_valkey_away_goes_on_when_it_is_back(floor: ShopFloor, valkey_url: str) -> None:
    client = connect(valkey_url, max_connections=4, reply_timeout_s=5.0)
    name = "the-writer"
    await client.client_setname(name)
    async with floor.writing(floor.writer(client=client)):
        await floor.reserve(floor.request("vw_1", item_no=2))
        await floor.applied()
        for each in await floor.client.client_list():
            if each["id"] != str(await floor.client.client_id()):
                await floor.client.client_kill_filter(_id=each["id"], skipme=True)
        await floor.reserve(floor.request("vw_2", item_no=2))
        await floor.applied()
    await client.aclose()
    assert await floor.statuses() == ["confirmed"] * 2


# Gaps.


async def test_a_gap_in_the_stream_is_recorded_as_lost_with_an_alarm_and_the_rest_is_applied(floor: ShopFloor) -> None:
    for at in range(4):
        await floor.reserve(floor.request(f"vw_{at}", item_no=2))
    await floor.client.xdel(floor.keys.stream, "1-2", "1-3")
    with capture_logs() as logs:
        await floor.written()
    (said,) = [each for each in logs if each["event"] == "stream_gap"]
    assert said["log_level"] == "critical"
    assert (said["epoch"], said["first"], said["last"]) == (1, 2, 3)
    assert [row[0] for row in await floor.rows()] == [1, 4]
    assert await floor.cursor() == 4
    lost = await floor.ledger.fetch("SELECT shard, epoch, first_seq, last_seq FROM lost_seqs")
    assert [tuple(row) for row in lost] == [(SHARD, 1, 2, 3)]
    assert (await floor.shards.standing(SHARD)).wants == "gap", "Valkey holds units for nobody: it is to be recounted"


async def test_what_stands_in_a_later_epoch_is_left_until_the_ledger_is_there(floor: ShopFloor) -> None:
    await floor.reserve(floor.request("vw_1", item_no=2))
    await floor.client.hset(floor.keys.shard, mapping={"epoch": 2, "seq": 0})
    floor.hot.enter_epoch(2, 0)
    await floor.reserve(floor.request("vw_2", item_no=2))
    async with floor.writing():
        await floor.applied(1)
        assert await floor.statuses() == ["confirmed"]
        await floor.ledger.execute("UPDATE shards SET epoch = 2, last_seq = 0")
        await floor.applied(1)
        assert await floor.statuses() == ["confirmed", "confirmed"]


async def test_a_mark_of_an_epoch_that_ended_is_not_set_in_the_next(floor: ShopFloor) -> None:
    await floor.client.hset(floor.keys.shard, mapping={"epoch": 2, "applied": 0})
    await floor.stream.applied(1, 40_000, keep=10)
    assert await floor.client.hget(floor.keys.shard, "applied") == b"0"
    await floor.client.flushall()
    await floor.stream.applied(1, 40_000, keep=10)
    assert await floor.client.keys("*") == []


# Stopping, and what stays in the stream.


async def test_stop_drains_what_the_stream_holds_and_gives_the_lease_back(floor: ShopFloor) -> None:
    for at in range(150):
        await floor.reserve(floor.request(f"vw_{at}", item_no=2))
    writer = floor.writer(batch_max=10)
    writer.stop()
    await asyncio.wait_for(writer.run(), 20)
    assert await floor.cursor() == 150
    await writer.close()
    assert await floor.ledger.fetchval("SELECT lease_until < clock_timestamp() FROM shards")


async def test_stop_of_an_idle_writer_returns_and_keeps_nothing_back(floor: ShopFloor) -> None:
    async with asyncio.TaskGroup() as tasks:
        writer = floor.writer()
        running = tasks.create_task(writer.run())
        await asyncio.wait_for(writer.caught_up.wait(), 5)
        await floor.reserve(floor.request("vw_1"))
        writer.stop()
        await asyncio.wait_for(running, 5)
    await writer.close()
    assert await floor.statuses() == ["confirmed"]


async def test_a_writer_without_the_lease_stops_at_once(floor: ShopFloor) -> None:
    ledger, _ = await leased(floor, "another")
    writer = floor.writer()
    writer.stop()
    await asyncio.wait_for(writer.run(), 5)
    await writer.close()
    await ledger.close()


async def test_trimming_keeps_the_tail_behind_the_ledger_and_everything_before_it(floor: ShopFloor) -> None:
    for at in range(400):
        await floor.reserve(floor.request(f"vw_{at}", item_no=2))
    await floor.stream.applied(1, 50, keep=100)
    assert await floor.client.xlen(floor.keys.stream) == 400, "nothing is older than the tail yet"
    await floor.stream.applied(1, 350, keep=100)
    kept = [int(id.split(b"-")[1]) for id, _ in await floor.client.xrange(floor.keys.stream)]
    assert kept == list(range(kept[0], 401))
    assert 1 < kept[0] <= 250, "the tail of 100 is whole; whole blocks of what is older are gone"
    assert await floor.hot.backlog() == 50


async def test_a_sale_that_ended_meanwhile_still_takes_the_orders_decided_inside_its_window(
    database_url: str, valkey_url: str
) -> None:
    async with shop_floor(database_url, valkey_url, opens_in_ms=-2 * HOUR_MS, closes_in_ms=-HOUR_MS) as floor:
        await floor.forge_orders([["vw_1", "k1", "f", 1, 1, 1900, ""]], at_ms=floor.sale.closes_at_ms - 1)
        await floor.written()
        assert await floor.statuses() == ["confirmed"]
