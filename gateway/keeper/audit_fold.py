"""What the stream entries behind the ledger's cursor add to what the ledger has; pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from gateway.keeper.audit_ports import RawEntry
from gateway.wire.entries import ActEntry, ClaimsEntry, CouponActEntry, LateEntry, OrdersEntry, decode

_HOLDS = {"pause": "paused", "close": "closed", "open": "active", "resume": "active"}


@dataclass(slots=True)
class ClaimsBehind:
    """What the entries behind the cursor add to one coupon."""

    claims: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Value and viewer, by the claim as Valkey spells it."""
    answers: dict[str, str] = field(default_factory=dict)
    """As in Valkey's hash."""
    viewers: Counter[str] = field(default_factory=Counter)
    """As in Valkey's hash."""
    holders: dict[str, str] = field(default_factory=dict)
    """Orders that redeem claims, old ones too."""
    dropped_ms: int | None = None
    """The earliest time at which an act opened it."""
    until_ms: int | None = None
    """Set by the last act."""

    @property
    def worth_minor(self) -> int:
        return sum(value for value, _ in self.claims.values())


@dataclass(slots=True)
class Behind:
    """What the entries behind the cursor add to what the ledger has, by sale."""

    ordered: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Units, by (sale number, item number)."""
    revived: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Units taken for late money, by (sale number, item number)."""
    stock: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Added by acts, by (sale number, item number)."""
    prices: dict[tuple[int, int], int] = field(default_factory=dict)
    """Set by acts, by (sale number, item number)."""
    holds: dict[int, str] = field(default_factory=dict)
    """Set by acts, by sale number."""
    opened_ms: dict[int, int] = field(default_factory=dict)
    """The earliest time at which an act opened the sale, by sale number; since its window was set."""
    windows: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Set by acts, by sale number: when it opens and closes."""
    plans: dict[tuple[int, int], str] = field(default_factory=dict)
    """Set by acts, by (sale number, item number); empty where one was ended."""
    answers: defaultdict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """By sale number, as in Valkey's hash."""
    viewers: defaultdict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """Units by sale number, as in Valkey's hash."""
    coupons: defaultdict[int, "ClaimsBehind"] = field(default_factory=lambda: defaultdict(ClaimsBehind))
    """By coupon number."""
    revived_orders: list[tuple[int, str]] = field(default_factory=list)
    """(sale number, order id), which hold their claims again where they name one."""
    gaps: list[str] = field(default_factory=list)
    trimmed: str = ""

    def units(self, place: tuple[int, int]) -> int:
        return self.ordered[place] + self.revived[place]


def fold(entries: Iterable[RawEntry], *, epoch: int, after: int, seq: int) -> Behind:
    """The entries from the cursor to the end. One that begins before the cursor counts from there on: a batch that was
    cut in two leaves the cursor inside a group."""
    behind = Behind()
    at = after
    for raw in entries:
        try:
            entry = decode(raw.body)
        except msgspec.MsgspecError as error:
            behind.gaps.append(f"entry {raw.epoch}-{raw.last} cannot be read: {error}")
            at = raw.last
            continue
        if raw.epoch != epoch or entry.last != raw.last:
            behind.gaps.append(f"entry {raw.epoch}-{raw.last} holds sequence numbers {entry.first} to {entry.last}")
        if entry.first > at + 1:
            missing = f"sequence numbers {at + 1} to {entry.first - 1} are missing"
            if at == after:
                behind.trimmed = missing
            else:
                behind.gaps.append(missing)
        elif entry.first < at + 1 and at != after:
            behind.gaps.append(f"sequence numbers {entry.first} to {at} stand there twice")
        at = entry.last
        match entry:
            case OrdersEntry():
                _fold_orders(behind, entry, epoch, after)
            case LateEntry():
                behind.revived[entry.sale_no, entry.item_no] += entry.quantity
                behind.viewers[entry.sale_no][f"{entry.viewer}|{entry.item_no}"] += entry.quantity
                behind.revived_orders.append((entry.sale_no, entry.order_id))
            case ClaimsEntry():
                _fold_claims(behind.coupons[entry.coupon_no], entry, epoch, after)
            case CouponActEntry():
                coupon = behind.coupons[entry.coupon_no]
                coupon.dropped_ms = min(entry.at_ms, coupon.dropped_ms or entry.at_ms)
                coupon.until_ms = entry.claim_until_ms
            case ActEntry():
                _fold_act(behind, entry)
    if at == after < seq:
        behind.trimmed = f"sequence numbers {after + 1} to {seq} are missing"
    elif at != seq:
        behind.gaps.append(f"the entries end at {at}, the shard stands at {seq}")
    return behind


def _fold_orders(behind: Behind, entry: OrdersEntry, epoch: int, after: int) -> None:
    sale_no, answers, viewers = entry.sale_no, behind.answers[entry.sale_no], behind.viewers[entry.sale_no]
    for seq, order in enumerate(entry.orders, entry.first):
        if seq > after:
            behind.ordered[sale_no, order.item_no] += order.quantity
            viewers[f"{order.viewer}|{order.item_no}"] += order.quantity
            answer = f"{order.fingerprint}|{epoch}|{seq}|{entry.at_ms}|{order.price_minor}"
            if order.coupon_no:
                answer += f"|{order.discount_minor}"
                behind.coupons[order.coupon_no].holders[order.claim] = f"{epoch}:{seq}"
            answers[f"{order.viewer}|{order.key}"] = answer


def _fold_claims(coupon: ClaimsBehind, entry: ClaimsEntry, epoch: int, after: int) -> None:
    for seq, claim in enumerate(entry.claims, entry.first):
        if seq > after:
            coupon.claims[f"{epoch}|{seq}"] = (claim.value_minor, claim.viewer)
            coupon.viewers[claim.viewer] += 1
            coupon.answers[f"{claim.viewer}|{claim.key}"] = f"{epoch}|{seq}|{entry.at_ms}|{claim.value_minor}"


def _fold_act(behind: Behind, entry: ActEntry) -> None:
    sale_no, place = entry.sale_no, (entry.sale_no, entry.item_no)
    if entry.act == "stock":
        behind.stock[place] += entry.value
    elif entry.act == "price":
        behind.prices[place] = entry.value
        behind.plans[place] = ""
    elif entry.act == "plan":
        behind.plans[place] = entry.text
    elif entry.act == "window":
        behind.windows[sale_no] = (entry.value, entry.text)
        behind.opened_ms.pop(sale_no, None)
    else:
        behind.holds[sale_no] = _HOLDS.get(entry.act, "active")
        if entry.act == "open":
            behind.opened_ms[sale_no] = min(entry.at_ms, behind.opened_ms.get(sale_no, entry.at_ms))
