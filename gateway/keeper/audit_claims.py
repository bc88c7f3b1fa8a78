"""Comparing the claims of a coupon by name, which are too many for one moment; in the way of `audit_names.py`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.domain.coupon import Coupon
from gateway.keeper.audit_coupons import CouponMoment
from gateway.keeper.audit_judge import Findings, ShardMoment, shard_moment
from gateway.keeper.audit_names import ENOUGH_BROKEN, LOOKS, MOST_SUSPECTS, NAMES_A_LOOK, differing, fields_of
from gateway.keeper.audit_ports import ClaimRow, Cut, Hot, Ledger, Snapshot
from gateway.keeper.audit_report import BY_CLAIM, Rule

Broken = dict[str, tuple[Rule, str]]


@dataclass(frozen=True, slots=True)
class ClaimSuspects:
    """Names of one coupon that differed in a slice."""

    coupon: Coupon
    answers: Sequence[str] = ()
    viewers: Sequence[str] = ()
    claims: Sequence[str] = ()


class ClaimNames:
    def __init__(self, *, ledger: Ledger, hot: Hot, most_behind: int, pause_s: float) -> None:
        self._ledger = ledger
        self._hot = hot
        self._most_behind = most_behind
        self._pause_s = pause_s

    async def scan(self, snapshot: Snapshot, moment: CouponMoment, findings: Findings) -> ClaimSuspects:
        """Names of a coupon for which Valkey, read in slices after the cut, is not what the ledger and the entries
        behind its cursor say; with them all that Valkey is to be told of, and every older claim that an entry behind
        the cursor redeems: what these are in Valkey is not what the ledger has."""
        shard, coupon_no, released = moment.shard.row.shard, moment.coupon_no, moment.shard.cut.released
        behind = moment.shard.behind.coupons[coupon_no]
        answers = await differing(
            lambda: snapshot.claim_answers(coupon_no),
            self._hot.scan_claim_answers(shard, coupon_no),
            instead=fields_of(behind.answers),
            outdated=(),
        )
        had = {
            row.viewer: row.live
            for row in await snapshot.claim_viewers_named(coupon_no, shard, released, list(behind.viewers))
        }
        viewers = await differing(
            lambda: snapshot.claim_viewers(coupon_no),
            self._hot.scan_claim_viewers(shard, coupon_no),
            instead=fields_of({name: str(had.get(name, 0) + more) for name, more in behind.viewers.items()}),
            outdated=[b"%b\n%b" % line for line in fields_of({name: str(live) for name, live in had.items()}).items()],
        )
        claims = await differing(
            lambda: snapshot.claims(coupon_no),
            self._hot.scan_claims(shard, coupon_no),
            instead=fields_of(
                {
                    name: f"{value}|{behind.holders.get(name, '')}|{viewer}"
                    for name, (value, viewer) in behind.claims.items()
                }
            ),
            outdated=(),
        )
        if max(len(answers), len(viewers), len(claims)) > MOST_SUSPECTS:
            findings.not_now(BY_CLAIM, f"coupon {moment.row.coupon.coupon}: more than {MOST_SUSPECTS} names differ")
        pending = await snapshot.pending_of(coupon_no, shard, released)
        refused = [(viewer, f"{viewer}|{key}") for kind, viewer, key, _ in pending if kind == "unclaim"]
        revived = await snapshot.claims_of_orders(moment.shard.behind.revived_orders)
        return ClaimSuspects(
            moment.row.coupon,
            answers=sorted({*answers, *(name for _, name in refused)}),
            viewers=sorted({*viewers, *(viewer for viewer, _ in refused)}),
            claims=sorted(
                {
                    *claims,
                    *(claim for *_, claim in pending),
                    *(behind.holders.keys() - behind.claims.keys()),
                    *(claim for of_coupon, claim, _ in revived if of_coupon == coupon_no),
                }
            ),
        )

    async def look_again(self, suspects: ClaimSuspects, findings: Findings) -> None:
        """Judges each differing name in a moment of both stores."""
        for kind in ("answers", "viewers", "claims"):
            names: Sequence[str] = getattr(suspects, kind)
            broken = 0
            for at in range(0, len(names), NAMES_A_LOOK):
                part = ClaimSuspects(suspects.coupon, **{kind: names[at : at + NAMES_A_LOOK]})
                broken += await self._look(part, findings)
                if broken >= ENOUGH_BROKEN:
                    why_not = f"coupon {suspects.coupon.coupon}: not looked at all names that differ"
                    findings.not_now(BY_CLAIM, why_not)
                    break

    async def _look(self, names: ClaimSuspects, findings: Findings) -> int:
        """How many of the names are broken."""
        coupon, why_not = names.coupon, ""
        broken: Broken = {}
        for look in range(LOOKS):
            if look:
                await asyncio.sleep(self._pause_s)
            async with self._ledger.snapshot() as snapshot:
                row = next(row for row in await snapshot.shards() if row.shard == coupon.shard)
                cut = await self._hot.cut(
                    row.shard,
                    epoch=row.epoch,
                    after=row.last_seq,
                    most=self._most_behind,
                    coupons=[coupon.coupon_no],
                    named_coupon=coupon.coupon_no,
                    answers=names.answers,
                    claims=names.claims,
                    units=names.viewers,
                )
                moment = shard_moment(row, cut)
                why_not = moment.why_not
                if why_not:
                    continue
                if coupon.coupon_no not in cut.coupons:
                    return 0  # it was retired meanwhile; one that should be there is found missing as a whole
                broken = await _compare(snapshot, moment, names)
            names = replace(
                names,
                answers=[name for name in names.answers if name in broken],
                viewers=[name for name in names.viewers if name in broken],
                claims=[name for name in names.claims if name in broken],
            )
            if not broken:
                break
        if why_not:
            findings.not_now(BY_CLAIM, why_not)
            return 0
        for name, (rule, text) in broken.items():
            findings[rule].add(f"coupon {coupon.coupon} {name}: {text}")
        return len(broken)


async def _compare(snapshot: Snapshot, moment: ShardMoment, names: ClaimSuspects) -> Broken:
    coupon_no, shard, cut = names.coupon.coupon_no, moment.row.shard, moment.cut
    behind = moment.behind.coupons[coupon_no]
    broken: Broken = {}
    if names.answers:
        known: dict[str, list[str]] = {}
        for answer in await snapshot.claim_answers_named(coupon_no, shard, cut.released, names.answers):
            known.setdefault(answer.field, []).append(answer.answer)
        for name in names.answers:
            wanted = [behind.answers[name]] if name in behind.answers else known.get(name, [])
            found = cut.answers.get(name)
            if found not in wanted and not (found is None and not wanted):
                told = " or ".join(wanted) or "nothing"
                broken[name] = Rule.CLAIM_ANSWERS, f"{found or 'nothing'} is answered, the ledger has {told}"
    if names.viewers:
        had = {
            row.viewer: row for row in await snapshot.claim_viewers_named(coupon_no, shard, cut.released, names.viewers)
        }
        for name in names.viewers:
            row, waiting, count = had.get(name), behind.viewers[name], cut.units.get(name, 0)
            live, ending = (row.live, row.ending) if row is not None else (0, 0)
            if count != live + waiting + ending:
                text = f"{count} claims in Valkey, {live} live + {waiting} waiting + {ending} releasing"
                broken[name] = Rule.CLAIM_VIEWERS, text
    if names.claims:
        rows = {row.field: row for row in await snapshot.claims_named(coupon_no, shard, cut.released, names.claims)}
        revived = {
            claim: order
            for of_coupon, claim, order in await snapshot.claims_of_orders(moment.behind.revived_orders)
            if of_coupon == coupon_no
        }
        for name in names.claims:
            holder = behind.holders.get(name, revived.get(name))
            text = _judge_claim(name, cut, rows.get(name), behind.claims.get(name), holder)
            if text:
                broken[name] = Rule.CLAIMS, text
    return broken


def _judge_claim(name: str, cut: Cut, row: ClaimRow | None, waiting: tuple[int, str] | None, holder: str | None) -> str:
    """What is wrong with a claim in Valkey; empty: nothing. `waiting`: it stands in the stream, with its value and
    viewer. `holder`: the order behind the cursor that redeems it."""
    found = cut.answers.get(name)
    if waiting is not None:
        (value, viewer), holders = waiting, [holder or ""]
    elif row is not None and (row.state != "refused" or row.leaving):
        value, viewer = row.value_minor, row.viewer
        # Valkey holds it for an order that ended until it is told so; nobody else can have it before.
        holders = [holder] if holder is not None else list(row.letting_go) or [row.holder]
    else:
        return "" if found is None else f"{found} in Valkey, there is no such claim"
    wanted = [f"{value}|{each}|{viewer}" for each in holders]
    if found in wanted:
        return ""
    return f"{found or 'nothing'} in Valkey, {' or '.join(wanted)} in the ledger and behind its cursor"
