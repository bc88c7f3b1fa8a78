"""The check of a surge's journal catches each kind of lie, by the check that is named after it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from gateway.client import Host
from loadtests.surge_check import Offer, Told, Verdict, check_journal
from tests.support.fake_shop import http_server, problem

OFFER = Offer(sale="sale_1", sku="tin", stock=2, price_minor=1900, quantity=1)
Ledger = dict[str, dict[str, Any]]


def reserved(sub: str) -> Told:
    order = f"ord_{sub}"
    events = [
        {"what": "cut"},
        {"what": "reply", "outcome": "reserved", "order": order, "amount_minor": 1900},
        {"what": "order", "order": order, "status": "confirmed"},
    ]
    return Told(sub=sub, key=f"tap-{sub}", intended_s=0.0, answer="reserved", cuts=1, events=events)


def refused(sub: str) -> Told:
    events = [{"what": "reply", "outcome": "sold_out", "left": 0}]
    return Told(sub=sub, key=f"tap-{sub}", intended_s=0.0, answer="sold_out", cuts=0, events=events)


def row(sub: str, **fields: Any) -> dict[str, Any]:
    facts = {"order": f"ord_{sub}", "sale": "sale_1", "sku": "tin", "quantity": 1, "amount_minor": 1900}
    return {**facts, "status": "confirmed", "owner": sub, **fields}


def truth() -> tuple[list[Told], Ledger]:
    journal = [reserved("a"), reserved("b"), refused("c"), refused("d")]
    return journal, {"ord_a": row("a"), "ord_b": row("b")}


async def verdict_on(journal: list[Told], ledger: Ledger, *, left: int = 0) -> Verdict:
    async def answer(request: web.Request) -> web.Response:
        shown = [{name: value for name, value in row.items() if name != "owner"} for row in ledger.values()]
        match request.path:
            case "/v1/sales/sale_1/orders":
                return web.json_response({"items": shown, "next": None})
            case "/v1/sales/sale_1":
                item = {"sku": "tin", "price_minor": 1900, "stock": 2, "left": left}
                return web.json_response({"sale": "sale_1", "state": "open", "items": [item]})
        # By key: the caller's own order, told by the token.
        sub = request.headers["Authorization"].removeprefix("Bearer token-")
        for order in ledger.values():
            if order["owner"] == sub and order["status"] != "refused":
                return web.json_response(order)
        return problem(404, "not_found")

    tokens = {told.sub: f"token-{told.sub}" for told in journal}
    async with http_server(answer) as url, Host(url, "token-host") as host:
        return await check_journal(journal, OFFER, url=url, host=host, tokens=tokens)


def broken(verdict: Verdict) -> set[str]:
    return {name for name, found in verdict.checks.items() if found}


async def test_a_true_journal_holds() -> None:
    verdict = await verdict_on(*truth())
    assert verdict.holds and broken(verdict) == set()


def nobody_answered(journal: list[Told], ledger: Ledger) -> None:
    journal[3] = replace(journal[3], answer=None, events=[])


def told_two_orders(journal: list[Told], ledger: Ledger) -> None:
    journal[0].events.append({"what": "reply", "outcome": "reserved", "order": "ord_other", "amount_minor": 1900})


def no_confirmation(journal: list[Told], ledger: Ledger) -> None:
    journal[0].events.pop()


def sold_in_silence(journal: list[Told], ledger: Ledger) -> None:
    ledger["ord_c"] = row("c")


def never_in_the_ledger(journal: list[Told], ledger: Ledger) -> None:
    del ledger["ord_a"]


def wrong_amount(journal: list[Told], ledger: Ledger) -> None:
    ledger["ord_a"]["amount_minor"] = 1800


def refused_after_all(journal: list[Told], ledger: Ledger) -> None:
    ledger["ord_a"]["status"] = "refused"


def given_to_another(journal: list[Told], ledger: Ledger) -> None:
    ledger["ord_a"]["owner"] = "d"


ANSWERED = "every viewer has a true answer"
ONE_ORDER = "no viewer was told two orders, or an order and a refusal"
HEARD = "every reserved viewer heard of the confirmation"
NOBODY = "no order that nobody was told of"
CONFIRMED = "every reserved is a confirmed order with the told quantity and amount"
SOLD = "sold is exactly the smaller of stock and demand"
BY_KEY = "asked by key, each viewer's own order is the one told, or none"


@pytest.mark.parametrize(
    ("lie", "caught_by"),
    [
        (nobody_answered, {ANSWERED}),
        (told_two_orders, {ONE_ORDER, CONFIRMED, BY_KEY}),
        (no_confirmation, {HEARD}),
        (sold_in_silence, {NOBODY, SOLD, BY_KEY}),
        (never_in_the_ledger, {CONFIRMED, SOLD, BY_KEY}),
        (wrong_amount, {CONFIRMED}),
        (refused_after_all, {CONFIRMED, SOLD, BY_KEY}),
        (given_to_another, {BY_KEY}),
    ],
)
async def test_a_lie_is_caught(lie: Callable[[list[Told], Ledger], None], caught_by: set[str]) -> None:
    journal, ledger = truth()
    lie(journal, ledger)
    sold = sum(order["quantity"] for order in ledger.values() if order["status"] != "refused")
    assert broken(await verdict_on(journal, ledger, left=OFFER.stock - sold)) == caught_by


async def test_stock_that_came_back_wrongly_is_caught() -> None:
    assert broken(await verdict_on(*truth(), left=1)) == {"left is stock minus sold"}
