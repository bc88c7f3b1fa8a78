"""The audit: whether every invariant holds, from Valkey and PostgreSQL alone, also while a sale runs.

The ledger is read first, in one snapshot with its cursors; then one script a shard reads Valkey's counters together
with the stream entries behind the cursor. What the ledger has plus what these entries say must be what Valkey has,
exactly. Keys and viewers are too many for one moment: they are read in slices, and where a slice differs, the same
names are looked at again in a moment of both stores, so that only what stays different is broken.

Here: reading in this order, folding, judging. Not here: how the stores are read, and what is done about a violation.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from gateway.errors import NotFound
from gateway.keeper.audit_fold import (
    LIVE,
    Findings,
    SaleMoment,
    ShardMoment,
    judge_answer,
    judge_item,
    judge_shard,
    shard_moment,
)
from gateway.keeper.audit_ports import Hot, ItemRow, Ledger, Line, ParkedRow, SaleRow, Snapshot, SumRow
from gateway.keeper.audit_report import BY_NAME, LISTED, OF_SHARDS, ON_THE_CUT, AuditReport, Figures, Rule
from gateway.metrics import AUDIT_VIOLATIONS

# Sequence numbers behind the cursor that one cut reads: a writer that keeps up is far below, and more would hold Valkey
# for longer than the script of an order group does.
MOST_BEHIND = 10_000
# Sales whose counters one cut reads; each has at most a thousand fields.
SALES_A_CUT = 16
# How often a cut is taken before it is said that there is none just now, and how often differing names are looked at.
CUTS, LOOKS = 5, 3
PAUSE_S = 0.2
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


class Auditor:
    """Judges the sales of a ledger and the shards they are in. Reads only; a run keeps one ledger snapshot open.

    Memory: some 150 bytes an order of the largest sale. Raises NotFound for a sale that is not there, and what
    the stores raise when they are away."""

    def __init__(self, *, ledger: Ledger, hot: Hot, most_behind: int = MOST_BEHIND, pause_s: float = PAUSE_S) -> None:
        self._ledger = ledger
        self._hot = hot
        self._most_behind = most_behind
        self._pause_s = pause_s

    async def run(self, *, sale: str | None = None, final: bool = False) -> AuditReport:
        """One sale with its shard, or all. `final`: nothing is to wait in the stream or the outbox any more."""
        for again in range(CUTS - 1, -1, -1):
            findings = Findings()
            async with self._ledger.snapshot() as snapshot:
                shards, sales = await self._take_cut(snapshot, sale)
                waits = any(each.why_not for each in shards) or (
                    final and any(each.pending or each.cut.seq > each.row.last_seq for each in shards)
                )
                if not waits or again == 0:
                    figures = await self._judge(snapshot, shards, sales, findings, final=final)
                    suspects = [
                        await self._scan(snapshot, each, findings)
                        for each in sales
                        if each.items is not None and not each.shard.why_not
                    ]
                    break
            await asyncio.sleep(self._pause_s)
        for each in suspects:
            await self._look_again(each, findings)
        AUDIT_VIOLATIONS.set(sum(finding.total for finding in findings.values()))
        checks = [findings[rule].check(rule) for rule in Rule if final or rule is not Rule.DRAINED]
        return AuditReport(holds=all(check.holds for check in checks), checks=checks, figures=figures)

    async def _take_cut(self, snapshot: Snapshot, sale: str | None) -> tuple[list[ShardMoment], list[SaleMoment]]:
        """The ledger's cursors, then Valkey: a moment a shard, and for its sales the moment they were read in."""
        rows = {row.shard: row for row in await snapshot.shards()}
        sale_rows = await snapshot.sales(sale)
        if sale is not None:
            if not sale_rows:
                raise NotFound("There is no such sale.", param="sale")
            rows = {row.shard: rows[row.shard] for row in sale_rows}
        pending = await snapshot.pending(rows.keys())
        shards: list[ShardMoment] = []
        sales: list[SaleMoment] = []
        for row in rows.values():
            of_shard = [each for each in sale_rows if each.shard == row.shard]
            for part in _parts(of_shard, SALES_A_CUT) or [[]]:
                cut = await self._hot.cut(
                    row.shard,
                    epoch=row.epoch,
                    after=row.last_seq,
                    most=self._most_behind,
                    sales=[each.sale_no for each in part],
                )
                moment = shard_moment(row, cut, pending)
                known = row.last_seq or row.outbox_no or any(each.loaded_epoch for each in of_shard)
                if cut.epoch == 0 and not known:
                    moment.untouched, moment.why_not = True, ""
                shards.append(moment)
                sales += [SaleMoment(each, moment) for each in part]
        return shards, sales

    async def _judge(
        self,
        snapshot: Snapshot,
        shards: Sequence[ShardMoment],
        sales: Sequence[SaleMoment],
        findings: Findings,
        *,
        final: bool,
    ) -> Figures:
        by_shard = {moment.row.shard: moment for moment in shards}
        for moment in by_shard.values():
            if not moment.untouched:
                judge_shard(moment, findings, final=final)
        for moment in shards:
            if moment.why_not:
                findings.not_now((*ON_THE_CUT, *BY_NAME), moment.why_not)
        for each in sales:
            if each.items is None and each.should_be_there:
                findings[Rule.STOCK].add(f"sale {each.row.sale}: Valkey does not have it")
        by_no = {each.row.sale_no: each for each in sales}
        items = await snapshot.items(by_no.keys())
        sums = await snapshot.sums(by_no.keys())
        units: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        for row in sums:
            units[row.sale_no, row.item_no][row.status] += row.units
        for item in items:
            judge_item(by_no[item.sale_no], item, units.pop((item.sale_no, item.item_no), Counter()), findings)
        for (sale_no, item_no), by_status in units.items():
            # Orders of an item that is not there are refused.
            if any(by_status[status] for status in LIVE):
                findings[Rule.COUNTERS].add(f"sale {by_no[sale_no].row.sale}: live orders of an item {item_no}")
        await self._judge_rows(snapshot, list(by_no), findings)
        await self._judge_numbers(snapshot, by_shard, findings)
        parked, parked_in_all = await snapshot.parked(by_shard.keys(), most=LISTED)
        figures = _figures(by_shard.values(), sales, items, sums, parked, parked_in_all)
        orders = sum(figures.orders.values())
        for rule in Rule:
            findings[rule].looked_at = f"{len(sales)} sales, {len(items)} items, {orders} orders"
        for rule in OF_SHARDS:
            findings[
                rule
            ].looked_at = f"{len(by_shard)} shards, {figures.backlog} behind the cursor, {parked_in_all} parked"
        return figures

    async def _judge_rows(self, snapshot: Snapshot, sales: Collection[int], findings: Findings) -> None:
        for rule, ask in (
            (Rule.HOLDINGS, snapshot.holdings_off),
            (Rule.LIMITS, snapshot.limits_off),
            (Rule.KEYS, snapshot.keys_off),
            (Rule.AMOUNTS, snapshot.amounts_off),
            (Rule.PRICES, snapshot.prices_off),
        ):
            found = await ask(sales, most=LISTED)
            findings[rule].add(*found.texts, total=found.total)

    async def _judge_numbers(self, snapshot: Snapshot, shards: Mapping[int, ShardMoment], findings: Findings) -> None:
        counted = {row.shard: row for row in await snapshot.numbers(shards.keys())}
        off = []
        for shard, moment in shards.items():
            row, end = counted.get(shard), moment.row.last_seq
            whole = end == 0 if row is None else (row.numbers, row.times, row.lowest, row.highest) == (end, end, 1, end)
            if not whole:
                off.append(shard)
        if off:
            found = await snapshot.numbers_off(off, most=LISTED)
            findings[Rule.NUMBERS].add(*found.texts, total=found.total)

    async def _scan(self, snapshot: Snapshot, sale: SaleMoment, findings: Findings) -> Suspects:
        """Names of a sale for which Valkey, read in slices after the cut, is not what the ledger and the entries behind
        its cursor say."""
        shard, sale_no = sale.shard.row.shard, sale.row.sale_no
        behind = sale.shard.behind
        answers = await _differing(
            lambda: snapshot.answers(sale_no),
            self._hot.scan_answers(shard, sale_no),
            instead={_bytes(name): _bytes(answer) for name, answer in behind.answers[sale_no].items()},
            outdated=(),
        )
        more = Counter(behind.viewers[sale_no])
        for release in sale.shard.pending:
            if release.sale_no == sale_no:
                more[release.units_field] += release.quantity
        held = await snapshot.units_named(sale_no, list(more)) if more else {}
        units = await _differing(
            lambda: snapshot.units(sale_no),
            self._hot.scan_units(shard, sale_no),
            instead={_bytes(name): b"%d" % (held.get(name, 0) + count) for name, count in more.items()},
            outdated=[b"%b\n%d" % (_bytes(name), count) for name, count in held.items()],
        )
        if max(len(answers), len(units)) > MOST_SUSPECTS:
            findings.not_now(BY_NAME, f"sale {sale.row.sale}: more than {MOST_SUSPECTS} names differ")
        return Suspects(sale.row, answers, units)

    async def _look_again(self, suspects: Suspects, findings: Findings) -> None:
        """Judges each differing name in a moment of both stores; broken is what differs in every one of them."""
        for kind in (Suspects(suspects.row, suspects.answers, []), Suspects(suspects.row, [], suspects.units)):
            broken = 0
            for at in range(0, max(len(kind.answers), len(kind.units)), NAMES_A_LOOK):
                part = slice(at, at + NAMES_A_LOOK)
                broken += await self._look(kind.row, kind.answers[part], kind.units[part], findings)
                if broken >= ENOUGH_BROKEN:
                    findings.not_now(BY_NAME, f"sale {suspects.row.sale}: not looked at all names that differ")
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
                    named_sale=sale.sale_no,
                    answers=answers,
                    units=units,
                )
                moment = shard_moment(row, cut, await snapshot.pending([row.shard]))
                why_not = moment.why_not
                if why_not:
                    continue
                broken = await self._compare_names(snapshot, sale, moment, answers, units)
            answers = [name for name in answers if name in broken]
            units = [name for name in units if name in broken]
            if not broken:
                break
        if why_not:
            findings.not_now(BY_NAME, why_not)
            return 0
        for name, (rule, text) in broken.items():
            findings[rule].add(f"sale {sale.sale} {name}: {text}")
        return len(broken)

    async def _compare_names(
        self, snapshot: Snapshot, sale: SaleRow, moment: ShardMoment, answers: Sequence[str], units: Sequence[str]
    ) -> dict[str, tuple[Rule, str]]:
        broken: dict[str, tuple[Rule, str]] = {}
        releasing = [p for p in moment.pending if p.sale_no == sale.sale_no]
        cut, behind = moment.cut, moment.behind
        if answers:
            orders = _grouped(await snapshot.answers_named(sale.sale_no, answers), lambda order: order.field)
            places = _grouped(releasing, lambda release: release.answer_field)
            for name in answers:
                found = judge_answer(
                    cut.answers.get(name),
                    orders.get(name, ()),
                    behind.answers[sale.sale_no].get(name),
                    {(release.epoch, release.seq) for release in places.get(name, ())},
                )
                if found:
                    broken[name] = found
        if units:
            held = await snapshot.units_named(sale.sale_no, units)
            quantities = _grouped(releasing, lambda release: release.units_field)
            for name in units:
                waiting = behind.viewers[sale.sale_no][name]
                ending = sum(release.quantity for release in quantities.get(name, ()))
                if cut.units.get(name, 0) != held.get(name, 0) + waiting + ending:
                    broken[name] = (
                        Rule.UNITS,
                        f"{cut.units.get(name, 0)} units in Valkey, {held.get(name, 0)} held + {waiting} waiting"
                        f" + {ending} releasing",
                    )
        return broken


def _figures(
    shards: Iterable[ShardMoment],
    sales: Sequence[SaleMoment],
    items: Sequence[ItemRow],
    sums: Sequence[SumRow],
    parked: Sequence[ParkedRow],
    parked_in_all: int,
) -> Figures:
    orders: Counter[str] = Counter()
    units: Counter[str] = Counter()
    for row in sums:
        orders[row.status] += row.orders
        units[row.status] += row.units
    by_no = {each.row.sale_no: each for each in sales}
    stock = left = waiting = releasing = 0
    for item in items:
        sale = by_no[item.sale_no]
        hot = (sale.items or {}).get(item.item_no)
        # What Valkey does not have sells nothing, so the ledger knows what is left.
        left += item.stock - item.held - item.sold if hot is None else hot.left
        stock += item.stock + sale.shard.behind.stock[item.sale_no, item.item_no]
        waiting += sale.shard.behind.units[item.sale_no, item.item_no]
        releasing += sum(
            p.quantity for p in sale.shard.pending if (p.sale_no, p.item_no) == (item.sale_no, item.item_no)
        )
    return Figures(
        sales=len(sales),
        orders=dict(orders),
        units=dict(units),
        stock=stock,
        left=left,
        held=sum(item.held for item in items),
        sold=sum(item.sold for item in items),
        waiting=waiting,
        releasing=releasing,
        backlog=sum(max(0, moment.cut.seq - moment.row.last_seq) for moment in shards),
        parked=parked_in_all,
        parked_entries=[
            f"shard {row.shard} epoch {row.epoch}: {row.first_seq} to {row.last_seq}: {row.reason}" for row in parked
        ],
    )


async def _differing(
    expected: Callable[[], AsyncIterator[Sequence[Line]]],
    scanned: AsyncIterator[Mapping[bytes, bytes]],
    *,
    instead: Mapping[bytes, bytes],
    outdated: Iterable[bytes],
) -> list[str]:
    """Names that Valkey has otherwise than expected, or lacks; at most one more than `MOST_SUSPECTS`.

    `instead` are fields that the ledger does not have yet, or has as an `outdated` line. Lines are compared by their
    64-bit hash, so that the names of a sale need not all stand in memory."""
    must: set[int] = set()
    may: set[int] = set()
    async for lines in expected():
        must.update([hash(line) for line, live in lines if live])
        may.update([hash(line) for line, live in lines if not live])
    must.difference_update(map(hash, outdated))
    newer = {hash(b"%b\n%b" % (name, value)): name for name, value in instead.items()}
    must.update(newer)
    may |= must

    found: set[bytes] = set()
    async for fields in scanned:
        seen = {hash(b"%b\n%b" % (name, value)): name for name, value in fields.items()}
        must.difference_update(seen)
        if len(found) <= MOST_SUSPECTS:
            found.update(seen[strange] for strange in seen.keys() - may)
    if must:
        found.update(name for key, name in newer.items() if key in must)
        async for lines in expected():
            if len(found) > MOST_SUSPECTS:
                break
            found.update(line.rpartition(b"\n")[0] for line, _ in lines if hash(line) in must)
    names = [name.decode("utf-8", "surrogateescape") for name in found]
    return sorted(names)[: MOST_SUSPECTS + 1]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _parts(rows: Sequence[_T], most: int) -> list[list[_T]]:
    return [list(rows[at : at + most]) for at in range(0, len(rows), most)]


def _grouped(rows: Iterable[_T], key: Callable[[_T], str]) -> dict[str, list[_T]]:
    groups: defaultdict[str, list[_T]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return groups
