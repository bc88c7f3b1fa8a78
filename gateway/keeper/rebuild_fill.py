"""Fills a shard of Valkey, given up and shut, with what a recount of the ledger says."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from gateway.keeper.rebuild_ports import Hot, Recount

# Each fills up to a slice of the ledger's rows; while one is written to the disk the next ones are on their way.
_CALLS_IN_FLIGHT = 8


async def fill(hot: Hot, token: int, shard: int, recount: Recount) -> int:
    """All of it is in Valkey when this returns; how many answers of orders there are."""
    orders = 0
    async with _Calls() as calls:
        sales = await recount.sales()
        sale_nos = [sale.sale_no for sale in sales]
        items: dict[int, list[Any]] = defaultdict(list)
        for item in await recount.items(sale_nos):
            items[item.sale_no].append(item)
        for sale in sales:
            await calls.add(hot.fill_sale(token, sale.sale_no, sale_fields(sale, items[sale.sale_no])))
        acts = _flat(await recount.acts(shard))
        if acts:
            await calls.add(hot.fill_acts(token, acts))
        coupons = await recount.coupons()
        for each in coupons:
            counters = each.coupon.in_valkey(left=each.left, budget_left=each.budget_left)
            await calls.add(hot.fill_coupon(token, each.coupon.coupon_no, _flat(counters.items())))
        async for rows in recount.answers(sale_nos):
            orders += len(rows)
            for sale_no, fields in _by_number(rows).items():
                await calls.add(hot.fill_answers(token, sale_no, fields))
        coupon_nos = [each.coupon.coupon_no for each in coupons]
        for parts, fill_part in (
            (recount.units(sale_nos), hot.fill_units),
            (recount.claim_answers(coupon_nos), hot.fill_coupon_answers),
            (recount.claim_viewers(coupon_nos), hot.fill_coupon_viewers),
            (recount.claims(coupon_nos), hot.fill_coupon_claims),
        ):
            async for rows in parts:
                for number, fields in _by_number(rows).items():
                    await calls.add(fill_part(token, number, fields))
    return orders


def sale_fields(sale: Any, items: Sequence[Any]) -> list[str | int]:
    """A sale as lua/load_sale.lua spells it, with its counters as the ledger has them."""
    fields: list[str | int] = [
        "hold",
        str(sale.hold),
        "opens_at",
        str(sale.opens_at_ms),
        "closes_at",
        str(sale.closes_at_ms),
    ]
    for item in items:
        no = item.item_no
        fields += [f"{no}:price", str(item.price_minor), f"{no}:limit", str(item.limit_per_viewer)]
        fields += [f"{no}:stock", str(item.stock), f"{no}:left", str(item.left), f"{no}:held", str(item.held)]
        if item.floor_minor:
            fields += [f"{no}:floor", str(item.floor_minor)]
        if item.plan:
            fields += [f"{no}:plan", item.plan]
    return fields


def _flat(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [part for pair in pairs for part in pair]


def _by_number(rows: Sequence[tuple[int, str, str]]) -> dict[int, list[str]]:
    """Fields and values one after the other, a sale or coupon. Most slices are of one, and there are hundreds of
    them."""
    numbers = {row[0] for row in rows}
    if len(numbers) == 1:
        flat = [""] * (2 * len(rows))
        flat[::2] = [row[1] for row in rows]
        flat[1::2] = [row[2] for row in rows]
        return {numbers.pop(): flat}
    parts: dict[int, list[str]] = defaultdict(list)
    for number, field, value in rows:
        parts[number] += (field, value)
    return parts


class _Calls:
    """Calls that run beside the reading of the next rows, a few at once. The end of the block waits for all of them;
    the first that failed is raised."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "_Calls":
        return self

    async def add(self, call: Coroutine[Any, Any, None]) -> None:
        if len(self._running) >= _CALLS_IN_FLIGHT:
            await self._wait(asyncio.FIRST_COMPLETED, call.close)
        self._running.add(asyncio.create_task(call))

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self._wait(asyncio.ALL_COMPLETED, lambda: None)
            return
        for task in self._running:
            task.cancel()
        if self._running:
            await asyncio.wait(self._running)
        for task in self._running:
            if not task.cancelled():
                task.exception()  # what ended the block is what is told

    async def _wait(self, until: str, on_error: Callable[[], None]) -> None:
        if not self._running:
            return
        done, self._running = await asyncio.wait(self._running, return_when=until)
        for task in done:
            if (error := task.exception()) is not None:
                on_error()
                raise error
