"""The audit: whether every invariant holds, from Valkey and PostgreSQL alone, also while a sale runs.

The ledger is read first, in one snapshot with its cursors; right after it one script a shard reads Valkey's counters
together with the stream entries behind the cursor. What the ledger has plus what these entries say must be what Valkey
has, exactly. Keys and viewers are too many for one moment: see `audit_names.py`.

Here: reading in this order, folding, judging. Not here: how the stores are read, and what is done about a violation.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import TypeVar

from gateway.errors import NotFound
from gateway.keeper.audit_claims import ClaimNames
from gateway.keeper.audit_coupons import CouponMoment, judge_coupon
from gateway.keeper.audit_figures import figures_of
from gateway.keeper.audit_judge import (
    LIVE,
    Findings,
    SaleMoment,
    ShardMoment,
    judge_item,
    judge_money,
    judge_outbox,
    judge_sale,
    judge_shard,
    shard_moment,
)
from gateway.keeper.audit_names import MOST_BEHIND, Names
from gateway.keeper.audit_ports import Hot, Ledger, Snapshot
from gateway.keeper.audit_report import (
    BY_CLAIM,
    BY_NAME,
    LISTED,
    OF_MONEY,
    OF_SHARDS,
    ON_THE_CUT,
    AuditReport,
    Figures,
    Rule,
)
from gateway.keeper.audit_verdict import findings_of

# Sales whose counters one cut reads; each has at most a thousand fields.
SALES_A_CUT = 16
# Coupons whose counters one cut reads, in the same way.
COUPONS_A_CUT = 50
# How often a cut is taken before it is said that there is none just now.
CUTS = 5
PAUSE_S = 0.2
# Lists of what is wrong in the ledger by itself; each query answers for one rule or more.
_LISTS = {
    "holdings": (Rule.HOLDINGS, Rule.LIMITS),
    "keys": (Rule.KEYS,),
    "orders": (Rule.AMOUNTS, Rule.PRICES, Rule.STATES),
    "discounts": (Rule.DISCOUNTS,),
    "deadlines": (Rule.DEADLINES,),
    "overdue": (Rule.OVERDUE,),
    "transactions": (Rule.TRANSACTIONS,),
    "paid": (Rule.PAID,),
    "late": (Rule.LATE,),
    "late_waits": (Rule.LATE_WAITS,),
    "revived": (Rule.REVIVED,),
    "refunds": (Rule.REFUNDS,),
    "money_of_orders": (Rule.MONEY_OF_ORDERS,),
}

_CLAIM_LISTS = {
    "claim_holdings": (Rule.CLAIM_HOLDINGS, Rule.CLAIM_LIMITS),
    "claim_keys": (Rule.CLAIM_KEYS,),
    "claim_states": (Rule.CLAIM_STATES,),
    "redeemed": (Rule.REDEEMED,),
}

_T = TypeVar("_T")


class Auditor:
    """Judges the sales of a ledger and the shards they are in. Reads only; a run keeps one ledger snapshot open.

    Memory: some 100 bytes an order of the largest sale. Raises NotFound for a sale that is not there, and what
    the stores raise when they are away."""

    def __init__(self, *, ledger: Ledger, hot: Hot, most_behind: int = MOST_BEHIND, pause_s: float = PAUSE_S) -> None:
        self._ledger = ledger
        self._hot = hot
        self._most_behind = most_behind
        self._pause_s = pause_s
        self._claim_names = ClaimNames(ledger=ledger, hot=hot, most_behind=most_behind, pause_s=pause_s)
        self._names = Names(ledger=ledger, hot=hot, most_behind=most_behind, pause_s=pause_s)
        self._floors: dict[tuple[int, int], int] | None = None
        """Where the audits of what runs have found the numbers whole."""

    async def run(self, *, sale: str | None = None, running: bool = False, final: bool = False) -> AuditReport:
        """One sale with its shard, or all, or (`running`) those that Valkey sells or settles. These are audited again
        and again, so sequence numbers are looked through only once: each time those since the last time, beginning
        with the first. `final`: nothing is to wait in the stream or the outbox any more."""
        for again in range(CUTS - 1, -1, -1):
            findings = Findings()
            async with self._ledger.snapshot() as snapshot:
                plan = await snapshot.plan(sale, running=running)
                coupon_plan = await snapshot.plan_coupons(sale, running=running)
            if sale is not None and not plan:
                raise NotFound("There is no such sale.", param="sale")
            async with self._ledger.snapshot() as snapshot:
                shards, sales, coupons = await self._take_cut(snapshot, plan, coupon_plan, whole_shards=sale is None)
                waits = any(each.why_not for each in shards) or (
                    final and any(each.pending_rows or each.cut.seq > each.row.last_seq for each in shards)
                )
                if not waits or again == 0:
                    figures = await self._judge(
                        snapshot, shards, sales, coupons, findings, running=running, one=sale is not None
                    )
                    suspects = [
                        await self._names.scan(snapshot, each, findings)
                        for each in sales
                        if each.hot is not None and not each.shard.why_not
                    ]
                    claim_suspects = [
                        await self._claim_names.scan(snapshot, coupon, findings)
                        for coupon in coupons
                        if coupon.hot is not None and not coupon.shard.why_not
                    ]
                    break
            await asyncio.sleep(self._pause_s)
        await self._judge_moments(shards, sales, findings, final=final)
        for suspect in suspects:
            await self._names.look_again(suspect, findings)
        for claim_suspect in claim_suspects:
            await self._claim_names.look_again(claim_suspect, findings)
        ids = {each.row.sale_no: each.row.sale for each in sales}
        checks = [findings[rule].check(rule, ids) for rule in Rule if final or rule is not Rule.DRAINED]
        return AuditReport(
            holds=all(check.holds for check in checks),
            checks=checks,
            figures=figures,
            by_sale=[findings_of(each, findings) for each in sales],
        )

    async def _take_cut(
        self,
        snapshot: Snapshot,
        plan: Sequence[tuple[int, int]],
        coupon_plan: Sequence[tuple[int, int]],
        *,
        whole_shards: bool,
    ) -> tuple[list[ShardMoment], list[SaleMoment], list[CouponMoment]]:
        """The ledger's cursors, then at once Valkey: a moment a shard, and for its sales and coupons the moment they
        were read in. The longer it takes between them, the likelier is a release that Valkey has and the snapshot does
        not."""
        by_shard, coupons_of = _by_shard(plan), _by_shard(coupon_plan)
        taken: list[tuple[ShardMoment, list[int], list[int]]] = []
        for row in await snapshot.shards():
            if row.shard not in by_shard and not whole_shards:
                continue
            parts = zip_longest(
                _parts(by_shard[row.shard], SALES_A_CUT) or [[]],
                _parts(coupons_of[row.shard], COUPONS_A_CUT),
                fillvalue=list[int](),
            )
            for part, coupon_part in parts:
                cut = await self._hot.cut(
                    row.shard,
                    epoch=row.epoch,
                    after=row.last_seq,
                    most=self._most_behind,
                    sales=part,
                    coupons=coupon_part,
                )
                taken.append((shard_moment(row, cut), part, coupon_part))
        rows = {row.sale_no: row for row in await snapshot.sales([sale_no for _, sale_no in plan])}
        told = {(moment.row.shard, moment.cut.released) for moment, *_ in taken}
        pending = await snapshot.pending(told)
        refused = {(row.shard, row.after, row.coupon_no): row for row in await snapshot.pending_claims(told)}
        found = {row.coupon.coupon_no: row for row in await snapshot.coupons([no for _, no in coupon_plan])}
        sales, coupons = [], []
        for moment, part, coupon_part in taken:
            for coupon_no in coupon_part:
                coupons.append(CouponMoment(found[coupon_no], moment))
                left = refused.get((moment.row.shard, moment.cut.released, coupon_no))
                if left is not None:
                    moment.refused_claims[coupon_no] = (left.claims, left.worth_minor)
            for waiting in pending:
                if (waiting.shard, waiting.after) == (moment.row.shard, moment.cut.released):
                    moment.pending[waiting.sale_no, waiting.item_no][waiting.kind] += waiting.units
                    moment.pending_rows += waiting.rows
            sales += [SaleMoment(rows[sale_no], moment) for sale_no in part]
            row = moment.row
            known = row.last_seq or row.outbox_no or any(rows[sale_no].loaded_epoch for sale_no in part)
            known = known or any(found[coupon_no].loaded_epoch for coupon_no in coupon_part)
            if moment.cut.epoch == 0 and row.epoch == 1 and not known:
                moment.untouched, moment.why_not = True, ""
        return [moment for moment, *_ in taken], sales, coupons

    async def _judge(
        self,
        snapshot: Snapshot,
        shards: Sequence[ShardMoment],
        sales: Sequence[SaleMoment],
        coupons: Sequence[CouponMoment],
        findings: Findings,
        *,
        running: bool,
        one: bool,
    ) -> Figures:
        """What needs the snapshot that the cut was taken with."""
        by_shard = {moment.row.shard: moment for moment in shards}
        for outbox in await snapshot.outbox(by_shard.keys()):
            judge_outbox(by_shard[outbox.shard], outbox, findings)
        by_no = {each.row.sale_no: each for each in sales}
        items = await snapshot.items(by_no.keys())
        sums = await snapshot.sums(by_no.keys())
        units: defaultdict[tuple[int, int], Counter[str]] = defaultdict(Counter)
        paid: Counter[int] = Counter()
        for row in sums:
            units[row.sale_no, row.item_no][row.status] += row.units
            paid[row.sale_no] += row.amount_minor if row.status == "paid" else 0
        for item in items:
            judge_item(by_no[item.sale_no], item, units.pop((item.sale_no, item.item_no), Counter()), findings)
        for (sale_no, item_no), by_status in units.items():
            # Orders of an item that is not there are refused.
            if any(by_status[status] for status in LIVE):
                text = f"sale {by_no[sale_no].row.sale}: live orders of an item {item_no}"
                findings[Rule.COUNTERS].add(text, sales=[sale_no])
        received: defaultdict[int, dict[str, int]] = defaultdict(dict)
        money = await snapshot.money(by_no.keys(), of_no_sale=not (running or one))
        for sum_of in money:
            if sum_of.sale_no is not None:
                received[sum_of.sale_no][sum_of.state] = sum_of.amount_minor
        for each in sales:
            judge_money(each.row, received[each.row.sale_no], paid[each.row.sale_no], findings)
        for coupon in coupons:
            judge_coupon(coupon, findings)
        distrusted = await self._judge_lists(snapshot, sales, coupons, findings)
        await self._judge_numbers(snapshot, by_shard, findings, running=running)
        parked, parked_in_all = await snapshot.parked(by_shard.keys(), most=LISTED)
        figures = figures_of(by_shard.values(), sales, items, sums, coupons, money, parked, parked_in_all)
        of_sales = f"{len(sales)} sales, {len(items)} items, {sum(figures.orders.values())} orders"
        of_shards = f"{len(by_shard)} shards, {figures.backlog} behind the cursor, {parked_in_all} parked"
        for rule in Rule:
            findings[rule].looked_at = of_shards if rule in OF_SHARDS else of_sales
        for rule in OF_MONEY:
            findings[rule].looked_at = f"{of_sales}, {sum(figures.payments.values())} payments"
        if distrusted:
            findings[Rule.OVERDUE].looked_at += f"; not those of shards whose clocks are not trusted ({distrusted})"
        return figures

    async def _judge_moments(
        self, shards: Sequence[ShardMoment], sales: Sequence[SaleMoment], findings: Findings, *, final: bool
    ) -> None:
        """What the two stores say of each other. The ledger is asked once more, after Valkey: what has begun or gone
        between the two is no violation."""
        missing = [each.row.sale_no for each in sales if each.hot is None and each.should_be_there]
        async with self._ledger.snapshot() as snapshot:
            later = {row.shard: row for row in await snapshot.shards()}
            gone = {row.sale_no for row in await snapshot.sales(missing) if row.retired} if missing else set()
        for moment in {moment.row.shard: moment for moment in shards if not moment.untouched}.values():
            judge_shard(moment, later[moment.row.shard], findings, final=final)
        for each in sales:
            if each.row.sale_no not in gone:
                judge_sale(each, findings)
        for moment in shards:
            if moment.why_not:
                unjudged = [each.row.sale_no for each in sales if each.shard is moment]
                findings.not_now((*ON_THE_CUT, *BY_NAME, *BY_CLAIM), moment.why_not, sales=unjudged)

    async def _judge_lists(
        self,
        snapshot: Snapshot,
        sales: Sequence[SaleMoment],
        coupons: Sequence[CouponMoment],
        findings: Findings,
    ) -> str:
        """Answers the shards whose clocks are not trusted: nothing expires there, and nothing is overdue."""
        every = [each.row.sale_no for each in sales]
        timely = [each.row.sale_no for each in sales if not each.shard.cut.distrusts_clocks]
        for what, rules in _LISTS.items():
            found = await snapshot.off(what, timely if what == "overdue" else every, most=LISTED)
            findings.add_listed(rules, found)
        coupon_nos = [each.coupon_no for each in coupons]
        for what, rules in _CLAIM_LISTS.items():
            found = await snapshot.off_claims(what, coupon_nos, every, most=LISTED)
            findings.add_listed(rules, found)
        return ", ".join(sorted({str(each.row.shard) for each in sales if each.shard.cut.distrusts_clocks}))

    async def _judge_numbers(
        self, snapshot: Snapshot, shards: Mapping[int, ShardMoment], findings: Findings, *, running: bool
    ) -> None:
        ends = {(moment.row.shard, moment.row.epoch): moment.row.last_seq for moment in shards.values()}
        floors: dict[tuple[int, int], int] | None = None
        if running:
            floors = dict(ends) if self._floors is None else {**dict.fromkeys(ends, 0), **self._floors}
            self._floors = dict(floors)
        off = []
        for row in await snapshot.numbers(shards.keys(), floors):
            new = None if row.end is None else row.end - row.after
            span = (row.after + 1, row.end) if new else (0, 0)
            if (row.numbers, row.times, row.lowest, row.highest) != (new, new, *span):
                off.append(row.shard)
            elif self._floors is not None and running:
                del self._floors[row.shard, row.epoch]
                if (row.shard, row.epoch) in ends:  # else it has ended, and all of it was looked through
                    self._floors[row.shard, row.epoch] = row.after + row.numbers
        if off:
            found = await snapshot.numbers_off(sorted(set(off)), floors, most=LISTED)
            findings[Rule.NUMBERS].add(*found.texts, total=found.total, shards=off)


def _by_shard(plan: Iterable[tuple[int, int]]) -> defaultdict[int, list[int]]:
    numbers: defaultdict[int, list[int]] = defaultdict(list)
    for shard, number in plan:
        numbers[shard].append(number)
    return numbers


def _parts(rows: Sequence[_T], most: int) -> list[list[_T]]:
    return [list(rows[at : at + most]) for at in range(0, len(rows), most)]
