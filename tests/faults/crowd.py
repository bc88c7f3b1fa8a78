"""People who order while everything fails, and write down each word they are told.

Half of them hold a live socket, the others come by HTTP. Who has no answer asks again under the same key on another
process, until there is one. Some wait for their confirmation, some ask after their order elsewhere, some pay, some
cancel, some let it expire; the host changes the stock meanwhile.
"""

import asyncio
import itertools
import random
import time
from collections import deque
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt

from gateway.client.backoff import Backoff
from gateway.client.calls import Calls
from gateway.client.errors import NoAnswer, ViewerAway
from gateway.client.host import Host
from gateway.client.http import ViewerHttp
from gateway.client.orders import KnownOrder
from gateway.client.viewer import Viewer
from gateway.errors import GatewayError, NotFound, OutcomeUnknown
from gateway.ledger.shops import Shop, Signs
from tests.faults.backend import Backend
from tests.faults.journal import Ask, Journal
from tests.faults.rounds import (
    ANSWER_WITHIN_S,
    APIS,
    INSIST_S,
    LIMITS,
    LIVES,
    PAY_WITHIN_S,
    PLENTY,
    PRICES,
    SCARCE,
    Placed,
    Round,
    pause,
)
from tests.faults.world import World
from tests.faults.zeros import Zero

PEOPLE_ON_SOCKETS = 12
PEOPLE_ON_HTTP = 12


@dataclass
class Person:
    sub: str
    token: str
    viewer: Viewer | None = None
    edge: str = ""


class Crowd:
    """Comes once, for all rounds. `think_s`: the mean pause of a person between two wishes."""

    def __init__(self, world: World, shop: Shop, *, think_s: float) -> None:
        self.world = world
        self.shop = shop
        self.think_s = think_s
        self.round: Round | None = None
        self.people: list[Person] = []
        self.placed: deque[Placed] = deque(maxlen=2000)
        """Orders of the last rounds, oldest first."""
        self.backend = Backend(self)
        self.told_late: list[tuple[str, str, str]] = []
        """States told of orders of earlier rounds, and how, since they were last judged."""
        self._journals: dict[str, Journal] = {}
        self._keys = itertools.count(1)
        self._stack = AsyncExitStack()
        self.session: aiohttp.ClientSession

    def token(self, sub: str, role: str) -> str:
        key = self.shop.key_for(Signs.VIEWER if role == "viewer" else Signs.STAFF)
        claims = {"sub": sub, "shop": self.shop.shop, "role": role, "aud": "peakgate", "exp": int(time.time()) + 80_000}
        return jwt.encode(claims, key.secret, algorithm="HS256", headers={"kid": key.kid})

    def host(self, edge: str = "api 1") -> Host:
        return Host(self.world.url(edge), self.token("host", "host"), session=self.session, insist_s=30, timeout_s=10)

    async def __aenter__(self) -> "Crowd":
        self.session = await self._stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        host = self.host()
        room = await host.create_room("Show")
        await host.start_room(room.room)
        for number in range(PEOPLE_ON_SOCKETS + PEOPLE_ON_HTTP):
            sub = f"person-{number:03d}"
            person = Person(sub, self.token(sub, "viewer"))
            self.people.append(person)
            if number < PEOPLE_ON_SOCKETS:
                person.edge = LIVES[number % len(LIVES)]
                person.viewer = Viewer(
                    f"{self.world.url(person.edge)}/v1/rooms/{room.room}/live",
                    person.token,
                    codec="msgpack" if number % 4 == 0 else "json",
                    on_order=lambda known, edge=person.edge: self._on_order(known, edge),
                    backoff=Backoff(base_s=0.1, cap_s=0.5),
                    ping_idle_s=1.0,
                )
                await self._stack.enter_async_context(person.viewer)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def make_sale(self, *, number: int, stock: int) -> str:
        """Before the faults of the round begin; the sale is open and known to Valkey when this returns."""
        items = [
            {
                "sku": sku,
                "title": sku,
                "price_minor": PRICES[sku],
                "stock": stock if sku == SCARCE else 1_000_000,
                "limit_per_viewer": LIMITS[sku],
            }
            for sku in (SCARCE, PLENTY)
        ]
        sale = await self.host().create_sale(
            key=f"sale-{number}-{next(self._keys)}",
            title=f"Round {number}",
            currency="EUR",
            opens_at="2020-01-01T00:00:00Z",
            closes_at="2099-01-01T00:00:00Z",
            pay_within_s=PAY_WITHIN_S,
            items=items,
        )
        return sale.sale

    def begin(self, round: Round) -> None:
        if self.round is not None:
            self._journals.update(dict.fromkeys(self.round.journal.told, self.round.journal))
        self.round = round
        for person in self.people:
            self._spawn(round, self._shop(round, person))
        self._spawn(round, self._host_acts(round))
        self._spawn(round, self.backend.pay_late(round))

    async def end(self) -> None:
        """Nobody wishes anything new; returns when everybody has an answer."""
        assert self.round is not None
        self.round.stopping.set()
        while self.round.tasks:
            done, _ = await asyncio.wait(self.round.tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()

    async def close_sale(self, round: Round) -> None:
        """So that it settles and leaves Valkey while later rounds go on."""
        await self.host().close_sale(round.sale)

    def _spawn(self, round: Round, work: Any) -> None:
        task = asyncio.ensure_future(work)
        round.tasks.add(task)
        task.add_done_callback(round.tasks.discard)

    def _on_order(self, known: KnownOrder, edge: str) -> None:
        if self.round is None or known.status == "reserved":
            return
        how = f"frame of {edge}"
        self.tell(self.round, known.order, known.status, how, reason=known.reason, pay_by_ms=known.pay_by_ms)

    def tell(self, round: Round, order: str, status: str, how: str, **facts: Any) -> None:
        journal = self._journals.get(order, round.journal)
        journal.state(order, status, how, **facts)
        if journal is not round.journal:
            # The round it was placed in is judged already.
            self.told_late.append((order, status, how))

    # One person.

    async def _shop(self, round: Round, person: Person) -> None:
        rng = round.rng
        await pause(round, rng.uniform(0, self.think_s))
        while not round.stopping.is_set():
            scarce = rng.random() < 0.4
            sku = SCARCE if scarce else PLENTY
            ask = round.journal.ask(
                Ask(
                    sale=round.sale,
                    viewer=person.sub,
                    key=f"k{next(self._keys)}",
                    sku=sku,
                    quantity=rng.choice((1, 1, 2)),
                    price_minor=PRICES[sku],
                )
            )
            order = await self._insist(round, person, ask)
            if order is not None:
                await self._afterwards(round, person, ask, order)
            await pause(round, rng.expovariate(1 / self.think_s))

    async def _insist(self, round: Round, person: Person, ask: Ask) -> str | None:
        """Asks until there is a true answer, on another process after each silence; the order when it is one."""
        rng, journal = round.rng, round.journal
        where = person.edge or rng.choice(APIS)
        deadline_s = time.monotonic() + INSIST_S
        while time.monotonic() < deadline_s:
            attempt = journal.sent(ask, where)
            try:
                answer = await self._ask(person, where, ask)
            except GatewayError as error:
                journal.answered(ask, attempt, f"error:{error.code}")
                if not error.retryable and not isinstance(error, ViewerAway):
                    journal.add_wrong(Zero.ANSWERS, f"{ask.name} on {where}: {error.code} {error.message}")
                    return None
                where = _another(where, rng)
                # As long as the gateway asks for, within reason: the round is short.
                await asyncio.sleep(rng.uniform(0.02, 0.1) + min(0.2, (error.retry_after_ms or 0) / 1000))
                continue
            journal.answered(
                ask,
                attempt,
                answer.outcome,
                order=answer.order,
                amount_minor=answer.amount_minor,
                replayed=answer.replayed,
            )
            if answer.outcome == "too_fast":
                await asyncio.sleep((answer.retry_after_ms or 100) / 1000)
                continue
            if answer.outcome == "reserved" and rng.random() < 0.1:
                # A repeat that nobody needs, elsewhere: the same answer.
                where, deadline_s = _another(where, rng), deadline_s - INSIST_S / 2
                continue
            return answer.order
        if not any(attempt.word == "reserved" for attempt in ask.attempts):
            last = ask.attempts[-1]
            journal.add_wrong(Zero.STUCK, f"{ask.name}: no answer within {INSIST_S:g} s, last {last}")
        return next((attempt.order for attempt in ask.reserved()), None)

    async def _ask(self, person: Person, where: str, ask: Ask) -> Any:
        if person.viewer is not None and where == person.edge:
            return await person.viewer.order(
                sale=ask.sale, sku=ask.sku, quantity=ask.quantity, key=ask.key, within_s=ANSWER_WITHIN_S
            )
        http = self.http(person.token, where)
        return await http.place_order(sale=ask.sale, sku=ask.sku, quantity=ask.quantity, key=ask.key)

    def http(self, token: str, where: str, *, insist_s: float = 0.0) -> ViewerHttp:
        return ViewerHttp(
            self.world.url(where), token, session=self.session, timeout_s=ANSWER_WITHIN_S, insist_s=insist_s
        )

    async def _afterwards(self, round: Round, person: Person, ask: Ask, order: str) -> None:
        chance = round.rng.random()
        placed = Placed(ask, order, time.monotonic())
        self.placed.append(placed)
        if chance < 0.25:
            await self._look(round, person, ask, order)
        elif chance < 0.6:
            await self.backend.pay(round, placed)
            return
        elif chance < 0.7:
            await self._cancel(round, person, order)
        # Left to its deadline; some remember to pay when it is too late.
        self.backend.unpaid.append(placed)

    async def _look(self, round: Round, person: Person, ask: Ask, order: str) -> None:
        """Asks after the order by its id or its key, on any process."""
        where = round.rng.choice(APIS)
        http = self.http(person.token, where)
        try:
            if round.rng.random() < 0.5:
                found = await http.order(order)
            else:
                by_key = await http.by_key(ask.key, sale=ask.sale)
                if by_key is None:
                    round.journal.state(order, "key_free", f"key on {where}")
                    return
                found = by_key
        except NotFound:
            round.journal.add_wrong(Zero.ANSWERS, f"{order} was reserved and is not found on {where}")
            return
        except GatewayError:
            return
        self.tell(
            round, found.order, found.status, f"asked {where}", reason=found.reason, amount_minor=found.amount_minor
        )

    async def _cancel(self, round: Round, person: Person, order: str) -> None:
        where = round.rng.choice(APIS)
        calls = Calls(self.world.url(where), person.token, session=self.session, timeout_s=ANSWER_WITHIN_S)
        with suppress(GatewayError):
            answer = await calls.call("POST", f"/v1/orders/{order}/cancel")
            self.tell(round, order, answer.json()["status"], f"cancel on {where}")

    async def _host_acts(self, round: Round) -> None:
        """The host adds a unit of the scarce item now and then, insisting with the same key anywhere."""
        rng = round.rng
        while not round.stopping.is_set():
            await pause(round, rng.uniform(0.2, 0.5))
            key = f"stock-{next(self._keys)}"
            deadline_s = time.monotonic() + INSIST_S
            while time.monotonic() < deadline_s:
                where = rng.choice(APIS)
                host = Host(self.world.url(where), self.token("host", "host"), session=self.session, timeout_s=5)
                try:
                    await host.add_stock(round.sale, SCARCE, 1, reason="one more", key=key)
                except (OutcomeUnknown, NoAnswer):
                    round.added.setdefault(key, 0)
                except GatewayError as error:
                    if not error.retryable:
                        said = f"{error.code} {error.message}"
                        round.journal.add_wrong(Zero.ANSWERS, f"stock {key} on {where}: {said}")
                        break
                else:
                    round.added[key] = 1
                    break
                await asyncio.sleep(rng.uniform(0.05, 0.2))


def _another(where: str, rng: random.Random) -> str:
    """Another process; whoever has no socket there comes by HTTP."""
    return rng.choice([api for api in APIS if api != where])
