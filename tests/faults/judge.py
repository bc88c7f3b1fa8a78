"""After a round: what clients were told, the ledger and the audit must agree. Every sentence returned is a fault of the
gateway."""

import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from gateway.app.tools import run_audit
from gateway.errors import GatewayError
from tests.faults.crowd import Crowd
from tests.faults.journal import Ask, Money, Told, now_ms
from tests.faults.rounds import APIS, LIMITS, SCARCE, Round
from tests.faults.world import World
from tests.faults.zeros import Wrong, Zero, audited, told_but_is

# What the ledger may say later of an order that a client was told to be in a state.
_LATER = {
    "reserved": {"confirmed", "paid", "expired", "cancelled", "refused", "refund_due", "refunded"},
    "confirmed": {"confirmed", "paid", "expired", "cancelled", "refund_due", "refunded"},
    "paid": {"paid", "refund_due", "refunded"},
    "expired": {"expired", "paid", "refund_due", "refunded"},
    "cancelled": {"cancelled", "refund_due", "refunded"},
    "refund_due": {"refund_due", "refunded"},
    "refunded": {"refunded"},
    "refused": {"refused"},
}
_LIVE = {"confirmed", "paid"}
# Answers that promise that the key holds nothing.
_REFUSALS = {"sold_out", "limit_reached", "not_started", "ended", "paused", "price_changed"}
_ASKED_BY_ID = 25
_EARLIER = 5

_ORDERS = """
SELECT o.order_id, o.viewer, o.key, i.sku, o.quantity, o.amount_minor, o.status, o.reason, o.created_at_ms
  FROM orders o JOIN sales s USING (sale_no) JOIN sale_items i USING (sale_no, item_no) WHERE s.sale = $1
"""
_ITEMS = """
SELECT i.sku, i.stock, i.held, i.sold FROM sale_items i JOIN sales s USING (sale_no) WHERE s.sale = $1
"""


@dataclass
class Verdict:
    reserved: int = 0
    """Orders that were answered `reserved`."""
    confirmed: int = 0
    broken: list[str] = field(default_factory=list)
    """Promises broken: `reserved` later refused."""
    wrong: list[Wrong] = field(default_factory=list)
    """Wrong answers, lost confirmations, more sold than there was, money that does not add up."""
    audit: list[Wrong] = field(default_factory=list)
    unknown_then_refused: int = 0
    """Keys that were told a refusal while an earlier ask of theirs was still under way, and became an order."""
    asks: int = 0
    attempts: int = 0

    def add_wrong(self, zero: Zero, sentence: str) -> None:
        self.wrong.append(Wrong(zero, sentence))


async def judge(world: World, crowd: Crowd, round: Round, *, may_lose: bool, rng: random.Random) -> Verdict:
    journal = round.journal
    verdict = Verdict(wrong=list(journal.wrong), asks=len(journal.asks))
    # Orders expire meanwhile: what is told from here on is judged with the next round.
    until_ms = now_ms()
    found, counted = await world.fetch_at_once((_ORDERS, round.sale), (_ITEMS, round.sale))
    rows, items = {row["order_id"]: row for row in found}, {row["sku"]: row for row in counted}
    crowd.told_late += [
        (order, each.status, each.how)
        for order, told in journal.told.items()
        for each in told
        if each.at_ms >= until_ms and each.status in _LATER
    ]
    asks: dict[str, Ask] = {}
    by_key: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows.values():
        if row["key"] is not None:
            by_key[row["viewer"], row["key"]].append(row)
    gone: list[str] = []
    for ask in journal.asks.values():
        verdict.attempts += len(ask.attempts)
        for attempt in ask.reserved():
            assert attempt.order is not None
            asks[attempt.order] = ask
        judge_ask(ask, rows, by_key[ask.viewer, ask.key], verdict)
    for order, all_told in journal.told.items():
        told = [each for each in all_told if each.at_ms < until_ms]
        ask_of = asks.get(order)
        row = rows.get(order)
        if row is None:
            gone.append(order)
        else:
            judge_order(order, told, row, ask_of, may_lose, verdict)
    verdict.reserved = len(asks)
    verdict.confirmed = sum(row["status"] != "refused" for row in rows.values())
    await _judge_gone(crowd, journal.told, gone, asks, may_lose, rng, verdict)
    await _ask_by_id(crowd, rows, rng.sample(sorted(asks), min(_ASKED_BY_ID, len(asks))), asks, rng, verdict)
    for row in rows.values():
        if row["key"] is not None and (round.sale, row["viewer"], row["key"]) not in journal.asks:
            verdict.add_wrong(Zero.ANSWERS, f"{row['order_id']} of {row['viewer']} was never asked for")
    await judge_late(world, crowd, verdict)
    await _judge_earlier(world, crowd, round, rng, verdict)
    _judge_units(round, rows, items, verdict)
    await audit(world, verdict, sale=round.sale)
    return verdict


async def audit(world: World, verdict: Verdict, *, sale: str | None) -> None:
    report = await run_audit(world.settings, sale=sale, final=True)
    for check in report.checks:
        if not check.holds:
            sentence = f"{check.name}: {check.detail} {check.violations[:3]}"
            verdict.audit.append(Wrong(audited(check.name), sentence))


def judge_ask(ask: Ask, rows: dict[str, Any], held: list[Any], verdict: Verdict) -> None:
    told = list(dict.fromkeys(attempt.order for attempt in ask.reserved()))
    standing = [order for order in told if order in rows and rows[order]["status"] != "refused"]
    if len(standing) > 1 or len(held) > 1:
        verdict.add_wrong(
            Zero.DOUBLE, f"{ask.name} has several orders: told {told}, held {[row['order_id'] for row in held]}"
        )
    if held and told and held[0]["order_id"] not in told:
        verdict.add_wrong(Zero.DOUBLE, f"{ask.name} was told {told} and holds {held[0]['order_id']}")
    for row in held:
        refused = [attempt for attempt in ask.attempts if attempt.word in _REFUSALS]
        late = [attempt for attempt in refused if attempt.sent_ms > row["created_at_ms"] + 1]
        if late:
            verdict.add_wrong(
                Zero.ANSWERS, f"{ask.name} was told {late[0].word} when it held {row['order_id']} already: {ask}"
            )
        elif refused and not told:
            verdict.unknown_then_refused += 1


def judge_order(order: str, told: list[Told], row: Any, ask: Ask | None, may_lose: bool, verdict: Verdict) -> None:
    """An order the ledger has."""
    facts = f"{order} ({row['status']} {row['reason'] or ''})"
    statuses = [each for each in told if each.status in _LATER]
    for each in statuses:
        if row["status"] not in _LATER[each.status]:
            verdict.add_wrong(
                told_but_is(each.status, row["status"]), f"{facts} was told to be {each.status} by {each.how}"
            )
        if each.amount_minor is not None and each.amount_minor != row["amount_minor"]:
            verdict.add_wrong(Zero.ANSWERS, f"{facts} costs {row['amount_minor']}, {each.how} said {each.amount_minor}")
    if row["status"] == "refused":
        verdict.broken.append(f"{facts}: the ledger refused it")
        if not may_lose:
            verdict.add_wrong(Zero.PROMISES, f"{facts} was reserved and the ledger refused it")
    elif any(each.status == "key_free" for each in told):
        verdict.add_wrong(Zero.ANSWERS, f"{facts}: its key was told to be free")
    if ask is not None:
        wanted = (ask.viewer, ask.sku, ask.quantity, ask.price_minor * ask.quantity)
        found = (row["viewer"], row["sku"], row["quantity"], row["amount_minor"])
        if wanted != found or (row["status"] != "refused" and row["key"] != ask.key):
            verdict.add_wrong(
                Zero.ANSWERS, f"{facts} is {found} under {row['key']}, asked for was {wanted} under {ask.key}"
            )


async def judge_late(world: World, crowd: Crowd, verdict: Verdict) -> None:
    """What was told of orders of earlier rounds."""
    told, crowd.told_late = crowd.told_late, []
    query = "SELECT order_id, status FROM orders WHERE order_id = ANY($1::text[])"
    found = {row["order_id"]: row["status"] for row in await world.fetch(query, [order for order, *_ in told])}
    for order, status, how in told:
        if found.get(order, "refused") not in _LATER[status]:
            verdict.add_wrong(
                told_but_is(status, found.get(order)),
                f"{order} was told to be {status} by {how}, in the ledger it is {found.get(order)}",
            )


async def _judge_earlier(world: World, crowd: Crowd, round: Round, rng: random.Random, verdict: Verdict) -> None:
    """Orders of earlier rounds still answer, by id, by key and when they are asked for again: also those of sales that
    are closed, and those that left Valkey."""
    earlier = [placed for placed in crowd.placed if placed.ask.sale != round.sale]
    some = rng.sample(earlier, min(_EARLIER, len(earlier)))
    query = "SELECT order_id, status FROM orders WHERE order_id = ANY($1::text[])"
    found = {row["order_id"]: row["status"] for row in await world.fetch(query, [placed.order for placed in some])}
    for placed in some:
        ask, order = placed.ask, placed.order
        status = found.get(order, "refused")
        where = rng.choice(APIS)
        viewer = crowd.http(crowd.token(ask.viewer, "viewer"), where, insist_s=15)
        try:
            by_id = await viewer.order(order)
            if by_id.status not in {status, *_LATER[status]}:
                verdict.add_wrong(Zero.ANSWERS, f"{order} is {status}, {where} says {by_id.status} long after")
            if status == "refused":
                continue
            by_key = await viewer.by_key(ask.key, sale=ask.sale)
            if by_key is None or by_key.order != order:
                verdict.add_wrong(
                    Zero.ANSWERS, f"{order} is {status}, and {where} finds {by_key} by its key long after"
                )
            again = await viewer.place_order(sale=ask.sale, sku=ask.sku, quantity=ask.quantity, key=ask.key)
            if (again.outcome, again.order) != ("reserved", order):
                verdict.add_wrong(
                    Zero.ANSWERS, f"{order} is {status}, and {where} answers {again} when it is asked for again"
                )
        except GatewayError as error:
            verdict.add_wrong(
                Zero.ANSWERS, f"{order} is {status}, and {where} answers {error.code} {error.message} long after"
            )


async def _judge_gone(
    crowd: Crowd,
    told: dict[str, list[Told]],
    gone: list[str],
    asks: dict[str, Ask],
    may_lose: bool,
    rng: random.Random,
    verdict: Verdict,
) -> None:
    """Orders that were told of and that the ledger does not have: only a Valkey that lost its file may do that."""
    for order in gone:
        words = {each.status for each in told[order]}
        if words - {"reserved", "refused", "key_free"}:
            verdict.add_wrong(Zero.LOST, f"{order} was told to be {sorted(words)} and is not in the ledger")
        if "reserved" not in words:
            continue  # its answer never came: nothing was promised
        verdict.broken.append(f"{order}: lost")
        if not may_lose:
            verdict.add_wrong(Zero.PROMISES, f"{order} was reserved and vanished: {asks.get(order)}")
    await _ask_by_id(crowd, {}, rng.sample(gone, min(_ASKED_BY_ID, len(gone))), asks, rng, verdict)


async def _ask_by_id(
    crowd: Crowd, rows: dict[str, Any], orders: list[str], asks: dict[str, Ask], rng: random.Random, verdict: Verdict
) -> None:
    for order in orders:
        ask = asks.get(order)
        if ask is None:
            continue
        where = rng.choice(APIS)
        viewer = crowd.http(crowd.token(ask.viewer, "viewer"), where, insist_s=10)
        try:
            found = await viewer.order(order)
        except GatewayError as error:
            verdict.add_wrong(Zero.ANSWERS, f"{order} was reserved, and {where} answers {error.code} when asked by id")
            continue
        row = rows.get(order)
        if row is None and (found.status, found.reason) != ("refused", "lost"):
            verdict.add_wrong(
                Zero.ANSWERS, f"{order} is not in the ledger, and {where} says {found.status} {found.reason}"
            )
        elif row is not None and found.status not in {row["status"], *_LATER[row["status"]]}:
            verdict.add_wrong(
                Zero.ANSWERS, f"{order} is {row['status']} in the ledger, and {where} says {found.status}"
            )


def _judge_units(round: Round, rows: dict[str, Any], items: dict[str, Any], verdict: Verdict) -> None:
    units: Counter[str] = Counter()
    mine: Counter[tuple[str, str]] = Counter()
    for row in rows.values():
        if row["status"] in _LIVE:
            units[row["sku"]] += row["quantity"]
            mine[row["viewer"], row["sku"]] += row["quantity"]
    for sku, item in items.items():
        if units[sku] > item["stock"]:
            verdict.add_wrong(Zero.OVERSOLD, f"{sku}: {units[sku]} units sold of {item['stock']}")
        if units[sku] != item["held"] + item["sold"]:
            verdict.add_wrong(
                Zero.OVERSOLD, f"{sku}: {units[sku]} units live, {item['held']} held and {item['sold']} sold"
            )
    for (viewer, sku), count in mine.items():
        if count > LIMITS[sku]:
            verdict.add_wrong(Zero.OVERSOLD, f"{viewer} has {count} of {sku}, the limit is {LIMITS[sku]}")
    least = round.stock + sum(round.added.values())
    if not least <= items[SCARCE]["stock"] <= round.stock + len(round.added):
        verdict.add_wrong(
            Zero.ANSWERS, f"the stock is {items[SCARCE]['stock']}; it was {round.stock}, added were {round.added}"
        )


# What the ledger may say later of a payment that was told to be in a state.
_MONEY_LATER = {
    "waiting": {"waiting", "applied", "refund_due", "refunded"},
    "applied": {"applied", "refunded"},
    "refund_due": {"refund_due", "refunded"},
    "refunded": {"refunded"},
}


async def judge_all_money(world: World, crowd: Crowd, verdict: Verdict) -> None:
    """Every payment that was told to be taken is there as it was told, and no other."""
    found = {row["txn"]: row for row in await world.fetch("SELECT txn, order_id, amount_minor, state FROM payments")}
    for txn in found.keys() - crowd.backend.money.keys():
        verdict.add_wrong(Zero.MONEY, f"money {txn} was never reported: {dict(found[txn])}")
    for txn, money in crowd.backend.money.items():
        judge_money(money, found.get(txn), verdict)
    per_order = await world.fetch(
        "SELECT o.order_id, o.status, o.amount_minor, coalesce(sum(p.amount_minor), 0) AS applied"
        " FROM orders o LEFT JOIN payments p ON p.order_id = o.order_id AND p.state = 'applied'"
        " GROUP BY o.order_id, o.status, o.amount_minor"
        " HAVING coalesce(sum(p.amount_minor), 0) <> CASE WHEN o.status = 'paid' THEN o.amount_minor ELSE 0 END"
    )
    for row in per_order:
        verdict.add_wrong(
            Zero.MONEY, f"{row['order_id']} is {row['status']}, costs {row['amount_minor']}, got {row['applied']}"
        )


def judge_money(money: Money, row: Any, verdict: Verdict) -> None:
    if row is None:
        if money.states:
            verdict.add_wrong(Zero.MONEY, f"{money} is not in the ledger")
        return
    if not money.is_right and row["state"] == "applied":
        verdict.add_wrong(Zero.MONEY, f"{money} is not what its order costs, and is {row['state']}")
    if (row["order_id"], row["amount_minor"]) != (money.order, money.amount_minor):
        verdict.add_wrong(Zero.MONEY, f"{money} is another one in the ledger: {dict(row)}")
    for state in money.states:
        if row["state"] not in _MONEY_LATER.get(state, ()):
            verdict.add_wrong(Zero.MONEY, f"{money} was told to be {state}, in the ledger it is {row['state']}")
