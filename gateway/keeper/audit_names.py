"""Comparing a sale's keys and viewers, which are too many for one moment: Valkey is read in slices, and where a slice
differs from the ledger's snapshot, the same names are looked at again in moments of both stores. Broken is only what
differs in every one of them."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.keeper.audit_judge import Findings, SaleMoment, ShardMoment, judge_answer, shard_moment
from gateway.keeper.audit_ports import Hot, Ledger, SaleRow, Snapshot
from gateway.keeper.audit_report import BY_NAME, Rule

# Sequence numbers behind the cursor that one cut reads: a writer that keeps up is far below, and more would hold Valkey
# for longer than the script of an order group does.
MOST_BEHIND = 10_000
# How often differing names are looked at.
LOOKS = 3
# Names a look asks for at once; the script reads them in one command each.
NAMES_A_LOOK = 500
# Differing names of one sale that are kept for looking again; orders of the seconds that the scan takes are among them.
MOST_SUSPECTS = 100_000
# Broken names of one sale after which no further ones are looked at: it is a loss of many, whatever their number.
ENOUGH_BROKEN = 1000

_T = TypeVar("_T")


@dataclass(slots=True)
class Suspects:
    """Names of one sale that differed in a slice."""

    row: SaleRow
    answers: list[str]
    units: list[str]


class Names:
    def __init__(self, *, ledger: Ledger, hot: Hot, most_behind: int, pause_s: float) -> None:
        self._ledger = ledger
        self._hot = hot
        self._most_behind = most_behind
        self._pause_s = pause_s

    async def scan(self, snapshot: Snapshot, sale: SaleMoment, findings: Findings) -> Suspects:
        """Names of a sale for which Valkey, read in slices after the cut, is not what the ledger and the entries behind
        its cursor say."""
        shard, sale_no, released = sale.shard.row.shard, sale.row.sale_no, sale.shard.cut.released
        behind = sale.shard.behind
        answers = await differing(
            lambda: snapshot.answers(sale_no),
            self._hot.scan_answers(shard, sale_no),
            instead=fields_of(behind.answers[sale_no]),
            outdated=(),
        )
        more = behind.viewers[sale_no]
        had: Counter[str] = Counter()
        if more:
            for row in await snapshot.units_named(sale_no, shard, released, list(more)):
                had[row.field] += row.held + row.ending
        units = await differing(
            lambda: snapshot.units(sale_no, shard, released),
            self._hot.scan_units(shard, sale_no),
            instead={_bytes(name): b"%d" % (had[name] + count) for name, count in more.items()},
            outdated=[b"%b\n%d" % (_bytes(name), count) for name, count in had.items()],
        )
        if max(len(answers), len(units)) > MOST_SUSPECTS:
            findings.not_now(BY_NAME, f"sale {sale.row.sale}: more than {MOST_SUSPECTS} names differ", sales=[sale_no])
        return Suspects(sale.row, answers, units)

    async def look_again(self, suspects: Suspects, findings: Findings) -> None:
        """Judges each differing name in a moment of both stores."""
        for kind in (Suspects(suspects.row, suspects.answers, []), Suspects(suspects.row, [], suspects.units)):
            broken = 0
            for at in range(0, max(len(kind.answers), len(kind.units)), NAMES_A_LOOK):
                part = slice(at, at + NAMES_A_LOOK)
                broken += await self._look(kind.row, kind.answers[part], kind.units[part], findings)
                if broken >= ENOUGH_BROKEN:
                    why_not = f"sale {suspects.row.sale}: not looked at all names that differ"
                    findings.not_now(BY_NAME, why_not, sales=[suspects.row.sale_no])
                    break

    async def _look(self, sale: SaleRow, answers: list[str], units: list[str], findings: Findings) -> int:
        """How many of the names are broken."""
        why_not = ""
        broken: dict[str, tuple[Rule, str]] = {}
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(self._pause_s)
            async with self._ledger.snapshot() as snapshot:
                row = next(row for row in await snapshot.shards() if row.shard == sale.shard)
                cut = await self._hot.cut(
                    row.shard,
                    epoch=row.epoch,
                    after=row.last_seq,
                    most=self._most_behind,
                    sales=[sale.sale_no],
                    named_sale=sale.sale_no,
                    answers=answers,
                    units=units,
                )
                moment = shard_moment(row, cut)
                why_not = moment.why_not
                if why_not:
                    continue
                if sale.sale_no not in cut.sales:
                    return 0  # it was retired meanwhile; one that should be there is found missing as a whole
                broken = await self._compare(snapshot, sale.sale_no, moment, answers, units)
            answers = [name for name in answers if name in broken]
            units = [name for name in units if name in broken]
            if not broken:
                break
        if why_not:
            findings.not_now(BY_NAME, why_not, sales=[sale.sale_no])
            return 0
        for name, (rule, text) in broken.items():
            findings[rule].add(f"sale {sale.sale} {name}: {text}", sales=[sale.sale_no])
        return len(broken)

    async def _compare(
        self, snapshot: Snapshot, sale_no: int, moment: ShardMoment, answers: Sequence[str], units: Sequence[str]
    ) -> dict[str, tuple[Rule, str]]:
        broken: dict[str, tuple[Rule, str]] = {}
        cut, behind, shard = moment.cut, moment.behind, moment.row.shard
        if answers:
            orders = _grouped(await snapshot.answers_named(sale_no, answers), lambda order: order.field)
            refusing = _grouped(
                await snapshot.refusing_named(sale_no, shard, cut.released, answers), lambda refused: refused[0]
            )
            for name in answers:
                found = judge_answer(
                    cut.answers.get(name),
                    orders.get(name, ()),
                    behind.answers[sale_no].get(name),
                    {place for _, place in refusing.get(name, ())},
                )
                if found:
                    broken[name] = found
        if units:
            had = {row.field: row for row in await snapshot.units_named(sale_no, shard, cut.released, units)}
            for name in units:
                row, waiting = had.get(name), behind.viewers[sale_no][name]
                held, ending = (row.held, row.ending) if row is not None else (0, 0)
                hot = cut.units.get(name, 0)
                if hot != held + waiting + ending:
                    text = f"{hot} units in Valkey, {held} held + {waiting} waiting + {ending} releasing"
                    broken[name] = (Rule.UNITS, text)
        return broken


async def differing(
    expected: Callable[[], AsyncIterator[Sequence[bytes]]],
    scanned: AsyncIterator[Mapping[bytes, bytes]],
    *,
    instead: Mapping[bytes, bytes],
    outdated: Iterable[bytes],
) -> list[str]:
    """Names that Valkey has otherwise than expected, or lacks; at most one more than `MOST_SUSPECTS`.

    `instead` are fields that the ledger does not have yet, or has as an `outdated` line. Lines are compared by their
    64-bit hash, so that the names of a sale need not all stand in memory."""
    must, seen = _Hashes(), _Hashes()
    async for lines in expected():
        must.add(map(hash, lines))
    must.take(map(hash, outdated))
    newer = {hash(b"%b\n%b" % (name, value)): name for name, value in instead.items()}
    must.add(newer)

    # What was seen leaves `must`; a slice may give again what one before it gave.
    found: set[bytes] = set()
    async for fields in scanned:
        here = {hash(b"%b\n%b" % (name, value)): name for name, value in fields.items()}
        strange = must.take(here)
        if strange and len(found) <= MOST_SUSPECTS:
            found.update(here[each] for each in strange - seen.has(strange))
        seen.add(here.keys() - strange)
    await seen.drop()
    if must:
        found.update(newer[each] for each in must.has(newer))
        async for lines in expected():
            if len(found) > MOST_SUSPECTS:
                break
            by_hash = {hash(line): line for line in lines}
            found.update(by_hash[each].rpartition(b"\n")[0] for each in must.has(by_hash))
    await must.drop()
    names = [name.decode("utf-8", "surrogateescape") for name in found]
    return sorted(names)[: MOST_SUSPECTS + 1]


class _Hashes:
    """Many hashes in parts, none of which holds up the process when it grows or goes: a set of a million takes a tenth
    of a second for either."""

    _PART = 131_072

    def __init__(self) -> None:
        self._parts: list[set[int]] = [set()]

    def __bool__(self) -> bool:
        return any(self._parts)

    def add(self, hashes: Iterable[int]) -> None:
        if len(self._parts[-1]) >= self._PART:
            self._parts.append(set())
        self._parts[-1].update(hashes)

    def take(self, hashes: Iterable[int]) -> set[int]:
        """Takes them out; those that are not here are answered."""
        rest = set(hashes)
        for part in self._parts:
            here = rest & part
            part -= here
            rest -= here
            if not rest:
                break
        return rest

    def has(self, hashes: Iterable[int]) -> set[int]:
        """Those that are here."""
        rest, found = set(hashes), set[int]()
        for part in self._parts:
            found |= rest & part
        return found

    async def drop(self) -> None:
        while self._parts:
            self._parts.pop()
            await asyncio.sleep(0)


def fields_of(texts: Mapping[str, str]) -> dict[bytes, bytes]:
    return {_bytes(name): _bytes(value) for name, value in texts.items()}


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _grouped(rows: Iterable[_T], key: Callable[[_T], str]) -> dict[str, list[_T]]:
    groups: defaultdict[str, list[_T]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups
