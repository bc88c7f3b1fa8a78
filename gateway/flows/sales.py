"""Sales: hosts make them, everyone of the shop reads them. What hosts do to a running sale is in control_sale.py."""

import asyncio
from collections.abc import Collection, Mapping
from typing import Protocol

import structlog
from msgspec import Struct

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.drafts import Effect, SaleDraft, check_sale, fingerprint
from gateway.domain.ids import IdMint
from gateway.domain.sale import ItemCounts, Sale, SaleState
from gateway.errors import (
    GatewayError,
    HotUnavailable,
    Invalid,
    LedgerUnavailable,
    NotFound,
    OutcomeUnknown,
    ShardClosed,
)
from gateway.flows.access import require_host, require_room
from gateway.flows.counts import SaleCounts
from gateway.flows.recent import Recent
from gateway.flows.sale_book import SaleBook
from gateway.wire import bus

log = structlog.get_logger(__name__)

KIND = "sale"
# Viewers' pages come in crowds, and the counters they show live where orders are decided.
_COUNTS_FRESH_S = 0.25
# The server's time is read this often at least, so that two drifting clocks never show two states for long.
_CLOCK_FRESH_S = 10.0
_LOAD_PAUSE_S = 0.2


class Ledger(Protocol):
    async def create(self, shop: str, draft: SaleDraft, effect: Effect) -> tuple[Sale, bool, bool]:
        """(sale, whether the key had made it before, whether Valkey was given it)."""
        ...

    async def find(self, sale_no: int) -> Sale | None: ...
    async def of_shop(
        self, shop: str, *, limit: int, after: int | None = None, only_rooms: Collection[str] | None = None
    ) -> list[Sale]: ...
    async def of_room_behind(self, shop: str, room_no: int, *, limit: int, after: int | None = None) -> list[Sale]: ...
    async def is_loaded(self, sale_no: int) -> bool: ...
    async def mark_loaded(self, sale_no: int, epoch: int) -> None: ...
    async def counts(self, sale_no: int) -> Mapping[int, tuple[int, int, int]]:
        """By item number: stock, held, sold."""
        ...


class ServerClock(Protocol):
    @property
    def known(self) -> bool: ...
    @property
    def taken_s(self) -> float: ...
    def ms_at(self, monotonic_s: float) -> int: ...


class Shard(Protocol):
    @property
    def epoch(self) -> int: ...
    @property
    def clock(self) -> ServerClock: ...
    async def load_sale(self, sale: Sale) -> None: ...
    async def counts(self, sale: Sale) -> dict[int, ItemCounts] | None: ...
    async def read_clock(self, monotonic_s: float) -> None: ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class SaleReading(Struct, frozen=True):
    """A sale as it stands. What could not be read is None: the sale is shown without it."""

    sale: Sale
    state: SaleState
    counts: Mapping[int, ItemCounts] | None = None
    """By item number, from Valkey while it has the sale."""
    ledger: Mapping[int, tuple[int, int, int]] | None = None
    """By item number, stock, held and sold as far as the ledger is; for staff only."""
    now_ms: int = 0
    """By Valkey's clock, for what is in force now."""


class Sales:
    """A sale is made in the ledger, then given to Valkey; the keeper gives it what could not be given at once."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        book: SaleBook,
        shards: Mapping[int, Shard],
        publisher: Publisher,
        mint: IdMint,
        clock: Clock,
        min_pay_within_s: int,
    ) -> None:
        self._ledger = ledger
        self._book = book
        self._shards = shards
        self._publisher = publisher
        self._mint = mint
        self._clock = clock
        self._min_pay_within_s = min_pay_within_s
        self._recent: Recent[int, dict[int, ItemCounts] | None] = Recent(keep_s=_COUNTS_FRESH_S, clock=clock)

    async def create(self, caller: Caller, draft: SaleDraft, key: str) -> tuple[SaleReading, bool]:
        """The sale, and whether the key had made it before."""
        require_host(caller)
        require_room(caller, draft.room)
        check_sale(draft, min_pay_within_s=self._min_pay_within_s)
        effect = Effect(caller.sub, KIND, key, fingerprint(draft))
        try:
            sale, replayed, loaded = await self._ledger.create(caller.shop, draft, effect)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error
        if not loaded:
            await self._load_or_say(sale)
        await self.changed(sale)
        return await self.reading(sale, caller), replayed

    async def read(self, caller: Caller, sale_id: str) -> SaleReading:
        return await self.reading(await self.find(caller, sale_id), caller)

    async def of_shop(
        self, caller: Caller, *, limit: int, after: str | None, room: str | None = None
    ) -> tuple[list[SaleReading], str | None]:
        """Newest first and without counters, and the cursor of the next page; with a room its sales only."""
        number = None if after is None else self._mint.read_sale(after)
        if after is not None and number is None:
            raise Invalid("That is no cursor of this list.", param="after")
        if room is None:
            sales = await self._ledger.of_shop(caller.shop, limit=limit + 1, after=number, only_rooms=caller.rooms)
        else:
            require_room(caller, room)
            room_no = self._mint.read_room(room)
            if room_no is None:
                raise NotFound("There is no such room.", param="room")
            sales = await self._ledger.of_room_behind(caller.shop, room_no, limit=limit + 1, after=number)
        readings = []
        for sale in sales[:limit]:
            now_ms = await self.now_ms(sale.shard)
            readings.append(SaleReading(sale, sale.state_at(now_ms), now_ms=now_ms))
        return readings, sales[limit - 1].sale if len(sales) > limit else None

    async def find(self, caller: Caller, sale_id: str) -> Sale:
        """Staff read the ledger, so that they see what they just did from any process; viewers the book."""
        if not caller.is_staff:
            sale: Sale | None = await self._book.get(caller.shop, sale_id)
        else:
            number = self._mint.read_sale(sale_id)
            sale = None if number is None else await self._ledger.find(number)
        if sale is None or sale.shop != caller.shop or sale.sale != sale_id:
            raise NotFound("There is no such sale in this shop.")
        require_room(caller, sale.room)
        return sale

    async def reading(self, sale: Sale, caller: Caller) -> SaleReading:
        read = SaleCounts(hot=self._shards[sale.shard], ledger=self._ledger)
        try:
            if caller.is_staff:
                counts = await read.counts(sale)
            else:
                counts = await self._recent.get(sale.sale_no, lambda: read.counts(sale))
        except (HotUnavailable, LedgerUnavailable):
            counts = None
        ledger = await self._ledger.counts(sale.sale_no) if caller.is_staff else None
        now_ms = await self.now_ms(sale.shard)
        return SaleReading(sale, sale.state_at(now_ms), counts, ledger, now_ms)

    async def load_if_new(self, sale: Sale) -> bool:
        """Gives Valkey a sale it never had. One it had and lost is not loaded: its counters are to be recounted."""
        try:
            if await self._ledger.is_loaded(sale.sale_no):
                return False
            await self._load(sale)
        except (HotUnavailable, ShardClosed, LedgerUnavailable):
            return False
        return True

    async def _load_or_say(self, sale: Sale) -> None:
        """Asks a second time before it says that Valkey is away: a call that was lost may be repeated."""
        for last in (False, True):
            try:
                return await self._load(sale)
            except (HotUnavailable, ShardClosed) as error:
                log.warning("sale_not_loaded", sale_no=sale.sale_no, error=str(error))
                if last:
                    raise OutcomeUnknown(
                        "The sale is made and will sell once Valkey is back; repeat with the same key."
                    ) from error
                await asyncio.sleep(_LOAD_PAUSE_S)

    async def _load(self, sale: Sale) -> None:
        """Raises HotUnavailable or ShardClosed; harmless when Valkey has the sale."""
        shard = self._shards[sale.shard]
        epoch = shard.epoch
        await shard.load_sale(sale)
        try:
            await self._ledger.mark_loaded(sale.sale_no, epoch)
        except GatewayError as error:
            # Valkey has it, which is what counts; the keeper finds that out and marks it.
            log.warning("sale_not_marked_loaded", sale_no=sale.sale_no, error=str(error))

    async def changed(self, sale: Sale) -> None:
        """What this process and the others know of the sale is old."""
        self._book.forget(sale.sale_no)
        self._recent.forget(sale.sale_no)
        await self._publisher.publish(bus.encode(bus.SaleChanged(sale.sale_no)))

    async def now_ms(self, shard_no: int) -> int:
        """Valkey's time, by which the scripts judge; this machine's while that was never heard."""
        shard, now_s = self._shards[shard_no], self._clock.monotonic()
        if not shard.clock.known or now_s - shard.clock.taken_s > _CLOCK_FRESH_S:
            try:
                await shard.read_clock(now_s)
            except HotUnavailable:
                pass
        return shard.clock.ms_at(self._clock.monotonic()) if shard.clock.known else self._clock.now_ms()
