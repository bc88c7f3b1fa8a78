"""Coupons under the audit: a history of everything holds, and each violation seeded into one is caught by the right
rules and no other."""

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.domain.acts import Act
from gateway.keeper.audit_report import Rule
from tests.support.audited import History, MadeHistory, caught, copied_history, not_auditable
from tests.support.audited_coupons import FIXED, RANDOM, claims_of, make_coupon_history, redeem
from tests.support.servers import SessionServers
from tests.support.shop_floor import SHARD


@pytest.fixture(scope="module")
def made(servers: SessionServers) -> MadeHistory:
    return make_coupon_history(servers)


@pytest.fixture
def copied_url(made: MadeHistory, servers: SessionServers) -> Iterator[str]:
    url = servers.copy_of(made.database_url)
    yield url
    servers.give_back(url)


@pytest.fixture
async def history(made: MadeHistory, copied_url: str, valkey_url: str) -> AsyncIterator[History]:
    async with copied_history(made, database_url=copied_url, valkey_url=valkey_url) as history:
        yield history


async def test_a_history_of_coupons_holds_while_some_of_it_waits(history: History) -> None:
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    kinds = await history.floor.ledger.fetch(
        "SELECT kind, count(coupon_no)::int AS claims FROM outbox GROUP BY kind ORDER BY kind"
    )
    assert {row["kind"]: row["claims"] for row in kinds} == {
        "paid": 0,
        "refuse": 1,
        "release": 1,
        "return": 1,
        "unclaim": 2,
    }
    statuses = await history.floor.ledger.fetch("SELECT DISTINCT status FROM orders WHERE coupon_no IS NOT NULL")
    assert {row["status"] for row in statuses} == {
        "confirmed",
        "paid",
        "expired",
        "cancelled",
        "refused",
        "refund_due",
        "refunded",
    }
    claims = report.figures.claims
    assert claims["refused"] == 3 and claims["redeemed"] > 5 and claims["confirmed"] > 5
    assert report.figures.backlog > 8


async def test_a_drained_history_of_coupons_holds_and_is_at_the_end(history: History) -> None:
    assert caught(await history.audit(final=True)) == {Rule.DRAINED}
    await history.drained()
    report = await history.audit(final=True)
    assert report.holds, [check for check in report.checks if not check.holds]


async def test_it_holds_sale_by_sale_and_for_what_runs(history: History) -> None:
    assert (await history.audit(sale=history.floor.sale.sale)).holds
    assert (await history.audit(running=True)).holds
    await history.drained()
    assert (await history.audit(running=True)).holds


async def test_it_holds_after_a_recount(history: History) -> None:
    await history.floor.written()
    await history.floor.shards.want_recount(SHARD, "test")
    await history.floor.keeper.step()
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    await history.drained()
    assert (await history.audit(final=True)).holds


async def test_the_cursor_may_stand_inside_a_group_of_claims(history: History) -> None:
    await history.drained()
    stands = (await history.floor.shards.cursor(SHARD))[1]
    ids = await claims_of(history.floor, FIXED, "y0", "y1")
    place = history.floor.mint.read_claim(ids["y0"])
    assert place is not None and place.seq == stands + 1
    await history.sql(
        "INSERT INTO claims (coupon_no, epoch, seq, claim, viewer, key, value_minor, state, at_ms, confirmed_at)"
        f" VALUES ({FIXED}, {place.epoch}, {place.seq}, '{ids['y0']}', 'y0', 'c1', 30, 'confirmed', {place.at_ms},"
        " now())"
    )
    await history.sql(f"UPDATE coupons SET claimed = claimed + 1 WHERE coupon_no = {FIXED}")
    await history.sql(f"INSERT INTO coupon_holdings VALUES ('y0', {FIXED}, 1, 2)")
    await history.sql("UPDATE shards SET last_seq = last_seq + 1")
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]


async def test_claims_behind_a_backlog_too_large_are_not_auditable_and_not_called_broken(history: History) -> None:
    report = await history.audit(most_behind=3)
    assert caught(report) == set()
    assert {Rule.COPIES_LEFT, Rule.COUPONS, Rule.CLAIMS, Rule.CLAIM_ANSWERS, Rule.CLAIM_VIEWERS} <= not_auditable(
        report
    )


async def test_a_retired_coupon_is_audited_in_the_ledger_alone(history: History) -> None:
    await history.drained()
    await history.sql("UPDATE coupons SET retired_at = now() WHERE coupon_no = 1")
    keys = history.floor.keys
    await history.floor.client.delete(
        keys.coupon(1), keys.coupon_answers(1), keys.coupon_viewers(1), keys.coupon_claims(1)
    )
    report = await history.audit()
    assert report.holds, [check for check in report.checks if not check.holds]
    await history.without_constraints("coupons", "UPDATE coupons SET claimed = claimed + 1 WHERE coupon_no = 1")
    assert caught(await history.audit()) == {Rule.CLAIMED}


async def test_acts_behind_the_cursor_change_the_offer_and_its_plan(history: History) -> None:
    await history.act(Act.PRICE, value=90)
    assert (await history.audit()).holds
    await history.drained()
    assert (await history.audit()).holds


async def test_what_is_claimed_and_redeemed_while_the_audit_looks_is_no_violation(history: History) -> None:
    ids = await claims_of(history.floor, RANDOM, "z0", "z1")
    await redeem(history, "z0", ids["z0"])
    assert (await history.audit()).holds
    await history.floor.written()
    assert (await history.audit()).holds
    await history.cancel("z0|with")
    assert (await history.audit()).holds
    await history.released()
    assert (await history.audit()).holds


# Seeds.

_A3 = "WHERE viewer = 'a3'"  # paid
_A6 = "WHERE viewer = 'a6'"  # paid, Valkey was not told
_A8 = "WHERE viewer = 'a8'"  # a claim that was not used
_R0 = "WHERE viewer = 'r0'"  # confirmed
LEDGER_SEEDS: dict[str, tuple[str, str, set[Rule]]] = {
    "claimed off": ("coupons", "UPDATE coupons SET claimed = claimed + 1 WHERE coupon_no = 1", {Rule.CLAIMED}),
    "spent off": ("coupons", "UPDATE coupons SET spent_minor = spent_minor - 1 WHERE coupon_no = 2", {Rule.CLAIMED}),
    "more claims than copies": (
        "coupons",
        "UPDATE coupons SET copies = 5 WHERE coupon_no = 1",
        {Rule.COPIES, Rule.COPIES_LEFT, Rule.COUPONS},
    ),
    "more worth than the budget": (
        "coupons",
        "UPDATE coupons SET budget_minor = 250 WHERE coupon_no = 2",
        {Rule.COPIES, Rule.COPIES_LEFT},
    ),
    "a claim worth more than any": (
        "claims",
        "UPDATE claims SET value_minor = 31 WHERE viewer = 'a8'",
        {Rule.COPIES, Rule.CLAIMS, Rule.CLAIM_ANSWERS},
    ),
    "a claim gone": (
        "claims",
        f"DELETE FROM claims {_A8}",
        {
            Rule.CLAIMED,
            Rule.CLAIM_HOLDINGS,
            Rule.COPIES_LEFT,
            Rule.CLAIMS,
            Rule.CLAIM_ANSWERS,
            Rule.NUMBERS,
        },
    ),
    "a claim in a state that is none": (
        "claims",
        f"UPDATE claims SET state = 'used' {_A8}",
        {Rule.CLAIM_STATES},
    ),
    "a claim that names an order and is free": (
        "claims",
        f"UPDATE claims SET sale_no = 1, order_id = 'ord_x' {_A8}",
        {Rule.CLAIM_STATES},
    ),
    "a refused claim that keeps its key": (
        "claims",
        "UPDATE claims SET key = 'kept' WHERE state = 'refused' AND viewer = 'a7'",
        {Rule.CLAIM_STATES},
    ),
    "a claim that nobody confirmed": (
        "claims",
        f"UPDATE claims SET confirmed_at = NULL {_A8}",
        {Rule.CLAIM_STATES},
    ),
    "a holding off": (
        "coupon_holdings",
        f"UPDATE coupon_holdings SET claims = 2 {_A8}",
        {Rule.CLAIM_HOLDINGS, Rule.CLAIM_VIEWERS},
    ),
    "a holding gone": (
        "coupon_holdings",
        f"DELETE FROM coupon_holdings {_A8}",
        {Rule.CLAIM_HOLDINGS, Rule.CLAIM_VIEWERS},
    ),
    "past the limit": (
        "coupons",
        "UPDATE coupons SET limit_per_viewer = 1 WHERE coupon_no = 1",
        {Rule.CLAIM_LIMITS, Rule.COUPONS},
    ),
    "two claims of a key": (
        "claims",
        "UPDATE claims SET key = 'c1' WHERE viewer = 'a7' AND key = 'c2'",
        {Rule.CLAIM_KEYS, Rule.CLAIM_ANSWERS},
    ),
    "a claim of another key": ("claims", f"UPDATE claims SET key = 'other' {_A8}", {Rule.CLAIM_ANSWERS}),
    "a claim redeemed twice": (
        "orders",
        "UPDATE orders SET (coupon_no, claim_epoch, claim_seq, claim) ="
        " (SELECT coupon_no, claim_epoch, claim_seq, claim FROM orders WHERE viewer = 'a3')"
        " WHERE viewer = 'a6' AND key = 'with'",
        {Rule.REDEEMED},
    ),
    "a redeemed claim whose order ended": (
        "claims",
        "UPDATE claims c SET state = 'redeemed', sale_no = o.sale_no, order_id = o.order_id FROM orders o"
        " WHERE o.viewer = 'a2' AND c.coupon_no = o.coupon_no AND c.epoch = o.claim_epoch AND c.seq = o.claim_seq",
        {Rule.REDEEMED, Rule.CLAIMS},
    ),
    "a live order whose claim is free": (
        "claims",
        f"UPDATE claims SET state = 'confirmed', sale_no = NULL, order_id = NULL {_A3}",
        {Rule.REDEEMED, Rule.CLAIMS},
    ),
    "a claim redeemed by the order of another viewer": (
        "orders",
        "UPDATE claims SET viewer = 'a9x' WHERE viewer = 'a3'",
        {
            Rule.REDEEMED,
            Rule.CLAIMS,
            Rule.CLAIM_HOLDINGS,
            Rule.CLAIM_ANSWERS,
        },
    ),
    "a discount off": (
        "orders",
        f"UPDATE orders SET discount_minor = discount_minor - 1, amount_minor = amount_minor + 1 {_R0}",
        {Rule.DISCOUNTS, Rule.ANSWERS},
    ),
    "a discount without a claim": (
        "orders",
        "UPDATE orders SET discount_minor = 1, amount_minor = amount_minor - 1 WHERE viewer = 'v0'",
        {Rule.DISCOUNTS, Rule.ANSWERS},
    ),
    "an amount under the floor": (
        "sale_items",
        "UPDATE sale_items SET floor_minor = 80 WHERE item_no = 1",
        {Rule.DISCOUNTS, Rule.OFFER},
    ),
    "a coupon used past its time": (
        "coupons",
        "UPDATE coupons SET valid_until_ms = created_at_ms - 1 WHERE coupon_no = 1",
        {Rule.DISCOUNTS, Rule.COUPONS},
    ),
    "a coupon of another currency": (
        "coupons",
        "UPDATE coupons SET currency = 'USD' WHERE coupon_no = 2",
        {Rule.DISCOUNTS, Rule.COUPONS},
    ),
    "a coupon used where it is not bound to": (
        "coupon_sales",
        "DELETE FROM coupon_sales; INSERT INTO sales (sale, shop_no, title, currency, opens_at_ms, closes_at_ms,"
        " pay_within_s, created_at_ms) VALUES ('s', 1, 's', 'EUR', 1, 2, 60, 1);"
        " INSERT INTO coupon_sales SELECT 3, max(sale_no) FROM sales",
        {Rule.DISCOUNTS, Rule.COUPONS},
    ),
    "a refusal never told": (
        "outbox",
        "DELETE FROM outbox WHERE kind = 'unclaim'",
        {Rule.COPIES_LEFT, Rule.CLAIMS, Rule.CLAIM_ANSWERS, Rule.CLAIM_VIEWERS, Rule.OUTBOX},
    ),
    "a release that forgot its claim": (
        "outbox",
        "UPDATE outbox SET coupon_no = NULL, claim_epoch = NULL, claim_seq = NULL WHERE kind = 'release'",
        {Rule.CLAIMS},
    ),
    "a plan that Valkey does not know": (
        "sale_items",
        "UPDATE sale_items SET prices = '[[5, 230]]' WHERE item_no = 2",
        {Rule.OFFER},
    ),
    "a drop missing": ("coupon_acts", "DELETE FROM coupon_acts", {Rule.NUMBERS}),
}


@pytest.mark.parametrize("name", LEDGER_SEEDS)
async def test_a_violation_in_the_ledger_is_caught_by_the_right_rule(history: History, name: str) -> None:
    table, statement, expected = LEDGER_SEEDS[name]
    for each in {table, "claims", "coupons", "orders"}:
        await history.without_constraints(each, "SELECT 1")
    await history.sql(statement)
    report = await history.audit()
    assert caught(report) == expected, report.broken
    assert not report.holds


VALKEY_SEEDS: dict[str, tuple[str, dict[str, str] | str | None, set[Rule]]] = {
    "copies left from nowhere": ("", {"left": "39"}, {Rule.COPIES_LEFT}),
    "budget left from nowhere": ("", {"budget_left": "9"}, {Rule.COPIES_LEFT}),
    "another value": ("", {"value": "31"}, {Rule.COUPONS}),
    "a coupon that is claimed for longer": ("", {"claim_until": "9999999999999"}, {Rule.COUPONS}),
    "a coupon for other sales": ("", {"sales": ",9,"}, {Rule.COUPONS}),
    "a field that is none of ours": ("", {"gift": "1"}, {Rule.COUPONS}),
    "a coupon gone": ("", None, {Rule.COUPONS}),
    "an answer gone": ("answers", "a8|c1", {Rule.CLAIM_ANSWERS}),
    "an answer of another claim": ("answers", {"a8|c1": "1|1|5|30"}, {Rule.CLAIM_ANSWERS}),
    "an answer without a claim": ("answers", {"ghost|c1": "1|1|5|30"}, {Rule.CLAIM_ANSWERS}),
    "the answer of a claim that waits gone": ("answers", "x0|c1", {Rule.CLAIM_ANSWERS}),
    "more claims of a viewer": ("viewers", {"a8": "2"}, {Rule.CLAIM_VIEWERS}),
    "claims of a viewer gone": ("viewers", "a8", {Rule.CLAIM_VIEWERS}),
    "claims of a viewer without any": ("viewers", {"ghost": "1"}, {Rule.CLAIM_VIEWERS}),
    "claims that wait are not counted": ("viewers", "x1", {Rule.CLAIM_VIEWERS}),
    "a claim gone": ("claims", "1|9", {Rule.CLAIMS}),
    "a claim of another viewer": ("claims", {"1|9": "30||ghost"}, {Rule.CLAIMS}),
    "a claim of another value": ("claims", {"1|9": "31||a8"}, {Rule.CLAIMS}),
    "a claim held by an order that is none": ("claims", {"1|9": "30|1:1|a8"}, {Rule.CLAIMS}),
    "a redeemed claim that is free": ("claims", {"1|4": "30||a3"}, {Rule.CLAIMS}),
    "a claim that nobody gave": ("claims", {"1|7777": "30||ghost"}, {Rule.CLAIMS}),
    "a claim that is no text": ("claims", {"\udcff": "\udcff"}, {Rule.CLAIMS}),
    "all claims gone": ("claims", None, {Rule.CLAIMS}),
}


_HELD = {
    "a claim that an order in the stream redeems is free": "s0",
    "a new claim that an order in the stream redeems is free": "x0",
    "a claim that late money in the stream redeems is free": "b0",
    "a claim let go of before its release is told": "b3",
    "a claim let go of before its return is told": "b4",
    "a claim let go of before its refusal is told": "b5",
}


@pytest.mark.parametrize("name", _HELD)
async def test_a_claim_that_is_free_too_early_is_caught(history: History, name: str) -> None:
    keys, client = history.floor.keys, history.floor.client
    key = keys.coupon_claims(RANDOM if _HELD[name] == "s0" else FIXED)
    (field,) = [
        (field, value.split(b"|"))
        for field, value in (await client.hgetall(key)).items()
        if value.split(b"|")[1] and value.endswith(b"|" + _HELD[name].encode())
    ]
    place, (worth, _, viewer) = field
    await client.hset(key, place, b"|".join((worth, b"", viewer)))
    report = await history.audit()
    assert caught(report) == {Rule.CLAIMS}, report.broken


@pytest.mark.parametrize(
    ("of", "field", "rule"),
    [("answers", "s0|c2", Rule.CLAIM_ANSWERS), ("viewers", "s0", Rule.CLAIM_VIEWERS), ("claims", None, Rule.CLAIMS)],
)
async def test_a_refused_claim_that_is_gone_before_valkey_was_told_is_caught(
    history: History, of: str, field: str | None, rule: Rule
) -> None:
    keys, client = history.floor.keys, history.floor.client
    if of == "viewers":
        await client.hincrby(keys.coupon_viewers(RANDOM), field, -1)
    elif of == "answers":
        assert await client.hdel(keys.coupon_answers(RANDOM), field)
    else:
        seqs = await history.floor.ledger.fetch("SELECT epoch, seq FROM outbox WHERE kind = 'unclaim'")
        assert await client.hdel(keys.coupon_claims(RANDOM), *(f"{row['epoch']}|{row['seq']}" for row in seqs)) == 2
    report = await history.audit()
    assert caught(report) == {rule}, report.broken


@pytest.mark.parametrize("name", VALKEY_SEEDS)
async def test_a_violation_in_valkey_is_caught_by_the_right_rule(history: History, name: str) -> None:
    of, change, expected = VALKEY_SEEDS[name]
    keys, client = history.floor.keys, history.floor.client
    key = {
        "": keys.coupon(FIXED),
        "answers": keys.coupon_answers(FIXED),
        "viewers": keys.coupon_viewers(FIXED),
        "claims": keys.coupon_claims(FIXED),
    }[of]
    if change is None:
        assert await client.delete(key)
    elif isinstance(change, str):
        assert await client.hdel(key, change)
    else:
        raw = {_bytes(field): _bytes(value) for field, value in change.items()}
        await client.hset(key, mapping=raw)
    report = await history.audit()
    assert caught(report) == expected, report.broken
    assert not report.holds


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def seeded() -> set[Rule]:
    return set().union(*(rules for *_, rules in LEDGER_SEEDS.values()), *(rules for *_, rules in VALKEY_SEEDS.values()))


def test_every_rule_of_coupons_is_seeded() -> None:
    assert {rule for rule in Rule if rule.value.startswith("5 ")} <= seeded()
