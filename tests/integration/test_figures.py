"""Every figure against a count of its own over what happened, on a real ledger."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from gateway.domain.figures import FiguresReading, Report
from gateway.ledger.figures import LedgerFigures
from gateway.ledger.pool import Ledger
from gateway.ledger.shops import Shops

START_MS = 1_800_000_000_000
END_MS = START_MS + 600_000
STATUSES = ("confirmed", "paid", "paid", "paid", "expired", "cancelled", "refused", "refund_due", "refunded")
SHOWN = {"show": ["EUR", "CNY"], "other": ["EUR"]}


class Placed(NamedTuple):
    sale_no: int
    currency: str
    item_no: int
    order: str
    viewer: str
    quantity: int
    amount: int
    status: str
    at_ms: int
    source: str


class Show:
    """A shop with two rooms of which each has sales, and much that happened in both."""

    def __init__(self, ledger: Ledger, seed: int) -> None:
        self.ledger = ledger
        self.random = random.Random(seed)
        self.figures = LedgerFigures(ledger)
        self.rooms: dict[str, int] = {}
        self.placed: dict[str, list[Placed]] = {"show": [], "other": []}
        self.viewers: dict[str, dict[str, Any]] = {}

    async def make(self) -> None:
        fetchval = self.ledger.fetchval
        shop_no = await fetchval("SELECT shop_no FROM shops")
        for name, currencies in SHOWN.items():
            self.rooms[name] = room_no = await fetchval(
                "INSERT INTO rooms (room, shop_no, title, created_at_ms, state, started_at_ms, ended_at_ms)"
                " VALUES ($1, $2, $1, $3, 'ended', $3, $4) RETURNING room_no",
                f"room_{name}",
                shop_no,
                START_MS,
                END_MS,
            )
            for source in ("mail", "group"):
                await self.ledger.execute(
                    "INSERT INTO links (ref, room_no, source, made_by) VALUES ($1, $2, $3, 'host')",
                    f"ref_{name}_{source}",
                    room_no,
                    source,
                )
            for currency in currencies:
                sale_no = await fetchval(
                    "INSERT INTO sales (sale, shop_no, room_no, title, currency, opens_at_ms, closes_at_ms,"
                    " pay_within_s, created_at_ms) VALUES ($1, $2, $3, $1, $4, $5, $6, 300, $5) RETURNING sale_no",
                    f"sale_{name}_{currency}",
                    shop_no,
                    room_no,
                    currency,
                    START_MS,
                    END_MS,
                )
                for item_no in (1, 2):
                    await self.ledger.execute(
                        "INSERT INTO sale_items (sale_no, item_no, sku, title, price_minor, stock, limit_per_viewer)"
                        " VALUES ($1, $2, $3, 'T', 700, 9999, 99)",
                        sale_no,
                        item_no,
                        f"sku-{item_no}",
                    )
                count = 130 if currency == "EUR" else 60
                await self.sell(name, sale_no, currency, count)

    async def sell(self, room: str, sale_no: int, currency: str, count: int) -> None:
        chance = self.random
        for at in range(count):
            quantity, status = chance.randint(1, 3), chance.choice(STATUSES)
            source = chance.choice(["", "", "mail", "group"])
            # A burst, and some beside the show.
            at_ms = chance.choice(
                [START_MS + 30_000 + chance.randint(0, 4_000), START_MS + chance.randint(-5_000, 700_000)]
            )
            placed = Placed(
                sale_no,
                currency,
                chance.choice([1, 2]),
                f"ord_{sale_no:04d}_{at:06d}",
                f"viewer-{chance.randint(1, 70)}",
                quantity,
                700 * quantity,
                status,
                at_ms,
                source,
            )
            self.placed[room].append(placed)
            ok = status != "refused"
            await self.ledger.execute(
                "INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor,"
                " status, reason, epoch, seq, created_at_ms, confirmed_at, pay_by, fingerprint, extra)"
                " VALUES ($1, $2, $3, $4, $5, $6, 700, $7, $8, $9, 1, $10, $11,"
                " CASE WHEN $12 THEN now() END, CASE WHEN $12 THEN now() + interval '1 hour' END, 'f', $13)",
                sale_no,
                placed.order,
                placed.viewer,
                placed.order if ok else None,
                placed.item_no,
                quantity,
                placed.amount,
                status,
                None if ok else "stock",
                sale_no * 10_000 + at,
                at_ms,
                ok,
                f'{{"ref":"ref_{room}_{source}"}}' if source else None,
            )

    async def watch(self) -> None:
        """Most of those who order were seen, and others beside them; some before they order, some after."""
        chance = self.random
        for at in range(1, 100):
            if at % 9 == 0:
                continue
            visits, entries = chance.randint(1, 4), chance.choice([0, 0, 1, 3])
            first_ms = START_MS + chance.randint(-20_000, 60_000)
            show_ms = chance.choice([100_000, 479_999, 480_000, 600_000])
            row = {
                "visits": visits,
                "first_ms": first_ms,
                "watch_ms": show_ms + chance.randint(0, 50_000),
                "show_ms": show_ms,
                "shop_entries": entries,
                "first_entry_ms": first_ms + chance.randint(0, 30_000) if entries else None,
            }
            self.viewers[f"viewer-{at}"] = row
            for room in self.rooms.values():
                await self.ledger.execute(
                    "INSERT INTO room_viewers (room_no, viewer, visits, first_ms, last_ms, watch_ms, show_ms,"
                    " shop_entries, first_entry_ms) VALUES ($1, $2, $3, $4, $4, $5, $6, $7, $8)",
                    room,
                    f"viewer-{at}",
                    *row.values(),
                )

    async def talk(self, count: int) -> None:
        for at in range(count):
            await self.ledger.execute(
                "INSERT INTO comments (room_no, epoch, n, at_ms, viewer, sub, name, text)"
                " VALUES ($1, 1, $2, $3, $4, $4, '', 't')",
                self.rooms["show"],
                at + 1,
                START_MS + at * 1_000,
                f"viewer-{at % 7}",
            )

    async def read(self, room: str = "show") -> FiguresReading:
        reading = await self.figures.read(self.rooms[room])
        assert reading is not None
        return reading

    async def report(self, room: str = "show") -> Report:
        report = await self.figures.report(self.rooms[room])
        assert report is not None
        return report


@asynccontextmanager
async def show_on(database_url: str, seed: int) -> AsyncIterator[Show]:
    async with Shops.connect(database_url) as shops:
        await shops.create("tins")
    ledger = await Ledger.connect(database_url, size=2)
    try:
        show = Show(ledger, seed)
        await show.make()
        yield show
    finally:
        await ledger.close()


@pytest.fixture
async def show(database_url: str) -> AsyncIterator[Show]:
    async with show_on(database_url, seed=7) as show:
        yield show


def of(orders: Sequence[Placed], status: str) -> list[Placed]:
    return [order for order in orders if order.status == status]


async def test_orders_and_money_are_what_a_count_of_every_order_says(show: Show) -> None:
    for room in ("show", "other"):
        reading, orders = await show.read(room), show.placed[room]
        figures = reading.figures
        assert figures.orders_placed == len(orders)
        assert figures.orders_confirmed == len(orders) - len(of(orders, "refused"))
        assert figures.orders_paid == len(of(orders, "paid"))
        assert figures.orders_expired == len(of(orders, "expired"))
        assert figures.payment_rate == round(len(of(orders, "paid")) / len(orders), 4)
        assert figures.orders_per_s_peak == max(Counter(order.at_ms // 1000 for order in orders).values())
        assert reading.ordering_viewers == len({order.viewer for order in orders})
        assert reading.currency == "EUR"
        assert [each.currency for each in reading.money] == SHOWN[room]
        for money in reading.money:
            mine = [order for order in orders if order.currency == money.currency]
            paid = of(mine, "paid")
            assert (money.orders_placed, money.orders_paid) == (len(mine), len(paid))
            assert money.gmv_placed_minor == sum(order.amount for order in mine)
            assert money.gmv_paid_minor == sum(order.amount for order in paid)
            assert money.order_value_avg_minor == int(sum(order.amount for order in paid) / len(paid) + 0.5)
        first = reading.money[0]
        assert (figures.gmv_placed_minor, figures.gmv_paid_minor) == (first.gmv_placed_minor, first.gmv_paid_minor)
        assert figures.order_value_avg_minor == first.order_value_avg_minor


async def test_the_audience_is_what_was_counted_and_the_three_conversions_are_kept_apart(show: Show) -> None:
    await show.watch()
    await show.talk(45)
    figures, viewers = (await show.read()).figures, show.viewers.values()
    orders = show.placed["show"]
    entries = sum(row["shop_entries"] for row in viewers)
    shop_viewers = sum(row["shop_entries"] > 0 for row in viewers)
    visits = sum(row["visits"] for row in viewers)
    assert (figures.viewers, figures.visits) == (len(viewers), visits)
    assert (figures.shop_entries, figures.shop_viewers) == (entries, shop_viewers)
    assert figures.watch_avg_s == round(sum(row["watch_ms"] for row in viewers) / 1000 / len(viewers), 1)
    whole = sum(row["show_ms"] >= 480_000 for row in viewers)
    assert figures.watched_to_end_share == round(whole / len(viewers), 4)
    assert (figures.comments, figures.commenters) == (45, 7)
    assert figures.orders_per_entry == round(len(orders) / entries, 4)
    assert figures.ordering_viewers_per_shop_viewer == round(len({order.viewer for order in orders}) / shop_viewers, 4)
    assert figures.orders_per_visit == round(len(orders) / visits, 4)


async def test_the_order_time_runs_from_the_first_entry_or_visit_to_a_viewers_first_order(show: Show) -> None:
    await show.watch()
    firsts: dict[str, int] = {}
    for order in show.placed["show"]:
        firsts[order.viewer] = min(order.at_ms, firsts.get(order.viewer, order.at_ms))
    times = []
    for viewer, at_ms in firsts.items():
        seen = show.viewers.get(viewer)
        if seen is None or seen["first_ms"] > at_ms:
            continue
        entered = seen["first_entry_ms"]
        times.append(at_ms - (entered if entered is not None and entered <= at_ms else seen["first_ms"]))
    assert len(times) < len(firsts)
    assert (await show.read()).figures.order_time_avg_s == round(sum(times) / len(times) / 1000, 1)


async def test_the_cursor_says_up_to_where_the_ledger_was(show: Show) -> None:
    await show.ledger.execute("UPDATE shards SET last_seq = 4711 WHERE shard = 0")
    cursor = (await show.read()).cursor
    assert (cursor.shard, cursor.epoch, cursor.seq) == (0, 1, 4711)


class Meddled(LedgerFigures):
    """Somebody takes orders away behind the first question of each reading."""

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Any]:
        async with super()._snapshot() as connection:
            yield Meddling(connection, self._ledger)


class Meddling:
    def __init__(self, connection: Any, ledger: Ledger) -> None:
        self._connection = connection
        self._ledger = ledger

    async def fetchrow(self, *question: Any, **how: Any) -> Any:
        row = await self._connection.fetchrow(*question, **how)
        await self._ledger.execute("DELETE FROM orders WHERE status <> 'paid'")
        return row

    async def fetch(self, *question: Any, **how: Any) -> Any:
        return await self._connection.fetch(*question, **how)


async def test_all_of_a_reading_is_of_one_moment(show: Show) -> None:
    before = await show.read()
    meddled = await Meddled(show.ledger).read(show.rooms["show"])
    assert meddled is not None and meddled.figures == before.figures
    figures = (await show.read()).figures
    assert figures.orders_placed == figures.orders_paid < before.figures.orders_placed


async def test_first_orders_are_told_once_they_are_decided(show: Show) -> None:
    await show.ledger.execute(
        "INSERT INTO order_news (shard, sale_no, status, orders, first_id, last_id, epoch, first_seq, last_seq)"
        " SELECT 0, sale_no, 'confirmed', count(*), min(order_id), max(order_id), 1, 1, max(seq) FROM orders"
        " GROUP BY sale_no"
    )
    assert (await show.read()).figures.new_customer_share is None
    news_no = await show.ledger.fetchval("SELECT max(no) FROM order_news")
    firsts = await show.ledger.fetchval("SELECT decide_first_orders(0::smallint, 0::bigint, $1::bigint)", news_no)
    await show.ledger.execute("INSERT INTO news_cursors VALUES (0, $1)", news_no)
    orders = [order for orders in show.placed.values() for order in orders if order.status != "refused"]
    by_viewer: dict[str, Placed] = {}
    for order in sorted(orders, key=lambda order: order.order):
        by_viewer.setdefault(order.viewer, order)
    mine = {order.order for order in show.placed["show"]}
    confirmed = [order for order in show.placed["show"] if order.status != "refused"]
    of_show = sum(order.order in mine for order in by_viewer.values())
    assert firsts == len(by_viewer)
    assert (await show.read()).figures.new_customer_share == round(of_show / len(confirmed), 4)


async def test_a_room_without_anything_has_figures_too(show: Show) -> None:
    room_no = await show.ledger.fetchval(
        "INSERT INTO rooms (room, shop_no, title, created_at_ms) SELECT 'room_new', shop_no, 'New', 1 FROM shops"
        " RETURNING room_no"
    )
    report = await show.figures.report(room_no)
    assert report is not None
    figures = report.reading.figures
    assert (figures.orders_placed, figures.gmv_paid_minor, figures.viewers, report.timeline) == (0, 0, 0, ())
    assert (report.reading.currency, figures.payment_rate, figures.orders_per_entry) == (None, None, None)
    assert not report.reading.is_final
    assert await show.figures.read(room_no + 1) is None


async def test_the_error_of_the_audience_counts_what_killed_processes_left(show: Show) -> None:
    room_no = show.rooms["show"]
    for process, age_s, open_, missed in (("alive", 1, 10, 2), ("killed", 60, 7, 0), ("ended", 60, 0, 3)):
        await show.ledger.execute(
            "INSERT INTO attendance_marks VALUES ($1, 1, clock_timestamp() - make_interval(secs => $2))", process, age_s
        )
        await show.ledger.execute(
            "INSERT INTO attendance_open VALUES ($1, $2, $3, $4)", process, room_no, open_, missed
        )
    error = (await show.read()).error
    assert (error.cut_sockets, error.missed_visits, error.visits_lag_s) == (7, 5, 5)


async def test_the_lines_of_a_report_add_up_to_its_figures(show: Show) -> None:
    report, orders = await show.report(), show.placed["show"]
    figures = report.reading.figures
    for lines in (report.skus, report.sources):
        assert sum(line.orders_placed for line in lines) == figures.orders_placed
        assert sum(line.orders_paid for line in lines) == figures.orders_paid
        for currency in SHOWN["show"]:
            mine = [order.amount for order in orders if (order.currency, order.status) == (currency, "paid")]
            assert sum(line.gmv_paid_minor for line in lines if line.currency == currency) == sum(mine)
    assert len(report.skus) == 4
    units = Counter[tuple[str, str]]()
    for order in orders:
        units[order.currency, f"sku-{order.item_no}"] += order.quantity
    assert {(line.currency, line.sku): line.units_placed for line in report.skus} == units
    came_by = Counter(order.source for order in orders)
    told = Counter[str]()
    for line in report.sources:
        told[line.source] += line.orders_placed
    assert told == came_by


async def test_the_timeline_has_every_order_and_comment_of_the_show_and_says_how_many_are_beside_it(show: Show) -> None:
    await show.talk(45)
    report, orders = await show.report(), show.placed["show"]
    assert report.bucket_ms == 2_000 and len(report.timeline) == 300
    inside = [order for order in orders if START_MS <= order.at_ms < END_MS]
    assert 0 < report.orders_outside == len(orders) - len(inside)
    assert sum(round(bucket.orders_per_s * 2) for bucket in report.timeline) == len(inside)
    assert sum(round(bucket.comments_per_s * 2) for bucket in report.timeline) == 45
    busiest = max(report.timeline, key=lambda bucket: bucket.orders_per_s)
    assert START_MS + 30_000 <= busiest.at_ms <= START_MS + 34_000


async def test_the_timeline_shows_who_watched_nobody_and_where_nobody_looked(show: Show) -> None:
    for at_ms, viewers, peak in ((-2_000, 3, 4), (3_000, 9, 11), (8_000, 5, 9), (33_000, 2, 2), (38_000, 0, 2)):
        await show.ledger.execute(
            "INSERT INTO room_samples VALUES ($1, $2, $3, $4)", show.rooms["show"], START_MS + at_ms, viewers, peak
        )
    viewers = [bucket.viewers for bucket in (await show.report()).timeline]
    assert viewers[:7] == [4, 11, 11, 11, 9, 9, 9]
    assert set(viewers[7:16]) == {None}, "nobody looked"
    assert viewers[16:19] == [2, 2, 2]
    assert set(viewers[22:]) == {0}, "all have left, until somebody comes"
    assert (await show.read()).figures.viewers_peak == 11


async def test_marks_are_what_was_done_and_what_the_clock_did(show: Show) -> None:
    execute, room_no = show.ledger.execute, show.rooms["show"]
    for act, at_ms, after in (
        ("start", 0, None),
        ("announce", 5_000, '{"text": "Ten more"}'),
        ("mute", 6_000, '{"viewer": "vw_1"}'),
        ("pin", 7_000, '{"sale": "s", "sku": "sku-1"}'),
        ("end", 600_000, None),
    ):
        await execute(
            "INSERT INTO room_acts (room_no, at_ms, act, actor, after) VALUES ($1, $2, $3, 'host', $4)",
            room_no,
            START_MS + at_ms,
            act,
            after,
        )
    sale_no = show.placed["show"][0].sale_no
    await execute(
        "INSERT INTO acts VALUES (0, 1, 1, $1, 'price', 'host', $2, '700', '600', NULL),"
        " (0, 1, 2, $1, 'stock', 'host', $2, '1', NULL, 'no effect')",
        sale_no,
        START_MS + 9_000,
    )
    await execute(
        "UPDATE sale_items SET prices = jsonb_build_array(jsonb_build_array($2::bigint, 500))"
        " WHERE sale_no = $1 AND item_no = 2",
        sale_no,
        START_MS + 60_000,
    )
    marks = [(mark.kind, mark.at_ms - START_MS, mark.label) for mark in (await show.report()).marks]
    assert marks == [
        ("open", 0, "sale_show_CNY"),
        ("open", 0, "sale_show_EUR"),
        ("start", 0, ""),
        ("announce", 5_000, "Ten more"),
        ("pin", 7_000, "sku-1"),
        ("price", 9_000, "sale_show_EUR 600"),
        ("price", 60_000, "sku-2 500"),
        ("close", 600_000, "sale_show_CNY"),
        ("close", 600_000, "sale_show_EUR"),
        ("end", 600_000, ""),
    ]


async def test_coupons_claims_bookings_and_pickups_are_counted(show: Show) -> None:
    fetchval, execute, room_no = show.ledger.fetchval, show.ledger.execute, show.rooms["show"]
    shop_no = await fetchval("SELECT shop_no FROM shops")
    orders = [order for order in show.placed["show"] if order.status != "refused"]
    for room, states in ((room_no, "ccrrrx"), (None, "c")):
        coupon_no = await fetchval(
            "INSERT INTO coupons (coupon, shop_no, room_no, title, kind, value_minor, copies, limit_per_viewer,"
            " currency, claim_from_ms, claim_until_ms, valid_until_ms, created_at_ms)"
            " VALUES ($1, $2, $3, 'Off', 'amount', 100, 50, 1, 'EUR', 1, 2, 3, 1) RETURNING coupon_no",
            f"cpn_{room}",
            shop_no,
            room,
        )
        for at, state in enumerate(states):
            order = orders[at]
            await execute(
                "INSERT INTO claims (coupon_no, epoch, seq, claim, viewer, key, value_minor, state, reason, at_ms,"
                " confirmed_at, sale_no, order_id)"
                " VALUES ($1, 1, $2, $3, $4, $5, 100, $6, $7, 1, CASE WHEN $8 THEN now() END, $9, $10)",
                coupon_no,
                at + 1,
                f"clm_{coupon_no}_{at}",
                order.viewer,
                None if state == "x" else f"k{at}",
                {"c": "confirmed", "r": "redeemed", "x": "refused"}[state],
                "copies" if state == "x" else None,
                state != "x",
                order.sale_no if state == "r" else None,
                order.order if state == "r" else None,
            )
    for at in range(4):
        await execute("INSERT INTO bookings (room_no, viewer) VALUES ($1, $2)", room_no, f"viewer-{at}")
    paid = of(orders, "paid")
    for at, order in enumerate((*paid[:3], of(orders, "refunded")[0])):
        await execute(
            "INSERT INTO pickups (shop_no, code, sale_no, order_id, redeemed_at, redeemed_by)"
            " VALUES ($1, $2, $3, $4, CASE WHEN $5 THEN now() END, CASE WHEN $5 THEN 'clerk' END)",
            shop_no,
            f"{at:010d}",
            order.sale_no,
            order.order,
            at != 1,
        )
    report = await show.report()
    figures = report.reading.figures
    assert (figures.coupons_claimed, figures.coupons_redeemed, figures.bookings) == (5, 3, 4)
    assert figures.pickup_share == round(2 / 3, 4), "of those whose order is paid"
    (line,) = report.coupons
    assert (line.copies, line.claimed, line.redeemed, line.currency) == (50, 5, 3, "EUR")
