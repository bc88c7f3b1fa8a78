"""A viewer asks for units of a sku; an effect is given once per idempotency key."""

import asyncio
import hashlib
import random
from collections.abc import Callable
from typing import Any, Protocol

import msgspec
import structlog

from gateway.clock import Clock
from gateway.domain.caller import Caller, Role
from gateway.domain.ids import OrderId
from gateway.domain.order import MAX_META_BYTES, OrderAnswer, OrderOutcome, OrderRequest
from gateway.domain.sale import Sale, SaleState
from gateway.errors import Forbidden, GatewayError, Invalid, NotFound, OutcomeUnknown, Overloaded, Unavailable
from gateway.flows.access import require_room
from gateway.flows.sale_book import SaleBook
from gateway.metrics import ORDER_SECONDS, ORDERS

log = structlog.get_logger(__name__)

Answer = Callable[[OrderAnswer | Exception], None]

# Sales being looked up for the first time; each waiting order holds one place.
_LOOKUPS_MAX = 10_000


class Group(Protocol):
    def submit(self, request: OrderRequest) -> None: ...


class Limiter(Protocol):
    def wait_s(self, who: str, now_s: float) -> float: ...


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
        groups: Callable[[int], Group],
        retired: Group,
        limiter: Limiter,
        watch: Watch,
        clock: Clock,
        sold: Callable[[int, int], None] = lambda sale_no, item_no: None,
    ) -> None:
        """`retired` takes the orders on sales that Valkey does not have any more; `sold` hears of sale and item whose
        units moved."""
        self._book = book
        self._groups = groups
        self._retired = retired
        self._limiter = limiter
        self._watch = watch
        self._clock = clock
        self._sold = sold
        self._tasks: asyncio.TaskGroup | None = None
        self._lookups = 0
        self._admitting = True

    async def run(self) -> None:
        """Owns the look-ups; runs until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            await asyncio.Event().wait()

    def stop_admitting(self) -> None:
        self._admitting = False

    async def ask(self, caller: Caller, **order: Any) -> OrderAnswer:
        """As `submit`, raising the error instead of passing it."""
        waiting: asyncio.Future[OrderAnswer] = asyncio.get_running_loop().create_future()

        def answer(given: OrderAnswer | Exception) -> None:
            if waiting.done():
                return  # the caller left; the order stands and is told by its key
            if isinstance(given, Exception):
                waiting.set_exception(given)
            else:
                waiting.set_result(given)

        self.submit(caller, answer=answer, **order)
        return await waiting

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
        ref: str | None = None,
        meta: object = None,
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
            request = OrderRequest(
                sale_no=0,
                item_no=0,
                viewer=caller.sub,
                key=key,
                fingerprint="",
                quantity=quantity,
                expect_amount_minor=-1 if expect_amount_minor is None else expect_amount_minor,
                extra=_extra(ref or caller.ref, meta),
                arrived_s=arrived_s,
                answer=answer,
            )
            known = self._book.cached(caller.shop, sale)
            if known is not None:
                self._submit(request, caller, known, sku)
            else:
                self._look_up(request, caller, sale, sku)
        except GatewayError as error:
            self._refuse(answer, error)

    def _look_up(self, request: OrderRequest, caller: Caller, sale_id: str, sku: str) -> None:
        """The first order for a sale this process has not seen; the others wait beside it."""
        if self._tasks is None or self._lookups >= _LOOKUPS_MAX:
            raise Overloaded(retry_after_ms=random.randint(200, 1000))
        self._lookups += 1

        async def look_up() -> None:
            try:
                self._submit(request, caller, await self._book.get(caller.shop, sale_id), sku)
            except GatewayError as error:
                # Nothing was sent, so whatever went wrong with the look-up, nothing happened.
                known = error if isinstance(error, NotFound | Invalid | Overloaded | Forbidden) else Unavailable()
                self._refuse(request.answer, known)
            except Exception as error:
                log.exception("sale_not_looked_up")
                self._refuse(request.answer, error)
            finally:
                self._lookups -= 1

        self._tasks.create_task(look_up())

    def _submit(self, request: OrderRequest, caller: Caller, sale: Sale, sku: str) -> None:
        require_room(caller, sale.room)
        request.item_no = _item_no(sale, sku)
        request.sale_no = sale.sale_no
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
    if request.extra:
        text += "." + hashlib.blake2b(request.extra.encode(), digest_size=8).hexdigest()
    return text


def _extra(ref: str | None, meta: object) -> str:
    """What the ledger keeps beside the order, as JSON; empty when there is nothing."""
    if ref is None and meta is None:
        return ""
    extra: dict[str, object] = {}
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
