"""Violations seeded into the ledger: each alone, in a history that holds, caught by the right rules and no other."""

import pytest

from gateway.keeper.audit_report import Rule
from tests.integration.test_audit_seeds_valkey import VALKEY_SEEDS
from tests.support.audited import History, caught

_V1 = "WHERE viewer = 'v1' AND item_no = 1"  # confirmed
_V2 = "WHERE viewer = 'v2' AND item_no = 1"  # paid
_E0 = "WHERE viewer = 'e0' AND item_no = 1"  # expired
_PAID_BY = "(SELECT order_id FROM orders WHERE viewer = '{}' AND item_no = 1)"
_V2_MONEY = f"WHERE state = 'applied' AND order_id = {_PAID_BY.format('v2')}"
_SUMS = {Rule.COUNTERS, Rule.CONSERVATION, Rule.HELD, Rule.HOLDINGS}
_PAY = (
    "INSERT INTO payments (shop_no, provider, txn, order_id, sale_no, amount_minor, paid_at, state)"
    " SELECT 1, 'bank', 'seeded', order_id, sale_no, 200, now(), '{}' FROM orders "
)
_OF_SHOP_MONEY = {Rule.PAID, Rule.MONEY}
LEDGER_SEEDS: dict[str, tuple[str, str, set[Rule]]] = {
    # Units.
    "held off": ("sale_items", "UPDATE sale_items SET held = held + 1 WHERE item_no = 1", {Rule.COUNTERS}),
    "sold off": ("sale_items", "UPDATE sale_items SET sold = sold + 1 WHERE item_no = 1", {Rule.COUNTERS}),
    "held under zero": (
        "sale_items",
        "UPDATE sale_items SET held = -1 WHERE item_no = 1",
        {Rule.COUNTERS, Rule.NEGATIVE},
    ),
    "oversold": (
        "sale_items",
        "UPDATE sale_items SET stock = 39 WHERE item_no = 1",
        {Rule.WITHIN_STOCK, Rule.STOCK, Rule.CONSERVATION},
    ),
    "an order of more units": ("orders", f"UPDATE orders SET quantity = 3, amount_minor = 300 {_V1}", _SUMS),
    "an order gone": ("orders", f"DELETE FROM orders {_V1}", {*_SUMS, Rule.NUMBERS, Rule.ANSWERED}),
    "an order ended without release": ("orders", f"UPDATE orders SET status = 'expired' {_V1}", _SUMS),
    "an expired order back from nowhere": (
        "orders",
        f"UPDATE orders SET status = 'confirmed' {_E0}",
        {*_SUMS, Rule.DEADLINES, Rule.OVERDUE},
    ),
    "an order of an item that is not there": ("orders", f"UPDATE orders SET item_no = 9 {_V1}", _SUMS),
    "a holding off": (
        "holdings",
        "UPDATE holdings SET units = 3 WHERE viewer = 'v1' AND item_no = 1",
        {Rule.HOLDINGS, Rule.UNITS},
    ),
    "a holding gone": (
        "holdings",
        "DELETE FROM holdings WHERE viewer = 'v1' AND item_no = 1",
        {Rule.HOLDINGS, Rule.UNITS},
    ),
    "past the limit": (
        "sale_items",
        "UPDATE sale_items SET limit_per_viewer = 1 WHERE item_no = 1",
        {Rule.LIMITS, Rule.OFFER},
    ),
    "a stock that Valkey does not know": (
        "sale_items",
        "UPDATE sale_items SET stock = stock + 1 WHERE item_no = 2",
        {Rule.STOCK, Rule.CONSERVATION},
    ),
    # The outbox: rows by kind, in the order of the history: refuse, paid, release, return.
    "a refusal never told": (
        "outbox",
        "DELETE FROM outbox WHERE kind = 'refuse'",
        {Rule.CONSERVATION, Rule.HELD, Rule.UNITS, Rule.ANSWERED, Rule.OUTBOX},
    ),
    "a payment never told": ("outbox", "DELETE FROM outbox WHERE kind = 'paid'", {Rule.HELD, Rule.OUTBOX}),
    "a release never told": (
        "outbox",
        "DELETE FROM outbox WHERE kind = 'release'",
        {Rule.CONSERVATION, Rule.HELD, Rule.UNITS, Rule.OUTBOX},
    ),
    "a return never told": (
        "outbox",
        "DELETE FROM outbox WHERE kind = 'return'",
        {Rule.CONSERVATION, Rule.UNITS, Rule.OUTBOX},
    ),
    "a release of the wrong kind": (
        "outbox",
        "UPDATE outbox SET kind = 'return' WHERE kind = 'release'",
        {Rule.HELD},
    ),
    "a row that was not counted": ("shards", "UPDATE shards SET outbox_no = outbox_no - 1", {Rule.OUTBOX}),
    # Orders.
    "two orders of a key": (
        "orders",
        "UPDATE orders SET key = 'tin' WHERE viewer = 'v1' AND item_no = 2",
        {Rule.KEYS, Rule.ANSWERED},
    ),
    "an order of another key": ("orders", f"UPDATE orders SET key = 'other' {_V1}", {Rule.ANSWERED, Rule.ANSWERS}),
    "another fingerprint": ("orders", f"UPDATE orders SET fingerprint = 'other' {_V1}", {Rule.ANSWERS}),
    "a status that is none": ("orders", f"UPDATE orders SET status = 'shipped' {_E0}", {Rule.STATES}),
    "a refused order without a reason": (
        "orders",
        "UPDATE orders SET reason = NULL WHERE status = 'refused'",
        {Rule.STATES},
    ),
    "a refused order that keeps its key": (
        "orders",
        "UPDATE orders SET key = 'kept' WHERE status = 'refused' AND viewer = 'v0'",
        {Rule.STATES},
    ),
    "an order that nobody confirmed": ("orders", f"UPDATE orders SET confirmed_at = NULL {_V1}", {Rule.STATES}),
    "an order without a term": ("orders", f"UPDATE orders SET pay_by = confirmed_at {_E0}", {Rule.STATES}),
    "an amount off": (
        "orders",
        f"UPDATE orders SET amount_minor = amount_minor - 1 {_V1}",
        {Rule.AMOUNTS},
    ),
    "a price it never had": (
        "orders",
        f"UPDATE orders SET price_minor = 99, amount_minor = 198 {_V1}",
        {Rule.PRICES, Rule.ANSWERS},
    ),
    # Deadlines.
    "a deadline gone": ("deadlines", "DELETE FROM deadlines", {Rule.DEADLINES}),
    "a deadline that ends before its orders": (
        "deadlines",
        "UPDATE deadlines SET pay_by = pay_by - interval '2 minutes'",
        {Rule.DEADLINES},
    ),
    "an order outside of its deadline": (
        "deadlines",
        f"UPDATE deadlines SET first_id = {_PAID_BY.format('v1')} || '~'"
        f" WHERE {_PAID_BY.format('v1')} BETWEEN first_id AND last_id",
        {Rule.DEADLINES},
    ),
    "an order that nobody ended": (
        "orders",
        f"UPDATE orders SET confirmed_at = now() - interval '1 hour', pay_by = now() - interval '61 seconds' {_V1}",
        {Rule.OVERDUE},
    ),
    # Money.
    "a payment gone": ("payments", f"DELETE FROM payments {_V2_MONEY}", _OF_SHOP_MONEY),
    "a payment of another amount": (
        "payments",
        f"UPDATE payments SET amount_minor = 199 {_V2_MONEY}",
        _OF_SHOP_MONEY,
    ),
    "a payment that counts twice": (
        "payments",
        f"DROP INDEX payments_one_an_order; {_PAY.format('applied')} {_V2}",
        _OF_SHOP_MONEY,
    ),
    "a paid order whose money is given back": (
        "payments",
        f"UPDATE payments SET state = 'refund_due', reason = 'seeded' {_V2_MONEY}",
        _OF_SHOP_MONEY,
    ),
    "money that counts for an order nobody paid": ("payments", f"{_PAY.format('applied')} {_V1}", _OF_SHOP_MONEY),
    "money in a state that is none": (
        "payments",
        "UPDATE payments SET state = 'lost' WHERE reason = 'amount'",
        {Rule.MONEY},
    ),
    "a paid order without money": (
        "orders",
        f"UPDATE orders SET status = 'paid' {_V1}",
        {Rule.COUNTERS, Rule.HELD, *_OF_SHOP_MONEY},
    ),
    "late money of an order in time": ("payments", f"{_PAY.format('waiting')} {_V1}", {Rule.LATE}),
    "late money forgotten": (
        "payments",
        "UPDATE payments SET received_at = now() - interval '2 minutes' WHERE state = 'waiting'",
        {Rule.LATE_WAITS},
    ),
    "an order that came back twice": (
        "revivals",
        "INSERT INTO revivals SELECT shard, epoch, 900, payment_no, sale_no, true FROM revivals WHERE revived",
        {Rule.REVIVED, Rule.NUMBERS},
    ),
    "an order that came back without its money": (
        "revivals",
        "UPDATE revivals SET revived = true WHERE NOT revived",
        {Rule.REVIVED},
    ),
    "an order to be refunded, and nothing to refund": (
        "payments",
        f"DELETE FROM payments WHERE order_id = {_PAID_BY.format('v6')}",
        {Rule.REFUNDS},
    ),
    "an order refunded, and its money not": (
        "payments",
        "UPDATE payments SET state = 'refund_due', refunded_at = NULL, reason = 'seeded'"
        f" WHERE order_id = {_PAID_BY.format('v7')}",
        {Rule.REFUNDS},
    ),
    "money of an order that is not there": (
        "payments",
        "UPDATE payments SET order_id = 'ord_gone' WHERE reason = 'amount'",
        {Rule.MONEY_OF_ORDERS},
    ),
    "money of no sale that waits": (
        "payments",
        "UPDATE payments SET state = 'waiting', reason = NULL, received_at = now() WHERE sale_no IS NULL",
        {Rule.MONEY_OF_ORDERS},
    ),
    "a transaction twice": (
        "payments",
        "UPDATE payments SET txn = (SELECT txn FROM payments WHERE reason = 'amount') WHERE sale_no IS NULL",
        {Rule.TRANSACTIONS},
    ),
    # Sequence numbers and epochs.
    "the cursor ahead": ("shards", "UPDATE shards SET last_seq = last_seq + 50", {Rule.AHEAD, Rule.NUMBERS}),
    "a number missing": ("acts", "DELETE FROM acts WHERE act = 'pause'", {Rule.NUMBERS}),
    "a number of a revival missing": ("revivals", "DELETE FROM revivals WHERE NOT revived", {Rule.NUMBERS}),
    "a number twice": (
        "parked",
        "INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry) VALUES (0, 1, 3, 4, 'twice', '')",
        {Rule.NUMBERS},
    ),
    "a number lost and found": ("lost_seqs", "INSERT INTO lost_seqs VALUES (0, 2, 3, 4)", {Rule.NUMBERS}),
    "a number behind the cursor": (
        "parked",
        "INSERT INTO parked (shard, epoch, first_seq, last_seq, reason, entry) VALUES (0, 2, 900, 900, 'early', '')",
        {Rule.NUMBERS},
    ),
    "an epoch that ended further on": ("epochs", "UPDATE epochs SET last_seq = last_seq + 1", {Rule.NUMBERS}),
    "an epoch that nobody ended": ("epochs", "DELETE FROM epochs", {Rule.NUMBERS}),
    "another epoch": ("shards", "UPDATE shards SET epoch = 3", {Rule.EPOCH, Rule.NUMBERS}),
}


@pytest.mark.parametrize("name", LEDGER_SEEDS)
async def test_a_violation_in_the_ledger_is_caught_by_the_right_rule(history: History, name: str) -> None:
    table, statement, expected = LEDGER_SEEDS[name]
    await history.without_constraints(table, statement)
    report = await history.audit()
    assert caught(report) == expected, report.broken
    assert not report.holds


def test_every_rule_that_can_be_broken_alone_is_seeded() -> None:
    seeded = set().union(
        *(rules for _, rules in VALKEY_SEEDS.values()), *(rules for *_, rules in LEDGER_SEEDS.values())
    )
    of_coupons = {rule for rule in Rule if rule.value.startswith("5 ")}  # in test_audit_coupons.py
    assert set(Rule) - seeded - of_coupons == {Rule.DRAINED}, "what waits in a final audit is tested with it"
    assert len(VALKEY_SEEDS) + len(LEDGER_SEEDS) >= 60
