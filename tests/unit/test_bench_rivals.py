"""The guarded rival decides as exactly as the product it is compared with."""

from datetime import UTC, datetime, timedelta

from loadtests.bench.queue_unnest import Offer, Waiting, _decide
from loadtests.bench.rivals import Order, Reply

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Socket:
    def __init__(self, name: str) -> None:
        self.name = name

    def answer(self, reply: Reply) -> None: ...


def offer_of(*, left: int = 10, limit: int = 2, state: str = "open", opens_in_s: int = -60) -> Offer:
    row = {
        "state": state,
        "opens_at": NOW + timedelta(seconds=opens_in_s),
        "closes_at": NOW + timedelta(hours=1),
        "now": NOW,
        "pay_within_s": 300,
        "price_minor": 500,
        "limit_per_viewer": limit,
        "units_left": left,
    }
    return Offer(row)


def outcomes(batch: list[Waiting], offer: Offer, facts: list[tuple[object, object, int]] | None = None) -> list[str]:
    known = facts or [(None, None, 0)] * len(batch)
    replies, *_ = _decide(batch, list(range(1, len(batch) + 1)), {("s", "k"): offer}, known)
    return [reply.outcome for reply in replies]


def order_of(viewer: str, key: str, quantity: int = 1, amount_minor: int | None = None) -> Waiting:
    return Waiting(Order(key, "s", "k", quantity, amount_minor), Socket(viewer))


def test_orders_of_one_batch_share_the_last_units() -> None:
    batch = [order_of(f"v{number}", "a") for number in range(5)]
    assert outcomes(batch, offer_of(left=3)) == ["confirmed"] * 3 + ["sold_out"] * 2


def test_orders_of_one_batch_share_the_limit_of_their_viewer() -> None:
    batch = [order_of("v", key) for key in "abc"]
    assert outcomes(batch, offer_of(limit=2)) == ["confirmed", "confirmed", "limit_reached"]


def test_units_held_before_the_batch_count_against_the_limit() -> None:
    assert outcomes([order_of("v", "a")], offer_of(limit=2), [(None, None, 2)]) == ["limit_reached"]


def test_a_repeated_key_gets_the_first_answer_even_when_nothing_is_left() -> None:
    batch = [order_of("v", "a"), order_of("v", "a")]
    assert outcomes(batch, offer_of(left=1)) == ["confirmed", "confirmed"]
    assert outcomes([order_of("v", "a")], offer_of(left=0), [(7, NOW, 1)]) == ["confirmed"]


def test_state_window_and_price_are_asked_before_limit_and_stock() -> None:
    one = [order_of("v", "a", amount_minor=400)]
    assert outcomes(one, offer_of(state="paused", left=0)) == ["paused"]
    assert outcomes(one, offer_of(state="closed", left=0)) == ["ended"]
    assert outcomes(one, offer_of(opens_in_s=60, left=0)) == ["not_started"]
    assert outcomes(one, offer_of(left=0)) == ["price_changed"]
