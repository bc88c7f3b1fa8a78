"""Takes sales and coupons out of Valkey a stated time after they ended and settled; from then on the ledger answers for
them.

Three steps, each repeated harmlessly by whoever comes next. The script says that nothing of the sale is on its way, and
the ledger notes that it is retired (of a coupon the ledger alone says so). Then, while both stores can still answer,
all processes learn to ask the ledger. Then Valkey forgets it.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Protocol

import structlog

from gateway import points
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.metrics import RETIRED_SALES
from gateway.wire import bus

log = structlog.get_logger(__name__)

EVERY_S = 5.0
# Meanwhile both stores answer, and processes hear of it. One that does not hear looks the sale up once Valkey says that
# it is not there.
DROP_AFTER_S = 10.0
# An act is decided within five seconds of its arrival, and the ledger is asked for its key after that: what the ledger
# has had for this long, it has been asked for.
ACTS_KEPT_S = 60.0


class EndedSale(Protocol):
    @property
    def sale_no(self) -> int: ...
    @property
    def sold(self) -> Sequence[tuple[int, int]]: ...


class Ledger(Protocol):
    async def settle(self, shard: int) -> None: ...
    async def settled(self, shard: int, *, for_s: float) -> Sequence[EndedSale]: ...
    async def retired(self, shard: int, *, for_s: float) -> Sequence[EndedSale]: ...
    async def mark_retired(self, sale_no: int) -> None: ...
    async def mark_dropped(self, sale_no: int) -> None: ...
    async def ended_coupons(self, shard: int, *, for_s: float) -> Sequence[int]: ...
    async def retired_coupons(self, shard: int, *, for_s: float) -> Sequence[int]: ...
    async def mark_coupon_retired(self, coupon_no: int) -> None: ...
    async def mark_coupon_forgotten(self, coupon_no: int) -> None: ...


class Cursors(Protocol):
    async def cursor(self, shard: int) -> tuple[int, int]: ...


class Hot(Protocol):
    async def look(self, sale_no: int, sold: Sequence[tuple[int, int]]) -> str: ...
    async def drop(self, sale_no: int, sold: Sequence[tuple[int, int]]) -> str: ...
    async def drop_coupon(self, coupon_no: int) -> str: ...
    async def forget_acts(self, *, up_to: tuple[int, int]) -> int: ...


class Clocks(Protocol):
    @property
    def trusted(self) -> bool: ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class Retirement:
    """While the clocks are not trusted, nothing is over for good and nothing leaves."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        cursors: Cursors,
        hot: Mapping[int, Hot],
        clocks: Clocks,
        publisher: Publisher,
        clock: Clock,
        retire_after_s: float,
        drop_after_s: float = DROP_AFTER_S,
    ) -> None:
        self._ledger = ledger
        self._cursors = cursors
        self._hot = hot
        self._clocks = clocks
        self._publisher = publisher
        self._clock = clock
        self._retire_after_s = retire_after_s
        self._drop_after_s = drop_after_s
        self._places: dict[int, deque[tuple[float, tuple[int, int]]]] = {shard: deque() for shard in hot}
        """Where the ledger stood, and when, oldest first; what is older than `ACTS_KEPT_S` is one place."""
        self._missed: set[int] = set()

    async def run(self) -> None:
        while True:
            for shard in self._hot:
                try:
                    await self.step(shard)
                except GatewayError as error:
                    log.warning("retirement_waits", shard=shard, error=str(error))
            await asyncio.sleep(EVERY_S)

    async def step(self, shard: int) -> None:
        if not self._clocks.trusted:
            return
        await self._ledger.settle(shard)
        for sale in await self._ledger.settled(shard, for_s=self._retire_after_s):
            await self._retire(shard, sale)
        for sale in await self._ledger.retired(shard, for_s=self._drop_after_s):
            await self._drop(shard, sale)
        for coupon_no in await self._ledger.ended_coupons(shard, for_s=self._retire_after_s):
            await self._retire_coupon(coupon_no)
        for coupon_no in await self._ledger.retired_coupons(shard, for_s=self._drop_after_s):
            await self._drop_coupon(shard, coupon_no)
        await self._forget_acts(shard)

    async def _retire(self, shard: int, sale: EndedSale) -> None:
        word = await self._hot[shard].look(sale.sale_no, sale.sold)
        if word == "settled":
            await self._ledger.mark_retired(sale.sale_no)
            await self._publisher.publish(bus.encode(bus.SaleChanged(sale.sale_no)))
            log.info("sale_retired", sale_no=sale.sale_no)
        elif word == "gone" and sale.sale_no not in self._missed:
            # Whether orders of it wait in the stream cannot be told without its counters: it stays as it is.
            self._missed.add(sale.sale_no)
            log.error("sale_missing_in_valkey", shard=shard, sale_no=sale.sale_no)

    async def _drop(self, shard: int, sale: EndedSale) -> None:
        points.reach("retire.script.before")
        word = await self._hot[shard].drop(sale.sale_no, sale.sold)
        points.reach("retire.script.after")
        if word in ("dropped", "gone"):
            await self._ledger.mark_dropped(sale.sale_no)
            RETIRED_SALES.inc()
            log.info("sale_dropped", sale_no=sale.sale_no)

    async def _retire_coupon(self, coupon_no: int) -> None:
        """Claims of it, and orders with one, may wait in the stream: the ledger takes them without Valkey."""
        await self._ledger.mark_coupon_retired(coupon_no)
        await self._publisher.publish(bus.encode(bus.CouponChanged(coupon_no)))
        log.info("coupon_retired", coupon_no=coupon_no)

    async def _drop_coupon(self, shard: int, coupon_no: int) -> None:
        points.reach("retire.script.before")
        word = await self._hot[shard].drop_coupon(coupon_no)
        points.reach("retire.script.after")
        if word in ("dropped", "gone"):
            await self._ledger.mark_coupon_forgotten(coupon_no)
            log.info("coupon_forgotten", coupon_no=coupon_no)

    async def _forget_acts(self, shard: int) -> None:
        """Keys of acts that the ledger has had for a while: it is asked for them before Valkey is."""
        now_s = self._clock.monotonic()
        places = self._places[shard]
        if not places or now_s - places[-1][0] >= ACTS_KEPT_S / 4:
            places.append((now_s, await self._cursors.cursor(shard)))
        if now_s - places[0][0] >= ACTS_KEPT_S:
            await self._hot[shard].forget_acts(up_to=places.popleft()[1])
