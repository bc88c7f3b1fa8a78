"""Every metric, declared once with its meaning. Labels are closed sets; nothing a client sends becomes a label."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class LoopCounter(Collector):
    """A counter with one label that only the event loop's thread touches: an addition, no lock.

    On the path of every order the library's own, which guards itself against threads, costs a microsecond each.
    """

    def __init__(self, name: str, documentation: str, label: str) -> None:
        self._name, self._documentation, self._label = name, documentation, label
        self.values: dict[str, int] = {}
        REGISTRY.register(self)

    def inc(self, value: str, by: int = 1) -> None:
        self.values[value] = self.values.get(value, 0) + by

    def collect(self) -> Iterator[CounterMetricFamily]:
        family = CounterMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, count in self.values.items():
            family.add_metric([value], count)
        yield family


class LoopSum(Collector):
    """A counter without a label, in the same way."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name, self._documentation = name, documentation
        self.value = 0
        REGISTRY.register(self)

    def add(self, by: int) -> None:
        self.value += by

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._documentation, value=self.value)


class SaidGauge(Collector):
    """A gauge that says nothing until it was set: in a process that never looks, 0 would be a lie."""

    def __init__(self, name: str, documentation: str) -> None:
        self._name, self._documentation = name, documentation
        self.value: float | None = None
        REGISTRY.register(self)

    def set(self, value: float) -> None:
        self.value = value

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self.value is not None:
            yield GaugeMetricFamily(self._name, self._documentation, value=self.value)


class LoopHistogram(Collector):
    """A histogram that only the event loop's thread touches."""

    def __init__(self, name: str, documentation: str, buckets: Sequence[float]) -> None:
        self._name, self._documentation = name, documentation
        self._bounds = tuple(buckets)
        self._counts = [0] * (len(self._bounds) + 1)
        self._sum = 0.0
        REGISTRY.register(self)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def collect(self) -> Iterator[HistogramMetricFamily]:
        buckets, total = [], 0
        for bound, count in zip((*map(floatToGoString, self._bounds), "+Inf"), self._counts, strict=True):
            total += count
            buckets.append((bound, total))
        yield HistogramMetricFamily(self._name, self._documentation, buckets=buckets, sum_value=self._sum)


_FAST = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

ORDERS = LoopCounter("peakgate_orders", "Answers to orders, by outcome or error code.", "outcome")
ORDER_SECONDS = LoopHistogram("peakgate_order_seconds", "From the arrival of an order to its answer.", _FAST)
CLAIMS = LoopCounter("peakgate_claims", "Answers to claims of coupons, by outcome or error code.", "outcome")
CLAIM_SECONDS = LoopHistogram("peakgate_claim_seconds", "From the arrival of a claim to its answer.", _FAST)
CONFIRM_SECONDS = LoopHistogram(
    "peakgate_confirm_seconds", "From the answer `reserved` to the answer `confirmed`, both of this process.", _FAST
)
GROUP_CALL_SECONDS = Histogram("peakgate_group_call_seconds", "One script call for a group of orders.", buckets=_FAST)
GROUP_SIZE = Histogram("peakgate_group_size", "Orders in one script call.", buckets=_SIZES)
CLAIM_CALL_SECONDS = Histogram("peakgate_claim_call_seconds", "One script call for a group of claims.", buckets=_FAST)
CLAIM_GROUP_SIZE = Histogram("peakgate_claim_group_size", "Claims in one script call.", buckets=_SIZES)
FLUSH_SECONDS = Histogram("peakgate_flush_seconds", "One transaction of the writer.", buckets=_FAST)
FLUSH_SIZE = Histogram("peakgate_flush_size", "Orders in one transaction of the writer.", buckets=_SIZES)
APPLIED_ORDERS = Counter("peakgate_applied_orders", "Orders the writer put into the ledger.", ["status"])
APPLIED_CLAIMS = Counter("peakgate_applied_claims", "Claims of coupons the writer put into the ledger.", ["status"])
PARKED_ENTRIES = Counter("peakgate_parked_entries", "Entries the ledger could not take, kept for people.")
BACKLOG = Gauge("peakgate_backlog", "Sequence numbers in Valkey that the ledger does not have yet.", ["shard"])
OUTBOX_ROWS = Gauge("peakgate_outbox_rows", "Rows of the outbox at the last look, up to a batch.", ["shard"])
EXPIRED_ORDERS = Counter("peakgate_expired_orders", "Orders that ended because they were not paid in time.")
LATE_PAYMENTS = Counter("peakgate_late_payments", "Payments of expired orders, by what became of them.", ["outcome"])
SETTLED = Counter("peakgate_settled", "Payments, refunds and cancels, by how the ledger judged them.", ["act", "word"])
SETTLE_SIZE = Histogram("peakgate_settle_size", "Payments, refunds and cancels in one transaction.", buckets=_SIZES)
NOTICES = Counter("peakgate_payment_notices", "Notices of payment providers, by what became of them.", ["outcome"])
REFS_IGNORED = LoopSum("peakgate_refs_ignored", "Orders whose token names a link that is none of the shop's.")
BOOKINGS_TOLD = Counter("peakgate_bookings_told", "Bookings that were told that their show started.")
REDEEMS = Counter("peakgate_redeems", "Attempts to redeem a pickup code, by what became of them.", ["outcome"])
SHARD_OPEN = Gauge("peakgate_shard_open", "1 while the shard sells, 0 while it is shut.", ["shard"])
CLOCK_SKEW_SECONDS = SaidGauge("peakgate_clock_skew_seconds", "Valkey's clock less PostgreSQL's, when compared last.")
CLOCK_TRUSTED = SaidGauge(
    "peakgate_clock_trusted", "1 while the servers' clocks are believed; else none opens or ends."
)
SHARD_EPOCH = Gauge("peakgate_shard_epoch", "The ledger's epoch of the shard.", ["shard"])
REBUILD_SECONDS = SaidGauge("peakgate_rebuild_seconds", "How long the last rebuild of a shard took, from shut to open.")
LOST_SEQS = Counter("peakgate_lost_seqs", "Sequence numbers that the stream skipped: what they promised is lost.")
VALKEY_FILE_BYTES = SaidGauge("peakgate_valkey_file_bytes", "Size of the orders Valkey's append-only file.")
FILE_REWRITES = Counter("peakgate_file_rewrites", "Rewrites of that file begun by the keeper.", ["why"])
RETIRED_SALES = Counter("peakgate_retired_sales", "Ended sales that left Valkey.")
ARCHIVED_COMMENTS = Counter("peakgate_archived_comments", "Comments the keeper put into the ledger.")
ARCHIVE_WAITING = SaidGauge("peakgate_archive_waiting", "Entries of rooms the ledger lacks, when last looked at.")
ARCHIVE_PARKED = Counter("peakgate_archive_parked", "Entries of rooms the ledger could not take, kept for people.")
NEWS_ORDERS = Counter("peakgate_news_orders", "Changes of orders that were queued for shops' webhooks.")
WEBHOOK_DELIVERIES = Counter("peakgate_webhook_deliveries", "Attempts to deliver events, events given up.", ["result"])
WEBHOOK_ATTEMPT_SECONDS = Histogram("peakgate_webhook_attempt_seconds", "One attempt at a delivery.", buckets=_FAST)
WEBHOOK_WAITING = SaidGauge("peakgate_webhook_waiting", "Events that wait to be delivered; counted up to 100,000.")
WEBHOOK_OLDEST_SECONDS = SaidGauge("peakgate_webhook_oldest_seconds", "How long the oldest event waits for delivery.")
WEBHOOK_DEAD = SaidGauge("peakgate_webhook_dead", "Events that were given up and are kept; counted up to 100,000.")
ATTENDANCE_MISSED = Counter("peakgate_attendance_missed", "Visits that no figure counts, for want of a place.")
ATTENDANCE_WAITING = SaidGauge("peakgate_attendance_waiting", "Viewers of whom the ledger was not told yet, at last.")
CONNECTIONS = Gauge("peakgate_connections", "Open sockets of viewers.")
GUESTS = Gauge("peakgate_guests", "Connections to a live process that have shown no good token yet.")
TURNED_AWAY = Counter(
    "peakgate_turned_away", "Connections refused because the doors were crowded, by what of.", ["what"]
)
CLOSED = Counter("peakgate_closed_connections", "Sockets closed by us, by close code.", ["code"])
HTTP_REQUESTS = Counter("peakgate_http_requests", "HTTP requests, by route and status.", ["route", "status"])
LOOP_STALL_SECONDS = Gauge("peakgate_loop_stall_seconds", "Longest stall of the event loop in the last second.")
AUDIT_VIOLATIONS = Gauge("peakgate_audit_violations", "Violations of a rule the keeper's last audit found.", ["rule"])
AUDIT_VIOLATIONS_ALL = SaidGauge("peakgate_audit_violations_all", "Violations the keeper's last audit found in all.")
AUDIT_UNMADE = SaidGauge("peakgate_audit_unmade", "Rules that the keeper's last audit could not judge just then.")
AUDIT_SECONDS = SaidGauge("peakgate_audit_seconds", "How long the keeper's last audit took, rests included.")
AUDIT_MADE = SaidGauge("peakgate_audit_made_timestamp_seconds", "Unix time of the end of the last audit.")
UNCONFIRMED = Gauge("peakgate_unconfirmed_orders", "Orders and claims taken here that wait for their confirmation.")
COMMENTS = Counter("peakgate_comments", "Comments decided, by what became of them.", ["outcome"])
LIKES = LoopSum("peakgate_likes", "Taps of viewers on like.")
ENTERS = LoopSum("peakgate_enters", "Times a viewer opened the product bag.")
SHED_LIKES = LoopSum("peakgate_shed_likes", "Taps that were not counted: the viewer sent them faster than anybody may.")
ROOM_CALL_SECONDS = Histogram("peakgate_room_call_seconds", "One call of a room to the rooms Valkey.", buckets=_FAST)
FANOUT_SECONDS = Histogram("peakgate_fanout_seconds", "Telling all members of a room once.", buckets=_FAST)
FRAMES_SHARED = LoopSum("peakgate_frames_shared", "Writes of frames that a whole room is sent.")
ROOMS = Gauge("peakgate_rooms", "Rooms with viewers in this process.")
ROOM_REPAIRS = Counter("peakgate_room_repairs", "Rooms that had missed ticks, by how they were mended.", ["how"])
JOINS_SHED = Counter("peakgate_joins_shed", "Viewers who were told to come back later because too many came at once.")
SLOW_VIEWERS = Counter(
    "peakgate_slow_viewers", "Viewers who got less than the whole room for a while, by how much.", ["variant"]
)
