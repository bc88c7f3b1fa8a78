"""The third show as planned: its figures come out at full scale, and go with the scale and the speed."""

import random
from statistics import mean

import pytest

from gateway.client.coupons import Coupon
from gateway.client.http import Order
from loadtests.show_check import Found, judge
from loadtests.show_journal import Journal, PlayedOrder
from loadtests.show_plan import FILLED_AT, OPENS_AT, Show


def planned(*, scale: float = 1.0, speed: float = 1.0) -> Show:
    return Show.of(scale=scale, speed=speed, dice=random.Random(7))


def there(show: Show, at_s: float) -> int:
    return sum(
        visit.at_s <= at_s and (visit.until_s is None or at_s < visit.until_s)
        for person in show.people
        for visit in person.visits
    )


def test_the_figures_are_the_published_ones() -> None:
    show = planned()
    assert (len(show.people), show.units, show.comments, show.pay_within_s) == (4_212, 10_000, 1_553, 300)
    assert mean(person.stays for person in show.people) == pytest.approx(0.28, abs=0.001)
    delays = [show.pays_after_s(random.Random(at)) for at in range(20_000)]
    paid = [delay for delay in delays if delay is not None]
    assert len(paid) / len(delays) == pytest.approx(0.88, abs=0.01)
    assert max(paid) < 300 and 80 < mean(paid) <= 125


@pytest.mark.parametrize("speed", [1.0, 40.0])
def test_the_room_is_full_when_the_sale_opens_and_nobody_stays_too_long(speed: float) -> None:
    show = planned(speed=speed)
    assert there(show, 0) < 300 and there(show, show.show_s * FILLED_AT) > 1_000
    assert there(show, show.show_s * OPENS_AT) == pytest.approx(1_363, rel=0.1)
    ends = [visit.until_s for person in show.people for visit in person.visits if visit.until_s is not None]
    assert max(ends) < 1.1 * show.show_s
    for person in show.people:
        for before, after in zip(person.visits, person.visits[1:], strict=False):
            assert before.until_s is not None and before.until_s < after.at_s


def test_a_scale_takes_of_everything_as_much() -> None:
    show = planned(scale=0.02, speed=360)
    assert (len(show.people), show.units, show.comments, show.copies) == (84, 200, 31, 8)
    assert (show.show_s, show.pay_within_s) == (10.0, 5)
    with pytest.raises(ValueError):
        planned(scale=0)


# The check: a small show of one order, and everything that may be wrong with it.

FIGURES = {
    "bookings": 1,
    "orders_placed": 1,
    "orders_confirmed": 1,
    "orders_paid": 1,
    "orders_expired": 0,
    "gmv_placed_minor": 1_400,
    "gmv_paid_minor": 1_400,
    "order_value_avg_minor": 1_400,
    "payment_rate": 1.0,
    "new_customer_share": 1.0,
    "pickup_share": 1.0,
    "coupons_claimed": 1,
    "coupons_redeemed": 1,
    "visits": 1,
    "viewers": 1,
    "viewers_peak": 1,
    "watched_to_end_share": 1.0,
    "shop_entries": 1,
    "shop_viewers": 1,
    "comments": 0,
    "commenters": 0,
    "likes": 3,
    "orders_per_entry": 1.0,
    "ordering_viewers_per_shop_viewer": 1.0,
    "orders_per_visit": 1.0,
}


def small() -> tuple[Show, Journal, Found]:
    show = Show(people=(), show_s=10, units=1, copies=1, comments=0, pay_within_s=5, order_time_s=1)
    played = PlayedOrder(
        order="o1", number=1, sub="ann", quantity=1, amount_minor=1_400, claim="c1", wants_pickup=True, pays=True
    )
    played.told = "paid"
    journal = Journal(orders={"o1": played}, claims={"c1": "ann"}, booked={"ann"}, paid_minor=1_400, likes=3)
    journal.claim_answers["claimed"] = 1
    journal.heard = [("m1", "booking.due", {"sub": "ann"}), ("m2", "order.paid", {"order": "o1"})]
    journal.collected, journal.came, journal.visits, journal.length_s = {"o1"}, {"ann"}, 1, 10.0
    journal.entries["ann"], journal.watched_s["ann"], journal.at_once = 1, 10.0, [(0.0, 1), (9.0, 0)]
    order = Order(order="o1", sub="ann", quantity=1, amount_minor=1_400, coupon_claim="c1", status="paid")
    coupon = Coupon(
        coupon="k",
        title="",
        kind="amount",
        state="open",
        currency="CNY",
        copies=1,
        limit_per_viewer=1,
        claim_until="",
        valid_until="",
        claimed=1,
        redeemed=1,
        left=0,
    )
    report = {"figures": dict(FIGURES), "error": {"cut_sockets": 0, "missed_visits": 0}}
    return show, journal, Found(orders=[order], coupon=coupon, left=0, report=report)


def broken(show: Show, journal: Journal, found: Found) -> list[str]:
    return [check["check"].split()[0] for check in judge(show, journal, found).checks if not check["holds"]]


def test_a_show_that_is_as_it_was_played_holds() -> None:
    assert broken(*small()) == []


@pytest.mark.parametrize("figure", FIGURES)
def test_a_figure_that_was_not_played_is_found(figure: str) -> None:
    show, journal, found = small()
    found.report["figures"][figure] += 1
    assert broken(show, journal, found) != []


def test_what_was_told_and_is_not_so_is_found() -> None:
    for wrong in (
        lambda journal, found: journal.heard.append(("m3", "booking.due", {"sub": "ann"})),
        lambda journal, found: journal.heard.append(("m3", "booking.due", {"sub": "ben"})),
        lambda journal, found: journal.heard.pop(0),
        lambda journal, found: journal.heard.pop(1),
        lambda journal, found: journal.wrong.append("no answer"),
        lambda journal, found: journal.claims.update(c2="ann"),
        lambda journal, found: setattr(found.orders[0], "status", "expired"),
        lambda journal, found: setattr(found.orders[0], "amount_minor", 1_900),
        lambda journal, found: setattr(found.orders[0], "sub", "ben"),
        lambda journal, found: setattr(found.coupon, "claimed", 2),
        lambda journal, found: setattr(found.coupon, "left", 1),
        lambda journal, found: setattr(journal, "paid_minor", 1_500),
        lambda journal, found: journal.orders.clear(),
    ):
        show, journal, found = small()
        wrong(journal, found)
        assert broken(show, journal, found) != []


def test_the_most_at_once_are_those_who_were_there_together_for_so_long() -> None:
    journal = Journal(at_once=[(0.0, 0), (1.0, 2), (1.5, 5), (1.6, 3), (9.0, 4), (12.0, 0)])
    assert (journal.most_at_once(), journal.most_at_once(1.0), journal.most_at_once(20.0)) == (5, 4, 0)
