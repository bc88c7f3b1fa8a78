"""Sales that ended leave Valkey, and the ledger answers for them: real stores, real flows."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from gateway.admission.limiter import Limiter
from gateway.domain.caller import Caller, Role
from gateway.domain.coupon import Coupon
from gateway.domain.ids import OrderId
from gateway.domain.links import LinkSeal
from gateway.domain.order import OrderAnswer, OrderOutcome, OrderRequest
from gateway.domain.sale import SaleState
from gateway.domain.settle import SettleAct
from gateway.errors import KeyReused, LedgerUnavailable, Unavailable
from gateway.flows.counts import SaleCounts
from gateway.flows.coupon_book import CouponBook
from gateway.flows.place_order import PlaceOrder
from gateway.flows.retired_keys import RetiredKeys
from gateway.flows.sale_book import SaleBook
from gateway.hot.audit import HotAudit
from gateway.hot.retire import HotRetirement
from gateway.keeper.audit import Auditor
from gateway.keeper.audit_report import AuditReport
from gateway.keeper.retire import ACTS_KEPT_S, Retirement
from gateway.ledger.audit import LedgerAudit
from gateway.ledger.retire import LedgerRetirement
from gateway.wire import bus
from tests.support.couponing import OFF, claim, claim_states, claimed, make_coupon, redeeming
from tests.support.fake_clock import ShiftedClock
from tests.support.shop_floor import HOUR_MS, SHARD, SHOP, ShopFloor, make_sale, shop_floor

VIEWER = Caller(shop=SHOP, sub="vw_1", role=Role.VIEWER, expires_at_s=0)


@pytest.fixture
async def floor(database_url: str, valkey_url: str) -> AsyncIterator[ShopFloor]:
    async with shop_floor(database_url, valkey_url) as floor:
        yield floor


class Keeper:
    """Retires at once what is settled; drops it at the step after."""

    def __init__(self, floor: ShopFloor, *, retire_after_s: float = 0.0, drop_after_s: float = 0.0) -> None:
        self.clock = ShiftedClock()
        self.floor = floor
        self.retirement = Retirement(
            ledger=LedgerRetirement(floor.ledger),
            cursors=floor.shards,
            hot={SHARD: HotRetirement(shard=floor.hot, client=floor.client, scripts=floor.scripts)},
            clocks=floor.trust,
            publisher=floor.heard,
            clock=self.clock,
            retire_after_s=retire_after_s,
            drop_after_s=drop_after_s,
        )

    async def step(self, times: int = 1) -> None:
        for _ in range(times):
            await self.retirement.step(SHARD)

    async def state(self) -> str:
        """How far the floor's sale is."""
        row = await self.floor.ledger.fetchrow(
            "SELECT settled_at, retired_at, dropped_at FROM sales WHERE sale_no = $1", self.floor.sale.sale_no
        )
        names = [name for name in ("dropped", "retired", "settled") if row[f"{name}_at"] is not None]
        return names[0] if names else "loaded"


@pytest.fixture
def keeper(floor: ShopFloor) -> Keeper:
    return Keeper(floor)


async def close(floor: ShopFloor) -> None:
    await floor.control.act(floor.sale.sale_no, "close", actor="host_1", shop=SHOP)  # type: ignore[arg-type]
    await floor.written()


async def pay(floor: ShopFloor, order: str, *, txn: str = "t") -> None:
    act = SettleAct(
        do="pay",
        shop_no=1,
        order=order,
        sale=floor.sale.sale_no,
        provider="bank",
        txn=f"{txn}-{order}",
        amount=1900,
        paid_at_ms=1_700_000_000_000,
    )
    assert (await floor.settlement.settle(SHARD, [act]))[0].word == "done"


async def sold_and_ended(floor: ShopFloor) -> str:
    """A paid order on a closed sale, all of it in Valkey and in the ledger."""
    [order] = await floor.reserve(floor.request("vw_1"))
    await floor.written()
    await pay(floor, order)
    await floor.give_back.drain(SHARD)
    await close(floor)
    return order


async def keys_in_valkey(floor: ShopFloor) -> set[str]:
    prefix = floor.keys.sale(floor.sale.sale_no)
    return {name.decode().removeprefix(prefix) for name in await floor.client.keys("*") if prefix.encode() in name}


async def test_a_settled_sale_leaves_in_three_steps(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    assert await keys_in_valkey(floor) == {"", ":answers", ":units"}
    floor.heard.messages.clear()
    await keeper.step()
    assert await keeper.state() in ("retired", "dropped")
    assert bus.SaleChanged(floor.sale.sale_no) in floor.heard.messages
    await keeper.step()
    assert await keeper.state() == "dropped"
    assert await keys_in_valkey(floor) == set()
    before = await floor.ledger.fetchrow("SELECT * FROM sales")
    await keeper.step()
    assert await floor.ledger.fetchrow("SELECT * FROM sales") == before


async def test_processes_have_time_to_hear_of_it(floor: ShopFloor) -> None:
    keeper = Keeper(floor, drop_after_s=1000)
    await sold_and_ended(floor)
    await keeper.step(3)
    assert await keeper.state() == "retired"
    assert await keys_in_valkey(floor) == {"", ":answers", ":units"}


async def test_a_sale_stays_for_the_stated_time(floor: ShopFloor) -> None:
    keeper = Keeper(floor, retire_after_s=1000)
    await sold_and_ended(floor)
    await keeper.step(3)
    assert await keeper.state() == "settled"
    await floor.ledger.execute("UPDATE sales SET settled_at = settled_at - interval '1001 seconds'")
    await keeper.step(2)
    assert await keeper.state() == "dropped"


async def test_a_running_sale_stays(floor: ShopFloor, keeper: Keeper) -> None:
    await keeper.step(2)
    assert await keeper.state() == "loaded"


async def test_a_hold_keeps_the_sale_until_it_is_paid_or_expired(floor: ShopFloor, keeper: Keeper) -> None:
    [order] = await floor.reserve(floor.request("vw_1"))
    await close(floor)
    await keeper.step(2)
    assert await keeper.state() == "loaded"
    await pay(floor, order)
    await keeper.step(2)
    assert await keeper.state() == "loaded", "Valkey was not told of the payment"
    await floor.give_back.drain(SHARD)
    await keeper.step(2)
    assert await keeper.state() == "dropped"


async def test_an_order_that_waits_in_the_stream_keeps_the_sale(floor: ShopFloor, keeper: Keeper) -> None:
    """The ledger knows nothing of it, so that by its word the sale is settled."""
    await floor.reserve(floor.request("vw_1"))
    await floor.ledger.execute("UPDATE sales SET hold = 'closed'")
    await floor.client.hset(floor.keys.sale(floor.sale.sale_no), "hold", "closed")
    await keeper.step(3)
    assert await keeper.state() == "settled"
    assert await keys_in_valkey(floor) == {"", ":answers", ":units"}


async def test_late_money_begins_the_wait_anew(floor: ShopFloor) -> None:
    keeper = Keeper(floor, retire_after_s=1000)
    order = await sold_and_ended(floor)
    await keeper.step()
    assert await keeper.state() == "settled"
    await floor.ledger.execute(
        "INSERT INTO payments (shop_no, provider, txn, order_id, sale_no, amount_minor, paid_at, state)"
        " VALUES (1, 'bank', 'late', 'ord_x', $1, 5, now(), 'waiting')",
        floor.sale.sale_no,
    )
    await keeper.step()
    assert await keeper.state() == "loaded", order


async def test_nothing_leaves_while_the_clocks_are_not_trusted(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    floor.trust.trusted = False
    await keeper.step(3)
    assert await keeper.state() == "loaded"


async def test_a_keeper_that_died_after_the_script_is_followed_by_one_that_finds_it_done(
    floor: ShopFloor, keeper: Keeper
) -> None:
    await sold_and_ended(floor)
    await Keeper(floor, drop_after_s=1000).step()
    names = [floor.keys.sale(floor.sale.sale_no), floor.keys.answers(floor.sale.sale_no)]
    await floor.client.unlink(*names)
    await keeper.step()
    assert await keeper.state() == "dropped" and await keys_in_valkey(floor) == set()


async def test_a_sale_that_valkey_lost_is_told_and_stays_as_it_is(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    await floor.client.delete(floor.keys.sale(floor.sale.sale_no))
    with capture_logs() as logs:
        await keeper.step(3)
    assert await keeper.state() == "settled"
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["sale_missing_in_valkey"]


async def test_a_refund_after_a_sale_left_has_nothing_to_count_in_valkey(floor: ShopFloor, keeper: Keeper) -> None:
    order = await sold_and_ended(floor)
    await keeper.step(2)
    act = SettleAct(do="refund", shop_no=1, order=order, sale=floor.sale.sale_no, txn=f"t-{order}", amount=1900)
    assert (await floor.settlement.settle(SHARD, [act]))[0].status == "refunded"
    await floor.give_back.drain(SHARD)
    assert await floor.outbox.pending(SHARD, limit=1) == []
    assert await keys_in_valkey(floor) == set()


async def test_a_retired_sale_is_not_loaded_again(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    await keeper.step(2)
    await floor.ledger.execute("UPDATE sales SET loaded_epoch = NULL, hold = 'active'")
    await floor.keeper.step()
    assert await keys_in_valkey(floor) == set()


async def test_the_audit_holds_after_a_sale_left(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    await keeper.step(2)
    from gateway.keeper.audit import Auditor

    async with LedgerAudit.connect(floor.database_url) as ledger:
        report = await Auditor(ledger=ledger, hot=HotAudit(client=floor.client, scripts=floor.scripts)).run(final=True)
    assert report.holds, [check for check in report.checks if not check.holds]
    assert (report.figures.left, report.figures.sold) == (9, 1)


async def test_acts_of_long_ago_are_forgotten(floor: ShopFloor, keeper: Keeper) -> None:
    await floor.control.act(
        floor.sale.sale_no,
        "stock",
        actor="h",
        item_no=1,
        value=1,
        key="k1",
        fingerprint="f",
        shop=SHOP,  # type: ignore[arg-type]
    )
    await floor.written()
    await keeper.step()
    keeper.clock.advance(ACTS_KEPT_S - 1)
    await keeper.step()
    assert await floor.client.hlen(floor.keys.acts) == 1
    await floor.control.act(
        floor.sale.sale_no,
        "stock",
        actor="h",
        item_no=1,
        value=1,
        key="k2",
        fingerprint="f",
        shop=SHOP,  # type: ignore[arg-type]
    )
    await floor.written()
    keeper.clock.advance(1)
    await keeper.step()
    assert list(await floor.client.hgetall(floor.keys.acts)) == [b"tins|h|k2"]


# Who asks for something of a sale that left.


class Watch:
    def placed(self, order: OrderId, *, sale_no: int, shop: str, viewer: str, ask_now: bool) -> None: ...


class Group:
    """Valkey is not to be asked."""

    def submit(self, request: OrderRequest) -> None:
        raise AssertionError("a retired sale was asked for in Valkey")


class Desk:
    def __init__(self, floor: ShopFloor, ledger: Any = None, group: Any = None) -> None:
        self.retired = RetiredKeys(ledger=ledger or floor.ledger_orders)
        self.book = SaleBook(sales=floor.sales, mint=floor.mint, clock=floor.clock)
        self.flow = PlaceOrder(
            book=self.book,
            coupons=CouponBook(coupons=floor.coupons, mint=floor.mint, clock=floor.clock),
            mint=floor.mint,
            groups=lambda shard: group or Group(),
            retired=self.retired,
            limiter=Limiter(rate=1000, burst=1000),
            watch=Watch(),
            links=LinkSeal(b"k" * 32),
            clock=floor.clock,
        )
        self.sale = floor.sale.sale

    async def order(self, **changed: Any) -> OrderAnswer:
        order = {"sale": self.sale, "sku": "tin", "quantity": 1, "key": "k1"} | changed
        return await asyncio.wait_for(self.flow.ask(VIEWER, **order), 5)


@asynccontextmanager
async def opened(desk: Desk) -> AsyncIterator[Desk]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(desk.flow.run()), tasks.create_task(desk.retired.run())]
        await asyncio.sleep(0)
        try:
            yield desk
        finally:
            for task in running:
                task.cancel()


@pytest.fixture
async def desk(floor: ShopFloor, keeper: Keeper) -> AsyncIterator[Desk]:
    """Of a sale that left, on which vw_1 bought under k1."""
    await sold_and_ended(floor)
    await keeper.step(2)
    assert await keeper.state() == "dropped"
    async with opened(Desk(floor)) as desk:
        yield desk


async def test_the_same_key_gets_the_same_order(floor: ShopFloor, desk: Desk) -> None:
    answer = await desk.order()
    [row] = await floor.ledger.fetch("SELECT order_id, created_at_ms FROM orders")
    assert answer == OrderAnswer(
        OrderOutcome.RESERVED,
        order=row["order_id"],
        price_minor=1900,
        amount_minor=1900,
        at_ms=row["created_at_ms"],
        replayed=True,
    )


async def test_a_key_of_other_content_is_reused(desk: Desk) -> None:
    with pytest.raises(KeyReused):
        await desk.order(quantity=2)


async def test_a_key_that_holds_nothing_finds_the_sale_ended(desk: Desk) -> None:
    assert (await desk.order(key="k2")).outcome is OrderOutcome.ENDED


async def test_many_are_answered_in_few_questions(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    await keeper.step(2)
    asked: list[int] = []

    class Counting:
        async def held_keys(self, keys: Any) -> Any:
            asked.append(len(keys))
            return await floor.ledger_orders.held_keys(keys)

    async with opened(Desk(floor, Counting())) as desk:
        await desk.order()
        answers = await asyncio.gather(*(desk.order(key=f"k{at}") for at in range(1, 500)))
    assert [answer.outcome for answer in answers] == [OrderOutcome.RESERVED] + [OrderOutcome.ENDED] * 498
    assert len(asked) <= 6 and sum(asked) == 500


async def test_nobody_is_told_ended_while_the_ledger_is_away(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    await keeper.step(2)

    class Away:
        async def held_keys(self, keys: Any) -> Any:
            raise LedgerUnavailable

    async with opened(Desk(floor, Away())) as desk:
        with pytest.raises(Unavailable):
            await desk.order()


async def test_what_waits_when_a_process_ends_is_answered(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    await keeper.step(2)
    asked = asyncio.Event()

    class Hanging:
        async def held_keys(self, keys: Any) -> Any:
            asked.set()
            await asyncio.Event().wait()

    async with opened(Desk(floor, Hanging())) as desk:
        orders = [asyncio.ensure_future(desk.order(key=key)) for key in ("k1", "k2")]
        await asked.wait()
    outcomes = await asyncio.gather(*orders, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Unavailable, Unavailable]


async def test_a_process_that_did_not_hear_learns_of_it_by_the_failure(floor: ShopFloor, keeper: Keeper) -> None:
    class Unloaded:
        """What the group of a process answers that still asks Valkey."""

        def submit(self, request: OrderRequest) -> None:
            request.answer(Unavailable())

    await sold_and_ended(floor)
    async with opened(Desk(floor, group=Unloaded())) as desk:
        await desk.book.get(SHOP, desk.sale)
        await keeper.step(2)
        with pytest.raises(Unavailable):
            await desk.order()
        assert (await desk.order()).replayed


async def test_the_counters_of_a_sale_that_left_are_the_ledgers(floor: ShopFloor, keeper: Keeper) -> None:
    counts = SaleCounts(hot=floor.hot, ledger=floor.sales)
    await sold_and_ended(floor)
    before = await counts.counts(floor.sale)
    await keeper.step(2)
    sale = await floor.sales.find(floor.sale.sale_no)
    assert sale is not None and sale.retired and sale.state_at(0) is SaleState.CLOSED
    assert await counts.counts(sale) == before
    assert before is not None and (before[1].stock, before[1].left, before[1].held) == (10, 9, 0)


async def test_other_sales_of_the_shard_are_left_alone(floor: ShopFloor, keeper: Keeper) -> None:
    await sold_and_ended(floor)
    other = await make_sale(floor, key="sale_2", closes_in_ms=2 * HOUR_MS)
    await keeper.step(2)
    counts = await floor.hot.counts(other)
    assert counts is not None and counts[1].left == 10


# Coupons.


async def coupon_over(floor: ShopFloor, coupon: Coupon) -> None:
    """Its validity passes, in both stores; what was claimed was claimed in time."""
    answers = await floor.client.hvals(floor.keys.coupon_answers(coupon.coupon_no))
    last_ms = max((int(answer.split(b"|")[2]) for answer in answers), default=0)
    while (over_ms := await floor.now_ms() - 1) <= last_ms:
        pass  # a millisecond
    await floor.ledger.execute(
        "UPDATE coupons SET claim_until_ms = $1, valid_until_ms = $1 WHERE coupon_no = $2", over_ms, coupon.coupon_no
    )
    over = {"claim_until": over_ms, "valid_until": over_ms}
    await floor.client.hset(floor.keys.coupon(coupon.coupon_no), mapping=over)


async def coupon_state(floor: ShopFloor) -> str:
    row = await floor.ledger.fetchrow("SELECT retired_at, forgotten_at FROM coupons")
    return "loaded" if row["retired_at"] is None else "retired" if row["forgotten_at"] is None else "forgotten"


async def coupon_keys(floor: ShopFloor, coupon: Coupon) -> set[str]:
    prefix = floor.keys.coupon(coupon.coupon_no)
    return {name.decode().removeprefix(prefix) for name in await floor.client.keys("*") if prefix.encode() in name}


async def redeemed(floor: ShopFloor) -> tuple[Coupon, str, str]:
    """A coupon, a claim of it, and the confirmed order that redeems it."""
    coupon = await make_coupon(floor)
    (claim_id,) = await claimed(floor, coupon, "vw_1")
    (order,) = await floor.reserve(redeeming(floor, "vw_1", claim_id))
    await floor.written()
    return coupon, claim_id, order


async def expired(floor: ShopFloor) -> None:
    """The term of the one order passes."""
    await floor.ledger.execute(
        "UPDATE orders SET confirmed_at = confirmed_at - interval '9 hours', pay_by = pay_by - interval '9 hours'"
    )
    await floor.ledger.execute("UPDATE deadlines SET pay_by = pay_by - interval '9 hours'")
    assert await floor.deadlines.sweep(SHARD) == 1
    await floor.give_back.drain(SHARD)


async def settled(floor: ShopFloor, do: str, order: str, **more: Any) -> None:
    act = SettleAct(do=do, shop_no=1, order=order, sale=floor.sale.sale_no, amount=1900 - OFF, txn="t", **more)
    assert (await floor.settlement.settle(SHARD, [act]))[0].word == "done"


async def test_a_coupon_that_is_over_leaves_and_the_ledger_answers_for_its_claims(
    floor: ShopFloor, keeper: Keeper
) -> None:
    coupon, claim_id, order = await redeemed(floor)
    await settled(floor, "pay", order, provider="bank", paid_at_ms=1)
    await keeper.step(2)
    assert await coupon_state(floor) == "loaded", "it is valid"
    await coupon_over(floor, coupon)
    await floor.give_back.drain(SHARD)
    assert await coupon_keys(floor, coupon) == {"", ":answers", ":viewers", ":claims"}
    floor.heard.messages.clear()
    await keeper.step(2)
    assert await coupon_state(floor) == "forgotten"
    assert bus.CouponChanged(coupon.coupon_no) in floor.heard.messages
    assert await coupon_keys(floor, coupon) == set()
    found = await floor.coupons.find(coupon.coupon_no)
    assert found is not None and found.retired
    key = ("vw_1", coupon.coupon_no, "c1")
    assert (await floor.coupons.claims_by_keys([key]))[key].claim == claim_id
    await keeper.step()
    await floor.keeper.step()
    assert await coupon_keys(floor, coupon) == set(), "it is not loaded again"
    assert (await audit_of(floor)).holds


async def test_an_order_that_waits_for_its_money_keeps_the_coupon(floor: ShopFloor, keeper: Keeper) -> None:
    coupon, _, order = await redeemed(floor)
    await coupon_over(floor, coupon)
    await keeper.step(2)
    assert await coupon_state(floor) == "loaded"
    await settled(floor, "cancel", order, viewer="vw_1")
    await keeper.step(2)
    assert await coupon_state(floor) == "loaded", "Valkey was not told"
    await floor.give_back.drain(SHARD)
    await keeper.step(2)
    assert await coupon_state(floor) == "forgotten"


async def test_processes_have_time_to_hear_of_a_coupons_end(floor: ShopFloor) -> None:
    coupon = await make_coupon(floor)
    await coupon_over(floor, coupon)
    await Keeper(floor, retire_after_s=1000).step(2)
    assert await coupon_state(floor) == "loaded"
    await Keeper(floor, drop_after_s=1000).step(2)
    assert await coupon_state(floor) == "retired"
    assert await coupon_keys(floor, coupon) == {""}


async def test_late_money_of_an_order_whose_coupon_left_is_judged_by_the_ledger(
    floor: ShopFloor, keeper: Keeper
) -> None:
    coupon, claim_id, order = await redeemed(floor)
    await expired(floor)
    await coupon_over(floor, coupon)
    await keeper.step(2)
    assert await coupon_state(floor) == "forgotten"
    await settled(floor, "pay", order, provider="bank", paid_at_ms=1, keep=True)
    await floor.late.settle(SHARD)
    await floor.written()
    assert await floor.statuses() == ["paid"]
    assert (await floor.coupons.claims_by_place([(coupon.coupon_no, claim_id)]))[claim_id].order == order
    await settled(floor, "refund", order)
    await floor.give_back.drain(SHARD)
    assert await floor.outbox.pending(SHARD, limit=1) == []
    assert await coupon_keys(floor, coupon) == set()
    assert (await audit_of(floor)).holds


async def test_late_money_of_an_order_whose_sale_left_takes_its_claim_in_both_stores(
    floor: ShopFloor, keeper: Keeper
) -> None:
    """The coupon outlives the sale: what the ledger redeems again is not free in Valkey."""
    coupon, claim_id, order = await redeemed(floor)
    await expired(floor)
    await close(floor)
    await keeper.step(3)
    assert await keeper.state() == "dropped"
    assert await coupon_state(floor) == "loaded"
    await settled(floor, "pay", order, provider="bank", paid_at_ms=1, keep=True)
    await asyncio.gather(floor.late.settle(SHARD), floor.late.settle(SHARD))
    assert (await audit_of(floor)).holds, "also before the ledger has it"
    await floor.written()
    await floor.late.settle(SHARD)
    assert await floor.statuses() == ["paid"]
    place = floor.mint.read_claim(claim_id)
    assert place is not None
    (held,) = await floor.client.hmget(floor.keys.coupon_claims(coupon.coupon_no), f"{place.epoch}|{place.seq}")
    assert held == b"%d|1:2|vw_1" % OFF
    assert await keys_in_valkey(floor) == set(), "nothing of the sale comes back"
    assert (await audit_of(floor)).holds
    await settled(floor, "refund", order)
    await floor.give_back.drain(SHARD)
    (free,) = await floor.client.hmget(floor.keys.coupon_claims(coupon.coupon_no), f"{place.epoch}|{place.seq}")
    assert free == b"%d||vw_1" % OFF
    assert (await audit_of(floor)).holds


async def test_claims_that_waited_in_the_stream_are_taken_after_their_coupon_left(
    floor: ShopFloor, keeper: Keeper
) -> None:
    coupon = await make_coupon(floor)
    await claim(floor, coupon, "vw_1")
    await coupon_over(floor, coupon)
    await keeper.step(2)
    assert await coupon_state(floor) == "forgotten"
    await floor.written()
    assert await claim_states(floor) == ["confirmed"]
    await floor.give_back.drain(SHARD)
    assert await coupon_keys(floor, coupon) == set()


async def audit_of(floor: ShopFloor) -> AuditReport:
    ledger = LedgerAudit(floor.database_url)
    try:
        hot = HotAudit(client=floor.client, scripts=floor.scripts)
        return await Auditor(ledger=ledger, hot=hot, pause_s=0.01).run()
    finally:
        ledger.close()
