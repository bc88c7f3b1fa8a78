"""The shop's own backend: it takes the money and reports it, insisting until it is told what became of it."""

import asyncio
import itertools
import time
from collections import deque
from typing import Any, Protocol

import aiohttp

from gateway.client.calls import Calls
from gateway.errors import GatewayError
from tests.faults.journal import Money
from tests.faults.rounds import ANSWER_WITHIN_S, APIS, INSIST_S, PAY_WITHIN_S, Placed, Round, pause
from tests.faults.world import World
from tests.faults.zeros import Zero


class Crowd(Protocol):
    world: World
    session: aiohttp.ClientSession

    def token(self, sub: str, role: str) -> str: ...
    def tell(self, round: Round, order: str, status: str, how: str) -> None: ...


class Backend:
    def __init__(self, crowd: Crowd) -> None:
        self.money: dict[str, Money] = {}
        """By transaction, of all rounds."""
        self.unpaid: deque[Placed] = deque(maxlen=300)
        """Orders that nobody paid in time, oldest first."""
        self._crowd = crowd
        self._numbers = itertools.count(1)

    async def pay(self, round: Round, placed: Placed) -> None:
        """The shop's backend reports the money, and insists until it is told what became of it. Some report another
        amount, a second transaction, or give it back."""
        rng, costs = round.rng, placed.ask.price_minor * placed.ask.quantity
        amount = costs if rng.random() < 0.95 else costs + rng.choice((-1, 1))
        money = self._money(placed.order, amount, is_right=amount == costs)
        await self._report(round, money, "payments", money.txn)
        if money.states and rng.random() < 0.1:
            again = self._money(placed.order, amount, is_right=True)
            await self._report(round, again, "payments", again.txn)
        if money.states and rng.random() < 0.1:
            await self._report(round, money, "refunds", f"back-{money.txn}")

    async def pay_late(self, round: Round) -> None:
        """Money for orders whose deadline has passed, of this round and of earlier ones."""
        while not round.stopping.is_set():
            await pause(round, round.rng.uniform(0.1, 0.4))
            if self.unpaid and time.monotonic() - self.unpaid[0].at_s > PAY_WITHIN_S + 1:
                await self.pay(round, self.unpaid.popleft())

    def _money(self, order: str, amount_minor: int, *, is_right: bool) -> Money:
        txn = f"txn-{next(self._numbers)}"
        money = self.money[txn] = Money(order, txn, amount_minor, is_right)
        return money

    async def _report(self, round: Round, money: Money, what: str, key: str) -> None:
        round.journal.write(what, order=money.order, txn=money.txn, amount_minor=money.amount_minor)
        token = self._crowd.token("backend", "service")
        body: dict[str, Any] = {"txn": money.txn, "amount_minor": money.amount_minor}
        if what == "payments":
            paid_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            body |= {"provider": "bank", "paid_at": paid_at}
        deadline_s = time.monotonic() + INSIST_S
        while True:
            where = round.rng.choice(APIS)
            calls = Calls(self._crowd.world.url(where), token, session=self._crowd.session, timeout_s=ANSWER_WITHIN_S)
            try:
                answer = await calls.call("POST", f"/v1/orders/{money.order}/{what}", body, key=key)
            except GatewayError as error:
                if error.retryable and time.monotonic() < deadline_s:
                    await asyncio.sleep(round.rng.uniform(0.05, 0.2))
                    continue
                round.journal.write(f"{what}_refused", order=money.order, txn=money.txn, code=error.code)
                money.error = error.code
                if error.retryable or (money.is_right and what == "payments"):
                    zero = Zero.STUCK if error.retryable else Zero.MONEY
                    round.journal.add_wrong(zero, f"{what} {money}: {error.code} {error.message}")
                return
            found = answer.json()
            state = next((each["state"] for each in found["payments"] if each["txn"] == money.txn), "missing")
            money.states.append(state)
            round.journal.write(f"{what}_told", order=money.order, txn=money.txn, state=state)
            if "status" in found:
                self._crowd.tell(round, money.order, found["status"], f"{what} on {where}")
            return
