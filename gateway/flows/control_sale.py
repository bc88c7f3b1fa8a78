"""What a host does to a running sale: open, pause, resume, close, change its stock. Other changes are change_sale.py's.

An act is in force from its script on and answered once the ledger has it, so that no rebuild can forget it.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.acts import Act
from gateway.domain.caller import Caller
from gateway.domain.drafts import Effect, fingerprint
from gateway.domain.sale import MAX_STOCK, Item, Sale, SaleState
from gateway.errors import (
    Conflict,
    Invalid,
    LedgerUnavailable,
    NotFound,
    OutcomeUnknown,
    StockInUse,
)
from gateway.flows.access import require_host
from gateway.flows.in_force import KEPT_WITHIN_S, Applied, in_force
from gateway.flows.sales import SaleReading, Sales

log = structlog.get_logger(__name__)

KIND = "stock"  # as the script names it in its entry, where the writer takes the effect's kind from


class Control(Protocol):
    async def act(
        self,
        sale_no: int,
        act: Act,
        *,
        actor: str,
        item_no: int = 0,
        value: int = 0,
        key: str = "",
        fingerprint: str = "",
        reason: str = "",
        shop: str = "",
        text: str = "",
        arrived_s: float | None = None,
    ) -> tuple[int, int, bool]:
        """(epoch, sequence number to wait for, replayed)."""
        ...


class Effects(Protocol):
    async def find(self, shop: str, effect: Effect) -> str | None: ...


class Acts(Protocol):
    async def was_refused(self, *, shard: int, epoch: int, seq: int, sale_no: int, act: Act) -> bool:
        """Whether the ledger has this act without effect: it could not take what Valkey took."""
        ...


class News(Protocol):
    """What the sale's room is told; best effort."""

    async def state(self, sale: Sale, state: SaleState) -> None: ...


class ControlSale:
    """Raises Conflict where the state forbids the act, OutcomeUnknown where it may be in force and not kept yet."""

    def __init__(
        self,
        *,
        sales: Sales,
        controls: Mapping[int, Control],
        effects: Effects,
        acts: Acts,
        applied: Applied,
        news: News,
        moved: Callable[[Iterable[int]], None],
        clock: Clock,
    ) -> None:
        """`moved` hears of sales whose stock is another one now."""
        self._sales = sales
        self._controls = controls
        self._effects = effects
        self._acts = acts
        self._applied = applied
        self._news = news
        self._moved = moved
        self._clock = clock

    async def act(self, caller: Caller, sale_id: str, act: Act) -> SaleReading:
        """Already so is as good as done."""
        require_host(caller)
        sale = await self._sales.find(caller, sale_id)
        if not (sale.retired and act is Act.CLOSE):
            await self._kept(sale, await self._in_force(sale, act, actor=caller.sub))
        reading = await self.afterwards(caller, sale)
        await self._news.state(reading.sale, reading.state)
        return reading

    async def change_stock(
        self, caller: Caller, sale_id: str, sku: str, *, add: int, reason: str, key: str
    ) -> tuple[SaleReading, Item, bool]:
        """The sale and the item afterwards, and whether the key had changed it before."""
        require_host(caller)
        sale = await self._sales.find(caller, sale_id)
        item = _item(sale, sku)
        content = fingerprint(sale.sale, sku, add, reason)
        # The ledger remembers for good what Valkey may have lost, and also a key used on another sale. Valkey remembers
        # for longer than an act may take from here on.
        arrived_s = self._clock.monotonic()
        replayed = await self._effects.find(caller.shop, Effect(caller.sub, KIND, key, content)) is not None
        if not replayed:
            if item.stock + add > MAX_STOCK:
                raise Invalid(f"The stock of an item is at most {MAX_STOCK}.", param="add")
            epoch, seq, replayed = await self._in_force(
                sale,
                Act.STOCK,
                actor=caller.sub,
                item_no=item.item_no,
                value=add,
                key=key,
                fingerprint=content,
                reason=reason,
                arrived_s=arrived_s,
            )
            await self._kept(sale, (epoch, seq, replayed))
            # The ledger remembers the keys of acts that had an effect, also of an epoch before this one.
            if await self._effects.find(caller.shop, Effect(caller.sub, KIND, key, content)) is None:
                raise StockInUse
        reading = await self.afterwards(caller, sale)
        self._moved([sale.sale_no])
        return reading, _item(reading.sale, sku), replayed

    async def keep(self, sale: Sale, act: Act, *, actor: str, item_no: int = 0, value: int = 0, text: str = "") -> None:
        """In force, and kept. Raises Conflict where the ledger could not take what Valkey took."""
        done = await self._in_force(sale, act, actor=actor, item_no=item_no, value=value, text=text)
        await self._kept(sale, done)
        if await self._was_refused(sale, act, done[0], done[1]):
            raise Conflict("The ledger could not take the act.")

    async def _in_force(
        self,
        sale: Sale,
        act: Act,
        *,
        actor: str,
        item_no: int = 0,
        value: int = 0,
        key: str = "",
        fingerprint: str = "",
        reason: str = "",
        text: str = "",
        arrived_s: float | None = None,
    ) -> tuple[int, int, bool]:
        """Asks until there is an answer, a few times at most."""
        if sale.retired:
            raise Conflict("The sale is over; it takes no acts any more.")
        arrived_s = self._clock.monotonic() if arrived_s is None else arrived_s

        async def ask() -> tuple[int, int, bool]:
            return await self._controls[sale.shard].act(
                sale.sale_no,
                act,
                actor=actor,
                item_no=item_no,
                value=value,
                key=key,
                fingerprint=fingerprint,
                reason=reason,
                shop=sale.shop,
                arrived_s=arrived_s,
                text=text,
            )

        return await in_force(ask, load_if_new=lambda: self._sales.load_if_new(sale), what=f"{act} of {sale.sale}")

    async def _kept(self, sale: Sale, done: tuple[int, int, bool]) -> None:
        epoch, seq, _ = done
        if seq and not await self._applied.reached(sale.shard, epoch, seq, within_s=KEPT_WITHIN_S):
            # In force; others must not go on showing what was before.
            await self._sales.changed(sale)
            raise OutcomeUnknown("The act is in force, and the ledger does not have it yet; repeat to be sure.")

    async def _was_refused(self, sale: Sale, act: Act, epoch: int, seq: int) -> bool:
        try:
            refused = await self._acts.was_refused(
                shard=sale.shard, epoch=epoch, seq=seq, sale_no=sale.sale_no, act=act
            )
        except LedgerUnavailable as error:
            raise OutcomeUnknown("The act is done, and the ledger cannot be read; repeat to see it.") from error
        if refused:
            log.error("act_without_effect", sale_no=sale.sale_no, act=str(act), epoch=epoch, seq=seq)
            await self._sales.changed(sale)
        return refused

    async def afterwards(self, caller: Caller, sale: Sale) -> SaleReading:
        await self._sales.changed(sale)
        try:
            return await self._sales.reading(await self._sales.find(caller, sale.sale), caller)
        except LedgerUnavailable as error:
            raise OutcomeUnknown("The act is done, and the ledger cannot be read; repeat to see it.") from error


def _item(sale: Sale, sku: str) -> Item:
    for item in sale.items:
        if item.sku == sku:
            return item
    raise NotFound("There is no such sku in this sale.", param="sku")
