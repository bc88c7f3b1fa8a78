"""The figures of a show, read of the ledger in one snapshot: all of one moment, with the cursor it stood at."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from gateway.domain.attendance import FLUSH_EVERY_S, SAMPLE_MS, SILENT_S, WATCH_EVERY_S
from gateway.domain.figures import (
    WATCHED_SHARE,
    AudienceError,
    Bucket,
    CouponLine,
    Cursor,
    Figures,
    FiguresReading,
    Mark,
    MoneyFigures,
    Report,
    SkuLine,
    SourceLine,
    bucket_ms,
    ratio,
)
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("figures.sql")

# Over a million orders a query takes a second or two; who asks waits no longer than this.
_TIMEOUT_S = 30.0
# A show has a few dozen; what is beyond it no timeline can show.
MARKS_MAX = 500
# The act that ends a show is noted a moment after the end it sets.
_END_NOTED_MS = 1_000


class FedOrder(NamedTuple):
    order: str
    sale: str
    sku: str
    quantity: int
    amount_minor: int
    currency: str
    status: str
    reason: str | None
    viewer: str
    created_at_ms: int


class LedgerFigures:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def read(self, room_no: int) -> FiguresReading | None:
        """None for a room that is none."""
        async with self._snapshot() as connection:
            found = await _Snapshot(connection, room_no).reading()
            return None if found is None else found[1]

    async def report(self, room_no: int) -> Report | None:
        async with self._snapshot() as connection:
            return await _Snapshot(connection, room_no).report()

    async def room_no(self, room: str) -> int | None:
        """Of a room's id."""
        number: int | None = await self._ledger.fetchval(_QUERIES["room_no"], room)
        return number

    async def orders(self, room_no: int, places: Sequence[tuple[int, str]]) -> list[FedOrder]:
        """Orders by (sale number, order id) as they are now, in this order; without those of other rooms."""
        rows = await self._ledger.fetch(
            _QUERIES["feed_orders"], room_no, [at[0] for at in places], [at[1] for at in places]
        )
        return [FedOrder(**row) for row in rows]

    async def newest_orders(self, room_no: int, most: int) -> list[FedOrder]:
        """The newest of the room's sales, the newest last."""
        return [FedOrder(**row) for row in await self._ledger.fetch(_QUERIES["newest_orders"], room_no, most)]

    @asynccontextmanager
    async def _snapshot(self) -> AsyncIterator[Any]:
        async with self._ledger.transaction(isolation="repeatable_read", readonly=True) as connection:
            yield connection


class _Snapshot:
    """One moment of one room."""

    def __init__(self, connection: Any, room_no: int) -> None:
        self._connection = connection
        self._room_no = room_no

    async def reading(self) -> tuple[Any, FiguresReading] | None:
        """The room's own row beside its figures."""
        room = await self._row("standing")
        if room is None:
            return None
        started_at_ms, ended_at_ms = room["started_at_ms"], room["ended_at_ms"]
        length_ms = None if started_at_ms is None else max(1, (ended_at_ms or room["at_ms"]) - started_at_ms)
        audience = await self._row("audience", length_ms, WATCHED_SHARE)
        said = await self._row("comments")
        sold = await self._rows("money")
        ordering = await self._row("ordering")
        claims = await self._row("claims")
        pickups = await self._row("pickups")
        first_orders = await self._row("first_orders", room["shard"])
        off = await self._row("audience_error", SILENT_S)
        money = tuple(map(_money, sold))
        placed, confirmed = sum(row["placed"] for row in sold), sum(row["confirmed"] for row in sold)
        paid = sum(row["paid"] for row in sold)
        visits, viewers, shop_viewers = audience["visits"], audience["viewers"], audience["shop_viewers"]
        time_ms = ordering["time_ms"]
        figures = Figures(
            bookings=room["bookings"],
            visits=visits,
            viewers=viewers,
            viewers_peak=room["viewers_peak"],
            watch_avg_s=ratio(audience["watch_ms"] / 1000, viewers, digits=1),
            watched_to_end_share=ratio(audience["watched"], viewers) if _is_told(length_ms, ended_at_ms) else None,
            comments=said["comments"],
            commenters=said["commenters"],
            likes=room["likes"],
            shop_entries=audience["shop_entries"],
            shop_viewers=shop_viewers,
            orders_placed=placed,
            orders_confirmed=confirmed,
            orders_paid=paid,
            orders_expired=sum(row["expired"] for row in sold),
            gmv_placed_minor=money[0].gmv_placed_minor if money else 0,
            gmv_paid_minor=money[0].gmv_paid_minor if money else 0,
            order_value_avg_minor=money[0].order_value_avg_minor if money else None,
            payment_rate=ratio(paid, placed),
            order_time_avg_s=None if time_ms is None else round(time_ms / 1000, 1),
            orders_per_s_peak=(await self._row("peak"))["peak"],
            new_customer_share=ratio(first_orders["firsts"], confirmed) if first_orders["decided"] else None,
            coupons_claimed=claims["claimed"],
            coupons_redeemed=claims["redeemed"],
            pickup_share=ratio(pickups["redeemed"], pickups["pickups"]),
            orders_per_entry=ratio(placed, audience["shop_entries"]),
            ordering_viewers_per_shop_viewer=ratio(ordering["viewers"], shop_viewers),
            orders_per_visit=ratio(placed, visits),
        )
        return room, FiguresReading(
            at_ms=room["at_ms"],
            cursor=Cursor(shard=room["shard"], epoch=room["epoch"], seq=room["last_seq"]),
            started_at_ms=started_at_ms,
            ended_at_ms=ended_at_ms,
            currency=money[0].currency if money else None,
            figures=figures,
            money=money,
            ordering_viewers=ordering["viewers"],
            error=AudienceError(
                visits_lag_s=int(FLUSH_EVERY_S),
                watch_lag_s=int(WATCH_EVERY_S),
                cut_sockets=off["cut_sockets"],
                missed_visits=off["missed"],
            ),
        )

    async def report(self) -> Report | None:
        found = await self.reading()
        if found is None:
            return None
        room, reading = found
        from_ms = reading.started_at_ms
        to_ms = reading.ended_at_ms or reading.at_ms
        width_ms = bucket_ms(1 if from_ms is None else max(1, to_ms - from_ms))
        timeline: tuple[Bucket, ...] = ()
        in_show = 0
        if from_ms is not None:
            timeline, in_show = await self._timeline(from_ms, max(to_ms, from_ms + 1), width_ms)
        marks = await self._rows("marks", to_ms + _END_NOTED_MS, MARKS_MAX + 1)
        return Report(
            room=room["room"],
            title=room["title"],
            reading=reading,
            bucket_ms=width_ms,
            timeline=timeline,
            orders_outside=reading.figures.orders_placed - in_show,
            marks=tuple(
                Mark(at_ms=row["at_ms"], kind=row["kind"], label=row["label"] or "") for row in marks[:MARKS_MAX]
            ),
            marks_are_more=len(marks) > MARKS_MAX,
            skus=tuple(SkuLine(**row) for row in await self._rows("skus")),
            coupons=tuple(CouponLine(**row) for row in await self._rows("coupons")),
            sources=tuple(SourceLine(**row) for row in await self._rows("sources")),
        )

    async def _timeline(self, from_ms: int, to_ms: int, width_ms: int) -> tuple[tuple[Bucket, ...], int]:
        """The buckets, and how many orders are in them."""
        count = -(-(to_ms - from_ms) // width_ms)
        orders, comments = [0] * count, [0] * count
        for name, counts in (("timeline_orders", orders), ("timeline_comments", comments)):
            for row in await self._rows(name, from_ms, to_ms, width_ms):
                counts[row["bucket"]] = row["n"]
        # A sample holds for its five seconds; one of nobody for as long as there is no other.
        viewers: list[int | None] = [None] * count
        samples = await self._rows("timeline_viewers", from_ms - SAMPLE_MS, to_ms)
        ends = [*(row["at_ms"] for row in samples[1:]), to_ms]
        for row, next_ms in zip(samples, ends[: len(samples)], strict=True):
            first = max(0, (row["at_ms"] - from_ms) // width_ms)
            for at in range(first, min(count, -(-(row["at_ms"] + SAMPLE_MS - from_ms) // width_ms))):
                viewers[at] = max(viewers[at] or 0, row["peak"])
            if row["viewers"] == 0:
                for at in range(first, min(count, -(-(next_ms - from_ms) // width_ms))):
                    viewers[at] = viewers[at] or 0
        width_s = width_ms / 1000
        return tuple(
            Bucket(
                at_ms=from_ms + at * width_ms,
                viewers=viewers[at],
                comments_per_s=round(comments[at] / width_s, 3),
                orders_per_s=round(orders[at] / width_s, 3),
            )
            for at in range(count)
        ), sum(orders)

    async def _row(self, name: str, *values: object) -> Any:
        return await self._connection.fetchrow(_QUERIES[name], self._room_no, *values, timeout=_TIMEOUT_S)

    async def _rows(self, name: str, *values: object) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(_QUERIES[name], self._room_no, *values, timeout=_TIMEOUT_S)
        return rows


def _is_told(length_ms: int | None, ended_at_ms: int | None) -> bool:
    """Whether enough of the watch time is told: in a young show that still runs, what is not could be all of it."""
    if length_ms is None or ended_at_ms is not None:
        return length_ms is not None
    return length_ms * (1 - WATCHED_SHARE) >= WATCH_EVERY_S * 1000


def _money(row: Any) -> MoneyFigures:
    paid, paid_minor = row["paid"], row["paid_minor"]
    return MoneyFigures(
        currency=row["currency"],
        orders_placed=row["placed"],
        orders_paid=paid,
        gmv_placed_minor=row["placed_minor"],
        gmv_paid_minor=paid_minor,
        # Half up, in integers: money is never a float.
        order_value_avg_minor=(2 * paid_minor + paid) // (2 * paid) if paid else None,
    )
