"""Steps of a stream become transactions of the ledger, one each; data that it rejects is bisected and parked."""

import structlog

from gateway import points
from gateway.clock import Clock
from gateway.domain.batch import ActColumns, AppliedOrders, CouponActColumns, LateColumns, Place
from gateway.errors import GatewayError, LedgerRejected
from gateway.metrics import APPLIED_CLAIMS, APPLIED_ORDERS, FLUSH_SECONDS, FLUSH_SIZE, LOST_SEQS, PARKED_ENTRIES
from gateway.wire import bus
from gateway.writer.batch import (
    ActStep,
    ClaimsStep,
    CouponActStep,
    GapStep,
    LateStep,
    OrdersStep,
    Step,
    UnreadableStep,
)
from gateway.writer.news import News
from gateway.writer.ports import Ledger

log = structlog.get_logger(__name__)

# More parked orders than this in a row say that something else than one order is wrong: stop and wait for people.
MAX_PARKED = 100


class Steps:
    """Each step is applied or parked, as a whole or down to its single orders and claims. An outage is raised, never
    bisected."""

    def __init__(self, *, shard: int, ledger: Ledger, clock: Clock) -> None:
        self._shard = shard
        self._ledger = ledger
        self._clock = clock
        self._parked = 0

    async def apply(self, at: Place, step: Step, news: News) -> None:
        match step:
            case OrdersStep():
                await self._apply_orders(at, step, news)
            case ClaimsStep():
                await self._apply_claims(at, step, news)
            case ActStep():
                await self._apply_act(at, step)
            case CouponActStep():
                await self._apply_coupon_act(at, step)
            case LateStep():
                await self._apply_late(at, step, news)
            case GapStep():
                await self._skip_lost(at)
            case UnreadableStep():
                await self._park_entry(at, step.entry.error, step.entry.body)

    async def _apply_orders(self, at: Place, step: OrdersStep, news: News) -> None:
        started_s = self._clock.monotonic()
        points.reach("writer.commit.before")
        try:
            applied = await self._ledger.apply_orders(at, step.orders)
        except LedgerRejected as error:
            if len(step) == 1:
                await self._park_order(at, step, str(error))
                await news.of_orders(step.orders, AppliedOrders({}, dict.fromkeys(step.orders.seqs, "ledger")))
                return
            for half in step.halves():
                await self._apply_orders(at._replace(after=half.after, last=half.last), half, news)
            return
        points.reach("writer.commit.after")
        FLUSH_SECONDS.observe(self._clock.monotonic() - started_s)
        FLUSH_SIZE.observe(len(step))
        APPLIED_ORDERS.labels("confirmed").inc(len(step) - len(applied.refused))
        self._parked = 0
        if applied.refused:
            APPLIED_ORDERS.labels("refused").inc(len(applied.refused))
            log.error("ledger_refused_orders", shard=self._shard, refused=applied.refused)
        await news.of_orders(step.orders, applied)

    async def _apply_claims(self, at: Place, step: ClaimsStep, news: News) -> None:
        started_s = self._clock.monotonic()
        points.reach("writer.commit.before")
        try:
            refused = await self._ledger.apply_claims(at, step.claims)
        except LedgerRejected as error:
            if len(step) == 1:
                await self._park_claim(at, step, str(error))
                await news.of_claims(step.claims, step.claims.seqs)
                return
            for half in step.halves():
                await self._apply_claims(at._replace(after=half.after, last=half.last), half, news)
            return
        points.reach("writer.commit.after")
        FLUSH_SECONDS.observe(self._clock.monotonic() - started_s)
        FLUSH_SIZE.observe(len(step))
        APPLIED_CLAIMS.labels("confirmed").inc(len(step) - len(refused))
        self._parked = 0
        if refused:
            APPLIED_CLAIMS.labels("refused").inc(len(refused))
            log.error("ledger_refused_claims", shard=self._shard, refused=refused)
        await news.of_claims(step.claims, refused)

    async def _apply_act(self, at: Place, step: ActStep) -> None:
        act = step.act
        columns = ActColumns(
            act.sale_no,
            act.act,
            act.item_no,
            act.value,
            act.actor,
            act.at_ms,
            act.kind,
            act.key,
            act.fingerprint,
            act.reason,
            act.text,
        )
        try:
            had_effect = await self._ledger.apply_act(at, columns)
        except LedgerRejected as error:
            await self._park_entry(at, str(error), repr(act).encode())
            return
        if not had_effect:
            log.error("act_without_effect", shard=self._shard, seq=step.last, act=act.act, sale_no=act.sale_no)

    async def _apply_coupon_act(self, at: Place, step: CouponActStep) -> None:
        act = step.act
        columns = CouponActColumns(
            act.coupon_no,
            act.act,
            act.room_no,
            act.claim_until_ms,
            act.actor,
            act.at_ms,
            act.kind,
            act.key,
            act.fingerprint,
        )
        try:
            had_effect = await self._ledger.apply_coupon_act(at, columns)
        except LedgerRejected as error:
            await self._park_entry(at, str(error), repr(act).encode())
            return
        if not had_effect:
            log.error("act_without_effect", shard=self._shard, seq=step.last, act=act.act, coupon_no=act.coupon_no)

    async def _apply_late(self, at: Place, step: LateStep, news: News) -> None:
        late = step.late
        columns = LateColumns(late.sale_no, late.payment_no, late.item_no, late.viewer, late.order_id, late.quantity)
        points.reach("writer.commit.before")
        try:
            status, claim = await self._ledger.apply_late(at, columns)
        except LedgerRejected as error:
            self._count_parked(at, "entry_parked", str(error))
            await self._ledger.park_late(at, payment_no=late.payment_no, reason=str(error), entry=repr(late).encode())
            return
        points.reach("writer.commit.after")
        if status is not None:
            await news.of_revival(late.sale_no, bus.LaterState(late.viewer, late.order_id, status), claim)

    async def _skip_lost(self, at: Place) -> None:
        """What is missing was promised to somebody: it is recorded, and the shard is going to be recounted."""
        log.critical("stream_gap", shard=self._shard, epoch=at.epoch, first=at.after + 1, last=at.last)
        await self._ledger.skip_lost(at)
        LOST_SEQS.inc(at.last - at.after)

    async def _park_order(self, at: Place, step: OrdersStep, reason: str) -> None:
        entry = repr(step.orders).encode()
        try:
            self._count_parked(at, "order_parked", reason)
            await self._ledger.park_order(at, step.orders, reason=reason, entry=entry)
        except LedgerRejected as error:
            # Not even a refused row can be made of it; its units come back with the recount.
            await self._ledger.park_entry(at, reason=f"{reason}; as a row: {error}", entry=entry)

    async def _park_claim(self, at: Place, step: ClaimsStep, reason: str) -> None:
        entry = repr(step.claims).encode()
        try:
            self._count_parked(at, "claim_parked", reason)
            await self._ledger.park_claim(at, step.claims, reason=reason, entry=entry)
        except LedgerRejected as error:
            await self._ledger.park_entry(at, reason=f"{reason}; as a row: {error}", entry=entry)

    async def _park_entry(self, at: Place, reason: str, entry: bytes) -> None:
        self._count_parked(at, "entry_parked", reason)
        await self._ledger.park_entry(at, reason=reason, entry=entry)

    def _count_parked(self, at: Place, event: str, reason: str) -> None:
        self._parked += 1
        if self._parked > MAX_PARKED:
            raise GatewayError(f"{self._parked} entries in a row cannot be stored: {reason}")
        log.critical(event, shard=self._shard, seq=at.last, reason=reason)
        PARKED_ENTRIES.inc()
