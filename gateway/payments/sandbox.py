"""A provider for development: people pay on a plain page, or it pays by itself.

It moves no money, and else behaves as a provider does: it tells what happened by signed notices over HTTP.
"""

import asyncio
import hashlib
import random
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import aiohttp
import structlog

from gateway.clock import Clock
from gateway.domain.payment import SANDBOX, DuePayment, NoticeKind
from gateway.errors import GatewayError
from gateway.payments.notices import NoticeData, new_secret, notice_body, signed

log = structlog.get_logger(__name__)

_CHECKOUT_BYTES: Final = 24  # nobody guesses a page at which others pay
_TOLD_WITHIN_S: Final = 5.0
_PAUSES_S: Final = (0.1, 0.3, 1.0, 2.0)
# In the automatic mode: how often it looks for what is to be paid or refunded, and how much it does at once.
_LOOK_EVERY_S: Final = 0.25
_AT_ONCE: Final = 50
_FAILED: Final = "payment.failed"


class Checkout(Protocol):
    @property
    def shop(self) -> str: ...
    @property
    def order_id(self) -> str: ...
    @property
    def sale_title(self) -> str: ...
    @property
    def item_title(self) -> str: ...
    @property
    def quantity(self) -> int: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def currency(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def payment(self) -> str | None: ...


class RefundDue(Protocol):
    @property
    def shop(self) -> str: ...
    @property
    def order_id(self) -> str: ...
    @property
    def txn(self) -> str: ...
    @property
    def amount_minor(self) -> int: ...
    @property
    def currency(self) -> str: ...


class Checkouts(Protocol):
    async def checkout(self, checkout: str, *, provider: str) -> Checkout | None: ...
    async def unpaid(self, provider: str, *, limit: int) -> Sequence[str]: ...
    async def refund_due(self, provider: str, *, limit: int) -> Sequence[RefundDue]: ...


class Secrets(Protocol):
    async def make(self, shop: str, provider: str, secret: str) -> str:
        """The provider's newest secret: `secret` when it had none."""
        ...


class Sandbox:
    """One checkout is one transaction: paid twice it is told twice, and counts once. `auto` pays and refunds by itself
    shortly after."""

    name = SANDBOX

    def __init__(
        self,
        *,
        url: str,
        auto: bool,
        checkouts: Checkouts,
        secrets: Secrets,
        clock: Clock,
        public_url: str | None = None,
    ) -> None:
        """`url` is where it tells the gateway of payments; `public_url` where people pay, when that is another."""
        self._url = url
        self._public_url = public_url or url
        self._auto = auto
        self._checkouts = checkouts
        self._secrets = secrets
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None

    # As a provider.

    async def begin(self, due: DuePayment) -> str:
        return "chk_" + secrets.token_urlsafe(_CHECKOUT_BYTES)

    def url_of(self, checkout: str) -> str:
        return f"{self._public_url}/sandbox/{checkout}"

    # As its page.

    async def look(self, checkout: str) -> Checkout | None:
        return await self._checkouts.checkout(checkout, provider=self.name)

    async def pay(self, checkout: str, facts: Checkout) -> bool:
        """Whether the gateway took the notice. Repeated, it is the same payment."""
        return await self._tell(NoticeKind.SUCCEEDED, facts.shop, self._data(checkout, facts))

    async def refuse(self, checkout: str, facts: Checkout) -> bool:
        return await self._tell(_FAILED, facts.shop, self._data(checkout, facts))

    async def refund(self, checkout: str, facts: Checkout) -> bool:
        return await self._tell(NoticeKind.REFUNDED, facts.shop, self._data(checkout, facts))

    # By itself.

    async def run(self) -> None:
        """Owns the connections; in the automatic mode also pays and refunds. Runs until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_TOLD_WITHIN_S)) as self._session:
            while True:
                if self._auto:
                    try:
                        await self._settle_all()
                    except GatewayError as error:
                        log.warning("sandbox_waits", error=str(error))
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _settle_all(self) -> None:
        unpaid = await self._checkouts.unpaid(self.name, limit=_AT_ONCE)
        await asyncio.gather(*(self._pay_by_itself(checkout) for checkout in unpaid))
        due = await self._checkouts.refund_due(self.name, limit=_AT_ONCE)
        await asyncio.gather(*(self._refund_by_itself(each) for each in due))

    async def _pay_by_itself(self, checkout: str) -> None:
        facts = await self.look(checkout)
        if facts is not None:
            await self.pay(checkout, facts)

    async def _refund_by_itself(self, due: RefundDue) -> None:
        data = NoticeData(order=due.order_id, txn=due.txn, amount_minor=due.amount_minor, currency=due.currency)
        await self._tell(NoticeKind.REFUNDED, due.shop, data)

    def _data(self, checkout: str, facts: Checkout) -> NoticeData:
        return NoticeData(
            order=facts.order_id,
            # Staff read transactions, and whoever knows a checkout can pay it.
            txn="sbx_" + hashlib.blake2b(checkout.encode(), digest_size=12).hexdigest(),
            amount_minor=facts.amount_minor,
            currency=facts.currency,
            paid_at=datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC),
        )

    async def _tell(self, kind: str, shop: str, data: NoticeData) -> bool:
        """Sends a notice until it is taken, a few times at most."""
        if self._session is None:
            return False
        secret = await self._secrets.make(shop, self.name, new_secret())
        body = notice_body(kind, data, at_ms=self._clock.now_ms())
        for pause_s in (*_PAUSES_S, None):
            at = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
            headers = {
                "Content-Type": "application/json",
                **signed(secret, notice_id=f"{kind}:{data.txn}", at=at, body=body),
            }
            try:
                async with self._session.post(
                    f"{self._url}/v1/payments/{shop}/{self.name}/webhook", data=body, headers=headers
                ) as response:
                    if response.status < 300:
                        return True
                    answer = str(response.status)
                    if response.status < 500 and response.status != 429:
                        pause_s = None  # asked again, it would say the same
            except (aiohttp.ClientError, TimeoutError) as error:
                answer = repr(error)
            if pause_s is None:
                break
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))
        log.warning("sandbox_notice_not_taken", type=kind, order=data.order, answer=answer)
        return False
