"""What a pre-flight says of the servers and of this machine. Pure, as preflight.py; the sizes are measured ones."""

import math
from typing import Final, NamedTuple

from gateway.domain.preflight import Expected, Level, Line, listed

# Bytes that an order leaves behind, measured over 60,000 of them (the bench's `sizes`).
ORDER_VALKEY_BYTES: Final = 91
ORDER_FILE_BYTES: Final = 129
ORDER_TABLES_BYTES: Final = 413
ORDER_LOG_BYTES: Final = 513
# Of a viewer's socket: 2,800 in a room that is silent, this in one that talks as fast as others read.
VIEWER_BYTES: Final = 11_900
# What was measured is the mean of quiet servers.
MARGIN: Final = 2
# Of a process beside its sockets: pools, servers, files.
DESCRIPTORS_ASIDE: Final = 200
# Sequence numbers behind which a writer is in no peak.
LAG_WARN, LAG_FAIL = 1_000, 20_000
# A checkpoint writes back what changed since the last one; beyond this share of the allowed log one comes by itself.
LOG_SHARE_WARN: Final = 0.3
FILE_GROWTH_BYTES: Final = 64 * 1024 * 1024
MB, GB = 1024**2, 1024**3


class ValkeyFacts(NamedTuple):
    used_bytes: int
    most_bytes: int
    """Its maxmemory, or the memory of its machine where there is none."""
    is_bounded: bool
    file_bytes: int | None
    """None: it keeps no append-only file."""
    file_base_bytes: int
    rewriting: bool
    last_failed: bool
    """The last rewrite, or the last write."""
    disk_free_bytes: int | None
    """None where its folder is not seen from here."""
    loaded: list[str]
    """Scripts that it lacked and was given just now."""


class ShardFacts(NamedTuple):
    epoch: int
    seq: int
    applied: int
    opens_up_to: bool
    """The keeper lets no further sale open."""


class LedgerFacts(NamedTuple):
    epoch: int
    last_seq: int
    has_writer: bool
    wants: str | None
    """Why the shard is to be rebuilt, or is being."""
    log_bytes: int | None
    """Since the last checkpoint began; None where the role may not ask."""
    log_most_bytes: int
    checkpoint_s: float | None
    disk_free_bytes: int | None


class MachineFacts(NamedTuple):
    """Of the machine this is asked on."""

    descriptors: int
    memory_bytes: int | None
    live_processes: int
    sockets_most: int
    """Of one live process, by its settings."""


def judge_clocks(valkey_s: float, ledger_s: float, own_s: float, *, tolerance_s: float, paused: bool) -> Line:
    """Each as the time it shows at one instant."""
    skew_s = valkey_s - ledger_s
    if paused or abs(skew_s) > tolerance_s:
        return Line(
            "clocks",
            Level.FAIL,
            f"Valkey's clock is {skew_s:+.1f} s from PostgreSQL's"
            + ("; the keeper lets no further sale open." if paused else "."),
            "Set the servers' clocks (NTP); sales open again 10 s after they agree.",
        )
    off_s = max((own_s - valkey_s, own_s - ledger_s), key=abs)
    if abs(off_s) > tolerance_s:
        return Line(
            "clocks",
            Level.WARN,
            f"The servers agree; the clock of the machine this was asked on is {off_s:+.1f} s off.",
            "Set it (NTP): tokens are judged by it.",
        )
    return Line(
        "clocks", Level.OK, f"Valkey, PostgreSQL and this machine agree within {max(abs(skew_s), abs(off_s)):.1f} s."
    )


def judge_writer(shard: ShardFacts | None, ledger: LedgerFacts) -> Line:
    if shard is None or ledger.wants is not None or shard.epoch != ledger.epoch:
        return Line(
            "writer",
            Level.FAIL,
            f"The shop's shard does not sell: it is to be rebuilt{f' ({ledger.wants})' if ledger.wants else ''}.",
            "See that keeper and writer run; their logs say what they wait for.",
        )
    if not ledger.has_writer:
        return Line("writer", Level.FAIL, "No writer is at work on the shop's shard.", "Start a writer.")
    lag = max(0, shard.seq - ledger.last_seq)
    if lag > LAG_WARN:
        level = Level.FAIL if lag > LAG_FAIL else Level.WARN
        return Line(
            "writer",
            level,
            f"The ledger is {lag:,} orders behind Valkey.",
            "See what slows PostgreSQL or the writer down.",
        )
    return Line("writer", Level.OK, f"The ledger is {lag:,} orders behind Valkey.")


def judge_valkey(facts: ValkeyFacts, expected: Expected) -> list[Line]:
    needs = expected.orders * ORDER_VALKEY_BYTES * MARGIN
    free = facts.most_bytes - facts.used_bytes
    said = (
        f"{size(max(0, free))} free of {size(facts.most_bytes)}; {expected.orders:,} orders take about {size(needs)}."
    )
    lines = [
        _room_for("valkey memory", needs, free, said, "Raise its maxmemory, or give it a larger machine.")
        if facts.is_bounded or needs > free // 2
        else Line("valkey memory", Level.OK, f"No maxmemory is set: {said}")
    ]
    if facts.file_bytes is None:
        lines.append(
            Line(
                "valkey file", Level.WARN, "It keeps no file: what it answered is lost with it.", "Turn appendonly on."
            )
        )
    elif facts.last_failed:
        lines.append(
            Line(
                "valkey file",
                Level.FAIL,
                "Its last write or rewrite of the file failed.",
                "Look at its log and its disk.",
            )
        )
    elif facts.rewriting:
        lines.append(Line("valkey file", Level.WARN, "It rewrites its file just now.", "Wait until that is done."))
    elif facts.file_bytes > max(FILE_GROWTH_BYTES, 2 * facts.file_base_bytes):
        lines.append(
            Line(
                "valkey file",
                Level.WARN,
                f"It has grown from {size(facts.file_base_bytes)} to {size(facts.file_bytes)} since its last rewrite.",
                "Ask for a rewrite (BGREWRITEAOF) while nothing sells, so that none is needed in the peak.",
            )
        )
    else:
        lines.append(
            Line(
                "valkey file",
                Level.OK,
                f"{size(facts.file_bytes)}, {size(facts.file_base_bytes)} after its last rewrite.",
            )
        )
    # A rewrite writes a second file beside the first.
    on_disk = expected.orders * ORDER_FILE_BYTES * MARGIN + (facts.file_bytes or 0)
    lines.append(_disk("valkey disk", on_disk, facts.disk_free_bytes))
    loaded = f"Loaded just now: {listed(facts.loaded)}." if facts.loaded else "All that orders need are loaded."
    lines.append(Line("scripts", Level.OK, loaded))
    return lines


def judge_ledger(facts: LedgerFacts, expected: Expected) -> list[Line]:
    if facts.log_bytes is None:
        checkpoint = Line(
            "checkpoint",
            Level.WARN,
            "The role may not ask PostgreSQL when it was.",
            "Run CHECKPOINT before the sale opens.",
        )
    else:
        ago = "" if facts.checkpoint_s is None else f" {facts.checkpoint_s / 60:.0f} minutes ago"
        said = (
            f"The last one began{ago}; {size(facts.log_bytes)} of log since, of {size(facts.log_most_bytes)} allowed."
        )
        is_due = facts.log_bytes > LOG_SHARE_WARN * facts.log_most_bytes
        checkpoint = Line(
            "checkpoint",
            Level.WARN if is_due else Level.OK,
            said,
            "Run CHECKPOINT while nothing sells, so that none falls into the peak." if is_due else "",
        )
    log_needs = expected.orders * ORDER_LOG_BYTES * MARGIN
    lines = [checkpoint]
    if log_needs > facts.log_most_bytes - (facts.log_bytes or 0):
        lines.append(
            Line(
                "checkpoint",
                Level.WARN,
                f"{expected.orders:,} orders write about {size(log_needs)} of log: a checkpoint begins in the peak.",
                f"Raise max_wal_size above {size(2 * log_needs)} for the day of the sale.",
            )
        )
    on_disk = expected.orders * (ORDER_TABLES_BYTES + ORDER_LOG_BYTES) * MARGIN
    return [*lines, _disk("postgresql disk", on_disk, facts.disk_free_bytes)]


def judge_machine(facts: MachineFacts, expected: Expected) -> list[Line]:
    """Of the machine this is asked on; the live processes may stand elsewhere."""
    processes = max(1, facts.live_processes)
    each = math.ceil(expected.viewers / processes)
    of = f"{expected.viewers:,} viewers on {processes} live processes are {each:,} each"
    lines = []
    if facts.live_processes == 0:
        lines.append(Line("live processes", Level.FAIL, "No live process is heard of.", "Start them."))
    elif each > facts.sockets_most:
        lines.append(
            Line(
                "live processes",
                Level.FAIL,
                f"{of}; one takes {facts.sockets_most:,}.",
                "Start more of them (PEAKGATE_WORKERS), or raise PEAKGATE_MAX_SOCKETS.",
            )
        )
    else:
        lines.append(Line("live processes", Level.OK, f"{of}; one takes {facts.sockets_most:,}."))
    needed = each + DESCRIPTORS_ASIDE
    lines.append(
        Line(
            "file descriptors",
            Level.OK if needed <= facts.descriptors else Level.FAIL,
            f"A process may open {facts.descriptors:,} (on the machine of this answer); a live one needs {needed:,}.",
            ""
            if needed <= facts.descriptors
            else f"Raise the limit (ulimit -n, LimitNOFILE) to {2 * needed:,} or more.",
        )
    )
    if facts.memory_bytes is not None:
        needs = expected.viewers * VIEWER_BYTES
        said = (
            f"{size(facts.memory_bytes)} available (on the machine of this answer); "
            f"{expected.viewers:,} viewers take about {size(needs)} where they sit."
        )
        lines.append(_room_for("memory", needs, facts.memory_bytes, said, "Use a larger machine, or more of them."))
    return lines


def _room_for(check: str, needs: int, free: int, said: str, todo: str) -> Line:
    if needs > free:
        return Line(check, Level.FAIL, said, todo)
    return Line(check, Level.WARN, said, todo) if needs > free // 2 else Line(check, Level.OK, said)


def _disk(check: str, needs: int, free: int | None) -> Line:
    if free is None:
        return Line(
            check,
            Level.WARN,
            f"It is not on the machine of this answer, so its disk is not seen; about {size(needs)} are needed.",
            f"See that {size(2 * needs)} are free there.",
        )
    return _room_for(
        check, needs, free, f"{size(free)} free; about {size(needs)} are needed.", "Make room on the disk."
    )


def size(count: int) -> str:
    return f"{count / GB:,.1f} GB" if count >= GB else f"{count / MB:,.0f} MB"
