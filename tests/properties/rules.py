"""The rules of the scripts in plain words: one shard as Valkey has it, beside the ledger it belongs to.

Nothing is counted up and down here as the scripts do it. Units are claims that are held, sold or back; what is left,
what is held and what a viewer has are sums over them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

MINUTE_MS = 60_000


@dataclass(slots=True)
class Claim:
    """Units of one item for one viewer. `at` is where Valkey has them: held | sold | back."""

    sale_no: int
    item: int
    viewer: str
    quantity: int
    at: str


@dataclass(slots=True)
class Order:
    claim: Claim
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
    claim: Claim
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
    claim: Claim
    order: Order | None
    epoch: int
    seq: int

    def apply(self) -> None:
        self.claim.at = "sold" if self.kind == "paid" else "back"
        if self.kind == "refuse" and self.order is not None:
            self.order.answers = False


@dataclass(slots=True)
class Item:
    price: int
    limit: int
    stock: int


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
    act: tuple[str, int, int] | None = None
    revival: Revival | None = None


@dataclass(slots=True)
class Answer:
    """What a script says of the shard, before anything else."""

    word: str
    epoch: int
    seq: int


@dataclass(slots=True)
class Shard:
    """Valkey's part and the ledger's part of one shard."""

    sales: dict[int, Sale]
    there: bool = True
    """Valkey has the shard in an epoch: it was not emptied, and no rebuild is filling it."""
    emptied: bool = False
    astray: bool = False
    """Valkey has what the ledger has given up; the shard is shut until it is recounted."""
    open: bool = True
    epoch: int = 1
    seq: int = 0
    applied: int = 0
    released: int = 0
    opens_up_to: int | None = None
    loaded: int | None = None
    """No rebuild with this token or an older one does anything more."""
    stream: list[Entry] = field(default_factory=list)
    acts: dict[tuple[str, str], tuple[str, int, int]] = field(default_factory=dict)
    orders: list[Order] = field(default_factory=list)
    revivals: list[Revival] = field(default_factory=list)
    # The ledger.
    ledger_epoch: int = 1
    cursor: int = 0
    ledger_sales: dict[int, Sale] = field(default_factory=dict)
    payments: list[Payment] = field(default_factory=list)
    outbox: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger_sales = {no: sale.copy() for no, sale in self.sales.items()}

    # Sums.

    def _claims(self) -> Iterator[Claim]:
        for order in self.orders:
            yield order.claim
        for revival in self.revivals:
            yield revival.claim

    def held(self, sale_no: int, item: int) -> int:
        return sum(c.quantity for c in self._claims() if (c.sale_no, c.item, c.at) == (sale_no, item, "held"))

    def left(self, sale_no: int, item: int) -> int:
        out = sum(c.quantity for c in self._claims() if (c.sale_no, c.item) == (sale_no, item) and c.at != "back")
        return self.sales[sale_no].items[item].stock - out

    def units(self, sale_no: int) -> dict[tuple[str, int], int]:
        had: dict[tuple[str, int], int] = {}
        for claim in self._claims():
            if claim.sale_no == sale_no and claim.at != "back":
                had[claim.viewer, claim.item] = had.get((claim.viewer, claim.item), 0) + claim.quantity
        return had

    def answering(self, sale_no: int) -> dict[tuple[str, str], Order]:
        return {(o.claim.viewer, o.key): o for o in self.orders if o.answers and o.claim.sale_no == sale_no}

    # Groups of orders.

    def stands(self, epoch: int, seen: int = 0) -> Answer | None:
        """Why the shard decides nothing; None: it does."""
        if not self.there:
            return Answer("closed", 0, 0)
        if not self.open:
            return Answer("closed", self.epoch, self.seq)
        if epoch != self.epoch:
            return Answer("epoch", self.epoch, self.seq)
        if self.seq < seen:
            return Answer("behind", self.epoch, self.seq)
        return None

    def place(self, sale_no: int, requests: list[list[Any]], *, now_ms: int, backlog: int) -> list[list[Any]]:
        full = self.seq - self.applied + len(requests) > backlog
        entry = Entry(self.epoch, self.seq + 1, self.seq, [])
        answers = [self._judge(sale_no, each, now_ms=now_ms, full=full, entry=entry) for each in requests]
        if entry.orders:
            entry.last = self.seq
            rows = [
                [o.claim.viewer, o.key, o.fingerprint, o.claim.item, o.claim.quantity, o.price, o.extra]
                for o in entry.orders
            ]
            entry.body = ["orders", sale_no, now_ms, entry.first, rows]
            self.stream.append(entry)
        return answers

    def _judge(self, sale_no: int, request: list[Any], *, now_ms: int, full: bool, entry: Entry) -> list[Any]:
        viewer, key, fingerprint, no, quantity, expect, extra, until_ms = request
        sale = self.sales[sale_no]
        item = sale.items[no]
        earlier = self.answering(sale_no).get((viewer, key))
        if earlier is not None:
            if earlier.fingerprint != fingerprint:
                return ["key_reused"]
            return ["replayed", earlier.epoch, earlier.seq, earlier.at_ms, earlier.price]
        if now_ms > until_ms:
            return ["late"]
        closed = self._closed(sale, now_ms)
        if closed:
            return closed
        if expect >= 0 and expect != item.price * quantity:
            return ["price_changed", item.price]
        if self.units(sale_no).get((viewer, no), 0) + quantity > item.limit:
            return ["limit_reached"]
        if self.left(sale_no, no) < quantity:
            return ["sold_out", self.left(sale_no, no), 1 if self.held(sale_no, no) else 0]
        if full:
            return ["backlog"]
        self.seq += 1
        claim = Claim(sale_no, no, viewer, quantity, "held")
        order = Order(claim, key, fingerprint, item.price, extra, self.epoch, self.seq, now_ms)
        self.orders.append(order)
        entry.orders.append(order)
        return ["reserved", self.seq, item.price]

    def _closed(self, sale: Sale, now_ms: int) -> list[Any]:
        if sale.hold == "closed" or now_ms >= sale.closes_at:
            return ["ended"]
        if sale.hold == "paused":
            return ["paused"]
        if now_ms < sale.opens_at or (self.opens_up_to is not None and sale.opens_at > self.opens_up_to):
            return ["not_started", sale.opens_at]
        return []

    # Acts of hosts.

    def act(
        self, sale_no: int, act: str, item: int, value: int, *, actor: str, key: str, late: bool, now_ms: int
    ) -> tuple[str, int]:
        """(word, sequence number that the ledger must reach)."""
        content = f"{act}.{sale_no}.{item}.{value}"
        if key and (actor, key) in self.acts:
            of_content, of_epoch, of_seq = self.acts[actor, key]
            if of_content != content:
                return "key_reused", self.seq
            return "replayed", of_seq if of_epoch == self.epoch else 0
        if late:
            return "late", self.seq
        sale = self.sales[sale_no]
        at = now_ms if act != "open" or self.opens_up_to is None else min(now_ms, self.opens_up_to)
        word = self._judge_act(sale, act, item, value, now_ms, at)
        if word:
            return word, self.seq
        change(sale, act, item, value, at)
        self.seq += 1
        kind = "price" if act == "price" else "stock"
        body = ["act", sale_no, at, self.seq, act, item, value, actor, kind, key, content, "why"]
        self.stream.append(Entry(self.epoch, self.seq, self.seq, body, act=(act, item, value)))
        if key:
            self.acts[actor, key] = (content, self.epoch, self.seq)
        return "done", self.seq

    def _judge_act(self, sale: Sale, act: str, item: int, value: int, now_ms: int, at: int) -> str:
        """Why it is not done; empty: it is."""
        if act == "close":
            return "same" if sale.hold == "closed" else ""
        if sale.hold == "closed" or now_ms >= sale.closes_at:
            return "ended"
        already = {
            "pause": sale.hold == "paused",
            "resume": sale.hold == "active",
            "open": sale.hold == "active" and at >= sale.opens_at,
            "price": sale.items[item].price == value,
        }
        if already.get(act):
            return "same"
        if act == "stock" and self.left(sale.no, item) + value < 0:
            return "in_use"
        return ""

    # Late money.

    def revive(self, payment: Payment, now_ms: int) -> tuple[str, int]:
        for revival in self.revivals:
            if revival.payment is payment and revival.remembered:
                return "replayed", revival.seq if revival.epoch == self.epoch else 0
        claim = replace(payment.order.claim, at="sold")
        if (
            self.units(claim.sale_no).get((claim.viewer, claim.item), 0) + claim.quantity
            > self.sales[claim.sale_no].items[claim.item].limit
        ):
            return "limit_reached", self.seq
        if self.left(claim.sale_no, claim.item) < claim.quantity:
            return "sold_out", self.seq
        self.seq += 1
        revival = Revival(payment, claim, self.epoch, self.seq)
        self.revivals.append(revival)
        body = ["late", claim.sale_no, now_ms, self.seq, payment.no, claim.item, claim.viewer, claim.quantity]
        self.stream.append(Entry(self.epoch, self.seq, self.seq, [*body, payment.order.id], revival=revival))
        return "revived", self.seq

    # What the ledger does. It is free to refuse whatever it likes: its reasons are not Valkey's.

    def _row(self, kind: str, claim: Claim, order: Order | None, epoch: int, seq: int) -> None:
        self.outbox.append(Row(len(self.outbox) + 1, kind, claim, order, epoch, seq))

    def waiting(self) -> list[Entry]:
        return [each for each in self.stream if each.epoch == self.ledger_epoch and each.last > self.cursor]

    def apply_next(self, *, refuse: bool) -> None:
        """The writer's next entry; `refuse`: the first of its orders, or its revival, is not taken."""
        entry = self.waiting()[0]
        for at, order in enumerate(entry.orders):
            if refuse and at == 0:
                order.status = "refused"
                self._row("refuse", order.claim, order, order.epoch, order.seq)
            else:
                order.status = "confirmed"
        if entry.act is not None:
            change(self.ledger_sales[entry.body[1]], *entry.act, entry.body[2])
        if entry.revival is not None:
            revival = entry.revival
            revival.waiting = False
            if revival.payment.state == "waiting" and revival.payment.order.status == "expired" and not refuse:
                revival.payment.state, revival.payment.order.status, revival.took = "applied", "paid", True
            else:
                self.refund(revival.payment)
                self._row("return", revival.claim, None, revival.epoch, revival.seq)
        self.cursor = entry.last

    def refund(self, payment: Payment) -> None:
        """Late money whose order does not come back."""
        if payment.state == "waiting":
            payment.state = "refund_due"
            if payment.order.status == "expired":
                payment.order.status = "refund_due"

    def settle(self, order: Order, act: str) -> None:
        """pay | expire | cancel of a confirmed order, pay of an expired one, refund of a paid one."""
        row = (order.claim, order, order.epoch, order.seq)
        if order.status == "confirmed" and act in ("pay", "expire", "cancel"):
            order.status = {"pay": "paid", "expire": "expired", "cancel": "cancelled"}[act]
            self._row("paid" if act == "pay" else "release", *row)
        elif order.status == "expired" and act == "pay":
            if all(each.order is not order or each.state != "waiting" for each in self.payments):
                self.payments.append(Payment(len(self.payments) + 1, order))
        elif order.status == "paid" and act == "refund":
            order.status = "refunded"
            revived = [each.claim for each in self.revivals if each.took and each.payment.order is order]
            self._row("return", revived[0] if revived else order.claim, order, order.epoch, order.seq)

    def pending(self) -> list[Row]:
        return self.outbox[self.released :]

    def release(self, rows: Iterable[Row]) -> None:
        for row in rows:
            if row.no > self.released:
                row.apply()
                self.released = row.no

    # Epochs.

    def next_epoch(self) -> None:
        """The ledger goes on from what it has; what else the stream promised is lost."""
        for order in self.orders:
            if order.status == "waiting":
                order.status, order.answers, order.claim.at = "lost", False, "back"
        for revival in self.revivals:
            if revival.waiting:
                revival.waiting, revival.claim.at = False, "back"
        self.ledger_epoch, self.cursor = self.ledger_epoch + 1, 0

    def recount(self) -> None:
        """Valkey as the ledger has it at this moment."""
        at = {"confirmed": "held", "paid": "sold"}
        for order in self.orders:
            order.claim.at = at.get(order.status, "back")
            order.answers = order.status not in ("refused", "lost")
        for revival in self.revivals:
            revival.remembered = False
            revival.claim.at = "back"
            if revival.took and revival.payment.order.status == "paid":
                revival.claim.at, revival.payment.order.claim.at = "sold", "back"
        self.sales = {no: sale.copy() for no, sale in self.ledger_sales.items()}
        self.acts = {}
        self.released = len(self.outbox)

    # What must hold whatever happened.

    def conserved(self) -> bool:
        """Every unit of stock is somewhere, once; Valkey and the ledger agree about where, less what is on its way."""
        for sale in self.sales.values():
            for no, item in sale.items.items():
                taken = pending = 0
                for order in self.orders:
                    claim = order.claim
                    if (claim.sale_no, claim.item) == (sale.no, no):
                        taken += claim.quantity if order.status in ("waiting", "confirmed", "paid") else 0
                for revival in self.revivals:
                    claim = revival.claim
                    if (claim.sale_no, claim.item) == (sale.no, no):
                        taken += claim.quantity if revival.waiting else 0
                for row in self.pending():
                    if (row.claim.sale_no, row.claim.item) == (sale.no, no) and row.kind != "paid":
                        pending += row.claim.quantity
                if self.left(sale.no, no) != item.stock - taken - pending or self.left(sale.no, no) < 0:
                    return False
        return True


def change(sale: Sale, act: str, item: int, value: int, at: int) -> None:
    if act == "stock":
        sale.items[item].stock += value
    elif act == "price":
        sale.items[item].price = value
    else:
        sale.hold = {"pause": "paused", "close": "closed"}.get(act, "active")
        if act == "open":
            sale.opens_at = min(sale.opens_at, at)
