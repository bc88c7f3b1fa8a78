"""Audits what runs, again and again, and stops a sale whose invariants do not hold.

A violation counts once two audits, one after the other, found it: then people are told, and the sale is closed or
paused by an act like a host's. What heals by itself (a shard that is rebuilt, an order that expires too late) is only
told, and so is what could not be audited. What each audit says of a sale is written down for its hosts. An audit rests
as long as it works, so that it takes at most half of a core from what else the keeper does.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import structlog

from gateway.clock import Clock
from gateway.domain.acts import Act
from gateway.domain.invariant import Verdict
from gateway.domain.sale import Sale
from gateway.errors import Conflict, GatewayError
from gateway.keeper.audit_report import OF_SHARDS, OF_TIME, AuditReport, Rule, SaleFindings
from gateway.metrics import AUDIT_MADE, AUDIT_SECONDS, AUDIT_UNMADE, AUDIT_VIOLATIONS, AUDIT_VIOLATIONS_ALL
from gateway.wire import bus

log = structlog.get_logger(__name__)

ACTOR = "peakgate-audit"
# Two audits must find a violation; the second one comes this long after the first.
AGAIN_AFTER_S = 3.0
# A million orders take some ten seconds, and as long for rests; one that hangs must not be the last.
MOST_S = 600.0
# To sell on under one of these could break a promise; those of time and of a shard as a whole do not stop a sale.
STOPPING = frozenset(rule.label for rule in Rule if rule not in OF_SHARDS and rule not in OF_TIME)

# What hosts are told where the light is out.
UNMADE = "The last audit could not be made."
UNCONFIRMED = "One audit found this; the next one, in seconds, confirms it or not."

OnViolation = Literal["close", "pause", "report"]
_ACTS = {"close": Act.CLOSE, "pause": Act.PAUSE}

# A rule and the id of a sale; empty where it is of no single one.
Broken = tuple[str, str]


class Auditor(Protocol):
    async def run(self, *, running: bool) -> AuditReport: ...


class Sales(Protocol):
    async def find(self, sale_no: int) -> Sale | None: ...


class Mint(Protocol):
    def read_sale(self, public: str, /) -> int | None: ...


class Control(Protocol):
    async def act(self, sale_no: int, act: Act, *, actor: str, reason: str) -> object: ...


class Publisher(Protocol):
    async def publish(self, message: bytes) -> None: ...


class Verdicts(Protocol):
    """`gateway.ledger.verdicts.LedgerVerdicts`."""

    async def write(self, verdicts: Sequence[tuple[int, Verdict]], *, ago_s: float) -> None: ...
    async def write_unmade(self, why_not: str) -> None: ...


class Watchdog:
    """Stops a sale at most once for as long as it is broken: a host who resumes it has decided."""

    def __init__(
        self,
        *,
        auditor: Auditor,
        sales: Sales,
        mint: Mint,
        controls: Mapping[int, Control],
        publisher: Publisher,
        verdicts: Verdicts,
        clock: Clock,
        every_s: float,
        on_violation: OnViolation,
        again_after_s: float = AGAIN_AFTER_S,
    ) -> None:
        self._auditor = auditor
        self._sales = sales
        self._mint = mint
        self._controls = controls
        self._publisher = publisher
        self._verdicts = verdicts
        self._clock = clock
        self._every_s = every_s
        self._on_violation = on_violation
        self._again_after_s = again_after_s
        self._suspected: set[Broken] = set()
        """What the last audit found, or could not look at again."""
        self._confirmed: set[Broken] = set()
        self._stopped: set[str] = set()

    async def run(self) -> None:
        wait_s = self._every_s
        while True:
            await asyncio.sleep(wait_s)
            wait_s = self._again_after_s if await self.look() else self._every_s

    async def look(self) -> bool:
        """One audit and what follows from it. Whether another one is wanted soon, to confirm what this one found."""
        began_s = self._clock.monotonic()
        report = await self._audit()
        if report is None:
            await self._write_down(None, began_s)
            return False
        found = {(check.rule, sale) for check in report.broken for sale in (check.sales or [""])}
        unmade = {check.rule for check in report.checks if not check.holds and not check.broken}
        self._confirmed &= found | {each for each in self._confirmed if each[0] in unmade}
        news = found - self._suspected - self._confirmed
        for rule, sale in sorted((found & self._suspected) - self._confirmed):
            broken = next(check.broken for check in report.broken if check.rule == rule)
            log.critical("audit_violation", rule=rule, sale=sale or None, broken=broken, does=self._does(rule, sale))
            self._confirmed.add((rule, sale))
        if news:
            log.warning("audit_suspects", broken=sorted(f"{rule} {sale}".strip() for rule, sale in news))
        # What could not be judged this time was not refuted.
        self._suspected = found | {each for each in self._suspected if each[0] in unmade}
        await self._write_down(report, began_s)
        # Only what was seen just now: a shard may have been rebuilt since an audit that could not be made.
        stopped = await self._stop_sales(self._confirmed & found)
        return bool(news) or not stopped

    def _does(self, rule: str, sale: str) -> OnViolation:
        return self._on_violation if sale and rule in STOPPING else "report"

    async def _audit(self) -> AuditReport | None:
        began_s = self._clock.monotonic()
        try:
            async with asyncio.timeout(MOST_S):
                report = await self._auditor.run(running=True)
        except (GatewayError, TimeoutError) as error:
            log.warning("audit_not_made", error=str(error) or type(error).__name__)
            AUDIT_UNMADE.set(len(Rule))
            return None
        except Exception:
            # What the stores hold may be anything, and the keeper has other things to do than to end for it.
            log.exception("audit_failed")
            AUDIT_UNMADE.set(len(Rule))
            return None
        AUDIT_SECONDS.set(self._clock.monotonic() - began_s)
        AUDIT_MADE.set(self._clock.now_ms() / 1000)
        for check in report.checks:
            AUDIT_VIOLATIONS.labels(check.rule).set(check.broken)
        AUDIT_VIOLATIONS_ALL.set(sum(check.broken for check in report.checks))
        AUDIT_UNMADE.set(sum(not check.holds and not check.broken for check in report.checks))
        return report

    async def _write_down(self, report: AuditReport | None, began_s: float) -> None:
        """For hosts. One that cannot be written is told all the same, by its age."""
        try:
            if report is None:
                await self._verdicts.write_unmade(UNMADE)
            else:
                verdicts = [(found.sale_no, self._verdict(found)) for found in report.by_sale]
                await self._verdicts.write(verdicts, ago_s=self._clock.monotonic() - began_s)
        except GatewayError as error:
            log.warning("audit_not_written_down", error=str(error))

    def _verdict(self, found: SaleFindings) -> Verdict:
        broken = tuple(found.broken)
        if any((each.rule, sale) in self._confirmed for each in broken for sale in (found.sale, "")):
            return Verdict(holds=False, broken=broken)
        why_not = UNCONFIRMED if broken else found.why_not or None
        return Verdict(holds=None if why_not else True, broken=broken, why_not=why_not)

    async def _stop_sales(self, broken: set[Broken]) -> bool:
        """False when a sale that is to be stopped could not be."""
        rules: dict[str, list[str]] = {}
        for rule, sale in sorted(broken):
            if self._does(rule, sale) != "report":
                rules.setdefault(sale, []).append(rule)
        self._stopped &= {sale for _, sale in self._confirmed}
        done = True
        for sale in rules.keys() - self._stopped:
            try:
                await self._stop(sale, f"the audit found: {', '.join(rules[sale])}")
                self._stopped.add(sale)
            except GatewayError as error:
                log.warning("audit_cannot_stop_sale", sale=sale, error=str(error))
                done = False
        return done

    async def _stop(self, sale_id: str, reason: str) -> None:
        sale = await self._sales.find(self._mint.read_sale(sale_id) or 0)
        if sale is None:
            return
        act = _ACTS[self._on_violation]
        try:
            await self._controls[sale.shard].act(sale.sale_no, act, actor=ACTOR, reason=reason)
        except Conflict:
            return  # it is closed already
        log.warning("audit_stopped_sale", sale=sale_id, act=str(act), reason=reason)
        await self._publisher.publish(bus.encode(bus.SaleChanged(sale.sale_no)))
