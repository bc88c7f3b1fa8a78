"""The invariant of a sale for its hosts: the audit's last word on it, and where every unit is now."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from gateway.clock import Clock
from gateway.domain.caller import Caller
from gateway.domain.invariant import (
    HotMoment,
    ItemTerms,
    LedgerMoment,
    Verdict,
    are_one_moment,
    behind,
    terms_of,
)
from gateway.domain.sale import Sale
from gateway.errors import HotUnavailable, NotFound
from gateway.flows.access import require_host
from gateway.flows.paced import Paced

# A release that reaches Valkey between the two reads makes them no one moment; that it does so each time is rare.
_MORE_READS = 2


class Ledger(Protocol):
    """`gateway.ledger.verdicts.LedgerVerdicts`."""

    async def moment(self, sale_no: int) -> LedgerMoment | None: ...


class Shard(Protocol):
    async def moment(self, sale_no: int, item_nos: Sequence[int]) -> HotMoment: ...


class Sales(Protocol):
    async def find(self, caller: Caller, sale_id: str) -> Sale: ...


class InvariantReading(NamedTuple):
    sale: str
    at_ms: int
    verdict: Verdict
    behind: int | None
    """What is on its way in the sale's shard; None where the stores were not read as of one moment."""
    items: Sequence[ItemTerms]


class HostInvariant:
    """Nothing is audited here: the keeper does that. A sale is read at most once a second, however many poll it."""

    def __init__(self, *, sales: Sales, ledger: Ledger, shards: Mapping[int, Shard], clock: Clock) -> None:
        self._sales = sales
        self._ledger = ledger
        self._shards = shards
        self._readings: Paced[int, InvariantReading] = Paced(read=self._read, clock=clock)

    async def look(self, caller: Caller, sale_id: str) -> InvariantReading:
        require_host(caller)
        sale = await self._sales.find(caller, sale_id)
        return await self._readings.get(sale.sale_no)

    async def _read(self, sale_no: int) -> InvariantReading:
        ledger, hot = await self._both(sale_no)
        for _ in range(_MORE_READS):
            if hot is None or are_one_moment(ledger, hot):
                break
            ledger, hot = await self._both(sale_no)
        return InvariantReading(
            sale=ledger.sale,
            at_ms=ledger.now_ms,
            verdict=ledger.verdict,
            behind=behind(ledger, hot),
            items=terms_of(ledger, hot),
        )

    async def _both(self, sale_no: int) -> tuple[LedgerMoment, HotMoment | None]:
        """The ledger first, then at once Valkey, as the audit does it."""
        ledger = await self._ledger.moment(sale_no)
        if ledger is None:
            raise NotFound("There is no such sale.")
        if ledger.retired:
            return ledger, None
        try:
            return ledger, await self._shards[ledger.shard].moment(sale_no, [item.item_no for item in ledger.items])
        except HotUnavailable:
            return ledger, None
