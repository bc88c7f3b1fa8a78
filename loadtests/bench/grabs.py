"""Coupons grabbed: claims a second of the gateway's own path, of its script alone, and of the classic way, one script
call a grab. Append-only file with fsync always; no sockets, no ledger.

The classic way asks key, limit and copies and writes what it gave into a stream, as ours does; it has no window, no
budget, no epoch and no bound on the ledger. It is tried with a connection for each of 64 grabs in flight, and with
pipelines of as many calls as one of our groups has claims: then one file sync covers as many.

Then the promise itself: 100,000 viewers grab 10,000 copies, and exactly 10,000 of them have one.
"""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import redis.asyncio
from prometheus_client import Histogram

from gateway.clock import SystemClock
from gateway.domain.coupon import ClaimAnswer, ClaimOutcome, ClaimRequest, Coupon, CouponKind
from gateway.domain.ids import CouponId, IdMint
from gateway.hot.connect import Client, connect
from gateway.hot.coupons import HotCoupons
from gateway.hot.group import GroupCalls
from gateway.hot.keys import ShardKeys
from gateway.hot.scripts import Scripts
from gateway.hot.shard import HotShard

from .bench import Bench

PART = "grabs"
GROUP, IN_FLIGHT = 256, 2_000
CLASSIC_CONNECTIONS = 64
VIEWERS, COPIES = 100_000, 10_000
QUICK_VIEWERS, QUICK_COPIES = 20_000, 2_000
AIM = 20_000

SHARD, COUPON = 0, 1
_PLENTY = 50_000_000
_CLASSIC = """
-- KEYS: coupon, answers, viewers, stream. ARGV: viewer, key, limit, value
local field = ARGV[1] .. '|' .. ARGV[2]
local earlier = redis.call('HGET', KEYS[2], field)
if earlier then return {'replayed', earlier} end
if tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '0') >= tonumber(ARGV[3]) then return {'limit_reached', ''} end
if tonumber(redis.call('HGET', KEYS[1], 'left')) < 1 then return {'gone', ''} end
redis.call('HINCRBY', KEYS[1], 'left', -1)
redis.call('HINCRBY', KEYS[3], ARGV[1], 1)
local id = redis.call('XADD', KEYS[4], '*', 'viewer', ARGV[1], 'key', ARGV[2], 'value', ARGV[4])
redis.call('HSET', KEYS[2], field, id)
return {'claimed', id}
"""


async def grabs(bench: Bench) -> None:
    ways: dict[str, Callable[[Bench], Awaitable[float]]] = {
        "peakgate": _through_the_path,
        "script_alone": _script_alone,
        "classic_pipelined": _classic_pipelined,
        "classic_one_call": _classic_one_call,
    }
    for _ in range(bench.rounds):
        for way, measure in ways.items():
            conditions: dict[str, int | float | str] = {"fsync": "always"}
            value = await measure(bench)
            bench.report.add(part=PART, way=way, name="claimed", unit="claims/s", value=value, conditions=conditions)
        await _exactly_as_many_as_there_are(bench)
    bench.report.compare(PART, "claimed", ours=["peakgate", "script_alone"])
    bench.report.show(PART, f"coupons grabbed, fsync always; aim {AIM:,} claims/s", detail_columns=["seconds"])


class Grabbers:
    """Viewers who grab again as soon as they are answered, each time as somebody else."""

    def __init__(self, groups: GroupCalls[ClaimRequest], coupon_no: int, *, most: int | None = None) -> None:
        self._groups = groups
        self._coupon_no = coupon_no
        self._numbers = itertools.count() if most is None else iter(range(most))
        self._waiting = 0
        self.outcomes: dict[object, int] = {}
        self.stopped = False
        self.done = asyncio.Event()

    def start(self, count: int) -> None:
        for _ in range(count):
            self._grab()

    def _grab(self) -> None:
        number = None if self.stopped else next(self._numbers, None)
        if number is None:
            if not self._waiting:
                self.done.set()
            return
        self._waiting += 1
        self._groups.submit(
            ClaimRequest(
                viewer=f"viewer-{number}",
                key=f"k-{number}",
                coupon_no=self._coupon_no,
                arrived_s=time.monotonic(),
                answer=self._answered,
            )
        )

    def _answered(self, answer: ClaimAnswer | Exception) -> None:
        self._waiting -= 1
        word = answer.outcome if isinstance(answer, ClaimAnswer) else type(answer).__name__
        self.outcomes[word] = self.outcomes.get(word, 0) + 1
        self._grab()

    @property
    def claimed(self) -> int:
        return self.outcomes.get(ClaimOutcome.CLAIMED, 0)


async def _through_the_path(bench: Bench) -> float:
    async with _coupons(bench) as (_, hot), _running(hot) as groups:
        grabbers = Grabbers(groups, COUPON)
        grabbers.start(IN_FLIGHT)
        await asyncio.sleep(bench.warm_up_s / 2)
        before, started_s = grabbers.claimed, time.perf_counter()
        await asyncio.sleep(bench.measure_s)
        rate = (grabbers.claimed - before) / (time.perf_counter() - started_s)
        grabbers.stopped = True
        await grabbers.done.wait()
        _expect_only_claims(bench, grabbers)
    return rate


async def _script_alone(bench: Bench) -> float:
    """Groups one after another, as the one caller a coupon has in a live process."""
    async with _coupons(bench) as (_, hot):
        claimed = calls = 0
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < bench.measure_s:
            now_s = time.monotonic()
            group = [
                ClaimRequest(
                    viewer=f"viewer-{calls}-{at}",
                    key="k",
                    coupon_no=COUPON,
                    arrived_s=now_s,
                    answer=lambda answer: None,
                )
                for at in range(GROUP)
            ]
            calls += 1
            answers = await hot.decide(COUPON, group)
            claimed += sum(isinstance(each, ClaimAnswer) and each.took_effect for each in answers)
        elapsed_s = time.perf_counter() - started_s
    if claimed != calls * GROUP:
        bench.report.mismatch(f"{PART}: {claimed} claimed of {calls * GROUP} fresh claims")
    return claimed / elapsed_s


async def _classic_pipelined(bench: Bench) -> float:
    """Calls of one grab each, as many a pipeline as our groups have claims, two pipelines in flight as our calls."""
    client = redis.asyncio.Redis.from_url(bench.servers.valkey_url)
    try:
        await client.flushall()
        await client.hset("{c}coupon", "left", str(_PLENTY))
        sha = await client.script_load(_CLASSIC)
        numbers = itertools.count()
        claimed = 0
        ends_s = time.perf_counter() + bench.measure_s

        async def caller() -> None:
            nonlocal claimed
            while time.perf_counter() < ends_s:
                pipe = client.pipeline(transaction=False)
                for number in itertools.islice(numbers, GROUP):
                    pipe.evalsha(sha, 4, *_CLASSIC_KEYS, f"viewer-{number}", f"k-{number}", "2", "20")
                claimed += sum(reply[0] == b"claimed" for reply in await pipe.execute())

        started_s = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(2)))
        return claimed / (time.perf_counter() - started_s)
    finally:
        await client.aclose()


async def _classic_one_call(bench: Bench) -> float:
    pool = redis.asyncio.BlockingConnectionPool.from_url(
        bench.servers.valkey_url, max_connections=CLASSIC_CONNECTIONS, timeout=None
    )
    client = redis.asyncio.Redis(connection_pool=pool)
    try:
        await client.flushall()
        await client.hset("{c}coupon", "left", str(_PLENTY))
        script = client.register_script(_CLASSIC)
        numbers = itertools.count()
        claimed = 0
        ends_s = time.perf_counter() + bench.measure_s

        async def viewer() -> None:
            nonlocal claimed
            while time.perf_counter() < ends_s:
                number = next(numbers)
                reply = await script(keys=_CLASSIC_KEYS, args=[f"viewer-{number}", f"k-{number}", "2", "20"])
                claimed += reply[0] == b"claimed"

        started_s = time.perf_counter()
        await asyncio.gather(*(viewer() for _ in range(CLASSIC_CONNECTIONS)))
        return claimed / (time.perf_counter() - started_s)
    finally:
        await client.aclose()


_CLASSIC_KEYS = ["{c}coupon", "{c}answers", "{c}viewers", "{c}stream"]


async def _exactly_as_many_as_there_are(bench: Bench) -> None:
    """More viewers than copies, all of them at once: what the answers say is what Valkey keeps."""
    viewers, copies = (QUICK_VIEWERS, QUICK_COPIES) if bench.quick else (VIEWERS, COPIES)
    async with _coupons(bench, copies=copies) as (client, hot), _running(hot) as groups:
        grabbers = Grabbers(groups, COUPON, most=viewers)
        started_s = time.perf_counter()
        grabbers.start(IN_FLIGHT)
        await grabbers.done.wait()
        elapsed_s = time.perf_counter() - started_s
        keys, number = ShardKeys(SHARD), COUPON
        left = int(await client.hget(keys.coupon(number), "left") or "-1")
        counts = await client.hvals(keys.coupon_viewers(number))
        claims = await client.hlen(keys.coupon_claims(number))
    wanted: dict[object, int] = {ClaimOutcome.CLAIMED: copies, ClaimOutcome.GONE: viewers - copies}
    if grabbers.outcomes != wanted:
        bench.report.mismatch(f"{PART}: {viewers} viewers, {copies} copies: {grabbers.outcomes}")
    if (left, claims, len(counts), set(counts)) != (0, copies, copies, {b"1"}):
        bench.report.mismatch(f"{PART}: Valkey has {left} left, {claims} claims of {len(counts)} viewers")
    bench.report.add(
        part=PART,
        way="peakgate",
        name="answered",
        unit="grabs/s",
        value=viewers / elapsed_s,
        conditions={"fsync": "always", "viewers": viewers, "copies": copies},
        detail={"seconds": round(elapsed_s, 2), "claimed": grabbers.claimed},
    )


def _expect_only_claims(bench: Bench, grabbers: Grabbers) -> None:
    if set(grabbers.outcomes) != {ClaimOutcome.CLAIMED}:
        bench.report.mismatch(f"{PART}: {grabbers.outcomes} where there are copies for all")


def _coupon(copies: int = _PLENTY) -> Coupon:
    """A random one, which is the most work."""
    now_ms = time.time_ns() // 1_000_000
    return Coupon(
        coupon=CouponId("cpn_bench"),
        coupon_no=COUPON,
        shop="bench",
        shard=SHARD,
        title="Bench",
        kind=CouponKind.RANDOM,
        currency="CNY",
        min_minor=5,
        max_minor=100,
        budget_minor=20 * copies,
        copies=copies,
        limit_per_viewer=2,
        claim_from_ms=now_ms - 60_000,
        claim_until_ms=now_ms + 3_600_000,
        valid_until_ms=now_ms + 86_400_000,
        created_at_ms=now_ms,
    )


@contextlib.asynccontextmanager
async def _coupons(bench: Bench, copies: int = _PLENTY) -> AsyncIterator[tuple[Client, HotCoupons]]:
    client = connect(bench.servers.valkey_url, max_connections=8)
    try:
        await client.flushall()
        scripts = Scripts(client)
        shard = HotShard(shard=SHARD, client=client, scripts=scripts)
        await shard.open(epoch=1)
        hot = HotCoupons(
            shard=shard,
            client=client,
            scripts=scripts,
            mint=IdMint(b"k" * 32),
            clock=SystemClock(),
            backlog_max=10**9,
        )
        await hot.load(_coupon(copies))
        yield client, hot
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def _running(hot: HotCoupons) -> AsyncIterator[GroupCalls[ClaimRequest]]:
    groups = GroupCalls[ClaimRequest](
        decider=hot,
        clock=SystemClock(),
        group_max=GROUP,
        queue_max=IN_FLIGHT + 1,
        seconds=_SECONDS,
        size=_SIZES,
    )
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(groups.run())
        await asyncio.sleep(0)
        try:
            yield groups
        finally:
            task.cancel()


_SECONDS = Histogram("bench_grabs_call_seconds", "One script call for a group of claims.", registry=None)
_SIZES = Histogram("bench_grabs_group_size", "Claims in one script call.", registry=None)
