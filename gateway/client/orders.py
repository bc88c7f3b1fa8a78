"""Orders as a viewer knows them: the answer to an order, its later states, and the keys that have no answer yet."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from gateway.client.asking import Pending
from gateway.domain.order import OrderOutcome, OrderStatus
from gateway.wire.frames import MAX_FRAME_BYTES, MAX_PENDING

# Leaves room in the frame of a `hello` for what else it may carry.
MAX_NAMED_BYTES = MAX_FRAME_BYTES - 256
NAMED_OVERHEAD_BYTES = 24  # {"coupon":"","key":""} and a comma


class OrderAnswer(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The true answer to an order. An outcome this client does not know is a refusal."""

    outcome: str
    key: str
    order: str | None = None
    amount_minor: int | None = None
    replayed: bool = False
    left: int | None = None
    may_return: bool = False
    opens_at_ms: int | None = None
    retry_after_ms: int | None = None

    @property
    def is_reserved(self) -> bool:
        return self.outcome == OrderOutcome.RESERVED


class KnownOrder(msgspec.Struct, gc=False, kw_only=True):
    """An order of this viewer with the latest state the gateway told."""

    order: str
    status: str = OrderStatus.RESERVED
    key: str | None = None
    sale: str | None = None
    sku: str | None = None
    quantity: int | None = None
    amount_minor: int | None = None
    pay_by_ms: int | None = None
    reason: str | None = None

    @property
    def is_reserved(self) -> bool:
        """Still only reserved: no later state was told."""
        return self.status == OrderStatus.RESERVED


class PendingOrder(Pending[OrderAnswer]):
    """One key on its way: in flight until its true answer, then unconfirmed until a later state. One whose callers gave
    up is still named, and no longer asked."""

    __slots__ = ("doubtful", "order")

    def __init__(self, frame: Mapping[str, Any]) -> None:
        super().__init__(frame)
        self.doubtful = False
        """It was sent on a socket that ended, or its outcome was called unknown: it may have happened."""
        self.order: str | None = None
        """The order it became, once answered `reserved`."""

    @property
    def key(self) -> str:
        key: str = self.frame["id"]
        return key

    @property
    def name(self) -> dict[str, str]:
        return {"sale": self.frame["sale"], "key": self.frame["id"]}

    @property
    def is_answered(self) -> bool:
        return self.order is not None


class PendingOrders:
    """The keys of one viewer without a true answer or a later state, oldest first."""

    def __init__(self) -> None:
        self._by_key: dict[str, PendingOrder] = {}
        self._by_order: dict[str, PendingOrder] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def __iter__(self) -> Iterator[PendingOrder]:
        return iter(tuple(self._by_key.values()))

    def find(self, key: str | None) -> PendingOrder | None:
        return None if key is None else self._by_key.get(key)

    def add(self, pending: PendingOrder) -> None:
        self._by_key[pending.key] = pending

    def reserved(self, pending: PendingOrder, order: str) -> None:
        pending.order = order
        self._by_order[order] = pending

    def settled(self, order: str) -> None:
        """A later state of the order was told: its key needs no more asking."""
        pending = self._by_order.pop(order, None)
        if pending is not None:
            self.drop(pending)

    def drop(self, pending: PendingOrder) -> None:
        pending.stop_timer()
        if self._by_key.get(pending.key) is pending:
            del self._by_key[pending.key]
        if pending.order is not None:
            self._by_order.pop(pending.order, None)

    def named(self, max_bytes: int = MAX_NAMED_BYTES) -> list[dict[str, str]]:
        """What `hello` names: keys in flight first, then the unconfirmed, as many as its frame may carry."""
        names: list[dict[str, str]] = []
        for pending in sorted(self._by_key.values(), key=lambda pending: pending.order is not None):
            name = pending.name
            max_bytes -= len(name["sale"]) + len(name["key"]) + NAMED_OVERHEAD_BYTES
            if max_bytes < 0 or len(names) == MAX_PENDING:
                break
            names.append(name)
        return names
