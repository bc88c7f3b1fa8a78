"""The journal of a surge, and whether every line of it is true.

The journal has one line a viewer: who, the key, the intended time, and everything that was heard. The check reads only
it and the gateway's public HTTP; what a viewer was told is compared with what the ledger has.
"""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from gateway.client import Host, ViewerHttp
from gateway.client.http import Order
from gateway.domain.order import OrderOutcome, OrderStatus

ASK_AT_ONCE = 16
# Every reserved and every cut viewer is asked by key; of the others a sample, since the listing accounts for all.
SAMPLE_OF_OTHERS = 200
SHOWN_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One viewer's line of the journal."""

    sub: str
    key: str
    intended_s: float
    answer: str | None
    """The true answer: an outcome, or what there was instead of one."""
    cuts: int
    events: list[dict[str, Any]]

    @property
    def orders(self) -> set[str]:
        """Every order id this viewer was ever told in a reply."""
        return {event["order"] for event in self.events if event["what"] == "reply" and "order" in event}

    @property
    def amounts(self) -> set[int]:
        return {
            event["amount_minor"]
            for event in self.events
            if event["what"] == "reply" and event.get("outcome") == OrderOutcome.RESERVED
        }

    @property
    def states(self) -> set[str]:
        return {event["status"] for event in self.events if event["what"] == "order"}


def write_journal(path: Path, lines: Iterable[Told]) -> None:
    with path.open("w") as file:
        for line in lines:
            file.write(json.dumps(asdict(line), separators=(",", ":")) + "\n")


def read_journal(path: Path) -> list[Told]:
    with path.open() as file:
        return [Told(**json.loads(line)) for line in file]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What was sold."""

    sale: str
    sku: str
    stock: int
    price_minor: int
    quantity: int


@dataclass(slots=True)
class Verdict:
    """Named checks, each with how many break it and a few examples."""

    checks: dict[str, list[str]] = field(default_factory=dict)

    def check(self, name: str, broken: Iterable[str]) -> None:
        self.checks[name] = list(broken)

    @property
    def holds(self) -> bool:
        return not any(self.checks.values())

    def as_json(self) -> list[dict[str, Any]]:
        return [
            {"check": name, "holds": not broken, "broken": len(broken), "examples": broken[:SHOWN_EXAMPLES]}
            for name, broken in self.checks.items()
        ]


async def check_journal(
    journal: Sequence[Told], offer: Offer, *, url: str, host: Host, tokens: Mapping[str, str]
) -> Verdict:
    verdict = Verdict()
    answers = Counter(told.answer or "none" for told in journal)
    known = {OrderOutcome.RESERVED.value, OrderOutcome.SOLD_OUT.value}
    reserved = [told for told in journal if told.answer == OrderOutcome.RESERVED]
    verdict.check(
        "every viewer has a true answer",
        (f"{told.sub}: {told.answer or 'none'}" for told in journal if told.answer not in known),
    )
    verdict.check(
        "no viewer was told two orders, or an order and a refusal",
        (
            f"{told.sub}: {sorted(told.orders)} {told.answer}"
            for told in journal
            if len(told.orders) != (1 if told.answer == OrderOutcome.RESERVED else 0)
        ),
    )
    verdict.check(
        "every reserved viewer heard of the confirmation",
        (f"{told.sub}: {sorted(told.states)}" for told in reserved if told.states != {OrderStatus.CONFIRMED.value}),
    )

    ledger = {order.order: order for order in await host.orders(offer.sale) if order.status != OrderStatus.REFUSED}
    said = {order: told for told in reserved for order in told.orders}
    verdict.check("no order that nobody was told of", (order for order in ledger if order not in said))
    verdict.check(
        "every reserved is a confirmed order with the told quantity and amount",
        (
            f"{told.sub} {order}: {ledger.get(order)}"
            for order, told in said.items()
            if not _fits(ledger.get(order), told, offer)
        ),
    )

    expected = min(offer.stock, len(journal) * offer.quantity)
    # A remainder smaller than one order cannot be sold.
    expected -= expected % offer.quantity
    sold = sum(order.quantity for order in ledger.values())
    verdict.check(
        "sold is exactly the smaller of stock and demand",
        [] if sold == expected else [f"sold {sold}, expected {expected}, answers {dict(answers)}"],
    )
    item = next(item for item in (await host.sale(offer.sale)).items if item.sku == offer.sku)
    verdict.check(
        "left is stock minus sold",
        [] if item.left == offer.stock - sold else [f"left {item.left}, stock {offer.stock}, sold {sold}"],
    )

    others = [told for told in journal if told.answer != OrderOutcome.RESERVED]
    asked = reserved + [told for told in others if told.cuts]
    asked += random.sample(others, min(SAMPLE_OF_OTHERS, len(others)))
    verdict.check(
        "asked by key, each viewer's own order is the one told, or none", await _by_key(asked, offer, url, tokens)
    )
    return verdict


def _fits(order: Order | None, told: Told, offer: Offer) -> bool:
    return (
        order is not None
        and order.status == OrderStatus.CONFIRMED
        and order.sku == offer.sku
        and order.quantity == offer.quantity
        and order.amount_minor == offer.price_minor * offer.quantity
        and told.amounts == {order.amount_minor}
        and order.sub in (None, told.sub)
    )


async def _by_key(asked: Sequence[Told], offer: Offer, url: str, tokens: Mapping[str, str]) -> list[str]:
    """With each viewer's own token and key: the proof that the order is exactly theirs."""
    broken: list[str] = []
    gate = asyncio.Semaphore(ASK_AT_ONCE)
    async with aiohttp.ClientSession() as session:

        async def one(told: Told) -> None:
            async with gate:
                viewer = ViewerHttp(url, tokens[told.sub], session=session, insist_s=20.0)
                order = await viewer.by_key(told.key, sale=offer.sale)
            if ({order.order} if order else set()) != told.orders:
                broken.append(f"{told.sub}: told {sorted(told.orders)}, by key {order}")

        async with asyncio.TaskGroup() as group:
            for told in asked:
                group.create_task(one(told))
    return broken
