"""What was played in a show, held against the ledger, the counters and the report: to the unit and to the cent."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.client.coupons import Coupon
from gateway.client.http import Order
from loadtests.show_journal import Journal, PlayedOrder
from loadtests.show_plan import Show

SHOWN_EXAMPLES: Final = 3
# Who is there is looked at twice a second, and told between processes in about as long.
LOOKED_EVERY_S: Final = 1.0
# Somebody who was there for four fifths of it, more or less so much of it, may be counted either way.
WATCHED_SHARE: Final = 0.8
WATCHED_SLACK: Final = 0.02


@dataclass(slots=True)
class Verdict:
    checks: list[dict[str, Any]] = field(default_factory=list)

    def check(self, what: str, broken: Sequence[str]) -> None:
        examples = list(broken[:SHOWN_EXAMPLES])
        self.checks.append({"check": what, "holds": not broken, "broken": len(broken), "examples": examples})

    @property
    def holds(self) -> bool:
        return all(check["holds"] for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the gateway says, after everything."""

    orders: Sequence[Order]
    coupon: Coupon
    left: int
    report: Any


def judge(show: Show, journal: Journal, found: Found) -> Verdict:
    verdict = Verdict()
    verdict.check("everybody had a true answer to everything", journal.wrong)
    _bookings(verdict, journal)
    _orders(verdict, show, journal, found)
    _coupons(verdict, show, journal, found)
    figures = found.report["figures"]
    verdict.check("the report's orders, money and shares are the ones played", _differ(_exact(journal, found), figures))
    _audience(verdict, journal, found)
    return verdict


def _bookings(verdict: Verdict, journal: Journal) -> None:
    ids: dict[str, set[str]] = {}
    for msg_id, kind, data in journal.heard:
        if kind == "booking.due":
            ids.setdefault(data["sub"], set()).add(msg_id)
    broken = [f"{sub} was not told" for sub in sorted(journal.booked - ids.keys())]
    broken += [f"{sub} was told and had not booked" for sub in sorted(ids.keys() - journal.booked)]
    broken += [f"{sub} was told {len(seen)} times" for sub, seen in ids.items() if len(seen) > 1]
    verdict.check("every booking was told of once, and no cancelled one", broken)
    paid = Counter(data["order"] for _, kind, data in journal.heard if kind == "order.paid")
    broken = [f"{order.order} was paid" for order in _paid(journal) if order.order not in paid]
    verdict.check("the shop was told of every order that was paid", broken)


def _orders(verdict: Verdict, show: Show, journal: Journal, found: Found) -> None:
    listed = {order.order: order for order in found.orders}
    broken = [f"{order} is not in the ledger" for order in journal.orders.keys() - listed.keys()]
    broken += [f"{order} is nobody's" for order in listed.keys() - journal.orders.keys()]
    for played in journal.orders.values():
        order = listed.get(played.order)
        if order is None:
            continue
        # Money that came when the time was over finds a unit, or goes back.
        status = played.told if played.pays else "expired"
        shown = (order.sub, order.quantity, order.amount_minor, order.coupon_claim, order.status)
        told = (played.sub, played.quantity, played.amount_minor, played.claim, status)
        if shown != told:
            broken.append(f"{played.order} is {shown}, and was played as {told}")
    verdict.check("every order is in the ledger as it was told and played, and no other is", broken)
    units = sum(order.quantity for order in found.orders if order.status == "paid")
    broken = [] if (units, found.left) == (show.units, 0) else [f"{units} are paid for and {found.left} left"]
    verdict.check(f"{show.units:,} units are sold and paid for exactly, each once", broken)
    ledger_minor, due_minor = (
        sum(order.amount_minor for order in found.orders if order.status == status) for status in ("paid", "refund_due")
    )
    broken = (
        []
        if ledger_minor + due_minor == journal.paid_minor
        else [f"{journal.paid_minor} was taken, {ledger_minor} is in the ledger and {due_minor} to be given back"]
    )
    verdict.check("the money in the ledger is the money that was taken", broken)


def _coupons(verdict: Verdict, show: Show, journal: Journal, found: Found) -> None:
    claimed, coupon = len(journal.claims), found.coupon
    wanted = sum(journal.claim_answers.values())
    used = [order for order in _paid(journal) if order.claim is not None]
    expected = {
        "claimed": min(wanted, show.copies),
        "redeemed": len(used),
        "left": show.copies - claimed,
    }
    broken = _differ(expected, {name: getattr(coupon, name) for name in expected})
    broken += [] if claimed == expected["claimed"] else [f"{claimed} were told that they have one"]
    broken += [f"{sub} has {count}" for sub, count in Counter(journal.claims.values()).items() if count > 1]
    broken += [f"{claim} is used {n} times" for claim, n in Counter(order.claim for order in used).items() if n > 1]
    verdict.check("the coupon's copies are given and used exactly", broken)


def _paid(journal: Journal) -> list[PlayedOrder]:
    return [order for order in journal.orders.values() if order.told == "paid"]


def _exact(journal: Journal, found: Found) -> dict[str, Any]:
    """Figures of the ledger, as they were played."""
    placed, paid = list(journal.orders.values()), _paid(journal)
    due = [order for order in placed if order.told == "refund_due"]
    to_collect = [order for order in paid if order.wants_pickup]
    paid_minor = sum(order.amount_minor for order in paid)
    return {
        "bookings": len(journal.booked),
        "orders_placed": len(placed),
        "orders_confirmed": len(placed),
        "orders_paid": len(paid),
        "orders_expired": len(placed) - len(paid) - len(due),
        "gmv_placed_minor": sum(order.amount_minor for order in placed),
        "gmv_paid_minor": paid_minor,
        "order_value_avg_minor": _rounded(paid_minor, len(paid), 0),
        "payment_rate": _rounded(len(paid), len(placed)),
        "new_customer_share": _rounded(len({order.sub for order in placed}), len(placed)),
        "pickup_share": _rounded(len(journal.collected), len(to_collect)),
        "coupons_claimed": len(journal.claims),
        "coupons_redeemed": len([order for order in paid if order.claim is not None]),
    }


def _audience(verdict: Verdict, journal: Journal, found: Found) -> None:
    """Exact, but for what the report itself says it may lack, and for sockets of ours that had to come back."""
    figures, error = found.report["figures"], found.report["error"]
    slack = error["cut_sockets"] + error["missed_visits"] + journal.reconnects
    counted = {
        "visits": journal.visits,
        "viewers": len(journal.came),
        "shop_entries": sum(journal.entries.values()),
        "shop_viewers": len(journal.entries),
        "comments": journal.comments,
        "commenters": len(journal.commenters),
        "likes": journal.likes,
    }
    broken = [
        f"{name} is {figures[name]}, and {played} were played"
        for name, played in counted.items()
        if abs(figures[name] - played) > slack
    ]
    peak, low, high = figures.get("viewers_peak") or 0, journal.most_at_once(LOOKED_EVERY_S), journal.most_at_once()
    if not low - slack <= peak <= high + slack:
        broken.append(f"viewers_peak is {peak}, and {low} to {high} were there at once")
    broken += _shares(journal, figures)
    verdict.check(f"the report's audience is the one played, within {slack} that it may lack", broken)


def _shares(journal: Journal, figures: Any) -> list[str]:
    """What follows from the counts, by the report's own: and who was there for most of it."""
    buyers = {order.sub for order in journal.orders.values()}
    expected = {
        "orders_per_entry": _rounded(figures["orders_placed"], figures["shop_entries"]),
        "ordering_viewers_per_shop_viewer": _rounded(len(buyers), figures["shop_viewers"]),
        "orders_per_visit": _rounded(figures["orders_placed"], figures["visits"]),
    }
    broken = _differ(expected, figures)
    length_s = journal.length_s
    surely, perhaps = (
        sum(watched_s >= (WATCHED_SHARE + slack) * length_s for watched_s in journal.watched_s.values())
        for slack in (WATCHED_SLACK, -WATCHED_SLACK)
    )
    low, high = ((count / max(1, len(journal.came))) for count in (surely, perhaps))
    share = figures.get("watched_to_end_share") or 0
    if not low - 0.001 <= share <= high + 0.001:
        broken.append(f"watched_to_end_share is {share}, and {low:.4f} to {high:.4f} of them did")
    return broken


def _rounded(of: float, by: float, digits: int = 4) -> float | None:
    if not by:
        return None
    return round(of / by, digits) if digits else round(of / by)


def _differ(expected: dict[str, Any], shown: Any) -> list[str]:
    return [
        f"{name} is {shown.get(name)}, and {value} was played"
        for name, value in expected.items()
        if shown.get(name) != value
    ]
