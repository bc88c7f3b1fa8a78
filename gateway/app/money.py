"""Payments, refunds and cancels."""

from collections.abc import Coroutine
from typing import Any

import structlog

from gateway.app.base import api_url
from gateway.app.edge import Edge
from gateway.flows.cancel_order import CancelOrder
from gateway.flows.pay import PayOrder
from gateway.flows.payments import Payments
from gateway.flows.settle import Settle
from gateway.flows.till import Till
from gateway.ledger.payments import LedgerPayments
from gateway.ledger.providers import LedgerProviders
from gateway.ledger.settlement import LedgerSettlement
from gateway.payments.sandbox import Sandbox

log = structlog.get_logger(__name__)


class Money:
    """What becomes of confirmed orders by payments, refunds and cancels: a part of the HTTP edge alone."""

    def __init__(self, edge: Edge) -> None:
        base = edge.base
        settings = base.settings
        providers, payments = LedgerProviders(base.ledger), LedgerPayments(base.ledger)
        self.settle = Settle(shards=base.hot.keys(), ledger=LedgerSettlement(base.ledger), publisher=base.bus)
        till = Till(settle=self.settle, shops=providers, book=edge.sales, mint=base.mint)
        self.sandbox: Sandbox | None = None
        if settings.sandbox != "off":
            log.warning("sandbox_payments", mode=settings.sandbox, meaning="payments are played, no money moves")
            self.sandbox = Sandbox(
                url=api_url(settings),
                public_url=settings.public_url,
                auto=settings.sandbox == "auto",
                checkouts=payments,
                secrets=providers,
                clock=base.clock,
            )
        self.cancelling = CancelOrder(till=till, reader=edge.reader)
        self.pay = PayOrder(till=till, reader=edge.reader, checkouts=payments, provider=self.sandbox)
        self.payments = Payments(
            till=till,
            reader=edge.reader,
            ledger=payments,
            secrets=providers,
            clock=base.clock,
            sandbox=self.sandbox is not None,
        )

    def works(self) -> list[Coroutine[Any, Any, None]]:
        return [self.settle.run(), *([] if self.sandbox is None else [self.sandbox.run()])]

    async def drained(self) -> None:
        await self.settle.drained()
