"""The trend of a show against plain counts over everything that happened, on a real ledger."""

import random
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from gateway.domain.attendance import Attended, RoomSample
from gateway.domain.ids import IdMint, order_floor
from gateway.domain.trend import SPAN_MS, Pair, Trend
from gateway.ledger.attendance import LedgerAttendance
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries
from gateway.ledger.shops import Shops
from gateway.ledger.trend import LedgerTrend

MINT = IdMint(b"k" * 32)
START_MS = 1_790_000_000_000
END_MS = START_MS + 2 * SPAN_MS + 300_000
LAST_MS, BEFORE_MS = END_MS - SPAN_MS, END_MS - 2 * SPAN_MS
STATUSES = ("confirmed", "paid", "paid", "paid", "expired", "cancelled", "refused", "refund_due", "refunded")
PAY_WITHIN_S = {"EUR": 300, "CNY": 700}

# Each counts everything there is and asks of each row in which span it is; $1 room, $2 from, $3 to.
PLAIN = {
    "comments": "SELECT count(*) FROM comments WHERE room_no = $1 AND at_ms >= $2 AND at_ms < $3",
    "visits": "SELECT coalesce(sum(visits), 0) FROM room_visits WHERE room_no = $1 AND at_ms >= $2 AND at_ms < $3",
    "shop_entries": "SELECT coalesce(sum(shop_entries), 0) FROM room_visits"
    " WHERE room_no = $1 AND at_ms >= $2 AND at_ms < $3",
    "orders_placed": "SELECT count(*) FROM orders JOIN sales USING (sale_no)"
    " WHERE room_no = $1 AND orders.created_at_ms >= $2 AND orders.created_at_ms < $3",
    "gmv_placed_minor": "SELECT coalesce(sum(amount_minor), 0) FROM orders JOIN sales USING (sale_no)"
    " WHERE room_no = $1 AND orders.created_at_ms >= $2 AND orders.created_at_ms < $3 AND currency = 'EUR'",
    "orders_paid": "SELECT count(*)"
    " FROM payments p JOIN orders o USING (sale_no, order_id) JOIN sales s USING (sale_no)"
    " WHERE s.room_no = $1 AND state = 'applied' AND status = 'paid'"
    " AND extract(epoch FROM received_at) * 1000 >= $2 AND extract(epoch FROM received_at) * 1000 < $3",
    "gmv_paid_minor": "SELECT coalesce(sum(o.amount_minor), 0)"
    " FROM payments p JOIN orders o USING (sale_no, order_id) JOIN sales s USING (sale_no)"
    " WHERE s.room_no = $1 AND state = 'applied' AND status = 'paid' AND currency = 'EUR'"
    " AND extract(epoch FROM received_at) * 1000 >= $2 AND extract(epoch FROM received_at) * 1000 < $3",
    "payment_rate": "SELECT round(count(*) FILTER (WHERE status = 'paid')::numeric / count(*), 4)"
    " FROM orders JOIN sales USING (sale_no) WHERE room_no = $1"
    " AND orders.created_at_ms + pay_within_s * 1000 BETWEEN $2::bigint AND $3::bigint - 1",
    "orders_per_entry": "SELECT round((SELECT count(*)::numeric FROM orders JOIN sales USING (sale_no)"
    " WHERE room_no = $1 AND orders.created_at_ms >= $2 AND orders.created_at_ms < $3)"
    " / nullif((SELECT sum(shop_entries) FROM room_visits WHERE room_no = $1 AND at_ms >= $2 AND at_ms < $3), 0), 4)",
}


class Show:
    """Two rooms of a shop with sales in two currencies; what is done in the one is no part of the other."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.trends = LedgerTrend(ledger)
        self.attendance = LedgerAttendance(ledger)
        self.dice = random.Random(11)
        self.rooms: list[int] = []
        self.sales: list[tuple[int, int]] = []
        """(room, sale)."""
        self.seq = 0

    async def room(self, started_at_ms: int | None, ended_at_ms: int | None) -> int:
        state = "scheduled" if started_at_ms is None else "live" if ended_at_ms is None else "ended"
        room_no: int = await self.ledger.fetchval(
            "INSERT INTO rooms (room, shop_no, title, created_at_ms, state, started_at_ms, ended_at_ms)"
            " SELECT $1, shop_no, 'Show', 1, $2, $3, $4 FROM shops RETURNING room_no",
            f"room_{len(self.rooms)}",
            state,
            started_at_ms,
            ended_at_ms,
        )
        self.rooms.append(room_no)
        return room_no

    async def sale(self, room_no: int, currency: str) -> int:
        sale_no: int = await self.ledger.fetchval(
            "INSERT INTO sales (sale, shop_no, room_no, title, currency, opens_at_ms, closes_at_ms, pay_within_s,"
            " created_at_ms) SELECT $1, shop_no, $2, 'Sale', $3, 1, 2, $4, 1 FROM shops RETURNING sale_no",
            f"sale_{len(self.sales)}",
            room_no,
            currency,
            PAY_WITHIN_S[currency],
        )
        self.sales.append((room_no, sale_no))
        return sale_no

    async def order(self, sale_no: int, at_ms: int, status: str, paid_at_ms: int | None = None) -> None:
        self.seq += 1
        order, ok = MINT.order(at_ms, sale_no, 1, self.seq), status != "refused"
        amount = 700 + self.seq % 900
        await self.ledger.execute(
            "INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor, status,"
            " reason, epoch, seq, created_at_ms, confirmed_at, pay_by, fingerprint)"
            " VALUES ($1, $2, $3, $4, 1, 1, $5, $5, $6, $7, 1, $8, $9,"
            " CASE WHEN $10 THEN now() END, CASE WHEN $10 THEN now() + interval '1 hour' END, 'f')",
            sale_no,
            order,
            f"viewer-{self.seq}",
            order if ok else None,
            amount,
            status,
            None if ok else "stock",
            self.seq,
            at_ms,
            ok,
        )
        if paid_at_ms is not None:
            await self.ledger.execute(
                "INSERT INTO payments (shop_no, provider, txn, order_id, sale_no, amount_minor, paid_at, received_at,"
                " state, reason, refunded_at) SELECT shop_no, 'bank', $1, $1, $2, $3, $4, $4, $5, $6,"
                " CASE WHEN $5 = 'refunded' THEN now() END FROM shops",
                order,
                sale_no,
                amount,
                datetime.fromtimestamp(paid_at_ms / 1000, UTC),
                {"paid": "applied"}.get(status, status),
                None if status == "paid" else "why",
            )

    async def sell(self, sale_no: int, count: int) -> None:
        """From before the show to after it, and some in the very moments at which a span begins."""
        for at in range(count):
            edge = self.dice.choice([BEFORE_MS, LAST_MS, END_MS]) + self.dice.choice([-1, 0, 1])
            at_ms = self.dice.randint(START_MS - 900_000, END_MS + 60_000) if at % 4 else edge
            status = self.dice.choice(STATUSES)
            paid_at_ms = None
            if status in ("paid", "refund_due", "refunded"):
                paid_at_ms = self.dice.choice([at_ms + self.dice.randint(0, 900_000), edge])
            await self.order(sale_no, at_ms, status, paid_at_ms)

    async def watch(self, room_no: int) -> None:
        for at_ms in range(START_MS - 60_000, END_MS + 60_000, 15_000):
            await self.ledger.execute(
                "INSERT INTO room_visits VALUES ($1, $2, $3, $4)",
                room_no,
                at_ms,
                self.dice.randint(0, 30),
                self.dice.randint(0, 9),
            )

    async def talk(self, room_no: int, count: int) -> None:
        await self.ledger.execute(
            "INSERT INTO comments (room_no, epoch, n, at_ms, viewer, sub, name, text)"
            " SELECT $1, 1, n, $2::bigint + n * 1009, 'v', 's', '', 't' FROM generate_series(1, $3::int) n",
            room_no,
            START_MS - 30_000,
            count,
        )

    async def sample(self, room_no: int, *rows: tuple[int, int, int, int | None]) -> None:
        for at_ms, viewers, peak, likes in rows:
            await self.ledger.execute(
                "INSERT INTO room_samples VALUES ($1, $2, $3, $4, $5)", room_no, at_ms, viewers, peak, likes
            )

    async def read(self, room_no: int) -> Trend:
        trend = await self.trends.read(room_no)
        assert trend is not None
        return trend

    async def plain(self, name: str, room_no: int, from_ms: int, to_ms: int) -> Any:
        value = await self.ledger.fetchval(PLAIN[name], room_no, from_ms, to_ms)
        return None if value is None else float(value)


@pytest.fixture
async def show(database_url: str) -> AsyncIterator[Show]:
    async with Shops.connect(database_url) as shops:
        await shops.create("tins")
    ledger = await Ledger.connect(database_url, size=2, answers_within_s=60)
    try:
        yield Show(ledger)
    finally:
        await ledger.close()


def told(trend: Trend) -> dict[str, Pair]:
    return {name: getattr(trend.figures, name) for name in trend.figures.__struct_fields__}


async def test_both_spans_are_what_a_plain_count_over_everything_says(show: Show) -> None:
    for _ in range(2):
        room_no = await show.room(START_MS, END_MS)
        await show.watch(room_no)
        await show.talk(room_no, 1_700)
        for currency, count in (("EUR", 160), ("CNY", 90), ("EUR", 40)):
            await show.sell(await show.sale(room_no, currency), count)
    for room_no in show.rooms:
        trend = await show.read(room_no)
        assert trend.spans == (BEFORE_MS, LAST_MS, END_MS) and trend.is_complete and trend.currency == "EUR"
        figures = told(trend)
        for name in PLAIN:
            assert figures[name].last == await show.plain(name, room_no, LAST_MS, END_MS), name
            assert figures[name].before == await show.plain(name, room_no, BEFORE_MS, LAST_MS), name
            assert figures[name].last != figures[name].before != 0, f"{name} tells nothing here"
    assert told(await show.read(show.rooms[0])) != told(await show.read(show.rooms[1]))


async def test_neither_span_begins_before_the_show(show: Show) -> None:
    young = await show.room(END_MS - 240_000, END_MS)
    other = await show.room(END_MS - SPAN_MS - 120_000, END_MS)
    for room_no in (young, other):
        await show.watch(room_no)
        await show.talk(room_no, 1_700)
        await show.sell(await show.sale(room_no, "EUR"), 120)
    trend = await show.read(young)
    assert trend.spans == (END_MS - 240_000, END_MS - 240_000, END_MS) and not trend.is_complete
    for name, pair in told(trend).items():
        assert pair.before is None, name
        if name in PLAIN:
            assert pair.last == await show.plain(name, young, END_MS - 240_000, END_MS), name
    trend = await show.read(other)
    assert trend.spans == (LAST_MS - 120_000, LAST_MS, END_MS) and not trend.is_complete
    for name in PLAIN:
        assert told(trend)[name].before == await show.plain(name, other, LAST_MS - 120_000, LAST_MS), name


async def test_before_the_start_nothing_can_be_said(show: Show) -> None:
    room_no = await show.room(None, None)
    trend = await show.read(room_no)
    assert set(told(trend).values()) == {Pair(last=None, before=None)}
    assert trend.currency is None and not trend.is_complete and len(set(trend.spans)) == 1
    await show.sale(room_no, "CNY")
    assert (await show.read(room_no)).currency == "CNY"
    assert await show.trends.read(room_no + 1) is None


async def test_a_show_without_anything_has_zeros_and_nothing_to_divide_by(show: Show) -> None:
    figures = told(await show.read(await show.room(START_MS, END_MS)))
    none = {"viewers_avg", "viewers_peak", "likes", "payment_rate", "orders_per_entry"}
    assert {name for name, pair in figures.items() if pair == Pair(last=None, before=None)} == none
    assert {name for name, pair in figures.items() if pair == Pair(last=0, before=0)} == figures.keys() - none


async def test_viewers_are_the_mean_and_the_most_of_the_samples(show: Show) -> None:
    room_no = await show.room(START_MS, END_MS)
    await show.sample(
        room_no,
        (BEFORE_MS - 5_000, 99, 99, 100),
        (BEFORE_MS, 10, 12, 110),
        (BEFORE_MS + 5_000, 20, 40, 120),
        # Nobody looked for a while, and then all left; some came back in the last span.
        (LAST_MS - 20_000, 0, 7, 125),
        (LAST_MS + 30_000, 6, 8, 140),
        (END_MS - 5_000, 6, 9, 145),
        (END_MS, 500, 500, 500),
    )
    figures = (await show.read(room_no)).figures
    assert figures.viewers_avg == Pair(last=round((6 * 0 + 6 + 6) / 8, 1), before=round((10 + 20 + 4 * 0) / 6, 1))
    assert figures.viewers_peak == Pair(last=9, before=40)
    assert figures.likes == Pair(last=20, before=25)


async def test_likes_of_samples_from_before_they_were_kept_are_not_made_up(show: Show) -> None:
    room_no = await show.room(START_MS, END_MS)
    await show.sample(room_no, (BEFORE_MS - 5_000, 1, 1, None), (LAST_MS - 5_000, 1, 1, 40), (END_MS - 5_000, 1, 1, 45))
    assert (await show.read(room_no)).figures.likes == Pair(last=5, before=None)


async def test_a_running_show_is_read_up_to_a_moment_ago_and_visits_are_what_processes_told(show: Show) -> None:
    now_ms = int(time.time() * 1000)
    room_no = await show.room(now_ms - 3 * SPAN_MS, None)
    trend = await show.read(room_no)
    assert trend.is_complete and 2_000 <= time.time() * 1000 - trend.spans.to_ms <= 30_000
    rows = [Attended(room_no, f"ann-{at}", 2, 0.0, 1.0, 1.0, at % 3, 1.0) for at in range(9)]
    rows.append(Attended(room_no + 1, "bob", 0, 0.0, 1.0, 1.0, 0, None))
    for process in ("p1", "p2"):
        for _ in range(2):  # the second time it is the same flush, and counts for nothing
            await show.attendance.count(process, 1, attended=rows, still_open=[], now_s=2.0)
    counted = await show.ledger.fetchrow(
        "SELECT sum(visits), sum(shop_entries), min(at_ms % 5000), max(at_ms), count(DISTINCT room_no) FROM room_visits"
    )
    sums = await show.ledger.fetchrow("SELECT sum(visits), sum(shop_entries) FROM room_viewers")
    assert tuple(counted)[:3] == (*sums, 0) == (36, 18, 0)
    assert counted[4] == 1, "a room in which nothing was counted has no row"
    assert 0 <= time.time() * 1000 - counted[3] < 30_000
    # As if it had been a minute ago.
    await show.ledger.execute("UPDATE room_visits SET at_ms = at_ms - 60000")
    figures = (await show.read(room_no)).figures
    assert (figures.visits, figures.shop_entries) == (Pair(last=36, before=0), Pair(last=18, before=0))


async def test_a_sample_says_how_many_likes_the_ledger_knew_then(show: Show) -> None:
    liked, quiet = await show.room(START_MS, None), await show.room(START_MS, None)
    await show.ledger.execute("INSERT INTO room_chat (room_no, likes) VALUES ($1, 41)", liked)
    for at_ms in (5_000, 10_000):
        await show.attendance.sample([RoomSample(room_no, at_ms, viewers=3, peak=3) for room_no in (liked, quiet)])
        await show.ledger.execute("UPDATE room_chat SET likes = likes + 2")
    rows = await show.ledger.fetch("SELECT room_no, at_ms, likes FROM room_samples ORDER BY room_no, at_ms")
    assert [tuple(row) for row in rows] == [
        (liked, 5_000, 41),
        (liked, 10_000, 43),
        (quiet, 5_000, 0),
        (quiet, 10_000, 0),
    ]


async def test_what_it_costs_does_not_grow_with_the_show(show: Show) -> None:
    """Many orders, payments and comments of other minutes are not looked at."""
    room_no = await show.room(START_MS, END_MS)
    sale_no, _ = await show.sale(room_no, "EUR"), await show.sale(room_no, "EUR")
    await fill(show.ledger, room_no, sale_no, orders=20_000)
    trend = await show.read(room_no)
    assert trend.figures.orders_placed == Pair(last=200, before=200)
    read = await rows_read(show.ledger, room_no, [sale_no])
    # A payment is found, and then its order.
    assert read == {"orders": 400, "payments": 800, "comments": 400}


async def fill(ledger: Ledger, room_no: int, sale_no: int, *, orders: int) -> None:
    """So many long ago, and one in each three seconds of both spans; each is paid, and each has a comment."""
    spread = [BEFORE_MS - 3_600_000 - at * 10 for at in range(orders, 0, -1)]
    times = [*spread, *range(BEFORE_MS, END_MS, 3_000)]
    ids = [MINT.order(at_ms, sale_no, 1, seq) for seq, at_ms in enumerate(times, 1)]
    await ledger.execute(
        "INSERT INTO orders (sale_no, order_id, viewer, key, item_no, quantity, price_minor, amount_minor, status,"
        " epoch, seq, created_at_ms, confirmed_at, pay_by, fingerprint)"
        " SELECT $1, u.id, 'v' || u.at, 'k', 1, 1, 700, 700, 'paid', 1, u.at, u.at_ms, to_timestamp(u.at_ms / 1000.0),"
        " to_timestamp(u.at_ms / 1000.0 + 300), 'f'"
        " FROM unnest($2::text[], $3::bigint[]) WITH ORDINALITY u(id, at_ms, at)",
        sale_no,
        ids,
        times,
    )
    await ledger.execute(
        "INSERT INTO payments (shop_no, provider, txn, order_id, sale_no, amount_minor, paid_at, received_at, state)"
        " SELECT s.shop_no, 'bank', order_id, order_id, sale_no, amount_minor, confirmed_at, confirmed_at, 'applied'"
        " FROM orders JOIN sales s USING (sale_no) WHERE sale_no = $1",
        sale_no,
    )
    await ledger.execute(
        "INSERT INTO comments (room_no, epoch, n, at_ms, viewer, sub, name, text)"
        " SELECT $1, 1, seq, created_at_ms, viewer, viewer, '', 'Hello' FROM orders WHERE sale_no = $2",
        room_no,
        sale_no,
    )
    await ledger.execute("ANALYZE orders, payments, comments")


async def rows_read(ledger: Ledger, room_no: int, sale_nos: list[int]) -> dict[str, int]:
    """By question, the rows of tables it looks at; as a prepared statement asks it, whatever is in it."""
    queries = load_queries("trend.sql")
    edges = [datetime.fromtimestamp(at_ms / 1000, UTC) for at_ms in (BEFORE_MS, LAST_MS, END_MS)]
    ids = [[order_floor(at_ms)] * len(sale_nos) for at_ms in (BEFORE_MS, END_MS)]
    read = {}
    async with ledger.connection() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        for name, values in (
            ("orders", (sale_nos, [LAST_MS] * len(sale_nos), *ids)),
            ("payments", (sale_nos, *edges)),
            ("comments", (room_no, BEFORE_MS, LAST_MS, END_MS)),
        ):
            (plan,) = await connection.fetchrow("EXPLAIN (ANALYZE, FORMAT JSON) " + queries[name], *values)
            read[name] = sum(
                node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
                for node in nodes(msgspec.json.decode(plan)[0]["Plan"])
                if "Relation Name" in node
            )
        await connection.execute("RESET plan_cache_mode")
    return read


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)
