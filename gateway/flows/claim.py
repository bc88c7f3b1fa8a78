"""A viewer claims a copy of a coupon; a copy is given once per idempotency key."""

from collections.abc import Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.domain.caller import Caller, Role
from gateway.domain.coupon import ClaimAnswer, ClaimOutcome, ClaimRequest, Coupon, CouponState
from gateway.domain.ids import ClaimId
from gateway.errors import Forbidden, GatewayError, OutcomeUnknown, Unavailable
from gateway.flows.access import require_room
from gateway.flows.coupon_book import CouponBook
from gateway.flows.look_ups import LookUps, answer_of
from gateway.metrics import CLAIM_SECONDS, CLAIMS

Answer = Callable[[ClaimAnswer | Exception], None]


class Group(Protocol):
    def submit(self, request: ClaimRequest) -> None: ...


class Limiter(Protocol):
    def wait_s(self, who: str, now_s: float) -> float: ...


class Watch(Protocol):
    def claimed(self, claim: ClaimId, *, coupon_no: int, shop: str, viewer: str, ask_now: bool) -> None: ...


class ClaimCoupon:
    """Admits a claim, gives it to the group of its coupon and passes the answer on.

    `submit` never blocks and calls `answer` exactly once, at once or later; `ask` is the same for who can await.
    """

    def __init__(
        self,
        *,
        book: CouponBook,
        groups: Callable[[int], Group],
        retired: Group,
        limiter: Limiter,
        watch: Watch,
        clock: Clock,
        moved: Callable[[int], None] = lambda coupon_no: None,
    ) -> None:
        """`retired` takes the claims of coupons that Valkey does not have any more; `moved` hears of the coupon whose
        copies are fewer."""
        self._book = book
        self._groups = groups
        self._retired = retired
        self._limiter = limiter
        self._watch = watch
        self._clock = clock
        self._moved = moved
        self._look_ups = LookUps()
        self._admitting = True

    async def run(self) -> None:
        """Owns the look-ups; runs until cancelled."""
        await self._look_ups.run()

    def stop_admitting(self) -> None:
        self._admitting = False

    async def ask(self, caller: Caller, *, coupon: str, key: str) -> ClaimAnswer:
        """As `submit`, raising the error instead of passing it."""
        return await answer_of(lambda answer: self.submit(caller, coupon=coupon, key=key, answer=answer))

    def submit(self, caller: Caller, *, coupon: str, key: str, answer: Answer) -> None:
        arrived_s = self._clock.monotonic()
        try:
            if caller.role is not Role.VIEWER:
                raise Forbidden("Only viewers claim coupons.")
            if not self._admitting:
                raise Unavailable("This process is going away; repeat elsewhere.", retry_after_ms=500)
            wait_s = self._limiter.wait_s(f"{caller.shop}|{caller.sub}", arrived_s)
            if wait_s > 0:
                CLAIMS.inc("too_fast")
                answer(ClaimAnswer(ClaimOutcome.TOO_FAST, retry_after_ms=int(wait_s * 1000) + 1))
                return
            known = self._book.cached(caller.shop, coupon)
            if known is not None:
                self._submit(known, caller, key, arrived_s, answer)
            else:
                self._look_ups.begin(
                    lambda: self._book.get(caller.shop, coupon),
                    lambda found: self._submit(found, caller, key, arrived_s, answer),
                    lambda error: self._refuse(answer, error),
                )
        except GatewayError as error:
            self._refuse(answer, error)

    def _submit(self, coupon: Coupon, caller: Caller, key: str, arrived_s: float, answer: Answer) -> None:
        if coupon.room is not None:
            # One of no room is free to whoever has its link, also with a token for a room.
            require_room(caller, coupon.room)

        def answered(given: ClaimAnswer | Exception) -> None:
            CLAIM_SECONDS.observe(self._clock.monotonic() - arrived_s)
            if isinstance(given, ClaimAnswer):
                CLAIMS.inc(given.outcome)
                answer(given)
                if given.claim is not None:
                    if not given.replayed:
                        self._moved(coupon.coupon_no)
                    self._watch.claimed(
                        given.claim,
                        coupon_no=coupon.coupon_no,
                        shop=caller.shop,
                        viewer=caller.sub,
                        ask_now=given.replayed,
                    )
            else:
                if isinstance(given, Unavailable | OutcomeUnknown) and self._is_over(coupon):
                    # It may have left Valkey without this process hearing of it: the next claim looks it up.
                    self._book.forget(coupon.coupon_no)
                self._refuse(answer, given)

        request = ClaimRequest(
            viewer=caller.sub, key=key, coupon_no=coupon.coupon_no, arrived_s=arrived_s, answer=answered
        )
        group = self._retired if coupon.retired else self._groups(coupon.shard)
        group.submit(request)

    def _is_over(self, coupon: Coupon) -> bool:
        return coupon.state_at(self._clock.now_ms()) in (CouponState.CLOSED, CouponState.EXPIRED)

    def _refuse(self, answer: Answer, error: Exception) -> None:
        CLAIMS.inc(error.code if isinstance(error, GatewayError) else "internal")
        answer(error)
