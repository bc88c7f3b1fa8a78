"""The figures of a show, each with its one definition; what a host is shown while it runs, and the report of it.

Orders and money are the ledger's, read at one cursor: exact. What is counted of an audience says how far it may be off.
"""

from typing import Any, Final, NamedTuple

from msgspec import Struct

WATCHED_SHARE: Final = 0.8
"""Of the show a viewer has to be there to have watched it to the end. A message that comes in or a lift takes a viewer
out of the room for a while without their having left the show; a fifth of it is more than that takes."""
BUCKETS_MAX: Final = 500
"""Of a timeline: what a screen can show."""


class Definition(NamedTuple):
    name: str
    formula: str
    source: str
    """Where the numbers come from."""
    error: str
    """How far it may be off; empty: not at all."""


_ROOM_SALES: Final = "orders of the room's sales"
_EXACT: Final = ""
_VISITS: Final = "visits"
_WATCH: Final = "watch time"

DEFINITIONS: Final[tuple[Definition, ...]] = (
    Definition("bookings", "viewers who booked the show and did not cancel", "bookings", _EXACT),
    Definition("visits", "sockets of viewers that were welcomed", "room_viewers", _VISITS),
    Definition("viewers", "different viewers with a visit", "room_viewers", _VISITS),
    Definition("viewers_now", "open sockets in all processes, staff included", "rooms Valkey", "2 s"),
    Definition("viewers_peak", "the most of them at once", "room_samples", "half a second, gaps"),
    Definition("watch_avg_s", "watch time / `viewers`; several sockets of a viewer watch once", "room_viewers", _WATCH),
    Definition(
        "watched_to_end_share",
        f"viewers there for {WATCHED_SHARE:.0%} of the time from the start to the end (or now) / `viewers`",
        "room_viewers",
        _WATCH,
    ),
    Definition("comments", "comments posted, those taken back and of staff included", "comments", "half a second"),
    Definition("commenters", "different people who posted one", "comments", "half a second"),
    Definition("likes", "taps counted", "room_chat", "a second"),
    Definition(
        "shop_entries", "times the product bag was opened; again within a second: once", "room_viewers", _VISITS
    ),
    Definition("shop_viewers", "different viewers who opened it", "room_viewers", _VISITS),
    Definition("orders_placed", f"{_ROOM_SALES} in the ledger, whatever became of them", "orders", _EXACT),
    Definition("orders_confirmed", "of `orders_placed`: not refused", "orders", _EXACT),
    Definition("orders_paid", "of `orders_placed`: paid, and not refunded or to be refunded", "orders", _EXACT),
    Definition("orders_expired", "of `orders_placed`: not paid in time", "orders", _EXACT),
    Definition("gmv_placed_minor", "amounts of `orders_placed` in `currency`", "orders", _EXACT),
    Definition("gmv_paid_minor", "amounts of `orders_paid` in `currency`", "orders", _EXACT),
    Definition("order_value_avg_minor", "`gmv_paid_minor` / `orders_paid` in `currency`, rounded", "orders", _EXACT),
    Definition("payment_rate", "`orders_paid` / `orders_placed`", "orders", _EXACT),
    Definition(
        "order_time_avg_s",
        "over viewers with an order: from their first `enter`, or else their first visit, to their first order",
        "room_viewers, orders",
        "viewers not seen in the room left out",
    ),
    Definition("orders_per_s_peak", "the most of `orders_placed` decided in one second", "orders", _EXACT),
    Definition("new_customer_share", "of `orders_confirmed`: first of their viewer in the shop", "customers", _EXACT),
    Definition("coupons_claimed", "claims of the room's coupons that were not refused", "claims", _EXACT),
    Definition("coupons_redeemed", "of `coupons_claimed`: an order has it", "claims", _EXACT),
    Definition("pickup_share", "pickups redeemed / pickups of paid orders", "pickups", _EXACT),
    Definition("orders_per_entry", "A: `orders_placed` / `shop_entries`", "both", _VISITS),
    Definition(
        "ordering_viewers_per_shop_viewer", "B: different viewers with an order / `shop_viewers`", "both", _VISITS
    ),
    Definition("orders_per_visit", "C: `orders_placed` / `visits`", "both", _VISITS),
)


class Figures(Struct, kw_only=True, omit_defaults=True):
    """As the contract names them, in its order. What cannot be said (nobody came, it is not decided yet) is left out;
    a share is 0.25 for a quarter."""

    bookings: int
    visits: int
    viewers: int
    viewers_now: int | None = None
    viewers_peak: int | None = None
    watch_avg_s: float | None = None
    watched_to_end_share: float | None = None
    comments: int
    commenters: int
    likes: int
    shop_entries: int
    shop_viewers: int
    orders_placed: int
    orders_confirmed: int
    orders_paid: int
    orders_expired: int
    gmv_placed_minor: int
    gmv_paid_minor: int
    order_value_avg_minor: int | None = None
    payment_rate: float | None = None
    order_time_avg_s: float | None = None
    orders_per_s_peak: int
    new_customer_share: float | None = None
    coupons_claimed: int
    coupons_redeemed: int
    pickup_share: float | None = None
    orders_per_entry: float | None = None
    ordering_viewers_per_shop_viewer: float | None = None
    orders_per_visit: float | None = None


class MoneyFigures(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Orders of the room's sales in one currency; nothing is added across currencies."""

    currency: str
    orders_placed: int
    orders_paid: int
    gmv_placed_minor: int
    gmv_paid_minor: int
    order_value_avg_minor: int | None = None


class AudienceError(Struct, kw_only=True, frozen=True):
    """How far audience figures may be off, on top of a few seconds until they are counted."""

    visits_lag_s: int
    """Visits and entries of so many seconds are still to be told."""
    watch_lag_s: int
    """The same of the watch time of those who sit."""
    cut_sockets: int
    """Sockets of processes that ended without a word: each may lack so many seconds of watch time, and visits and
    entries of the last seconds there are not counted."""
    missed_visits: int
    """Visits that found no place to be counted in."""


class Cursor(Struct, kw_only=True, frozen=True):
    """Up to where the ledger had applied the stream of the shop's shard."""

    shard: int
    epoch: int
    seq: int


class FiguresReading(Struct, kw_only=True, frozen=True):
    """All of one moment of the ledger; but `viewers_now`."""

    at_ms: int
    cursor: Cursor
    started_at_ms: int | None
    ended_at_ms: int | None
    currency: str | None
    """Of the figures' money: the one with most orders, before the first order that of the oldest sale."""
    figures: Figures
    money: tuple[MoneyFigures, ...]
    """Of each currency, that of the figures first."""
    ordering_viewers: int
    error: AudienceError

    @property
    def is_final(self) -> bool:
        """The show is over. Payments, refunds and pickups may still come."""
        return self.ended_at_ms is not None


class Bucket(Struct, kw_only=True, frozen=True):
    """A part of the timeline; the rates are means over it."""

    at_ms: int
    viewers: int | None
    """The most at once; None where nobody looked."""
    comments_per_s: float
    orders_per_s: float


class Mark(Struct, kw_only=True, frozen=True, omit_defaults=True):
    """Something that was done in the show, or happened by the clock."""

    at_ms: int
    kind: str
    """`start`, `end`, `announce`, `pin`, `drop`, `price`, `open`, `pause`, `resume`, `close`, `stock`."""
    label: str = ""
    """What it was done to, or what was said."""


class SkuLine(Struct, kw_only=True, frozen=True, omit_defaults=True):
    sale: str
    sku: str
    title: str
    currency: str
    stock: int
    orders_placed: int
    units_placed: int
    orders_paid: int
    units_paid: int
    orders_expired: int
    gmv_placed_minor: int
    gmv_paid_minor: int
    discount_paid_minor: int


class CouponLine(Struct, kw_only=True, frozen=True, omit_defaults=True):
    coupon: str
    title: str
    kind: str
    currency: str
    copies: int
    claimed: int
    redeemed: int
    discount_minor: int
    """Of the orders that have a claim of it now."""


class SourceLine(Struct, kw_only=True, frozen=True, omit_defaults=True):
    source: str
    """Of the link by which orders came; empty: by none."""
    currency: str
    orders_placed: int
    orders_paid: int
    gmv_placed_minor: int
    gmv_paid_minor: int


class Report(Struct, kw_only=True, frozen=True):
    """A show, after it and during it."""

    room: str
    title: str
    reading: FiguresReading
    bucket_ms: int
    timeline: tuple[Bucket, ...]
    """From the start to the end, or now; empty before the start."""
    orders_outside: int
    """Of the orders placed: before the start or after the end."""
    marks: tuple[Mark, ...]
    marks_are_more: bool
    """Whether there were more than are here; these are the first."""
    skus: tuple[SkuLine, ...]
    coupons: tuple[CouponLine, ...]
    sources: tuple[SourceLine, ...]


def ratio(of: float | None, by: float | None, *, digits: int = 4) -> float | None:
    """None where there is nothing to divide by."""
    return round(of / by, digits) if of is not None and by else None


def bucket_ms(length_ms: int) -> int:
    """The shortest round interval of which no more than `BUCKETS_MAX` make up the time."""
    for seconds in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800):
        if length_ms <= seconds * 1000 * BUCKETS_MAX:
            return seconds * 1000
    hour_ms = 3_600_000
    return -(-length_ms // (BUCKETS_MAX * hour_ms)) * hour_ms


def funnel(reading: FiguresReading) -> list[tuple[str, Any]]:
    """Persons first, then orders: from being told of the show to having paid."""
    figures = reading.figures
    return [
        ("bookings", figures.bookings),
        ("viewers", figures.viewers),
        ("shop_viewers", figures.shop_viewers),
        ("ordering_viewers", reading.ordering_viewers),
        ("orders_placed", figures.orders_placed),
        ("orders_confirmed", figures.orders_confirmed),
        ("orders_paid", figures.orders_paid),
    ]
