"""What the last audit said of each sale, written by the keeper and read for the sale's hosts."""

from collections.abc import Sequence

import msgspec

from gateway.domain.invariant import BrokenRule, LedgerItem, LedgerMoment, Verdict
from gateway.ledger.pool import Ledger
from gateway.ledger.queries import load_queries

_QUERIES = load_queries("verdicts.sql")
_read_items = msgspec.json.Decoder(tuple[LedgerItem, ...]).decode
_read_broken = msgspec.json.Decoder(tuple[BrokenRule, ...]).decode
_to_json = msgspec.json.Encoder().encode

NEVER = "No audit has looked at this sale yet."


class LedgerVerdicts:
    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    async def write(self, verdicts: Sequence[tuple[int, Verdict]], *, ago_s: float) -> None:
        """By sale number, of an audit that began so long ago; one statement, whatever their number."""
        if not verdicts:
            return
        await self._ledger.execute(
            _QUERIES["write"],
            ago_s,
            [sale_no for sale_no, _ in verdicts],
            [verdict.holds for _, verdict in verdicts],
            [_to_json(verdict.broken).decode() for _, verdict in verdicts],
            [verdict.why_not for _, verdict in verdicts],
        )

    async def write_unmade(self, why_not: str) -> None:
        """An audit of what runs could not be made: nothing is known of any such sale any more."""
        await self._ledger.execute(_QUERIES["write_unmade"], why_not)

    async def moment(self, sale_no: int) -> LedgerMoment | None:
        row = await self._ledger.fetchrow(_QUERIES["moment"], sale_no)
        if row is None:
            return None
        verdict = Verdict(holds=None, why_not=NEVER)
        if row["audited"]:
            verdict = Verdict(
                holds=row["holds"],
                audited_at_ms=row["audited_at_ms"],
                broken=_read_broken(row["broken"]),
                why_not=row["why_not"],
            )
        return LedgerMoment(
            sale=row["sale"],
            shard=row["shard"],
            now_ms=row["now_ms"],
            epoch=row["epoch"],
            last_seq=row["last_seq"],
            outbox_no=row["outbox_no"],
            rebuilding=row["rebuilding"],
            retired=row["retired"],
            items=_read_items(row["items"] or "[]"),
            verdict=verdict,
        )
