"""Reports, notices, cancels and payments at the moments that a whole gateway passes too quickly: an order that is only
reserved, one that was lost, a ledger that is away."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.api.problems import problem_response
from gateway.domain.acts import Act
from gateway.domain.caller import Caller, Role
from gateway.domain.order import Order
from gateway.domain.payment import DuePayment, Notice, NoticeKind
from gateway.domain.settle import SettleAct, Settled
from gateway.errors import (
    Conflict,
    LedgerUnavailable,
    NotConfirmed,
    NotFound,
    OutcomeUnknown,
    Unavailable,
)
from gateway.flows.cancel_order import CancelOrder
from gateway.flows.order_watch import OrderWatch
from gateway.flows.orders import OrderReader
from gateway.flows.pay import PayOrder
from gateway.flows.payments import Payments, Reported
from gateway.flows.sale_book import SaleBook
from gateway.flows.settle import Settle
from gateway.flows.till import Till
from gateway.ledger.payments import LedgerPayments
from gateway.ledger.providers import LedgerProviders
from tests.support.shop_floor import SHARD, SHOP, ShopFloor, shop_floor

AMOUNT = 1900
PAID_AT_MS = 1_700_000_000_000


class Provider:
    name = "card"

    def __init__(self) -> None:
        self.begun = 0

    async def begin(self, due: DuePayment) -> str:
        assert (due.shop, due.amount_minor, due.currency) == (SHOP, AMOUNT, "EUR")
        self.begun += 1
        return f"chk_{self.begun}"

    def url_of(self, checkout: str) -> str:
        return f"https://card.example/{checkout}"


class LosingLedger:
    """The ledger, whose next replies are lost after it did what it was asked."""

    def __init__(self, floor: ShopFloor) -> None:
        self.floor = floor
        self.lose = 0
        self.sizes: list[int] = []

    async def settle(self, shard: int, acts: Sequence[SettleAct]) -> Sequence[Settled]:
        self.sizes.append(len(acts))
        settled = await self.floor.settlement.settle(shard, acts)
        if self.lose:
            self.lose -= 1
            raise LedgerUnavailable
        return settled


class Desk:
    """The flows of an api process on the floor."""

    def __init__(self, floor: ShopFloor) -> None:
        self.floor = floor
        self.losing = LosingLedger(floor)
        book = SaleBook(sales=floor.sales, mint=floor.mint, clock=floor.clock)
        self.reader = OrderReader(
            ledger=floor.ledger_orders,
            held={SHARD: floor.held},
            book=book,
            watch=OrderWatch(ledger=floor.ledger_orders, claims=floor.coupons, mint=floor.mint, clock=floor.clock),
            mint=floor.mint,
        )
        providers = LedgerProviders(floor.ledger)
        self.settle = Settle(shards=[SHARD], ledger=self.losing, publisher=floor.heard)
        till = Till(settle=self.settle, shops=providers, book=book, mint=floor.mint)
        self.cancelling = CancelOrder(till=till, reader=self.reader)
        self.provider = Provider()
        checkouts = LedgerPayments(floor.ledger)
        self.paying = PayOrder(till=till, reader=self.reader, checkouts=checkouts, provider=self.provider)
        self.paying_nowhere = PayOrder(till=till, reader=self.reader, checkouts=checkouts, provider=None)
        self.payments = Payments(
            till=till,
            reader=self.reader,
            ledger=LedgerPayments(floor.ledger),
            secrets=providers,
            clock=floor.clock,
            sandbox=False,
        )
        self.providers = providers

    async def cancel(self, order: str, viewer: str = "vw_1") -> Order:
        return await self.cancelling.cancel(caller(viewer), order)

    async def report(self, order: str, *, txn: str = "t1", key: str = "k1", amount: int = AMOUNT) -> Reported:
        return await self.payments.report_payment(
            caller("backend", Role.SERVICE),
            order,
            provider="bank",
            txn=txn,
            amount_minor=amount,
            paid_at_ms=PAID_AT_MS,
            key=key,
        )

    async def tell(self, order: str, txn: str = "t1", kind: NoticeKind = NoticeKind.SUCCEEDED, **more: Any) -> bool:
        facts = {"amount_minor": AMOUNT, "currency": "EUR", **more}
        notice = Notice(kind=kind, provider="bank", order=order, txn=txn, paid_at_ms=PAID_AT_MS, **facts)
        return await self.payments.take_notice(SHOP, notice)


def caller(sub: str, role: Role = Role.VIEWER) -> Caller:
    return Caller(shop=SHOP, sub=sub, role=role, expires_at_s=0)


@asynccontextmanager
async def working(floor: ShopFloor) -> AsyncIterator[Desk]:
    desk = Desk(floor)
    running = asyncio.create_task(desk.settle.run())
    await asyncio.sleep(0)
    try:
        yield desk
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def desk(database_url: str, valkey_url: str) -> AsyncIterator[Desk]:
    async with shop_floor(database_url, valkey_url) as floor, working(floor) as desk:
        yield desk


async def reserved(desk: Desk, viewer: str = "vw_1", key: str = "k1") -> str:
    [order] = await desk.floor.reserve(desk.floor.request(viewer, key))
    return order


async def confirmed(desk: Desk, viewer: str = "vw_1", key: str = "k1") -> str:
    order = await reserved(desk, viewer, key)
    await desk.floor.written()
    return order


async def lost(desk: Desk) -> str:
    """An order that was promised, and whose server the ledger has left behind."""
    order = await reserved(desk, "vw_lost", "k9")
    await desk.floor.ledger.execute("UPDATE shards SET epoch = epoch + 1, last_seq = 0")
    await desk.floor.client.delete(desk.floor.keys.stream)
    return order


async def states(desk: Desk) -> list[tuple[str, str, str | None]]:
    rows = await desk.floor.ledger.fetch("SELECT txn, state, reason FROM payments ORDER BY payment_no")
    return [(row["txn"], row["state"], row["reason"]) for row in rows]


async def test_what_is_only_reserved_is_to_be_asked_again(desk: Desk) -> None:
    order = await reserved(desk)
    for act in (desk.cancel(order), desk.paying.pay(caller("vw_1"), order), desk.report(order)):
        with pytest.raises(NotConfirmed) as error:
            await act
        assert error.value.retryable and (error.value.retry_after_ms or 0) > 0
    # A provider that was answered 409 might not tell again.
    with pytest.raises(Unavailable):
        await desk.tell(order)
    assert await states(desk) == []
    await desk.floor.written()
    assert not await desk.tell(order)
    assert await desk.tell(order)
    assert await states(desk) == [("t1", "applied", None)]


async def test_a_stranger_is_told_nothing_of_an_order_that_is_only_reserved(desk: Desk) -> None:
    order = await reserved(desk)
    with pytest.raises(NotFound):
        await desk.cancel(order, "vw_2")
    with pytest.raises(NotFound):
        await desk.paying.pay(caller("vw_2"), order)


async def test_money_for_an_order_that_was_lost_is_to_be_refunded(desk: Desk) -> None:
    order = await lost(desk)
    with pytest.raises(Conflict):
        await desk.cancel(order, "vw_lost")
    with pytest.raises(Conflict):
        await desk.paying.pay(caller("vw_lost"), order)
    reported = await desk.report(order)
    assert reported.order is not None and reported.order.status == "refused"
    assert [(each.txn, each.state) for each in reported.payments] == [("t1", "refund_due")]
    assert (await desk.report(order)).replayed
    assert not await desk.tell(order, "t2")
    assert await states(desk) == [("t1", "refund_due", "unknown_order"), ("t2", "refund_due", "unknown_order")]
    back = await desk.payments.report_refund(
        caller("backend", Role.SERVICE), order, txn="t1", amount_minor=AMOUNT, key="r1"
    )
    assert [each.state for each in back.payments] == ["refunded", "refund_due"]


async def test_money_for_an_order_that_is_nowhere_just_now_is_told_again(desk: Desk) -> None:
    order = await reserved(desk)
    # Valkey lost it, and the ledger has not begun another epoch yet.
    await desk.floor.client.flushall()
    with pytest.raises(Unavailable):
        await desk.report(order)
    with pytest.raises(Unavailable):
        await desk.tell(order)
    assert await states(desk) == []


async def test_a_lost_reply_is_unknown_and_the_repeat_tells(desk: Desk) -> None:
    order = await confirmed(desk)
    desk.losing.lose = 1
    with pytest.raises(OutcomeUnknown):
        await desk.report(order)
    again = await desk.report(order)
    assert again.replayed and again.order is not None and again.order.status == "paid"
    second = await confirmed(desk, "vw_2")
    desk.losing.lose = 1
    with pytest.raises(OutcomeUnknown):
        await desk.cancel(second, "vw_2")
    assert (await desk.cancel(second, "vw_2")).status == "cancelled"
    assert await states(desk) == [("t1", "applied", None)]


async def test_a_payment_that_runs_goes_on(desk: Desk) -> None:
    order = await confirmed(desk)
    begun = await asyncio.gather(*(desk.paying.pay(caller("vw_1"), order) for _ in range(5)))
    assert len({(each.checkout, each.url) for each in begun}) == 1
    before = desk.provider.begun
    assert (await desk.paying.pay(caller("vw_1"), order)).url == begun[0].url
    assert desk.provider.begun == before
    desk.provider.name = "another"
    with pytest.raises(Conflict):
        await desk.paying.pay(caller("vw_1"), order)
    await desk.tell(order)
    with pytest.raises(Conflict):
        await desk.paying.pay(caller("vw_1"), order)


async def test_a_shop_without_a_provider_says_so_and_takes_its_money_itself(desk: Desk) -> None:
    order = await confirmed(desk)
    with pytest.raises(Conflict):
        await desk.paying_nowhere.pay(caller("vw_1"), order)
    reported = await desk.report(order)
    assert reported.order is not None and reported.order.status == "paid"


async def test_a_burst_of_payments_shares_transactions_and_is_told(desk: Desk) -> None:
    orders = [await reserved(desk, f"vw_{at}") for at in range(10)]
    await desk.floor.written()
    await asyncio.gather(*(desk.tell(order, f"t_{order}") for order in orders))
    assert desk.losing.sizes[0] <= len(orders) and sum(desk.losing.sizes) == 10
    assert len(desk.losing.sizes) < 5
    await desk.settle.drained()
    assert {state for state, _ in desk.floor.heard.states().values()} == {"paid"}


async def test_a_refund_while_late_money_is_judged_waits_for_the_word(desk: Desk) -> None:
    order = await confirmed(desk)
    await desk.floor.ledger.execute("UPDATE orders SET confirmed_at = now() - interval '1 hour', pay_by = now()")
    await desk.floor.ledger.execute("UPDATE deadlines SET pay_by = now()")
    await desk.floor.deadlines.sweep(SHARD)
    await desk.tell(order)
    assert await states(desk) == [("t1", "waiting", None)]
    with pytest.raises(Unavailable):
        await desk.tell(order, kind=NoticeKind.REFUNDED)
    with pytest.raises(NotConfirmed) as refused:
        await desk.payments.report_refund(
            caller("backend", Role.SERVICE), order, txn="t1", amount_minor=AMOUNT, key="r1"
        )
    problem = json.loads(problem_response(refused.value, request_id="req_1").body)  # type: ignore[arg-type]
    assert (problem["code"], problem["retryable"]) == ("not_confirmed", True)
    assert problem["title"].startswith("The payment") and problem["detail"].startswith("The payment")
    await desk.floor.give_back.drain(SHARD)
    await desk.floor.late.settle(SHARD)
    await desk.floor.written()
    await desk.tell(order, kind=NoticeKind.REFUNDED)
    assert await states(desk) == [("t1", "refunded", None)]


async def test_secrets_of_a_shop_are_for_its_provider_alone(desk: Desk) -> None:
    with pytest.raises(NotFound):
        await desk.providers.set("nobody", "bank", "s")
    with pytest.raises(NotFound):
        await desk.providers.rotate(SHOP, "bank", "s")
    await desk.providers.set(SHOP, "bank", "s1")
    await desk.providers.rotate(SHOP, "bank", "s2")
    assert await desk.payments.secrets(SHOP, "bank") == ("s2", "s1")
    assert await desk.providers.make(SHOP, "bank", "s3") == "s2"
    for shop, provider in (("nobody", "bank"), (SHOP, "none"), ("", ""), ("a\0", "bank"), (SHOP, "BANK")):
        assert await desk.payments.secrets(shop, provider) == ()
    # What was played in development pays nothing where the sandbox is off.
    await desk.providers.make(SHOP, "sandbox", "s4")
    assert await desk.payments.secrets(SHOP, "sandbox") == ()
    assert [(row.provider, row.rotating) for row in await desk.providers.all(SHOP)] == [
        ("bank", True),
        ("sandbox", False),
    ]


async def test_an_act_that_the_ledger_could_not_take_is_known_by_its_row(desk: Desk) -> None:
    floor = desk.floor
    order = await confirmed(desk)
    # Valkey was made to believe that more is left than the ledger has.
    await floor.ledger.execute("UPDATE sale_items SET stock = 1")
    done = await floor.control.act(floor.sale.sale_no, Act.STOCK, actor="h", item_no=1, value=-1, key="k", shop=SHOP)
    await floor.written()
    where = {"shard": SHARD, "epoch": done.epoch, "seq": done.seq, "sale_no": floor.sale.sale_no}
    assert await floor.sales.was_refused(**where, act=Act.STOCK)
    assert not await floor.sales.was_refused(**where, act=Act.PRICE)
    # Without an effect there is nothing for its key to remember.
    assert await floor.ledger.fetchval("SELECT count(*) FROM effects WHERE kind = 'stock'") == 0
    assert order
