"""What is looked at before a sale opens, and what each line of it says. Pure: facts in, lines out."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

from gateway.domain.coupon import Coupon, CouponKind
from gateway.domain.room import Room, RoomState
from gateway.domain.sale import Item, ItemCounts, Sale, SaleState

MINUTE_MS, DAY_MS = 60_000, 86_400_000
# A show that sells at once when it begins has its room live by then.
ROOM_LIVE_BEFORE_MS: Final = 5 * MINUTE_MS
SHORTEST_MS, LONGEST_MS = MINUTE_MS, 14 * DAY_MS
FAR_AHEAD_MS: Final = 60 * DAY_MS


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Line(Struct, frozen=True):
    """`todo` says what to do, and is empty where nothing is."""

    check: str
    level: Level
    message: str
    todo: str = ""


class Expected(NamedTuple):
    """For how many the machines are looked at."""

    viewers: int
    orders: int


def worst(lines: Iterable[Line]) -> Level:
    order = list(Level)
    return max((line.level for line in lines), key=order.index, default=Level.OK)


def judge_window(sale: Sale, now_ms: int) -> Line:
    state = sale.state_at(now_ms)
    lasts_ms, ahead_ms = sale.closes_at_ms - sale.opens_at_ms, sale.opens_at_ms - now_ms
    if state is SaleState.CLOSED:
        return Line("window", Level.FAIL, "The sale is closed, which is final.", "Make a new sale.")
    if state is SaleState.PAUSED:
        return Line("window", Level.WARN, "The sale is paused.", "Resume it when it is to sell.")
    if not SHORTEST_MS <= lasts_ms <= LONGEST_MS:
        return Line(
            "window",
            Level.WARN,
            f"The sale lasts {duration(lasts_ms)}.",
            "See that opens_at and closes_at are meant so, their time zones too.",
        )
    if ahead_ms > FAR_AHEAD_MS:
        return Line("window", Level.WARN, f"The sale opens in {duration(ahead_ms)}.", "See that the date is meant.")
    opens = "is open" if state is SaleState.OPEN else f"opens in {duration(ahead_ms)}"
    return Line("window", Level.OK, f"The sale {opens} and lasts {duration(lasts_ms)}.")


def judge_stock(
    sale: Sale, hot: Mapping[int, ItemCounts] | None, ledger: Mapping[int, tuple[int, int, int]]
) -> list[Line]:
    """`ledger` is stock, held and sold by item."""
    if hot is None:
        return [
            Line(
                "stock",
                Level.FAIL,
                "The orders Valkey does not have the sale.",
                "See that a keeper runs; its log says what it waits for. `peakgate rebuild` loads all anew.",
            )
        ]
    units, left = sum(counts.stock for counts in hot.values()), sum(counts.left for counts in hot.values())
    others = [item.sku for item in sale.items if hot[item.item_no].stock != ledger[item.item_no][0]]
    lines = [
        Line(
            "stock",
            Level.FAIL,
            f"The stock in Valkey is not the ledger's: {listed(others)}.",
            "Look again in a moment (a change may be on its way); if it stays so, `peakgate rebuild`.",
        )
        if others
        else Line(
            "stock",
            Level.OK,
            f"Valkey has each item with the ledger's stock: {units:,} units, {left:,} left.",
        )
    ]
    empty = [item.sku for item in sale.items if hot[item.item_no].left <= 0]
    if empty:
        lines.append(Line("stock", Level.WARN, f"Nothing is left of {listed(empty)}.", "Add stock where it is meant."))
    return lines


def judge_prices(items: Sequence[Item]) -> list[Line]:
    free = [item.sku for item in items if min(_prices(item)) <= 0]
    under = [item.sku for item in items if item.floor_minor is not None and min(_prices(item)) < item.floor_minor]
    dear = [
        item.sku for item in items if item.list_price_minor is not None and max(_prices(item)) >= item.list_price_minor
    ]
    lines = []
    if free:
        lines.append(Line("prices", Level.FAIL, f"Given away: {listed(free)}.", "Set a price above 0."))
    if under:
        lines.append(
            Line("prices", Level.FAIL, f"Under their floor: {listed(under)}.", "Raise the price or a step of its plan.")
        )
    if dear:
        lines.append(
            Line(
                "prices",
                Level.WARN,
                f"Not under their list price: {listed(dear)}.",
                "A price struck through that is not higher looks like a mistake: set another, or none.",
            )
        )
    planned = sum(bool(item.prices) for item in items)
    told = f", {planned} with a price plan" if planned else ""
    return lines or [Line("prices", Level.OK, f"Above 0, and no floor is undercut{told}.")]


def judge_coupon(coupon: Coupon, sale: Sale, now_ms: int, *, claimed: int, spent_minor: int, in_valkey: bool) -> Line:
    name = f"coupon {coupon.coupon} ({coupon.title})"
    if coupon.currency != sale.currency:
        return Line(
            "coupons",
            Level.FAIL,
            f"{name}: its currency is {coupon.currency}, the sale's {sale.currency}.",
            "Make one in the sale's currency.",
        )
    if coupon.valid_until_ms <= max(now_ms, sale.opens_at_ms) or coupon.retired:
        return Line(
            "coupons",
            Level.FAIL,
            f"{name}: it is of no use while the sale sells.",
            "Make one that is valid for longer.",
        )
    if not in_valkey:
        return Line(
            "coupons",
            Level.FAIL,
            f"{name}: Valkey does not have it.",
            "See that a keeper runs; its log says why it waits.",
        )
    if claimed >= coupon.copies:
        return Line("coupons", Level.WARN, f"{name}: all {coupon.copies:,} copies are claimed.", "Make another one.")
    if coupon.claim_until_ms <= now_ms:
        return Line("coupons", Level.WARN, f"{name}: its claim is over.", "Drop it again, or make another one.")
    if coupon.valid_until_ms < sale.closes_at_ms:
        return Line(
            "coupons",
            Level.WARN,
            f"{name}: it ends {duration(sale.closes_at_ms - coupon.valid_until_ms)} before the sale.",
            "See that this is meant.",
        )
    opens = "opens by a drop" if coupon.claim_from_ms is None else "has its window"
    budget = (
        f", {coupon.budget_minor - spent_minor:,} of {coupon.budget_minor:,} {coupon.currency} minor units left"
        if coupon.kind is CouponKind.RANDOM
        else ""
    )
    return Line("coupons", Level.OK, f"{name}: {coupon.copies - claimed:,} copies left, its claim {opens}{budget}.")


def judge_room(room: Room | None, sale: Sale, now_ms: int) -> Line:
    if room is None:
        return Line("room", Level.OK, "The sale is of no room; nobody is told of it on a socket.")
    if room.state is RoomState.ENDED:
        return Line("room", Level.FAIL, "The sale's room has ended.", "Make a new room, and a sale in it.")
    if room.state is RoomState.LIVE:
        return Line("room", Level.OK, f"The room {room.title!r} is live.")
    if sale.opens_at_ms - now_ms < ROOM_LIVE_BEFORE_MS:
        return Line("room", Level.WARN, f"The room {room.title!r} is not live yet.", "Start it before the sale opens.")
    if room.starts_at_ms is not None and room.starts_at_ms > sale.opens_at_ms:
        return Line("room", Level.WARN, "The room starts after the sale opens.", "Move one of them.")
    return Line("room", Level.OK, f"The room {room.title!r} is scheduled.")


def _prices(item: Item) -> list[int]:
    return [item.price_minor, *(step.price_minor for step in item.prices)]


def listed(names: Sequence[str], *, most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def duration(ms: int) -> str:
    seconds = ms // 1000
    for unit, of_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * of_s:
            return f"{seconds // of_s} {unit}"
    return f"{seconds} seconds"
