"""What an audit says: its rules, the verdict on each, the figures."""

from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from gateway.domain.invariant import BrokenRule

LISTED = 20


class Rule(StrEnum):
    """What is checked; the number is that of the invariant. There are no rules for 7 (ticks and comments)."""

    WITHIN_STOCK = "1 live orders stay within the stock"
    COUNTERS = "1 held and sold are the sums of the orders"
    CONSERVATION = "1 stock is left, live, waiting and releasing units"
    STOCK = "1 the stock in Valkey is the ledger's"
    HELD = "1 the held units in Valkey are the ledger's"
    OFFER = "1 prices, limits and times in Valkey are the ledger's"
    NEGATIVE = "1 no counter is negative"
    OUTBOX = "1 the outbox has all that Valkey was not told"
    HOLDINGS = "2 holdings are the sums of the live orders"
    LIMITS = "2 no viewer holds more than the limit"
    UNITS = "2 units by viewer in Valkey are the holdings"
    STATES = "3 every order is as its status says"
    ANSWERED = "3 every answered key is an order"
    ANSWERS = "3 every order is answered by its key"
    DEADLINES = "3 every confirmed order has a deadline"
    OVERDUE = "3 no confirmed order is long past its deadline"
    KEYS = "4 a key holds one order"
    COPIES = "5 claims stay within the copies and the budget"
    CLAIMED = "5 claimed and spent are the sums of the claims"
    CLAIM_STATES = "5 every claim is as its state says"
    CLAIM_HOLDINGS = "5 claims by viewer are the sums of the claims"
    CLAIM_LIMITS = "5 no viewer has more claims than the limit"
    CLAIM_KEYS = "5 a key holds one claim"
    REDEEMED = "5 a claim is redeemed by the one live order that names it"
    DISCOUNTS = "5 discounts are what their claims give, above the floor"
    COPIES_LEFT = "5 copies are left, claimed, waiting and releasing"
    COUPONS = "5 coupons in Valkey are the ledger's"
    CLAIMS = "5 claims in Valkey are the ledger's, held by who redeems them"
    CLAIM_ANSWERS = "5 every claim is answered by its key, and nothing else"
    CLAIM_VIEWERS = "5 claims by viewer in Valkey are the holdings"
    AMOUNTS = "6 amounts are price times quantity less discount"
    PRICES = "6 orders are at a price their item had"
    TRANSACTIONS = "6 a transaction stands once"
    PAID = "6 paid orders, and they alone, have one payment of their amount"
    LATE = "6 late money waits for expired orders alone"
    LATE_WAITS = "6 no late money waits for long"
    REVIVED = "6 an order comes back once, with its money"
    REFUNDS = "6 what is to be refunded, or was, has such a payment"
    MONEY_OF_ORDERS = "6 money is of an order or given back"
    MONEY = "6 money received is paid, waiting, due or given back"
    NUMBERS = "8 every sequence number stands in the ledger once"
    STREAM = "8 the stream behind the cursor has no gap"
    DRAINED = "8 the ledger is at the end of the stream"
    EPOCH = "9 Valkey and the ledger are in one epoch"
    AHEAD = "9 Valkey is not behind the ledger"
    TRIM = "9 the stream is not trimmed past the cursor"

    @property
    def label(self) -> str:
        """As metrics and logs name it."""
        return self.name.lower()


# What can only be judged on a cut of both stores.
ON_THE_CUT = (
    Rule.CONSERVATION,
    Rule.STOCK,
    Rule.HELD,
    Rule.OFFER,
    Rule.COPIES_LEFT,
    Rule.COUPONS,
    Rule.STREAM,
    Rule.TRIM,
)
BY_NAME = (Rule.UNITS, Rule.ANSWERED, Rule.ANSWERS)
BY_CLAIM = (Rule.CLAIMS, Rule.CLAIM_ANSWERS, Rule.CLAIM_VIEWERS)
# Of a shard and of no single sale. A rebuild heals all of them but NUMBERS, of which what is missing is also missing
# in the sums of its sale.
OF_SHARDS = (Rule.NUMBERS, Rule.STREAM, Rule.DRAINED, Rule.EPOCH, Rule.AHEAD, Rule.TRIM, Rule.OUTBOX)
# Something is slow or stands still: to sell on breaks no promise.
OF_TIME = (Rule.DEADLINES, Rule.OVERDUE, Rule.LATE_WAITS, Rule.DRAINED)
OF_MONEY = (
    Rule.TRANSACTIONS,
    Rule.PAID,
    Rule.LATE,
    Rule.LATE_WAITS,
    Rule.REVIVED,
    Rule.REFUNDS,
    Rule.MONEY_OF_ORDERS,
    Rule.MONEY,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """`violations` are the first of `broken`. A check that could not be made does not hold and may have none; `detail`
    says why. `sales` are those concerned, where a violation is of a sale."""

    name: str
    rule: str
    holds: bool
    detail: str
    broken: int
    violations: list[str]
    sales: list[str]


@dataclass(slots=True, kw_only=True)
class Money:
    """In minor units of one currency: received = applied + waiting + refund_due + refunded, and applied is what the
    paid orders cost."""

    received_minor: int = 0
    applied_minor: int = 0
    waiting_minor: int = 0
    """Late money of which is not known yet whether its order comes back."""
    refund_due_minor: int = 0
    refunded_minor: int = 0
    paid_orders_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Exact numbers of the audited sales on the cut: stock = left + held + sold + waiting + releasing."""

    sales: int
    orders: dict[str, int]
    """By status."""
    units: dict[str, int]
    """By status."""
    stock: int
    left: int
    held: int
    """Units of orders confirmed and not paid."""
    sold: int
    """Units of orders paid."""
    waiting: int
    """Units of orders, and of late money, that stand in the stream behind the cursor."""
    releasing: int
    """Units that are free again in the ledger, and Valkey has yet to be told."""
    backlog: int
    """Sequence numbers behind the cursor, over the audited shards."""
    parked: int
    parked_entries: list[str]
    """The newest."""
    claims: dict[str, int]
    """Of coupons, by state."""
    payments: dict[str, int]
    """By state."""
    money: dict[str, Money]
    """By currency of the sale; under `?` what is of no sale."""


class SaleFindings(NamedTuple):
    """What concerns one sale, and may be shown to its hosts."""

    sale_no: int
    sale: str
    broken: list[BrokenRule]
    why_not: str
    """Why some of it could not be judged; empty: all was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    holds: bool
    checks: list[Check]
    figures: Figures
    by_sale: list[SaleFindings]
    """Of each sale that was audited."""

    @property
    def broken(self) -> list[Check]:
        """Those with violations; not those that could not be made."""
        return [check for check in self.checks if check.broken]

    def as_json(self) -> dict[str, Any]:
        """Without what is told sale by sale: there are many, and the checks name those concerned."""
        told = asdict(replace(self, by_sale=[]))
        del told["by_sale"]
        return told
