"""Pickups: who comes with the code of a paid order is handed it, once."""

from typing import Protocol

from gateway.clock import Clock
from gateway.domain.caller import Caller, Role
from gateway.domain.drafts import Effect, fingerprint
from gateway.domain.order import Order
from gateway.domain.pickup import read_code
from gateway.errors import Forbidden, GatewayError, LedgerUnavailable, NotFound, OutcomeUnknown, RateLimited
from gateway.flows.access import require_room
from gateway.flows.cancel_order import read_afterwards
from gateway.metrics import REDEEMS

KIND = "redeem"


class Place(Protocol):
    @property
    def order(self) -> str: ...
    @property
    def room(self) -> str | None: ...


class Ledger(Protocol):
    """`gateway.ledger.pickups.LedgerPickups`."""

    async def find(self, shop: str, code: str) -> Place | None: ...
    async def redeem(self, shop: str, code: str, order_id: str, effect: Effect) -> bool: ...


class Reader(Protocol):
    async def by_id(self, caller: Caller, order_id: str) -> Order: ...


class Limiter(Protocol):
    def wait_s(self, who: str, now_s: float) -> float:
        """0 when the attempt is allowed and counted."""
        ...

    def due_in_s(self, who: str, now_s: float) -> float:
        """0 when an attempt would be allowed; counts nothing."""
        ...


class RedeemPickup:
    """A code is redeemed once, however many tills try at once.

    Guessing is slow: a caller has some attempts a second, fewer that fail, and all callers of a shop together few that
    fail. Where those are used up nobody of the shop is looked up for a moment, so that a right guess is not told from a
    wrong one by it.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        reader: Reader,
        attempts: Limiter,
        failures: Limiter,
        shop_failures: Limiter,
        clock: Clock,
    ) -> None:
        self._ledger = ledger
        self._reader = reader
        self._attempts = attempts
        self._failures = failures
        self._shop_failures = shop_failures
        self._clock = clock

    async def redeem(self, caller: Caller, text: str, key: str) -> tuple[Order, bool]:
        """The order, and whether the key had redeemed it before."""
        if caller.role not in (Role.HOST, Role.CLERK):
            raise Forbidden("Only a host or a clerk may do this.")
        self._admit(caller)
        try:
            order_id, replayed = await self._redeem(caller, text, key)
        except GatewayError as error:
            REDEEMS.labels(error.code).inc()
            if isinstance(error, NotFound):
                now_s = self._clock.monotonic()
                self._failures.wait_s(_name(caller), now_s)
                self._shop_failures.wait_s(caller.shop, now_s)
            raise
        REDEEMS.labels("replayed" if replayed else "redeemed").inc()
        return await read_afterwards(self._reader, caller, order_id), replayed

    async def _redeem(self, caller: Caller, text: str, key: str) -> tuple[str, bool]:
        code = read_code(text)
        try:
            place = None if code is None else await self._ledger.find(caller.shop, code)
            if code is None or place is None:
                raise NotFound("There is no such code in this shop.")
            require_room(caller, place.room)
            effect = Effect(caller.sub, KIND, key, fingerprint(code))
            return place.order, await self._ledger.redeem(caller.shop, code, place.order, effect)
        except LedgerUnavailable as error:
            raise OutcomeUnknown from error

    def _admit(self, caller: Caller) -> None:
        now_s = self._clock.monotonic()
        wait_s = max(
            self._failures.due_in_s(_name(caller), now_s),
            self._shop_failures.due_in_s(caller.shop, now_s),
        )
        wait_s = wait_s or self._attempts.wait_s(_name(caller), now_s)
        if wait_s > 0:
            REDEEMS.labels("rate_limited").inc()
            raise RateLimited(retry_after_ms=int(wait_s * 1000) + 1)


def _name(caller: Caller) -> str:
    return f"{caller.shop}|{caller.sub}"
