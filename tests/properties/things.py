"""What the rules in plain words speak of: holds, orders, payments, rows, sales, entries."""

from dataclasses import dataclass, field, replace
from typing import Any

from tests.properties.coupon_rules import Claim

MINUTE_MS = 60_000


@dataclass(slots=True)
class Hold:
    """Units of one item for one viewer. `at` is where Valkey has them: held | sold | back."""

    sale_no: int
    item: int
    viewer: str
    quantity: int
    at: str


@dataclass(slots=True)
class Order:
    hold: Hold
    key: str
    fingerprint: str
    price: int
    extra: str
    epoch: int
    seq: int
    at_ms: int
    status: str = "waiting"
    """As the ledger has it; `waiting`: in the stream, the ledger has not seen it."""
    answers: bool = True
    """Its key gives it as the answer, in Valkey."""
    claim: Claim | None = None
    """What it redeems, or would."""
    discount: int = 0
    holds_claim: bool = False
    """In Valkey it is this order that redeems the claim."""

    @property
    def id(self) -> str:
        return f"ord_{self.epoch}_{self.seq}"


@dataclass(slots=True)
class Payment:
    """Late money. `state`: waiting | applied | refund_due."""

    no: int
    order: Order
    state: str = "waiting"


@dataclass(slots=True)
class Revival:
    """Units that Valkey took for a late payment."""

    payment: Payment
    hold: Hold
    epoch: int
    seq: int
    waiting: bool = True
    took: bool = False
    """The ledger took it: these are the units of the order that came back."""
    remembered: bool = True
    """Valkey knows that the payment was decided."""


@dataclass(slots=True)
class Row:
    """One row of the outbox, and what it does in Valkey."""

    no: int
    kind: str
    hold: Hold | None
    order: Order | None
    epoch: int
    seq: int
    claim: Claim | None = None
    """Of an unclaim; else it is the order's."""

    def apply(self) -> None:
        if self.claim is not None:
            self.claim.there = self.claim.answers = False
        if self.hold is not None:
            self.hold.at = "sold" if self.kind == "paid" else "back"
        if self.kind == "refuse" and self.order is not None:
            self.order.answers = False
        if self.kind != "paid" and self.order is not None:
            self.order.holds_claim = False


@dataclass(slots=True)
class Item:
    price: int
    limit: int
    stock: int
    floor: int = 0
    plan: list[tuple[int, int]] = field(default_factory=list)

    def price_at(self, now_ms: int) -> int:
        return next((price for from_ms, price in reversed(self.plan) if from_ms <= now_ms), self.price)


@dataclass(slots=True)
class Sale:
    no: int
    hold: str
    opens_at: int
    closes_at: int
    items: dict[int, Item]

    def copy(self) -> "Sale":
        return replace(self, items={no: replace(item) for no, item in self.items.items()})


@dataclass(slots=True)
class Entry:
    """One entry of the stream, and what the ledger makes of it."""

    epoch: int
    first: int
    last: int
    body: list[Any]
    orders: list[Order] = field(default_factory=list)
    act: tuple[str, int, int, str] | None = None
    revival: Revival | None = None
    claims: list[Claim] = field(default_factory=list)
    drop: bool = False


@dataclass(slots=True)
class Answer:
    """What a script says of the shard, before anything else."""

    word: str
    epoch: int
    seq: int


def plan_of(text: str) -> list[tuple[int, int]]:
    steps = [step.partition(":") for step in text.split(";") if step]
    return [(int(from_ms), int(price)) for from_ms, _, price in steps]


def change(sale: Sale, act: str, item: int, value: int, text: str, at: int) -> None:
    if act == "stock":
        sale.items[item].stock += value
    elif act == "price":
        sale.items[item].price, sale.items[item].plan = value, []
    elif act == "plan":
        sale.items[item].plan = plan_of(text)
    elif act == "window":
        sale.opens_at, sale.closes_at = value, int(text)
    else:
        sale.hold = {"pause": "paused", "close": "closed"}.get(act, "active")
        if act == "open":
            sale.opens_at = min(sale.opens_at, at)
