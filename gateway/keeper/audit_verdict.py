"""What an audit says of each sale by itself, for its hosts: nothing of another sale stands in it."""

from gateway.domain.invariant import BrokenRule
from gateway.keeper.audit_judge import Finding, Findings, SaleMoment
from gateway.keeper.audit_report import Rule, SaleFindings

_DETAIL_MOST = 500


def findings_of(sale: SaleMoment, findings: Findings) -> SaleFindings:
    """What was found broken of the sale, or of the shard it is in. Rules of coupons are of no sale, but for those that
    name orders."""
    number, shard = sale.row.sale_no, sale.shard.row.shard
    broken, why_not = [], ""
    for rule in Rule:
        finding = findings.get(rule)
        if finding is None:
            continue
        if number in finding.sales or shard in finding.shards:
            broken.append(BrokenRule(rule.label, _detail(rule, finding, sale)))
        why_not = why_not or finding.unjudged.get(number, "")
    return SaleFindings(number, sale.row.sale, broken, why_not)


def _detail(rule: Rule, finding: Finding, sale: SaleMoment) -> str:
    sentence = rule.value.partition(" ")[2]
    own = (
        f"sale {sale.row.sale} ",
        f"sale {sale.row.sale}:",
        f"sale {sale.row.sale_no} ",
        f"shard {sale.shard.row.shard}:",
    )
    found = next((text for text in finding.violations if text.startswith(own)), None)
    return sentence if found is None else f"{sentence}; {found}"[:_DETAIL_MOST]
