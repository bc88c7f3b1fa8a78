"""The invariant of a sale as HTTP shows it."""

from msgspec import Struct

from gateway.flows.invariant import InvariantReading
from gateway.wire.objects import instant, optional_instant
from gateway.wire.told import Moment


class BrokenRuleReply(Struct, kw_only=True):
    """`rule` is its name in metrics and logs, `detail` what should be and, where that is known, what was found."""

    rule: str
    detail: str


class InvariantItemReply(Struct, kw_only=True):
    """`stock` = `left` + `held` + `paid` + `on_the_way`. `left` is null while Valkey cannot say it, `on_the_way` where
    the two stores were not read as of one moment."""

    sku: str
    stock: int
    left: int | None
    held: int
    paid: int
    on_the_way: int | None


class InvariantReply(Struct, kw_only=True):
    """`holds` and `broken` are the last audit's word, which began to read at `audited_at`; `why_not` says why `holds`
    is null. The items are read now, at `at`. `behind` is what waits between the stores in the sale's shard; at 0 every
    `on_the_way` is 0."""

    sale: str
    at: Moment
    holds: bool | None
    audited_at: Moment | None
    why_not: str | None
    broken: list[BrokenRuleReply]
    behind: int | None
    items: list[InvariantItemReply]


def invariant_reply(reading: InvariantReading) -> InvariantReply:
    verdict = reading.verdict
    return InvariantReply(
        sale=reading.sale,
        at=instant(reading.at_ms),
        holds=verdict.holds,
        audited_at=optional_instant(verdict.audited_at_ms),
        why_not=verdict.why_not,
        broken=[BrokenRuleReply(rule=each.rule, detail=each.detail) for each in verdict.broken],
        behind=reading.behind,
        items=[InvariantItemReply(**item._asdict()) for item in reading.items],
    )
