"""The grab: viewers by the thousand claim the copies of one coupon, and every answer is checked against the ledger.

    python loadtests/grab.py --up                         100,000 viewers in waves of 5,000 sockets, 10,000 copies
    python loadtests/grab.py --up --viewers 2000 --copies 200 --wave 500
    python loadtests/grab.py --url URL --data DIR         a gateway that runs on DIR

Each viewer is another one, with a socket of its own. A wave is let in whole, then all of it claims in the same moment.
Some sockets are cut behind the claim, and their viewers come back and ask again with the same key. Ends with 1 when a
check fails.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import uvloop

from gateway.client import Host, ViewerHttp
from gateway.client.codec import Codec, ToViewer, codec_named
from gateway.client.connection import Connection, connect
from gateway.client.coupons import Coupon
from gateway.client.errors import HandshakeRefused
from gateway.client.local import free_port, local_gateway
from loadtests.surge import peakgate_on, raise_file_limit

SHOP = "grab"
CONNECT_AT_ONCE = 100
ANSWER_WITHIN_S = 8.0
CONFIRMED_WITHIN_S = 30.0
TIMES = 20
# Viewers whose own list of claims is read at the end, of each outcome.
READ_MOST = 300


class Grabber:
    """One viewer: one key, one claim, and everything it was told."""

    __slots__ = (
        "_answered",
        "_connection",
        "_settled",
        "_welcomed",
        "asked_s",
        "claims",
        "outcome",
        "state",
        "sub",
        "token",
        "took_s",
        "tries",
    )

    def __init__(self, sub: str, token: str) -> None:
        self.sub = sub
        self.token = token
        self.claims: set[str] = set()
        """Ids told of: more than one is a broken promise."""
        self.outcome: str | None = None
        self.state: str | None = None
        self.tries = 0
        self.asked_s = self.took_s = 0.0
        self._connection: Connection | None = None
        loop = asyncio.get_running_loop()
        self._welcomed: asyncio.Future[None] = loop.create_future()
        self._answered: asyncio.Future[float] = loop.create_future()
        self._settled: asyncio.Future[None] = loop.create_future()

    async def enter(self, live_url: str, codec: Codec) -> None:
        """Welcomed; comes back after refusals that pass."""
        for _ in range(TIMES):
            self._welcomed = asyncio.get_running_loop().create_future()
            try:
                await connect(live_url, self.token, codec, on_frame=self._heard, on_close=self._closed, within_s=20)
                async with asyncio.timeout(20):
                    return await self._welcomed
            except HandshakeRefused as refused:
                await asyncio.sleep((refused.retry_after_s or 0.5) * random.uniform(1, 2))
            except OSError:
                await asyncio.sleep(random.uniform(0.2, 1))
        raise RuntimeError(f"{self.sub} was never let in")

    async def grab(self, coupon: str, live_url: str, codec: Codec, *, is_cut: bool) -> None:
        """The true answer, asked for with one key however often it takes; a claimed copy is waited for until it is more
        than that."""
        self.asked_s = time.perf_counter()
        for _ in range(TIMES):
            if self._connection is None:
                await self.enter(live_url, codec)
            assert self._connection is not None
            self._answered = asyncio.get_running_loop().create_future()
            self.tries += 1
            self._connection.send({"t": "claim", "id": f"grab-{self.sub}", "coupon": coupon})
            if is_cut and self.tries == 1:
                # The frame leaves first; whatever was answered to it, this viewer knows nothing of it.
                await asyncio.sleep(random.uniform(0, 0.02))
                connection, self._connection, self.outcome = self._connection, None, None
                connection.abort()
                continue
            try:
                async with asyncio.timeout(ANSWER_WITHIN_S):
                    again_s = await self._answered
            except TimeoutError:
                continue
            if self.outcome is not None:
                break
            await asyncio.sleep(again_s * random.uniform(1, 1.5))
        self.took_s = time.perf_counter() - self.asked_s
        if self.outcome == "claimed":
            # Who never hears of it is found by the checks.
            await asyncio.wait([self._settled], timeout=CONFIRMED_WITHIN_S)

    def leave(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _heard(self, connection: Connection, told: ToViewer, payload: bytes) -> None:
        if told.t != "welcome" and connection is not self._connection:
            return
        match told.t:
            case "welcome":
                # This frame can come before `connect` has returned.
                self._connection = connection
                if not self._welcomed.done():
                    self._welcomed.set_result(None)
            case "reply" if told.outcome is not None:
                if told.outcome != "too_fast":
                    self.outcome = told.outcome
                if told.claim is not None:
                    self.claims.add(told.claim)
                if not self._answered.done():
                    self._answered.set_result((told.retry_after_ms or 0) / 1000)
            case "error":
                if not self._answered.done():
                    self._answered.set_result((told.retry_after_ms or 500) / 1000)
            case "claim" if told.claim is not None and told.state is not None:
                self.claims.add(told.claim)
                self.state = told.state
                if not self._settled.done():
                    self._settled.set_result(None)

    def _closed(self, connection: Connection, code: int, reason: str) -> None:
        if not self._welcomed.done():
            self._welcomed.set_exception(ConnectionResetError(f"closed with {code} {reason}"))
            self._welcomed.exception()
        if connection is self._connection:
            self._connection = None
            if not self._answered.done():
                self._answered.set_result(0.0)


def main() -> None:
    arguments = _parser().parse_args()
    raise_file_limit(arguments.wave + 1000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(_grab(arguments))
    print(json.dumps(result, indent=2))
    sys.exit(0 if all(check["holds"] for check in result["checks"]) else 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--up", action="store_true", help="start a gateway of its own in a temporary folder")
    parser.add_argument("--workers", type=int, default=2, help="live processes of that gateway (default %(default)s)")
    parser.add_argument("--url", default="http://127.0.0.1:8080", help="a running gateway (default %(default)s)")
    parser.add_argument("--data", type=Path, help="its data folder, for tokens and the audit")
    parser.add_argument("--viewers", type=int, default=100_000, help="distinct ones (default %(default)s)")
    parser.add_argument("--wave", type=int, default=5_000, help="sockets at once at most (default %(default)s)")
    parser.add_argument("--copies", type=int, default=10_000, help="default %(default)s")
    parser.add_argument("--cut-share", type=float, default=0.01, help="sockets cut at the claim (default %(default)s)")
    parser.add_argument("--codec", choices=("json", "msgpack"), default="json", help="default %(default)s")
    return parser


async def _grab(arguments: argparse.Namespace) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        url, data = arguments.url, arguments.data
        if arguments.up:
            data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peakgate-grab-"))) / "data"
            options = ["--dev", "--workers", str(arguments.workers)]
            own = await stack.enter_async_context(local_gateway(data, port=free_port(), options=options))
            url = own.url
        peakgate = peakgate_on(data)
        ask = ("token", "--shop", SHOP)
        host_token = (await peakgate(*ask, "--sub", "host", "--role", "host")).out.strip()
        _say(f"{arguments.viewers:,} tokens")
        run = f"{time.time_ns():x}"
        minted = await peakgate(*ask, "--sub", run, "--role", "viewer", "--count", str(arguments.viewers))
        tokens = minted.out.split()
        host = await stack.enter_async_context(Host(url, host_token, insist_s=30))
        room = await host.create_room(f"Grab {run}")
        await host.start_room(room.room)
        coupon = await host.create_coupon(
            title="Grab",
            kind="amount",
            value_minor=500,
            currency="CNY",
            copies=arguments.copies,
            limit_per_viewer=1,
            valid_until=(datetime.now(UTC) + timedelta(hours=2)).isoformat(),
        )
        await host.drop(coupon.coupon, room=room.room)
        began_s = time.perf_counter()
        grabbers = await _waves(arguments, tokens, run, live_url=room.live_url, coupon=coupon.coupon)
        took_s = time.perf_counter() - began_s
        [listed] = [each for each in await host.coupons() if each.coupon == coupon.coupon]
        own_lists = await _own_lists(url, grabbers)
        audit = await peakgate("audit", "--json", expect=None)
        late_ms = sorted(round(each.took_s * 1000) for each in grabbers)
        return {
            "conditions": {
                "viewers": arguments.viewers,
                "sockets at once": arguments.wave,
                "copies": arguments.copies,
                "cut": sum(each.tries > 1 for each in grabbers),
                "took_s": round(took_s, 1),
            },
            "outcomes": dict(Counter(each.outcome for each in grabbers)),
            "answer_ms": {name: late_ms[int(len(late_ms) * share)] for name, share in (("p50", 0.5), ("p99", 0.99))},
            "checks": _checks(arguments, grabbers, listed, own_lists, audit.status == 0),
        }


async def _waves(
    arguments: argparse.Namespace, tokens: list[str], run: str, *, live_url: str, coupon: str
) -> list[Grabber]:
    codec = codec_named(arguments.codec)
    grabbers: list[Grabber] = []
    for first in range(0, len(tokens), arguments.wave):
        wave = [
            Grabber(f"{run}-{first + number + 1}", token)
            for number, token in enumerate(tokens[first : first + arguments.wave])
        ]
        await _bounded((partial(each.enter, live_url, codec) for each in wave), CONNECT_AT_ONCE)
        cut = partial(random.random)
        await asyncio.gather(*(each.grab(coupon, live_url, codec, is_cut=cut() < arguments.cut_share) for each in wave))
        for each in wave:
            each.leave()
        grabbers += wave
        counted = Counter(each.outcome for each in grabbers)
        _say(f"{len(grabbers):,} viewers: {counted['claimed']:,} claimed, {counted['gone']:,} came too late")
    return grabbers


async def _bounded(works: Iterable[Callable[[], Awaitable[Any]]], most: int) -> None:
    places = asyncio.Semaphore(most)

    async def one(work: Callable[[], Awaitable[Any]]) -> None:
        async with places:
            await work()

    await asyncio.gather(*(one(work) for work in works))


async def _own_lists(url: str, grabbers: list[Grabber]) -> list[tuple[Grabber, set[str]]]:
    """What the ledger says to some of those who have a copy, and to some who have none."""
    has = [each for each in grabbers if each.outcome == "claimed"]
    lacks = [each for each in grabbers if each.outcome != "claimed"]
    chosen = [each for some in (has, lacks) for each in random.sample(some, min(READ_MOST, len(some)))]
    read: list[tuple[Grabber, set[str]]] = []

    async def own(grabber: Grabber) -> None:
        async with ViewerHttp(url, grabber.token, insist_s=20) as viewer:
            read.append((grabber, {claim.claim for claim in await viewer.claims() if claim.state != "refused"}))

    await _bounded((partial(own, each) for each in chosen), 16)
    return read


def _checks(
    arguments: argparse.Namespace,
    grabbers: list[Grabber],
    listed: Coupon,
    own_lists: list[tuple[Grabber, set[str]]],
    audited: bool,
) -> list[dict[str, Any]]:
    expected = min(arguments.viewers, arguments.copies)
    has = [each for each in grabbers if each.outcome == "claimed"]
    claims = {claim for each in has for claim in each.claims}
    found = {
        "every viewer has a true answer": all(each.outcome in ("claimed", "gone") for each in grabbers),
        f"exactly {expected:,} were told that they have a copy": len(has) == expected,
        "each of them one, and no two the same": len(claims) == len(has) and all(len(e.claims) == 1 for e in has),
        "whoever came too late was told of none": all(not each.claims for each in grabbers if each.outcome == "gone"),
        "each of them heard that it is confirmed": all(each.state == "confirmed" for each in has),
        f"the ledger has {expected:,} claims and what is left": (listed.claimed, listed.left)
        == (expected, arguments.copies - expected),
        f"the own lists of {len(own_lists)} viewers say the same": all(own == each.claims for each, own in own_lists),
        "the audit holds": audited,
    }
    return [{"check": check, "holds": holds} for check, holds in found.items()]


def _say(what: str) -> None:
    print(f"grab: {what} ...", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
