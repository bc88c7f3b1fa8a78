"""A pre-flight as HTTP shows it."""

from msgspec import Struct

from gateway.api.replies import instant
from gateway.domain.preflight import Level
from gateway.flows.preflight import PreflightReport
from gateway.wire.told import Moment


class PreflightLineReply(Struct, kw_only=True):
    """`todo` says what to do, and is empty where nothing is."""

    check: str
    level: Level
    message: str
    todo: str


class PreflightReply(Struct, kw_only=True):
    """`level` is the worst of the lines. What is said of descriptors, memory and disks is of the machine of this api
    process."""

    sale: str
    at: Moment
    level: Level
    expected_viewers: int
    expected_orders: int
    lines: list[PreflightLineReply]


def preflight_reply(report: PreflightReport) -> PreflightReply:
    return PreflightReply(
        sale=report.sale,
        at=instant(report.at_ms),
        level=report.level,
        expected_viewers=report.expected.viewers,
        expected_orders=report.expected.orders,
        lines=[
            PreflightLineReply(check=line.check, level=line.level, message=line.message, todo=line.todo)
            for line in report.lines
        ],
    )
