"""A viewer asks for units of a sku; an effect is given once per idempotency key."""

import hashlib
from collections.abc import Callable
from typing import Any, Protocol

import msgspec

from gateway.clock import Clock
from gateway.domain.caller import Caller, Role
from gateway.domain.coupon import Coupon
from gateway.domain.ids import ClaimPlace, IdMint, OrderId
from gateway.domain.order import MAX_META_BYTES, OrderAnswer, OrderOutcome, OrderRequest
from gateway.domain.sale import Sale, SaleState
from gateway.errors import Forbidden, GatewayError, Invalid, NotFound, OutcomeUnknown, Unavailable
from gateway.flows.access import require_room
from gateway.flows.look_ups import LookUps, answer_of
from gateway.flows.sale_book import SaleBook
from gateway.metrics import ORDER_SECONDS, ORDERS, REFS_IGNORED

Answer = Callable[[OrderAnswer | Exception], None]


class Group(Protocol):
    def submit(self, request: OrderRequest) -> None: ...


class Coupons(Protocol):
    """`gateway.flows.coupon_book.CouponBook`."""

    def cached_no(self, number: int, /) -> Coupon | None: ...
    async def by_no(self, number: int, /) -> Coupon | None: ...


class Limiter(Protocol):
    def wait_s(self, who: str, now_s: float) -> float: ...


class Links(Protocol):
    """`gateway.domain.links.LinkSeal`."""

    def is_of(self, shop: str, ref: str) -> bool: ...


class Watch(Protocol):
    def placed(self, order: OrderId, *, sale_no: int, shop: str, viewer: str, ask_now: bool) -> None: ...


class PlaceOrder:
    """Admits an order, gives it to the group of its sale and passes the answer on.

    `submit` never blocks and calls `answer` exactly once, at once or later; `ask` is the same for who can await.
    """

    def __init__(
        self,
        *,
        book: SaleBook,
        coupons: Coupons,
        mint: IdMint,
        groups: Callable[[int], Group],
        retired: Group,
        limiter: Limiter,
        watch: Watch,
        links: Links,
        clock: Clock,
        sold: Callable[[int, int], None] = lambda sale_no, item_no: None,
    ) -> None:
        """`retired` takes the orders on sales that Valkey does not have any more; `sold` hears of sale and item whose
        units moved."""
        self._book = book
        self._coupons = coupons
        self._mint = mint
        self._groups = groups
        self._retired = retired
        self._limiter = limiter
        self._watch = watch
        self._links = links
        self._clock = clock
        self._sold = sold
        self._look_ups = LookUps()
        self._admitting = True

    async def run(self) -> None:
        """Owns the look-ups; runs until cancelled."""
        await self._look_ups.run()

    def stop_admitting(self) -> None:
        self._admitting = False

    async def ask(self, caller: Caller, **order: Any) -> OrderAnswer:
        """As `submit`, raising the error instead of passing it."""
        return await answer_of(lambda answer: self.submit(caller, answer=answer, **order))

    def submit(
        self,
        caller: Caller,
        *,
        sale: str,
        sku: str,
        quantity: int,
        key: str,
        answer: Answer,
        expect_amount_minor: int | None = None,
        coupon_claim: str | None = None,
        ref: str | None = None,
        meta: object = None,
        pickup: bool | str | None = None,
    ) -> None:
        arrived_s = self._clock.monotonic()
        try:
            if caller.role is not Role.VIEWER:
                raise Forbidden("Only viewers place orders.")
            if not self._admitting:
                raise Unavailable("This process is going away; repeat elsewhere.", retry_after_ms=500)
            wait_s = self._limiter.wait_s(f"{caller.shop}|{caller.sub}", arrived_s)
            if wait_s > 0:
                ORDERS.inc("too_fast")
                answer(OrderAnswer(OrderOutcome.TOO_FAST, retry_after_ms=int(wait_s * 1000) + 1))
                return
            by = self.ref_for(caller, ref)
            if by is None and caller.ref is not None:
                REFS_IGNORED.add(1)
            said = _extra(ref, meta, pickup)
            request = OrderRequest(
                sale_no=0,
                item_no=0,
                viewer=caller.sub,
                key=key,
                fingerprint=_digest(said),
                quantity=quantity,
                expect_amount_minor=-1 if expect_amount_minor is None else expect_amount_minor,
                extra=said if by == ref else _extra(by, meta, pickup),
                arrived_s=arrived_s,
                answer=answer,
                claim=None if coupon_claim is None else self._claim(coupon_claim),
            )
            known = self._book.cached(caller.shop, sale)
            coupon = None if request.claim is None else self._coupons.cached_no(request.claim.coupon_no)
            if known is not None and (request.claim is None or coupon is not None):
                self._submit(request, caller, known, sku, coupon)
            else:
                self._look_ups.begin(
                    lambda: self._find(request, caller, sale),
                    lambda found: self._submit(request, caller, found[0], sku, found[1]),
                    lambda error: self._refuse(request.answer, error),
                )
        except GatewayError as error:
            self._refuse(answer, error)

    def ref_for(self, caller: Caller, ref: str | None) -> str | None:
        """The link an order comes by: its own, or else the token's. Asks nobody. Raises Invalid for one that this
        gateway did not give to the shop; in a token, which no viewer wrote, such a one only counts for nothing."""
        if ref is None:
            return caller.ref if caller.ref is not None and self._links.is_of(caller.shop, caller.ref) else None
        if not self._links.is_of(caller.shop, ref):
            raise Invalid("That is no link of this shop.", param="ref")
        return ref

    def _claim(self, claim_id: str) -> ClaimPlace:
        place = self._mint.read_claim(claim_id)
        if place is None:
            raise Invalid("That is no claim of a coupon.", param="coupon_claim")
        return place

    async def _find(self, request: OrderRequest, caller: Caller, sale_id: str) -> tuple[Sale, Coupon | None]:
        """The first order for a sale this process has not seen, or with a claim of such a coupon."""
        coupon = None if request.claim is None else await self._coupons.by_no(request.claim.coupon_no)
        return await self._book.get(caller.shop, sale_id), coupon

    def _submit(self, request: OrderRequest, caller: Caller, sale: Sale, sku: str, coupon: Coupon | None) -> None:
        require_room(caller, sale.room)
        request.item_no = _item_no(sale, sku)
        request.sale_no = sale.sale_no
        request.currency = sale.currency
        request.fingerprint = _fingerprint(request)
        # Not `request` itself: it holds this closure, and a ring of the two would outlive the order.
        answer, shop, viewer, arrived_s = request.answer, caller.shop, request.viewer, request.arrived_s
        item_no = request.item_no

        def answered(given: OrderAnswer | Exception) -> None:
            ORDER_SECONDS.observe(self._clock.monotonic() - arrived_s)
            if isinstance(given, OrderAnswer):
                ORDERS.inc(given.outcome)
                answer(given)
                if given.order is not None:
                    if not given.replayed:
                        self._sold(sale.sale_no, item_no)
                    self._watch.placed(
                        given.order,
                        sale_no=sale.sale_no,
                        shop=shop,
                        viewer=viewer,
                        ask_now=given.replayed,
                    )
            else:
                if isinstance(given, Unavailable | OutcomeUnknown) and self._is_over(sale):
                    # It may have left Valkey without this process hearing of it: the next order looks it up.
                    self._book.forget(sale.sale_no)
                self._refuse(answer, given)

        request.answer = answered
        if request.claim is not None and (coupon is None or coupon.shop != shop):
            # The same `sub` in two shops are two viewers, and shops may share a shard.
            answered(OrderAnswer(OrderOutcome.COUPON_UNUSABLE))
            return
        group = self._retired if sale.retired else self._groups(sale.shard)
        group.submit(request)

    def _is_over(self, sale: Sale) -> bool:
        return sale.state_at(self._clock.now_ms()) is SaleState.CLOSED

    def _refuse(self, answer: Answer, error: Exception) -> None:
        ORDERS.inc(error.code if isinstance(error, GatewayError) else "internal")
        answer(error)


def _item_no(sale: Sale, sku: str) -> int:
    for item in sale.items:
        if item.sku == sku:
            return item.item_no
    raise NotFound("There is no such sku in this sale.", param="sku")


def _fingerprint(request: OrderRequest) -> str:
    """What makes two requests the same content; short, because Valkey keeps it beside the key."""
    text = f"{request.item_no}.{request.quantity}.{request.expect_amount_minor}"
    if request.claim is not None:
        text += f".c{request.claim.coupon_no}.{request.claim.epoch}.{request.claim.seq}"
    return f"{text}.{request.fingerprint}" if request.fingerprint else text


def _digest(said: str) -> str:
    """Of what the order itself says beside its item; what its token adds may be another when it is repeated."""
    return hashlib.blake2b(said.encode(), digest_size=8).hexdigest() if said else ""


def _extra(ref: str | None, meta: object, pickup: bool | str | None) -> str:
    """What the ledger keeps beside the order, as JSON; empty when there is nothing."""
    if ref is None and meta is None and not pickup:
        return ""
    extra: dict[str, object] = {}
    if pickup:
        extra["pickup"] = pickup
    if ref is not None:
        extra["ref"] = ref
    if meta is not None:
        extra["meta"] = meta
    try:
        if meta is not None and len(msgspec.json.encode(meta)) > MAX_META_BYTES:
            raise Invalid(f"meta is longer than {MAX_META_BYTES} bytes.", param="meta")
        return msgspec.json.encode(extra, order="sorted").decode()
    except (TypeError, ValueError, RecursionError) as error:
        # MessagePack knows more than JSON: keys that are no strings, types of its own.
        raise Invalid("meta is not JSON.", param="meta") from error
