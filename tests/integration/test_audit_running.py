"""The audit in the middle of everything: orders, claims of coupons, acts, payments, cancels, refunds, expiries and late
money go on, and it holds every time."""

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.domain.acts import Act
from gateway.domain.coupon import ClaimAnswer, CouponKind
from gateway.domain.order import OrderAnswer
from gateway.domain.settle import SettleAct
from tests.support.audited import CUP, CUP_PRICE, CUP_PRICE_LATER, TIN, History
from tests.support.couponing import ask, claim, make_coupon, redeeming
from tests.support.shop_floor import SHARD, item, shop_floor

AUDITS = 15
# A crowd that a slow machine's writer cannot follow would run away from it.
MOST_BEHIND = 1000
ITEMS = [item("tin", price=100, stock=4000, limit=6), item("cup", price=CUP_PRICE, stock=1_000_000, limit=1000)]


@pytest.fixture
async def history(database_url: str, valkey_url: str) -> AsyncIterator[History]:
    async with shop_floor(database_url, valkey_url, items=ITEMS) as floor:
        history = History(floor)
        for kind, amounts in (
            (CouponKind.AMOUNT, {"value_minor": 30}),
            (CouponKind.RANDOM, {"min_minor": 1, "max_minor": 40, "budget_minor": 60_000}),
        ):
            await make_coupon(floor, kind, key=kind, copies=3_000, limit_per_viewer=20, **amounts)
        yield history
        history.audited.close()


class Crowd:
    """Does everything to a sale that can be done, all of it at once."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.floor = history.floor
        self.chance = random.Random(7)
        self.placed: list[str] = []
        self.claimed: list[tuple[str, str]] = []
        """(viewer, claim)"""
        self.words: Counter[str] = Counter()
        self.over = asyncio.Event()
        self._names = itertools.count()

    async def shop(self) -> None:
        while not self.over.is_set():
            if (await self.floor.seq())[1] - await self.floor.cursor() > MOST_BEHIND:
                await asyncio.sleep(0.05)
                continue
            wants = [(f"v{self.chance.randrange(300)}", f"k{next(self._names)}") for _ in range(20)]
            requests = [
                self.floor.request(viewer, key, item_no=1 + at % 2, quantity=1 + at % 3)
                for at, (viewer, key) in enumerate(wants)
            ]
            # Some name a claim, at times one that is in use or was before.
            named = self.chance.sample(self.claimed[-400:], k=min(8, len(self.claimed[-400:])))
            requests += [
                redeeming(self.floor, viewer, claim_id, f"k{next(self._names)}", item_no=2)
                for viewer, claim_id in named
            ]
            answers = await self.floor.place(*requests)
            for answer in answers:
                assert isinstance(answer, OrderAnswer), answer
                if answer.order is not None:
                    self.placed.append(str(answer.order))
            await asyncio.sleep(0.01)

    async def grab(self) -> None:
        """Claims, more than the limit gives; and drops."""
        coupons = await self.floor.coupons.find_many([1, 2])
        for number in itertools.count():
            if self.over.is_set():
                return
            coupon = coupons[number % 2]
            wants = [(f"v{self.chance.randrange(300)}", f"c{next(self._names)}") for _ in range(10)]
            for (viewer, _), answer in zip(wants, await ask(self.floor, coupon, *wants), strict=True):
                assert isinstance(answer, ClaimAnswer), answer
                if answer.claim is not None:
                    self.claimed.append((viewer, str(answer.claim)))
            if number % 20 == 0:
                await self.floor.hot_coupons.drop(coupon.coupon_no, room_no=0, for_ms=600_000, actor="host")
            await asyncio.sleep(0.03)

    async def settle(self) -> None:
        """Payments above all, of all kinds of orders and more than once; so some are late, and some are too many."""
        for number in itertools.count():
            if self.over.is_set():
                return
            acts = [self._act(f"{number}-{at}") for at in range(10)] if self.placed else []
            for settled in await self.floor.settlement.settle(SHARD, acts):
                self.words[f"{settled.word} {settled.status}"] += 1
            await asyncio.sleep(0.02)

    def _act(self, txn: str) -> SettleAct:
        order = self.chance.choice(self.placed[-3000:])
        more: dict[str, Any] = {"shop_no": 1, "order": order, "sale": self.history.sale_no}
        do = self.chance.choice(["pay", "pay", "pay", "cancel", "refund"])
        if do == "cancel":
            return SettleAct(do="cancel", viewer=f"v{self.chance.randrange(300)}", **more)
        if do == "refund" and self.paid:
            order, txn, amount = self.paid[self.chance.randrange(len(self.paid))]
            return SettleAct(do="refund", txn=txn, amount=amount, **{**more, "order": order})
        return SettleAct(
            do="pay",
            provider="bank",
            txn=txn,
            amount=self.amounts.get(order, 100),
            paid_at_ms=1_700_000_000_000,
            keep=True,
            **more,
        )

    paid: list[tuple[str, str, int]]
    amounts: dict[str, int]

    async def look(self) -> None:
        """What the crowd knows of amounts and payments."""
        self.paid, self.amounts = [], {}
        while not self.over.is_set():
            rows = await self.floor.ledger.fetch(
                "SELECT order_id, txn, amount_minor FROM payments WHERE state <> 'waiting'"
            )
            self.paid = [tuple(row) for row in rows]
            self.amounts = dict(await self.floor.ledger.fetch("SELECT order_id, amount_minor FROM orders"))
            # A viewer cancels what is theirs.
            for row in await self.floor.ledger.fetch(
                "SELECT order_id, viewer FROM orders WHERE status = 'confirmed' ORDER BY random() LIMIT 3"
            ):
                await self.history.settle("cancel", row["order_id"], viewer=row["viewer"])
            await asyncio.sleep(0.2)

    async def hurry(self) -> None:
        """Deadlines pass, batch by batch."""
        while not self.over.is_set():
            async with self.floor.ledger.transaction() as connection:
                await connection.execute("SELECT FROM shards FOR UPDATE")
                await connection.execute(
                    "WITH due AS (UPDATE deadlines d SET pay_by = now() FROM"
                    " (SELECT * FROM deadlines WHERE pay_by > now() ORDER BY pay_by LIMIT 3) n"
                    " WHERE d.pay_by = n.pay_by AND d.first_id = n.first_id RETURNING d.first_id, d.last_id)"
                    " UPDATE orders o SET pay_by = now(), confirmed_at = now() - interval '9 hours'"
                    " FROM due WHERE o.order_id BETWEEN due.first_id AND due.last_id AND o.status = 'confirmed'"
                )
            await asyncio.sleep(0.2)

    async def host(self) -> None:
        for at in itertools.count():
            if self.over.is_set():
                return
            await self.history.act(Act.STOCK, item_no=TIN, value=1)
            if at % 5 == 0:
                price = CUP_PRICE if at % 10 else CUP_PRICE_LATER
                await self.history.act(Act.PRICE, item_no=CUP, value=price)
            if at % 20 == 0:
                await self.history.act(Act.PAUSE)
                await self.history.act(Act.RESUME)
            await asyncio.sleep(0.02)


async def test_an_audit_holds_in_the_middle_of_everything(history: History) -> None:
    floor, crowd = history.floor, Crowd(history)
    backlogs, releasing = [], []
    auditor = history.auditor()
    async with floor.writing(), asyncio.TaskGroup() as tasks:
        keeping = [tasks.create_task(work) for work in (floor.give_back.run(), floor.late.run(), floor.deadlines.run())]
        acting = [
            tasks.create_task(work)
            for work in (
                crowd.look(),
                crowd.shop(),
                crowd.shop(),
                crowd.grab(),
                crowd.settle(),
                crowd.hurry(),
                crowd.host(),
            )
        ]
        try:
            for at in range(5 * AUDITS):
                await asyncio.sleep(0.2)
                report = await auditor.run(running=at % 2 == 0)
                assert report.holds, [check for check in report.checks if not check.holds]
                backlogs.append(report.figures.backlog)
                releasing.append(report.figures.releasing)
                if at >= AUDITS and max(backlogs) > 0 and max(releasing) > 0:
                    break
        finally:
            crowd.over.set()
            await asyncio.wait(acting)
            # One cancellation can get lost in a driver.
            while any(not task.done() for task in keeping):
                for task in keeping:
                    task.cancel()
                await asyncio.wait(keeping, timeout=1)
    # On a slow machine every deadline may have passed meanwhile.
    (coupon,) = await floor.coupons.find_many([1])
    (claim_id,) = await claim(floor, coupon, "the_last")
    await floor.reserve(redeeming(floor, "the_last", claim_id, item_no=CUP))
    await history.drained()
    final = await history.audit(final=True)
    assert final.holds, [check for check in final.checks if not check.holds]
    assert final.figures.orders.keys() >= {"confirmed", "paid", "expired", "cancelled", "refund_due", "refunded"}
    assert final.figures.payments.keys() >= {"applied", "refund_due", "refunded"}
    revived = await floor.ledger.fetchval("SELECT count(*) FROM revivals WHERE revived")
    assert revived > 0
    with_claims = await floor.ledger.fetch("SELECT DISTINCT status FROM orders WHERE coupon_no IS NOT NULL")
    assert {row["status"] for row in with_claims} >= {"confirmed", "paid", "expired", "cancelled"}
    assert final.figures.claims["redeemed"] > 0 and final.figures.claims["confirmed"] > 0
    assert max(backlogs) > 0, "every audit met an idle writer"
    assert max(releasing) > 0, "every audit met an empty outbox"
