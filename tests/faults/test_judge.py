"""The judge itself: each wrong word is found, and what may happen is let pass."""

from typing import Any

import pytest

from gateway.keeper.audit_report import Rule
from tests.faults.journal import Ask, Attempt, Journal, Money, Told
from tests.faults.judge import Verdict, judge_ask, judge_money, judge_order
from tests.faults.zeros import FIVE, Wrong, Zero, audited, count_zeros, told_but_is

ORDER = "ord_1"


def ask(*attempts: Attempt) -> Ask:
    return Ask(sale="sale_1", viewer="ann", key="k1", sku="tin", quantity=2, price_minor=1900, attempts=list(attempts))


def attempt(word: str | None, order: str | None = None, *, sent_ms: int = 1000) -> Attempt:
    return Attempt("api 1", sent_ms, word, order, 3800, sent_ms + 5)


def row(order: str = ORDER, **changes: Any) -> dict[str, Any]:
    return {
        "order_id": order,
        "viewer": "ann",
        "key": "k1",
        "sku": "tin",
        "quantity": 2,
        "amount_minor": 3800,
        "status": "confirmed",
        "reason": None,
        "created_at_ms": 1000,
        **changes,
    }


def told(status: str, **facts: Any) -> Told:
    return Told(ORDER, status, 2000, "a frame", **facts)


def wrong_of_ask(asked: Ask, *held: dict[str, Any]) -> list[Wrong]:
    verdict = Verdict()
    judge_ask(asked, {each["order_id"]: each for each in held}, [each for each in held if each["key"]], verdict)
    return verdict.wrong


def judged(*states: Told, may_lose: bool = False, **changes: Any) -> Verdict:
    verdict = Verdict()
    judge_order(ORDER, list(states), row(**changes), ask(attempt("reserved", ORDER)), may_lose, verdict)
    return verdict


def test_one_order_told_twice_is_one_order() -> None:
    assert wrong_of_ask(ask(attempt("reserved", ORDER), attempt("reserved", ORDER)), row()) == []


def test_two_orders_of_one_key_are_found() -> None:
    assert wrong_of_ask(ask(attempt("reserved", ORDER), attempt("reserved", "ord_2")), row(), row("ord_2"))


def test_a_key_may_be_asked_anew_when_its_order_was_refused() -> None:
    refused = row(status="refused", key=None)
    assert wrong_of_ask(ask(attempt("reserved", ORDER), attempt("reserved", "ord_2")), refused, row("ord_2")) == []


def test_another_order_than_was_told_is_found() -> None:
    assert wrong_of_ask(ask(attempt("reserved", ORDER)), row("ord_2"))


def test_a_refusal_of_a_key_that_held_an_order_already_is_found() -> None:
    assert wrong_of_ask(ask(attempt(None), attempt("sold_out", sent_ms=5000)), row(created_at_ms=1001))


def test_an_order_decided_after_a_refusal_of_its_key_is_let_pass() -> None:
    assert wrong_of_ask(ask(attempt(None), attempt("sold_out", sent_ms=1500)), row(created_at_ms=4000)) == []


def test_a_confirmation_that_the_ledger_refused_is_found() -> None:
    assert judged(told("reserved"), told("confirmed"), status="refused", reason="stock", may_lose=True).wrong


def test_a_reservation_that_the_ledger_refused_is_a_broken_promise_and_wrong_where_nothing_may_be_lost() -> None:
    may, must_not = (judged(told("reserved"), status="refused", reason="key", may_lose=lose) for lose in (True, False))
    assert may.broken and not may.wrong
    assert must_not.broken and must_not.wrong


def test_paid_orders_do_not_go_back() -> None:
    assert judged(told("paid"), status="expired").wrong
    assert not judged(told("expired"), status="paid").wrong
    assert not judged(told("paid"), status="refunded").wrong


def test_another_amount_is_found() -> None:
    assert judged(told("reserved", amount_minor=1)).wrong
    assert judged(told("reserved"), amount_minor=1900).wrong


def test_another_viewer_or_quantity_is_found() -> None:
    assert judged(told("reserved"), viewer="bob").wrong
    assert judged(told("reserved"), quantity=1).wrong


def test_a_key_that_was_told_to_be_free_is_found() -> None:
    assert judged(told("reserved"), told("key_free")).wrong


def money(*states: str, is_right: bool = True) -> Money:
    return Money(ORDER, "txn-1", 3800, is_right, list(states))


def wrong_money(of: Money, found: dict[str, Any] | None) -> list[Wrong]:
    verdict = Verdict()
    judge_money(of, found, verdict)
    return verdict.wrong


def payment(state: str, **changes: Any) -> dict[str, Any]:
    return {"order_id": ORDER, "amount_minor": 3800, "state": state, **changes}


def test_money_that_was_taken_and_is_not_there_is_found() -> None:
    assert wrong_money(money("applied"), None)
    assert not wrong_money(money(), None)


def test_money_of_another_amount_order_or_state_is_found() -> None:
    assert wrong_money(money("applied"), payment("refund_due"))
    assert wrong_money(money("applied"), payment("applied", amount_minor=1))
    assert wrong_money(money("applied"), payment("applied", order_id="ord_2"))
    assert wrong_money(money(is_right=False), payment("applied"))
    assert not wrong_money(money("waiting", "applied"), payment("refunded"))


def test_the_time_to_sell_again_counts_only_what_was_asked_after_the_fault(tmp_path: Any) -> None:
    with (tmp_path / "journal").open("w") as file:
        journal = Journal(file)
        journal.ask(ask(attempt("reserved", ORDER, sent_ms=1000)))
        later = Ask(sale="s", viewer="bob", key="k", sku="tin", quantity=1, price_minor=1)
        later.attempts = [attempt(None, sent_ms=3000), attempt("reserved", "ord_2", sent_ms=4000)]
        journal.ask(later)
        assert journal.first_reserved_ms(500) == 1005
        assert journal.first_reserved_ms(2000) == 4005
        assert journal.first_confirmed_ms(2000) is None
        journal.told["ord_2"] = [Told("ord_2", "confirmed", 4100, "a frame")]
        assert journal.first_confirmed_ms(2000) == 4100


@pytest.mark.parametrize(
    ("told", "found", "zero"),
    [
        ("confirmed", "refused", Zero.LOST),
        ("paid", None, Zero.LOST),
        ("paid", "expired", Zero.MONEY),
        ("refunded", "paid", Zero.MONEY),
        ("expired", "confirmed", Zero.ANSWERS),
        ("refused", "confirmed", Zero.ANSWERS),
    ],
)
def test_a_state_that_was_told_and_is_not_so_counts_by_what_it_costs(told: str, found: str | None, zero: Zero) -> None:
    assert told_but_is(told, found) is zero


def test_each_wrong_word_counts_with_its_name() -> None:
    (lost,) = judged(told("confirmed"), status="refused", reason="stock", may_lose=True).wrong
    (double,) = wrong_of_ask(ask(attempt("reserved", ORDER), attempt("reserved", "ord_2")), row(), row("ord_2"))
    (drift,) = wrong_money(money("applied"), None)
    assert count_zeros([lost, double, drift, drift]) == {
        **{str(zero): 0 for zero in Zero},
        "confirmed lost": 1,
        "double": 1,
        "money drift": 2,
    }


def test_every_rule_of_the_audit_is_of_one_of_the_five_zeros() -> None:
    assert {audited(rule) for rule in Rule} == set(FIVE)
