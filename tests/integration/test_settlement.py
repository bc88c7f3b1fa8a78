"""The life of an order after its confirmation, in the real ledger and the real Valkey: paid, cancelled, expired,
revived by late money, refunded. The units stand where the audit expects them after every step."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway import points
from gateway.domain.settle import SettleAct, Settled
from gateway.keeper.deadlines import ORDERS_AT_ONCE
from tests.support.shop_floor import SHARD, ShopFloor, item, make_sale, shop_floor

AMOUNT = 1900


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url) as floor:
        yield floor


class Till:
    """Reports payments, refunds and cancels of the floor's orders to the ledger."""

    def __init__(self, floor: ShopFloor) -> None:
        self.floor = floor
        self._txns = itertools.count(1)

    async def _act(self, order: str, do: str, **more: Any) -> Settled:
        act = SettleAct(do=do, shop_no=1, order=order, sale=self.floor.sale.sale_no, **more)
        return (await self.floor.settlement.settle(SHARD, [act]))[0]

    async def pay(self, order: str, *, txn: str | None = None, amount: int = AMOUNT, **more: Any) -> Settled:
        txn = txn or f"txn-{next(self._txns)}"
        more = {"provider": "bank", "paid_at_ms": 1_700_000_000_000, **more}
        return await self._act(order, "pay", txn=txn, amount=amount, **more)

    async def refund(self, order: str, txn: str, *, amount: int = AMOUNT, **more: Any) -> Settled:
        return await self._act(order, "refund", txn=txn, amount=amount, **more)

    async def cancel(self, order: str, viewer: str) -> Settled:
        return await self._act(order, "cancel", viewer=viewer)


@pytest.fixture
def till(floor: ShopFloor) -> Till:
    return Till(floor)


async def confirmed(floor: ShopFloor, viewer: str = "vw_1", key: str = "k1") -> str:
    [order] = await floor.reserve(floor.request(viewer, key))
    await floor.written()
    return order


async def expired(floor: ShopFloor, viewer: str = "vw_1", key: str = "k1") -> str:
    order = await confirmed(floor, viewer, key)
    await pass_deadlines(floor)
    await floor.deadlines.sweep(SHARD)
    await floor.give_back.drain(SHARD)
    return order


async def pass_deadlines(floor: ShopFloor) -> None:
    """Puts every deadline, and the confirmation it follows from, an hour back."""
    await floor.ledger.execute(
        "UPDATE orders SET confirmed_at = confirmed_at - interval '1 hour', pay_by = pay_by - interval '1 hour'"
    )
    await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '1 hour'")


async def status_of(floor: ShopFloor, order: str) -> str:
    return str(await floor.ledger.fetchval("SELECT status FROM orders WHERE order_id = $1", order))


async def ledger_counts(floor: ShopFloor) -> tuple[int, int, int]:
    """(held, sold, units of all holdings) in the ledger."""
    row = await floor.ledger.fetchrow(
        "SELECT sum(held)::int AS held, sum(sold)::int AS sold,"
        " (SELECT coalesce(sum(units), 0)::int FROM holdings) AS units FROM sale_items"
    )
    return row["held"], row["sold"], row["units"]


async def payment_states(floor: ShopFloor) -> list[tuple[str, str, str | None]]:
    rows = await floor.ledger.fetch("SELECT txn, state, reason FROM payments ORDER BY payment_no")
    return [(row["txn"], row["state"], row["reason"]) for row in rows]


# Payment.


async def test_a_payment_makes_the_order_paid_and_its_units_sold(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    assert (await till.pay(order))[:6] == ("done", "tins", "vw_1", order, "paid", True)
    assert await ledger_counts(floor) == (0, 1, 1)
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (10, 9, 0)
    assert await floor.client.hget(floor.keys.units(floor.sale.sale_no), "vw_1|1") == b"1"


async def test_the_same_report_again_changes_nothing(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    await till.pay(order, txn="a")
    assert (await till.pay(order, txn="a")).word == "replayed"
    assert (await till.pay(order, txn="a", amount=1)).word == "txn_reused"
    assert await payment_states(floor) == [("a", "applied", None)]
    assert await ledger_counts(floor) == (0, 1, 1)


async def test_a_key_answers_a_repeat_and_refuses_other_content(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    key = {"caller": "shop", "key": "k", "fingerprint": "f"}
    assert (await till.pay(order, txn="a", **key)).word == "done"
    assert (await till.pay(order, txn="a", **key)).word == "replayed"
    assert (await till.pay(order, txn="b", **{**key, "fingerprint": "g"})).word == "key_reused"
    assert len(await payment_states(floor)) == 1


async def test_twenty_equal_notices_at_once_are_one_payment(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    words = [each.word for each in await asyncio.gather(*(till.pay(order, txn="a", keep=True) for _ in range(20)))]
    assert sorted(words) == ["done"] + ["replayed"] * 19
    assert await ledger_counts(floor) == (0, 1, 1)


async def test_a_second_transaction_is_to_be_refunded_and_the_order_stays_paid(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    await till.pay(order, txn="a")
    assert (await till.pay(order, txn="b"))[:6] == ("done", "tins", "vw_1", order, "paid", False)
    assert await payment_states(floor) == [("a", "applied", None), ("b", "refund_due", "second")]


async def test_a_wrong_amount_reported_by_a_shop_changes_nothing(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    assert (await till.pay(order, amount=1)).word == "amount_mismatch"
    assert await payment_states(floor) == []
    assert await status_of(floor, order) == "confirmed"


@pytest.mark.parametrize("more", [{"amount": 1}, {"currency": "USD"}])
async def test_wrong_money_a_provider_took_is_kept_to_be_refunded(
    floor: ShopFloor, till: Till, more: dict[str, Any]
) -> None:
    order = await confirmed(floor)
    assert (await till.pay(order, txn="a", keep=True, **more)).word == "done"
    assert await payment_states(floor) == [("a", "refund_due", "amount")]
    assert await status_of(floor, order) == "confirmed"


async def test_money_of_an_unknown_order_is_kept_when_a_provider_took_it(floor: ShopFloor, till: Till) -> None:
    assert (await till.pay("ord_none", txn="a")).word == "not_found"
    assert (await till.pay("ord_none", txn="a", keep=True)).word == "done"
    assert await payment_states(floor) == [("a", "refund_due", "unknown_order")]


# Cancel.


async def test_a_cancelled_order_gives_its_units_back_and_keeps_its_key(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    assert (await till.cancel(order, "vw_1")).status == "cancelled"
    assert (await till.cancel(order, "vw_1"))[:6] == ("done", "tins", "vw_1", order, "cancelled", False)
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (10, 10, 0)
    assert await ledger_counts(floor) == (0, 0, 0)
    # The viewer may buy again with another key; the old key still answers with the old order.
    assert await floor.reserve(floor.request("vw_1")) == [order]
    await floor.reserve(floor.request("vw_1", "k2", quantity=2))


async def test_nobody_cancels_the_order_of_another_or_one_that_is_paid(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    assert (await till.cancel(order, "vw_2")).word == "not_found"
    await till.pay(order)
    assert (await till.cancel(order, "vw_1")).word == "conflict"


async def test_money_for_a_cancelled_order_is_to_be_refunded(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    await till.cancel(order, "vw_1")
    assert (await till.pay(order, txn="a")).status == "refund_due"
    assert (await till.refund(order, "a")).status == "refunded"
    assert await payment_states(floor) == [("a", "refunded", "cancelled")]


# Deadlines.


async def test_orders_expire_after_their_deadline_and_not_before(floor: ShopFloor) -> None:
    order = await confirmed(floor)
    assert await floor.deadlines.sweep(SHARD) == 0
    await pass_deadlines(floor)
    assert await floor.deadlines.sweep(SHARD) == 1
    assert await status_of(floor, order) == "expired"
    assert floor.heard.states()["vw_1"] == ("expired", "")
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (10, 10, 0)
    assert await floor.ledger.fetch("SELECT * FROM deadlines") == []


async def test_the_points_of_expiry_are_reached_only_when_something_is_due(
    floor: ShopFloor, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []
    monkeypatch.setattr(points, "reach", reached.append)
    await confirmed(floor)
    assert await floor.deadlines.sweep(SHARD) == 0
    assert not [point for point in reached if point.startswith("expire.")]
    await pass_deadlines(floor)
    assert await floor.deadlines.sweep(SHARD) == 1
    assert [point for point in reached if point.startswith("expire.")] == [
        "expire.commit.before",
        "expire.commit.after",
    ]


async def test_an_order_that_was_paid_in_time_does_not_expire(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    await till.pay(order)
    await pass_deadlines(floor)
    assert await floor.deadlines.sweep(SHARD) == 0
    assert await status_of(floor, order) == "paid"


async def test_payment_and_deadline_in_the_same_moment_have_one_winner(floor: ShopFloor, till: Till) -> None:
    floor.sale = await make_sale(floor, key="race", items=[item(stock=200)])
    orders = await floor.reserve(*(floor.request(f"vw_{at}") for at in range(100)))
    await floor.written()
    await pass_deadlines(floor)
    paying = [till.pay(order, txn=f"t{at}") for at, order in enumerate(orders)]
    await asyncio.gather(*paying[:50], floor.deadlines.sweep(SHARD), *paying[50:])
    for _ in range(2):
        await floor.late.settle(SHARD)
        await floor.written()
        await floor.give_back.drain(SHARD)
    assert set(await floor.statuses()) == {"paid"}
    assert await floor.counts() == (200, 100, 0)
    assert await ledger_counts(floor) == (0, 100, 100)


async def test_many_deadlines_are_taken_in_slices_and_none_is_forgotten(floor: ShopFloor) -> None:
    count = 2 * ORDERS_AT_ONCE + 500
    floor.sale = await make_sale(floor, key="storm", items=[item(stock=count)])
    for at in range(0, count, 250):
        await floor.reserve(*(floor.request(f"vw_{at + one}") for one in range(250)))
    await floor.written()
    await pass_deadlines(floor)
    assert await floor.deadlines.sweep(SHARD) == count
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (count, count, 0)
    assert await floor.client.hlen(floor.keys.units(floor.sale.sale_no)) == 0
    assert await floor.client.hlen(floor.keys.answers(floor.sale.sale_no)) == count


async def test_nothing_expires_while_the_clocks_are_not_trusted(floor: ShopFloor) -> None:
    order = await confirmed(floor)
    await pass_deadlines(floor)
    floor.trust.trusted = False
    assert await floor.deadlines.sweep(SHARD) == 0
    assert await status_of(floor, order) == "confirmed"


# Late money.


async def test_late_money_brings_the_order_back_while_a_unit_is_free(floor: ShopFloor, till: Till) -> None:
    order = await expired(floor)
    assert (await till.pay(order, txn="a")).status == "expired"
    assert await payment_states(floor) == [("a", "waiting", None)]
    for _ in range(2):  # asked again before the writer came by, it takes no second unit
        await floor.late.settle(SHARD)
    assert await floor.counts() == (10, 9, 0)
    await floor.written()
    assert await status_of(floor, order) == "paid"
    assert await payment_states(floor) == [("a", "applied", None)]
    assert await ledger_counts(floor) == (0, 1, 1)
    assert floor.heard.states()["vw_1"] == ("paid", "")


async def test_late_money_that_the_ledger_cannot_take_is_to_be_refunded_and_its_units_are_recounted(
    floor: ShopFloor, till: Till
) -> None:
    await floor.keeper.step()
    order = await expired(floor)
    await till.pay(order, txn="a")
    await floor.late.settle(SHARD)
    assert await floor.counts() == (10, 9, 0)
    await floor.ledger.execute("ALTER TABLE revivals ADD CHECK (seq < 0)")
    await floor.written()
    assert await floor.parked() == [(2, 2)]
    assert await payment_states(floor) == [("a", "refund_due", "data")]
    assert await status_of(floor, order) == "refund_due"
    async with floor.writing():
        await floor.keeper.step()
    await floor.late.settle(SHARD)
    assert await floor.counts() == (10, 10, 0)
    assert (await floor.shards.standing(SHARD)).wants is None


async def test_late_money_is_to_be_refunded_when_the_units_are_gone(floor: ShopFloor, till: Till) -> None:
    order = await expired(floor)
    await floor.reserve(*(floor.request(f"vw_{at}", "k2") for at in range(10, 20)))
    await till.pay(order, txn="a")
    await floor.late.settle(SHARD)
    assert await status_of(floor, order) == "refund_due"
    assert await payment_states(floor) == [("a", "refund_due", "stock")]
    assert floor.heard.states()["vw_1"] == ("refund_due", "")
    assert (await till.refund(order, "a")).status == "refunded"


async def test_late_money_is_to_be_refunded_when_the_viewer_has_bought_again(floor: ShopFloor, till: Till) -> None:
    order = await expired(floor)
    await floor.reserve(floor.request("vw_1", "k2", quantity=2))
    await till.pay(order, txn="a")
    await floor.late.settle(SHARD)
    assert await payment_states(floor) == [("a", "refund_due", "limit")]


async def test_a_unit_taken_for_late_money_that_the_ledger_does_not_take_comes_back(
    floor: ShopFloor, till: Till
) -> None:
    order = await expired(floor)
    await till.pay(order, txn="a")
    await floor.late.settle(SHARD)
    await floor.settlement.settle_late(SHARD, 1, "stock")  # as a keeper that had heard no before
    await floor.written()
    assert await status_of(floor, order) == "refund_due"
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (10, 10, 0)
    assert await ledger_counts(floor) == (0, 0, 0)


async def test_two_late_payments_bring_an_order_back_once(floor: ShopFloor, till: Till) -> None:
    order = await expired(floor)
    await till.pay(order, txn="a")
    await till.pay(order, txn="b")
    await floor.late.settle(SHARD)
    await floor.written()
    assert await payment_states(floor) == [("a", "applied", None), ("b", "refund_due", "second")]
    assert await floor.counts() == (10, 9, 0)


# Refunds.


async def test_a_refunded_order_gives_its_units_back(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    await till.pay(order, txn="a")
    assert (await till.refund(order, "a"))[:6] == ("done", "tins", "vw_1", order, "refunded", True)
    assert (await till.refund(order, "a")).word == "replayed"
    await floor.give_back.drain(SHARD)
    assert await floor.counts() == (10, 10, 0)
    assert await ledger_counts(floor) == (0, 0, 0)


async def test_a_second_payment_that_is_refunded_leaves_the_order_paid(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    await till.pay(order, txn="a")
    await till.pay(order, txn="b")
    assert (await till.refund(order, "b")).status == "paid"
    assert await payment_states(floor) == [("a", "applied", None), ("b", "refunded", "second")]


async def test_a_refund_of_another_amount_or_of_no_payment_changes_nothing(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    await till.pay(order, txn="a")
    assert (await till.refund(order, "a", amount=1)).word == "amount_mismatch"
    assert (await till.refund(order, "b")).word == "no_payment"
    assert await status_of(floor, order) == "paid"


async def test_a_refund_told_before_its_payment_leaves_nothing_to_give_back(floor: ShopFloor, till: Till) -> None:
    order = await confirmed(floor)
    more: dict[str, Any] = {"provider": "bank", "keep": True, "paid_at_ms": 1_700_000_000_000}
    assert (await till.refund(order, "a", **more)).word == "done"
    assert (await till.pay(order, txn="a", keep=True)).word == "replayed"
    assert await payment_states(floor) == [("a", "refunded", "refund_first")]
    assert await status_of(floor, order) == "confirmed"


async def test_a_part_given_back_before_the_payment_is_told_of_leaves_the_money_for_people(
    floor: ShopFloor, till: Till
) -> None:
    order = await confirmed(floor)
    more: dict[str, Any] = {"provider": "bank", "keep": True, "paid_at_ms": 1_700_000_000_000}
    await till.refund(order, "a", amount=500, **more)
    assert (await till.pay(order, txn="a", keep=True)).word == "done"
    assert await payment_states(floor) == [("a", "refund_due", "refunded_in_part")]
    assert (await till.pay(order, txn="a", keep=True)).word == "replayed"


# The outbox.


async def test_units_come_back_also_in_a_ledger_whose_numbers_went_back(floor: ShopFloor) -> None:
    for number in range(3):
        await expired(floor, f"vw_{number}")
    # As after a standby that had not the last of it was promoted, or a restore.
    await floor.ledger.execute("UPDATE shards SET outbox_no = 0")
    await floor.keeper.step()
    await expired(floor, "vw_9")
    assert await floor.counts() == (10, 10, 0)
    assert await floor.outbox.pending(SHARD, limit=1) == []
