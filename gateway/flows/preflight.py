"""Before a sale opens: whether everything it stands on is as it should be, line by line, with what to do.

One look at a time in a process: it is read by people, and asks servers that orders need. What cannot be asked is a line
of its own, so that one server that is away hides nothing of the others.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog
from msgspec import Struct

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.coupon import Coupon
from gateway.domain.limits import ShopLimits
from gateway.domain.preflight import (
    Expected,
    Level,
    Line,
    judge_coupon,
    judge_prices,
    judge_room,
    judge_stock,
    judge_window,
    worst,
)
from gateway.domain.preflight_servers import (
    LedgerFacts,
    MachineFacts,
    ShardFacts,
    ValkeyFacts,
    judge_clocks,
    judge_ledger,
    judge_machine,
    judge_valkey,
    judge_writer,
)
from gateway.domain.room import Room
from gateway.domain.sale import ItemCounts, Sale
from gateway.errors import GatewayError, Overloaded
from gateway.flows.access import require_host

log = structlog.get_logger(__name__)

# A shop of which nothing else is known; its hosts say how many they expect.
VIEWERS_EXPECTED = 10_000
MOST_EXPECTED = 100_000_000
# A sale of a million orders is audited in some ten seconds, which nobody waits for here.
AUDIT_WITHIN_S = 8.0
PING_WITHIN_S = 8.0
LISTENS_S = 1.0
_WAITING_MOST = 8


class Sales(Protocol):
    async def find(self, caller: Caller, sale_id: str) -> Sale: ...


class Hot(Protocol):
    async def time_s(self) -> float: ...
    async def shard(self, shard: int) -> ShardFacts | None: ...
    async def server(self) -> ValkeyFacts: ...
    async def live_processes(self) -> int: ...


class Ledger(Protocol):
    async def time_s(self) -> float: ...
    async def server(self, shard: int) -> LedgerFacts: ...
    async def coupons(self, sale_no: int) -> Sequence[Any]:
        """Of each that the sale's orders may redeem: coupon_no, claimed, spent_minor, in_valkey."""
        ...


class Preflight:
    """`audit` says what is broken in a sale; `ping` has the shop's webhook asked, and says what was wrong with its
    answer (None: nothing, '' there is none); `machine` are descriptors, memory and the sockets of a live process."""

    def __init__(
        self,
        *,
        hot: Hot,
        ledger: Ledger,
        counts: Callable[[Sale], Awaitable[Mapping[int, ItemCounts] | None]],
        ledger_counts: Callable[[int], Awaitable[Mapping[int, tuple[int, int, int]]]],
        room: Callable[[str], Awaitable[Room | None]],
        coupons: Callable[[Sequence[int]], Awaitable[Sequence[Coupon]]],
        limits: Callable[[], Awaitable[Mapping[str, ShopLimits]]],
        audit: Callable[[str], Awaitable[Sequence[str]]],
        ping: Callable[[str], Awaitable[str | None]],
        machine: Callable[[], tuple[int, int | None, int]],
        clock: Clock,
        tolerance_s: float,
    ) -> None:
        self._hot = hot
        self._ledger = ledger
        self._counts = counts
        self._ledger_counts = ledger_counts
        self._room = room
        self._coupons = coupons
        self._limits = limits
        self._audit = audit
        self._ping = ping
        self._machine = machine
        self._clock = clock
        self._tolerance_s = tolerance_s
        self._one_at_a_time = asyncio.Lock()
        self._waiting = 0

    async def look(self, sale: Sale, *, viewers: int | None = None, orders: int | None = None) -> "PreflightReport":
        if self._waiting >= _WAITING_MOST:
            raise Overloaded
        self._waiting += 1
        try:
            async with self._one_at_a_time:
                return await self._look(sale, viewers, orders)
        finally:
            self._waiting -= 1

    async def _look(self, sale: Sale, viewers: int | None, orders: int | None) -> "PreflightReport":
        expected = Expected(
            VIEWERS_EXPECTED if viewers is None else viewers,
            sum(item.stock for item in sale.items) if orders is None else orders,
        )
        now_ms = self._clock.now_ms()
        parts: list[tuple[str, Callable[[], Awaitable[Sequence[Line]]]]] = [
            ("window", lambda: _at_once([judge_window(sale, now_ms)])),
            ("stock", lambda: self._stock(sale)),
            ("prices", lambda: _at_once(judge_prices(sale.items))),
            ("coupons", lambda: self._of_coupons(sale, now_ms)),
            ("room", lambda: self._of_room(sale, now_ms)),
            ("webhook", lambda: self._webhook(sale.shop)),
            ("limits", lambda: self._of_limits(sale.shop, expected)),
            ("clocks", lambda: self._clocks(sale.shard)),
            ("writer", lambda: self._writer(sale.shard)),
            ("valkey", lambda: self._valkey(expected)),
            ("postgresql", lambda: self._postgresql(sale.shard, expected)),
            ("live processes", lambda: self._live(expected)),
            ("audit", lambda: self._of_audit(sale.sale)),
        ]
        lines = [line for name, part in parts for line in await _tried(name, part)]
        return PreflightReport(sale=sale.sale, at_ms=now_ms, expected=expected, level=worst(lines), lines=lines)

    async def _stock(self, sale: Sale) -> Sequence[Line]:
        return judge_stock(sale, await self._counts(sale), await self._ledger_counts(sale.sale_no))

    async def _of_coupons(self, sale: Sale, now_ms: int) -> Sequence[Line]:
        found = {each.coupon_no: each for each in await self._ledger.coupons(sale.sale_no)}
        if not found:
            return [Line("coupons", Level.OK, "No coupon can be redeemed in it.")]
        return [
            judge_coupon(
                coupon,
                sale,
                now_ms,
                claimed=found[coupon.coupon_no].claimed,
                spent_minor=found[coupon.coupon_no].spent_minor,
                in_valkey=found[coupon.coupon_no].in_valkey,
            )
            for coupon in await self._coupons(list(found))
        ]

    async def _of_room(self, sale: Sale, now_ms: int) -> Sequence[Line]:
        return [judge_room(None if sale.room is None else await self._room(sale.room), sale, now_ms)]

    async def _webhook(self, shop: str) -> Sequence[Line]:
        try:
            async with asyncio.timeout(PING_WITHIN_S):
                wrong = await self._ping(shop)
        except TimeoutError:
            wrong = f"no answer within {PING_WITHIN_S:g} s"
        if wrong is None:
            return [Line("webhook", Level.OK, "The shop's webhook answered a signed ping.")]
        if not wrong:
            return [Line("webhook", Level.OK, "The shop has no webhook; it hears of orders by asking.")]
        return [
            Line(
                "webhook",
                Level.FAIL,
                f"The shop's webhook did not take a signed ping: {wrong}.",
                "See that it runs, checks the signature with the present secret, and answers 2xx.",
            )
        ]

    async def _of_limits(self, shop: str, expected: Expected) -> Sequence[Line]:
        most = (await self._limits()).get(shop, ShopLimits()).viewers
        if most is None:
            return [Line("limits", Level.OK, "The shop may have any number of viewers.")]
        if most < expected.viewers:
            return [
                Line(
                    "limits",
                    Level.FAIL,
                    f"The shop may have {most:,} viewers; {expected.viewers:,} are expected.",
                    "Have the limit raised: `peakgate shop limits SHOP --viewers N`.",
                )
            ]
        return [Line("limits", Level.OK, f"The shop may have {most:,} viewers.")]

    async def _clocks(self, shard: int) -> Sequence[Line]:
        began_s = self._clock.monotonic()

        async def at_once(ask: Callable[[], Awaitable[float]]) -> float:
            """A server's time, read somewhere within the call, brought to the instant at which this began."""
            sent_s = self._clock.monotonic()
            return await ask() - (sent_s + self._clock.monotonic()) / 2 + began_s

        valkey_s, ledger_s = await at_once(self._hot.time_s), await at_once(self._ledger.time_s)
        own_s = self._clock.now_ms() / 1000 - self._clock.monotonic() + began_s
        facts = await self._hot.shard(shard)
        paused = facts is not None and facts.opens_up_to
        return [judge_clocks(valkey_s, ledger_s, own_s, tolerance_s=self._tolerance_s, paused=paused)]

    async def _writer(self, shard: int) -> Sequence[Line]:
        # Valkey first: what it shows then is not more than what the writer may have by the second answer.
        return [judge_writer(await self._hot.shard(shard), await self._ledger.server(shard))]

    async def _valkey(self, expected: Expected) -> Sequence[Line]:
        return judge_valkey(await self._hot.server(), expected)

    async def _postgresql(self, shard: int, expected: Expected) -> Sequence[Line]:
        return judge_ledger(await self._ledger.server(shard), expected)

    async def _live(self, expected: Expected) -> Sequence[Line]:
        descriptors, memory_bytes, sockets_most = self._machine()
        heard = await self._hot.live_processes()
        if not heard:
            # They speak twice a second; one that began just now, or stood still for a moment, is heard now.
            await asyncio.sleep(LISTENS_S)
            heard = await self._hot.live_processes()
        facts = MachineFacts(descriptors, memory_bytes, heard, sockets_most)
        return judge_machine(facts, expected)

    async def _of_audit(self, sale_id: str) -> Sequence[Line]:
        try:
            async with asyncio.timeout(AUDIT_WITHIN_S):
                broken = await self._audit(sale_id)
        except TimeoutError:
            return [
                Line(
                    "audit",
                    Level.WARN,
                    f"The sale is too large to be audited within {AUDIT_WITHIN_S:g} s.",
                    f"`peakgate audit --sale {sale_id}` takes its time.",
                )
            ]
        if broken:
            return [
                Line(
                    "audit",
                    Level.FAIL,
                    f"Broken: {'; '.join(broken)}.",
                    f"`peakgate audit --sale {sale_id}` says more; the runbook what to do.",
                )
            ]
        return [Line("audit", Level.OK, "Every invariant of the sale holds.")]


class PreflightReport(Struct, frozen=True, kw_only=True):
    sale: str
    at_ms: int
    expected: Expected
    level: Level
    """The worst of its lines."""
    lines: Sequence[Line]


class HostPreflight:
    """As a host may ask: for sales of the own shop."""

    def __init__(self, *, sales: Sales, preflight: Preflight) -> None:
        self._sales = sales
        self._preflight = preflight

    async def look(self, caller: Caller, sale_id: str, *, viewers: int | None, orders: int | None) -> PreflightReport:
        require_host(caller)
        return await self._preflight.look(await self._sales.find(caller, sale_id), viewers=viewers, orders=orders)


async def _at_once(lines: Sequence[Line]) -> Sequence[Line]:
    return lines


async def _tried(name: str, part: Callable[[], Awaitable[Sequence[Line]]]) -> Sequence[Line]:
    try:
        return await part()
    except GatewayError as error:
        log.warning("preflight_not_looked_at", check=name, error=str(error))
        # Our own words, not the servers': they may name hosts.
        return [
            Line(
                name,
                Level.FAIL,
                f"It could not be looked at ({error.code}).",
                "See that the servers run, and look again.",
            )
        ]
