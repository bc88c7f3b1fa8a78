"""The trend of a show, read of the ledger in one snapshot; its cost follows from the two spans, not from the show."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

from gateway.domain.figures import ratio
from gateway.domain.ids import order_floor
from gateway.domain.trend import Pair, Sample, Spans, Trend, TrendFigures, likes_of, spans_at, viewers_of
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("trend.sql")

# Where sales have several currencies all orders are counted, for which who asks waits no longer than this.
_TIMEOUT_S = 30.0
_NOTHING = Pair(last=None, before=None)
_NEVER = TrendFigures(**dict.fromkeys(TrendFigures.__struct_fields__, _NOTHING))


class _Sold(NamedTuple):
    """Of orders or of payments of the room's sales, in both spans."""

    last: int
    before: int
    last_minor: int
    before_minor: int


class LedgerTrend:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def read(self, room_no: int) -> Trend | None:
        """None for a room that is none."""
        async with (
            self._ledger.connection() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            return await _Snapshot(connection, room_no).trend()


class _Snapshot:
    """One moment of one room."""

    def __init__(self, connection: Any, room_no: int) -> None:
        self._connection = connection
        self._room_no = room_no

    async def trend(self) -> Trend | None:
        room = await self._row("standing", self._room_no)
        if room is None:
            return None
        spans = spans_at(room["at_ms"], started_at_ms=room["started_at_ms"], ended_at_ms=room["ended_at_ms"])
        sales = await self._rows("sales", self._room_no)
        currencies = list(dict.fromkeys(sale["currency"] for sale in sales))
        currency: str | None = currencies[0] if currencies else None
        if len(currencies) > 1:
            currency = (await self._row("currency", self._room_no))["currency"]
        if spans.before_ms == spans.to_ms:
            return Trend(spans=spans, currency=currency, figures=_NEVER)
        return Trend(spans=spans, currency=currency, figures=await self._figures(spans, sales, currency))

    async def _figures(self, spans: Spans, sales: list[Any], currency: str | None) -> TrendFigures:
        samples = [Sample(*row) for row in await self._rows("samples", self._room_no, spans.before_ms, spans.to_ms)]
        said = await self._row("comments", self._room_no, *spans)
        came = await self._row("visits", self._room_no, *spans)
        in_currency = {sale["sale_no"] for sale in sales if sale["currency"] == currency}
        placed = _sum(await self._orders(spans, {sale["sale_no"]: 0 for sale in sales}), in_currency)
        due = await self._orders(spans, {sale["sale_no"]: sale["pay_within_s"] * 1000 for sale in sales})
        paid = _sum(await self._payments(spans, [sale["sale_no"] for sale in sales]), in_currency)
        last, before = (viewers_of(samples, from_ms, to_ms) for from_ms, to_ms in (spans[1:], spans[:2]))
        has_before = spans.before_ms < spans.last_ms

        def pair(last: float | None, before: float | None) -> Pair:
            return Pair(last=last, before=before if has_before else None)

        return TrendFigures(
            viewers_avg=pair(last[0], before[0]),
            viewers_peak=pair(last[1], before[1]),
            visits=pair(came["visits_last"], came["visits_before"]),
            comments=pair(said["last"], said["before"]),
            likes=pair(likes_of(samples, *spans[1:]), likes_of(samples, *spans[:2])),
            shop_entries=pair(came["entries_last"], came["entries_before"]),
            orders_placed=pair(placed.last, placed.before),
            gmv_placed_minor=pair(placed.last_minor, placed.before_minor),
            orders_paid=pair(paid.last, paid.before),
            gmv_paid_minor=pair(paid.last_minor, paid.before_minor),
            payment_rate=pair(
                ratio(sum(row["paid_last"] for row in due), sum(row["last"] for row in due)),
                ratio(sum(row["paid_before"] for row in due), sum(row["before"] for row in due)),
            ),
            orders_per_entry=pair(
                ratio(placed.last, came["entries_last"]), ratio(placed.before, came["entries_before"])
            ),
        )

    async def _orders(self, spans: Spans, sooner_ms: dict[int, int]) -> list[Any]:
        """By sale; of each those decided in the spans, or in spans that are so much sooner."""
        return await self._rows(
            "orders",
            list(sooner_ms),
            [spans.last_ms - ms for ms in sooner_ms.values()],
            [order_floor(max(0, spans.before_ms - ms)) for ms in sooner_ms.values()],
            [order_floor(max(0, spans.to_ms - ms)) for ms in sooner_ms.values()],
        )

    async def _payments(self, spans: Spans, sale_nos: list[int]) -> list[Any]:
        edges = (datetime.fromtimestamp(at_ms // 1000, UTC) for at_ms in spans)
        return await self._rows("payments", sale_nos, *edges)

    async def _row(self, name: str, *values: object) -> Any:
        return await self._connection.fetchrow(_QUERIES[name], *values, timeout=_TIMEOUT_S)

    async def _rows(self, name: str, *values: object) -> list[Any]:
        rows: list[Any] = await self._connection.fetch(_QUERIES[name], *values, timeout=_TIMEOUT_S)
        return rows


def _sum(rows: list[Any], in_currency: set[int]) -> _Sold:
    """Numbers are of all sales, money is of those in one currency."""
    money = [row for row in rows if row["sale_no"] in in_currency]
    return _Sold(
        last=sum(row["last"] for row in rows),
        before=sum(row["before"] for row in rows),
        last_minor=sum(row["last_minor"] for row in money),
        before_minor=sum(row["before_minor"] for row in money),
    )
