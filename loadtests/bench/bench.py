"""What every part of the bench is handed: the shared servers, the report, how long and how often to measure."""

from dataclasses import dataclass
from pathlib import Path

from .drive import Run
from .figures import Detail, Report
from .servers import Servers
from .ways import Way


class NotAvailable(RuntimeError):
    """A part cannot run here; the reason is shown and the other parts go on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One run of the bench."""

    servers: Servers
    report: Report
    scratch: Path
    ways: tuple[Way, ...]
    rounds: int
    warm_up_s: float
    measure_s: float
    sockets: int
    quick: bool
    chat: Path | None = None
    """A recorded chat for the parts that play one; else the small one that comes with the package."""


def detail_of(run: Run) -> Detail:
    """What is worth reading beside any figure that a run gave."""
    outcome = run.outcome
    confirmed, reserved = outcome.confirmed_latency_ms, outcome.reserved_latency_ms
    detail: Detail = {
        "p50_ms": confirmed.p50,
        "p99_ms": confirmed.p99,
        "p999_ms": confirmed.p999,
        "max_ms": confirmed.max,
        "cpu_us": {role: round(value, 1) for role, value in run.cpu_us.items()},
        "cpu_us_all": round(sum(value for role, value in run.cpu_us.items() if role != "generator"), 1),
        "generator_us": round(run.cpu_us.get("generator", 0.0), 1),
        "confirmed": outcome.confirmed_total,
        "refused": outcome.refused,
        "unanswered": outcome.unanswered,
        "unconfirmed": outcome.unconfirmed,
        "disconnected": outcome.disconnected,
        "late_p99_ms": outcome.late_p99_ms,
        "other_frames": outcome.other_frames,
        "confirmed_histogram": confirmed.histogram,
    }
    if reserved.count:
        detail |= {
            "reserved_p50_ms": reserved.p50,
            "reserved_p99_ms": reserved.p99,
            "reserved_p999_ms": reserved.p999,
            "reserved_max_ms": reserved.max,
            "reserved_histogram": reserved.histogram,
        }
    return detail
