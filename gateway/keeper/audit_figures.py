"""The exact numbers of an audit; pure."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from gateway.keeper.audit_coupons import CouponMoment
from gateway.keeper.audit_judge import SaleMoment, ShardMoment
from gateway.keeper.audit_ports import ItemRow, MoneyRow, ParkedRow, SumRow
from gateway.keeper.audit_report import Figures, Money


def figures_of(
    shards: Iterable[ShardMoment],
    sales: Sequence[SaleMoment],
    items: Sequence[ItemRow],
    sums: Sequence[SumRow],
    coupons: Sequence[CouponMoment],
    payments: Sequence[MoneyRow],
    parked: Sequence[ParkedRow],
    parked_in_all: int,
) -> Figures:
    orders: Counter[str] = Counter()
    units: Counter[str] = Counter()
    for row in sums:
        orders[row.status] += row.orders
        units[row.status] += row.units
    by_no = {each.row.sale_no: each for each in sales}
    stock = left = waiting = releasing = 0
    for item in items:
        sale, place = by_no[item.sale_no], (item.sale_no, item.item_no)
        hot = sale.hot.items.get(item.item_no) if sale.hot is not None else None
        # What Valkey does not have sells nothing, so the ledger knows what is left.
        left += item.stock - item.held - item.sold if hot is None else hot.left
        stock += item.stock + sale.shard.behind.stock[place]
        waiting += sale.shard.behind.units(place)
        releasing += sale.shard.releasing(place) if hot is not None else 0
    states: Counter[str] = Counter()
    for each in payments:
        states[each.state] += each.payments
    return Figures(
        sales=len(sales),
        orders=dict(orders),
        units=dict(units),
        stock=stock,
        left=left,
        held=sum(item.held for item in items),
        sold=sum(item.sold for item in items),
        waiting=waiting,
        releasing=releasing,
        backlog=sum(max(0, moment.cut.seq - moment.row.last_seq) for moment in shards if not moment.row.rebuilding),
        parked=parked_in_all,
        parked_entries=[
            f"shard {row.shard} epoch {row.epoch}: {row.first_seq} to {row.last_seq}: {row.reason}" for row in parked
        ],
        claims={
            "confirmed": sum(each.row.claims - each.row.redeemed for each in coupons),
            "redeemed": sum(each.row.redeemed for each in coupons),
            "refused": sum(each.row.refused for each in coupons),
        },
        payments=dict(states),
        money=_money(by_no, sums, payments),
    )


def _money(
    sales: Mapping[int, SaleMoment], sums: Collection[SumRow], payments: Collection[MoneyRow]
) -> dict[str, Money]:
    money: defaultdict[str, Money] = defaultdict(Money)
    for row in sums:
        if row.status == "paid":
            money[sales[row.sale_no].row.currency].paid_orders_minor += row.amount_minor
    for each in payments:
        of = money["?" if each.sale_no is None else sales[each.sale_no].row.currency]
        of.received_minor += each.amount_minor
        match each.state:
            case "applied":
                of.applied_minor += each.amount_minor
            case "waiting":
                of.waiting_minor += each.amount_minor
            case "refund_due":
                of.refund_due_minor += each.amount_minor
            case "refunded":
                of.refunded_minor += each.amount_minor
    return dict(money)
