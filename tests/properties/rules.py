"""The rules of the scripts in plain words: one shard as Valkey has it, beside the ledger it belongs to.

Nothing is counted up and down here as the scripts do it. The units of a hold are held, sold or back; what is left,
what is held and what a viewer has are sums over them. Coupons are beside (`coupon_rules`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tests.properties.coupon_rules import Claim, Coupons
from tests.properties.things import (
    Answer,
    Entry,
    Hold,
    Item,
    Order,
    Payment,
    Revival,
    Row,
    Sale,
    change,
    plan_of,
)


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
    coupons: Coupons = field(default_factory=Coupons)
    # The ledger.
    ledger_epoch: int = 1
    cursor: int = 0
    ledger_sales: dict[int, Sale] = field(default_factory=dict)
    payments: list[Payment] = field(default_factory=list)
    outbox: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger_sales = {no: sale.copy() for no, sale in self.sales.items()}

    # Sums.

    def _holds(self) -> Iterator[Hold]:
        for order in self.orders:
            yield order.hold
        for revival in self.revivals:
            yield revival.hold

    def held(self, sale_no: int, item: int) -> int:
        return sum(c.quantity for c in self._holds() if (c.sale_no, c.item, c.at) == (sale_no, item, "held"))

    def left(self, sale_no: int, item: int) -> int:
        out = sum(c.quantity for c in self._holds() if (c.sale_no, c.item) == (sale_no, item) and c.at != "back")
        return self.sales[sale_no].items[item].stock - out

    def units(self, sale_no: int) -> dict[tuple[str, int], int]:
        had: dict[tuple[str, int], int] = {}
        for hold in self._holds():
            if hold.sale_no == sale_no and hold.at != "back":
                had[hold.viewer, hold.item] = had.get((hold.viewer, hold.item), 0) + hold.quantity
        return had

    def answering(self, sale_no: int) -> dict[tuple[str, str], Order]:
        return {(o.hold.viewer, o.key): o for o in self.orders if o.answers and o.hold.sale_no == sale_no}

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
            entry.body = ["orders", sale_no, now_ms, entry.first, [_told(order) for order in entry.orders]]
            self.stream.append(entry)
        return answers

    def _judge(self, sale_no: int, request: list[Any], *, now_ms: int, full: bool, entry: Entry) -> list[Any]:
        viewer, key, fingerprint, no, quantity, expect, extra, until_ms, *named = request
        sale = self.sales[sale_no]
        item = sale.items[no]
        earlier = self.answering(sale_no).get((viewer, key))
        if earlier is not None:
            if earlier.fingerprint != fingerprint:
                return ["key_reused"]
            return ["replayed", earlier.epoch, earlier.seq, earlier.at_ms, *_priced(earlier.price, earlier.discount)]
        if now_ms > until_ms:
            return ["late"]
        closed = self._closed(sale, now_ms)
        if closed:
            return closed
        price = item.price_at(now_ms)
        claim, discount = self._redeemable(named, viewer, sale_no, item, quantity, now_ms) if named else (None, 0)
        if (not named or discount) and expect >= 0 and expect != price * quantity - discount:
            return ["price_changed", *_priced(price, discount)]
        if self.units(sale_no).get((viewer, no), 0) + quantity > item.limit:
            return ["limit_reached"]
        if self.left(sale_no, no) < quantity:
            return ["sold_out", self.left(sale_no, no), 1 if self.held(sale_no, no) else 0]
        if named and not discount:
            return ["coupon_unusable"]
        if full:
            return ["backlog"]
        self.seq += 1
        hold = Hold(sale_no, no, viewer, quantity, "held")
        order = Order(hold, key, fingerprint, price, extra, self.epoch, self.seq, now_ms)
        order.claim, order.discount, order.holds_claim = claim, discount, claim is not None
        self.orders.append(order)
        entry.orders.append(order)
        return ["reserved", self.seq, *_priced(price, discount)]

    def _redeemable(
        self, named: list[Any], viewer: str, sale_no: int, item: Item, quantity: int, now_ms: int
    ) -> tuple[Claim | None, int]:
        """The claim, and what it takes off; (None, 0) where it is of no use."""
        coupon_no, place = named
        coupon, claim = self.coupons.offered[coupon_no], self.coupons.named(coupon_no, place)
        if claim is None or claim.viewer != viewer or self.holder(claim) is not None:
            return None, 0
        if now_ms >= coupon.valid_until or (coupon.sales and sale_no not in coupon.sales):
            return None, 0
        discount = coupon.takes_off(item.price_at(now_ms), quantity, item.floor, claim)
        return (claim, discount) if discount else (None, 0)

    def holder(self, claim: Claim) -> Order | None:
        """The order that redeems it, in Valkey."""
        return next((order for order in self.orders if order.claim is claim and order.holds_claim), None)

    def _closed(self, sale: Sale, now_ms: int) -> list[Any]:
        if sale.hold == "closed" or now_ms >= sale.closes_at:
            return ["ended"]
        if sale.hold == "paused":
            return ["paused"]
        if now_ms < sale.opens_at or (self.opens_up_to is not None and sale.opens_at > self.opens_up_to):
            return ["not_started", sale.opens_at]
        return []

    # Coupons.

    def claim(self, coupon_no: int, requests: list[list[Any]], *, now_ms: int, backlog: int) -> list[list[Any]]:
        full = self.seq - self.applied + len(requests) > backlog
        entry = Entry(self.epoch, self.seq + 1, self.seq, [])
        answers = [self._judge_claim(coupon_no, each, now_ms, full, entry) for each in requests]
        if entry.claims:
            entry.last = self.seq
            rows = [[claim.viewer, claim.key, claim.value] for claim in entry.claims]
            entry.body = ["claims", coupon_no, now_ms, entry.first, rows]
            self.stream.append(entry)
        return answers

    def _judge_claim(self, coupon_no: int, request: list[Any], now_ms: int, full: bool, entry: Entry) -> list[Any]:
        viewer, key, until_ms, draw = request
        coupon, taken = self.coupons.offered[coupon_no], self.coupons.taken(coupon_no)
        earlier = self.coupons.answering(coupon_no).get((viewer, key))
        if earlier is not None:
            return ["replayed", earlier.epoch, earlier.seq, earlier.at_ms, earlier.value]
        if now_ms > until_ms:
            return ["late"]
        closed = coupon.closed(now_ms, self.opens_up_to)
        if closed:
            return closed
        if sum(claim.viewer == viewer for claim in taken) >= coupon.limit:
            return ["limit_reached"]
        if len(taken) >= coupon.copies:
            return ["gone"]
        if full:
            return ["backlog"]
        self.seq += 1
        value = coupon.value_of_next(taken, draw)
        claim = Claim(coupon_no, viewer, key, value, self.epoch, self.seq, now_ms)
        self.coupons.claims.append(claim)
        entry.claims.append(claim)
        return ["claimed", self.seq, value]

    def drop(
        self, coupon_no: int, for_ms: int, *, actor: str, key: str, late: bool, now_ms: int
    ) -> tuple[str, int, int]:
        """(word, sequence number that the ledger must reach, when the claims end)."""
        coupon, content = self.coupons.offered[coupon_no], f"drop.{coupon_no}.{for_ms}"
        name = (actor, f"drop+{key}")  # a key is of one kind of act
        if key and name in self.acts:
            of_content, of_epoch, of_seq = self.acts[name]
            if of_content != content:
                return "key_reused", self.seq, coupon.claim_until
            return "replayed", of_seq if of_epoch == self.epoch else 0, coupon.claim_until
        if late:
            return "late", self.seq, coupon.claim_until
        if now_ms >= coupon.valid_until:
            return "ended", self.seq, coupon.claim_until
        at = now_ms if self.opens_up_to is None else min(now_ms, self.opens_up_to)
        until_ms = coupon.claim_until if coupon.claim_until > now_ms else coupon.valid_until
        coupon.drop(at, min(now_ms + for_ms, coupon.valid_until) if for_ms else until_ms)
        self.seq += 1
        body = ["coupon_act", coupon_no, at, self.seq, "drop", 4, coupon.claim_until, actor, "drop", key, content]
        self.stream.append(Entry(self.epoch, self.seq, self.seq, body, drop=True))
        if key:
            self.acts[name] = (content, self.epoch, self.seq)
        return "done", self.seq, coupon.claim_until

    # Acts of hosts.

    def act(
        self,
        sale_no: int,
        act: str,
        item: int,
        value: int,
        text: str = "",
        *,
        actor: str,
        key: str,
        late: bool,
        now_ms: int,
    ) -> tuple[str, int]:
        """(word, sequence number that the ledger must reach)."""
        content = f"{act}.{sale_no}.{item}.{value}.{text}"
        if key and (actor, key) in self.acts:
            of_content, of_epoch, of_seq = self.acts[actor, key]
            if of_content != content:
                return "key_reused", self.seq
            return "replayed", of_seq if of_epoch == self.epoch else 0
        if late:
            return "late", self.seq
        sale = self.sales[sale_no]
        at = now_ms if act != "open" or self.opens_up_to is None else min(now_ms, self.opens_up_to)
        word = self._judge_act(sale, act, item, value, text, now_ms, at)
        if word:
            return word, self.seq
        change(sale, act, item, value, text, at)
        self.seq += 1
        kind = act if act in ("price", "plan", "window") else "stock"
        body = ["act", sale_no, at, self.seq, act, item, value, actor, kind, key, content, "why"]
        body += [text] if act in ("plan", "window") else []
        self.stream.append(Entry(self.epoch, self.seq, self.seq, body, act=(act, item, value, text)))
        if key:
            self.acts[actor, key] = (content, self.epoch, self.seq)
        return "done", self.seq

    def _judge_act(self, sale: Sale, act: str, item: int, value: int, text: str, now_ms: int, at: int) -> str:
        """Why it is not done; empty: it is."""
        if act == "close":
            return "same" if sale.hold == "closed" else ""
        if sale.hold == "closed" or now_ms >= sale.closes_at:
            return "ended"
        already = {
            "pause": sale.hold == "paused",
            "resume": sale.hold == "active",
            "open": sale.hold == "active" and at >= sale.opens_at,
            "price": sale.items[item].price == value and not sale.items[item].plan,
            "plan": act == "plan" and sale.items[item].plan == plan_of(text),
            "window": act == "window" and (sale.opens_at, sale.closes_at) == (value, int(text)),
        }
        if already.get(act):
            return "same"
        if act == "stock" and self.left(sale.no, item) + value < 0:
            return "in_use"
        if act == "window":
            trusted_ms = now_ms if self.opens_up_to is None else min(now_ms, self.opens_up_to)
            if value != sale.opens_at and trusted_ms >= sale.opens_at:
                return "started"
            if int(text) <= max(now_ms, value):
                return "past"
        return ""

    # Late money.

    def revive(self, payment: Payment, now_ms: int) -> tuple[str, int]:
        for revival in self.revivals:
            if revival.payment is payment and revival.remembered:
                return "replayed", revival.seq if revival.epoch == self.epoch else 0
        hold = replace(payment.order.hold, at="sold")
        if (
            self.units(hold.sale_no).get((hold.viewer, hold.item), 0) + hold.quantity
            > self.sales[hold.sale_no].items[hold.item].limit
        ):
            return "limit_reached", self.seq
        if self.left(hold.sale_no, hold.item) < hold.quantity:
            return "sold_out", self.seq
        order = payment.order
        if order.claim is not None:
            holder = self.holder(order.claim)
            if holder is order:
                return "waits", self.seq
            if holder is not None or not order.claim.there:
                return "coupon_unusable", self.seq
            order.holds_claim = True
        self.seq += 1
        revival = Revival(payment, hold, self.epoch, self.seq)
        self.revivals.append(revival)
        body = ["late", hold.sale_no, now_ms, self.seq, payment.no, hold.item, hold.viewer, hold.quantity]
        self.stream.append(Entry(self.epoch, self.seq, self.seq, [*body, payment.order.id], revival=revival))
        return "revived", self.seq

    # What the ledger does. It is free to refuse whatever it likes: its reasons are not Valkey's.

    def _row(
        self, kind: str, hold: Hold | None, order: Order | None, epoch: int, seq: int, claim: Claim | None = None
    ) -> None:
        self.outbox.append(Row(len(self.outbox) + 1, kind, hold, order, epoch, seq, claim))

    def redeems(self, claim: Claim) -> list[Order]:
        """The orders that redeem it, in the ledger."""
        return [each for each in self.orders if each.claim is claim and each.status in ("confirmed", "paid")]

    def waiting(self) -> list[Entry]:
        return [each for each in self.stream if each.epoch == self.ledger_epoch and each.last > self.cursor]

    def apply_next(self, *, refuse: bool) -> None:
        """The writer's next entry; `refuse`: the first of its orders or claims, or its revival, is not taken."""
        entry = self.waiting()[0]
        for at, claim in enumerate(entry.claims):
            claim.status = "refused" if refuse and at == 0 else "confirmed"
            if claim.status == "refused":
                self._row("unclaim", None, None, claim.epoch, claim.seq, claim)
        if entry.drop:
            self.coupons.ledger[entry.body[1]].drop(entry.body[2], entry.body[6])
        for at, order in enumerate(entry.orders):
            claim_is_good = order.claim is None or (order.claim.status == "confirmed" and not self.redeems(order.claim))
            if (refuse and at == 0) or not claim_is_good:
                order.status = "refused"
                self._row("refuse", order.hold, order, order.epoch, order.seq)
            else:
                order.status = "confirmed"
        if entry.act is not None:
            change(self.ledger_sales[entry.body[1]], *entry.act, entry.body[2])
        if entry.revival is not None:
            revival = entry.revival
            revival.waiting = False
            order = revival.payment.order
            free = order.claim is None or (order.claim.status == "confirmed" and not self.redeems(order.claim))
            if revival.payment.state == "waiting" and order.status == "expired" and free and not refuse:
                revival.payment.state, revival.payment.order.status, revival.took = "applied", "paid", True
            else:
                self.refund(revival.payment)
                # The claim knows the order that holds it.
                named = (revival.epoch, revival.seq) if order.claim is None else (order.epoch, order.seq)
                self._row("return", revival.hold, None if order.claim is None else order, *named)
        self.cursor = entry.last

    def refund(self, payment: Payment) -> None:
        """Late money whose order does not come back."""
        if payment.state == "waiting":
            payment.state = "refund_due"
            if payment.order.status == "expired":
                payment.order.status = "refund_due"

    def settle(self, order: Order, act: str) -> None:
        """pay | expire | cancel of a confirmed order, pay of an expired one, refund of a paid one."""
        row = (order.hold, order, order.epoch, order.seq)
        if order.status == "confirmed" and act in ("pay", "expire", "cancel"):
            order.status = {"pay": "paid", "expire": "expired", "cancel": "cancelled"}[act]
            self._row("paid" if act == "pay" else "release", *row)
        elif order.status == "expired" and act == "pay":
            if all(each.order is not order or each.state != "waiting" for each in self.payments):
                self.payments.append(Payment(len(self.payments) + 1, order))
        elif order.status == "paid" and act == "refund":
            order.status = "refunded"
            revived = [each.hold for each in self.revivals if each.took and each.payment.order is order]
            self._row("return", revived[0] if revived else order.hold, order, order.epoch, order.seq)

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
                order.status, order.answers, order.hold.at = "lost", False, "back"
                order.holds_claim = False
        self.coupons.lose()
        for revival in self.revivals:
            if revival.waiting:
                revival.waiting, revival.hold.at = False, "back"
        self.ledger_epoch, self.cursor = self.ledger_epoch + 1, 0

    def recount(self) -> None:
        """Valkey as the ledger has it at this moment."""
        at = {"confirmed": "held", "paid": "sold"}
        self.coupons.recount()
        for order in self.orders:
            order.holds_claim = order.claim is not None and order.status in at
            order.hold.at = at.get(order.status, "back")
            order.answers = order.status not in ("refused", "lost")
        for revival in self.revivals:
            revival.remembered = False
            revival.hold.at = "back"
            if revival.took and revival.payment.order.status == "paid":
                revival.hold.at, revival.payment.order.hold.at = "sold", "back"
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
                    hold = order.hold
                    if (hold.sale_no, hold.item) == (sale.no, no):
                        taken += hold.quantity if order.status in ("waiting", "confirmed", "paid") else 0
                for revival in self.revivals:
                    hold = revival.hold
                    if (hold.sale_no, hold.item) == (sale.no, no):
                        taken += hold.quantity if revival.waiting else 0
                for row in self.pending():
                    if row.hold is None or row.kind == "paid":
                        continue
                    if (row.hold.sale_no, row.hold.item) == (sale.no, no):
                        pending += row.hold.quantity
                if self.left(sale.no, no) != item.stock - taken - pending or self.left(sale.no, no) < 0:
                    return False
        return True

    def discounts_are_fair(self) -> bool:
        """No claim is redeemed twice, in Valkey or in the ledger, and no order costs less than its floor or than 1."""
        for claim in self.coupons.claims:
            holders = [order for order in self.orders if order.claim is claim and order.holds_claim]
            if max(len(holders), len(self.redeems(claim))) > 1:
                return False
        for order in self.orders:
            amount, item = order.price * order.hold.quantity, self.sales[order.hold.sale_no].items[order.hold.item]
            if order.discount < 0 or (order.discount == 0) != (order.claim is None):
                return False
            if order.discount and amount - order.discount < max(item.floor * order.hold.quantity, 1):
                return False
        return True


def _priced(price: int, discount: int) -> list[int]:
    """The discount stands behind the price where there is one."""
    return [price, discount] if discount else [price]


def _told(order: Order) -> list[Any]:
    """As it stands in its entry."""
    hold, claim = order.hold, order.claim
    told = [hold.viewer, order.key, order.fingerprint, hold.item, hold.quantity, order.price, order.extra]
    return told if claim is None else [*told, order.discount, claim.coupon_no, claim.field]
