"""Money that was taken or given back, as a shop's own backend reports it and as its providers tell."""

import re
from collections.abc import Collection, Sequence
from typing import Protocol

import structlog
from msgspec.structs import replace

from gateway.clock import Clock
from gateway.domain.caller import Caller, Role
from gateway.domain.drafts import fingerprint
from gateway.domain.order import Order, OrderStatus
from gateway.domain.payment import PROVIDER_PATTERN, SANDBOX, Notice, NoticeKind, OwedPayment, Payment
from gateway.domain.settle import SettleAct, Settled
from gateway.errors import (
    AmountMismatch,
    Conflict,
    Invalid,
    KeyReused,
    NotConfirmed,
    NotFound,
    PaymentNotJudged,
    Unavailable,
)
from gateway.flows.access import require_room
from gateway.flows.cancel_order import CONFIRMED_SOON_MS, Reader, read_afterwards
from gateway.flows.recent import Recent
from gateway.flows.till import Till, nothing_done
from gateway.metrics import NOTICES

log = structlog.get_logger(__name__)

_SHOP = re.compile(r"[a-z0-9-]{1,64}")
_PROVIDER = re.compile(PROVIDER_PATTERN)
_CURSOR = re.compile(r"[0-9]{1,18}")
MAX_ORDER_ID_LENGTH = 64
# Whoever knocks with forged notices asks the ledger once in this time, and a new secret is known after it.
_SECRETS_FRESH_S = 1.0


class Secrets(Protocol):
    async def secrets(self, shop: str, provider: str) -> tuple[str, ...]: ...


class Ledger(Protocol):
    async def of_order(self, shop: str, order_id: str) -> list[Payment]: ...
    async def owed(
        self, shop: str, *, only_rooms: Collection[str] | None, limit: int, after: int
    ) -> list[OwedPayment]: ...


class Reported:
    """What a report did: the order afterwards (None: the shop has no such order), its payments, and whether the report
    was known already."""

    __slots__ = ("order", "payments", "replayed")

    def __init__(self, order: Order | None, payments: Sequence[Payment], *, replayed: bool) -> None:
        self.order = order
        self.payments = payments
        self.replayed = replayed


class Payments:
    """A transaction counts once, by (shop, provider, txn), however often and in whatever order it is told.

    A shop's report that cannot be true (another amount, no such order) is an error and changes nothing. A provider's
    notice is about money that moved: what the order cannot take is kept as refund due. So is a shop's payment of an
    order that was lost or refused.
    """

    def __init__(
        self, *, till: Till, reader: Reader, ledger: Ledger, secrets: Secrets, clock: Clock, sandbox: bool
    ) -> None:
        self._till = till
        self._reader = reader
        self._ledger = ledger
        self._secrets = secrets
        self._sandbox = sandbox
        self._known: Recent[tuple[str, str], tuple[str, ...]] = Recent(keep_s=_SECRETS_FRESH_S, clock=clock)

    # The shop's backend.

    async def report_payment(
        self, caller: Caller, order_id: str, *, provider: str, txn: str, amount_minor: int, paid_at_ms: int, key: str
    ) -> Reported:
        sale = await self._till.sale_of(caller.shop, order_id)
        if sale is None:
            raise NotFound("There is no such order.")
        require_room(caller, sale.room)
        act = SettleAct(
            do="pay",
            order=order_id,
            sale=sale.sale_no,
            provider=provider,
            txn=txn,
            amount=amount_minor,
            paid_at_ms=paid_at_ms,
            caller=caller.sub,
            key=key,
            fingerprint=fingerprint(order_id, provider, txn, amount_minor, paid_at_ms),
        )
        return await self._reported(caller, act, await self._pay(caller, act))

    async def report_refund(self, caller: Caller, order_id: str, *, txn: str, amount_minor: int, key: str) -> Reported:
        """Also of a payment that named no order of the shop: it was kept to be given back."""
        if not 1 <= len(order_id) <= MAX_ORDER_ID_LENGTH or not order_id.isprintable():
            raise NotFound("There is no such payment.")
        sale = await self._till.sale_of(caller.shop, order_id)
        require_room(caller, None if sale is None else sale.room)
        act = SettleAct(
            do="refund",
            order=order_id,
            sale=None if sale is None else sale.sale_no,
            txn=txn,
            amount=amount_minor,
            caller=caller.sub,
            key=key,
            fingerprint=fingerprint(order_id, txn, amount_minor),
        )
        return await self._reported(caller, act, await self._till.ask(caller.shop, act))

    async def of_order(self, caller: Caller, order_id: str) -> list[Payment]:
        return await self._ledger.of_order(caller.shop, order_id)

    async def owed(self, caller: Caller, *, limit: int, after: str | None) -> tuple[list[OwedPayment], str | None]:
        """Money the shop is to give back, in the order it was told of, and the cursor of the next page.

        What was given back leaves the list, and late money may join it in the middle: who looks again begins anew.
        """
        if after is not None and _CURSOR.fullmatch(after) is None:
            raise Invalid("That is no cursor of this list.", param="after")
        at = 0 if after is None else int(after)
        owed = await self._ledger.owed(caller.shop, only_rooms=caller.rooms, limit=limit + 1, after=at)
        return owed[:limit], owed[limit - 1].cursor if len(owed) > limit else None

    # The shop's providers.

    async def secrets(self, shop: str, provider: str) -> tuple[str, ...]:
        """With what the provider may sign; nothing for one the shop does not have."""
        if _SHOP.fullmatch(shop) is None or _PROVIDER.fullmatch(provider) is None:
            return ()
        if provider == SANDBOX and not self._sandbox:
            return ()  # what was played in development pays nothing elsewhere
        with nothing_done():
            return await self._known.get((shop, provider), lambda: self._secrets.secrets(shop, provider))

    async def take_notice(self, shop: str, notice: Notice) -> bool:
        """Returns whether it was known already. Raises Unavailable when it is to be told again, another error when it
        contradicts what was told before."""
        caller = Caller(shop=shop, sub="", role=Role.SERVICE, expires_at_s=0)
        sale = await self._till.sale_of(shop, notice.order)
        refund = notice.kind is NoticeKind.REFUNDED
        act = SettleAct(
            do="refund" if refund else "pay",
            order=notice.order,
            sale=None if sale is None else sale.sale_no,
            provider=notice.provider,
            txn=notice.txn,
            amount=notice.amount_minor,
            currency=notice.currency,
            paid_at_ms=notice.paid_at_ms,
            keep=refund,
        )
        try:
            settled = await (self._till.ask(shop, act) if refund else self._pay(caller, act, took_it=True))
            _require_done(act, settled)
        except NotConfirmed as error:
            # A provider repeats what it is told to repeat; 409 it may take for an answer.
            raise Unavailable(error.message, retry_after_ms=error.retry_after_ms) from error
        except Conflict as error:
            log.error("payment_notice_contradicts", shop=shop, kind=str(notice.kind), txn=notice.txn, error=str(error))
            NOTICES.labels("contradicts").inc()
            raise
        return settled.word == "replayed"

    async def _pay(self, asker: Caller, act: SettleAct, *, took_it: bool = False) -> Settled:
        """`took_it`: the money moved, whatever it was for. Raises NotConfirmed while the ledger has not judged the
        order."""
        keep = act.sale is None
        while True:
            settled = await self._till.ask(asker.shop, replace(act, keep=keep))
            if keep or settled.word not in ("not_found", "amount_mismatch"):
                return settled
            if settled.word == "amount_mismatch":
                if not took_it:
                    return settled
            elif not await self._is_lost(asker, act.order):
                raise NotConfirmed(retry_after_ms=CONFIRMED_SOON_MS)
            keep = True

    async def _is_lost(self, asker: Caller, order_id: str) -> bool:
        """Whether an order that the ledger lacks will never come: else it is still on its way."""
        with nothing_done():
            try:
                order = await self._reader.by_id(asker, order_id)
            except NotFound:
                # An id of ours that is nowhere just now: Valkey is being rebuilt, and the ledger will say what is lost.
                return False
        return order.status is OrderStatus.REFUSED

    async def _reported(self, caller: Caller, act: SettleAct, settled: Settled) -> Reported:
        _require_done(act, settled)
        try:
            order: Order | None = await read_afterwards(self._reader, caller, act.order)
        except NotFound:
            order = None
        payments = await self._ledger.of_order(caller.shop, act.order)
        return Reported(order, payments, replayed=settled.word == "replayed")


def _require_done(act: SettleAct, settled: Settled) -> None:
    match settled.word:
        case "done" | "replayed":
            return
        case "key_reused":
            raise KeyReused
        case "txn_reused":
            raise Conflict("This transaction was told of with another order or amount.", param="txn")
        case "amount_mismatch":
            whose = "payment" if act.do == "refund" else "order"
            raise AmountMismatch(f"The amount is not the one of the {whose}.", param="amount_minor")
        case "waiting":
            raise PaymentNotJudged(retry_after_ms=500)
        case "no_payment" | "not_found":
            raise NotFound("There is no such payment of this order.", param="txn")
        case other:
            raise Conflict(f"The order cannot take it: {other}.")
